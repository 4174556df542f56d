/*
 * Wait until a server has carried out what it was sent on old connections.
 *
 *   drain_start() -> stats conns -> an old connection is there -> pause --.
 *                        ^   |                                            |
 *                        |   '---> none is there: done()                  |
 *                        '------------------------------------------------'
 *
 * Invariant: in the state DRAIN, a stats conns is in flight, or the timer runs,
 * or done() has been called.
 *
 * An old connection that the server lists need not have commands in it.  After
 * a partition the server has not heard of our RST, and the connection stays.
 * So the drain is done, too, when IDLE_MS have passed and all old connections
 * that are listed have had no command for a second.
 */

#include "mirror/drain.h"

#include <assert.h>
#include <string.h>

#include <event2/event.h>

#include "conn.h"
#include "container_of.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"

enum {
	/* Old connections do not count as idle before this, because stats conns
	   counts in whole seconds. */
	IDLE_MS = 1200,
	/* Between two lists. */
	PAUSE_MS = 20,
};

static void list_connections(struct drain *drain);

static bool
is_old_port(const struct peer *peer, uint64_t port)
{
	const uint16_t *ports;
	size_t n = server_old_ports(peer->server, &ports);
	size_t i;

	for (i = 0; i < n; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/* The port in n bytes of tcp:ADDRESS:PORT; 0 if there is none. */
static uint64_t
port_of(const char *address, size_t n)
{
	const char *colon = memrchr(address, ':', n);

	if (colon == NULL)
		return 0;
	return proto_number(colon + 1, n - (size_t)(colon + 1 - address));
}

/*
 * A line of stats conns.  There are several for each connection N, these among
 * them, in this order:
 *
 *	N:addr tcp:ADDRESS:PORT
 *	N:secs_since_last_cmd SECONDS
 */
static bool
on_conn(struct call *call, const struct proto_reply *stat, const char *bytes,
    size_t at)
{
	struct drain *drain = CONTAINER_OF(call, struct drain, list_call);
	const char *name = bytes + at + stat->key.at;
	const char *value = bytes + at + stat->data.at;
	const char *what = memchr(name, ':', stat->key.length);
	uint64_t conn = proto_number(name, stat->key.length);
	size_t length;

	assert(drain->peer->state == PEER_DRAIN);
	if (what == NULL)
		return true;
	length = stat->key.length - (size_t)(++what - name);
	if (length == 4 && memcmp(what, "addr", 4) == 0) {
		drain->conn = conn;
		drain->is_old = is_old_port(drain->peer,
		    port_of(value, stat->data.length));
		drain->old_count += drain->is_old;
	} else if (drain->is_old && conn == drain->conn && length == 19 &&
	    memcmp(what, "secs_since_last_cmd", 19) == 0 &&
	    proto_number(value, stat->data.length) == 0) {
		drain->busy_count++;
	}
	return true;
}

static void
on_listed(struct call *call, const struct answer *answer)
{
	struct drain *drain = CONTAINER_OF(call, struct drain, list_call);
	int64_t waited = conn_loop_now(drain->loop) - drain->began_ms;
	struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };
	bool listed;

	if (answer == NULL)
		return;
	assert(drain->peer->state == PEER_DRAIN);
	/* Servers before 1.4.18 have no such list; IDLE_MS pass then. */
	listed = answer->last.result == PROTO_END;
	if ((listed && drain->old_count == 0) ||
	    (waited >= IDLE_MS && (!listed || drain->busy_count == 0))) {
		server_forget_ports(drain->peer->server);
		drain->done(drain);
		return;
	}
	drain->had_to_wait = true;
	event_add(drain->timer, &pause);
}

static void
list_connections(struct drain *drain)
{
	static const char line[] = "stats conns\r\n";

	assert(drain->peer->state == PEER_DRAIN);
	assert(!event_pending(drain->timer, EV_TIMEOUT, NULL));
	drain->is_old = false;
	drain->old_count = drain->busy_count = 0;
	drain->list_call = (struct call){
		.expect = PROTO_EXPECT_STATS,
		.done = on_listed,
		.element = on_conn,
	};
	server_submit(drain->peer->server, 0, &drain->list_call, line,
	    sizeof(line) - 1, NULL, 0, NULL);
}

static void
on_drain_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	list_connections(arg);
}

void
drain_start(struct drain *drain)
{
	const uint16_t *ports;

	assert(drain->peer->state == PEER_DRAIN);
	drain->began_ms = conn_loop_now(drain->loop);
	drain->had_to_wait = false;
	if (server_old_ports(drain->peer->server, &ports) > 0)
		list_connections(drain);
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
