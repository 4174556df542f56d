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
	/* When it first had to wait as a stranger; 0: it does not. */
	int64_t stranger_ms;
	/* Set by the owner: another magent serves clients from the peer. */
	bool is_other_at_work;
	/* Writes were forgotten whose answers had not come, because of that. */
	bool has_forgotten;
};

/*
 * Decide what the server holds, and which of that may be old: note which of its
 * partners it is behind, and which keys are dirty.  found is known, and is not
 * its identity yet.  Nothing is thrown away on a doubt.  Returns false if that
 * has to wait until a partner is up.
 */
bool judge_contents(struct judge *judge, const struct identity *found,
    int64_t now_ms);

/* Whether the stamps of the peer, which were read once more, would have it
   judged in another way. */
bool judge_is_outdated(const struct peer *peer);

/* The same of a server that has just been heard of for the first time, in the
   state STARTING.  Its partners that have been heard of may fail in here.
   Returns false if it is behind one of them, which is trusted: then its owner
   fails it. */
bool judge_start(struct peer *peer, const struct identity *found);

/* Fail a server because its stamp is lower than that of a partner. */
void judge_fail(struct peer *peer, const struct peer *partner);

#endif
