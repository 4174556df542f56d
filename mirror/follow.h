#ifndef FOLLOW_H
#define FOLLOW_H

/*
 * Another magent rebuilds a server: wait until it has done so.
 */

#include <stdbool.h>
#include <stdint.h>

struct asking;
struct conn_loop;
struct event;
struct peer;
struct rest;
struct survey;

struct follow_handler {
	/* The peer, in the state INVALIDATE, has nothing that is old: it may
	   get our effects.  It is called again if it does not. */
	void (*may_begin)(void *owner);
	/* The peer has the stamps of its partners.  It is called again if
	   follow_stop() is not called in it. */
	void (*done)(void *owner);
	/* Nobody rebuilds it any more.  follow_stop() is called in it. */
	void (*ended)(void *owner);
};

/* A part of its owner. */
struct follow {
	struct peer *peer;       /* borrowed */
	const struct rest *rest; /* borrowed */
	const struct follow_handler *handler;
	void *owner;
	/* Of follow.c: */
	struct event *timer; /* owned */
	/* The stamps of the peer, and then those of its partners, are being
	   read; NULL: they are not. */
	struct asking *asking;
	struct survey *survey;
	uint64_t keys_done; /* as the other magent says */
};

/* Make *follow, which is all zero.  Returns false when out of memory. */
bool follow_init(struct follow *follow, struct conn_loop *loop,
    struct peer *peer, const struct follow_handler *handler, void *owner);
void follow_destroy(struct follow *follow); /* its server was freed */

/* The peer, in the state INVALIDATE, is left to another magent.  The handlers
   are called from the loop until follow_stop(). */
void follow_start(struct follow *follow, const struct rest *rest);

/* Nothing happens if it was not started. */
void follow_stop(struct follow *follow);

#endif
