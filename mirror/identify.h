#ifndef IDENTIFY_H
#define IDENTIFY_H

/*
 * Ask a server that is being connected to who it is: version, stats and stats
 * settings.  These are the first calls on its connection.
 */

#include "mirror/identity.h"
#include "server/link.h"

struct peer;

/* Embedded in its owner, which CONTAINER_OF() finds. */
struct identify {
	struct peer *peer;
	/* What the server has said so far. */
	struct identity found;
	struct call version, stats, settings;
	void (*heard)(struct identify *identify);
	void (*done)(struct identify *identify);
};

/*
 * heard() is called when the server has said its version, done() when
 * identify->found is whole; both from the loop.  If the server fails first,
 * they are not called.
 */
void identify_init(struct identify *identify, struct peer *peer,
    void (*heard)(struct identify *identify),
    void (*done)(struct identify *identify));

/* Begin; to be called when the server starts to connect.  A server that
   answers and is no memcached is failed. */
void identify_start(struct identify *identify);

#endif
