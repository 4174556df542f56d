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
struct rest {
	TAILQ_ENTRY(rest) entry;
	void (*run)(struct rest *rest);
	bool waiting;
};

/* Who wants to begin something while the gate is closed. */
struct waiter {
	TAILQ_ENTRY(waiter) entry;
	void (*wake)(struct waiter *waiter);
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
void gate_rest(struct gate *gate, struct rest *rest);
void gate_cancel(struct gate *gate, struct rest *rest); /* not yet running */
void gate_open(struct gate *gate);

/* While the gate is closed nothing new may begin: wait until wake(), which is
   called from inside gate_open() or gate_cancel(). */
bool gate_is_closed(const struct gate *gate);
void gate_wait(struct gate *gate, struct waiter *waiter);
void gate_wait_cancel(struct gate *gate, struct waiter *waiter);

#endif
