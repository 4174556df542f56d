/*
 * The connection to one memcached.
 *
 * Invariant: every call that was submitted is on the FIFO of its link until
 * its done() runs, and replies arrive in the order of that FIFO.
 *
 *   server_submit -> [ call call call ] -> done()
 *                      ^first: the next bytes that arrive are its reply
 *
 * The links of a server live and die together.  The first one connects alone;
 * the others follow when mirror.c knows who the server is, so that nothing is
 * answered before that.
 */

#include "server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "address.h"
#include "block.h"
#include "conn.h"
#include "log.h"
#include "place.h"

enum {
	RETRY_FIRST_MS = 100,
	RETRY_MAX_MS = 5000,
	RETRY_JITTER = 20,		/* percent, both ways */
	PROBE_SECONDS = 1,
	LATE_MS = 20,			/* for a timer of ours */
	WAITING_MAX = 250000,		/* calls; who is so slow is down */
	OLD_PORTS_MAX = 128		/* of ended connections */
};

enum server_state {
	SERVER_DOWN,			/* waits to connect again */
	SERVER_CONNECTING,		/* nothing was heard yet */
	SERVER_CONNECTED
};

TAILQ_HEAD(call_list, call);

struct link {
	struct server *server;
	struct conn *conn;		/* NULL while the server is down */
	bool attached;			/* it has got a socket */
	struct call_list calls;		/* unanswered, oldest first */
	size_t scanned;			/* of the first one's reply: bytes in
					   elements that were seen */
	struct call probe;
	bool probing;
};

struct server {
	struct conn_loop *loop;
	const struct address *address;
	struct server_settings settings;
	const struct server_news *news;
	void *owner;
	enum server_state state;
	struct link *links;
	struct event *timer;		/* reply overdue; or connect again */
	bool timer_set;
	int64_t timer_due;		/* when it was to fire */
	bool excused;			/* once since the last reply */
	struct event *tick;		/* probes */
	unsigned int retry_ms;		/* the wait before the next connect */

	struct places *places;
	const char *doomed;		/* why the timer is to fail it */

	uint16_t old_ports[OLD_PORTS_MAX];
	size_t old_port_count;

	struct server_counters counters;
};

static void set_timer(struct server *server, int64_t ms);
static void fail_later(struct server *server, const char *why);

static const char *
server_name(const struct server *server)
{
	return server->address->name;
}

const struct server_counters *
server_counters(const struct server *server)
{
	return &server->counters;
}

struct block *
answer_keep(const struct answer *answer, const char *at, size_t n,
    size_t *offset)
{
	return conn_keep(answer->conn, at, n, offset);
}

/*
 * Failing
 */

static unsigned int
jittered(unsigned int ms)
{
	unsigned int span = ms * 2 * RETRY_JITTER / 100;

	return ms - span / 2 + (span ? (unsigned int)random() % span : 0);
}

/* Remember the port of a connection that ends. */
static void
note_port(struct server *server, const struct conn *conn)
{
	unsigned int port = conn_local_port(conn);

	if (port == 0 || conn_sent(conn) == 0)
		return;
	if (server->old_port_count == OLD_PORTS_MAX) {
		server->old_port_count--;
		memmove(server->old_ports, server->old_ports + 1,
		    server->old_port_count * sizeof(server->old_ports[0]));
	}
	server->old_ports[server->old_port_count++] = (uint16_t)port;
}

size_t
server_old_ports(const struct server *server, const uint16_t **ports)
{
	*ports = server->old_ports;
	return server->old_port_count;
}

void
server_forget_ports(struct server *server)
{
	server->old_port_count = 0;
}

/* Close all links; move their calls, in order, to *calls. */
static void
close_links(struct server *server, struct call_list *calls)
{
	struct link *link;
	unsigned int i;

	for (i = 0; i < server->settings.links; i++) {
		link = &server->links[i];
		if (link->conn != NULL) {
			note_port(server, link->conn);
			conn_close(link->conn, true);
		}
		link->conn = NULL;
		link->attached = false;
		link->scanned = 0;
		TAILQ_CONCAT(calls, &link->calls, entry);
	}
}

void
server_fail(struct server *server, const char *why)
{
	struct call_list calls = TAILQ_HEAD_INITIALIZER(calls);
	struct call *call;

	if (server->state == SERVER_DOWN)
		return;
	if (server->state == SERVER_CONNECTED) {
		server->counters.failures++;
		log_warning("s %s: %s", server_name(server), why);
	} else {
		log_debug("s %s: %s, next try in about %u ms",
		    server_name(server), why, server->retry_ms);
	}
	close_links(server, &calls);
	server->state = SERVER_DOWN;
	server->doomed = NULL;
	event_del(server->tick);
	set_timer(server, jittered(server->retry_ms));
	server->retry_ms *= 2;
	if (server->retry_ms > RETRY_MAX_MS)
		server->retry_ms = RETRY_MAX_MS;
	server->news->failed(server->owner);
	while ((call = TAILQ_FIRST(&calls)) != NULL) {
		TAILQ_REMOVE(&calls, call, entry);
		server->counters.waiting--;
		call->done(call, NULL);
	}
	assert(server->counters.waiting == 0);
}

void
server_steady(struct server *server)
{
	server->retry_ms = RETRY_FIRST_MS;
}

/*
 * Replies
 */

/* Whether the call may have been answered already.  An error may come while
   its data is still being sent, but not before its line was. */
static bool
was_asked(const struct link *link, const struct call *call,
    enum proto_result result)
{
	uint64_t sent = conn_sent(link->conn);

	if (result == PROTO_SERVER_ERROR || result == PROTO_CLIENT_ERROR)
		return sent > call->begin;
	return sent >= call->end;
}

/*
 * Read on in the reply to the first call.  Returns the length of the reply
 * when it is whole; 0 when more bytes are needed or the server has failed.
 */
static size_t
read_reply(struct link *link, const char *bytes, size_t n,
    struct answer *answer)
{
	struct server *server = link->server;
	struct call *call = TAILQ_FIRST(&link->calls);
	struct proto_reply *last = &answer->last;
	enum proto_status status;

	assert(call != NULL);
	for (;;) {
		assert(link->scanned <= n);
		answer->last_at = link->scanned;
		status = proto_reply(bytes + link->scanned, n - link->scanned,
		    call->expect, server->settings.value_max, last);
		if (status == PROTO_MORE) {
			if (last->length > 0)
				conn_want(link->conn,
				    link->scanned + last->length);
			return 0;
		}
		if (status != PROTO_OK ||
		    !was_asked(link, call, last->result)) {
			server_fail(server, "sent an impossible reply");
			return 0;
		}
		link->scanned += last->length;
		if (last->result != PROTO_VALUE && last->result != PROTO_STAT)
			return link->scanned;
		if (call->element != NULL && !call->element(call, last,
		    bytes, answer->last_at)) {
			server_fail(server, "sent what was not asked for");
			return 0;
		}
		call->since = conn_loop_now(server->loop);
	}
}

/* The first call is answered: take it off and tell its owner. */
static void
finish_call(struct link *link, const struct answer *answer)
{
	struct call *call = TAILQ_FIRST(&link->calls);
	struct call *next = TAILQ_NEXT(call, entry);

	assert(link->server->counters.waiting > 0);
	TAILQ_REMOVE(&link->calls, call, entry);
	link->scanned = 0;
	link->server->excused = false;
	link->server->counters.waiting--;
	if (next != NULL)
		next->since = conn_loop_now(link->server->loop);
	call->done(call, answer);
}

static size_t
on_input(void *owner, const char *bytes, size_t n)
{
	struct link *link = owner;
	struct conn *conn = link->conn;
	struct answer answer = { .conn = conn };
	size_t used = 0;

	link->server->state = SERVER_CONNECTED;
	while (link->conn == conn && used < n) {
		if (TAILQ_EMPTY(&link->calls)) {
			server_fail(link->server, "spoke without being asked");
			break;
		}
		answer.length = read_reply(link, bytes + used, n - used,
		    &answer);
		if (answer.length == 0)
			break;
		answer.bytes = bytes + used;
		used += answer.length;
		assert(used <= n);
		finish_call(link, &answer);
	}
	return used;
}

/*
 * Connecting
 */

static bool try_next_place(struct server *server);

static void
on_ended(void *owner, enum conn_end end)
{
	struct link *link = owner;
	struct server *server = link->server;
	int error = conn_error(link->conn);

	if (end == CONN_EOF) {
		server_fail(server, "closed the connection");
		return;
	}
	if (server->state != SERVER_CONNECTING ||
	    conn_sent(link->conn) > 0 || !try_next_place(server))
		server_fail(server, strerror(error));
}

static const struct conn_handler handler = {
	.input = on_input, .ended = on_ended
};

int
server_dial(struct server *server)
{
	assert(server->state == SERVER_CONNECTED);
	return places_connect_again(server->places);
}

/* Give a link its socket.  Returns false, and errno, if there is none. */
static bool
attach(struct link *link, int fd)
{
	if (fd == -1)
		return false;
	link->attached = conn_attach(link->conn, fd);
	if (link->attached)
		return true;
	close(fd);
	errno = ENOMEM;
	return false;
}

/* Connect the first link to the next of the server's places. */
static bool
try_next_place(struct server *server)
{
	return attach(&server->links[0],
	    places_connect_next(server->places));
}

void
server_attach_links(struct server *server)
{
	unsigned int i;

	assert(server->state == SERVER_CONNECTED);
	server->counters.connects++;
	for (i = 1; i < server->settings.links; i++)
		if (!attach(&server->links[i],
		    places_connect_again(server->places)))
			fail_later(server, strerror(errno));
}

/* A name has got its addresses. */
static void
on_found(void *owner)
{
	struct server *server = owner;

	if (server->state == SERVER_CONNECTING && !try_next_place(server))
		fail_later(server, strerror(errno));
}

/* Give every link a conn, without a socket yet. */
static bool
open_links(struct server *server)
{
	struct link *link;
	unsigned int i;

	for (i = 0; i < server->settings.links; i++) {
		link = &server->links[i];
		assert(link->conn == NULL && TAILQ_EMPTY(&link->calls));
		link->conn = conn_new(server->loop, CONN_FIRST, &handler, link);
		if (link->conn == NULL)
			return false;
	}
	return true;
}

void
server_start(struct server *server)
{
	struct call_list none = TAILQ_HEAD_INITIALIZER(none);
	struct timeval second = { .tv_sec = PROBE_SECONDS };

	assert(server->state == SERVER_DOWN);
	if (!open_links(server)) {
		close_links(server, &none);
		set_timer(server, jittered(server->retry_ms));
		return;
	}
	server->state = SERVER_CONNECTING;
	event_add(server->tick, &second);
	server->news->connecting(server->owner);
	/* A name that is known is looked up again for the next time. */
	if (places_rewind(server->places) && !try_next_place(server))
		fail_later(server, strerror(errno));
	places_look_up(server->places);
}

/*
 * Time
 */

static void
set_timer(struct server *server, int64_t ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000
	};

	assert(ms >= 0);
	server->timer_set = true;
	server->timer_due = conn_loop_now(server->loop) + ms;
	event_add(server->timer, &wait);
}

/* Fail, but not from inside the caller. */
static void
fail_later(struct server *server, const char *why)
{
	assert(server->state != SERVER_DOWN);
	server->doomed = why;
	set_timer(server, 0);
}

/* How long until the first call of some link is overdue; 0: it is. */
static int64_t
time_left(const struct server *server, bool *waiting)
{
	int64_t now = conn_loop_now(server->loop);
	int64_t least = server->settings.timeout_ms;
	int64_t left;
	const struct call *call;
	unsigned int i;

	*waiting = false;
	for (i = 0; i < server->settings.links; i++) {
		call = TAILQ_FIRST(&server->links[i].calls);
		if (call == NULL)
			continue;
		*waiting = true;
		left = call->since + server->settings.timeout_ms - now;
		if (left < least)
			least = left;
	}
	return least > 0 ? least : 0;
}

/* We ourselves were held up for ms: that time does not count. */
static void
excuse(struct server *server, int64_t ms)
{
	struct call *call;
	unsigned int i;

	for (i = 0; i < server->settings.links; i++) {
		call = TAILQ_FIRST(&server->links[i].calls);
		if (call != NULL)
			call->since += ms;
	}
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	int64_t late = conn_loop_now(server->loop) - server->timer_due;
	bool waiting;
	int64_t left;

	(void)fd;
	(void)what;
	server->timer_set = false;
	if (server->state == SERVER_DOWN) {
		server_start(server);
		return;
	}
	if (server->doomed != NULL) {
		server_fail(server, server->doomed);
		return;
	}
	if (late >= LATE_MS && !server->excused) {
		server->excused = true;
		excuse(server, late);
	}
	left = time_left(server, &waiting);
	if (waiting && left == 0) {
		server->counters.timeouts++;
		server_fail(server, server->state == SERVER_CONNECTING ?
		    "no connection in time" : "no reply in time");
	} else if (waiting) {
		set_timer(server, left);
	}
}

static void
on_probe(struct call *call, const struct answer *answer)
{
	struct link *link = (struct link *)((char *)call -
	    offsetof(struct link, probe));

	(void)answer;
	link->probing = false;
}

/* Ask an idle link for a sign of life. */
static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	static const char version[] = "version\r\n";
	struct server *server = arg;
	struct link *link;
	unsigned int i;

	(void)fd;
	(void)what;
	for (i = 0; i < server->settings.links; i++) {
		link = &server->links[i];
		if (!link->attached || link->probing ||
		    !TAILQ_EMPTY(&link->calls))
			continue;
		link->probing = true;
		link->probe.expect = PROTO_EXPECT_VERSION;
		link->probe.done = on_probe;
		link->probe.element = NULL;
		server_submit(server, i, &link->probe, version,
		    sizeof(version) - 1, NULL, 0, NULL);
	}
}

/*
 * Calls
 */

void
server_submit(struct server *server, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	struct link *link = &server->links[hash % server->settings.links];

	assert(server->state != SERVER_DOWN && link->conn != NULL);
	assert(line_length > 2 && line[line_length - 1] == '\n');
	call->begin = conn_queued(link->conn);
	conn_write(link->conn, line, line_length);
	if (length > 0)
		conn_write_block(link->conn, block, data, length);
	call->end = conn_queued(link->conn);
	/* Otherwise its time begins when the one before it is answered. */
	if (TAILQ_EMPTY(&link->calls))
		call->since = conn_loop_now(server->loop);
	TAILQ_INSERT_TAIL(&link->calls, call, entry);
	server->counters.requests++;
	if (++server->counters.waiting > WAITING_MAX && server->doomed == NULL)
		fail_later(server, "is too far behind");
	if (!server->timer_set)
		set_timer(server, server->settings.timeout_ms);
}

/*
 * Life
 */

struct server *
server_new(struct conn_loop *loop, struct evdns_base *dns,
    const struct address *address, const struct server_settings *settings,
    const struct server_news *news, void *owner)
{
	struct event_base *base = conn_loop_base(loop);
	struct server *server = calloc(1, sizeof(*server));
	unsigned int i;

	if (server == NULL)
		return NULL;
	server->loop = loop;
	server->address = address;
	server->settings = *settings;
	server->news = news;
	server->owner = owner;
	server->retry_ms = RETRY_FIRST_MS;
	server->timer = event_new(base, -1, 0, on_timer, server);
	server->tick = event_new(base, -1, EV_PERSIST, on_tick, server);
	server->links = calloc(settings->links, sizeof(*server->links));
	server->places = places_new(dns, address, on_found, server);
	if (server->timer == NULL || server->tick == NULL ||
	    server->links == NULL || server->places == NULL) {
		server_free(server);
		return NULL;
	}
	for (i = 0; i < settings->links; i++) {
		server->links[i].server = server;
		TAILQ_INIT(&server->links[i].calls);
	}
	return server;
}

void
server_free(struct server *server)
{
	struct call_list calls = TAILQ_HEAD_INITIALIZER(calls);

	if (server->links != NULL)
		close_links(server, &calls);
	places_free(server->places);
	if (server->timer != NULL)
		event_free(server->timer);
	if (server->tick != NULL)
		event_free(server->tick);
	free(server->links);
	free(server);
}
