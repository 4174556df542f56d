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

TAILQ_HEAD(gate_job_list, gate_job);
TAILQ_HEAD(gate_waiter_list, gate_waiter);

struct gate {
	size_t in_flight;
	struct gate_job_list jobs; /* each keeps the gate closed ... */
	struct gate_job *running;  /* ... and so does this one */
	struct gate_waiter_list waiters;
	struct event *event; /* runs the next rest */
};

static void
schedule_job(struct gate *gate)
{
	if (gate->in_flight == 0 && gate->running == NULL &&
	    !TAILQ_EMPTY(&gate->jobs))
		event_active(gate->event, EV_TIMEOUT, 0);
}

static void
run_next_job(evutil_socket_t fd, short what, void *arg)
{
	struct gate *gate = arg;
	struct gate_job *job = TAILQ_FIRST(&gate->jobs);

	(void)fd;
	(void)what;
	if (gate->in_flight > 0 || gate->running != NULL || job == NULL)
		return;
	assert(job->waiting);
	TAILQ_REMOVE(&gate->jobs, job, entry);
	job->waiting = false;
	gate->running = job;
	job->run(job);
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
		schedule_job(gate);
}

bool
gate_is_empty(const struct gate *gate)
{
	return gate->in_flight == 0;
}

bool
gate_is_closed(const struct gate *gate)
{
	return gate->running != NULL || !TAILQ_EMPTY(&gate->jobs);
}

static void
wake_all(struct gate *gate)
{
	struct gate_waiter *waiter;

	while (!gate_is_closed(gate) &&
	    (waiter = TAILQ_FIRST(&gate->waiters)) != NULL) {
		gate_wait_cancel(gate, waiter);
		waiter->wake(waiter);
	}
}

void
gate_quiesce(struct gate *gate, struct gate_job *job)
{
	assert(!job->waiting && gate->running != job);
	job->waiting = true;
	TAILQ_INSERT_TAIL(&gate->jobs, job, entry);
	schedule_job(gate);
}

void
gate_job_cancel(struct gate *gate, struct gate_job *job)
{
	if (!job->waiting)
		return;
	job->waiting = false;
	TAILQ_REMOVE(&gate->jobs, job, entry);
	wake_all(gate);
}

void
gate_open(struct gate *gate)
{
	assert(gate->running != NULL);
	gate->running = NULL;
	wake_all(gate);
	schedule_job(gate);
}

void
gate_wait(struct gate *gate, struct gate_waiter *waiter)
{
	assert(gate_is_closed(gate) && !waiter->waiting);
	waiter->waiting = true;
	TAILQ_INSERT_TAIL(&gate->waiters, waiter, entry);
}

void
gate_wait_cancel(struct gate *gate, struct gate_waiter *waiter)
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
	TAILQ_INIT(&gate->jobs);
	TAILQ_INIT(&gate->waiters);
	gate->event = event_new(base, -1, 0, run_next_job, gate);
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
