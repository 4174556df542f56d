/*
 * Who holds a key, and who answers for it.
 *
 *   key -> hash -> primary ring -> primary --.
 *            \                                > pair -> pair_authority()
 *             `--> backup ring  -> backup ---'
 *
 * Invariant: a key always has the same pair, whatever its servers do.  The
 * authority of a pair is a mirror, if one of them is; of two mirrors it is the
 * primary, unless that yields to the backup: see behind.c.  A primary that is
 * trusted does not yield to anybody.
 */

#include "mirror/pair.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/util.h>

#include "conn.h"
#include "hot_assert.h"
#include "mirror/behind.h"
#include "mirror/blame.h"
#include "mirror/bond.h"
#include "mirror/flush.h"
#include "mirror/gate.h"
#include "mirror/learn.h"
#include "mirror/marks.h"
#include "mirror/pace.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "proto.h"
#include "server/address.h"
#include "server/server.h"

struct pairs {
	enum ketama_kind kind;
	/* Owned.  backup_ring is NULL if there are no backups. */
	struct ketama *primary_ring, *backup_ring;
	/* Owned; the i-th is the i-th server of its ring, borrowed from
	   peers[]. */
	struct peer **primaries, **backups;
	size_t primary_count, backup_count;
	/* Owned; each server once. */
	struct peer *peers;
	size_t peer_count;
	/* Owned: a row for each peer. */
	struct standing *standings;
	/* Owned: one for any two partners. */
	struct bond *bonds;
	size_t bond_count;
	/* The hash of a key decides something: a server, or a link. */
	bool has_choice;
	uint64_t magent_id;
	/* How many peers are warming. */
	unsigned int warming_peers;
	struct gate *gate;       /* owned */
	struct flushes *flushes; /* owned */
	struct blame *blame;     /* owned */
	struct pace *pace;       /* owned */
	struct learner *learner; /* owned */
	struct marks *marks;     /* owned */
	struct pairs_counters counters;
};

/*
 * Keys
 */

/* The backup of a key; NULL if the only one is its primary. */
static __attribute__((noinline)) struct peer *
backup_at(const struct pairs *pairs, uint32_t hash, const struct peer *primary)
{
	size_t owner = ketama_find(pairs->backup_ring, hash);

	assert(owner < pairs->backup_count);
	if (pairs->backups[owner] == primary)
		owner = ketama_find_other(pairs->backup_ring, hash, owner);
	if (owner == pairs->backup_count)
		return NULL;
	assert(pairs->backups[owner] != primary);
	return pairs->backups[owner];
}

static inline struct pair
pair_at(const struct pairs *pairs, uint32_t hash)
{
	struct pair pair = { .hash = hash };
	size_t owner = ketama_find(pairs->primary_ring, hash);

	hot_assert(owner < pairs->primary_count);
	pair.primary = pairs->primaries[owner];
	if (pairs->backup_count > 0)
		pair.backup = backup_at(pairs, hash, pair.primary);
	return pair;
}

uint32_t
pairs_hash(const struct pairs *pairs, const char *key, size_t length)
{
	assert(length > 0);
	return ketama_hash(pairs->kind, key, length);
}

struct pair
pairs_find(const struct pairs *pairs, const char *key, size_t length)
{
	hot_assert(length > 0);
	return pair_at(pairs,
	    pairs->has_choice ? ketama_hash(pairs->kind, key, length) : 0);
}

void
pairs_find_all(const struct pairs *pairs, const char *const *keys,
    const size_t *lengths, size_t n, struct pair *found)
{
	uint32_t hashes[PAIRS_BATCH] = { 0 };
	size_t i;

	assert(n <= PAIRS_BATCH);
	if (pairs->has_choice)
		ketama_hashes(pairs->kind, keys, lengths, n, hashes);
	for (i = 0; i < n; i++)
		found[i] = pair_at(pairs, hashes[i]);
}

struct pair
pairs_find_wire(const struct pairs *pairs, const char *key, size_t length,
    bool base64)
{
	char decoded[PROTO_KEY_MAX];

	if (base64) {
		length = proto_base64_decode(key, length, decoded);
		key = decoded;
	}
	return pairs_find(pairs, key, length);
}

bool
pairs_are_mirrored(const struct pairs *pairs)
{
	return pairs->backup_count > 0 && pairs->peer_count > 1;
}

/* The primary is not trusted.  What a mirror has is not old, and a miss is
   better than an error. */
static __attribute__((noinline)) struct peer *
authority_in_return(const struct pair *pair)
{
	struct peer *primary = pair->primary, *backup = pair->backup;

	if (!peer_is_mirror(primary))
		return backup != NULL && peer_is_mirror(backup) ? backup : NULL;
	if (backup != NULL && behind_yields(primary, backup))
		return backup;
	return primary;
}

struct peer *
pair_authority(const struct pair *pair)
{
	if (peer_is_trusted(pair->primary))
		return pair->primary;
	return authority_in_return(pair);
}

const char *
pair_reason(const struct pair *pair)
{
	const struct peer *primary = pair->primary, *backup = pair->backup;
	bool has_mirror = backup != NULL && peer_is_mirror(backup);

	if (primary->state == PEER_STARTING)
		return "primary_is_starting";
	if (peer_is_trusted(primary))
		return "primary_is_trusted";
	if (!peer_is_mirror(primary))
		return has_mirror ? "primary_is_away" : "none_is_there";
	if (!has_mirror)
		return "backup_is_away";
	if (behind_yields(primary, backup))
		return "primary_is_behind";
	return behind_of(primary, backup) == BEHIND_NOT ?
	    "primary_lacks_nothing" :
	    "backup_is_behind";
}

struct peer *
pair_partner(const struct pair *pair, const struct peer *peer)
{
	hot_assert(peer == pair->primary || peer == pair->backup);
	return peer == pair->primary ? pair->backup : pair->primary;
}

void
pairs_lose_effect(const struct pairs *pairs, struct peer *peer, const char *key,
    size_t length, bool base64)
{
	struct pair pair = pairs_find_wire(pairs, key, length, base64);
	struct peer *partner = pair_partner(&pair, peer);

	assert(!peer_is_mirror(peer));
	peer_add_dirty(peer, key, length, base64);
	if (partner == NULL)
		return;
	if (peer_is_mirror(partner))
		stamp_raise(bond_of(peer, partner), partner, NULL);
	else
		peer_remove_dirty(partner, key, length, base64);
}

/* Of the kind modula, the hashes below this have each pair as often as all
   have. */
static uint64_t
hashes_to_measure(const struct pairs *pairs)
{
	if (pairs->kind != KETAMA_MODULA)
		return (uint64_t)UINT32_MAX + 1;
	return pairs->primary_count *
	    (pairs->backup_count > 0 ? pairs->backup_count : 1);
}

void
pairs_measure(const struct pairs *pairs, double *shares)
{
	uint64_t all = hashes_to_measure(pairs), hash, end, other;
	size_t n = pairs->peer_count;
	const struct peer *backup;
	struct pair pair;

	memset(shares, 0, n * n * sizeof(*shares));
	for (hash = 0; hash < all; hash = end + 1) {
		pair = pair_at(pairs, (uint32_t)hash);
		end = ketama_arc_end(pairs->primary_ring, (uint32_t)hash);
		if (pairs->backup_ring != NULL) {
			other = ketama_arc_end(pairs->backup_ring,
			    (uint32_t)hash);
			end = other < end ? other : end;
		}
		end = end < all ? end : all - 1;
		backup = pair.backup != NULL ? pair.backup : pair.primary;
		shares[pair.primary->index * n + backup->index] +=
		    (double)(end - hash + 1) / (double)all;
	}
}

bool
pairs_are_warming(const struct pairs *pairs)
{
	return pairs->warming_peers > 0;
}

uint64_t
pairs_magent_id(const struct pairs *pairs)
{
	return pairs->magent_id;
}

void
pairs_set_magent_id(struct pairs *pairs, uint64_t id)
{
	pairs->magent_id = id;
}

size_t
pairs_peer_count(const struct pairs *pairs)
{
	return pairs->peer_count;
}

struct peer *
pairs_peer(struct pairs *pairs, size_t i)
{
	assert(i < pairs->peer_count);
	return &pairs->peers[i];
}

struct peer *
pairs_partner(const struct peer *peer, size_t i)
{
	struct peer *partner = pairs_peer(peer->pairs, i);

	return peers_are_partners(peer, partner) ? partner : NULL;
}

struct bond *
pairs_bonds(struct pairs *pairs, size_t *count)
{
	*count = pairs->bond_count;
	return pairs->bonds;
}

struct gate *
pairs_gate(struct pairs *pairs)
{
	return pairs->gate;
}

struct flushes *
pairs_flushes(struct pairs *pairs)
{
	return pairs->flushes;
}

struct blame *
pairs_blame(const struct pairs *pairs)
{
	return pairs->blame;
}

struct pace *
pairs_pace(const struct pairs *pairs)
{
	return pairs->pace;
}

struct learner *
pairs_learner(const struct pairs *pairs)
{
	return pairs->learner;
}

struct marks *
pairs_marks(const struct pairs *pairs)
{
	return pairs->marks;
}

struct pairs_counters *
pairs_counters(struct pairs *pairs)
{
	return &pairs->counters;
}

/* Whether version a is lower than b. */
static bool
is_lower(const unsigned int a[3], const unsigned int b[3])
{
	int i;

	for (i = 0; i < 2 && a[i] == b[i]; i++)
		;
	return a[i] < b[i];
}

void
pairs_version(const struct pairs *pairs, char *out, size_t size)
{
	static const unsigned int usual[3] = { 1, 6, 18 };
	const unsigned int *lowest = NULL;
	const unsigned int *version;
	size_t i;

	for (i = 0; i < pairs->peer_count; i++) {
		version = pairs->peers[i].identity.version;
		if (version[0] > 0 &&
		    (lowest == NULL || is_lower(version, lowest)))
			lowest = version;
	}
	if (lowest == NULL)
		lowest = usual;
	snprintf(out, size, "%u.%u.%u", lowest[0], lowest[1], lowest[2]);
}

/*
 * A pair has no authority exactly if neither of its servers is a mirror; so
 * each primary that is none counts with each other backup that is none.  This
 * walks over each list once: with 500 servers, there are 60,000 pairs.
 */
size_t
pairs_uncovered(const struct pairs *pairs)
{
	const struct peer *primary;
	size_t backups_down = 0, uncovered = 0;
	size_t i;

	for (i = 0; i < pairs->backup_count; i++)
		backups_down += !peer_is_mirror(pairs->backups[i]);
	for (i = 0; i < pairs->primary_count; i++) {
		primary = pairs->primaries[i];
		if (peer_is_mirror(primary))
			continue;
		assert(!primary->is_backup || backups_down > 0);
		if (pairs->backup_count == primary->is_backup)
			uncovered++; /* it has no backup */
		else
			uncovered += backups_down - primary->is_backup;
	}
	return uncovered;
}

void
pairs_note_uncovered(struct pairs *pairs)
{
	size_t primaries_down = 0, backups_down = 0;
	struct peer *peer, *end = pairs->peers + pairs->peer_count;
	bool is_alone;

	for (peer = pairs->peers; peer < end; peer++) {
		primaries_down += peer->is_primary && !peer_is_mirror(peer);
		backups_down += peer->is_backup && !peer_is_mirror(peer);
	}
	for (peer = pairs->peers; peer < end; peer++) {
		is_alone = pairs->backup_count == peer->is_backup;
		peer->is_uncovered = !peer_is_mirror(peer) &&
		    ((peer->is_primary &&
			 (is_alone || backups_down > peer->is_backup)) ||
			(peer->is_backup && primaries_down > peer->is_primary));
		server_set_urgent(peer->server, peer->is_uncovered);
	}
}

bool
pairs_are_idle(const struct pairs *pairs)
{
	const struct peer *peer;

	if (gate_is_closed(pairs->gate))
		return false;
	for (peer = pairs->peers; peer < pairs->peers + pairs->peer_count;
	     peer++)
		if (peer_is_mirror(peer) &&
		    server_counters(peer->server)->waiting > 0)
			return false;
	return true;
}

/*
 * Life
 */

/* The peer with this address, which is made if it is new.  Returns NULL when
   out of memory. */
static struct peer *
peer_at(struct pairs *pairs, const struct address *address,
    const struct peer_args *args)
{
	struct peer *peer;

	for (peer = pairs->peers; peer < pairs->peers + pairs->peer_count;
	     peer++)
		if (strcmp(peer_name(peer), address->name) == 0)
			return peer;
	assert(pairs->peer_count < pairs->primary_count + pairs->backup_count);
	peer->index = pairs->peer_count++;
	peer->standings = pairs->standings +
	    peer->index * (pairs->primary_count + pairs->backup_count);
	return peer_init(peer, address, args) ? peer : NULL;
}

/* A ring over n > 0 addresses.  Returns NULL when out of memory. */
static struct ketama *
ring_new(enum ketama_kind kind, const struct address *addresses, size_t n)
{
	struct ketama_server *servers = calloc(n, sizeof(*servers));
	struct ketama *ring;
	size_t i;

	assert(n > 0);
	if (servers == NULL)
		return NULL;
	for (i = 0; i < n; i++) {
		servers[i].host = addresses[i].host;
		servers[i].port = addresses[i].port;
		servers[i].weight = addresses[i].weight;
	}
	ring = ketama_new(kind, servers, n);
	free(servers);
	return ring;
}

static bool
build_rings(struct pairs *pairs, const struct pairs_servers *servers)
{
	pairs->primary_ring = ring_new(servers->ring, servers->primaries,
	    servers->primary_count);
	if (servers->backup_count > 0)
		pairs->backup_ring = ring_new(servers->ring, servers->backups,
		    servers->backup_count);
	return pairs->primary_ring != NULL &&
	    (servers->backup_count == 0 || pairs->backup_ring != NULL);
}

static bool
build_peers(struct pairs *pairs, const struct pairs_servers *servers,
    const struct peer_args *args)
{
	size_t i;

	for (i = 0; i < servers->primary_count; i++) {
		pairs->primaries[i] = peer_at(pairs, &servers->primaries[i],
		    args);
		if (pairs->primaries[i] == NULL)
			return false;
		pairs->primaries[i]->is_primary = true;
	}
	for (i = 0; i < servers->backup_count; i++) {
		pairs->backups[i] = peer_at(pairs, &servers->backups[i], args);
		if (pairs->backups[i] == NULL)
			return false;
		pairs->backups[i]->is_backup = true;
	}
	return true;
}

struct pairs *
pairs_new(struct conn_loop *loop, struct resolver *resolver,
    const struct pairs_servers *servers, const struct server_settings *settings,
    const struct server_handler *handler)
{
	size_t n = servers->primary_count + servers->backup_count;
	struct pairs *pairs = calloc(1, sizeof(*pairs));
	struct peer_args args = {
		.loop = loop,
		.resolver = resolver,
		.settings = settings,
		.handler = handler,
		.pairs = pairs,
	};

	assert(servers->primary_count > 0 && settings->links > 0);
	if (pairs == NULL)
		return NULL;
	pairs->kind = servers->ring;
	pairs->primary_count = servers->primary_count;
	pairs->backup_count = servers->backup_count;
	pairs->has_choice = servers->primary_count > 1 ||
	    servers->backup_count > 1 || settings->links > 1;
	evutil_secure_rng_get_bytes(&pairs->magent_id,
	    sizeof(pairs->magent_id));
	pairs->magent_id = pairs->magent_id >> 8 | 1;
	pairs->gate = gate_new(loop, pairs);
	pairs->flushes = flushes_new(loop, pairs);
	pairs->blame = blame_new();
	pairs->pace = pace_new(loop);
	pairs->learner = learner_new(pairs);
	pairs->marks = marks_new();
	args.gate = pairs->gate;
	args.warming_peers = &pairs->warming_peers;
	pairs->primaries = calloc(servers->primary_count, sizeof(void *));
	pairs->backups = calloc(servers->backup_count + 1, sizeof(void *));
	pairs->peers = calloc(n, sizeof(*pairs->peers));
	pairs->standings = calloc(n * n, sizeof(*pairs->standings));
	if (pairs->gate == NULL || pairs->flushes == NULL ||
	    pairs->blame == NULL || pairs->pace == NULL ||
	    pairs->learner == NULL || pairs->marks == NULL ||
	    pairs->primaries == NULL || pairs->backups == NULL ||
	    pairs->peers == NULL || pairs->standings == NULL ||
	    !build_rings(pairs, servers) ||
	    !build_peers(pairs, servers, &args)) {
		pairs_free(pairs);
		return NULL;
	}
	pairs->bonds = bonds_new(pairs, &pairs->bond_count);
	if (pairs->bonds != NULL || pairs->bond_count == 0)
		return pairs;
	pairs_free(pairs);
	return NULL;
}

void
pairs_free(struct pairs *pairs)
{
	size_t i;

	if (pairs == NULL)
		return;
	for (i = 0; i < pairs->peer_count; i++)
		peer_destroy(&pairs->peers[i]);
	learner_free(pairs->learner);
	marks_free(pairs->marks);
	flushes_free(pairs->flushes);
	gate_free(pairs->gate);
	pace_free(pairs->pace);
	blame_free(pairs->blame);
	ketama_free(pairs->primary_ring);
	ketama_free(pairs->backup_ring);
	free(pairs->primaries);
	free(pairs->backups);
	free(pairs->peers);
	free(pairs->standings);
	bonds_free(pairs->bonds, pairs->bond_count);
	free(pairs);
}
