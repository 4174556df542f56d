#ifndef DRAIN_H
#define DRAIN_H

/*
 * Wait until a server that is back has carried out what it was sent on
 * connections that have ended.  A process that was hung carries it out when it
 * goes on, and would overwrite newer writes.
 */

#include <stdbool.h>
#include <stdint.h>

struct conn_loop;
struct event;
struct peer;
struct rollcall;

/* A part of its owner, which CONTAINER_OF() finds. */
struct drain {
	struct conn_loop *loop; /* borrowed */
	struct peer *peer;      /* borrowed */
	void (*done)(struct drain *drain);
	/* Owned: ends the pause before the next look. */
	struct event *timer;
	/* Owned until it is done; NULL: the threads are not being asked. */
	struct rollcall *rollcall;
	/* When drain_start() was called, and the threads were asked: monotonic
	   milliseconds. */
	int64_t began_ms, called_ms;
	/* There was something to wait for. */
	bool had_to_wait;
};

/*
 * done() is called once for each drain_start(), from the loop or inside
 * drain_start() itself, unless the server fails first.  had_to_wait is set
 * then.  The server of peer is there.  Returns false when out of memory; also
 * then drain_destroy() is to be called.
 */
bool drain_init(struct drain *drain, struct conn_loop *loop, struct peer *peer,
    void (*done)(struct drain *drain));
void drain_destroy(struct drain *drain);

/* Begin.  The peer is in the state DRAIN and stays in it until done(). */
void drain_start(struct drain *drain);

/* The server has failed.  Nothing happens if no drain is under way. */
void drain_stop(struct drain *drain);

#endif
