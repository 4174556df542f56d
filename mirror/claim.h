#ifndef CLAIM_H
#define CLAIM_H

/*
 * One magent at a time rebuilds a server: it says so on a server that the keys
 * come from, and how far it is.  What it says ends by itself, some seconds
 * after it was said last.
 */

#include <stdbool.h>
#include <stdint.h>

#include "server/link.h"

struct bond;
struct peer;

/* A part of its owner.  All times are milliseconds of the monotonic clock. */
struct claim {
	struct peer *peer; /* borrowed: the one that is rebuilt */
	/* Of claim.c: */
	void (*done)(void *owner, bool is_taken);
	void *owner;
	struct call call;
	bool is_asked;     /* the call has no answer */
	bool is_waiting;   /* the owner waits for done() */
	bool is_dropped;   /* claim_drop() was called since it was asked */
	struct bond *bond; /* NULL: nothing is claimed */
	struct peer *at;   /* where it is; valid if bond is */
	int64_t kept_ms;   /* when it was kept; 0: it was not */
};

/* Make *claim, which is all zero.  done() is called as claim_take() says. */
void claim_init(struct claim *claim, struct peer *peer,
    void (*done)(void *owner, bool is_taken), void *owner);

/* Claim the peer, and call done() once, from the loop, unless claim_drop() or
   claim_keep() is called before.  Returns false if there is nobody to read
   from, or if it is claimed, because it was kept: then done() is not called. */
bool claim_take(struct claim *claim, int64_t now_ms);

/* Say how far the rebuild is.  To be called several times a second. */
void claim_renew(const struct claim *claim, uint64_t keys_done);

/* The rebuild is over, or has failed. */
void claim_drop(struct claim *claim);

/* The rebuild has failed, and is about to begin again: nobody else should come
   in between. */
void claim_keep(struct claim *claim, int64_t now_ms);

#endif
