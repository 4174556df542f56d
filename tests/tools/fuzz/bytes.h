#ifndef FUZZ_BYTES_H
#define FUZZ_BYTES_H

/* A run of bytes that grows at its end and shrinks at its start.  All zero is
   an empty one. */

#include <stddef.h>

struct bytes {
	char *at;      /* the first byte; NULL: nothing was ever added */
	size_t length; /* bytes that are in use */
	char *start;   /* owned: what was allocated */
	size_t room;   /* bytes that were */
};

void bytes_add(struct bytes *bytes, const char *more, size_t n);
void bytes_print(struct bytes *bytes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void bytes_drop(struct bytes *bytes, size_t n); /* the first n */
void bytes_free(struct bytes *bytes);           /* it is empty then */

#endif
