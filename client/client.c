/*
 * One connection from an application.
 *
 *   input -> proto_request -> [ request request request ] -> output
 *                               ^head: written when it is ready
 *
 * Invariant: the requests of a client are in its FIFO in the order in which
 * they came, and replies are written from its head only.  A client that may
 * not begin another request is paused, and then something is on its way that
 * will wake it: a request in flight, a backlog, the gate or the budget.
 *
 * In each turn of the loop the output of servers is written before that of
 * clients (see CONN_FLUSHED_LAST below).  So when a client reads the reply to a
 * write, the effect of that write has been handed to the mirror's socket, ahead
 * of any later read that fails over to the mirror.  If that socket is full, the
 * effect waits in the mirror's FIFO, where a later read queues behind it.
 */

#include "client/client.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "carry.h"
#include "client/admin.h"
#include "client/budget.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "hot_assert.h"
#include "log.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "pool.h"
#include "proto.h"

enum {
	/* The window of a new client: its requests in flight. */
	WINDOW_FIRST = 2,
	/* The window grows by this number with each reply. */
	WINDOW_STEP = 2,
	/* The window does not grow beyond this. */
	WINDOW_MAX = 512,
	/* Bytes of requests and replies that close the window. */
	WINDOW_BYTES = 2 << 20,
	/* When so much of a message has come, there may be room for all. */
	ROOM_MIN = 16 << 10,
	/* A reply, or a backlog, is small up to this. */
	SMALL_BYTES = 16 << 10,
	/* A client that takes none of its output for this long is closed. */
	STUCK_SECONDS = 30,
	/* While memory is short, a client is closed that has not taken its part
	   of its output for this long: all of it divided by SHORT_PART. */
	SHORT_SECONDS = 2,
	SHORT_PART = 4,
	/* A client has this long to close after we have sent the end. */
	LINGER_SECONDS = 2,
	/* Bytes of the header of a message of the binary protocol. */
	BINARY_HEADER = 24,
};

static_assert((WINDOW_MAX - WINDOW_FIRST) % WINDOW_STEP == 0,
    "the window grows up to WINDOW_MAX, and not beyond");
static_assert((int)SMALL_BYTES < (int)CONN_HIGH,
    "a backlog that is small is not high");

struct client {
	TAILQ_ENTRY(client) entry; /* of env->list */
	struct client_env *env;    /* borrowed */
	struct conn *conn;         /* owned */
	uint64_t number;           /* in the log: c#NUMBER */

	STAILQ_HEAD(, request) requests; /* in flight, the oldest first */
	struct request *last; /* the youngest request; valid if count > 0 */
	unsigned int count;   /* requests in flight */
	size_t cost;          /* bytes of memory of these requests */
	unsigned int window;  /* requests that may be in flight */
	size_t reply_size;    /* bytes of a reply, judged by recent ones */

	uint64_t swallow; /* bytes of input to throw away */
	bool has_ended;   /* its side of the connection is closed */
	bool is_closing;  /* no input is looked at any more */
	bool is_finished; /* all output is sent; it is to close its side */
	bool has_steps;   /* some request may be in steps: see request.h */
	struct gate_waiter gate_waiter;     /* waits for the gate to open */
	struct budget_waiter memory_waiter; /* waits for memory */
	struct unfinished unfinished; /* the command at the end of its input */

	uint64_t received; /* conn_received(), as counted in the stats */
	uint64_t queued;   /* conn_queued(), as counted in the stats */
	int64_t heard_ms;  /* when something came from it last */

	/* Those that are watched only: */
	TAILQ_ENTRY(client) watched_entry; /* of env->watched */
	bool is_watched;
	uint64_t sent; /* conn_sent() a second ago */
	uint64_t goal; /* of conn_sent(), at which its part is taken */
	unsigned int idle_seconds; /* in which it took nothing */
	unsigned int slow_seconds; /* in which it did not reach the goal */
};

static struct pool all_clients = POOL_APART(struct client);

static void resume(struct client *client);

static struct stats *
stats_of(const struct client *client)
{
	return client->env->requests.stats;
}

static struct budget *
budget_of(const struct client *client)
{
	return client->env->requests.budget;
}

static struct gate *
gate_of(const struct client *client)
{
	return pairs_gate(client->env->requests.pairs);
}

/* What the log calls it; valid until the next call. */
static const char *
client_name(const struct client *client)
{
	static char name[32 + CONN_NAME_MAX];
	char remote[CONN_NAME_MAX];

	conn_remote_name(client->conn, remote);
	snprintf(name, sizeof(name), "c#%llu %s",
	    (unsigned long long)client->number, remote);
	return name;
}

/*
 * Ending
 */

/* Look at the client each second until it has nothing to take. */
static void
watch(struct client *client)
{
	if (client->is_watched)
		return;
	client->is_watched = true;
	client->sent = conn_sent(client->conn);
	client->goal = client->sent + 1;
	client->idle_seconds = client->slow_seconds = 0;
	TAILQ_INSERT_TAIL(&client->env->watched, client, watched_entry);
}

static void
unwatch(struct client *client)
{
	if (!client->is_watched)
		return;
	client->is_watched = false;
	TAILQ_REMOVE(&client->env->watched, client, watched_entry);
}

static void
close_client(struct client *client)
{
	struct request *request;

	log_debug("c#%llu: gone", (unsigned long long)client->number);
	while ((request = STAILQ_FIRST(&client->requests)) != NULL) {
		STAILQ_REMOVE_HEAD(&client->requests, entry);
		request_free(request);
	}
	gate_wait_cancel(gate_of(client), &client->gate_waiter);
	budget_cancel(budget_of(client), &client->memory_waiter);
	unfinished_end(&client->env->unfinished, &client->unfinished);
	unwatch(client);
	conn_close(client->conn, false);
	TAILQ_REMOVE(&client->env->list, client, entry);
	assert(stats_of(client)->connections > 0);
	stats_of(client)->connections--;
	pool_give(&all_clients, client);
}

/* Read no more commands: close when all replies are written. */
void
client_stop(struct client *client)
{
	client->is_closing = true;
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

	hot_assert(queued >= client->queued);
	stats_of(client)->bytes_written += size;
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
	hot_assert(client->window <= WINDOW_MAX);
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
	assert(request->owner == client && !client->is_closing);
	hot_assert((client->count == 0) == STAILQ_EMPTY(&client->requests));
	STAILQ_INSERT_TAIL(&client->requests, request, entry);
	client->last = request;
	client->count++;
	client->cost += request->cost;
}

/* What a client that may begin something would begin. */
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

/* Whether there is memory for that.  If not, the client waits for some. */
static bool
admit_or_wait(struct client *client)
{
	enum budget_need need;

	if (budget_is_ample(budget_of(client)))
		return true;
	need = what_next(client);
	if (!client->memory_waiter.waiting) {
		client->memory_waiter.own_bytes =
		    conn_input_memory(client->conn);
		if (need == BUDGET_ROUND)
			client->memory_waiter.own_bytes += client->cost;
	}
	return budget_admit_or_wait(budget_of(client), &client->memory_waiter,
	    need);
}

/* Whether a new request, or the next round of a get, may begin now.  If not,
   resume() is called when that may have changed. */
static bool
may_begin_or_wait(struct client *client)
{
	if (conn_backlog(client->conn) > CONN_HIGH ||
	    client->gate_waiter.waiting)
		return false;
	return admit_or_wait(client);
}

/* The gate holds what the client would begin. */
static void
wait_at_gate(struct client *client)
{
	if (!client->gate_waiter.waiting)
		gate_wait(gate_of(client), &client->gate_waiter);
}

/* Whether the next round of a get may begin now; as may_begin_or_wait(). */
static bool
may_continue_or_wait(struct client *client, const struct request *request)
{
	if (!may_begin_or_wait(client))
		return false;
	if (request_may_continue(request))
		return true;
	wait_at_gate(client);
	return false;
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
		    may_continue_or_wait(client, request)) {
			budget_admitted(budget_of(client),
			    &client->memory_waiter);
			request_continue(request);
		} else {
			break;
		}
	}
	hot_assert((request == NULL) == (client->count == 0));
	if (request == NULL && client->is_closing)
		conn_finish(client->conn);
}

void
client_answered(struct request *request)
{
	struct client *client = request->owner;
	struct budget *budget;

	assert(client != NULL && client->count > 0);
	if (request != STAILQ_FIRST(&client->requests))
		return;
	budget = budget_of(client);
	deliver(client);
	if (conn_is_paused(client->conn))
		resume(client);
	budget_wake(budget);
}

/* Reply with text, then more, to a command for which no server is asked.  The
   reply waits for those of earlier requests. */
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
	request = request_new(&client->env->requests, client);
	if (request == NULL) {
		client_stop(client);
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

/* Carry out a command that is about no key. */
static void
answer(struct client *client, const struct proto_request *r, const char *bytes)
{
	struct request *request = request_new(&client->env->requests, client);

	if (request == NULL) {
		stats_of(client)->memory_errors++;
		if (!r->noreply)
			reply(client, "SERVER_ERROR out of memory", "\r\n");
		return;
	}
	push_request(client, request);
	local_answer(&client->env->local, request, r, bytes);
}

/* Make an error of the message r at the start of n bytes, which is given up: of
   all that has come of a line, or of the line before data, which is thrown
   away. */
static void
turn_into_error(struct proto_request *r, size_t n)
{
	if (r->length == 0) {
		r->command = PROTO_REFUSED;
		r->error = "SERVER_ERROR out of memory reading request";
		r->length = n;
		return;
	}
	assert(r->data.at > 0 && r->data.at <= n);
	r->error = "SERVER_ERROR out of memory storing object";
	r->too_large = true;
	r->swallow = r->length - r->data.at;
	r->length = r->data.at;
	r->data.at = r->data.length = 0;
}

/* request_start(); but if there is no memory for the new value of a set or ms,
   its old one is deleted at least, and the reply is an error.  One call, which
   is inlined. */
static struct request *
start_or_delete(struct client *client, const struct proto_request *r,
    const char *bytes)
{
	struct request_env *env = &client->env->requests;
	struct proto_request deletes;
	struct request *request;

	for (;;) {
		request = request_start(env, client, client->conn, r, bytes);
		if (request != NULL || r->too_large ||
		    (r->command != PROTO_SET && r->command != PROTO_MS))
			return request;
		stats_of(client)->memory_errors++;
		deletes = *r;
		turn_into_error(&deletes, r->length);
		r = &deletes;
	}
}

/* Carry out a command about keys. */
static void
start_request(struct client *client, const struct proto_request *r,
    const char *bytes)
{
	struct request *request = start_or_delete(client, r, bytes);

	if (request == NULL) {
		stats_of(client)->memory_errors++;
		if (!r->noreply)
			reply(client, "SERVER_ERROR out of memory", "\r\n");
		return;
	}
	push_request(client, request);
	if (request_is_ready(request))
		deliver(client);
}

/* A command was started, which may be in steps. */
static void
note_steps(struct client *client)
{
	client->has_steps |= client->count > 0 &&
	    request_is_in_steps(client->last);
}

/* Whether an error is not all: memcached drops the old value of a key when the
   new one of a set or ms is too large. */
static bool
drops_value(const struct proto_request *r)
{
	return r->too_large &&
	    (r->command == PROTO_SET || r->command == PROTO_MS);
}

/* Whether it came by a unix socket: others may be anywhere. */
static bool
is_on_this_host(const struct client *client)
{
	socklen_t length = sizeof(int);
	int family = AF_UNSPEC;

	return getsockopt(conn_socket(client->conn), SOL_SOCKET, SO_DOMAIN,
		   &family, &length) == 0 &&
	    family == AF_UNIX;
}

/* Carry out the command r, or reply with its error. */
static void
handle(struct client *client, const struct proto_request *r, const char *bytes)
{
	if (r->error != NULL && !drops_value(r)) {
		if (admin_is_word(r, bytes) && is_on_this_host(client)) {
			answer(client, r, bytes);
			return;
		}
		stats_count_error(stats_of(client), r);
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
		client_stop(client);
		break;
	default:
		start_request(client, r, bytes);
		if (r->command >= PROTO_MG)
			note_steps(client);
	}
}

/*
 * Input
 */

/* How many bytes the requests of a client, and their replies, may take. */
static size_t
share(const struct client *client)
{
	size_t bytes = budget_share(budget_of(client));

	return bytes < WINDOW_BYTES ? bytes : WINDOW_BYTES;
}

/* Whether the client may not begin another request now. */
static bool
is_full(const struct client *client)
{
	size_t bytes;

	if (client->count == 0)
		return false;
	assert(client->last->owner == client);
	bytes = share(client);
	/* What follows must not overtake a get whose keys are asked for in
	   rounds. */
	return client->count >= client->window || client->cost > bytes ||
	    (client->count - 1) * client->reply_size > bytes ||
	    !request_is_sent(client->last);
}

/* Reply to n bytes of the binary protocol: the command is not known. */
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

	static_assert(sizeof(text) <= INT8_MAX, "its length is one byte");
	if (n > 1)
		header[1] = bytes[1]; /* the opcode */
	if (n >= BINARY_HEADER)
		memcpy(header + 12, bytes + 12, 4); /* the opaque */
	conn_write(client->conn, header, sizeof(header));
	conn_write(client->conn, text, sizeof(text) - 1);
}

/* The n bytes that have come are no message: say so, and close. */
static void
reject(struct client *client, enum proto_status status, const char *bytes,
    size_t n)
{
	assert(n > 0 && (status == PROTO_TOO_LONG || status == PROTO_BAD));
	stats_of(client)->line_errors++;
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
	client_stop(client);
}

static bool
is_given_up(const struct client *client)
{
	return client->unfinished.state == UNFINISHED_LEAVING;
}

/* Whether r is carried out by start_request(). */
static bool
is_about_keys(const struct proto_request *r)
{
	return r->command <= PROTO_ME && r->command != PROTO_MN &&
	    (r->error == NULL || drops_value(r));
}

/* Whether the gate holds the command r. */
static bool
is_held(const struct client *client, const struct proto_request *r,
    const char *bytes)
{
	return gate_holds_anything(gate_of(client)) && is_about_keys(r) &&
	    !request_may_start(&client->env->requests, r, bytes);
}

/* Whether r would overtake a request that is in steps; a flush_all would
   overtake any.  If so, one that is in flight will be answered, and resume()
   called. */
static bool
would_overtake(struct client *client, const struct proto_request *r,
    const char *bytes)
{
	const struct request *request;
	bool is_about = is_about_keys(r);

	client->has_steps = false;
	STAILQ_FOREACH(request, &client->requests, entry) {
		client->has_steps |= request_is_in_steps(request);
		if (is_about && request_would_overtake(request, r, bytes))
			return true;
	}
	return client->has_steps && r->command == PROTO_FLUSH_ALL;
}

/* Give up unfinished commands while memory is short.  Their clients are offered
   what they keep once more, all but reader, which is looking at it. */
static void
relieve(struct client_env *env, const struct client *reader)
{
	struct unfinished *command;
	struct client *client;

	while ((command = unfinished_to_give_up(&env->unfinished,
		    env->requests.budget, conn_loop_now(env->loop))) != NULL) {
		unfinished_give_up(&env->unfinished, command);
		client = CONTAINER_OF(command, struct client, unfinished);
		if (client != reader)
			conn_offer_kept(client->conn);
	}
}

/* Whether resume() will be called: each of these causes calls it at its end. */
static bool
will_resume(const struct client *client)
{
	return client->count > 0 || conn_backlog(client->conn) > CONN_HIGH ||
	    client->gate_waiter.waiting || client->memory_waiter.waiting;
}

/* Read nothing more until resume(). */
static void
pause_client(struct client *client)
{
	stats_of(client)->yields++;
	conn_pause(client->conn);
	assert(will_resume(client));
}

/* The message r at the start of n bytes is given up.  Returns true if it is an
   error to be dealt with now; else r->length bytes are used up. */
static bool
refuse_message(struct client *client, struct proto_request *r, size_t n)
{
	bool is_line = r->length == 0;

	assert(is_given_up(client) && client->swallow == 0);
	turn_into_error(r, n);
	if (!is_line)
		return true;
	stats_of(client)->memory_errors++;
	unfinished_end(&client->env->unfinished, &client->unfinished);
	reply(client, r->error, "\r\n");
	client_stop(client);
	return false;
}

/* Whether there is room for the whole message r, of which n bytes have come,
   from now on.  Who announces much and sends little gets none. */
static bool
is_room_made(const struct client *client, const struct proto_request *r,
    size_t n)
{
	if (r->length <= n)
		return false;
	return client->unfinished.bytes == r->length ||
	    (n >= ROOM_MIN && r->length <= share(client));
}

/* The message r at the start of n bytes is not whole.  Returns as
   refuse_message(). */
static bool
await_message(struct client *client, struct proto_request *r, size_t n)
{
	struct client_env *env = client->env;
	bool at_once = is_room_made(client, r, n);

	assert(r->length == 0 || r->length > n);
	if (!is_given_up(client)) {
		unfinished_note(&env->unfinished, &client->unfinished,
		    at_once ? r->length : n, conn_loop_now(env->loop));
		if (budget_is_short(budget_of(client)))
			relieve(env, client);
	}
	if (is_given_up(client))
		return refuse_message(client, r, n);
	if (r->length > 0)
		conn_want(client->conn, r->length, at_once);
	r->length = 0;
	return false;
}

/* Whether a message that has come, or was given up, may be dealt with now.  If
   not, the client is paused. */
static inline bool
may_handle(struct client *client, const struct proto_request *r,
    const char *bytes)
{
	if (is_given_up(client) ||
	    (!is_full(client) && may_begin_or_wait(client))) {
		if (!is_held(client, r, bytes)) {
			if (!client->has_steps ||
			    !would_overtake(client, r, bytes))
				return true;
		} else {
			wait_at_gate(client);
		}
	}
	pause_client(client);
	return false;
}

/* Deal with the message at the start of n bytes.  Returns its length, or 0 if
   it is not whole, or if it has to wait. */
static size_t
read_message(struct client *client, const char *bytes, size_t n)
{
	struct proto_request r;
	enum proto_status status = proto_request_again(bytes, n,
	    client->unfinished.bytes, client->env->value_max, &r);

	if (status == PROTO_MORE) {
		if (!await_message(client, &r, n))
			return r.length;
	} else if (client->unfinished.bytes > 0) {
		unfinished_end(&client->env->unfinished, &client->unfinished);
	}
	if (status != PROTO_OK && status != PROTO_MORE) {
		reject(client, status, bytes, n);
		return n;
	}
	if (!may_handle(client, &r, bytes))
		return 0;
	budget_admitted(budget_of(client), &client->memory_waiter);
	hot_assert(client->swallow == 0 && r.length > 0 && r.length <= n);
	if (is_given_up(client)) {
		stats_of(client)->memory_errors++;
		unfinished_end(&client->env->unfinished, &client->unfinished);
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

	hot_assert(n > 0 && received >= client->received);
	stats_of(client)->bytes_read += received - client->received;
	client->received = received;
	client->heard_ms = conn_loop_now(client->env->loop);
	while (used < n && !client->is_closing) {
		if (client->swallow > 0) {
			used += swallow(client, n - used);
			continue;
		}
		length = read_message(client, bytes + used, n - used);
		assert(length <= n - used);
		if (length == 0)
			return used;
		used += length;
	}
	if (!client->is_closing)
		return used;
	unfinished_end(&client->env->unfinished, &client->unfinished);
	return n;
}

/* Something that the client may have waited for has happened. */
static void
resume(struct client *client)
{
	if (conn_is_paused(client->conn) &&
	    (is_given_up(client) ?
		    !client->gate_waiter.waiting :
		    !is_full(client) && may_begin_or_wait(client)))
		conn_resume(client->conn);
	assert(!conn_is_paused(client->conn) || will_resume(client));
}

static void
on_output_drained(void *owner)
{
	deliver(owner);
	resume(owner);
}

static void
on_output_blocked(void *owner)
{
	watch(owner);
}

static void
on_gate_opened(struct gate_waiter *waiter)
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
		assert(!client->has_ended);
		client->has_ended = true;
		if (client->is_finished)
			close_client(client);
		else
			client_stop(client);
		break;
	case CONN_FINISHED:
		assert(client->is_closing && STAILQ_EMPTY(&client->requests));
		client->is_finished = true;
		unwatch(client);
		watch(client);
		if (client->has_ended || client->env->are_stopping)
			close_client(client);
		break;
	case CONN_FAILED:
		close_client(client);
		break;
	}
}

static const struct conn_handler client_conn_handler = {
	.input = on_client_input,
	.drained = on_output_drained,
	.blocked = on_output_blocked,
	.ended = on_client_ended,
};

/*
 * Time
 */

/* Count the seconds in which a client takes none of its output, and those in
   which it has not taken its part of what it was owed at the last time that it
   had. */
static void
count_seconds(struct client *client)
{
	uint64_t sent = conn_sent(client->conn);
	size_t backlog = conn_backlog(client->conn);

	client->idle_seconds = sent == client->sent ?
	    client->idle_seconds + 1 :
	    0;
	client->sent = sent;
	client->slow_seconds++;
	if (sent >= client->goal || backlog == 0) {
		client->slow_seconds = 0;
		client->goal = sent + backlog / SHORT_PART + 1;
	}
}

/* Close a client that does not take its output.  One that has nothing to take
   is not looked at any more. */
static void
check_progress(struct client *client)
{
	bool is_short = budget_is_short(budget_of(client));

	if (!client->is_finished && conn_backlog(client->conn) == 0) {
		unwatch(client);
		return;
	}
	count_seconds(client);
	if (client->is_finished) {
		if (client->idle_seconds >= LINGER_SECONDS)
			close_client(client);
	} else if (client->idle_seconds >= STUCK_SECONDS ||
	    (client->slow_seconds >= SHORT_SECONDS && is_short)) {
		log_info("%s: closed, has read %s for %u s",
		    client_name(client),
		    client->idle_seconds > 0 ? "nothing" : "too little",
		    client->slow_seconds);
		close_client(client);
	}
}

/* A client may end while it is looked at, but no other one does. */
void
clients_check_progress(struct client_env *env)
{
	struct client *client, *next;

	for (client = TAILQ_FIRST(&env->watched); client != NULL;
	     client = next) {
		next = TAILQ_NEXT(client, watched_entry);
		check_progress(client);
	}
	relieve(env, NULL);
}

/*
 * Life
 */

/* Of this number; returns as client_new(). */
static struct client *
make_client(struct client_env *env, int fd, uint64_t number)
{
	struct client *client = pool_take(&all_clients);

	assert(fd != -1 && !env->are_stopping);
	if (client == NULL)
		return NULL;
	memset(client, 0, sizeof(*client));
	client->conn = conn_new(env->loop, CONN_FLUSHED_LAST,
	    &client_conn_handler, client);
	if (client->conn == NULL || !conn_attach(client->conn, fd)) {
		if (client->conn != NULL)
			conn_close(client->conn, false);
		pool_give(&all_clients, client);
		return NULL;
	}
	client->env = env;
	client->number = number;
	client->window = WINDOW_FIRST;
	client->heard_ms = conn_loop_now(env->loop);
	client->gate_waiter.wake = on_gate_opened;
	client->memory_waiter.wake = on_memory;
	STAILQ_INIT(&client->requests);
	TAILQ_INSERT_TAIL(&env->list, client, entry);
	stats_of(client)->connections++;
	return client;
}

struct client *
client_new(struct client_env *env, int fd)
{
	struct client *client = make_client(env, fd, env->last_number + 1);

	if (client == NULL)
		return NULL;
	env->last_number = client->number;
	if (log_level() == LOG_LEVEL_DEBUG)
		log_debug("%s: connected, %u clients now", client_name(client),
		    stats_of(client)->connections);
	return client;
}

/*
 * From one program to the next one
 *
 * What is left of a get that waits for its next round becomes a command at the
 * start of the input.
 */

/* The numbers of a line. */
enum {
	CARRIED_SOCKET,
	CARRIED_NUMBER,
	CARRIED_SWALLOW,
	CARRIED_WINDOW,
	CARRIED_REPLY_SIZE,
	CARRIED_HEARD,
	/* The bytes of the line are so many of input, and output. */
	CARRIED_INPUT,
	CARRIED_NUMBERS,
};

enum { INPUT_PARTS = 3 };

bool
client_is_at_rest(const struct client *client)
{
	const struct request *first = STAILQ_FIRST(&client->requests);

	/* Behind the get of one that is closing there can be an error, which
	   it will not get. */
	return first == NULL ||
	    (request_is_paused(first) &&
		(client->count == 1 || client->is_closing));
}

/* Put what is to be its input to parts[]: what it is still to be asked for, and
   has sent.  One that is closing quits when it has got the former. */
static void
list_input(const struct client *client, struct request_text parts[INPUT_PARTS])
{
	static const char quit[] = "quit\r\n";
	const struct request *first = STAILQ_FIRST(&client->requests);
	size_t i;

	for (i = 0; i < INPUT_PARTS; i++)
		parts[i] = (struct request_text){ "", 0 };
	if (first != NULL)
		request_left(first, &parts[0], &parts[1]);
	if (client->is_closing)
		parts[2] = (struct request_text){ quit, strlen(quit) };
	else if (conn_input_bytes(client->conn) > 0)
		parts[2] = (struct request_text){
			conn_input(client->conn),
			conn_input_bytes(client->conn),
		};
}

bool
client_carry(const struct client *client, struct carry *carry)
{
	struct request_text parts[INPUT_PARTS];
	size_t backlog = conn_backlog(client->conn), input = 0, i;
	char *bytes, *end;
	uint64_t numbers[CARRIED_NUMBERS] = {
		[CARRIED_SOCKET] = carry_descriptor(carry,
		    conn_socket(client->conn)),
		[CARRIED_NUMBER] = client->number,
		[CARRIED_SWALLOW] = client->is_closing ? 0 : client->swallow,
		[CARRIED_WINDOW] = client->window,
		[CARRIED_REPLY_SIZE] = client->reply_size,
		[CARRIED_HEARD] = (uint64_t)client->heard_ms,
	};

	assert(client_is_at_rest(client));
	list_input(client, parts);
	for (i = 0; i < INPUT_PARTS; i++)
		input += parts[i].length;
	numbers[CARRIED_INPUT] = input;
	end = bytes = malloc(input + backlog + 1);
	if (bytes == NULL)
		return false;
	for (i = 0; i < INPUT_PARTS; i++)
		end = mempcpy(end, parts[i].bytes, parts[i].length);
	conn_copy_output(client->conn, end);
	carry_add(carry, "client", numbers, CARRIED_NUMBERS, bytes,
	    input + backlog);
	free(bytes);
	return true;
}

bool
client_take(struct client_env *env, const struct carry_line *line)
{
	const uint64_t *numbers = line->numbers;
	size_t input = (size_t)numbers[CARRIED_INPUT];
	int fd = (int)numbers[CARRIED_SOCKET];
	struct client *client = make_client(env, fd, numbers[CARRIED_NUMBER]);

	assert(input <= line->length);
	if (client == NULL)
		return false;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	client->swallow = numbers[CARRIED_SWALLOW];
	if (numbers[CARRIED_WINDOW] >= WINDOW_FIRST &&
	    numbers[CARRIED_WINDOW] <= WINDOW_MAX)
		client->window = (unsigned int)numbers[CARRIED_WINDOW];
	client->reply_size = (size_t)numbers[CARRIED_REPLY_SIZE];
	client->heard_ms = (int64_t)numbers[CARRIED_HEARD];
	conn_write(client->conn, line->bytes + input, line->length - input);
	client->queued = conn_queued(client->conn);
	if (input == 0 || conn_give_input(client->conn, line->bytes, input))
		return true;
	close_client(client);
	return false;
}

struct client *
client_next(struct client *client)
{
	return TAILQ_NEXT(client, entry);
}

/*
 * Reports
 */

static enum client_pause
why_paused(const struct client *client)
{
	if (client->is_closing)
		return CLIENT_CLOSING;
	if (!conn_is_paused(client->conn))
		return CLIENT_READS;
	if (conn_backlog(client->conn) > CONN_HIGH)
		return CLIENT_PAUSED_BACKLOG;
	if (client->gate_waiter.waiting)
		return CLIENT_PAUSED_GATE;
	if (client->memory_waiter.waiting)
		return CLIENT_PAUSED_MEMORY;
	return CLIENT_PAUSED_WINDOW;
}

struct client_report
client_report(const struct client *client)
{
	struct client_report report = {
		.number = client->number,
		.requests = client->count,
		.backlog = conn_backlog(client->conn),
		.input = conn_input_bytes(client->conn),
		.swallows = client->swallow > 0,
		.pause = why_paused(client),
		.idle_ms = conn_loop_now(client->env->loop) - client->heard_ms,
	};

	return report;
}

void
client_names(const struct client *client, char *remote, char *local)
{
	conn_remote_name(client->conn, remote);
	conn_local_name(client->conn, local);
}
