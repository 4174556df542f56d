#ifndef GATE_H
#define GATE_H

/*
 * Count the calls in flight to all servers, and run a job while there are none.
 *
 * The calls of requests, effects and copies pass the gate (peer_submit() and
 * peer_get()).  Those that identify, drain, invalidate or probe a server do
 * not, because no job needs to wait for them.
 */

#include <stdbool.h>
#include <sys/queue.h>

struct event_base;
struct gate;

/* What is to run while nothing is in flight.  At first all of it is zero but
   for run(). */
struct gate_job {
	TAILQ_ENTRY(gate_job) entry;
	/* Set by the owner. */
	void (*run)(struct gate_job *job);
	/* It is in the gate's list.  It is false inside run(). */
	bool waiting;
};

/* What wants to begin something while the gate is closed.  At first all of it
   is zero but for wake(). */
struct gate_waiter {
	TAILQ_ENTRY(gate_waiter) entry;
	/* Set by the owner. */
	void (*wake)(struct gate_waiter *waiter);
	/* It is in the gate's list.  It is false inside wake(). */
	bool waiting;
};

/* An open gate.  Returns NULL when out of memory. */
struct gate *gate_new(struct event_base *base);

/* Jobs and waiters are forgotten; none of them is called.  NULL is fine. */
void gate_free(struct gate *gate);

/* A call is submitted.  While the gate is closed this happens only inside the
   done() of another call, before its gate_leave(), or inside run(). */
void gate_enter(struct gate *gate);

/* A call has its answer, and what follows from it has entered the gate.  No job
   runs inside this function. */
void gate_leave(struct gate *gate);

/* Whether nothing is in flight. */
bool gate_is_empty(const struct gate *gate);

/*
 * Close the gate and have job->run() called from the loop when nothing is in
 * flight.  The gate stays closed until gate_open(), which the job calls when it
 * is done, inside run() or later.  The job is borrowed until run() is called;
 * it is neither waiting nor running now.
 */
void gate_quiesce(struct gate *gate, struct gate_job *job);

/* Take a job back.  If it was the last one, waiters are woken inside this
   function.  Nothing happens if the job does not wait. */
void gate_job_cancel(struct gate *gate, struct gate_job *job);

/* The job that runs is done.  Unless another one waits, the gate is open, and
   waiters are woken inside this function. */
void gate_open(struct gate *gate);

/* Whether nothing new may begin. */
bool gate_is_closed(const struct gate *gate);

/*
 * The gate is closed: have waiter->wake() called when it is open, once, inside
 * gate_open() or gate_job_cancel().  The waiter is borrowed until then.
 */
void gate_wait(struct gate *gate, struct gate_waiter *waiter);

/* Take a waiter back.  Nothing happens if it does not wait. */
void gate_wait_cancel(struct gate *gate, struct gate_waiter *waiter);

#endif
