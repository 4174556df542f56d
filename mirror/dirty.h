#ifndef DIRTY_H
#define DIRTY_H

/*
 * Keys whose copy on a server that is away may be old.  Bounded: when there
 * are too many, the set stands for every key there is.
 */

#include <stdbool.h>
#include <stddef.h>

struct dirty;

struct dirty *dirty_new(void);        /* NULL when out of memory */
void dirty_free(struct dirty *dirty); /* NULL is fine */

/* Add a key, as it is on a command line: base64 if base64 is set. */
void dirty_add(struct dirty *dirty, const char *key, size_t length,
    bool base64);

/* Take some key out: to key, which has room for 250 bytes.  Returns false if
   there is none. */
bool dirty_pop(struct dirty *dirty, char *key, size_t *length, bool *base64);

/* From now on the set stands for every key. */
void dirty_add_all(struct dirty *dirty);

/* Forget everything. */
void dirty_clear(struct dirty *dirty);

bool dirty_is_all(const struct dirty *dirty);
size_t dirty_count(const struct dirty *dirty); /* 0 if it is all keys */

#endif
