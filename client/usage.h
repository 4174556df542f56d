#ifndef USAGE_H
#define USAGE_H

/*
 * Ask the servers what memory they use, while somebody wants to know.
 */

#include <stdbool.h>
#include <stdint.h>

struct pairs;
struct peer;
struct usage;

/* What a server has said last. */
struct usage_of_server {
	uint64_t bytes, limit; /* of items; and of -m */
	uint64_t items, evictions;
	/* Evictions between its last two answers, per second. */
	double evicts;
};

/* pairs is borrowed.  Returns NULL when out of memory. */
struct usage *usage_new(struct pairs *pairs);

/* The servers have been freed.  NULL is fine. */
void usage_free(struct usage *usage);

/* Somebody wants to know, at now_ms of the monotonic clock: the servers are
   asked from now on, for 10 s. */
void usage_want(struct usage *usage, int64_t now_ms);

/* Ask all servers that are up, if it is wanted and time for it.  To be called
   several times a second, from the loop. */
void usage_tick(struct usage *usage, int64_t now_ms);

/* What the server has said, since it is up; NULL: nothing. */
const struct usage_of_server *usage_of(const struct usage *usage,
    const struct peer *peer);

#endif
