#ifndef DIGITS_H
#define DIGITS_H

/* Numbers as text, where there are too many of them for printf(). */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	DIGITS_MAX = 20, /* of a number of 64 bits */
};

static_assert(DIGITS_MAX == sizeof("18446744073709551615") - 1,
    "the largest number has room");

/* Write the number, without an end.  Returns how many digits it has. */
static inline size_t
digits_write(char *to, uint64_t number)
{
	char digits[DIGITS_MAX];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	memcpy(to, digits + n, sizeof(digits) - n);
	return sizeof(digits) - n;
}

#endif
