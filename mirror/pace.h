#ifndef PACE_H
#define PACE_H

/*
 * How fast copies may begin, and how many may be under way, of all rebuilds
 * together: so that clients, and the survivors, hardly notice them.
 */

#include <stdbool.h>
#include <sys/queue.h>

struct conn_loop;
struct pace;

/* Somebody who wants to begin a copy.  At first all of it is zero but for
   wake(). */
struct pace_waiter {
	TAILQ_ENTRY(pace_waiter) entry;
	/* Set by the owner. */
	void (*wake)(struct pace_waiter *waiter);
	/* It is in the list of the pace.  It is false inside wake(). */
	bool waiting;
};

/* Returns NULL when out of memory. */
struct pace *pace_new(struct conn_loop *loop);

/* Waiters are forgotten.  NULL is fine. */
void pace_free(struct pace *pace);

/*
 * Take the right to begin a copy now; pace_end() follows.  Returns false if
 * there is none, or somebody else waits for it: then wake() of the waiter is
 * called from the loop when it is its turn.  Inside wake() it may take as many
 * as it can use.
 */
bool pace_begin(struct pace *pace, struct pace_waiter *waiter);

/* A copy has ended.  Nobody is woken inside this function. */
void pace_end(struct pace *pace);

/* Take a waiter back.  Nothing happens if it does not wait. */
void pace_cancel(struct pace *pace, struct pace_waiter *waiter);

#endif
