/*
 * Hold up what begins until all that was under way has been answered.
 *
 *   gate_quiesce() -> jobs -> closed: a fence to each old authority
 *                      ^                      |
 *                      |                      v all have passed
 *   waiters are woken  '-- gate_open() <-- run()
 *
 * Invariant: the gate is closed exactly while there is a current job, or a
 * peer, a pair, or all of them are held.  When run() is called, each call for a
 * key that is held, submitted before the gate was closed, has been answered or
 * its server has failed; so the effects of these calls are in the FIFOs of
 * their mirrors.  Nobody has submitted such a call since.
 *
 * That is rule R6.  A fence takes one round trip to those servers that hold the
 * keys in question.  A request for other keys is not held, whatever it costs
 * these servers to answer.
 *
 * A job begins in a turn of its own, not in that of gate_open(): clients that
 * were woken there begin what they have waited for first.  So those who ask for
 * one job after another cannot keep others waiting.
 */

#include "mirror/gate.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "conn.h"
#include "mirror/fence.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

TAILQ_HEAD(gate_job_list, gate_job);
TAILQ_HEAD(gate_waiter_list, gate_waiter);

struct gate {
	struct pairs *pairs; /* borrowed */
	/* Jobs that wait for the gate to be closed for them, borrowed. */
	struct gate_job_list jobs;
	/* The job that the gate is closed for, until gate_open().  NULL: the
	   gate is open. */
	struct gate_job *current;
	/* The pairs of this peer are held; NULL: all are.  Valid while there is
	   a current job. */
	const struct peer *held;
	/* gate_let_steps() was called for the current job. */
	bool lets_steps;
	/* Fences of the current job that have not passed. */
	unsigned int fences;
	/* Peers whose pairs gate_hold() holds, and the pairs of
	   gate_hold_pair(). */
	unsigned int held_peers;
	/* Those pairs, borrowed. */
	LIST_HEAD(, gate_pair) pairs_held;
	/* gate_hold_all() holds all pairs. */
	bool are_all_held;
	/* Borrowed; NULL: there is none. */
	struct gate_watch *watch;
	/* What is held: the current job, those peers and pairs, and the keys;
	   and the watch, so that requests ask. */
	unsigned int holds;
	/* Those of gate_hold_key(), borrowed. */
	LIST_HEAD(, gate_key) keys;
	/* Borrowed.  While there is one, the gate is closed, or holds a key. */
	struct gate_waiter_list waiters;
	size_t waiter_count;
	/* Begins the next job, or runs the current one, owned. */
	struct event *turn;
};

/* Have on_gate_turn() called in the next turn, after all that is woken or
   offered in this one. */
static void
schedule_turn(struct gate *gate)
{
	struct timeval now = { 0 };

	event_add(gate->turn, &now);
}

static void
on_gate_fence(void *owner, bool was_reached)
{
	struct peer *peer = owner;
	struct gate *gate = peer->gate;

	(void)was_reached; /* a server that has failed has answered nothing */
	assert(gate->current != NULL && gate->fences > 0);
	peer->gate_fence = NULL;
	if (--gate->fences == 0)
		schedule_turn(gate);
}

/* Whether peer may be asked for keys that are held. */
static bool
is_fenced(const struct gate *gate, const struct peer *peer)
{
	return peer_is_mirror(peer) &&
	    (gate->held == NULL || peers_are_partners(gate->held, peer));
}

/* Close the gate for the next job. */
static void
begin_job(struct gate *gate)
{
	struct peer *peer;
	size_t i;

	assert(gate->current == NULL);
	gate->current = TAILQ_FIRST(&gate->jobs);
	gate->lets_steps = false;
	gate->holds++;
	TAILQ_REMOVE(&gate->jobs, gate->current, entry);
	gate->held = gate->current->peer;
	/* One more, so that none of the fences is the last one in here. */
	gate->fences = 1;
	for (i = 0; i < pairs_peer_count(gate->pairs); i++) {
		peer = pairs_peer(gate->pairs, i);
		if (!is_fenced(gate, peer))
			continue;
		peer->gate_fence = fence_new(peer, on_gate_fence, peer);
		if (peer->gate_fence != NULL)
			gate->fences++;
		else
			server_fail(peer->server, "out of memory");
	}
	if (gate->current != NULL && --gate->fences == 0)
		schedule_turn(gate);
}

static void
run_job(struct gate *gate)
{
	struct gate_job *job = gate->current;

	assert(job->waiting && job->run != NULL);
	job->waiting = false;
	job->run(job);
}

static void
on_gate_turn(evutil_socket_t fd, short what, void *arg)
{
	struct gate *gate = arg;

	(void)fd;
	(void)what;
	if (gate->held_peers > 0)
		return;
	if (gate->current == NULL && !TAILQ_EMPTY(&gate->jobs))
		begin_job(gate);
	else if (gate->current != NULL && gate->fences == 0 &&
	    gate->current->waiting)
		run_job(gate);
}

void
gate_quiesce(struct gate *gate, struct gate_job *job)
{
	assert(job->run != NULL && !job->waiting && gate->current != job);
	job->waiting = true;
	TAILQ_INSERT_TAIL(&gate->jobs, job, entry);
	schedule_turn(gate);
}

bool
gate_holds_anything(const struct gate *gate)
{
	return gate->holds > 0;
}

bool
gate_is_closed(const struct gate *gate)
{
	return gate->current != NULL || gate->held_peers > 0;
}

bool
gate_holds_peers(const struct gate *gate)
{
	return gate->held_peers > 0;
}

/* Whether the gate holds the pairs of this peer, which may be NULL. */
static bool
holds_peer(const struct gate *gate, const struct peer *peer)
{
	return peer != NULL &&
	    (peer->gate_holds > 0 ||
		(gate->current != NULL && peer == gate->held));
}

/* Whether gate_hold_pair() holds this pair, in which roles its peers ever
   are. */
static bool
holds_pair(const struct gate *gate, const struct pair *pair)
{
	const struct gate_pair *held;

	LIST_FOREACH(held, &gate->pairs_held, entry)
		if ((held->peer == pair->primary &&
			held->partner == pair->backup) ||
		    (held->peer == pair->backup &&
			held->partner == pair->primary))
			return true;
	return false;
}

bool
gate_holds_step(const struct gate *gate, const struct pair *pair)
{
	return (gate->current != NULL && gate->held == NULL &&
		   !gate->lets_steps) ||
	    gate->are_all_held || holds_peer(gate, pair->primary) ||
	    holds_peer(gate, pair->backup) || holds_pair(gate, pair);
}

bool
gate_holds(const struct gate *gate, const struct pair *pair)
{
	return (gate->current != NULL && gate->held == NULL) ||
	    gate_holds_step(gate, pair);
}

/* Wake those that wait now, in their order.  They may wait again. */
static void
wake_waiters(struct gate *gate)
{
	struct gate_waiter *waiter;
	size_t n;

	for (n = gate->waiter_count; n > 0; n--) {
		waiter = TAILQ_FIRST(&gate->waiters);
		if (waiter == NULL)
			break;
		gate_wait_cancel(gate, waiter);
		waiter->wake(waiter);
	}
}

void
gate_hold(struct gate *gate, struct peer *peer)
{
	if (peer->gate_holds++ > 0)
		return;
	gate->held_peers++;
	gate->holds++;
}

/* One that was held is not any more. */
static void
release_and_wake(struct gate *gate)
{
	assert(gate->held_peers > 0 && gate->holds > 0);
	gate->held_peers--;
	gate->holds--;
	schedule_turn(gate);
	wake_waiters(gate);
}

void
gate_release(struct gate *gate, struct peer *peer)
{
	assert(peer->gate_holds > 0);
	if (--peer->gate_holds == 0)
		release_and_wake(gate);
}

void
gate_hold_pair(struct gate *gate, struct gate_pair *pair)
{
	assert(pair->peer != pair->partner);
	LIST_INSERT_HEAD(&gate->pairs_held, pair, entry);
	gate->held_peers++;
	gate->holds++;
}

void
gate_release_pair(struct gate *gate, struct gate_pair *pair)
{
	LIST_REMOVE(pair, entry);
	release_and_wake(gate);
}

void
gate_hold_all(struct gate *gate)
{
	assert(!gate->are_all_held);
	gate->are_all_held = true;
	gate->held_peers++;
	gate->holds++;
}

void
gate_release_all(struct gate *gate)
{
	assert(gate->are_all_held);
	gate->are_all_held = false;
	release_and_wake(gate);
}

void
gate_set_watch(struct gate *gate, struct gate_watch *watch)
{
	gate->holds += gate->watch == NULL;
	gate->watch = watch;
}

void
gate_notice(struct gate *gate)
{
	struct gate_watch *watch = gate->watch;

	assert(gate->holds > 0);
	if (watch == NULL)
		return;
	gate->watch = NULL;
	gate->holds--;
	watch->noticed(watch);
}

void
gate_hold_key(struct gate *gate, struct gate_key *key)
{
	assert(key->length > 0);
	LIST_INSERT_HEAD(&gate->keys, key, entry);
	gate->holds++;
}

void
gate_release_key(struct gate *gate, struct gate_key *key)
{
	LIST_REMOVE(key, entry);
	gate->holds--;
	wake_waiters(gate);
}

bool
gate_has_keys(const struct gate *gate)
{
	return !LIST_EMPTY(&gate->keys);
}

bool
gate_holds_key(const struct gate *gate, const char *key, size_t length)
{
	const struct gate_key *held;

	LIST_FOREACH(held, &gate->keys, entry)
		if (held->length == length &&
		    memcmp(held->key, key, length) == 0)
			return true;
	return false;
}

/* The current job is over. */
static void
open_and_wake(struct gate *gate)
{
	assert(gate->current != NULL && gate->holds > 0);
	gate->current = NULL;
	gate->holds--;
	gate->fences = 0;
	if (!TAILQ_EMPTY(&gate->jobs))
		schedule_turn(gate);
	wake_waiters(gate);
}

static void
cancel_fences(struct gate *gate)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(gate->pairs); i++) {
		peer = pairs_peer(gate->pairs, i);
		if (peer->gate_fence != NULL)
			fence_cancel(peer->gate_fence);
		peer->gate_fence = NULL;
	}
}

void
gate_job_cancel(struct gate *gate, struct gate_job *job)
{
	if (!job->waiting)
		return;
	job->waiting = false;
	if (job != gate->current) {
		TAILQ_REMOVE(&gate->jobs, job, entry);
		return;
	}
	cancel_fences(gate);
	open_and_wake(gate);
}

void
gate_let_steps(struct gate *gate)
{
	assert(gate->current != NULL && !gate->current->waiting);
	gate->lets_steps = true;
	wake_waiters(gate);
}

void
gate_open(struct gate *gate)
{
	assert(gate->current != NULL && gate->fences == 0);
	assert(!gate->current->waiting);
	open_and_wake(gate);
}

void
gate_wait(struct gate *gate, struct gate_waiter *waiter)
{
	assert(gate_is_closed(gate) || gate_has_keys(gate));
	assert(waiter->wake != NULL && !waiter->waiting);
	waiter->waiting = true;
	gate->waiter_count++;
	TAILQ_INSERT_TAIL(&gate->waiters, waiter, entry);
}

void
gate_wait_cancel(struct gate *gate, struct gate_waiter *waiter)
{
	if (!waiter->waiting)
		return;
	assert(gate->waiter_count > 0);
	waiter->waiting = false;
	gate->waiter_count--;
	TAILQ_REMOVE(&gate->waiters, waiter, entry);
}

struct gate *
gate_new(struct conn_loop *loop, struct pairs *pairs)
{
	struct gate *gate = calloc(1, sizeof(*gate));

	if (gate == NULL)
		return NULL;
	TAILQ_INIT(&gate->jobs);
	TAILQ_INIT(&gate->waiters);
	LIST_INIT(&gate->keys);
	LIST_INIT(&gate->pairs_held);
	gate->pairs = pairs;
	gate->turn = event_new(conn_loop_base(loop), -1, 0, on_gate_turn, gate);
	if (gate->turn == NULL) {
		free(gate);
		return NULL;
	}
	return gate;
}

void
gate_free(struct gate *gate)
{
	if (gate == NULL)
		return;
	event_free(gate->turn);
	free(gate);
}
