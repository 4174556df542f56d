/*
 * Decide what a returned server still holds.
 *
 *	it has lost its items       they are none, or a stranger's: those go
 *	otherwise, of each partner that is there:
 *	  the stamps are equal      it holds what that one holds; unless we are
 *	                            just giving one of them a higher one
 *	  its stamp is lower        it lacks our dirty keys; or all, if somebody
 *	                            else has written past it: what it has of
 *	                            that one goes
 *	  its stamp is higher       the partner is behind, and fails; unless we
 *	                            know what that one lacks
 *
 * What it lacks of a partner that is away stays as it was: see behind.c.  But
 * what nobody has answered for is forgotten if another magent serves.
 *
 * Invariant: a key whose copy on the server may be old is dirty.  What is
 * thrown away is on a partner that answers for it.
 */

#include "mirror/judge.h"

#include <assert.h>
#include <stdio.h>

#include "log.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/dirty.h"
#include "mirror/identity.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "proto.h"
#include "server/server.h"
#include "server/zombie.h"

enum {
	/* A server of unknown items waits so long for a partner that is up. */
	STRANGER_WAIT_MS = 10000,
};

/* Every item of the server may be old.  If it has none, no key is dirty. */
static void
distrust_all_items(struct peer *peer, const struct identity *found)
{
	dirty_clear(peer->dirty);
	if (found->stored > 0)
		peer_add_all_dirty(peer);
}

/*
 * Items that were lost
 */

/* Whether it has the items that it had when we heard of it last, or what some
   magent has made of them.  One that has had no stamp is believed, if it is the
   same process. */
static bool
has_kept_items(const struct peer *peer, const struct identity *found)
{
	const struct bond_side *side;
	const struct peer *partner;
	bool had_stamp = false;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		side = bond_side(bond_of(peer, partner), peer);
		if (side->stamp != STAMP_MISSING && side->stamp >= side->before)
			return true;
		had_stamp |= side->before != STAMP_MISSING && !side->is_refused;
	}
	return !had_stamp &&
	    (!peer->identity.known ||
		identity_compare(&peer->identity, found) != IDENTITY_NEW);
}

static bool
has_trusted_partner(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL && peer_is_trusted(partner))
			return true;
	}
	return false;
}

/*
 * The items of a server that had a stamp, and has none, are not believed, so it
 * must be emptied.  What is thrown away should be on a partner that is up.
 * Returns whether one is, or none has been for so long that it is better to go
 * on.
 */
static bool
may_empty_stranger(struct judge *judge, int64_t now_ms)
{
	const struct peer *peer = judge->peer;

	if (has_trusted_partner(peer) || peer->away_partners == 0)
		return true;
	if (judge->stranger_ms == 0)
		judge->stranger_ms = now_ms;
	return now_ms - judge->stranger_ms >= STRANGER_WAIT_MS;
}

/*
 * Stamps
 */

/* Keys that the two share are not dirty any more, nor missing. */
static void
forget_keys(struct dirty *dirty, struct peer *peer, const struct peer *partner)
{
	struct dirty *others = dirty_new();
	char key[PROTO_KEY_MAX];
	struct pair pair;
	size_t length;
	bool base64;

	if (others == NULL || dirty_is_all(dirty)) {
		dirty_free(others);
		return;
	}
	while (dirty_pop(dirty, key, &length, &base64)) {
		pair = pairs_find_wire(peer->pairs, key, length, base64);
		if (pair_partner(&pair, peer) != partner)
			dirty_add(others, key, length, base64);
	}
	while (dirty_pop(others, key, &length, &base64))
		dirty_add(dirty, key, length, base64);
	if (dirty_is_all(others))
		dirty_add_all(dirty);
	dirty_free(others);
}

static size_t
count_keys(const struct peer *peer)
{
	return dirty_count(peer->dirty) + dirty_count(peer->missing) +
	    dirty_count(peer->undecided);
}

/* Each holds what the other one holds. */
static void
judge_equal(struct peer *peer, struct peer *partner)
{
	struct bond *bond = bond_of(peer, partner);

	bond_become_equal(bond, bond_side(bond, peer)->stamp);
	behind_set(peer, partner, BEHIND_NOT);
	if (dirty_count(peer->dirty) + dirty_count(peer->missing) == 0)
		return;
	forget_keys(peer->dirty, peer, partner);
	forget_keys(peer->missing, peer, partner);
}

/* Neither has a stamp.  One that holds nothing has lost it. */
static void
judge_new_pair(struct peer *peer, struct peer *partner,
    const struct identity *found)
{
	struct bond *bond = bond_of(peer, partner);

	stamp_give_first(bond, partner);
	if (found->stored == 0) {
		behind_set(peer, partner, BEHIND_ALL);
		return;
	}
	stamp_give_first(bond, peer);
	bond_become_equal(bond, STAMP_FIRST);
}

/* Whether it has keys that nobody else has who is there. */
static bool
has_only_copies(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL && !peer_is_mirror(partner) &&
		    behind_of(peer, partner) != BEHIND_ALL)
			return true;
	}
	return false;
}

/* Its stamp is lower than that of the partner. */
static void
judge_lower(struct peer *peer, struct peer *partner)
{
	struct bond *bond = bond_of(peer, partner);
	const struct bond_side *side = bond_side(bond, peer);
	uint64_t stamp = side->stamp;

	bond_note(bond, bond_side(bond, partner)->stamp);
	/* Our dirty keys are about what we have seen there. */
	if (!bond->is_foreign && stamp == side->before &&
	    (stamp != STAMP_MISSING || bond->is_new || side->is_refused) &&
	    !dirty_is_all(peer->dirty)) {
		if (behind_of(peer, partner) == BEHIND_NOT)
			behind_set(peer, partner, BEHIND_KEYS);
		return;
	}
	if (stamp != STAMP_MISSING)
		log_warning("s %s: behind s %s: somebody wrote past it",
		    peer_name(peer), peer_name(partner));
	behind_distrust(peer, partner);
}

/* Its stamp is higher than that of the partner, a mirror.  If we know what that
   one lacks, it has nothing that is old. */
static void
judge_higher(struct peer *peer, struct peer *partner)
{
	struct bond *bond = bond_of(peer, partner);

	if (behind_of(partner, peer) == BEHIND_ALL ||
	    (!bond->is_foreign && bond_side(bond, peer)->stamp == bond->known))
		return;
	judge_fail(partner, peer);
}

/* Returns whether it holds what the partner does. */
static bool
judge_stamps(struct peer *peer, struct peer *partner,
    const struct identity *found)
{
	const struct bond *bond = bond_of(peer, partner);
	uint64_t stamp = bond_side(bond_of(peer, partner), peer)->stamp;
	uint64_t other = bond_side(bond_of(peer, partner), partner)->stamp;

	if (bond_lacks_room(bond) || (stamp == other && bond_is_rising(bond))) {
		/* Nobody but us knows; or nobody else yet. */
		if (behind_of(peer, partner) == BEHIND_NOT)
			behind_set(peer, partner, BEHIND_KEYS);
		return false;
	}
	if (stamp == other && stamp == STAMP_MISSING)
		judge_new_pair(peer, partner, found);
	else if (stamp == other)
		judge_equal(peer, partner);
	else if (stamp < other)
		judge_lower(peer, partner);
	else
		judge_higher(peer, partner);
	return stamp == other && stamp != STAMP_MISSING;
}

void
judge_fail(struct peer *peer, const struct peer *partner)
{
	char why[512];

	bond_of(peer, partner)->is_foreign = true;
	snprintf(why, sizeof(why), "behind s %s: somebody wrote past it",
	    peer_name(partner));
	server_fail(peer->server, why);
	/* It may be back when the partner is away. */
	behind_distrust(peer, partner);
}

/* Nothing is known of the keys that the two share.  Returns whether something
   was. */
static bool
forget_pair(struct peer *peer, struct peer *partner)
{
	size_t before = count_keys(peer) + count_keys(partner);

	forget_keys(peer->dirty, peer, partner);
	forget_keys(peer->missing, peer, partner);
	forget_keys(peer->undecided, peer, partner);
	forget_keys(partner->dirty, partner, peer);
	forget_keys(partner->missing, partner, peer);
	forget_keys(partner->undecided, partner, peer);
	return count_keys(peer) + count_keys(partner) < before;
}

/*
 * The partner is away, so that nobody has answered for the two.  If the peer
 * has a stamp that is higher than any that we know, another magent has made it
 * whole since: it had what the partner had.  If another one is at work with it
 * now, what we know is what we were about to do when we lost both: that one
 * knows better, and has the copies compared: see serving.c.
 */
static bool
judge_beside_absent(struct judge *judge, struct peer *partner)
{
	struct peer *peer = judge->peer;
	struct bond *bond = bond_of(peer, partner);
	uint64_t stamp = bond_side(bond, peer)->stamp;

	if (bond->known == STAMP_MISSING || stamp < bond->known ||
	    (stamp == bond->known && !judge->is_other_at_work))
		return false;
	behind_set(peer, partner, BEHIND_NOT);
	if (judge->is_other_at_work) {
		judge->has_forgotten |= forget_pair(peer, partner);
		bond->is_foreign = true;
	} else {
		forget_keys(peer->dirty, peer, partner);
		forget_keys(peer->missing, peer, partner);
	}
	return true;
}

/* What may be old in it, of any key, is to go. */
static void
settle_old(struct peer *peer, const struct identity *found)
{
	const struct peer *partner;
	bool is_old = false;
	size_t i;

	peer->has_old_part = false;
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		is_old |= partner != NULL && behind_is_old(peer, partner);
	}
	if (!is_old || found->stored == 0)
		return;
	if (has_only_copies(peer))
		peer->has_old_part = true;
	else
		peer_add_all_dirty(peer);
}

/*
 * Both
 */

/* What was sent to another process on old connections is not carried out by
   this one. */
static void
forget_connections(struct peer *peer)
{
	zombies_reset(server_zombies(peer->server));
	if (peer->lists != NULL)
		zombies_reset(peer->lists);
}

/* Without partners nobody has what it lacks; but it may have been away at a
   flush_all. */
static void
judge_alone(struct peer *peer, const struct identity *found)
{
	if (dirty_is_all(peer->dirty) &&
	    (!peer->identity.known ||
		identity_compare(&peer->identity, found) == IDENTITY_NEW))
		distrust_all_items(peer, found);
}

/* Another magent that serves without the partner raises the stamp of the peer
   with each write.  If that has nothing that may be old, nothing changes. */
static bool
may_rise(const struct peer *peer, const struct peer *partner)
{
	return behind_of(peer, partner) != BEHIND_ALL &&
	    !dirty_is_all(peer->dirty) && count_keys(peer) == 0 &&
	    (!peer_is_mirror(partner) ||
		behind_of(partner, peer) == BEHIND_ALL);
}

static void
note_judged(const struct peer *peer)
{
	const struct peer *partner;
	struct bond_side *side;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		side = bond_side(bond_of(peer, partner), peer);
		side->judged = side->stamp;
		side->may_rise = may_rise(peer, partner);
	}
}

bool
judge_is_outdated(const struct peer *peer)
{
	const struct peer *partner;
	const struct bond_side *side;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		side = bond_side(bond_of(peer, partner), peer);
		if (side->stamp != side->judged &&
		    !(side->may_rise && side->stamp > side->judged))
			return true;
	}
	return false;
}

bool
judge_contents(struct judge *judge, const struct identity *found,
    int64_t now_ms)
{
	struct peer *peer = judge->peer, *partner;
	bool is_whole = true;
	size_t i;

	assert(peer->state == PEER_IDENTIFY && found->known);
	if (peer->identity.known &&
	    identity_compare(&peer->identity, found) == IDENTITY_NEW)
		forget_connections(peer);
	if (!pairs_are_mirrored(peer->pairs)) {
		judge_alone(peer, found);
		return true;
	}
	if (!peer->identity.known && found->stored == 0) {
		behind_lost(peer);
	} else if (!has_kept_items(peer, found)) {
		if (found->stored > 0 && !may_empty_stranger(judge, now_ms))
			return false;
		behind_lost(peer);
		distrust_all_items(peer, found);
	}
	judge->stranger_ms = 0;
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		if (!peer_is_mirror(partner))
			is_whole &= judge_beside_absent(judge, partner);
		else
			is_whole &= bond_side(bond_of(peer, partner), partner)
					->is_read &&
			    judge_stamps(peer, partner, found);
	}
	/* Another magent has done what this one was about to do. */
	if (is_whole)
		dirty_clear(peer->dirty);
	settle_old(peer, found);
	note_judged(peer);
	return true;
}

/* The same at the start: what it is not behind, it holds.  Returns false if it
   is behind. */
static bool
judge_start_with(struct peer *peer, struct peer *partner)
{
	struct bond *bond = bond_of(peer, partner);
	uint64_t stamp = bond_side(bond, peer)->stamp;
	uint64_t other = bond_side(bond, partner)->stamp;

	if (stamp < other) {
		behind_distrust(peer, partner);
		return false;
	}
	if (stamp > other) {
		judge_fail(partner, peer);
		return true;
	}
	if (stamp == STAMP_MISSING) {
		stamp_give_first(bond, peer);
		stamp_give_first(bond, partner);
	}
	judge_equal(peer, partner);
	return true;
}

bool
judge_start(struct peer *peer, const struct identity *found)
{
	struct peer *partner;
	struct bond *bond;
	size_t i;

	assert(peer->state == PEER_STARTING);
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		bond = bond_of(peer, partner);
		/* What has nothing is filled when the other one is there;
		   unless a program before has known what it lacks. */
		if (partner->state == PEER_DOWN && found->stored == 0 &&
		    !peer->identity.known)
			behind_set(peer, partner, BEHIND_ALL);
		if (peer_is_mirror(partner) &&
		    bond_side(bond, partner)->is_read &&
		    !bond_lacks_room(bond) && !judge_start_with(peer, partner))
			return false;
	}
	return true;
}
