#ifndef MD5_H
#define MD5_H

/* The MD5 digest of RFC 1321, of data that is all there.  For rings of
   servers, which never change how they hash; not for anything secret. */

#include <stddef.h>
#include <stdint.h>

void md5(const void *data, size_t n, unsigned char digest[16]);

/* The first four bytes of the digest as a little-endian number.  Cheaper than
   md5(), most of all up to 31 bytes and next up to 55. */
uint32_t md5_word(const void *data, size_t n);

/* md5_word() of count strings, the i-th of n[i] bytes at data[i].  Cheaper, up
   to 55 bytes, than one by one. */
void md5_words(const char *const *data, const size_t *n, size_t count,
    uint32_t *words);

#endif
