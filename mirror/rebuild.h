#ifndef REBUILD_H
#define REBUILD_H

/*
 * Copy to a server that has returned what it lacks, from its partners.  It is a
 * mirror again: see copy.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn_loop;
struct pairs;
struct peer;
struct rebuild;
struct rebuilds;

struct rebuild_handler {
	/* All has been copied.  The rebuild ends after this. */
	void (*done)(void *owner);
	/* All has been copied that could be found, but a survivor cannot list
	   its keys, or cannot be read with mg.  The rebuild ends after this. */
	void (*impossible)(void *owner);
};

struct rebuild_progress {
	/* Keys that were added to the returned server. */
	uint64_t copied;
	/* Keys that the returned server did not take: a live write was there
	   first, or there was no room. */
	uint64_t overtaken;
	/* Keys that were not copied: the authority had them no longer, or there
	   was no other server to read them from. */
	uint64_t gone;
	/* Keys that were not copied: the authority said SERVER_ERROR, or their
	   values are larger than -I, or servers fail of them. */
	uint64_t refused;
	/* Keys that wait or are being copied. */
	uint64_t left;
	/* More keys may be found. */
	bool searching;
	/* Keys that were dealt with, per second since the start. */
	uint64_t per_second;
};

/*
 * What the rebuilds of these pairs, which are borrowed, have in common: their
 * pace, and the lists of keys that they read together.  memory: how many bytes
 * of keys may wait in all of them when they come from a list.  Returns NULL
 * when out of memory.
 */
struct rebuilds *rebuilds_new(struct conn_loop *loop, struct pairs *pairs,
    size_t memory);

/* All rebuilds were stopped.  NULL is fine. */
void rebuilds_free(struct rebuilds *rebuilds);

/*
 * A rebuild of the peer to, which collects keys until it is started.  The
 * arguments are borrowed.  Returns NULL when out of memory.
 *
 * One of the handlers is called once, from the loop, unless rebuild_stop()
 * comes first.  It does not call rebuild_stop().
 */
struct rebuild *rebuild_new(struct rebuilds *rebuilds, struct peer *to,
    const struct rebuild_handler *handler, void *owner);

/* Have a key of 1 to 250 bytes copied, which is as on a command line, in base64
   if base64 is set.  Returns false when out of memory. */
bool rebuild_add(struct rebuild *rebuild, const char *key, size_t length,
    bool base64);

/*
 * Begin to copy; the peer is in the state REBUILD.  The keys that are missing
 * on it are copied, too, and all keys of a partner that it is behind in any
 * key.  What cannot be read, because a partner is away, is noted: see behind.h.
 */
void rebuild_start(struct rebuild *rebuild);

/*
 * End a rebuild that has not called a handler; it is freed in here or when its
 * copies are answered.  Keys that are being copied become dirty.  So do keys
 * that wait, but for those that the next rebuild will list anyway.
 */
void rebuild_stop(struct rebuild *rebuild);

/* How far the rebuild is. */
struct rebuild_progress rebuild_progress(const struct rebuild *rebuild);

#endif
