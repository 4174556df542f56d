/*
 * Hold the keys of a server that has failed until its partners have caught up.
 *
 *   failed -> for each new authority: a fence -> it has passed -> release
 *
 * Invariant: the gate holds the keys of a partner while its fence has not
 * passed.  So a key of which the new authority had not done what the old one
 * did is deleted there before any command that begins now: its delete is in
 * the FIFO when the fence passes.  Later nobody could delete it, because a
 * client may have set it anew.
 */

#include "mirror/failover.h"

#include <assert.h>
#include <stdlib.h>

#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

static void
on_failover_fence(void *owner, bool was_reached)
{
	struct gate_pair *held = owner;

	(void)was_reached; /* if it has failed, too, nobody answers */
	gate_release_pair(held->peer->gate, held);
	free(held);
}

/* Hold the keys that the two share.  Without memory nothing is held. */
static void
await_partner(const struct peer *peer, struct peer *partner)
{
	struct gate_pair *held = malloc(sizeof(*held));

	if (held == NULL)
		return;
	held->peer = peer;
	held->partner = partner;
	if (fence_new(partner, on_failover_fence, held) != NULL)
		gate_hold_pair(peer->gate, held);
	else
		free(held);
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
failover_begin(struct peer *peer, bool was_trusted)
{
	struct peer *partner;
	size_t i;

	assert(!peer_is_mirror(peer));
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_peer(peer->pairs, i);
		if (follows(partner, peer, was_trusted))
			await_partner(peer, partner);
	}
}
