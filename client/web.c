/*
 * Answer HTTP requests about magent itself.
 *
 * evhttp has no limit of connections, nor of the time of one that sends a byte
 * now and then.  So it is given bufferevents that are known here: a visit holds
 * a reference to one, and finds out when evhttp has given it up.
 *
 * Invariant: there are VISITS_MAX visits at most, and none is older than
 * VISIT_MS and a tick.  Of VISITS_PER_TICK that come in one tick, further ones
 * wait in the kernel for the next.  However many ask, each paper is written
 * once in FRESH_MS at most.
 */

#include "client/web.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "client/host.h"
#include "client/metrics.h"
#include "client/report.h"
#include "client/sockets.h"
#include "client/status.h"
#include "conn.h"
#include "log.h"
#include "mirror/pair.h"

enum {
	/* Connections at a time. */
	VISITS_MAX = 16,
	/* The longest time of one. */
	VISIT_MS = 5000,
	/* Connections that are accepted between two ticks. */
	VISITS_PER_TICK = 4,
	TICK_MS = 250,
	/* Bytes of the headers of a request. */
	HEADERS_MAX = 8 << 10,
	/* The metrics, and the status, are written anew after this time.
	   Clients of magent wait meanwhile: for about a millisecond, with 64
	   servers. */
	FRESH_MS = 1000,
	/* Listening sockets that are answered on. */
	SOCKETS_MAX = 64,
	FORBIDDEN = 403, /* for which evhttp has no name */
};

/* One connection. */
struct visit {
	LIST_ENTRY(visit) entry;
	struct web *web;         /* borrowed */
	struct bufferevent *bev; /* a reference, owned */
	int64_t since_ms;
};

/* What is written for all who ask for it within FRESH_MS. */
enum paper { METRICS, METRICS_OPEN, STATUS, PAPERS };

/* One of these, as it was written last. */
struct copy {
	struct evbuffer *text; /* owned */
	int64_t written_ms;    /* 0: never */
};

struct web {
	struct conn_loop *loop; /* borrowed */
	struct metrics_source source;
	struct status *status;                         /* owned */
	struct evhttp *http;                           /* owned */
	struct evconnlistener *listeners[SOCKETS_MAX]; /* those of http */
	size_t listener_count;
	bool is_alone; /* only this machine reaches them */
	LIST_HEAD(, visit) visits;
	unsigned int visit_count, came; /* came: since the last tick */
	struct copy copies[PAPERS];
	struct event *tick; /* owned */
};

/*
 * Visits
 */

static void
let_in(struct web *web, bool may_come)
{
	size_t i;

	for (i = 0; i < web->listener_count; i++)
		if (may_come)
			evconnlistener_enable(web->listeners[i]);
		else
			evconnlistener_disable(web->listeners[i]);
}

static void
end_visit(struct visit *visit)
{
	struct web *web = visit->web;

	assert(web->visit_count > 0);
	web->visit_count--;
	LIST_REMOVE(visit, entry);
	bufferevent_decref(visit->bev);
	free(visit);
}

/* The bufferevent of a connection that has just been accepted.  Without memory
   evhttp makes one itself. */
static struct bufferevent *
on_visit(struct event_base *base, void *arg)
{
	struct web *web = arg;
	struct visit *visit = calloc(1, sizeof(*visit));
	struct bufferevent *bev;

	bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (++web->came >= VISITS_PER_TICK ||
	    web->visit_count + 1 >= VISITS_MAX)
		let_in(web, false);
	if (visit == NULL || bev == NULL) {
		free(visit);
		return bev;
	}
	bufferevent_incref(bev);
	visit->web = web;
	visit->bev = bev;
	visit->since_ms = conn_loop_now(web->loop);
	LIST_INSERT_HEAD(&web->visits, visit, entry);
	web->visit_count++;
	return bev;
}

/* Whether evhttp has given it up. */
static bool
is_over(const struct visit *visit)
{
	bufferevent_data_cb readcb, writecb;
	bufferevent_event_cb eventcb;
	void *arg;

	bufferevent_getcb(visit->bev, &readcb, &writecb, &eventcb, &arg);
	return readcb == NULL && writecb == NULL && eventcb == NULL;
}

static void
on_web_tick(evutil_socket_t fd, short what, void *arg)
{
	struct web *web = arg;
	struct visit *visit, *next;
	int64_t now = conn_loop_now(web->loop);

	(void)fd;
	(void)what;
	for (visit = LIST_FIRST(&web->visits); visit != NULL; visit = next) {
		next = LIST_NEXT(visit, entry);
		if (is_over(visit))
			end_visit(visit);
		else if (now - visit->since_ms >= VISIT_MS)
			/* evhttp notices that. */
			shutdown(bufferevent_getfd(visit->bev), SHUT_RDWR);
	}
	status_tick(web->status, now);
	web->came = 0;
	if (web->visit_count < VISITS_MAX)
		let_in(web, true);
}

/* evhttp gives up a connection that has asked something. */
static void
on_visit_end(struct evhttp_connection *connection, void *arg)
{
	struct web *web = arg;
	struct bufferevent *bev = evhttp_connection_get_bufferevent(connection);
	struct visit *visit;

	LIST_FOREACH(visit, &web->visits, entry)
		if (visit->bev == bev) {
			end_visit(visit);
			return;
		}
}

/* There is no descriptor: the next tick tries again. */
static void
on_accept_error(struct evconnlistener *listener, void *arg)
{
	(void)arg;
	evconnlistener_disable(listener);
}

/*
 * Answers
 */

/* Say that the connection ends with this answer, and send it. */
static void
reply_with(struct evhttp_request *request, int code, const char *reason,
    const char *type, struct evbuffer *body)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "Connection", "close");
	evhttp_send_reply(request, code, reason, body);
}

static void
reply_text(struct evhttp_request *request, int code, const char *reason,
    const char *text)
{
	struct evbuffer *body = evbuffer_new();

	if (body != NULL)
		evbuffer_add_printf(body, "%s\n", text);
	reply_with(request, code, reason, "text/plain; charset=utf-8", body);
	if (body != NULL)
		evbuffer_free(body);
}

/* Follow a request. */
static struct web *
note_request(struct evhttp_request *request, void *arg)
{
	evhttp_connection_set_closecb(evhttp_request_get_connection(request),
	    on_visit_end, arg);
	return arg;
}

/* Returns whether a page of somebody else may read the answer: then that is
   refused.  Where other machines ask, too, any name may be a right one. */
static bool
refuse_host(struct web *web, struct evhttp_request *request)
{
	if (!web->is_alone || host_is_ours(evhttp_request_get_host(request)))
		return false;
	reply_text(request, FORBIDDEN, "Forbidden",
	    "only this machine is answered here, and the name in Host may be "
	    "somebody else's: ask for localhost, an IP address or the name of "
	    "this machine; or let your proxy send one of these as Host");
	return true;
}

static bool
write_paper(struct web *web, enum paper which, struct evbuffer *text)
{
	int64_t now = conn_loop_now(web->loop);

	if (which == STATUS)
		return status_write(web->status, text, now);
	return metrics_write(text, &web->source, now, which == METRICS_OPEN);
}

/* What was written lately; NULL: there is no memory. */
static struct evbuffer *
fresh_copy(struct web *web, enum paper which)
{
	struct copy *copy = &web->copies[which];
	int64_t now = conn_loop_now(web->loop);

	if (copy->written_ms != 0 && now - copy->written_ms < FRESH_MS)
		return copy->text;
	copy->written_ms = 0;
	evbuffer_drain(copy->text, evbuffer_get_length(copy->text));
	if (!write_paper(web, which, copy->text))
		return NULL;
	copy->written_ms = now;
	return copy->text;
}

static void
reply_paper(struct web *web, struct evhttp_request *request, enum paper which)
{
	static const char open_metrics[] =
	    "application/openmetrics-text; version=1.0.0; charset=utf-8";
	static const char *const types[PAPERS] = {
		[METRICS] = "text/plain; version=0.0.4; charset=utf-8",
		[METRICS_OPEN] = open_metrics,
		[STATUS] = "application/json",
	};
	struct evbuffer *text = fresh_copy(web, which);
	struct evbuffer *body = evbuffer_new();

	/* Nothing is copied: all who read it share it. */
	if (text == NULL || body == NULL ||
	    evbuffer_add_buffer_reference(body, text) == -1)
		reply_text(request, HTTP_SERVUNAVAIL, "No memory",
		    "out of memory");
	else
		reply_with(request, HTTP_OK, "OK", types[which], body);
	if (body != NULL)
		evbuffer_free(body);
}

static void
on_metrics(struct evhttp_request *request, void *arg)
{
	struct web *web = note_request(request, arg);
	const char *accepted = evhttp_find_header(
	    evhttp_request_get_input_headers(request), "Accept");
	bool is_open = accepted != NULL &&
	    strstr(accepted, "application/openmetrics-text") != NULL;

	if (!refuse_host(web, request))
		reply_paper(web, request, is_open ? METRICS_OPEN : METRICS);
}

static void
on_status(struct evhttp_request *request, void *arg)
{
	struct web *web = note_request(request, arg);

	if (refuse_host(web, request))
		return;
	status_want(web->status, conn_loop_now(web->loop));
	reply_paper(web, request, STATUS);
}

/* The page; it may load nothing, and show itself in no other one. */
static void
on_page(struct evhttp_request *request, void *arg)
{
	static const char policy[] =
	    "default-src 'none'; script-src 'unsafe-inline'; "
	    "style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
	    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct web *web = note_request(request, arg);
	struct evbuffer *body;

	if (refuse_host(web, request))
		return;
	body = evbuffer_new();
	evhttp_add_header(headers, "Content-Security-Policy", policy);
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
	if (body != NULL)
		evbuffer_add_reference(body, status_page, status_page_bytes,
		    NULL, NULL);
	reply_with(request, HTTP_OK, "OK", "text/html; charset=utf-8", body);
	if (body != NULL)
		evbuffer_free(body);
}

static void
on_health(struct evhttp_request *request, void *arg)
{
	const struct web *web = note_request(request, arg);
	size_t uncovered = pairs_uncovered(web->source.pairs);
	char text[96];

	if (uncovered == 0) {
		reply_text(request, HTTP_OK, "OK",
		    "every key has a server that is up");
		return;
	}
	snprintf(text, sizeof(text),
	    "no server is up for the keys of %zu pairs of servers", uncovered);
	reply_text(request, HTTP_SERVUNAVAIL, "Not healthy", text);
}

static void
on_ready(struct evhttp_request *request, void *arg)
{
	const struct web *web = note_request(request, arg);
	const struct report_settings *settings = web->source.settings;

	if (settings->is_stopping)
		reply_text(request, HTTP_SERVUNAVAIL, "Stopping", "stopping");
	else if (!settings->is_ready)
		reply_text(request, HTTP_SERVUNAVAIL, "Starting", "starting");
	else
		reply_text(request, HTTP_OK, "OK", "ready");
}

static void
on_other(struct evhttp_request *request, void *arg)
{
	note_request(request, arg);
	reply_text(request, HTTP_NOTFOUND, "Not found",
	    "there are /, /status.json, /metrics, /healthz and /readyz");
}

/*
 * Life
 */

/* evhttp closes its socket; ours stays open. */
static bool
serve_on(struct web *web, int fd)
{
	struct evhttp_bound_socket *bound;
	struct evconnlistener *listener;
	int own = dup(fd);

	bound = own == -1 ? NULL :
			    evhttp_accept_socket_with_handle(web->http, own);
	if (bound == NULL) {
		if (own != -1)
			close(own);
		return false;
	}
	evutil_make_socket_closeonexec(own);
	listener = evhttp_bound_socket_get_listener(bound);
	evconnlistener_set_error_cb(listener, on_accept_error);
	web->listeners[web->listener_count++] = listener;
	web->is_alone &= host_is_alone(own);
	return true;
}

static bool
start_web(struct web *web, const struct sockets *sockets)
{
	struct timeval every = { .tv_usec = TICK_MS * 1000 };
	size_t i;

	evhttp_set_bevcb(web->http, on_visit, web);
	evhttp_set_allowed_methods(web->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_max_headers_size(web->http, HEADERS_MAX);
	evhttp_set_max_body_size(web->http, 0);
	evhttp_set_timeout(web->http, VISIT_MS / 1000);
	if (evhttp_set_cb(web->http, "/", on_page, web) != 0 ||
	    evhttp_set_cb(web->http, "/status.json", on_status, web) != 0 ||
	    evhttp_set_cb(web->http, "/metrics", on_metrics, web) != 0 ||
	    evhttp_set_cb(web->http, "/healthz", on_health, web) != 0 ||
	    evhttp_set_cb(web->http, "/readyz", on_ready, web) != 0)
		return false;
	evhttp_set_gencb(web->http, on_other, web);
	for (i = 0; i < sockets_count(sockets) && i < SOCKETS_MAX; i++)
		if (!serve_on(web, sockets_fd(sockets, i)))
			return false;
	return event_add(web->tick, &every) == 0;
}

struct web *
web_new(struct conn_loop *loop, const struct sockets *sockets,
    const struct metrics_source *source, struct usage *usage)
{
	struct event_base *base = conn_loop_base(loop);
	struct web *web = calloc(1, sizeof(*web));
	bool has_memory;
	size_t i;

	if (web == NULL)
		return NULL;
	web->loop = loop;
	web->source = *source;
	web->is_alone = true;
	web->http = evhttp_new(base);
	web->tick = event_new(base, -1, EV_PERSIST, on_web_tick, web);
	web->status = status_new(source, usage);
	has_memory = web->http != NULL && web->tick != NULL &&
	    web->status != NULL;
	if (web->status != NULL)
		web->source.shares = status_shares(web->status);
	for (i = 0; i < PAPERS; i++) {
		web->copies[i].text = evbuffer_new();
		has_memory &= web->copies[i].text != NULL;
	}
	if (has_memory && start_web(web, sockets))
		return web;
	web_free(web);
	return NULL;
}

void
web_free(struct web *web)
{
	size_t i;

	if (web == NULL)
		return;
	if (web->http != NULL)
		evhttp_free(web->http);
	while (!LIST_EMPTY(&web->visits))
		end_visit(LIST_FIRST(&web->visits));
	if (web->tick != NULL)
		event_free(web->tick);
	for (i = 0; i < PAPERS; i++)
		if (web->copies[i].text != NULL)
			evbuffer_free(web->copies[i].text);
	status_free(web->status);
	free(web);
}
