#ifndef ARRIVAL_H
#define ARRIVAL_H

/*
 * A server is being connected to: learn who it is, what it can, and what it
 * still holds.
 */

#include <stdbool.h>
#include <stddef.h>

#include "mirror/alias.h"
#include "mirror/identify.h"
#include "mirror/judge.h"

struct asking;
struct conn_loop;
struct peer;
struct serving;
struct survey;

/* What all arrivals need; all borrowed. */
struct arrival_around {
	struct conn_loop *loop;
	struct serving *serving;
	size_t item_size; /* bytes of the largest value from a client */
};

/* A part of its owner. */
struct arrival {
	struct peer *peer; /* borrowed */
	const struct arrival_around *around;
	void (*heard)(void *owner);
	void (*known)(void *owner);
	void *owner;
	/* Of arrival.c: */
	struct identify identify;
	struct judge judge;
	struct alias alias;
	/* It reads its stamps, and then those of its partners; NULL: it does
	   not.  Owned until it has ended. */
	struct asking *asking;
	struct survey *survey;
	void (*stood)(void *owner); /* valid during arrival_confirm() */
};

/*
 * Make *arrival, which is all zero.  heard() is called from the loop when the
 * server has answered version.  known() is called, as well, when it is known
 * what the server holds: its identity, abilities and clock are noted then, who
 * is behind whom, and which keys are dirty.  Neither is called if the server
 * fails first.  around is borrowed.
 */
void arrival_init(struct arrival *arrival, struct peer *peer,
    const struct arrival_around *around, void (*heard)(void *owner),
    void (*known)(void *owner), void *owner);

/* Begin, when the server starts to connect: see connecting() in server.h. */
void arrival_begin(struct arrival *arrival);

/*
 * Read the stamps of the server, which is known, once more: what was decided by
 * them is worth nothing if they are others now, and then it fails.  Otherwise
 * stood() is called with the owner, from the loop.
 */
void arrival_confirm(struct arrival *arrival, void (*stood)(void *owner));

/* The server has failed.  Nothing happens if no arrival is under way. */
void arrival_stop(struct arrival *arrival);

/* The server was freed. */
void arrival_destroy(struct arrival *arrival);

#endif
