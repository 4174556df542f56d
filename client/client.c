/*
 * The connections from applications.
 *
 * Invariant: the requests of a client are in its FIFO in the order in which
 * they came, and replies are written from its head only.  A client that may
 * not begin another request is paused: nothing is read from it.
 *
 *   input -> proto_request -> [ request request request ] -> output
 *                               ^head: written when it is ready
 */

#include "client/client.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "block.h"
#include "client/budget.h"
#include "client/local.h"
#include "client/request.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "log.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "proto.h"

enum {
	WINDOW_FIRST = 2,       /* requests of a client in flight: at first, */
	WINDOW_STEP = 2,        /* more with each reply, */
	WINDOW_MAX = 512,       /* and at most; fewer if its replies are */
	WINDOW_BYTES = 2 << 20, /* large, or its requests */
	INPUT_LARGE = 64 << 10, /* held by a message that is not whole yet */
	SMALL_BYTES = 16 << 10, /* output, or a reply */
	STUCK_SECONDS = 30,     /* a client that takes none of its output, */
	SHORT_SECONDS = 2,      /* and in a shortage */
	LINGER_SECONDS = 2,     /* for a client to close after we did */
	BINARY_HEADER = 24,
};

struct client {
	TAILQ_ENTRY(client) entry;
	struct clients *clients;
	struct conn *conn;
	uint64_t number; /* in the log */
	STAILQ_HEAD(, request) requests;
	struct request *last; /* of them, while there is one */
	unsigned int count;   /* of them */
	size_t cost;          /* bytes of them */
	unsigned int window;
	size_t reply_size; /* of late, bytes */
	uint64_t swallow;  /* input to throw away */
	bool eof;          /* sends nothing more */
	bool closing;      /* no input is looked at any more */
	bool finished;     /* all output is sent, waits for EOF */
	bool paused;
	struct gate_waiter gate_waiter;            /* for the end of a rest */
	struct budget_waiter memory_waiter;        /* for memory */
	uint64_t received, queued, progress_bytes; /* as last seen */
	unsigned int idle_seconds; /* seconds in which nothing moved */
};

TAILQ_HEAD(client_list, client);

struct clients {
	struct conn_loop *loop;
	struct pairs *pairs;
	struct stats *stats;
	struct local local;
	struct clients_settings settings;
	struct request_env env;
	struct client_list list;
	uint64_t number;
	bool stopping;
	struct event *tick;
};

static void resume(struct client *client);

/* What the log calls it; valid until the next call. */
static const char *
client_name(const struct client *client)
{
	static char name[32 + CONN_NAME_MAX];
	char peer[CONN_NAME_MAX];

	conn_remote_name(client->conn, peer);
	snprintf(name, sizeof(name), "c#%llu %s",
	    (unsigned long long)client->number, peer);
	return name;
}

/*
 * Ending
 */

static void
client_close(struct client *client)
{
	struct clients *clients = client->clients;
	struct request *request;

	log_debug("c#%llu: gone", (unsigned long long)client->number);
	while ((request = STAILQ_FIRST(&client->requests)) != NULL) {
		STAILQ_REMOVE_HEAD(&client->requests, entry);
		request_free(request);
	}
	gate_wait_cancel(pairs_gate(clients->pairs), &client->gate_waiter);
	budget_cancel(clients->env.budget, &client->memory_waiter);
	conn_close(client->conn, false);
	TAILQ_REMOVE(&clients->list, client, entry);
	clients->stats->connections--;
	free(client);
}

/* No more requests: close when all replies are written. */
static void
client_end(struct client *client)
{
	client->closing = true;
	if (STAILQ_EMPTY(&client->requests))
		conn_finish(client->conn);
}

/*
 * Replies
 */

static void
count_written(struct client *client)
{
	uint64_t queued = conn_queued(client->conn);
	size_t size = (size_t)(queued - client->queued);

	client->clients->stats->bytes_written += size;
	client->queued = queued;
	if (size > client->reply_size)
		client->reply_size = size;
	else
		client->reply_size -= (client->reply_size - size) / 8;
}

static void
pop_request(struct client *client)
{
	struct request *request = STAILQ_FIRST(&client->requests);

	assert(client->count > 0 && client->cost >= request->cost);
	STAILQ_REMOVE_HEAD(&client->requests, entry);
	client->count--;
	client->cost -= request->cost;
	if (client->window < WINDOW_MAX)
		client->window += WINDOW_STEP;
	request_free(request);
}

static void
push_request(struct client *client, struct request *request)
{
	assert(request->owner == client && !client->closing);
	STAILQ_INSERT_TAIL(&client->requests, request, entry);
	client->last = request;
	client->count++;
	client->cost += request->cost;
}

/* What a client that may begin something else would begin. */
static enum budget_need
what_next(const struct client *client)
{
	const struct request *first = STAILQ_FIRST(&client->requests);

	if (first != NULL && request_is_paused(first))
		return BUDGET_ROUND;
	return first != NULL || client->reply_size > SMALL_BYTES ||
		conn_backlog(client->conn) > SMALL_BYTES ?
	    BUDGET_LARGE :
	    BUDGET_SMALL;
}

/* Whether there is memory for that; if not it waits. */
static bool
admit_or_wait(struct client *client)
{
	enum budget_need need;

	if (budget_is_ample(client->clients->env.budget))
		return true;
	need = what_next(client);
	if (!client->memory_waiter.waiting) {
		client->memory_waiter.own_bytes =
		    conn_input_memory(client->conn);
		if (need == BUDGET_ROUND)
			client->memory_waiter.own_bytes += client->cost;
	}
	return budget_admit_or_wait(client->clients->env.budget,
	    &client->memory_waiter, need);
}

/* Whether a new request, or the next round of a get, may begin now.  If not,
   resume() is called when that may have changed. */
static bool
may_begin_or_wait(struct client *client)
{
	struct gate *gate = pairs_gate(client->clients->pairs);

	if (conn_backlog(client->conn) > CONN_HIGH)
		return false;
	if (gate_is_closed(gate)) {
		if (!client->gate_waiter.waiting)
			gate_wait(gate, &client->gate_waiter);
		return false;
	}
	return admit_or_wait(client);
}

/* Write what is ready, in order. */
static void
deliver(struct client *client)
{
	struct request *request;

	while ((request = STAILQ_FIRST(&client->requests)) != NULL) {
		if (request_is_ready(request)) {
			if (request_write(request, client->conn))
				pop_request(client);
			count_written(client);
		} else if (request_is_paused(request) &&
		    may_begin_or_wait(client)) {
			budget_admitted(client->clients->env.budget,
			    &client->memory_waiter);
			request_continue(request);
		} else {
			break;
		}
	}
	if (request == NULL && client->closing)
		conn_finish(client->conn);
}

static void
on_answered(struct request *request)
{
	struct client *client = request->owner;
	struct clients *clients = client->clients;

	assert(client != NULL && client->count > 0);
	if (request != STAILQ_FIRST(&client->requests))
		return;
	deliver(client);
	if (client->paused)
		resume(client);
	budget_wake(clients->env.budget);
}

/* Reply to a command that takes no server. */
static void
reply(struct client *client, const char *text, const char *more)
{
	struct request *request;
	char line[256];
	int n;

	if (STAILQ_EMPTY(&client->requests)) {
		conn_write(client->conn, text, strlen(text));
		conn_write(client->conn, more, strlen(more));
		count_written(client);
		return;
	}
	request = request_new(&client->clients->env, client);
	if (request == NULL) {
		client_end(client);
		return;
	}
	push_request(client, request);
	n = snprintf(line, sizeof(line), "%s%s", text, more);
	assert(n >= 0 && (size_t)n < sizeof(line));
	request_finish(request, line, (size_t)n);
}

/*
 * Commands
 */

/* A command about no key. */
static void
answer(struct client *client, const struct proto_request *r, const char *bytes)
{
	struct clients *clients = client->clients;
	struct request *request = request_new(&clients->env, client);

	if (request == NULL) {
		reply(client, "SERVER_ERROR out of memory", "\r\n");
		return;
	}
	push_request(client, request);
	local_answer(&clients->local, request, r, bytes);
}

/* A command about keys. */
static void
start_request(struct client *client, const struct proto_request *r,
    const char *bytes)
{
	struct request *request = request_start(&client->clients->env, client,
	    client->conn, r, bytes);

	if (request == NULL) {
		client->clients->stats->memory_errors++;
		if (!r->noreply)
			reply(client, "SERVER_ERROR out of memory", "\r\n");
		return;
	}
	push_request(client, request);
	if (request_is_ready(request))
		deliver(client);
}

/* memcached drops the old value when set and ms are too large. */
static bool
drops_value(const struct proto_request *r)
{
	return r->too_large &&
	    (r->command == PROTO_SET || r->command == PROTO_MS);
}

static void
handle(struct client *client, const struct proto_request *r, const char *bytes)
{
	if (r->error != NULL && !drops_value(r)) {
		if (!r->noreply)
			reply(client, r->error, "\r\n");
		return;
	}
	switch (r->command) {
	case PROTO_MN:
		reply(client, "MN", "\r\n");
		break;
	case PROTO_VERBOSITY:
		if (!r->noreply)
			reply(client, "OK", "\r\n");
		break;
	case PROTO_VERSION:
	case PROTO_FLUSH_ALL:
	case PROTO_STATS:
		answer(client, r, bytes);
		break;
	case PROTO_QUIT:
		client_end(client);
		break;
	default:
		start_request(client, r, bytes);
	}
}

/*
 * Input
 */

/* How many bytes the requests of a client, and their replies, may take: at
   most its share of half of the memory. */
static size_t
share(const struct clients *clients)
{
	size_t bytes = budget_share(clients->env.budget,
	    clients->stats->connections);

	return bytes < WINDOW_BYTES ? bytes : WINDOW_BYTES;
}

/* Whether the client may not begin another request now. */
static bool
is_full(const struct client *client)
{
	size_t bytes;

	if (client->count == 0)
		return false;
	bytes = share(client->clients);
	/* What follows must not overtake a get whose keys are asked for in
	   rounds. */
	return client->count >= client->window || client->cost > bytes ||
	    (client->count - 1) * client->reply_size > bytes ||
	    !request_is_sent(client->last);
}

/* The answer of the binary protocol to a command that is not known. */
static void
reply_binary(struct client *client, const char *bytes, size_t n)
{
	static const char text[] =
	    "magent: binary protocol not supported, "
	    "set memcached.sess_binary_protocol=0";
	char header[BINARY_HEADER] = {
		[0] = '\x81',
		[7] = '\x81',
		[11] = sizeof(text) - 1,
	};

	if (n > 1)
		header[1] = bytes[1]; /* the opcode */
	if (n >= BINARY_HEADER)
		memcpy(header + 12, bytes + 12, 4); /* the opaque */
	conn_write(client->conn, header, sizeof(header));
	conn_write(client->conn, text, sizeof(text) - 1);
}

/* What has come is no message. */
static void
reject(struct client *client, enum proto_status status, const char *bytes,
    size_t n)
{
	if (status == PROTO_TOO_LONG) {
		log_info("%s: closed, sends a line without end",
		    client_name(client));
		reply(client, "CLIENT_ERROR line too long", "\r\n");
	} else if (bytes[0] == '\x80') {
		log_info("%s: closed, speaks the binary protocol",
		    client_name(client));
		/* Behind replies in text it would mean nothing. */
		if (STAILQ_EMPTY(&client->requests))
			reply_binary(client, bytes, n);
	} else {
		log_info("%s: closed, speaks no memcached",
		    client_name(client));
	}
	client_end(client);
}

/* A message is not whole yet: say how much there will be, or give it up. */
static size_t
await_rest(struct client *client, const struct proto_request *r, size_t n)
{
	struct clients *clients = client->clients;
	bool is_short = n > INPUT_LARGE && budget_is_short(clients->env.budget);

	if (is_short && r->length == 0) {
		clients->stats->memory_errors++;
		reply(client, "SERVER_ERROR out of memory reading request",
		    "\r\n");
		client_end(client);
		return n;
	}
	if (is_short && r->length > INPUT_LARGE) {
		clients->stats->memory_errors++;
		if (!r->noreply)
			reply(client,
			    "SERVER_ERROR out of memory storing object",
			    "\r\n");
		assert(r->length > n);
		client->swallow = r->length - n;
		return n;
	}
	if (r->length > 0)
		conn_want(client->conn, r->length);
	return 0;
}

/* Deal with the message at the start of n bytes.  Returns its length, or 0 if
   it is not whole. */
static size_t
take_message(struct client *client, const char *bytes, size_t n)
{
	struct proto_request r;
	enum proto_status status = proto_request(bytes, n,
	    client->clients->settings.value_max, &r);

	if (status == PROTO_MORE)
		return await_rest(client, &r, n);
	if (status != PROTO_OK) {
		reject(client, status, bytes, n);
		return n;
	}
	client->swallow = r.swallow;
	handle(client, &r, bytes);
	return r.length;
}

/* Throw away what is to be swallowed of n bytes.  Returns how many. */
static size_t
swallow(struct client *client, size_t n)
{
	assert(client->swallow > 0);
	if (n > client->swallow)
		n = (size_t)client->swallow;
	client->swallow -= n;
	return n;
}

static size_t
on_client_input(void *owner, const char *bytes, size_t n)
{
	struct client *client = owner;
	uint64_t received = conn_received(client->conn);
	size_t used = 0;
	size_t length;

	client->clients->stats->bytes_read += received - client->received;
	client->received = received;
	while (used < n && !client->closing) {
		if (client->swallow > 0) {
			used += swallow(client, n - used);
			continue;
		}
		if (is_full(client) || !may_begin_or_wait(client)) {
			client->clients->stats->yields++;
			client->paused = true;
			conn_pause(client->conn);
			return used;
		}
		budget_admitted(client->clients->env.budget,
		    &client->memory_waiter);
		length = take_message(client, bytes + used, n - used);
		assert(length <= n - used);
		if (length == 0)
			return used;
		used += length;
	}
	return client->closing ? n : used;
}

/* Something that the client may have waited for has happened. */
static void
resume(struct client *client)
{
	if (!client->paused || is_full(client) || !may_begin_or_wait(client))
		return;
	client->paused = false;
	conn_resume(client->conn);
}

static void
on_output_drained(void *owner)
{
	deliver(owner);
	resume(owner);
}

static void
on_open(struct gate_waiter *waiter)
{
	on_output_drained(CONTAINER_OF(waiter, struct client, gate_waiter));
}

static void
on_memory(struct budget_waiter *waiter)
{
	on_output_drained(CONTAINER_OF(waiter, struct client, memory_waiter));
}

static void
on_client_ended(void *owner, enum conn_end end)
{
	struct client *client = owner;

	switch (end) {
	case CONN_EOF:
		assert(!client->eof);
		client->eof = true;
		if (client->finished)
			client_close(client);
		else
			client_end(client);
		break;
	case CONN_FINISHED:
		assert(client->closing && STAILQ_EMPTY(&client->requests));
		client->finished = true;
		client->idle_seconds = 0;
		if (client->eof || client->clients->stopping)
			client_close(client);
		break;
	case CONN_FAILED:
		client_close(client);
		break;
	}
}

static const struct conn_handler client_conn_handler = {
	.input = on_client_input,
	.drained = on_output_drained,
	.ended = on_client_ended,
};

/*
 * Time
 */

/* Whether it holds much of a command that is not whole, or that nobody but
   the lack of memory keeps from being begun. */
static bool
holds_input(const struct client *client)
{
	return conn_input_bytes(client->conn) > INPUT_LARGE &&
	    client->count == 0 && conn_backlog(client->conn) == 0;
}

/* See whether a client takes its output, and goes on with its input. */
static void
check_progress(struct client *client)
{
	bool is_short = budget_is_short(client->clients->env.budget);
	bool input = holds_input(client);
	uint64_t progress_bytes = input ?
	    conn_received(client->conn) :
	    conn_sent(client->conn);

	if (progress_bytes != client->progress_bytes ||
	    (!client->finished && !input && conn_backlog(client->conn) == 0))
		client->idle_seconds = 0;
	else
		client->idle_seconds++;
	client->progress_bytes = progress_bytes;
	if (client->finished && client->idle_seconds >= LINGER_SECONDS) {
		client_close(client);
	} else if (input && is_short && client->idle_seconds >= SHORT_SECONDS) {
		log_info("%s: closed, has sent no more of a command for %u s",
		    client_name(client), client->idle_seconds);
		client_close(client);
	} else if (!input &&
	    (client->idle_seconds >= STUCK_SECONDS ||
		(client->idle_seconds >= SHORT_SECONDS && is_short))) {
		log_info("%s: closed, has read nothing for %u s",
		    client_name(client), client->idle_seconds);
		client_close(client);
	}
}

static void
on_clients_tick(evutil_socket_t fd, short what, void *arg)
{
	struct clients *clients = arg;
	struct client *client, *next;

	(void)fd;
	(void)what;
	for (client = TAILQ_FIRST(&clients->list); client != NULL;
	     client = next) {
		next = TAILQ_NEXT(client, entry);
		check_progress(client);
	}
}

/*
 * Life
 */

struct clients *
clients_new(struct conn_loop *loop, struct pairs *pairs, struct stats *stats,
    const struct stats_settings *stats_settings,
    const struct clients_settings *settings)
{
	struct event_base *base = conn_loop_base(loop);
	struct clients *clients = calloc(1, sizeof(*clients));
	struct timeval second = { .tv_sec = 1 };

	if (clients == NULL)
		return NULL;
	clients->loop = loop;
	clients->pairs = pairs;
	clients->stats = stats;
	clients->local = (struct local){
		.loop = loop,
		.env = &clients->env,
		.settings = stats_settings,
		.refuse_flush = settings->refuse_flush,
	};
	clients->settings = *settings;
	clients->env.pairs = pairs;
	clients->env.stats = stats;
	clients->env.links = settings->links;
	clients->env.error_on_down = settings->error_on_down;
	clients->env.budget = budget_new(base, settings->memory_limit,
	    settings->value_max);
	clients->env.answered = on_answered;
	TAILQ_INIT(&clients->list);
	clients->tick = event_new(base, -1, EV_PERSIST, on_clients_tick,
	    clients);
	if (clients->tick == NULL || clients->env.budget == NULL ||
	    event_add(clients->tick, &second) == -1) {
		clients_free(clients);
		return NULL;
	}
	return clients;
}

static void
refuse_client(struct clients *clients, int fd)
{
	static const char sorry[] = "ERROR Too many open connections\r\n";

	clients->stats->rejected_connections++;
	log_warning("more than %u clients: refused one", clients->settings.max);
	(void)!send(fd, sorry, sizeof(sorry) - 1, MSG_NOSIGNAL);
	close(fd);
}

void
clients_accept(struct clients *clients, int fd)
{
	struct client *client;

	assert(fd != -1 && !clients->stopping);
	if (clients->stats->connections >= clients->settings.max) {
		refuse_client(clients, fd);
		return;
	}
	clients->stats->total_connections++;
	client = calloc(1, sizeof(*client));
	if (client == NULL) {
		close(fd);
		return;
	}
	client->conn = conn_new(clients->loop, CONN_FLUSHED_LAST,
	    &client_conn_handler, client);
	if (client->conn == NULL || !conn_attach(client->conn, fd)) {
		if (client->conn != NULL)
			conn_close(client->conn, false);
		free(client);
		close(fd);
		return;
	}
	client->clients = clients;
	client->number = ++clients->number;
	log_debug("%s: connected, %u clients now", client_name(client),
	    clients->stats->connections + 1);
	client->window = WINDOW_FIRST;
	client->gate_waiter.wake = on_open;
	client->memory_waiter.wake = on_memory;
	STAILQ_INIT(&client->requests);
	TAILQ_INSERT_TAIL(&clients->list, client, entry);
	clients->stats->connections++;
}

void
clients_stop(struct clients *clients)
{
	struct client *client, *next;

	clients->stopping = true;
	for (client = TAILQ_FIRST(&clients->list); client != NULL;
	     client = next) {
		next = TAILQ_NEXT(client, entry);
		client_end(client);
	}
}

size_t
clients_count(const struct clients *clients)
{
	return clients->stats->connections;
}

void
clients_free(struct clients *clients)
{
	assert(TAILQ_EMPTY(&clients->list));
	if (clients->tick != NULL)
		event_free(clients->tick);
	budget_free(clients->env.budget);
	free(clients);
}
