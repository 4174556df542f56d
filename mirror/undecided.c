/*
 * Keys whose last write nobody has answered.
 *
 *   lost at both -> undecided of both ... one is back -> dirty at the other one
 *
 * Invariant: a key is undecided only while it is in the undecided of both of
 * its servers, and until one of these is a mirror.  So no client has read it
 * since, and whichever value is taken is right, if all take the same: that of
 * the server that is back first.  If one of them is known to have an old copy,
 * it is the other one that is right: see peer_add_dirty().
 */

#include "mirror/undecided.h"

#include <assert.h>

#include "mirror/behind.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"

/* Whether its copy of the key may be old, or there is none. */
static bool
is_wanting(const struct peer *peer, const char *key, size_t length, bool base64)
{
	return dirty_has(peer->dirty, key, length, base64) ||
	    dirty_has(peer->missing, key, length, base64);
}

void
undecided_add(struct peer *peer, struct peer *partner, const char *key,
    size_t length, bool base64)
{
	assert(!peer_is_mirror(peer) && !peer_is_mirror(partner));
	/* One that lacks the key may have carried out this write. */
	if (is_wanting(peer, key, length, base64)) {
		peer_add_dirty(peer, key, length, base64);
		return;
	}
	/* One that deletes its dirty keys has decided already, and may have
	   deleted this one. */
	if (is_wanting(partner, key, length, base64) ||
	    partner->state == PEER_INVALIDATE) {
		peer_add_dirty(partner, key, length, base64);
		return;
	}
	dirty_add(peer->undecided, key, length, base64);
	dirty_add(partner->undecided, key, length, base64);
}

static void
settle_key(struct peer *peer, const char *key, size_t length, bool base64)
{
	struct pair pair = pairs_find_wire(peer->pairs, key, length, base64);
	struct peer *partner = pair_partner(&pair, peer);

	assert(partner != NULL);
	if (!dirty_remove(partner->undecided, key, length, base64) &&
	    !dirty_is_all(partner->undecided))
		return; /* not any more */
	assert(!peer_is_mirror(partner));
	if (behind_of(peer, partner) == BEHIND_ALL)
		peer_add_dirty(peer, key, length, base64);
	else
		peer_add_dirty(partner, key, length, base64);
}

/* The keys were too many to be known. */
static void
settle_all_keys(struct peer *peer)
{
	struct peer *partner;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_peer(peer->pairs, i);
		if (peers_are_partners(peer, partner) &&
		    !peer_is_mirror(partner) &&
		    behind_of(peer, partner) != BEHIND_ALL)
			peer_add_all_dirty(partner);
	}
	dirty_clear(peer->undecided);
}

void
undecided_settle(struct peer *peer)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;

	assert(peer->state == PEER_INVALIDATE);
	while (dirty_pop(peer->undecided, key, &length, &base64))
		settle_key(peer, key, length, base64);
	if (dirty_is_all(peer->undecided))
		settle_all_keys(peer);
}
