#ifndef MD5_H
#define MD5_H

/*
 * Compute the MD5 digest of RFC 1321.  It is here because rings of servers are
 * made with it.  It protects nothing that is secret.
 */

#include <stddef.h>
#include <stdint.h>

/* The digest of n bytes. */
void md5(const void *data, size_t n, unsigned char digest[16]);

/* The first four bytes of the digest as a little-endian number.  It costs less
   than md5() if n is 55 or less, and least if n is 31 or less. */
uint32_t md5_word(const void *data, size_t n);

/* Put md5_word() of count strings into words[]; data[i] has n[i] bytes.  It
   costs less than count calls, if no string has more than 55 bytes. */
void md5_words(const char *const *data, const size_t *n, size_t count,
    uint32_t *words);

#endif
