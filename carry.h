#ifndef CARRY_H
#define CARRY_H

/*
 * What a program that is replaced in place carries over to the next one: a file
 * without a name, of lines that can be read.
 *
 *	NAME NUMBER NUMBER ...
 *	NAME NUMBER NUMBER ... +LENGTH
 *	LENGTH bytes of any value
 *
 * The first line is "magent 1": the number is that of the format, which changes
 * when an older program would misread a newer file.  A line of a name that
 * nobody knows is left out, as are numbers behind those that are known; numbers
 * that are missing are 0.  So lines and numbers may be added.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct carry;

enum {
	CARRY_FORMAT = 1,
	/* Numbers of a line, at most. */
	CARRY_NUMBERS = 40,
};

/* A line that was read.  What it points to is valid as long as the carry. */
struct carry_line {
	char name[16];
	uint64_t numbers[CARRY_NUMBERS];
	const char *bytes; /* NULL: it has none */
	size_t length;
};

/* Make an empty file to write to.  Returns NULL, and errno, if that fails. */
struct carry *carry_new(void);

/* Add a line: count numbers, and length bytes, unless bytes is NULL.  What
   cannot be written is noticed by carry_end(). */
void carry_add(struct carry *carry, const char *name, const uint64_t *numbers,
    size_t count, const char *bytes, size_t length);

/* The same without bytes. */
void carry_numbers(struct carry *carry, const char *name,
    const uint64_t *numbers, size_t count);

/* A line is going to name this descriptor, which is therefore to be open in the
   next program: see carry_keep_open().  Returns its number. */
uint64_t carry_descriptor(struct carry *carry, int fd);

/* Have these descriptors, and that of the file, stay open when this process
   executes a program; or not any more. */
void carry_keep_open(const struct carry *carry, bool keep);

/* Put the number of the descriptor of the file, which is ended, into the
   environment.  Returns false, and errno, when out of memory. */
bool carry_export(const struct carry *carry, const char *variable);

/* All is written.  Returns false, and errno, if something could not be. */
bool carry_end(struct carry *carry);

/*
 * Read the file of this descriptor, which is owned from now on.  Returns NULL
 * after one line in the log if it cannot be read.
 */
struct carry *carry_open(int fd);

/* Read the next line.  Returns false at the end. */
bool carry_next(struct carry *carry, struct carry_line *line);

/* Begin again with the first line. */
void carry_rewind(struct carry *carry);

/* Whether the line has this name. */
bool carry_is(const struct carry_line *line, const char *name);

void carry_free(struct carry *carry); /* NULL is fine */

#endif
