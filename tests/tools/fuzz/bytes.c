/* A run of bytes that grows at its end and shrinks at its start. */

#include "bytes.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Make room for n more bytes.  What was dropped is used first. */
static void
bytes_grow(struct bytes *bytes, size_t n)
{
	size_t dropped = (size_t)(bytes->at - bytes->start);

	if (dropped + bytes->length + n <= bytes->room)
		return;
	if (dropped > 0)
		memmove(bytes->start, bytes->at, bytes->length);
	if (bytes->length + n > bytes->room) {
		bytes->room = (bytes->length + n) * 2;
		bytes->start = realloc(bytes->start, bytes->room);
		if (bytes->start == NULL)
			abort();
	}
	bytes->at = bytes->start;
}

void
bytes_add(struct bytes *bytes, const char *more, size_t n)
{
	if (n == 0)
		return;
	bytes_grow(bytes, n);
	memcpy(bytes->at + bytes->length, more, n);
	bytes->length += n;
}

void
bytes_print(struct bytes *bytes, const char *format, ...)
{
	char line[1024];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	assert(n >= 0 && (size_t)n < sizeof(line));
	bytes_add(bytes, line, (size_t)n);
}

void
bytes_drop(struct bytes *bytes, size_t n)
{
	assert(n <= bytes->length);
	bytes->length -= n;
	if (n > 0)
		bytes->at += n;
	if (bytes->length == 0)
		bytes->at = bytes->start;
}

void
bytes_free(struct bytes *bytes)
{
	free(bytes->start);
	*bytes = (struct bytes){ .at = NULL };
}
