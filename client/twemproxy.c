/*
 * Write the statistics as twemproxy does, for what reads those.
 *
 * Readers take any further name beside those of twemproxy for a pool or for a
 * server.  So there are the names of twemproxy, and no others.
 *
 * Invariant: there are CALLERS_MAX callers at most, and none is older than
 * CALLER_MS and a tick.  Of CALLERS_PER_TICK that come in one tick, further
 * ones wait in the kernel for the next.
 */

#include "client/twemproxy.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "client/metrics.h"
#include "client/report.h"
#include "client/sockets.h"
#include "client/stats.h"
#include "conn.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

enum {
	/* Connections at a time. */
	CALLERS_MAX = 16,
	/* The longest time of one. */
	CALLER_MS = 5000,
	/* Connections that are accepted between two ticks. */
	CALLERS_PER_TICK = 8,
	TICK_MS = 250,
	/* Bytes of what is written at a time: of one server, without its
	   name. */
	PIECE_MAX = 1024,
	HOST_MAX = 256,
};

/* One connection. */
struct caller {
	LIST_ENTRY(caller) entry;
	struct twemproxy *twemproxy; /* borrowed */
	struct conn *conn;           /* owned */
	int64_t since_ms;
	bool has_ended; /* the remote sends no more */
	bool is_told;   /* all, and the end */
};

struct twemproxy {
	struct conn_loop *loop; /* borrowed */
	struct metrics_source source;
	struct event **doors; /* owned, door_count of them: of each socket */
	size_t door_count;
	LIST_HEAD(, caller) callers;
	unsigned int caller_count, came; /* came: since the last tick */
	struct event *tick;              /* owned */
};

/*
 * What is said
 */

static void put_piece(struct conn *conn, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
put_piece(struct conn *conn, const char *format, ...)
{
	char piece[PIECE_MAX];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(piece, sizeof(piece), format, arguments);
	va_end(arguments);
	assert(n >= 0 && (size_t)n < sizeof(piece));
	conn_write(conn, piece, (size_t)n);
}

/* A string of JSON: the path of a socket may have any character. */
static void
put_string(struct conn *conn, const char *text)
{
	put_piece(conn, "\"");
	for (; *text != '\0'; text++)
		if (*text == '"' || *text == '\\')
			put_piece(conn, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			put_piece(conn, "\\u%04x", (unsigned int)*text);
		else
			put_piece(conn, "%c", *text);
	put_piece(conn, "\"");
}

/* How many of its links are connected: the first one is, when it is asked who
   it is. */
static unsigned int
links_of(const struct peer *peer)
{
	if (peer->state == PEER_DOWN || peer->state == PEER_STARTING)
		return 0;
	return peer->state == PEER_IDENTIFY ? 1 : server_links(peer->server);
}

/* When it went down: microseconds of the time of day; 0: it is not down. */
static int64_t
ejected_at(const struct peer *peer, int64_t now_ms)
{
	struct timespec now;

	if (peer->state != PEER_DOWN)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 -
	    (now_ms - peer->changed_ms) * 1000;
}

/* What magent sends within the turn has no queue: in_queue is empty. */
static void
put_server(struct conn *conn, const struct peer *peer, int64_t now_ms)
{
	const struct server_counters *counters = server_counters(peer->server);

	put_string(conn, peer_name(peer));
	put_piece(conn,
	    ": {\"server_eof\":0, \"server_err\":%" PRIu64
	    ", \"server_timedout\":%" PRIu64
	    ", \"server_connections\":%u"
	    ", \"server_ejected_at\":%" PRId64 ", \"requests\":%" PRIu64
	    ", \"request_bytes\":0, \"responses\":%" PRIu64
	    ", \"response_bytes\":0, \"in_queue\":0, \"in_queue_bytes\":0"
	    ", \"out_queue\":%zu, \"out_queue_bytes\":0}",
	    counters->failures, counters->timeouts, links_of(peer),
	    ejected_at(peer, now_ms), counters->requests,
	    counters->requests - counters->waiting, counters->waiting);
}

/* stats reset sets the number of all to zero, and not that of those who are
   connected. */
static uint64_t
ended_clients(const struct stats *stats)
{
	return stats->total_connections > stats->connections ?
	    stats->total_connections - stats->connections :
	    0;
}

static void
put_pool(struct conn *conn, const struct metrics_source *source, int64_t now_ms)
{
	const struct stats *stats = source->stats;
	size_t i;

	put_piece(conn,
	    "\"magent\": {\"client_eof\":%" PRIu64 ", \"client_err\":%" PRIu64
	    ", \"client_connections\":%u, \"server_ejects\":%" PRIu64
	    ", \"forward_error\":%" PRIu64 ", \"fragments\":0, ",
	    ended_clients(stats), stats->line_errors, stats->connections,
	    pairs_counters(source->pairs)->failovers, stats->no_server_errors);
	for (i = 0; i < pairs_peer_count(source->pairs); i++) {
		if (i > 0)
			put_piece(conn, ",");
		put_server(conn, pairs_peer(source->pairs, i), now_ms);
	}
	put_piece(conn, "}");
}

/* Connections of clients and to servers: all, and those that there are. */
static void
put_connections(struct conn *conn, const struct metrics_source *source)
{
	uint64_t all = source->stats->total_connections;
	uint64_t now = source->stats->connections;
	const struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(source->pairs); i++) {
		peer = pairs_peer(source->pairs, i);
		all += server_counters(peer->server)->connects *
		    server_links(peer->server);
		now += links_of(peer);
	}
	put_piece(conn,
	    ", \"total_connections\":%" PRIu64 ", \"curr_connections\":%" PRIu64
	    ", ",
	    all, now);
}

static void
put_all(struct conn *conn, const struct metrics_source *source, int64_t now_ms)
{
	char host[HOST_MAX] = "";

	gethostname(host, sizeof(host) - 1);
	put_piece(conn, "{\"service\":\"nutcracker\", \"source\":");
	put_string(conn, host);
	put_piece(conn,
	    ", \"version\":\"%s\", \"uptime\":%" PRId64
	    ", \"timestamp\":%" PRId64,
	    MAGENT_VERSION, (now_ms - source->settings->started_ms) / 1000,
	    (int64_t)time(NULL));
	put_connections(conn, source);
	put_pool(conn, source, now_ms);
	put_piece(conn, "}\n");
}

/*
 * Callers
 */

/* Without memory the next tick tries again. */
static void
open_doors(struct twemproxy *twemproxy, bool may_come)
{
	size_t i;

	for (i = 0; i < twemproxy->door_count; i++)
		if (may_come)
			event_add(twemproxy->doors[i], NULL);
		else
			event_del(twemproxy->doors[i]);
}

static void
end_caller(struct caller *caller, bool reset)
{
	assert(caller->twemproxy->caller_count > 0);
	caller->twemproxy->caller_count--;
	LIST_REMOVE(caller, entry);
	conn_close(caller->conn, reset);
	free(caller);
}

/* Nothing needs to be asked: what comes is thrown away. */
static size_t
on_caller_input(void *owner, const char *bytes, size_t n)
{
	(void)owner;
	(void)bytes;
	return n;
}

/* What is unread at a close would take the answer along.  So the end of the
   caller is waited for, too. */
static void
on_caller_ended(void *owner, enum conn_end end)
{
	struct caller *caller = owner;

	if (end == CONN_EOF)
		caller->has_ended = true;
	else if (end == CONN_FINISHED)
		caller->is_told = true;
	if (end == CONN_FAILED || (caller->has_ended && caller->is_told))
		end_caller(caller, false);
}

static const struct conn_handler caller_handler = {
	.input = on_caller_input,
	.ended = on_caller_ended,
};

/* Returns false when out of memory; then fd is still the caller's. */
static bool
answer_caller(struct twemproxy *twemproxy, int fd)
{
	struct caller *caller = calloc(1, sizeof(*caller));
	int64_t now = conn_loop_now(twemproxy->loop);

	if (caller == NULL)
		return false;
	caller->conn = conn_new(twemproxy->loop, CONN_FLUSHED_LAST,
	    &caller_handler, caller);
	if (caller->conn == NULL || !conn_attach(caller->conn, fd)) {
		if (caller->conn != NULL)
			conn_close(caller->conn, true);
		free(caller);
		return false;
	}
	caller->twemproxy = twemproxy;
	caller->since_ms = now;
	LIST_INSERT_HEAD(&twemproxy->callers, caller, entry);
	twemproxy->caller_count++;
	put_all(caller->conn, &twemproxy->source, now);
	conn_finish(caller->conn);
	return true;
}

static void
on_door(evutil_socket_t door, short what, void *arg)
{
	struct twemproxy *twemproxy = arg;
	int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (fd != -1 && !answer_caller(twemproxy, fd))
		close(fd);
	/* If there was no descriptor, the next tick tries again. */
	if (fd == -1 || ++twemproxy->came >= CALLERS_PER_TICK ||
	    twemproxy->caller_count >= CALLERS_MAX)
		open_doors(twemproxy, false);
}

static void
on_callers_tick(evutil_socket_t fd, short what, void *arg)
{
	struct twemproxy *twemproxy = arg;
	int64_t now = conn_loop_now(twemproxy->loop);
	struct caller *caller, *next;

	(void)fd;
	(void)what;
	for (caller = LIST_FIRST(&twemproxy->callers); caller != NULL;
	     caller = next) {
		next = LIST_NEXT(caller, entry);
		if (now - caller->since_ms >= CALLER_MS)
			end_caller(caller, true);
	}
	twemproxy->came = 0;
	if (twemproxy->caller_count < CALLERS_MAX)
		open_doors(twemproxy, true);
}

/*
 * Life
 */

static bool
start_twemproxy(struct twemproxy *twemproxy, const struct sockets *sockets)
{
	struct event_base *base = conn_loop_base(twemproxy->loop);
	struct timeval every = { .tv_usec = TICK_MS * 1000 };
	struct event *door;
	size_t i;

	twemproxy->doors = calloc(sockets_count(sockets), sizeof(door));
	twemproxy->tick = event_new(base, -1, EV_PERSIST, on_callers_tick,
	    twemproxy);
	if (twemproxy->doors == NULL || twemproxy->tick == NULL)
		return false;
	for (i = 0; i < sockets_count(sockets); i++) {
		door = event_new(base, sockets_fd(sockets, i),
		    EV_READ | EV_PERSIST, on_door, twemproxy);
		if (door == NULL)
			return false;
		twemproxy->doors[twemproxy->door_count++] = door;
		if (event_add(door, NULL) == -1)
			return false;
	}
	return event_add(twemproxy->tick, &every) == 0;
}

struct twemproxy *
twemproxy_new(struct conn_loop *loop, const struct sockets *sockets,
    const struct metrics_source *source)
{
	struct twemproxy *twemproxy = calloc(1, sizeof(*twemproxy));

	assert(sockets_count(sockets) > 0);
	if (twemproxy == NULL)
		return NULL;
	twemproxy->loop = loop;
	twemproxy->source = *source;
	if (start_twemproxy(twemproxy, sockets))
		return twemproxy;
	twemproxy_free(twemproxy);
	return NULL;
}

void
twemproxy_free(struct twemproxy *twemproxy)
{
	if (twemproxy == NULL)
		return;
	while (!LIST_EMPTY(&twemproxy->callers))
		end_caller(LIST_FIRST(&twemproxy->callers), false);
	while (twemproxy->door_count > 0)
		event_free(twemproxy->doors[--twemproxy->door_count]);
	free(twemproxy->doors);
	if (twemproxy->tick != NULL)
		event_free(twemproxy->tick);
	free(twemproxy);
}
