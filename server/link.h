#ifndef LINK_H
#define LINK_H

/*
 * One connection to a memcached: send calls on it without waiting for replies,
 * and pair each reply with its call.  The owner decides when to connect and
 * what a failure means.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto.h"

struct block;
struct call;
struct conn_loop;
struct histogram;
struct link;

/* A whole reply.  It is valid while done() runs. */
struct answer {
	const char *bytes;
	size_t length;           /* bytes of the reply */
	struct proto_reply last; /* the last element */
	size_t last_at;          /* offset in bytes of the last element */
	struct conn *conn;       /* for answer_reference() */
};

enum {
	/* So many bytes of a reply are kept without a question. */
	LINK_KEPT = 16 << 10,
};

/*
 * A command for one server, until it has its answer.  The caller owns it and
 * sets expect, done and element.  The other fields belong to the link, from
 * link_submit() or link_get() until done() is called.  done() may submit the
 * call again, or free it.
 */
struct call {
	TAILQ_ENTRY(call) entry; /* of the FIFO of its link */
	enum proto_expect expect;
	/* answer is NULL if the server has failed: then the command may have
	   been carried out or not. */
	void (*done)(struct call *call, const struct answer *answer);
	/* A VALUE or STAT has arrived; it begins at offset at of bytes.
	   Returns whether the call can have asked for it.  NULL: all are
	   accepted.  It
	   is not called for a call of link_get(). */
	bool (*element)(struct call *call, const struct proto_reply *element,
	    const char *bytes, size_t at);
	/* If element is set and VALUEs are expected: a VALUE of n bytes begins
	   to arrive, at offset at of the reply.  Returns whether it is to be
	   kept.  If not, it is thrown away as it comes, and element() is called
	   with PROTO_LATER_VALUE.  NULL: all are kept.  It is not called for
	   what ends within the first LINK_KEPT bytes. */
	bool (*keeps)(struct call *call, size_t at, size_t n);
	const char *key;     /* of link_get(); borrowed; NULL: link_submit() */
	size_t key_length;   /* bytes of key */
	bool shares_command; /* its key is in the command of the call before */
	uint64_t begin;      /* conn_queued() ahead of its bytes */
	uint64_t end;        /* conn_queued() behind its bytes */
	/* Set when the server has failed.  Some of its bytes were sent, so it
	   may have been carried out.  And: it is of the oldest command of its
	   link, so it may be why. */
	bool was_sent, is_suspect;
	/* When the socket took its last byte; or, before that, when it was
	   submitted.  By the clock of the link: see link.c. */
	int64_t since;
	/* When it was submitted: the low bits of conn_loop_us(). */
	uint32_t asked_us;
};

TAILQ_HEAD(call_list, call);

struct link_handler {
	/* Bytes have arrived, so the server lives.  Called before they are read
	   as replies. */
	void (*heard)(void *owner);
	/* The connection is of no use any more; why is valid in here.  The
	   owner calls link_close(), or, if nothing was sent, link_attach(). */
	void (*failed)(void *owner, const char *why);
};

/* Make a closed link for values of at most value_max bytes.  The time from each
   call to its answer is counted in reply_times, which is borrowed, as are
   handler and owner.  Returns NULL when out of memory. */
struct link *link_new(struct conn_loop *loop, size_t value_max,
    struct histogram *reply_times, const struct link_handler *handler,
    void *owner);

/* link must be closed, or NULL.  Not to be called from inside a callback of the
   link or of one of its calls. */
void link_free(struct link *link);

/* Accept calls from now on; they are queued until there is a socket.  Returns
   false when out of memory. */
bool link_open(struct link *link);

/*
 * Give an open link the socket fd, which may be still connecting and is owned
 * by the link from now on, even if this fails.  fd may be -1: then this fails
 * with the errno that the caller has got.  Returns false and errno on failure.
 */
bool link_attach(struct link *link, int fd);

/* Close with RST, and append the calls of the link to *calls, in their order.
   They belong to their owners again; no done() is called.  link may be closed:
   it has no calls. */
void link_close(struct link *link, struct call_list *calls);

/* Whether the link has a socket. */
bool link_is_attached(const struct link *link);

/* Whether bytes were sent since link_open(). */
bool link_has_sent(const struct link *link);

/* Take the socket out of a link, which is closed next.  The caller owns it.
   Returns -1 if there is none, or nothing was sent on it. */
int link_take_socket(struct link *link);

/*
 * Send a command: a line with its line end, and then length bytes of data.
 * These are in block, or block is NULL; they are referred to or copied, and the
 * line is copied.  done() is called exactly once, unless the link is closed
 * before that, and never from inside this function.
 */
void link_submit(struct link *link, struct call *call, const char *line,
    size_t line_length, const char *data, size_t length, struct block *block);

/*
 * Get the value of one key.  call->expect is PROTO_EXPECT_VALUES, or
 * PROTO_EXPECT_VALUES_CAS for a value with its cas unique.  key is borrowed
 * until done() is called, which is as for link_submit().  Keys that are asked
 * for one after another share a command, unless it was sent already.  The
 * answer is the VALUE without an END, or END, or an error.
 */
void link_get(struct link *link, struct call *call, const char *key,
    size_t length);

/* Answer the oldest call with text, an error of ours with its CRLF.  What the
   server says to it would be an answer to the next call: so the link is closed
   soon after this. */
void link_answer(struct link *link, const char *text);

/* Why a server fails, with the first of the n bytes that it has said.  Valid
   until the next call. */
const char *link_failure_quoting(const char *why, const char *bytes, size_t n);

/* Bytes of calls that were queued since the link was attached. */
uint64_t link_queued(const struct link *link);

/* Whether no call is without an answer. */
bool link_is_idle(const struct link *link);

/*
 * How long the oldest call without an answer has waited, in milliseconds, by
 * the clock of the link; -1: there is none.  A call waits from when its last
 * byte was sent, however many replies come before its own.  What the server
 * does at a fair rate meanwhile is not counted: see link.c.
 */
int64_t link_age(struct link *link);

/* The link could not be read for so many milliseconds: they are not counted. */
void link_excuse(struct link *link, int64_t ms);

/* How many calls have no answer. */
size_t link_waiting(const struct link *link);

/* A block that holds n bytes of an answer; see conn_reference(). */
struct block *answer_reference(const struct answer *answer, const char *at,
    size_t n, size_t *offset);

#endif
