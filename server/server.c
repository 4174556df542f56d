/*
 * One memcached.
 *
 *             server_start()       first bytes
 *      DOWN ---------------> CONNECTING ---> CONNECTED
 *       ^      or the timer       |              |
 *       '-------------------------'--------------'
 *                     server_fail()
 *
 * Invariant: the links of a server are opened together and closed together, and
 * exactly while it is DOWN none is open.  The first one connects alone.  The
 * others connect when the owner knows who the server is, so no call on them is
 * carried out before that.  While a call has no answer, the timer is set.  A
 * server that is held is DOWN, and has no timer.
 */

#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "conn.h"
#include "container_of.h"
#include "histogram.h"
#include "log.h"
#include "server/address.h"
#include "server/endpoint.h"
#include "server/zombie.h"

enum {
	/* The wait before a new connect, ms, after the first failure. */
	RETRY_FIRST_MS = 100,
	/* The longest wait before a new connect, ms. */
	RETRY_MAX_MS = 5000,
	/* The least time that a connection may take. */
	CONNECT_MIN_MS = 250,
	/* Otherwise it may take so many times as long as the last one. */
	CONNECT_FACTOR = 4,
	/* Between two lookups of a name while a server is urgent. */
	LOOKUP_PAUSE_MS = 1000,
	/* A wait is longer or shorter by up to this many percent. */
	RETRY_JITTER = 20,
	/* Time between two probes of an idle link. */
	PROBE_SECONDS = 1,
	/* If a timer fires so many ms too late, this process was held up. */
	LATE_MS = 20,
	/* Suspects that are returned while returns are held: so many are tried
	   at a time. */
	SUSPECTS_MAX = 16,
	/* So many times settings.timeout_ms is the age that is allowed to a
	   server that nobody can replace. */
	AGE_FACTOR = 4,
};

static_assert(RETRY_FIRST_MS <= RETRY_MAX_MS && RETRY_JITTER < 100,
    "a wait is within its limits and not negative");

enum server_state {
	SERVER_DOWN,       /* waits for server_start(), or for the timer */
	SERVER_CONNECTING, /* no bytes have arrived */
	SERVER_CONNECTED,  /* bytes have arrived */
};

/* A version command, to see whether an idle link still works. */
struct probe {
	struct call call;
	bool is_waiting; /* for its reply */
	/* What link_queued() was at the last tick, and at the one before. */
	uint64_t queued, queued_before;
};

struct server {
	struct conn_loop *loop;        /* borrowed */
	const struct address *address; /* borrowed */
	struct server_settings settings;
	const struct server_handler *handler;
	void *owner;
	enum server_state state;
	struct link **links;  /* owned: settings.links of them */
	struct probe *probes; /* owned: one per link */
	/* DOWN: connect again.  With a fail_reason: fail.  Otherwise: look
	   whether a reply is overdue. */
	struct event *timer;
	bool timer_is_set;
	int64_t timer_due; /* when it was to fire, by conn_loop_now() */
	/* Our own delay was already allowed for since the last reply. */
	bool delay_allowed;
	bool is_irreplaceable; /* see server_set_irreplaceable() */
	bool is_urgent;        /* see server_set_urgent() */
	bool is_asked;         /* see server_set_asked() */
	bool is_held;          /* see server_hold() */
	/* When server_start() began to connect, and a name was looked up. */
	int64_t started_ms, looked_up_ms;
	/* How long the last connection took until it was heard of; -1: there
	   was none. */
	int64_t connect_ms;
	struct event *tick;          /* probes idle links; set unless DOWN */
	unsigned int retry_ms;       /* the wait before the next connect */
	struct endpoints *endpoints; /* owned */
	const char *fail_reason; /* NULL: the timer is not to fail the server */
	/* server_attach_links() was called for this connection. */
	bool is_in_use;
	struct log_trouble trouble; /* why it does not come into use */

	struct zombies *zombies; /* owned */
	/* It has failed, and was only asked who it is since then: nothing that
	   was sent on its links matters. */
	bool is_questioned;

	/* The calls that are to be returned.  None, unless DOWN. */
	struct call_list returned;
	unsigned int return_holds; /* see server_hold_returns() */
	struct link *diverted;     /* see server_divert(); NULL: none */

	struct server_counters counters;
	struct histogram reply_times;
};

static void set_server_timer(struct server *server, int64_t ms);
static void fail_soon(struct server *server, const char *why);

static const char *
server_name(const struct server *server)
{
	return server->address->name;
}

struct endpoints *
server_endpoints(const struct server *server)
{
	return server->endpoints;
}

void
server_set_counters(struct server *server,
    const struct server_counters *counters)
{
	size_t waiting = server->counters.waiting;

	server->counters = *counters;
	server->counters.waiting = waiting;
}

struct histogram *
server_reply_times(struct server *server)
{
	return &server->reply_times;
}

const struct server_counters *
server_counters(struct server *server)
{
	const struct call *call;
	unsigned int i;

	server->counters.waiting = 0;
	for (i = 0; i < server->settings.links; i++)
		server->counters.waiting += link_waiting(server->links[i]);
	TAILQ_FOREACH(call, &server->returned, entry)
		server->counters.waiting++;
	return &server->counters;
}

struct link *
server_new_link(struct server *server, const struct link_handler *handler,
    void *owner)
{
	return link_new(server->loop, server->settings.value_max,
	    &server->reply_times, handler, owner);
}

struct event_base *
server_event_base(const struct server *server)
{
	return conn_loop_base(server->loop);
}

/*
 * Failing
 */

/* A random time near ms, so that not all proxies connect at once. */
static unsigned int
jittered(unsigned int ms)
{
	unsigned int span = ms * 2 * RETRY_JITTER / 100;

	return ms - span / 2 + (span ? (unsigned int)random() % span : 0);
}

/* The wait before the next connect. */
static unsigned int
retry_wait(struct server *server)
{
	int64_t took = conn_loop_now(server->loop) - server->started_ms;
	unsigned int wait = jittered(server->is_urgent ? RETRY_FIRST_MS :
							 server->retry_ms);

	if (server->is_urgent)
		return took < wait ? wait - (unsigned int)took : 0;
	server->retry_ms *= 2;
	if (server->retry_ms > RETRY_MAX_MS)
		server->retry_ms = RETRY_MAX_MS;
	return wait;
}

/* Close all links, and append their calls to *calls, in their order.  What was
   sent on them may still be carried out. */
static void
close_links(struct server *server, struct call_list *calls)
{
	struct link *link;
	unsigned int i;
	int fd;

	for (i = 0; i < server->settings.links; i++) {
		link = server->links[i];
		fd = server->is_questioned ? -1 : link_take_socket(link);
		if (fd != -1)
			zombies_add(server->zombies, fd);
		link_close(link, calls);
	}
	server->is_questioned = true;
}

struct zombies *
server_zombies(const struct server *server)
{
	return server->zombies;
}

/* As far as they are not held. */
void
server_return_calls(struct server *server)
{
	struct call *call;

	while ((call = TAILQ_FIRST(&server->returned)) != NULL &&
	    (server->return_holds == 0 ||
		(call->is_suspect && server->return_holds < SUSPECTS_MAX))) {
		assert(call->done != NULL && server->state == SERVER_DOWN);
		TAILQ_REMOVE(&server->returned, call, entry);
		call->done(call, NULL);
	}
}

void
server_hold_returns(struct server *server)
{
	assert(server->state == SERVER_DOWN);
	server->return_holds++;
}

void
server_release_returns(struct server *server)
{
	assert(server->return_holds > 0);
	server->return_holds--;
	server_return_calls(server);
}

/* A server that cannot be used is tried again and again: its reason is told
   once. */
static void
log_failure(struct server *server, const char *why)
{
	if (server->is_in_use)
		log_warning("s %s: %s", server_name(server), why);
	else if (log_is_due(&server->trouble, why))
		log_warning("s %s: cannot be used: %s", server_name(server),
		    why);
	else
		log_debug("s %s: %s, next try in about %u ms",
		    server_name(server), why, server->retry_ms);
}

void
server_go_down(struct server *server, const char *why)
{
	if (server->state == SERVER_DOWN)
		return;
	assert(TAILQ_EMPTY(&server->returned) && server->return_holds == 0);
	if (server->state == SERVER_CONNECTED && !server->is_held)
		server->counters.failures++;
	if (!server->is_held)
		log_failure(server, why);
	server->is_in_use = false;
	close_links(server, &server->returned);
	server->state = SERVER_DOWN;
	server->fail_reason = NULL;
	event_del(server->tick);
	if (!server->is_held)
		set_server_timer(server, retry_wait(server));
	server->handler->failed(server->owner);
}

void
server_fail(struct server *server, const char *why)
{
	if (server->state == SERVER_DOWN)
		return;
	server_go_down(server, why);
	server_return_calls(server);
}

void
server_steady(struct server *server)
{
	server->retry_ms = RETRY_FIRST_MS;
}

/*
 * Connecting
 */

/* What the host of a server has not acknowledged in time is given up, also when
   this process is stopped: it would come when the network is back, and another
   magent may have brought the server further by then.  Returns fd. */
static int
limit_age(const struct server *server, int fd)
{
	unsigned int ms = (unsigned int)server->settings.timeout_ms;

	if (fd != -1)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	return fd;
}

/* Connect the first link to the next endpoint.  Returns false, and errno, if
   there is none that a connection can be begun to. */
static bool
try_next_endpoint(struct server *server)
{
	return link_attach(server->links[0],
	    limit_age(server, endpoints_connect_next(server->endpoints)));
}

static void
on_heard(void *owner)
{
	struct server *server = owner;

	assert(server->state != SERVER_DOWN);
	if (server->state == SERVER_CONNECTING)
		server->connect_ms = conn_loop_now(server->loop) -
		    server->started_ms;
	server->state = SERVER_CONNECTED;
	server->delay_allowed = false;
}

static void
on_link_failed(void *owner, const char *why)
{
	struct server *server = owner;

	assert(server->state != SERVER_DOWN);
	if (server->state != SERVER_CONNECTING ||
	    link_has_sent(server->links[0]) || !try_next_endpoint(server))
		server_fail(server, why);
}

static const struct link_handler on_link = {
	.heard = on_heard,
	.failed = on_link_failed,
};

int
server_dial(struct server *server)
{
	assert(server->state == SERVER_CONNECTED);
	return limit_age(server, endpoints_connect_again(server->endpoints));
}

void
server_attach_links(struct server *server)
{
	unsigned int i;

	assert(server->state == SERVER_CONNECTED);
	server->is_questioned = false;
	server->counters.connects++;
	server->is_in_use = true;
	log_trouble_over(&server->trouble);
	for (i = 1; i < server->settings.links; i++) {
		assert(!link_is_attached(server->links[i]));
		if (!link_attach(server->links[i], server_dial(server)))
			fail_soon(server, strerror(errno));
	}
}

/* The first endpoints of a host name are known. */
static void
on_endpoints_found(void *owner)
{
	struct server *server = owner;

	if (server->is_held)
		return;
	if (server->state == SERVER_DOWN)
		set_server_timer(server, 0);
	else if (server->state == SERVER_CONNECTING &&
	    !try_next_endpoint(server))
		fail_soon(server, strerror(errno));
}

static bool
open_links(struct server *server)
{
	unsigned int i;

	for (i = 0; i < server->settings.links; i++)
		if (!link_open(server->links[i]))
			return false;
	return true;
}

/* A name of an urgent server is not looked up each time. */
static void
look_up(struct server *server)
{
	int64_t now = conn_loop_now(server->loop);

	if (server->is_urgent && server->looked_up_ms != 0 &&
	    now - server->looked_up_ms < LOOKUP_PAUSE_MS)
		return;
	server->looked_up_ms = now;
	endpoints_look_up(server->endpoints);
}

void
server_start(struct server *server)
{
	struct call_list none = TAILQ_HEAD_INITIALIZER(none);
	struct timeval second = { .tv_sec = PROBE_SECONDS };

	assert(server->state == SERVER_DOWN && server->fail_reason == NULL);
	assert(!server->is_held);
	assert(!server->timer_is_set && TAILQ_EMPTY(&server->returned));
	if (!open_links(server)) {
		close_links(server, &none);
		set_server_timer(server, jittered(server->retry_ms));
		server->handler->failed(server->owner);
		return;
	}
	server->state = SERVER_CONNECTING;
	server->started_ms = conn_loop_now(server->loop);
	event_add(server->tick, &second);
	server->handler->connecting(server->owner);
	/* A name whose endpoints are known is looked up again for the next
	   connect. */
	if (endpoints_rewind(server->endpoints) && !try_next_endpoint(server))
		fail_soon(server, strerror(errno));
	look_up(server);
}

/*
 * Time
 */

static void
set_server_timer(struct server *server, int64_t ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000,
		.tv_usec = ms % 1000 * 1000,
	};

	assert(ms >= 0);
	server->timer_is_set = true;
	server->timer_due = conn_loop_now(server->loop) + ms;
	event_add(server->timer, &wait);
}

static void
stop_server_timer(struct server *server)
{
	server->timer_is_set = false;
	event_del(server->timer);
}

/* Fail, but not before the present function has returned to the loop.  why must
   stay valid. */
static void
fail_soon(struct server *server, const char *why)
{
	assert(server->state != SERVER_DOWN);
	server->fail_reason = why;
	set_server_timer(server, 0);
}

int64_t
server_now(const struct server *server)
{
	return conn_loop_now(server->loop);
}

unsigned int
server_age_limit(const struct server *server)
{
	unsigned int limit = server->settings.timeout_ms;

	if (server->state == SERVER_CONNECTED && server->is_irreplaceable)
		limit *= AGE_FACTOR;
	return limit;
}

/*
 * The age at which calls are given up that wait for a connection.  If the first
 * packet of one is lost, the kernel repeats it after a second only.  So, while
 * the server is urgent, another one is tried instead; but not if connections
 * need their time.
 */
static int64_t
connect_limit(const struct server *server)
{
	int64_t limit = server_age_limit(server);
	int64_t usual = server->connect_ms * CONNECT_FACTOR;

	if (!server->is_urgent || server->state != SERVER_CONNECTING ||
	    server->connect_ms == -1 || link_has_sent(server->links[0]))
		return limit;
	if (usual < CONNECT_MIN_MS)
		usual = CONNECT_MIN_MS;
	return usual < limit ? usual : limit;
}

/* The milliseconds until the server may be too old, but not more than the
   timeout; 0: it is too old; -1: no call waits. */
static int64_t
time_left(const struct server *server)
{
	int64_t limit = connect_limit(server);
	int64_t left, least = server->settings.timeout_ms;
	bool is_idle = true;
	unsigned int i;

	assert(server->state != SERVER_DOWN);
	for (i = 0; i < server->settings.links; i++) {
		if (link_is_idle(server->links[i]))
			continue;
		is_idle = false;
		left = limit - link_age(server->links[i]);
		if (left < least)
			least = left;
	}
	if (is_idle)
		return -1;
	return least > 0 ? least : 0;
}

/* This process was held up for ms, in which it could read no replies. */
static void
excuse_links(struct server *server, int64_t ms)
{
	unsigned int i;

	for (i = 0; i < server->settings.links; i++)
		link_excuse(server->links[i], ms);
}

void
server_set_irreplaceable(struct server *server, bool is_irreplaceable)
{
	server->is_irreplaceable = is_irreplaceable;
}

void
server_set_urgent(struct server *server, bool is_urgent)
{
	int64_t wait;

	if (server->is_urgent == is_urgent)
		return;
	server->is_urgent = is_urgent;
	if (!is_urgent || !server->timer_is_set ||
	    server->state == SERVER_CONNECTED || server->fail_reason != NULL)
		return;
	/* What the timer waits for is due earlier. */
	wait = server->state == SERVER_DOWN ?
	    jittered(RETRY_FIRST_MS) :
	    time_left(server);
	if (wait >= 0 && conn_loop_now(server->loop) + wait < server->timer_due)
		set_server_timer(server, wait);
}

void
server_connect_now(struct server *server)
{
	if (server->state == SERVER_DOWN && server->timer_is_set &&
	    server->return_holds == 0)
		set_server_timer(server, 0);
}

void
server_hold(struct server *server)
{
	assert(!server->is_held);
	server->is_held = true;
	stop_server_timer(server);
	/* It is no failure of the server, so there is no reason to be told. */
	server_fail(server, NULL);
}

void
server_let_in(struct server *server)
{
	if (!server->is_held)
		return;
	assert(server->state == SERVER_DOWN && !server->timer_is_set);
	server->is_held = false;
	server_steady(server);
	set_server_timer(server, 0);
}

bool
server_is_held(const struct server *server)
{
	return server->is_held;
}

void
server_hurry(struct server *server)
{
	int64_t wait = server->timer_due - conn_loop_now(server->loop);

	if (wait > RETRY_FIRST_MS * (100 + RETRY_JITTER) / 100)
		server_connect_now(server);
}

bool
server_is_connecting(const struct server *server)
{
	return server->state == SERVER_CONNECTING ||
	    (server->state == SERVER_DOWN && server->timer_is_set &&
		server->timer_due <= conn_loop_now(server->loop));
}

static void
give_up(struct server *server)
{
	bool is_connecting = server->state == SERVER_CONNECTING;

	server->counters.timeouts++;
	if (is_connecting)
		endpoints_skip(server->endpoints);
	server_fail(server,
	    is_connecting ? "no connection in time" : "no reply in time");
}

static void
on_server_timer(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	int64_t late = conn_loop_now(server->loop) - server->timer_due;
	int64_t left;

	(void)fd;
	(void)what;
	assert(server->timer_is_set);
	server->timer_is_set = false;
	if (server->return_holds > 0) {
		set_server_timer(server, RETRY_FIRST_MS);
		return;
	}
	if (server->state == SERVER_DOWN) {
		server_start(server);
		return;
	}
	if (server->fail_reason != NULL) {
		server_fail(server, server->fail_reason);
		return;
	}
	if (late >= LATE_MS && !server->delay_allowed) {
		server->delay_allowed = true;
		excuse_links(server, late);
	}
	left = time_left(server);
	if (left == 0)
		give_up(server);
	else if (left > 0)
		set_server_timer(server, left);
}

static void
on_probe(struct call *call, const struct answer *answer)
{
	struct probe *probe = CONTAINER_OF(call, struct probe, call);

	(void)answer;
	assert(probe->is_waiting);
	probe->is_waiting = false;
}

static void
send_probe(struct server *server, unsigned int i)
{
	static const char version[] = "version\r\n";
	struct probe *probe = &server->probes[i];

	probe->is_waiting = true;
	probe->call.expect = PROTO_EXPECT_VERSION;
	probe->call.done = on_probe;
	probe->call.element = NULL;
	server_submit(server, i, &probe->call, version, sizeof(version) - 1,
	    NULL, 0, NULL);
}

/* Whether the owner has asked it something, instead of a probe.  Its ticks and
   ours may change places. */
static bool
owner_has_asked(const struct server *server, unsigned int i)
{
	return server->is_asked && i == 0 &&
	    server->probes[i].queued_before != link_queued(server->links[i]);
}

/* Send a probe on each link that is idle. */
static void
on_probe_tick(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	const struct link *link;
	unsigned int i;

	(void)fd;
	(void)what;
	assert(server->state != SERVER_DOWN);
	for (i = 0; i < server->settings.links; i++) {
		link = server->links[i];
		if (link_is_attached(link) && !server->probes[i].is_waiting &&
		    link_is_idle(link) && !owner_has_asked(server, i))
			send_probe(server, i);
		server->probes[i].queued_before = server->probes[i].queued;
		server->probes[i].queued = link_queued(link);
	}
}

/*
 * Calls
 */

unsigned int
server_links(const struct server *server)
{
	return server->settings.links;
}

void
server_set_asked(struct server *server)
{
	server->is_asked = true;
}

void
server_divert(struct server *server, struct link *link)
{
	assert(server->diverted == NULL);
	server->diverted = link;
}

static __attribute__((noinline)) struct link *
take_diverted(struct server *server)
{
	struct link *link = server->diverted;

	server->counters.requests++;
	server->diverted = NULL;
	return link;
}

/* The link for one more call with this hash.  Sets the timer for its reply. */
static struct link *
link_for(struct server *server, uint32_t hash)
{
	struct link *link = server->links[hash % server->settings.links];

	assert(server->state != SERVER_DOWN);
	if (server->diverted != NULL)
		return take_diverted(server);
	server->counters.requests++;
	if (!server->timer_is_set)
		set_server_timer(server, server->settings.timeout_ms);
	return link;
}

void
server_submit(struct server *server, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	link_submit(link_for(server, hash), call, line, line_length, data,
	    length, block);
}

void
server_get(struct server *server, uint32_t hash, struct call *call,
    const char *key, size_t length)
{
	link_get(link_for(server, hash), call, key, length);
}

/*
 * Life
 */

static bool
make_links(struct server *server)
{
	unsigned int i;

	if (server->links == NULL)
		return false;
	for (i = 0; i < server->settings.links; i++) {
		server->links[i] = link_new(server->loop,
		    server->settings.value_max, &server->reply_times, &on_link,
		    server);
		if (server->links[i] == NULL)
			return false;
	}
	return true;
}

/* Close and free all links, also if not all of them were made. */
static void
free_links(struct server *server)
{
	struct call_list calls = TAILQ_HEAD_INITIALIZER(calls);
	unsigned int i;

	for (i = 0; server->links != NULL && i < server->settings.links; i++) {
		if (server->links[i] == NULL)
			continue;
		link_close(server->links[i], &calls);
		link_free(server->links[i]);
	}
	free(server->links);
}

struct server *
server_new(struct conn_loop *loop, struct resolver *resolver,
    const struct address *address, const struct server_settings *settings,
    const struct server_handler *handler, void *owner)
{
	struct event_base *base = conn_loop_base(loop);
	struct server *server = calloc(1, sizeof(*server));

	assert(settings->links > 0 && settings->timeout_ms > 0);
	assert(handler->connecting != NULL && handler->failed != NULL);
	if (server == NULL)
		return NULL;
	server->loop = loop;
	server->address = address;
	server->settings = *settings;
	server->handler = handler;
	server->owner = owner;
	server->retry_ms = RETRY_FIRST_MS;
	server->connect_ms = -1;
	TAILQ_INIT(&server->returned);
	server->timer = event_new(base, -1, 0, on_server_timer, server);
	server->tick = event_new(base, -1, EV_PERSIST, on_probe_tick, server);
	server->zombies = zombies_new(base);
	server->links = calloc(settings->links, sizeof(*server->links));
	server->probes = calloc(settings->links, sizeof(*server->probes));
	server->endpoints = endpoints_new(resolver, address, on_endpoints_found,
	    server);
	if (server->timer == NULL || server->tick == NULL ||
	    server->zombies == NULL || server->probes == NULL ||
	    server->endpoints == NULL || !make_links(server)) {
		server_free(server);
		return NULL;
	}
	return server;
}

void
server_free(struct server *server)
{
	free_links(server);
	zombies_free(server->zombies);
	endpoints_free(server->endpoints);
	if (server->timer != NULL)
		event_free(server->timer);
	if (server->tick != NULL)
		event_free(server->tick);
	free(server->probes);
	free(server);
}
