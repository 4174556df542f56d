/*
 * Look at the stamps of all servers.
 *
 * Two servers are not read at the same moment, so that of two equal stamps that
 * change one may be read before that and the other one after it.  That is why
 * it takes two looks which show the same.
 *
 * Each look also keeps the stamps in the LRU of their servers, and puts back
 * one of the two items of a stamp if it was evicted.
 */

#include "mirror/probe.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/judge.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "mirror/survey.h"

struct probe {
	struct pairs *pairs; /* borrowed */
	void (*looked)(void *owner, bool differs);
	void *owner;           /* borrowed */
	struct survey *survey; /* NULL: no look is under way */
	int64_t began_ms;      /* when it began */
};

/* Whether the stamps of the two must be equal: both are trusted, and none reads
   what it lacks. */
static bool
are_whole(const struct bond *bond)
{
	const struct peer *one = bond->peers[0], *other = bond->peers[1];

	return !bond->is_unsettled && one->state == PEER_UP &&
	    other->state == PEER_UP && bond->sides[0].is_read &&
	    bond->sides[1].is_read && behind_of(one, other) == BEHIND_NOT &&
	    behind_of(other, one) == BEHIND_NOT;
}

/* Put back an item that was evicted; or the stamp of a server that had no room
   for it, in case that it has now. */
static void
complete_stamp(struct bond *bond, struct peer *peer)
{
	struct bond_side *side = bond_side(bond, peer);
	uint64_t other = bond_side(bond, bond_partner(bond, peer))->stamp;

	if (side->is_refused && side->stamp == STAMP_MISSING &&
	    are_whole(bond) && !bond->is_foreign && other == bond->known)
		stamp_add_twins(bond, peer, other);
	if (!peer_is_mirror(peer) || !side->is_read || !side->lacks_twin)
		return;
	side->lacks_twin = false;
	stamp_add_twins(bond, peer, side->stamp);
}

static void
compare_equal(struct bond *bond)
{
	bond->differed[0] = bond->differed[1] = STAMP_MISSING;
	if (bond->sides[0].stamp != STAMP_MISSING) {
		bond_become_equal(bond, bond->sides[0].stamp);
		return;
	}
	stamp_give_first(bond, bond->peers[0]);
	stamp_give_first(bond, bond->peers[1]);
	bond_become_equal(bond, STAMP_FIRST);
}

static void
compare_different(struct bond *bond, bool is_sure)
{
	uint64_t one = bond->sides[0].stamp, other = bond->sides[1].stamp;
	bool is_same = bond->differed[0] == one && bond->differed[1] == other;

	bond->differed[0] = one;
	bond->differed[1] = other;
	if (is_sure || is_same)
		judge_fail(bond->peers[one > other], bond->peers[one < other]);
}

/* One of the two is away: see what the other one has. */
static void
note_survivor(struct bond *bond)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		if (peer_is_mirror(bond->peers[i]) &&
		    !peer_is_mirror(bond->peers[1 - i]) &&
		    bond->sides[i].is_read)
			bond_note(bond, bond->sides[i].stamp);
}

/* Returns whether the stamps differ. */
static bool
compare_bond(struct bond *bond, bool is_sure, int64_t began_ms)
{
	complete_stamp(bond, bond->peers[0]);
	complete_stamp(bond, bond->peers[1]);
	note_survivor(bond);
	if (!are_whole(bond))
		return false;
	if (bond->sides[0].stamp == bond->sides[1].stamp) {
		compare_equal(bond);
		bond->equal_ms = began_ms;
		return false;
	}
	if (bond_lacks_room(bond))
		return false;
	compare_different(bond, is_sure);
	return true;
}

bool
probe_compare(struct pairs *pairs, bool is_sure, int64_t began_ms)
{
	struct bond *bonds;
	bool differ = false;
	size_t i, n;

	bonds = pairs_bonds(pairs, &n);
	for (i = 0; i < n; i++)
		differ |= compare_bond(&bonds[i], is_sure, began_ms);
	return differ;
}

static void
on_looked(void *owner)
{
	struct probe *probe = owner;

	probe->survey = NULL;
	probe->looked(probe->owner,
	    probe_compare(probe->pairs, false, probe->began_ms));
}

void
probe_look(struct probe *probe, int64_t now_ms)
{
	if (probe->survey != NULL)
		return;
	probe->began_ms = now_ms;
	probe->survey = survey_new(probe->pairs, NULL, on_looked, probe);
}

struct probe *
probe_new(struct pairs *pairs, void (*looked)(void *owner, bool differs),
    void *owner)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	if (probe == NULL)
		return NULL;
	probe->pairs = pairs;
	probe->looked = looked;
	probe->owner = owner;
	return probe;
}

void
probe_free(struct probe *probe)
{
	free(probe);
}
