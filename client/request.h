#ifndef REQUEST_H
#define REQUEST_H

/*
 * Carry one command from parsed line to whole reply: split it by key, ask the
 * authorities, merge what they say.
 *
 *   request_start() -> waits -- answered() --> is ready -- request_write() -.
 *                        ^                                                  |
 *                        '-- request_continue() <--- is paused: keys left <-+
 *                                                                           |
 *                            request_free() <------- is written <-----------'
 *
 * A request may outlive its owner: it stays until no server owes it an answer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "proto.h"

struct budget;
struct conn;
struct conn_loop;
struct hotkeys;
struct pairs;
struct stats;

struct request {
	STAILQ_ENTRY(request) entry; /* of the FIFO of its owner */
	void *owner;                 /* borrowed; NULL: abandoned */
	size_t cost;                 /* bytes of memory that it takes, about */
};

/* A part of the command of a request, borrowed. */
struct request_text {
	const char *bytes;
	size_t length;
};

/* What all requests share; borrowed until the last one has ended. */
struct request_env {
	struct conn_loop *loop;
	struct pairs *pairs;
	struct stats *stats;
	unsigned int links;    /* connections per server, 1 and up */
	bool error_on_down;    /* a read that no server can answer: an error */
	struct budget *budget; /* counts the values that are expected */
	struct hotkeys *hotkeys; /* NULL: keys are not sampled */
	/*
	 * The request has become ready.  Never called from inside
	 * request_start() and request_continue(), nor for an abandoned one.
	 * The owner may free the request in here.
	 */
	void (*answered)(struct request *request);
};

/* All requests that have not ended.  To count them takes its time. */
size_t requests_under_way(void);

/* Whether the gate lets r, a command about keys, begin now. */
bool request_may_start(const struct request_env *env,
    const struct proto_request *r, const char *bytes);

/*
 * Begin to carry out r, a command about keys, parsed from bytes, which conn is
 * offering; both may go when this returns.  r has no error, or is too_large,
 * and may start.  The request may be ready at once.  Returns NULL when out of
 * memory; then no server was asked.
 */
struct request *request_start(struct request_env *env, void *owner,
    struct conn *conn, const struct proto_request *r, const char *bytes);

/* A request that asks no server: the caller owes its reply, by
   request_finish() or request_fail().  Returns NULL when out of memory. */
struct request *request_new(struct request_env *env, void *owner);

/* Whether the reply of a request from request_new() is not written. */
void request_silence(struct request *request, bool silent);

/* What follows this request, which is from request_new(), in the input of the
   client must not overtake it: it counts as not sent until it is finished. */
void request_hold(struct request *request);

/* The reply to a request from request_new(): n bytes, which are copied; out of
   memory, it is an error.  answered() runs in here, unless the request was
   abandoned; the request may end in here. */
void request_finish(struct request *request, const char *bytes, size_t n);

/* As request_finish(), with the error that there is no memory. */
void request_fail(struct request *request);

/* Whether there is something for request_write(). */
bool request_is_ready(const struct request *request);

/*
 * Write what a ready request has.  Returns true if that was the last of the
 * reply.  Otherwise the request is paused: the rest comes after
 * request_continue().
 */
bool request_write(struct request *request, struct conn *conn);

/* Whether the request waits for request_continue(). */
bool request_is_paused(const struct request *request);

/* Whether the gate lets a paused request go on now. */
bool request_may_continue(const struct request *request);

/* Ask for the next keys of a paused request that may continue.  The request may
   be ready at once. */
void request_continue(struct request *request);

/* A command that asks for the keys that are left of a paused request: the text
   in front of its first key, and from the first of those keys on. */
void request_left(const struct request *request, struct request_text *head,
    struct request_text *keys);

/* Whether all of the request has been submitted to servers, so that what
   follows it in the input of the client cannot overtake it. */
bool request_is_sent(const struct request *request);

/* Whether the request may have to be sent again after a reply, so that what
   follows it could overtake it. */
bool request_is_in_steps(const struct request *request);

/* Whether r, a command about keys that was parsed from bytes, has to wait
   because it would overtake such a request for the same key. */
bool request_would_overtake(const struct request *request,
    const struct proto_request *r, const char *bytes);

/* The owner is done with the request, written or not.  It ends now, or when no
   server owes it an answer. */
void request_free(struct request *request);

#endif
