/*
 * What a replaced program leaves to the next one.
 *
 * Invariant: what carry_next() returns lies within the file, whatever that
 * holds.
 */

#include "carry.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

struct carry {
	int fd;
	FILE *file;       /* to write; NULL: it is read */
	int *descriptors; /* owned: those of carry_descriptor() */
	size_t descriptor_count, room;
	bool has_failed;  /* there was no memory for one of them */
	const char *text; /* to read, mapped */
	size_t size, at;
};

/*
 * Writing
 */

struct carry *
carry_new(void)
{
	struct carry *carry = calloc(1, sizeof(*carry));
	uint64_t format = CARRY_FORMAT;

	if (carry == NULL)
		return NULL;
	carry->fd = memfd_create("magent", MFD_CLOEXEC);
	carry->file = carry->fd == -1 ? NULL : fdopen(carry->fd, "w");
	if (carry->file == NULL) {
		if (carry->fd != -1)
			close(carry->fd);
		free(carry);
		return NULL;
	}
	carry_numbers(carry, "magent", &format, 1);
	return carry;
}

void
carry_add(struct carry *carry, const char *name, const uint64_t *numbers,
    size_t count, const char *bytes, size_t length)
{
	size_t i;

	assert(count <= CARRY_NUMBERS && carry->file != NULL);
	assert(strlen(name) < sizeof(((struct carry_line *)NULL)->name));
	fputs(name, carry->file);
	for (i = 0; i < count; i++)
		fprintf(carry->file, " %" PRIu64, numbers[i]);
	if (bytes != NULL) {
		fprintf(carry->file, " +%zu\n", length);
		fwrite(bytes, 1, length, carry->file);
	}
	fputc('\n', carry->file);
}

void
carry_numbers(struct carry *carry, const char *name, const uint64_t *numbers,
    size_t count)
{
	carry_add(carry, name, numbers, count, NULL, 0);
}

uint64_t
carry_descriptor(struct carry *carry, int fd)
{
	size_t room = 2 * carry->room + 64;
	int *longer;

	assert(fd != -1);
	if (carry->descriptor_count == carry->room) {
		longer = realloc(carry->descriptors, room * sizeof(*longer));
		if (longer == NULL) {
			carry->has_failed = true;
			return (uint64_t)fd;
		}
		carry->descriptors = longer;
		carry->room = room;
	}
	carry->descriptors[carry->descriptor_count++] = fd;
	return (uint64_t)fd;
}

void
carry_keep_open(const struct carry *carry, bool keep)
{
	size_t i;

	for (i = 0; i < carry->descriptor_count; i++)
		fcntl(carry->descriptors[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
	fcntl(carry->fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
}

bool
carry_export(const struct carry *carry, const char *variable)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", carry->fd);
	return setenv(variable, number, 1) == 0;
}

bool
carry_end(struct carry *carry)
{
	assert(carry->file != NULL);
	carry_numbers(carry, "end", NULL, 0);
	if (fflush(carry->file) != EOF && !ferror(carry->file) &&
	    !carry->has_failed)
		return true;
	errno = ENOMEM;
	return false;
}

/*
 * Reading
 */

/* Map the file, and see whether it has a beginning and an end.  Returns what is
   wrong, or NULL. */
static const char *
map_file(struct carry *carry)
{
	struct stat status;
	struct carry_line line;
	const char *text;

	if (fstat(carry->fd, &status) == -1 || status.st_size <= 0)
		return "cannot be read";
	carry->size = (size_t)status.st_size;
	text = mmap(NULL, carry->size, PROT_READ, MAP_PRIVATE, carry->fd, 0);
	if (text == MAP_FAILED)
		return "cannot be mapped";
	carry->text = text;
	if (!carry_next(carry, &line) || !carry_is(&line, "magent"))
		return "is of no magent";
	if (line.numbers[0] != CARRY_FORMAT)
		return "has another format";
	while (carry_next(carry, &line))
		if (carry_is(&line, "end"))
			return NULL;
	return "is cut short";
}

struct carry *
carry_open(int fd)
{
	struct carry *carry = calloc(1, sizeof(*carry));
	const char *wrong = "cannot be read: out of memory";

	if (carry != NULL) {
		carry->fd = fd;
		wrong = map_file(carry);
	}
	if (wrong == NULL) {
		carry_rewind(carry);
		return carry;
	}
	log_error("what the program before has left %s", wrong);
	carry_free(carry);
	return NULL;
}

void
carry_rewind(struct carry *carry)
{
	carry->at = 0;
}

/* Take the word at the start of what is left of a line. */
static size_t
word_length(const char *text, const char *end)
{
	const char *at = text;

	while (at < end && *at != ' ')
		at++;
	return (size_t)(at - text);
}

/* The number of a word; what is no number is 0. */
static uint64_t
plain_number(const char *text, size_t n)
{
	uint64_t number = 0;
	size_t i;

	for (i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
		number = number * 10 + (uint64_t)(text[i] - '0');
	return number;
}

/* Take the words of a line apart.  Returns how many bytes follow it. */
static size_t
parse_words(struct carry_line *line, const char *text, const char *end)
{
	size_t n = word_length(text, end), length = 0, count = 0;

	memset(line, 0, sizeof(*line));
	memcpy(line->name, text,
	    n < sizeof(line->name) ? n : sizeof(line->name) - 1);
	while ((text += n) < end) {
		text++;
		n = word_length(text, end);
		if (n > 0 && *text == '+') {
			length = (size_t)plain_number(text + 1, n - 1);
			line->bytes = end + 1;
		} else if (count < CARRY_NUMBERS) {
			line->numbers[count++] = plain_number(text, n);
		}
	}
	return length;
}

bool
carry_next(struct carry *carry, struct carry_line *line)
{
	const char *text = carry->text + carry->at, *end;
	size_t left = carry->size - carry->at;

	end = left == 0 ? NULL : memchr(text, '\n', left);
	if (end == NULL)
		return false;
	carry->at += (size_t)(end - text) + 1;
	left = carry->size - carry->at;
	line->length = parse_words(line, text, end);
	if (line->bytes == NULL)
		return true;
	if (line->length >= left || line->bytes[line->length] != '\n')
		return false;
	carry->at += line->length + 1;
	return true;
}

bool
carry_is(const struct carry_line *line, const char *name)
{
	return strcmp(line->name, name) == 0;
}

void
carry_free(struct carry *carry)
{
	if (carry == NULL)
		return;
	if (carry->text != NULL)
		munmap((void *)(uintptr_t)carry->text, carry->size);
	if (carry->file != NULL)
		fclose(carry->file);
	else if (carry->fd != -1)
		close(carry->fd);
	free(carry->descriptors);
	free(carry);
}
