#ifndef ALIAS_H
#define ALIAS_H

/*
 * Warn if a server is the same process as another one, under another name:
 * 127.0.0.1 and localhost, say.  Each write would be done twice there.
 */

#include <stdbool.h>
#include <stddef.h>

#include "server/link.h"

struct pairs;
struct peer;

/* A part of its owner. */
struct alias {
	struct peer *peer;   /* borrowed */
	struct pairs *pairs; /* borrowed */
	struct call call;
	struct peer *other; /* the one that is asked; NULL: no check runs */
	size_t next;        /* the number of the peer after that one */
	char key[48];       /* what one is given, and the other is asked for */
};

void alias_init(struct alias *alias, struct peer *peer, struct pairs *pairs);

/* The peer has just been identified.  Does nothing if a check runs. */
void alias_check(struct alias *alias);

#endif
