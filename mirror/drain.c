/*
 * Wait until a server has carried out what it was sent on old connections.
 *
 *   drain_start() -> an old connection is there -> pause --.
 *            |              ^         |                    |
 *            |              '---------|--------------------'
 *            '--> none is there <-----'
 *                       |
 *                       v
 *                 roll call -> each thread has answered -> done()
 *
 * Old connections are half-closed when they end (server/zombie.c).  The server
 * closes them when it has carried out what came before our end.  This holds for
 * a single thread of it that hangs while the others answer, too.
 *
 * Our end may not have been heard: after a partition.  Then the host of the
 * server does not answer what is repeated on that connection before long.  It
 * is reset, and what still lay in the network is gone.
 *
 * What other magents have sent lies in connections of theirs: for these, each
 * thread is asked, see rollcall.c.
 *
 * Invariant: in the state DRAIN, the timer runs, or done() has been called.
 */

#include "mirror/drain.h"

#include <assert.h>

#include <event2/event.h>

#include "conn.h"
#include "log.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rollcall.h"
#include "server/server.h"
#include "server/zombie.h"

enum {
	/* Connections of which nothing is heard are not waited for longer. */
	UNHEARD_MS = 1200,
	/* The same, while nobody answers in place of the server. */
	UNHEARD_URGENT_MS = 300,
	/* Between two looks. */
	PAUSE_MS = 5,
	/* A thread that does not answer is not waited for longer. */
	ROLLCALL_MS = 30000,
	/* The same, while nobody answers in place of the server. */
	ROLLCALL_URGENT_MS = 300,
	/* When something between us keeps connections open, a drain ends. */
	DRAIN_MAX_MS = 300000,
};

static void
pause_drain(struct drain *drain)
{
	struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };

	event_add(drain->timer, &pause);
}

/*
 * Its threads
 */

static void
end_drain(struct drain *drain)
{
	event_del(drain->timer);
	drain->done(drain);
}

static void
on_roll_called(void *owner)
{
	struct drain *drain = owner;

	drain->rollcall = NULL;
	end_drain(drain);
}

/* Without partners nobody knows better than the server. */
static void
call_roll(struct drain *drain)
{
	drain->called_ms = conn_loop_now(drain->loop);
	if (pairs_are_mirrored(drain->peer->pairs))
		drain->rollcall = rollcall_new(drain->loop, drain->peer,
		    on_roll_called, drain);
	if (drain->rollcall != NULL)
		pause_drain(drain);
	else
		end_drain(drain);
}

/* Some thread has not answered yet. */
static void
await_threads(struct drain *drain)
{
	int64_t waited = conn_loop_now(drain->loop) - drain->called_ms;

	if (waited <
	    (drain->peer->is_uncovered ? ROLLCALL_URGENT_MS : ROLLCALL_MS)) {
		pause_drain(drain);
		return;
	}
	log_warning("s %s: not all of its threads answer",
	    peer_name(drain->peer));
	rollcall_free(drain->rollcall);
	drain->rollcall = NULL;
	end_drain(drain);
}

/*
 * Our old connections
 */

static void
await_connections(struct drain *drain)
{
	struct zombies *zombies = server_zombies(drain->peer->server);
	unsigned int unheard = drain->peer->is_uncovered ?
	    UNHEARD_URGENT_MS :
	    UNHEARD_MS;
	int64_t waited = conn_loop_now(drain->loop) - drain->began_ms;

	if (waited >= unheard)
		zombies_reset_unheard(zombies, unheard);
	if (waited >= DRAIN_MAX_MS && zombies_count(zombies) > 0) {
		log_warning("s %s: does not close its old connections",
		    peer_name(drain->peer));
		zombies_reset(zombies);
	}
	if (zombies_count(zombies) == 0)
		call_roll(drain);
	else
		pause_drain(drain);
}

static void
on_drain_timer(evutil_socket_t fd, short what, void *arg)
{
	struct drain *drain = arg;

	(void)fd;
	(void)what;
	assert(drain->peer->state == PEER_DRAIN);
	if (drain->rollcall != NULL)
		await_threads(drain);
	else
		await_connections(drain);
}

void
drain_start(struct drain *drain)
{
	assert(drain->peer->state == PEER_DRAIN && drain->rollcall == NULL);
	drain->began_ms = conn_loop_now(drain->loop);
	drain->had_to_wait =
	    zombies_count(server_zombies(drain->peer->server)) > 0;
	if (drain->had_to_wait)
		pause_drain(drain);
	else
		call_roll(drain);
}

void
drain_stop(struct drain *drain)
{
	event_del(drain->timer);
	rollcall_free(drain->rollcall);
	drain->rollcall = NULL;
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
	rollcall_free(drain->rollcall);
	if (drain->timer != NULL)
		event_free(drain->timer);
}
