#ifndef LINK_H
#define LINK_H

/*
 * One connection to a memcached: pipeline calls on it, and pair each reply
 * with its call.  When to connect, and what a failure means, is not decided
 * here but in server.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto.h"

struct block;
struct call;
struct conn_loop;
struct link;

/* A whole reply.  Valid during done() only. */
struct answer {
	const char *bytes;
	size_t length;
	struct proto_reply last; /* its last element, which is at */
	size_t last_at;          /* this offset of bytes */
	struct conn *conn;       /* for answer_reference() */
};

/* A command for one server: made and owned by the caller until done(). */
struct call {
	TAILQ_ENTRY(call) entry; /* the rest is set by the caller ... */
	enum proto_expect expect;
	void (*done)(struct call *call, const struct answer *answer);
	/* A VALUE or STAT has come, at bytes.  Returns whether the call can
	   have asked for it.  NULL: there is nothing to check. */
	bool (*element)(struct call *call, const struct proto_reply *element,
	    const char *bytes, size_t at);
	/* ... but these are set by link_submit() and link_get() */
	const char *key; /* link_get(): what for */
	size_t key_length;
	bool shares;         /* the command of the call before it */
	uint64_t begin, end; /* of its bytes in the output */
	int64_t since;       /* when its time began */
};

TAILQ_HEAD(call_list, call);

struct link_handler {
	/* Something has come: the server lives. */
	void (*heard)(void *owner);
	/* The connection is of no use any more, and why; link_close() it, or
	   link_attach() another socket if nothing was sent yet. */
	void (*failed)(void *owner, const char *why);
};

/* A link for values of at most value_max bytes.  Returns NULL when out of
   memory. */
struct link *link_new(struct conn_loop *loop, size_t value_max,
    const struct link_handler *handler, void *owner);
void link_free(struct link *link); /* closed, or NULL */

/* Take calls from now on; they wait for a socket.  Returns false when out of
   memory. */
bool link_open(struct link *link);

/* Take the socket fd, which may be still connecting; -1 stands for the errno of
   a caller that has got none.  Returns false, and errno, if that fails. */
bool link_attach(struct link *link, int fd);

/* Close with RST, and append its calls, which are their owners' again, to
   *calls, in their order.  Nothing happens to one that is not open, but for
   that. */
void link_close(struct link *link, struct call_list *calls);

/* Whether it has got a socket; whether bytes went out on it. */
bool link_is_attached(const struct link *link);
bool link_has_sent(const struct link *link);

/* The port of its side of the connection; 0: none. */
unsigned int link_port(const struct link *link);

/*
 * Send a command: a line, then length bytes of data, which are in block (or
 * block is NULL).  Both are copied or referred to.  done() runs exactly once,
 * and never from inside this call.
 */
void link_submit(struct link *link, struct call *call, const char *line,
    size_t line_length, const char *data, size_t length, struct block *block);

/*
 * Get the value of one key (call->expect tells whether with its cas unique);
 * key is borrowed until done().  Keys that are asked for one after the other
 * share a command, as long as that was not sent.  The answer is the VALUE,
 * without an END; or END, or an error.
 */
void link_get(struct link *link, struct call *call, const char *key,
    size_t length);

/* The oldest call without an answer, or NULL; how many there are. */
struct call *link_first(const struct link *link);
size_t link_waiting(const struct link *link);

/* Bytes of an answer as a block: see conn_reference(). */
struct block *answer_reference(const struct answer *answer, const char *at,
    size_t n, size_t *offset);

#endif
