#ifndef JUDGE_H
#define JUDGE_H

/*
 * Decide what a returned server still holds, from what it says of itself.
 */

#include <stdbool.h>
#include <stdint.h>

struct identity;
struct peer;

/* A part of its owner.  All times are milliseconds of the monotonic clock. */
struct judge {
	struct peer *peer; /* borrowed */
	/* When the first server began to be connected to. */
	int64_t started_ms;
	/* When its last connection that was identified ended. */
	int64_t lost_ms;
	/* When it first had to wait as a stranger; 0: it does not. */
	int64_t stranger_ms;
};

/*
 * Decide what the server holds, and which of that may be old: note which of its
 * partners it is behind, and which keys are dirty.  found is known, and is not
 * its identity yet.  Nothing is thrown away on a doubt.  Returns false if that
 * has to wait until a partner is up.
 */
bool judge_contents(struct judge *judge, const struct identity *found,
    int64_t now_ms);

#endif
