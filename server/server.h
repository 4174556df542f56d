#ifndef SERVER_H
#define SERVER_H

/*
 * One memcached: connect its links, time out, probe, connect again.  Whether a
 * server that answers may be believed is not decided here but in mirror.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/link.h"

struct address;
struct block;
struct conn_loop;
struct resolver;
struct server;

struct server_handler {
	/* A connection is being made; calls may be submitted from now on (in
	   here already) until failed().  The first ones go first. */
	void (*connecting)(void *owner);
	/* The connection is gone.  After this, done() runs with no answer for
	   each call that was not answered, in their order. */
	void (*failed)(void *owner);
};

struct server_settings {
	unsigned int links;      /* connections, 1 and up */
	unsigned int timeout_ms; /* for a reply, or for connecting */
	size_t value_max;        /* bytes of a value in a reply */
};

/*
 * A server at address (borrowed).  resolver may be NULL if the host is numeric or a
 * socket path.  Returns NULL when out of memory.
 */
struct server *server_new(struct conn_loop *loop, struct resolver *resolver,
    const struct address *address, const struct server_settings *settings,
    const struct server_handler *handler, void *owner);

/* Close at once.  No callback runs; the calls are the callers' again. */
void server_free(struct server *server);

/* Connect for the first time; connecting() runs in here, or failed() when out
   of memory. */
void server_start(struct server *server);

/* Let the links but the first connect, too: it has been answered, and the
   owner knows who the server is.  Until then their calls wait. */
void server_attach_links(struct server *server);

/*
 * See link_submit() and link_get().  Calls with the same hash go over the same
 * link, in order.
 */
void server_submit(struct server *server, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block);
void server_get(struct server *server, uint32_t hash, struct call *call,
    const char *key, size_t length);

/* The other side talks nonsense: close it, as a failure: failed() and all
   done() run in here.  Nothing happens if it is down.  Not to be called from
   element(), which returns false instead. */
void server_fail(struct server *server, const char *why);

/* A new connection to the same place, for its owner: a nonblocking descriptor
   that is still connecting, or -1. */
int server_dial(struct server *server);

/*
 * The local ports of connections to this server that ended: what was sent on
 * them may still wait there.  Returns how many are in *ports, the last ones;
 * server_forget_ports() empties the list.
 */
size_t server_old_ports(const struct server *server, const uint16_t **ports);
void server_forget_ports(struct server *server);

/* The server is fine for good: after its next failure the wait is the shortest
   again.  Until this is called each failure doubles it. */
void server_steady(struct server *server);

struct server_counters {
	uint64_t requests; /* calls submitted */
	uint64_t failures; /* after an answer had come */
	uint64_t timeouts; /* silences, while connecting, too */
	uint64_t connects;
	size_t waiting; /* calls without an answer */
};

const struct server_counters *server_counters(struct server *server);

#endif
