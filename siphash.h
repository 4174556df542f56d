#ifndef SIPHASH_H
#define SIPHASH_H

/*
 * Compute SipHash-2-4, a hash with a key: nobody who does not know the key can
 * choose inputs of the same hash.  (J.-P. Aumasson, D. J. Bernstein, "SipHash:
 * a fast short-input PRF", 2012.)
 */

#include <stddef.h>
#include <stdint.h>

enum {
	SIPHASH_KEY = 16, /* bytes of a key */
};

/* The hash of n bytes.  It is the same on each machine. */
uint64_t siphash(const unsigned char key[SIPHASH_KEY], const void *data,
    size_t n);

#endif
