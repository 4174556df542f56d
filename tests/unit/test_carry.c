/*
 * What is written is read, and what was not written so is refused.
 */

#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "carry.h"
#include "log.h"
#include "unit.h"

static char said[200];

void
log_error(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(said, sizeof(said), format, list);
	va_end(list);
}

/* Open a file with this text. */
static struct carry *
opened(const char *text, size_t n)
{
	int fd = memfd_create("carry", MFD_CLOEXEC);

	unit_need(fd != -1 && write(fd, text, n) == (ssize_t)n, "memfd");
	said[0] = '\0';
	return carry_open(fd);
}

static void
test_lines_are_read_as_they_were_written(void)
{
	static const char bytes[] = "a\nb \0+5\n";
	uint64_t numbers[] = { 0, 7, UINT64_MAX };
	struct carry *carry = carry_new(), *read;
	struct carry_line line;
	int fd;

	unit_need(carry != NULL, "carry_new");
	carry_numbers(carry, "three", numbers, 3);
	carry_add(carry, "bytes", numbers + 1, 1, bytes, sizeof(bytes));
	carry_add(carry, "none", NULL, 0, "", 0);
	fd = dup((int)carry_descriptor(carry, STDIN_FILENO));
	check(carry_end(carry));
	check(carry_export(carry, "CARRY_TEST"));
	read = carry_open(dup(atoi(getenv("CARRY_TEST"))));
	unit_need(read != NULL, "carry_open");
	check(carry_next(read, &line) && carry_is(&line, "magent"));
	check(carry_next(read, &line) && carry_is(&line, "three"));
	check(line.numbers[0] == 0 && line.numbers[1] == 7);
	check(line.numbers[2] == UINT64_MAX && line.numbers[3] == 0);
	check(line.bytes == NULL);
	check(carry_next(read, &line) && carry_is(&line, "bytes"));
	check(line.numbers[0] == 7 && line.length == sizeof(bytes));
	check(memcmp(line.bytes, bytes, sizeof(bytes)) == 0);
	check(carry_next(read, &line) && carry_is(&line, "none"));
	check(line.bytes != NULL && line.length == 0);
	check(carry_next(read, &line) && carry_is(&line, "end"));
	check(!carry_next(read, &line));
	carry_rewind(read);
	check(carry_next(read, &line) && carry_is(&line, "magent"));
	carry_free(read);
	carry_free(carry);
	close(fd);
}

static void
test_lines_of_a_later_program_are_read_as_far_as_they_are_known(void)
{
	static const char text[] =
	    "magent 1 2 3\nnew-and-much-too-long-for-a-name 1 +2\nab\n"
	    "x 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9 1 2 3 4 5 "
	    "6 7 8 9 1 2 3 4 5 6 7 8 9\nend\n";
	struct carry *carry = opened(text, sizeof(text) - 1);
	struct carry_line line;

	unit_need(carry != NULL, said);
	check(carry_next(carry, &line) && carry_next(carry, &line));
	check(line.length == 2 && line.numbers[0] == 1);
	check(carry_next(carry, &line) && carry_is(&line, "x"));
	check(line.numbers[CARRY_NUMBERS - 1] != 0);
	check(carry_next(carry, &line) && carry_is(&line, "end"));
	carry_free(carry);
}

static void
test_what_is_no_whole_file_is_refused(void)
{
	static const char *const texts[] = {
		"",
		"\n",
		"end\n",
		"magent\nend\n",
		"magent 2\nend\n",
		"magent 1\n",
		"magent 1\nend",
		"magent 1\nx +3\nab\nend\n",
		"magent 1\nx +1\nab\nend\n",
		"magent 1\nx +99999\nab\nend\n",
		"magent 1\nx +18446744073709551615\nab\nend\n",
		"magent 1\nx +4\nend\n",
		"magent 1\n\n\nx",
	};
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		check(opened(texts[i], strlen(texts[i])) == NULL);
		check(said[0] != '\0');
	}
}

int
main(void)
{
	RUN(test_lines_are_read_as_they_were_written);
	RUN(test_lines_of_a_later_program_are_read_as_far_as_they_are_known);
	RUN(test_what_is_no_whole_file_is_refused);
	return unit_end();
}
