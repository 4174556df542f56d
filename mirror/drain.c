/*
 * Wait until a server has carried out what it was sent on old connections.
 *
 *   drain_start() -> an old connection is there -> pause --.
 *            |              ^         |                    |
 *            |              '---------|--------------------'
 *            '--> none is there <-----'
 *                 done()
 *
 * Old connections are half-closed when they end (server/zombie.c).  The server
 * closes them when it has carried out what came before our end.  This holds for
 * a single thread of it that hangs while the others answer, too.
 *
 * Our end may not have been heard: after a partition.  Then the host of the
 * server does not answer what is repeated on that connection before long.  It
 * is reset, and what still lay in the network is gone.
 *
 * Invariant: in the state DRAIN, the timer runs, or done() has been called.
 */

#include "mirror/drain.h"

#include <assert.h>

#include <event2/event.h>

#include "conn.h"
#include "log.h"
#include "mirror/peer.h"
#include "server/server.h"
#include "server/zombie.h"

enum {
	/* Connections of which nothing is heard are not waited for longer. */
	UNHEARD_MS = 1200,
	/* The same, while nobody answers in place of the server. */
	UNHEARD_URGENT_MS = 300,
	/* Between two looks. */
	PAUSE_MS = 5,
	/* When something between us keeps connections open, a drain ends. */
	DRAIN_MAX_MS = 300000,
};

static void
pause_drain(struct drain *drain)
{
	struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };

	event_add(drain->timer, &pause);
}

static void
on_drain_timer(evutil_socket_t fd, short what, void *arg)
{
	struct drain *drain = arg;
	struct zombies *zombies = server_zombies(drain->peer->server);
	unsigned int unheard = drain->peer->is_uncovered ?
	    UNHEARD_URGENT_MS :
	    UNHEARD_MS;
	int64_t waited = conn_loop_now(drain->loop) - drain->began_ms;

	(void)fd;
	(void)what;
	assert(drain->peer->state == PEER_DRAIN);
	if (waited >= unheard)
		zombies_reset_unheard(zombies, unheard);
	if (waited >= DRAIN_MAX_MS && zombies_count(zombies) > 0) {
		log_warning("s %s: does not close its old connections",
		    peer_name(drain->peer));
		zombies_reset(zombies);
	}
	if (zombies_count(zombies) == 0)
		drain->done(drain);
	else
		pause_drain(drain);
}

void
drain_start(struct drain *drain)
{
	assert(drain->peer->state == PEER_DRAIN);
	drain->began_ms = conn_loop_now(drain->loop);
	drain->had_to_wait =
	    zombies_count(server_zombies(drain->peer->server)) > 0;
	if (drain->had_to_wait)
		pause_drain(drain);
	else
		drain->done(drain);
}

void
drain_stop(struct drain *drain)
{
	event_del(drain->timer);
}

bool
drain_init(struct drain *drain, struct conn_loop *loop, struct peer *peer,
    void (*done)(struct drain *drain))
{
	assert(peer->server != NULL && done != NULL);
	drain->loop = loop;
	drain->peer = peer;
	drain->done = done;
	drain->timer = event_new(conn_loop_base(loop), -1, 0, on_drain_timer,
	    drain);
	return drain->timer != NULL;
}

void
drain_destroy(struct drain *drain)
{
	if (drain->timer != NULL)
		event_free(drain->timer);
}
