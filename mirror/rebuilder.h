#ifndef REBUILDER_H
#define REBUILDER_H

/*
 * Which of several magents rebuilds a server: this one, which claims that, or
 * another one, which is followed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "mirror/claim.h"
#include "mirror/follow.h"

struct conn_loop;
struct event;
struct fence;
struct peer;
struct rest;

struct rebuilder_handler {
	/* The peer, in the state INVALIDATE, is to be rebuilt by this magent.
	   is_new: another one may have done so until now. */
	void (*ours)(void *owner, bool is_new);
	/* It is rebuilt by another magent, and may get our effects. */
	void (*may_follow)(void *owner);
	/* That one has done so: see rebuilder_await(). */
	void (*whole)(void *owner);
	/* How many keys ours has dealt with. */
	uint64_t (*progress)(void *owner);
};

/* A part of its owner. */
struct rebuilder {
	struct peer *peer;       /* borrowed */
	struct conn_loop *loop;  /* borrowed */
	const struct rest *rest; /* borrowed */
	const struct rebuilder_handler *handler;
	void *owner;
	/* Of rebuilder.c: */
	struct claim claim;
	bool keeps_claim; /* if the peer fails now */
	struct follow follow;
	bool awaits_other;   /* rebuilder_await() has returned true */
	struct event *renew; /* owned: renews the claim */
	/* Waits until the peer has the stamps that it was to get; NULL: it does
	   not.  Owned until it has passed. */
	struct fence *gifts;
};

/* Make *rebuilder, which is all zero.  Returns false when out of memory; also
   then rebuilder_destroy() is to be called. */
bool rebuilder_init(struct rebuilder *rebuilder, struct conn_loop *loop,
    struct peer *peer, const struct rest *rest,
    const struct rebuilder_handler *handler, void *owner);
void rebuilder_destroy(struct rebuilder *rebuilder);

/* The peer is in the state INVALIDATE.  ours() or may_follow() is called, maybe
   in here, unless the peer fails: it does so when another magent has made it
   whole, or has ceased to rebuild it. */
void rebuilder_choose(struct rebuilder *rebuilder);

/* ours() was called, and the rebuild begins: say how far it is from now on. */
void rebuilder_begin(struct rebuilder *rebuilder);

/* The peer, in the state REBUILD, has what is to be had here.  Returns whether
   the rebuild is another magent's: then whole() is called. */
bool rebuilder_await(struct rebuilder *rebuilder);

/* The peer is about to fail, because its rebuild has to begin anew.  If this
   magent serves clients, no other one is to come in between. */
void rebuilder_keep(struct rebuilder *rebuilder);

/* The peer has just been given its stamps: whoever is next, sees them. */
void rebuilder_finish(struct rebuilder *rebuilder);

/* The peer has failed. */
void rebuilder_stop(struct rebuilder *rebuilder);

#endif
