#ifndef REBUILD_H
#define REBUILD_H

/*
 * Copy to a server that has returned what it lacks from those who kept it.
 *
 * A copy reads its key through the FIFO of the authority and adds it through
 * that of the returned server, which is a mirror again, so that effects flow
 * there, too.  The add comes behind the effects of all writes that the read
 * has seen, and ahead of those that it has not, so no race goes wrong.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn_loop;
struct pairs;
struct peer;
struct rebuild;

struct rebuild_handler {
	/* Everything has been copied.  The rebuild ends after this. */
	void (*done)(void *owner);
	/* A survivor is too old to be read.  The rebuild ends after this. */
	void (*impossible)(void *owner);
};

struct rebuild_progress {
	uint64_t copied;    /* keys that are there now */
	uint64_t overtaken; /* a live write was there first */
	uint64_t gone;      /* the survivor had them no more */
	uint64_t refused;   /* the survivor, or -I, does not let them be read */
	uint64_t left;      /* keys that wait; more may be found ... */
	bool searching;     /* ... while this is set */
	bool partial;       /* a partner could not be asked */
	uint64_t per_second; /* keys dealt with */
};

/*
 * memory: how many bytes of keys may wait.  Returns NULL when out of memory.
 * The handlers are not called from inside rebuild_new() and rebuild_add().
 */
struct rebuild *rebuild_new(struct conn_loop *loop, struct pairs *pairs,
    struct peer *to, size_t memory, const struct rebuild_handler *handler,
    void *owner);

/* Have this key copied; on a command line it is base64 if base64 is set.
   Returns false when out of memory. */
bool rebuild_add(struct rebuild *rebuild, const char *key, size_t length,
    bool base64);

/* Begin; all: find and copy every key that the server should hold.  It has to
   take effects already. */
void rebuild_start(struct rebuild *rebuild, bool all);

/* The server is gone again, or it is all over: what was not copied becomes
   dirty.  No handler is called any more. */
void rebuild_stop(struct rebuild *rebuild);

struct rebuild_progress rebuild_progress(const struct rebuild *rebuild);

#endif
