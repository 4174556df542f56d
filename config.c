/*
 * Read a file of options.
 *
 *	# a comment
 *	server 10.0.0.1:11211      the same as --server=10.0.0.1:11211
 *	backup = 10.0.0.2:11211    so is this, with another name
 *	--foreground               and this, which has no value
 *
 * A value goes on to the end of its line, but for blanks, or to a # that has a
 * blank before it.
 */

#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static const char blanks[] = " \t\r\n\v\f";

static bool
is_space(char c)
{
	return c != '\0' && strchr(blanks, c) != NULL;
}

/* End text where its comment begins, and before the blanks there. */
static void
cut_end(char *text)
{
	size_t i, end;

	for (i = end = 0; text[i] != '\0'; i++) {
		if (text[i] == '#' && (i == 0 || is_space(text[i - 1])))
			break;
		if (!is_space(text[i]))
			end = i + 1;
	}
	text[end] = '\0';
}

/* Take text to pieces, and put them into *line.  Returns false if there is
   nothing in it. */
static bool
split_line(char *text, struct config_line *line)
{
	size_t n;

	cut_end(text);
	text += strspn(text, blanks);
	if (strncmp(text, "--", 2) == 0)
		text += 2;
	if (text[0] == '\0')
		return false;
	line->name = text;
	line->value = NULL;
	text += strcspn(text, " \t\r\n\v\f=");
	if (text[0] == '\0')
		return true;
	n = strspn(text, blanks);
	if (text[n] == '=')
		n += 1 + strspn(text + n + 1, blanks);
	line->value = text + n;
	text[0] = '\0';
	return true;
}

/* Returns false if the caller is to stop. */
static bool
take_text(char *text, size_t length, struct config_line *line,
    bool (*take)(void *owner, const struct config_line *line), void *owner)
{
	line->number++;
	if (strlen(text) < length) {
		fprintf(stderr, "magent: %s:%u: has a NUL byte\n", line->path,
		    line->number);
		return false;
	}
	return !split_line(text, line) || take(owner, line);
}

bool
config_read(const char *path,
    bool (*take)(void *owner, const struct config_line *line), void *owner,
    bool *could_read)
{
	char shown[256];
	struct config_line line = { .path = shown };
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t room = 0;
	ssize_t length;
	bool good = true;

	assert(take != NULL);
	errno = file == NULL ? errno : 0;
	log_escape(path, strlen(path), shown, sizeof(shown));
	while (file != NULL && good &&
	    (length = getline(&text, &room, file)) != -1)
		good = take_text(text, (size_t)length, &line, take, owner);
	*could_read = file != NULL && (!good || !ferror(file));
	if (!*could_read)
		fprintf(stderr, "magent: -c %s: %s\n", shown, strerror(errno));
	free(text);
	if (file != NULL)
		fclose(file);
	return good && *could_read;
}
