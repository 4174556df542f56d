#ifndef HANDBACK_H
#define HANDBACK_H

/*
 * Find the moment at which a returned server can be the authority of its pairs
 * again: rule R6.
 */

#include <stdbool.h>

#include "mirror/gate.h"

struct fence;
struct peer;

struct handback {
	struct peer *peer; /* borrowed */
	/* Of handback.c: */
	void (*done)(void *owner);
	void *owner;
	struct gate_job job;
	struct fence *fence; /* NULL: none waits */
	bool has_gate;       /* the gate is closed for the job */
};

/*
 * Make *handback, which is all zero.  done() is called once after each
 * handback_begin() that is not stopped, from the loop, while the gate holds the
 * pairs of peer, which is a primary that has carried out all that was answered
 * in its place; or a backup.  When done() has returned, the gate is open.
 */
void handback_init(struct handback *handback, struct peer *peer,
    void (*done)(void *owner), void *owner);

/* Begin.  The peer is in the state HANDBACK. */
void handback_begin(struct handback *handback);

/* The peer has failed.  Clients that waited are woken in here. */
void handback_stop(struct handback *handback);

#endif
