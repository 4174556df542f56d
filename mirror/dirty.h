#ifndef DIRTY_H
#define DIRTY_H

/*
 * Keys whose copy on one server may be old.  Their number is limited: when
 * there are too many, or when memory runs out, all keys are dirty.
 */

#include <stdbool.h>
#include <stddef.h>

struct dirty;

/* An empty set.  Returns NULL when out of memory. */
struct dirty *dirty_new(void);
void dirty_free(struct dirty *dirty); /* NULL is fine */

/* Add a copy of a key of 1 to 250 bytes, as it is on a command line, and
   whether it is base64.  This cannot fail: all keys may become dirty.  Returns
   whether the key is in the set now, and was not before. */
bool dirty_add(struct dirty *dirty, const char *key, size_t length,
    bool base64);

/* Whether the key, which is as for dirty_add(), is dirty. */
bool dirty_has(const struct dirty *dirty, const char *key, size_t length,
    bool base64);

/* The copy of a key is not old after all; it is as for dirty_add().  Returns
   false, and changes nothing, if it is not in the set, or if all keys are
   dirty. */
bool dirty_remove(struct dirty *dirty, const char *key, size_t length,
    bool base64);

/*
 * Take some key out and copy it to key, which has room for 250 bytes.  Returns
 * false, and sets nothing, if no single key is in the set: none is dirty, or
 * all are.
 */
bool dirty_pop(struct dirty *dirty, char *key, size_t *length, bool *base64);

/* Call each() with each single key; the set does not change meanwhile. */
void dirty_each(const struct dirty *dirty,
    void (*each)(void *owner, const char *key, size_t length, bool base64),
    void *owner);

/* From now on all keys are dirty. */
void dirty_add_all(struct dirty *dirty);

/* From now on no key is dirty. */
void dirty_clear(struct dirty *dirty);

/* Whether all keys are dirty. */
bool dirty_is_all(const struct dirty *dirty);

/* How many single keys are in the set; 0 if all keys are dirty. */
size_t dirty_count(const struct dirty *dirty);

#endif
