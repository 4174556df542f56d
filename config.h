#ifndef CONFIG_H
#define CONFIG_H

/* A file of options, one a line, by their long names. */

#include <stdbool.h>

struct config_line {
	const char *path;    /* of the file, as it may be shown */
	unsigned int number; /* 1 and up */
	const char *name;    /* of the option, without -- */
	const char *value;   /* NULL: there is none */
};

/*
 * Call take() with owner for each line of the file at path, in order, until it
 * returns false.  What a line points to is valid in take() only.  Returns false
 * if take() has; or if the file cannot be read, after one line on stderr, and
 * then *could_read is false.
 */
bool config_read(const char *path,
    bool (*take)(void *owner, const struct config_line *line), void *owner,
    bool *could_read);

#endif
