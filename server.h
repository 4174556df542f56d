#ifndef SERVER_H
#define SERVER_H

/*
 * The connection to one memcached: connect, pipeline calls, pair each reply
 * with its call, time out, probe, connect again.  Whether a server that
 * answers may be believed is not decided here but in mirror.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto.h"

struct address;
struct block;
struct call;
struct conn_loop;
struct evdns_base;
struct server;

/* A whole reply.  Valid during done() only. */
struct answer {
	const char *bytes;
	size_t length;
	struct proto_reply last;	/* its last element, which is at */
	size_t last_at;			/* this offset of bytes */
	struct conn *conn;		/* for answer_keep() */
};

/* A command for one server: made and owned by the caller until done(). */
struct call {
	TAILQ_ENTRY(call) entry;	/* the rest is set by the caller ... */
	enum proto_expect expect;
	void (*done)(struct call *call, const struct answer *answer);
	/* A VALUE or STAT has come, at bytes.  Returns whether the call can
	   have asked for it.  NULL: there is nothing to check. */
	bool (*element)(struct call *call, const struct proto_reply *element,
	    const char *bytes, size_t at);
	/* ... but these are set by server_submit() */
	uint64_t begin, end;		/* of its bytes in the output */
	int64_t since;			/* when its time began */
};

struct server_news {
	/* A connection is being made; calls may be submitted from now on (in
	   here already) until failed().  The first ones go first. */
	void (*connecting)(void *owner);
	/* The connection is gone.  After this, done() runs with no answer for
	   each call that was not answered, in their order. */
	void (*failed)(void *owner);
};

struct server_settings {
	unsigned int links;		/* connections, 1 and up */
	unsigned int timeout_ms;	/* for a reply, or for connecting */
	size_t value_max;		/* bytes of a value in a reply */
};

/*
 * A server at address (borrowed).  dns may be NULL if the host is numeric or a
 * socket path.  Returns NULL when out of memory.
 */
struct server *server_new(struct conn_loop *loop, struct evdns_base *dns,
    const struct address *address, const struct server_settings *settings,
    const struct server_news *news, void *owner);

/* Close at once.  No callback runs; the calls are the callers' again. */
void server_free(struct server *server);

/* Connect for the first time; connecting() runs in here. */
void server_start(struct server *server);

/* Let the links but the first connect, too: it has been answered, and the
   owner knows who the server is.  Until then their calls wait. */
void server_attach_links(struct server *server);

/*
 * Send a command: a line, then length bytes of data, which are in block (or
 * block is NULL).  Both are copied or referred to.  Calls with the same hash go
 * over the same link, in order.  done() runs exactly once and never from inside
 * server_submit().
 */
void server_submit(struct server *server, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block);

/* The other side talks nonsense: close it, as a failure: failed() and all
   done() run in here.  Nothing happens if it is down.  Not to be called from
   element(), which returns false instead. */
void server_fail(struct server *server, const char *why);

/* Bytes of an answer as a block: see conn_keep(). */
struct block *answer_keep(const struct answer *answer, const char *at,
    size_t n, size_t *offset);

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
	uint64_t requests;		/* calls submitted */
	uint64_t failures;		/* after an answer had come */
	uint64_t timeouts;		/* silences, while connecting, too */
	uint64_t connects;
	size_t waiting;			/* calls without an answer */
};

const struct server_counters *server_counters(const struct server *server);

#endif
