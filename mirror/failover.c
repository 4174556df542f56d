/*
 * Hold the keys of a server that has failed until its partners have caught up.
 *
 *   failed -> a fence to each new authority -> all have passed -> release
 *
 * Invariant: the gate holds the keys while a fence has not passed.  So a key of
 * which the new authority had not done what the old one did is deleted there
 * before any command that begins now: its delete is in the FIFO when the fence
 * passes.  Later nobody could delete it, because a client may have set it anew.
 */

#include "mirror/failover.h"

#include <assert.h>
#include <stddef.h>

#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

static void
on_failover_fence(void *owner, bool was_reached)
{
	struct failover *failover = owner;

	(void)was_reached; /* if it has failed, others answer, or nobody */
	assert(failover->fences > 0);
	if (--failover->fences == 0)
		gate_release(failover->peer->gate, failover->peer);
}

/* Whether partner is the authority of keys that peer has answered for. */
static bool
follows(const struct peer *partner, const struct peer *peer, bool was_trusted)
{
	if (!peers_are_partners(partner, peer) || !peer_is_mirror(partner) ||
	    partner->state == PEER_STARTING)
		return false;
	return !peer_is_trusted(partner) ||
	    (was_trusted && peer->is_primary && partner->is_backup);
}

void
failover_begin(struct failover *failover, bool was_trusted)
{
	struct peer *peer = failover->peer;
	struct peer *partner;
	size_t i;

	assert(!peer_is_mirror(peer));
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_peer(peer->pairs, i);
		/* Without memory for a fence nothing waits for it. */
		if (!follows(partner, peer, was_trusted) ||
		    fence_new(partner, on_failover_fence, failover) == NULL)
			continue;
		if (failover->fences++ == 0)
			gate_hold(peer->gate, peer);
	}
}
