#ifndef LISTING_H
#define LISTING_H

/*
 * The keys of survivors, for all rebuilds together.  A survivor lists its keys
 * for one reader at a time, and a list holds the keys of all returned servers.
 * So each list of a survivor is read once, for everybody who waits for it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "mirror/dump.h"

struct conn_loop;
struct listing;
struct listings;
struct pairs;
struct peer;

/* A returned server that wants the keys which it shares with one survivor.  At
   first all of it is zero but for what the owner sets. */
struct listing_reader {
	/* Set by the owner; borrowed.  It is a mirror while it reads. */
	struct peer *to;
	/* A key that is to be on that server, decoded: length is 1 to 250.  It
	   may come more than once.  Returns false if there is no memory for it.
	   Set by the owner. */
	bool (*key)(struct listing_reader *reader, const char *key,
	    size_t length);
	/* All keys have come (DUMP_WHOLE), or no more of them come.  The reader
	   has left, and may join another survivor in here, but may not be
	   freed.  Set by the owner. */
	void (*ended)(struct listing_reader *reader, enum dump_end end);

	/* Of listing.c: */

	TAILQ_ENTRY(listing_reader) entry;
	struct listing *listing; /* NULL: it does not read */
	/* The list that runs has begun since it joined. */
	bool is_reading;
	/* How many hashes were covered by lists that it has read. */
	uint64_t covered;
};

/*
 * The lists of the peers of pairs, which is borrowed.  *held is how many bytes
 * of keys all readers hold, which they keep right; it is borrowed.  memory is
 * how many these may be.  Returns NULL when out of memory.
 */
struct listings *listings_new(struct conn_loop *loop, struct pairs *pairs,
    const size_t *held, size_t memory);

/* Nobody reads any more.  NULL is fine. */
void listings_free(struct listings *listings);

/* Read all keys that from, a mirror that answers for them, shares with
   reader->to.  A peer reads from one survivor at a time.  No function of the
   reader is called from inside this one. */
void listing_join(struct listings *listings, const struct peer *from,
    struct listing_reader *reader);

/* Read no more.  Nothing happens if it does not read.  Not to be called from
   inside key(). */
void listing_leave(struct listing_reader *reader);

#endif
