#ifndef KEYS_H
#define KEYS_H

/* A long queue of keys in little memory. */

#include <stdbool.h>
#include <stddef.h>

struct keys;

struct keys *keys_new(void);       /* NULL when out of memory */
void keys_free(struct keys *keys); /* NULL is fine */

/* Append a key of 1 to 250 bytes.  Returns false when out of memory. */
bool keys_add(struct keys *keys, const char *key, size_t length, bool base64);

/* Take the oldest: to key, which has room for 250 bytes.  Returns false if
   there is none. */
bool keys_pop(struct keys *keys, char *key, size_t *length, bool *base64);

size_t keys_count(const struct keys *keys);
size_t keys_bytes(const struct keys *keys); /* of memory */

#endif
