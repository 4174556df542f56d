/*
 * Count the calls in flight, and find a moment at which there are none.
 *
 *   open --gate_quiesce()--> closed --the last call--> idle: run() --.
 *     ^                                                              |
 *     '----------------------------- gate_open(), if no job is left -'
 *
 * Invariant: the gate is closed while a job waits or runs.  While it is closed,
 * a call only begins inside the done() of another call or inside run(), so the
 * gate becomes idle.  Jobs run one at a time, in their order.
 */

#include "mirror/gate.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include <event2/event.h>

TAILQ_HEAD(gate_job_list, gate_job);
TAILQ_HEAD(gate_waiter_list, gate_waiter);

struct gate {
	/* Calls in flight. */
	size_t in_flight;
	/* Jobs that wait, borrowed.  While there is one, the gate is closed. */
	struct gate_job_list jobs;
	/* The job whose run() was called last, until gate_open().  While it is
	   not NULL, the gate is closed. */
	struct gate_job *running;
	/* Borrowed.  While there is one, the gate is closed. */
	struct gate_waiter_list waiters;
	/* Runs the next job, owned. */
	struct event *run_event;
};

/* Have the next job run from the loop, if nothing stands in its way. */
static void
schedule_job(struct gate *gate)
{
	if (gate->in_flight == 0 && gate->running == NULL &&
	    !TAILQ_EMPTY(&gate->jobs))
		event_active(gate->run_event, EV_TIMEOUT, 0);
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
	assert(job->waiting && job->run != NULL);
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

/* Wake the waiters, in their order, until one of them closes the gate. */
static void
wake_all(struct gate *gate)
{
	struct gate_waiter *waiter;

	while (!gate_is_closed(gate) &&
	    (waiter = TAILQ_FIRST(&gate->waiters)) != NULL) {
		assert(waiter->waiting);
		gate_wait_cancel(gate, waiter);
		waiter->wake(waiter);
	}
}

void
gate_quiesce(struct gate *gate, struct gate_job *job)
{
	assert(job->run != NULL && !job->waiting && gate->running != job);
	job->waiting = true;
	TAILQ_INSERT_TAIL(&gate->jobs, job, entry);
	schedule_job(gate);
}

void
gate_job_cancel(struct gate *gate, struct gate_job *job)
{
	if (!job->waiting)
		return;
	assert(!TAILQ_EMPTY(&gate->jobs));
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
	assert(gate_is_closed(gate));
	assert(waiter->wake != NULL && !waiter->waiting);
	waiter->waiting = true;
	TAILQ_INSERT_TAIL(&gate->waiters, waiter, entry);
}

void
gate_wait_cancel(struct gate *gate, struct gate_waiter *waiter)
{
	if (!waiter->waiting)
		return;
	assert(!TAILQ_EMPTY(&gate->waiters));
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
	gate->run_event = event_new(base, -1, 0, run_next_job, gate);
	if (gate->run_event == NULL) {
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
	event_free(gate->run_event);
	free(gate);
}
