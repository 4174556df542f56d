#ifndef GATE_H
#define GATE_H

/*
 * Let calls to the servers through, count those in flight, and find a moment
 * at which there are none: what must not happen beside a request happens then.
 */

#include <stdbool.h>
#include <sys/queue.h>

struct event_base;
struct gate;

/* What needs a moment at rest. */
struct gate_job {
	TAILQ_ENTRY(gate_job) entry;
	void (*run)(struct gate_job *job);
	bool waiting;
};

/* Who wants to begin something while the gate is closed. */
struct gate_waiter {
	TAILQ_ENTRY(gate_waiter) entry;
	void (*wake)(struct gate_waiter *waiter);
	bool waiting;
};

struct gate *gate_new(struct event_base *base); /* NULL: out of memory */
void gate_free(struct gate *gate);              /* NULL is fine */

/* A call begins; a call is over, and what follows from it has begun. */
void gate_enter(struct gate *gate);
void gate_leave(struct gate *gate);
bool gate_is_empty(const struct gate *gate);

/*
 * Close the gate, wait until nothing is in flight, then run(), but not from
 * inside this call.  The gate stays closed until gate_open().
 */
void gate_quiesce(struct gate *gate, struct gate_job *job);
void gate_job_cancel(struct gate *gate,
    struct gate_job *job); /* not yet running */
void gate_open(struct gate *gate);

/* While the gate is closed nothing new may begin: wait until wake(), which is
   called from inside gate_open() or gate_job_cancel(). */
bool gate_is_closed(const struct gate *gate);
void gate_wait(struct gate *gate, struct gate_waiter *waiter);
void gate_wait_cancel(struct gate *gate, struct gate_waiter *waiter);

#endif
