/*
 * The stamps that a server gets when it has been rebuilt.
 *
 * Invariant: a server has a goal only while it is being rebuilt from that
 * partner, and the goal was read there before the first key was.  So a server
 * that has been given its goal holds all that its partner held when that got
 * this stamp, and what was written since.
 */

#include "mirror/goals.h"

#include <assert.h>
#include <stddef.h>

#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "server/server.h"

/* Whether the mate has the stamp of one that is being filled, and the peer
   nothing that it lacks: by what we know, or because it has lost its items
   since.  No write past the peer has raised that stamp yet. */
static bool
was_filled_alone(const struct peer *mate, const struct peer *peer)
{
	struct bond *bond = bond_of(mate, peer);
	uint64_t stamp = bond_side(bond, mate)->stamp;

	return stamp != STAMP_MISSING && stamp < STAMP_FIRST &&
	    (stamp >= bond_side(bond, peer)->stamp ||
		behind_of(mate, peer) == BEHIND_NOT);
}

/* What has been at the address of the peer until now may come back: so the
   mates get higher stamps than that has. */
void
goals_mark_filling(struct peer *peer)
{
	struct peer *mate;
	bool is_filling;
	size_t i;

	assert(peer_is_mirror(peer) || peer->state == PEER_INVALIDATE);
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL)
			continue;
		is_filling = behind_of(peer, mate) == BEHIND_ALL;
		if (is_filling)
			stamp_give(bond_of(peer, mate), peer, bond_filling());
		if (peer_is_mirror(mate) &&
		    (is_filling || was_filled_alone(mate, peer)))
			stamp_raise(bond_of(peer, mate), mate, NULL);
	}
}

void
goals_fail_to_empty(struct peer *peer, const char *why)
{
	struct peer *mate;
	size_t i;

	peer_add_all_dirty(peer);
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate != NULL && peer_is_there(mate))
			stamp_raise(bond_of(peer, mate), mate, NULL);
	}
	server_fail(peer->server, why);
}

void
goals_raise_alone(struct peer *peer)
{
	const struct peer *mate;
	size_t i;

	/* It fails in here when memory is short. */
	for (i = 0; i < pairs_peer_count(peer->pairs) && peer_is_mirror(peer);
	     i++) {
		mate = pairs_partner(peer, i);
		if (mate != NULL && !peer_is_mirror(mate) &&
		    (dirty_is_all(mate->dirty) || dirty_count(mate->dirty) > 0))
			stamp_raise(bond_of(peer, mate), peer, NULL);
	}
}

/* Whether somebody else has written past the peer to the mate: nobody has to
   one that is just being filled. */
static bool
lacks_more(const struct peer *peer, const struct peer *mate)
{
	struct bond *bond = bond_of(peer, mate);
	uint64_t stamp = bond_side(bond, mate)->stamp;

	return behind_of(peer, mate) == BEHIND_KEYS && stamp >= STAMP_FIRST &&
	    stamp > bond_side(bond, peer)->stamp &&
	    (bond->is_foreign || stamp != bond->known);
}

/* Whether the stamp of the mate is for the peer to have: that of one which is
   being filled itself is not. */
static bool
may_be_goal(const struct peer *peer, const struct peer *mate)
{
	struct bond *bond = bond_of(peer, mate);
	uint64_t stamp = bond_side(bond, mate)->stamp;

	return stamp >= STAMP_FIRST && stamp > bond_side(bond, peer)->stamp &&
	    !bond_lacks_room(bond);
}

static void
set_goal(const struct peer *peer, struct peer *mate)
{
	struct bond *bond = bond_of(peer, mate);

	if (bond_side(bond, mate)->stamp == STAMP_MISSING)
		stamp_give_first(bond, mate);
	bond_side(bond, peer)->goal = may_be_goal(peer, mate) ?
	    bond_side(bond, mate)->stamp :
	    STAMP_MISSING;
}

const struct peer *
goals_set(const struct peer *peer)
{
	struct peer *mate;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL || !peer_is_mirror(mate) ||
		    !bond_side(bond_of(peer, mate), mate)->is_read)
			continue;
		if (lacks_more(peer, mate))
			return mate;
		set_goal(peer, mate);
	}
	return NULL;
}

/* Whether the rebuild of peer has read what its goal of mate stands for. */
static bool
has_goal(const struct peer *peer, const struct peer *mate)
{
	return peer_is_mirror(mate) && behind_is_read(peer, mate) &&
	    bond_side(bond_of(peer, mate), peer)->goal != STAMP_MISSING;
}

const struct peer *
goals_moved(const struct peer *peer)
{
	const struct peer *mate;
	struct bond *bond;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL || !has_goal(peer, mate))
			continue;
		bond = bond_of(peer, mate);
		if (bond_side(bond, mate)->stamp != bond_side(bond, peer)->goal)
			return mate;
	}
	return NULL;
}

struct peer *
goals_lost(const struct peer *peer)
{
	struct peer *mate;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate != NULL && peer_is_mirror(mate) &&
		    behind_is_read(peer, mate) &&
		    bond_side(bond_of(peer, mate), peer)->goal ==
			STAMP_MISSING &&
		    may_be_goal(peer, mate))
			return mate;
	}
	return NULL;
}

void
goals_give(struct peer *peer)
{
	const struct peer *mate;
	struct bond *bond;
	uint64_t goal;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL || !has_goal(peer, mate))
			continue;
		bond = bond_of(peer, mate);
		goal = bond_side(bond, peer)->goal;
		stamp_give(bond, peer, goal);
		bond_become_equal(bond, goal);
	}
}

bool
goals_may_follow(const struct peer *peer)
{
	const struct peer *mate;
	bool lacks_nothing;
	uint64_t stamp;
	size_t i;

	lacks_nothing = !dirty_is_all(peer->dirty) &&
	    dirty_count(peer->dirty) + dirty_count(peer->missing) == 0;
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL || !peer_is_mirror(mate))
			continue;
		stamp = bond_side(bond_of(peer, mate), peer)->stamp;
		if (!(stamp != STAMP_MISSING && stamp < STAMP_FIRST) &&
		    !(lacks_nothing && behind_of(peer, mate) == BEHIND_NOT))
			return false;
	}
	return true;
}

void
goals_follow(struct peer *peer)
{
	const struct peer *mate;
	size_t i;

	assert(goals_may_follow(peer));
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate != NULL && peer_is_mirror(mate))
			behind_set(peer, mate, BEHIND_KEYS);
	}
	behind_be_emptied(peer);
	peer->has_old_part = false;
	dirty_clear(peer->dirty);
	dirty_clear(peer->missing);
}

bool
goals_are_given(const struct peer *peer)
{
	const struct peer *mate;
	const struct bond *bond;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL || !peer_is_mirror(mate))
			continue;
		bond = bond_of(peer, mate);
		if (bond->sides[0].stamp != bond->sides[1].stamp ||
		    bond->sides[0].stamp == STAMP_MISSING)
			return false;
	}
	return true;
}

void
goals_renew(struct pairs *pairs)
{
	struct bond *bonds, *bond;
	struct bond_side *side;
	size_t i, n;

	bonds = pairs_bonds(pairs, &n);
	for (i = 0; i < n; i++) {
		bond = &bonds[i];
		if (!peer_is_mirror(bond->peers[0]) &&
		    !peer_is_mirror(bond->peers[1]))
			continue;
		bond->is_unsettled = true;
		bond->known += bond_step(bond, bond->known);
		for (side = bond->sides; side < bond->sides + 2; side++)
			if (side->goal != STAMP_MISSING)
				side->goal = bond->known;
	}
}

void
goals_settle(struct pairs *pairs)
{
	struct bond *bonds;
	size_t i, n;

	bonds = pairs_bonds(pairs, &n);
	for (i = 0; i < n; i++)
		bonds[i].is_unsettled = false;
}

void
goals_restamp(struct peer *peer)
{
	const struct peer *mate;
	struct bond *bond;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL)
			continue;
		bond = bond_of(peer, mate);
		stamp_give(bond, peer,
		    peer->is_left ? bond_filling() : bond->known);
	}
}

void
goals_forget(const struct peer *peer)
{
	const struct peer *mate;
	struct bond *bond;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		mate = pairs_partner(peer, i);
		if (mate == NULL)
			continue;
		bond = bond_of(peer, mate);
		bond->sides[0].goal = bond->sides[1].goal = STAMP_MISSING;
	}
}
