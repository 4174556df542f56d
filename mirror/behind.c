/*
 * Who is behind whom.
 *
 *   no mirror while the other one is ----> BEHIND_KEYS --.
 *   a new life, too many keys ------------> BEHIND_ALL ---+--> NOT
 *                                                 read, and handed back
 *
 * Invariant: a peer that is not behind another one holds every item that the
 * other one holds of the keys that they share, as it is there.  A peer that was
 * no mirror while the other one was is behind it, and one that has returned is
 * behind all until its handback.  So of two mirrors of which one has just
 * become so, the other one goes on to answer; and nobody falls behind a mirror
 * while it is one itself.
 *
 * It outlasts failures: a server that fails in the middle of a rebuild still
 * lacks what it lacked.  And a partner that is back empty holds nothing that
 * anybody could lack.
 */

#include "mirror/behind.h"

#include <assert.h>

#include "mirror/bond.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

static struct standing *
standing_of(const struct peer *peer, const struct peer *other)
{
	assert(peer->pairs == other->pairs && peer != other);
	return &peer->standings[other->index];
}

enum behind
behind_of(const struct peer *peer, const struct peer *other)
{
	return standing_of(peer, other)->behind;
}

void
behind_set(const struct peer *peer, const struct peer *other,
    enum behind behind)
{
	struct standing *standing = standing_of(peer, other);

	assert(standing->reading == READING_NOT);
	standing->behind = behind;
	if (behind == BEHIND_NOT)
		standing->is_old = false;
}

void
behind_distrust(const struct peer *peer, const struct peer *other)
{
	behind_set(peer, other, BEHIND_ALL);
	standing_of(peer, other)->is_old = true;
}

bool
behind_is_old(const struct peer *peer, const struct peer *other)
{
	return standing_of(peer, other)->is_old;
}

void
behind_be_emptied(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++)
		peer->standings[i].is_old = false;
}

bool
behind_yields(const struct peer *peer, const struct peer *other)
{
	if (behind_of(peer, other) == BEHIND_NOT || !peer_is_mirror(other))
		return false;
	if (!peer_is_mirror(peer) || behind_of(other, peer) == BEHIND_NOT)
		return true;
	assert(peer->mirror_since != other->mirror_since);
	return other->mirror_since < peer->mirror_since;
}

static size_t
partners_end(const struct peer *peer)
{
	return pairs_peer_count(peer->pairs);
}

static void
miss_writes(const struct peer *peer, const struct peer *other)
{
	struct standing *standing = standing_of(peer, other);

	if (standing->behind == BEHIND_NOT)
		standing->behind = BEHIND_KEYS;
}

void
behind_mirror_changed(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	for (i = 0; i < partners_end(peer); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		if (peer_is_mirror(peer) && !peer_is_mirror(partner))
			miss_writes(partner, peer);
		/* A returned one has keys to copy: effects without a reply, if
		   nothing else. */
		if (peer_is_mirror(peer) || peer_is_mirror(partner))
			miss_writes(peer, partner);
	}
}

void
behind_missed_nothing(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	assert(peer_is_mirror(peer));
	for (i = 0; i < partners_end(peer); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL &&
		    behind_of(peer, partner) == BEHIND_KEYS &&
		    behind_of(partner, peer) == BEHIND_ALL &&
		    bond_side(bond_of(peer, partner), peer)->may_rise)
			behind_set(peer, partner, BEHIND_NOT);
	}
}

void
behind_all(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < partners_end(peer); i++)
		if (pairs_partner(peer, i) != NULL)
			peer->standings[i].behind = BEHIND_ALL;
}

void
behind_lost(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	behind_all(peer);
	for (i = 0; i < partners_end(peer); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL)
			standing_of(partner, peer)->behind = BEHIND_NOT;
	}
}

void
behind_forget_keys(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < partners_end(peer); i++)
		if (peer->standings[i].behind == BEHIND_KEYS)
			peer->standings[i].behind = BEHIND_ALL;
}

/*
 * Reading
 */

void
behind_begin_reading(const struct peer *peer)
{
	struct standing *standing;
	const struct peer *partner;
	size_t i;

	for (i = 0; i < partners_end(peer); i++) {
		partner = pairs_partner(peer, i);
		standing = &peer->standings[i];
		if (partner == NULL || standing->reading == READING_DONE)
			continue;
		assert(standing->reading == READING_NOT);
		if (standing->behind != BEHIND_ALL ||
		    behind_yields(peer, partner))
			standing->reading = READING_NOW;
	}
}

bool
behind_is_listed(const struct peer *peer, const struct peer *from)
{
	return peers_are_partners(peer, from) &&
	    standing_of(peer, from)->reading == READING_NOW &&
	    behind_of(peer, from) == BEHIND_ALL;
}

bool
behind_is_read(const struct peer *peer, const struct peer *from)
{
	return peers_are_partners(peer, from) &&
	    standing_of(peer, from)->reading != READING_NOT;
}

void
behind_unread(const struct peer *peer, const struct peer *from)
{
	standing_of(peer, from)->reading = READING_NOT;
}

void
behind_end_reading(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < partners_end(peer); i++)
		if (peer->standings[i].reading == READING_NOW)
			peer->standings[i].reading = READING_DONE;
}

bool
behind_may_read_more(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	for (i = 0; i < partners_end(peer); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL &&
		    peer->standings[i].reading == READING_NOT &&
		    behind_yields(peer, partner))
			return true;
	}
	return false;
}

void
behind_stop_reading(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < partners_end(peer); i++)
		peer->standings[i].reading = READING_NOT;
}

void
behind_become_whole(const struct peer *peer)
{
	struct standing *standing;
	size_t i;

	for (i = 0; i < partners_end(peer); i++) {
		standing = &peer->standings[i];
		assert(standing->reading != READING_NOW);
		if (standing->reading == READING_DONE)
			standing->behind = BEHIND_NOT;
		standing->reading = READING_NOT;
	}
}
