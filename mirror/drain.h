#ifndef DRAIN_H
#define DRAIN_H

/*
 * Wait until a server that is back has nothing left of what it was sent on
 * connections that ended: a process that was hung carries it out when it
 * wakes, even after our RST, and would overwrite newer writes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/server.h"

struct conn_loop;
struct event;
struct peer;

struct drain {
	struct conn_loop *loop;
	struct peer *peer;
	void (*done)(struct drain *drain);
	struct call list_call; /* stats conns */
	struct event *timer;
	int64_t began_ms;
	bool had_to_wait; /* there was something to wait for */
	/* What is being listed: */
	uint64_t conn; /* the connection the lines are about */
	bool is_old;
	unsigned int old_count, busy_count;
};

/* done() is called from the loop or from inside drain_start(), unless the
   server fails.  Returns false when out of memory. */
bool drain_init(struct drain *drain, struct conn_loop *loop, struct peer *peer,
    void (*done)(struct drain *drain));
void drain_destroy(struct drain *drain);

void drain_start(struct drain *drain);
void drain_stop(struct drain *drain); /* the server has failed */

#endif
