#ifndef FAILOVER_H
#define FAILOVER_H

/*
 * When a server has failed, hold its keys until those that answer for them now
 * have caught up.
 */

#include <stdbool.h>

struct peer;

/*
 * The peer, which was a mirror, has just failed and is none any more; its calls
 * have not been returned.  From here on the gate holds the keys of which a
 * partner is the authority now, until that partner has answered what it was
 * sent as their mirror.  was_trusted: so was the peer.
 */
void failover_begin(struct peer *peer, bool was_trusted);

#endif
