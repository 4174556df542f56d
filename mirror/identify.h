#ifndef IDENTIFY_H
#define IDENTIFY_H

/*
 * Ask a server that is being connected to who it is: version, stats and stats
 * settings.  These are the first calls on its connection.
 */

#include "mirror/identity.h"
#include "server/link.h"

struct peer;

/* A part of its owner, which CONTAINER_OF() finds. */
struct identify {
	struct peer *peer; /* borrowed */
	/* What the server has said since identify_start(). */
	struct identity found;
	struct call version, stats, settings;
	void (*heard)(struct identify *identify);
	void (*done)(struct identify *identify);
};

/*
 * heard() is called when the server has answered version, before that is noted.
 * done() is called when identify->found is complete.  Both are called from the
 * loop, and neither if the server fails first.  The server of peer is there.
 */
void identify_init(struct identify *identify, struct peer *peer,
    void (*heard)(struct identify *identify),
    void (*done)(struct identify *identify));

/* Begin, when the server starts to connect: see connecting() in server.h.  A
   server that answers, and is no memcached, is failed. */
void identify_start(struct identify *identify);

#endif
