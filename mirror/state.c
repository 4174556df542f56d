/*
 * What follows from the state of a server, whatever has changed it.
 *
 *   STARTING --------------------------------------------------------> UP
 *   DOWN -> IDENTIFY -> DRAIN -> INVALIDATE -> REBUILD -> HANDBACK --> UP
 *    ^         |          |          |            |          |         |
 *    +---------+----------+----------+------------+----------+---------+
 *                           any failure
 *
 * Invariant: away_partners, mirror_since and what behind.c knows of a peer are
 * those of its state, before anybody is called.
 */

#include "mirror/state.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "log.h"
#include "mirror/behind.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "server/server.h"

/* The arrows of the picture, and two more: a server without a partner has
   nothing to get back, and one that has all but what a partner holds that is
   back is rebuilt once more. */
static bool
may_become(enum peer_state from, enum peer_state to)
{
	switch (to) {
	case PEER_DOWN:
		return true;
	case PEER_STARTING:
		return false;
	case PEER_IDENTIFY:
		return from == PEER_DOWN;
	case PEER_DRAIN:
		return from == PEER_IDENTIFY;
	case PEER_INVALIDATE:
		return from == PEER_DRAIN;
	case PEER_REBUILD:
		return from == PEER_INVALIDATE || from == PEER_HANDBACK ||
		    from == PEER_UP;
	case PEER_HANDBACK:
		return from == PEER_REBUILD;
	case PEER_UP:
		return from == PEER_HANDBACK || from == PEER_STARTING ||
		    from == PEER_DRAIN;
	}
	return false;
}

/* A peer has just become trusted, or is so no longer: none of its partners can
   be replaced while one of theirs is away. */
static void
tell_partners(const struct peer *peer, bool is_trusted)
{
	struct pairs *pairs = peer->pairs;
	struct peer *partner;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		assert(!is_trusted || partner->away_partners > 0);
		partner->away_partners += is_trusted ? -1U : 1;
		server_set_irreplaceable(partner->server,
		    partner->away_partners > 0);
	}
}

/* The number of a peer that has just become a mirror, or ceased to be one. */
static uint64_t
next_mirror_since(struct pairs *pairs)
{
	uint64_t last = 0;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++)
		if (pairs_peer(pairs, i)->mirror_since > last)
			last = pairs_peer(pairs, i)->mirror_since;
	return last + 1;
}

void
state_set(struct peer *peer, enum peer_state state, int64_t now_ms)
{
	bool was_trusted = peer_is_trusted(peer);
	bool was_mirror = peer_is_mirror(peer);
	bool was_starting = peer->state == PEER_STARTING;

	if (peer->state == state)
		return;
	assert(may_become(peer->state, state));
	log_info("s %s: %s, was %s", peer_name(peer), peer_state_name(state),
	    peer_state_name(peer->state));
	peer->state = state;
	if (peer_is_mirror(peer) != was_mirror) {
		peer->mirror_since = next_mirror_since(peer->pairs);
		behind_mirror_changed(peer);
		pairs_note_uncovered(peer->pairs);
	}
	if (peer_is_trusted(peer) != was_trusted)
		tell_partners(peer, !was_trusted);
	peer->changed_ms = now_ms;
	/* Whoever has waited for it may begin, in here. */
	if (was_starting)
		gate_release(peer->gate, peer);
}
