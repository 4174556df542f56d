/*
 * Let calls to the servers through, and find a moment at which there are none.
 *
 * Invariant: while the gate is closed, calls only follow from calls that were
 * in flight, so it empties; rests run one at a time, in their order.
 */

#include "mirror/gate.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include <event2/event.h>

TAILQ_HEAD(rest_list, rest);
TAILQ_HEAD(waiter_list, waiter);

struct gate {
	size_t in_flight;
	struct rest_list rests; /* each keeps the gate closed ... */
	struct rest *running;   /* ... and so does this one */
	struct waiter_list waiters;
	struct event *event; /* runs the next rest */
};

static void
try_rest(struct gate *gate)
{
	if (gate->in_flight == 0 && gate->running == NULL &&
	    !TAILQ_EMPTY(&gate->rests))
		event_active(gate->event, EV_TIMEOUT, 0);
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct gate *gate = arg;
	struct rest *rest = TAILQ_FIRST(&gate->rests);

	(void)fd;
	(void)what;
	if (gate->in_flight > 0 || gate->running != NULL || rest == NULL)
		return;
	assert(rest->waiting);
	TAILQ_REMOVE(&gate->rests, rest, entry);
	rest->waiting = false;
	gate->running = rest;
	rest->run(rest);
}

void
gate_enter(struct gate *gate)
{
	gate->in_flight++;
}

void
gate_leave(struct gate *gate)
{
	assert(gate->in_flight > 0);
	if (--gate->in_flight == 0)
		try_rest(gate);
}

bool
gate_is_empty(const struct gate *gate)
{
	return gate->in_flight == 0;
}

bool
gate_is_closed(const struct gate *gate)
{
	return gate->running != NULL || !TAILQ_EMPTY(&gate->rests);
}

static void
wake_all(struct gate *gate)
{
	struct waiter *waiter;

	while (!gate_is_closed(gate) &&
	    (waiter = TAILQ_FIRST(&gate->waiters)) != NULL) {
		gate_wait_cancel(gate, waiter);
		waiter->wake(waiter);
	}
}

void
gate_rest(struct gate *gate, struct rest *rest)
{
	assert(!rest->waiting && gate->running != rest);
	rest->waiting = true;
	TAILQ_INSERT_TAIL(&gate->rests, rest, entry);
	try_rest(gate);
}

void
gate_cancel(struct gate *gate, struct rest *rest)
{
	if (!rest->waiting)
		return;
	rest->waiting = false;
	TAILQ_REMOVE(&gate->rests, rest, entry);
	wake_all(gate);
}

void
gate_open(struct gate *gate)
{
	assert(gate->running != NULL);
	gate->running = NULL;
	wake_all(gate);
	try_rest(gate);
}

void
gate_wait(struct gate *gate, struct waiter *waiter)
{
	assert(gate_is_closed(gate) && !waiter->waiting);
	waiter->waiting = true;
	TAILQ_INSERT_TAIL(&gate->waiters, waiter, entry);
}

void
gate_wait_cancel(struct gate *gate, struct waiter *waiter)
{
	if (!waiter->waiting)
		return;
	waiter->waiting = false;
	TAILQ_REMOVE(&gate->waiters, waiter, entry);
}

struct gate *
gate_new(struct event_base *base)
{
	struct gate *gate = calloc(1, sizeof(*gate));

	if (gate == NULL)
		return NULL;
	TAILQ_INIT(&gate->rests);
	TAILQ_INIT(&gate->waiters);
	gate->event = event_new(base, -1, 0, on_event, gate);
	if (gate->event == NULL) {
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
	event_free(gate->event);
	free(gate);
}
