#ifndef KEYS_H
#define KEYS_H

/* A long queue of keys in little memory. */

#include <stdbool.h>
#include <stddef.h>

struct keys;

/*
 * An empty queue.  *held is how many bytes of memory the keys of several queues
 * take; it is borrowed, and this queue keeps its part of it right.  Returns
 * NULL when out of memory.
 */
struct keys *keys_new(size_t *held);
void keys_free(struct keys *keys); /* NULL is fine */

/* Append a copy of a key of 1 to 250 bytes, and whether it is base64.  Returns
   false when out of memory; then the queue is as before. */
bool keys_add(struct keys *keys, const char *key, size_t length, bool base64);

/* Take the oldest key out and copy it to key, which has room for 250 bytes.
   Returns false, and sets nothing, if the queue is empty. */
bool keys_pop(struct keys *keys, char *key, size_t *length, bool *base64);

/* How many keys are in the queue. */
size_t keys_count(const struct keys *keys);

#endif
