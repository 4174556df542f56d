#ifndef OPERATOR_H
#define OPERATOR_H

/*
 * Take a server out of use because its operator wants that, and let it in
 * again.
 */

#include <stdbool.h>

struct peer;

enum operator_word {
	/* Out at once, as if it had failed; it is held until OPERATOR_UP. */
	OPERATOR_DOWN,
	/* Connect to it, if it is down: it returns as any other one. */
	OPERATOR_UP,
	/* Out as soon as it owes nobody an answer, and held. */
	OPERATOR_DRAIN,
	/* Out in the same order, and back at once: what it holds is not to be
	   trusted, and goes.  One that is held stays so. */
	OPERATOR_REBUILD,
};

enum operator_end {
	OPERATOR_DONE,
	/* Nothing was done: some of its keys would have no server that is
	   trusted. */
	OPERATOR_ALONE,
	OPERATOR_NO_MEMORY, /* nothing was done */
};

/*
 * Do this with a peer.  done() is called once with owner, the peer and what has
 * become of it: in here, or, for the latter two words, from the loop.  When a
 * drain is done, magent has closed its connections to the server, and the
 * partners of that answer for its keys.
 */
void operator_act(struct peer *peer, enum operator_word word,
    void (*done)(void *owner, const struct peer *peer, enum operator_end end),
    void *owner);

/* Hold a peer down, whoever its partners are; unless it is held already. */
void operator_hold(struct peer *peer);

#endif
