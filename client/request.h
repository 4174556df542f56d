#ifndef REQUEST_H
#define REQUEST_H

/*
 * Carry one command from parsed line to whole reply: split it by key, ask the
 * authorities, merge what they say.
 *
 * A request outlives its owner: it stays until no server owes it an answer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "proto.h"

struct budget;
struct conn;
struct pairs;
struct stats;

struct request {
	STAILQ_ENTRY(request) entry; /* the owner's FIFO */
	void *owner;                 /* NULL: abandoned */
	size_t cost;                 /* bytes of memory, about */
};

/* What all requests share; borrowed until the last one is gone. */
struct request_env {
	struct pairs *pairs;
	struct stats *stats;
	unsigned int links; /* connections per server */
	bool error_on_down;
	struct budget *budget;
	/*
	 * There is something for request_write().  Never called from inside
	 * request_start() and request_continue(), nor for an abandoned one.
	 */
	void (*answered)(struct request *request);
};

/*
 * Begin to carry out r, a command about keys, parsed from bytes, which conn is
 * offering.  The gate must be open.  Returns NULL when out of
 * memory.  The request may be request_is_ready() at once.
 */
struct request *request_start(struct request_env *env, void *owner,
    struct conn *conn, const struct proto_request *r, const char *bytes);

/* A request whose reply comes from elsewhere: request_finish(). */
struct request *request_new(struct request_env *env, void *owner);

/* Do not write its reply, if silent. */
void request_silence(struct request *request, bool silent);

/* Its reply: n bytes, which are copied.  The request may end in here, and
   answered() may run. */
void request_finish(struct request *request, const char *bytes, size_t n);

/* The same; it says that there is no memory. */
void request_fail(struct request *request);

/* Whether there is something to write. */
bool request_is_ready(const struct request *request);

/*
 * Write what is ready.  Returns whether that was all of the reply; if not, the
 * rest comes after request_continue() (which needs the gate to be open, too).
 */
bool request_write(struct request *request, struct conn *conn);
void request_continue(struct request *request);

/* Whether it waits for request_continue(). */
bool request_is_paused(const struct request *request);

/* Whether all of it has been told to servers, so that what follows it in the
   client's stream cannot overtake it. */
bool request_is_sent(const struct request *request);

/* The owner is done with it. */
void request_free(struct request *request);

/* Give unused memory back to the system. */
void request_pool_free(void);

#endif
