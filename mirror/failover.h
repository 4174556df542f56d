#ifndef FAILOVER_H
#define FAILOVER_H

/*
 * When a server has failed, hold its keys until those that answer for them now
 * have caught up.
 */

#include <stdbool.h>

struct peer;

/* Of one server.  At first all of it is zero but for peer. */
struct failover {
	struct peer *peer;   /* borrowed */
	unsigned int fences; /* that have not passed */
};

/*
 * The peer, which was a mirror, has just failed and is none any more; its calls
 * have not been returned.  The gate holds its keys from here on, until each
 * partner that is the authority of some of them now has answered what it was
 * sent as their mirror.  was_trusted: so was the peer.  If no partner is asked,
 * nothing is held.
 */
void failover_begin(struct failover *failover, bool was_trusted);

#endif
