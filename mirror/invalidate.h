#ifndef INVALIDATE_H
#define INVALIDATE_H

/*
 * Remove from a server that is back what may be old in it: its dirty keys, or
 * all that it has, if all keys are dirty.  If it refuses flush_all then, its
 * keys are listed and deleted.
 */

#include <stdbool.h>
#include <stddef.h>

struct conn_loop;
struct invalidation;
struct peer;

struct invalidation_handler {
	/* A key, as it is on a command line, is being deleted.  Returns false
	   if the owner cannot note that; then all keys become dirty. */
	bool (*key)(void *owner, const char *key, size_t length, bool base64);
	/* Nothing in the server is old, or a delete for it is on its way ahead
	   of all calls that are submitted from now on.  is_emptied: it holds
	   nothing at all. */
	void (*done)(void *owner, bool is_emptied);
};

/* The pointers are borrowed.  Returns NULL when out of memory. */
struct invalidation *invalidation_new(struct conn_loop *loop, struct peer *peer,
    const struct invalidation_handler *handler, void *owner);

/* Read no list of the peer any more, which is about to be freed.  And free the
   invalidation, behind that, when the calls of the peer are gone.  NULL is
   fine. */
void invalidation_drop_list(struct invalidation *invalidation);
void invalidation_free(struct invalidation *invalidation);

/*
 * Begin.  The peer is in the state INVALIDATE and stays in it until done(),
 * which is called once, from the loop or inside this function.  If the server
 * fails first, no handler is called, and the keys that were not deleted are
 * dirty again.  A server that refuses a delete, or refuses flush_all and does
 * not list its keys, is failed.
 */
void invalidation_start(struct invalidation *invalidation);

/* The server has failed, or magent stops: call no handler any more.  What is in
   flight stays so. */
void invalidation_stop(struct invalidation *invalidation);

#endif
