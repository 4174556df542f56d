#ifndef GATE_H
#define GATE_H

/*
 * Hold up what begins, and run a job when all that was under way before has
 * been answered: the moment at which the authority of pairs may change, or
 * servers may be emptied.
 *
 * What begins asks gate_holds_anything(), and then gate_holds(); if it is held,
 * it waits.  What has begun goes on, but asks no server for anything new: it
 * submits calls inside the done() of others only, and then to servers that are
 * no authority of the pairs that are held, or because one has failed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct conn_loop;
struct gate;
struct pair;
struct pairs;
struct peer;

/* At first all of it is zero but for run() and peer. */
struct gate_job {
	TAILQ_ENTRY(gate_job) entry;
	/* Set by the owner. */
	void (*run)(struct gate_job *job);
	/* Set by the owner, borrowed: the peer whose pairs are held; NULL: all
	   pairs are. */
	struct peer *peer;
	/* It is between gate_quiesce() and run(). */
	bool waiting;
};

/* Who wants to know that something is about to begin. */
struct gate_watch {
	/* Set by the owner.  The gate may be closed in here. */
	void (*noticed)(struct gate_watch *watch);
};

/* What wants to begin something and is held.  At first all of it is zero but
   for wake(). */
struct gate_waiter {
	TAILQ_ENTRY(gate_waiter) entry;
	/* Set by the owner. */
	void (*wake)(struct gate_waiter *waiter);
	/* It is in the gate's list.  It is false inside wake(). */
	bool waiting;
};

/* The keys of two partners.  Both are borrowed. */
struct gate_pair {
	LIST_ENTRY(gate_pair) entry;
	const struct peer *peer, *partner;
};

/* A key whose item may not be won or counted now.  It is as on a command line,
   in base64 only if it cannot be written otherwise; borrowed. */
struct gate_key {
	LIST_ENTRY(gate_key) entry;
	const char *key;
	size_t length;
};

/* An open gate before the servers of pairs, which is borrowed and need not be
   complete yet.  Returns NULL when out of memory. */
struct gate *gate_new(struct conn_loop *loop, struct pairs *pairs);

/* Jobs and waiters are forgotten; none of them is called.  NULL is fine. */
void gate_free(struct gate *gate);

/*
 * Close the gate for the pairs of job->peer in one of the next turns, and have
 * job->run() called from the loop when the servers of those pairs, but for
 * job->peer, have answered all that they were sent until then.  The gate stays
 * closed until gate_open(), which the job calls when it is done, inside run()
 * or later.  The job is borrowed until run() is called; it is neither waiting
 * nor running now.
 *
 * Between two jobs the gate is open for a turn, so that what waits for the
 * first one can begin before the second one.
 */
void gate_quiesce(struct gate *gate, struct gate_job *job);

/* Take a job back.  If the gate was closed for it, waiters are woken inside
   this function.  Nothing happens if the job does not wait. */
void gate_job_cancel(struct gate *gate, struct gate_job *job);

/* The job that runs is done: the gate is open, and waiters are woken inside
   this function. */
void gate_open(struct gate *gate);

/* The job that runs has nothing against requests that have begun: from here on
   gate_holds_step() does not hold them for it, and waiters are woken inside
   this function. */
void gate_let_steps(struct gate *gate);

/*
 * Hold the pairs of peer, which has failed or is not known yet, until
 * gate_release() was called as often.  Jobs wait meanwhile.  When nothing is
 * held any more by these two, waiters are woken inside gate_release().
 */
void gate_hold(struct gate *gate, struct peer *peer);
void gate_release(struct gate *gate, struct peer *peer);

/* The same for the keys of two partners only.  The pair is borrowed until
   gate_release_pair(). */
void gate_hold_pair(struct gate *gate, struct gate_pair *pair);
void gate_release_pair(struct gate *gate, struct gate_pair *pair);

/* The same for all pairs. */
void gate_hold_all(struct gate *gate);
void gate_release_all(struct gate *gate);

/* Have noticed() called when the next request asks whether it is held, before
   it is told.  The watch is borrowed until then. */
void gate_set_watch(struct gate *gate, struct gate_watch *watch);

/* A request asks.  To be called only if gate_holds_anything(). */
void gate_notice(struct gate *gate);

/* Hold a key, which is borrowed until gate_release_key(), for those commands.
   Waiters are woken inside gate_release_key().  Jobs do not wait for it. */
void gate_hold_key(struct gate *gate, struct gate_key *key);
void gate_release_key(struct gate *gate, struct gate_key *key);

/* Whether some key is held; and whether this one is. */
bool gate_has_keys(const struct gate *gate);
bool gate_holds_key(const struct gate *gate, const char *key, size_t length);

/* Whether anything is held: pairs, or a key. */
bool gate_holds_anything(const struct gate *gate);

/* Whether some pairs are held. */
bool gate_is_closed(const struct gate *gate);

/* Whether some pairs are held by gate_hold() and the like, and not only by a
   job. */
bool gate_holds_peers(const struct gate *gate);

/* Whether nothing may begin for the keys of this pair now. */
bool gate_holds(const struct gate *gate, const struct pair *pair);

/* Whether what has begun may ask nothing new for the keys of this pair now. */
bool gate_holds_step(const struct gate *gate, const struct pair *pair);

/*
 * The gate is closed, or holds a key: have waiter->wake() called once, when it
 * holds less than now, inside gate_open(), gate_job_cancel(), gate_release() or
 * gate_release_key().  The waiter is borrowed until then.  It may have to wait
 * again.
 */
void gate_wait(struct gate *gate, struct gate_waiter *waiter);

/* Take a waiter back.  Nothing happens if it does not wait. */
void gate_wait_cancel(struct gate *gate, struct gate_waiter *waiter);

#endif
