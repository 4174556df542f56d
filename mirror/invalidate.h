#ifndef INVALIDATE_H
#define INVALIDATE_H

/*
 * Remove from a server that is back what may be old in it: its dirty keys, or
 * everything if there are too many to know them.
 */

#include <stdbool.h>
#include <stddef.h>

struct invalidation;
struct peer;

struct invalidation_handler {
	/* A key is being deleted.  Returns false if that cannot be noted: then
	   everything is removed. */
	bool (*key)(void *owner, const char *key, size_t length, bool base64);
	/* Nothing old is left in it, or a delete for it is on its way ahead of
	   all that is submitted from now on.  everything: it is empty. */
	void (*done)(void *owner, bool everything);
};

/* Returns NULL when out of memory. */
struct invalidation *invalidation_new(struct peer *peer,
    const struct invalidation_handler *handler, void *owner);
void invalidation_free(struct invalidation *invalidation); /* NULL is fine */

/*
 * Begin.  If the server fails, it stops without a word; what was not removed is
 * dirty again then.
 */
void invalidation_start(struct invalidation *invalidation);

/* No news from it any more. */
void invalidation_stop(struct invalidation *invalidation);

#endif
