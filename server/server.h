#ifndef SERVER_H
#define SERVER_H

/*
 * One memcached: connect its links, notice when it does not reply, and connect
 * again.  The owner decides whether a server that replies is trusted.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/link.h"

struct address;
struct block;
struct conn_loop;
struct endpoints;
struct event_base;
struct histogram;
struct resolver;
struct server;
struct zombies;

struct server_handler {
	/* A connection is being made.  Calls may be submitted, also from inside
	   this function, until failed() is called.  They are queued until the
	   connection is there. */
	void (*connecting)(void *owner);
	/* All connections are closed.  After this, done() is called with no
	   answer for each call that has none, in the order of their FIFOs: the
	   calls are returned. */
	void (*failed)(void *owner);
};

struct server_settings {
	unsigned int links;      /* connections, 1 and up */
	unsigned int timeout_ms; /* most age, or for a connection; 1 and up */
	size_t value_max;        /* most bytes of a value in a reply */
};

/*
 * Make a server that is down.  All pointers are borrowed, but *settings is
 * copied.  resolver may be NULL if the host is numeric or the path of a socket.
 * Returns NULL when out of memory.
 */
struct server *server_new(struct conn_loop *loop, struct resolver *resolver,
    const struct address *address, const struct server_settings *settings,
    const struct server_handler *handler, void *owner);

/* Close at once.  No callback is called, and no done(): the calls belong to
   their owners again.  Not to be called from inside a callback. */
void server_free(struct server *server);

/* Connect for the first time.  connecting() runs in here, or failed() when out
   of memory.  The server is not held. */
void server_start(struct server *server);

/* Connect the other links, when the first one has been answered and the owner
   knows who the server is.  At most once for each connecting(). */
void server_attach_links(struct server *server);

/* How many links it has: settings.links. */
unsigned int server_links(const struct server *server);

/*
 * See link_submit() and link_get().  The server must not be down.  Calls with
 * the same hash use the same link, so they are carried out in their order.  A
 * hash below server_links() is the number of its link.
 */
void server_submit(struct server *server, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block);
void server_get(struct server *server, uint32_t hash, struct call *call,
    const char *key, size_t length);

/*
 * Close all connections, because the server has said something impossible, or
 * because the owner cannot go on without a failure.  failed() and then done()
 * of the calls are called from inside this function, but for those that are
 * held: see server_hold_returns().  Nothing happens if the server is down.  Not
 * to be called from element(), which returns false instead.  why is for the
 * log.
 */
void server_fail(struct server *server, const char *why);

/*
 * The two halves of that, to fail several servers at once: all of them are down
 * before a call of one of them is returned.  failed() is called in the first
 * half, and may submit calls to those that are up still.
 */
void server_go_down(struct server *server, const char *why);
void server_return_calls(struct server *server);

/*
 * Inside the done() of a call that the server returns: return no more calls,
 * but for some of those that are suspect, until server_release_returns() was
 * called as often.  They are returned in there, or from the loop.  The server
 * does not connect before all have been returned.
 */
void server_hold_returns(struct server *server);
void server_release_returns(struct server *server);

/* A closed link for another connection to this server, which the caller owns.
   Returns NULL when out of memory. */
struct link *server_new_link(struct server *server,
    const struct link_handler *handler, void *owner);

/* Give the next call that is submitted to the server to this link of
   server_new_link() instead of one of its own. */
void server_divert(struct server *server, struct link *link);

/* The age at which the server is given up now, in milliseconds. */
unsigned int server_age_limit(const struct server *server);

/* The time of its loop: milliseconds of the monotonic clock. */
int64_t server_now(const struct server *server);

struct event_base *server_event_base(const struct server *server);

/* Make another connection to the endpoint of a connected server.  Returns a
   nonblocking descriptor, which may be still connecting and is the caller's; or
   -1 and errno. */
int server_dial(struct server *server);

/*
 * The connections to this server on which it may still carry out what it was
 * sent before it failed: there is one for each link at most.  Those on which it
 * was only asked who it is do not count: calls before server_attach_links(),
 * once it has failed.
 */
struct zombies *server_zombies(const struct server *server);

/* Whether nobody can answer in place of this server: then it is given up only
   when its age is four times the timeout. */
void server_set_irreplaceable(struct server *server, bool is_irreplaceable);

/* Its owner asks it something on its first link each second, while it is in
   use: that takes the place of the probe. */
void server_set_asked(struct server *server);

/* Whether nobody answers while this server does not: then it is connected to
   every 100 ms, and a connection that takes long is begun anew. */
void server_set_urgent(struct server *server, bool is_urgent);

/* Connect at once, if the server waits for its next connect, and longer than
   for the first one after a failure. */
void server_hurry(struct server *server);

/* Connect at once: it was no fault of the server that it has failed. */
void server_connect_now(struct server *server);

/* The operator holds the server down: close all connections, as server_fail()
   does, and do not connect until server_let_in().  It is not held yet. */
void server_hold(struct server *server);

/* Connect at once, and again after each failure.  Nothing happens if the server
   is not held. */
void server_let_in(struct server *server);

bool server_is_held(const struct server *server);

/* Whether a connection is being made, or is going to be at once. */
bool server_is_connecting(const struct server *server);

/* Reset the wait before the next connect to the shortest one.  Each failure
   doubles it. */
void server_steady(struct server *server);

/* Counts since server_new(), except for waiting. */
struct server_counters {
	uint64_t requests; /* calls submitted */
	uint64_t failures; /* failures of a connection that had answered */
	uint64_t timeouts; /* no reply, or no connection, in time */
	uint64_t connects; /* calls of server_attach_links() */
	size_t waiting;    /* calls that have no answer now */
};

/* Its endpoints: see endpoint.h. */
struct endpoints *server_endpoints(const struct server *server);

/* Go on counting from these, but for waiting.  To be called before
   server_start(). */
void server_set_counters(struct server *server,
    const struct server_counters *counters);

/* How long it has taken to answer calls, since server_new(): to be set with
   what was counted before. */
struct histogram *server_reply_times(struct server *server);

/* The counters as they are now; valid as long as server is. */
const struct server_counters *server_counters(struct server *server);

#endif
