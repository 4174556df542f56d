/*
 * Two partners, and what their stamps say of them.
 *
 * Invariant: unless a bond is foreign, each write that one of its servers has
 * missed since they were equal was answered to a client of ours, and its key is
 * dirty for that server; and known is the stamp of the other one.
 */

#include "mirror/bond.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/util.h>

#include "md5.h"
#include "mirror/behind.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"

enum {
	/* Two magents that give a stamp in the same microsecond. */
	DICE_BITS = 8,
	FILLING_BITS = 31,
};

/* It is made of both names in their order, so that each magent that calls the
   two the same makes the same of them. */
static uint64_t
name_of(const struct peer *one, const struct peer *other)
{
	unsigned char digest[16];
	uint64_t name;
	size_t n = strlen(peer_name(one)) + strlen(peer_name(other)) + 2;
	char *text = malloc(n);

	if (text == NULL)
		return 0;
	snprintf(text, n, "%s %s", peer_name(one), peer_name(other));
	md5(text, n - 1, digest);
	free(text);
	memcpy(&name, digest, sizeof(name));
	return name;
}

/* Returns false when out of memory. */
static bool
bond_init(struct bond *bond, struct peer *one, struct peer *other)
{
	bool in_order = strcmp(peer_name(one), peer_name(other)) < 0;

	bond->peers[0] = in_order ? one : other;
	bond->peers[1] = in_order ? other : one;
	bond->name = name_of(bond->peers[0], bond->peers[1]);
	bond->is_foreign = true;
	one->standings[other->index].bond = bond;
	other->standings[one->index].bond = bond;
	return bond->name != 0;
}

/* The next two partners behind *i and *j, which is behind *i. */
static bool
next_partners(struct pairs *pairs, size_t *i, size_t *j)
{
	size_t n = pairs_peer_count(pairs);

	for (; *i < n; *j = ++*i)
		while (++*j < n)
			if (peers_are_partners(pairs_peer(pairs, *i),
				pairs_peer(pairs, *j)))
				return true;
	return false;
}

struct bond *
bonds_new(struct pairs *pairs, size_t *count)
{
	struct bond *bonds;
	size_t i, j, n = 0;

	for (i = j = 0; next_partners(pairs, &i, &j);)
		n++;
	*count = n;
	bonds = n == 0 ? NULL : calloc(n, sizeof(*bonds));
	if (bonds == NULL)
		return NULL;
	n = 0;
	for (i = j = 0; next_partners(pairs, &i, &j);)
		if (!bond_init(&bonds[n++], pairs_peer(pairs, i),
			pairs_peer(pairs, j))) {
			free(bonds);
			return NULL;
		}
	assert(n == *count);
	return bonds;
}

void
bonds_free(struct bond *bonds, size_t count)
{
	size_t i;

	for (i = 0; bonds != NULL && i < count; i++)
		free(bonds[i].bump);
	free(bonds);
}

struct bond *
bond_of(const struct peer *peer, const struct peer *partner)
{
	struct bond *bond = peer->standings[partner->index].bond;

	assert(peers_are_partners(peer, partner) && bond != NULL);
	return bond;
}

struct bond_side *
bond_side(struct bond *bond, const struct peer *peer)
{
	assert(peer == bond->peers[0] || peer == bond->peers[1]);
	return &bond->sides[peer == bond->peers[1]];
}

struct peer *
bond_partner(const struct bond *bond, const struct peer *peer)
{
	assert(peer == bond->peers[0] || peer == bond->peers[1]);
	return bond->peers[peer == bond->peers[0]];
}

size_t
bond_key(const struct bond *bond, unsigned int twin, char out[BOND_KEY_MAX])
{
	int n = snprintf(out, BOND_KEY_MAX, PROTO_RESERVED "%016llx:%u",
	    (unsigned long long)bond->name, twin + 1);

	assert(twin < BOND_TWINS && n > 0 && n < BOND_KEY_MAX);
	return (size_t)n;
}

size_t
bond_claim_key(const struct bond *bond, char out[BOND_KEY_MAX])
{
	int n = snprintf(out, BOND_KEY_MAX, PROTO_RESERVED "%016llx:claim",
	    (unsigned long long)bond->name);

	assert(n > 0 && n < BOND_KEY_MAX);
	return (size_t)n;
}

uint64_t
bond_parse(const char *text, size_t n)
{
	return proto_number(text, n);
}

/* Random bits. */
static uint64_t
dice(unsigned int bits)
{
	uint32_t random;

	assert(bits > 0 && bits <= 32);
	evutil_secure_rng_get_bytes(&random, sizeof(random));
	return random >> (32 - bits);
}

/* The time of day in microseconds, and DICE_BITS random bits behind it. */
static uint64_t
stamp_of_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000)
	    << DICE_BITS |
	    dice(DICE_BITS);
}

uint64_t
bond_step(const struct bond *bond, uint64_t stamp)
{
	uint64_t goal = stamp_of_now();

	if (goal <= bond->known)
		goal = bond->known + 1 + dice(DICE_BITS);
	return goal > stamp ? goal - stamp : 1 + dice(DICE_BITS);
}

uint64_t
bond_filling(void)
{
	return 1 + dice(FILLING_BITS);
}

static void
bond_forget_look(struct bond_side *side)
{
	side->is_read = side->is_kept = false;
}

void
bonds_peer_failed(const struct peer *peer)
{
	struct pairs *pairs = peer->pairs;
	const struct peer *partner;
	struct bond *bond;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		partner = pairs_peer(pairs, i);
		if (!peers_are_partners(peer, partner))
			continue;
		bond = bond_of(peer, partner);
		bond_forget_look(bond_side(bond, peer));
		/* What it may lack of another magent is not dirty. */
		bond->is_foreign |= peer->standings[i].is_unproved;
	}
}

bool
bond_is_late_answer(struct bond_side *side, uint64_t stamp)
{
	if (side->unanswered == 0 || side->stamp == STAMP_MISSING ||
	    stamp != side->stamp + side->unanswered)
		return false;
	side->unanswered = 0;
	return true;
}

void
bond_become_equal(struct bond *bond, uint64_t stamp)
{
	bond->known = stamp;
	bond->is_foreign = bond->is_new = false;
	bond->sides[0].goal = bond->sides[1].goal = STAMP_MISSING;
}

void
bond_note(struct bond *bond, uint64_t stamp)
{
	if (stamp <= bond->known)
		return;
	bond->known = stamp;
	bond->is_foreign = true;
}

bool
bond_is_rising(const struct bond *bond)
{
	return bond->bump != NULL;
}

bool
bond_lacks_room(const struct bond *bond)
{
	const struct bond_side *side;

	for (side = bond->sides; side < bond->sides + 2; side++)
		if (side->is_refused && side->stamp == STAMP_MISSING)
			return true;
	return false;
}

static void
note_own(struct bond *bond, struct bond_side *side, uint64_t stamp)
{
	side->before = stamp;
	if (stamp > bond->known)
		bond->known = stamp;
}

void
bond_read(struct bond *bond, const struct peer *peer, uint64_t one,
    uint64_t other)
{
	struct bond_side *side = bond_side(bond, peer);
	uint64_t stamp = one > other ? one : other;

	if (!bond->is_heard_of) {
		bond->is_heard_of = true;
		bond->is_new = stamp == STAMP_MISSING;
		bond->is_foreign = !bond->is_new;
	}
	if (bond_is_late_answer(side, stamp))
		note_own(bond, side, stamp);
	else if (!side->is_read)
		side->before = side->stamp;
	else if (stamp != side->stamp)
		bond->is_foreign = true;
	side->is_read = true;
	side->is_kept |= stamp != STAMP_MISSING;
	side->is_refused &= stamp == STAMP_MISSING;
	side->stamp = stamp;
	side->lacks_twin = stamp != STAMP_MISSING &&
	    (one == STAMP_MISSING || other == STAMP_MISSING);
}
