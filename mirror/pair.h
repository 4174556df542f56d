#ifndef PAIR_H
#define PAIR_H

/*
 * Who holds a key, and who answers for it: the rings, the servers on them, and
 * the rule of authority.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ketama.h"

struct address;
struct blame;
struct bond;
struct conn_loop;
struct flushes;
struct resolver;
struct gate;
struct learner;
struct marks;
struct pace;
struct pairs;
struct peer;
struct server_handler;
struct server_settings;

/* The servers of a key; both are borrowed. */
struct pair {
	struct peer *primary;
	/* Another server than the primary; NULL: there is none. */
	struct peer *backup;
	/* Of the key.  It is 0 for all keys if there is one server of each kind
	   at most, with one link each, so that the hash decides nothing. */
	uint32_t hash;
};

/* How many keys are looked up together. */
enum { PAIRS_BATCH = 8 };

struct pairs_servers {
	/* In the order of the command line, borrowed. */
	const struct address *primaries, *backups;
	/* At least one primary. */
	size_t primary_count, backup_count;
	/* The kind of both rings. */
	enum ketama_kind ring;
};

/* What the scrub has done since magent started: see scrub.h. */
struct scrub_counters {
	/* A pass is under way.  When it began, in milliseconds of the monotonic
	   clock; and keys that were taken from the lists of servers since. */
	bool is_running;
	int64_t began_ms;
	uint64_t taken;
	/* Keys that were read on both of their servers. */
	uint64_t compared;
	/* Keys of which the mirror held something else, or nothing; but for
	   numbers of which memcached has lost a time to live or a mark. */
	uint64_t different;
	/* Keys that the authority lacked. */
	uint64_t only_on_mirror;
	/* Keys that were made equal: all of these, but for those left. */
	uint64_t repaired;
	/* Keys that were left as they are: one server lacks them, and throws
	   items away to make room. */
	uint64_t left;
	/* Keys that were not compared: their servers were not equal at that
	   moment, or say errors. */
	uint64_t not_compared;
	/* Passes that have come to their end. */
	uint64_t passes;
	/* When the last one ended that has left nothing out: seconds since
	   1970; 0: there was none. */
	uint64_t last_pass;
};

/* What has happened since magent started. */
struct pairs_counters {
	/* A trusted server went down, or never came up. */
	uint64_t failovers;
	/* Effects that were queued for mirrors. */
	uint64_t effects;
	/* Replies of a mirror to an effect or a repair that do not agree with
	   what the authority did. */
	uint64_t mismatches;
	/* Deletes that were queued for a mirror because of that. */
	uint64_t repairs;
	/* A server returned, and old connections had to be waited for. */
	uint64_t zombies;
	/* As in struct rebuild_progress, of the rebuilds that are done. */
	uint64_t copied, overtaken;
	struct scrub_counters scrub;
};

/*
 * Build the rings, and a peer for each server.  An address that is in both
 * lists is one peer.  The handler of the servers has the peer as its owner.
 * What servers points to, and handler, are borrowed.  resolver may be NULL: see
 * struct peer_args.  Returns NULL when out of memory.
 */
struct pairs *pairs_new(struct conn_loop *loop, struct resolver *resolver,
    const struct pairs_servers *servers, const struct server_settings *settings,
    const struct server_handler *handler);

void pairs_free(struct pairs *pairs); /* NULL is fine */

/* The servers of a key of 1 to 250 bytes, and its hash. */
struct pair pairs_find(const struct pairs *pairs, const char *key,
    size_t length);

/* The same for n keys, at most PAIRS_BATCH, to found[].  This is cheaper than
   one call for each. */
void pairs_find_all(const struct pairs *pairs, const char *const *keys,
    const size_t *lengths, size_t n, struct pair *found);

/* The same for a key as it is on a command line.  If it is base64, it can be
   decoded. */
struct pair pairs_find_wire(const struct pairs *pairs, const char *key,
    size_t length, bool base64);

/* The hash of a key of 1 to 250 bytes, also where it decides nothing. */
uint32_t pairs_hash(const struct pairs *pairs, const char *key, size_t length);

/* Whether there are keys with two servers.  If so, cas tokens are tagged. */
bool pairs_are_mirrored(const struct pairs *pairs);

/* The number by which servers know this magent: it is made anew at each start,
   has 17 digits at most, and is not 0. */
uint64_t pairs_magent_id(const struct pairs *pairs);

/* Be known by the number that this magent had before. */
void pairs_set_magent_id(struct pairs *pairs, uint64_t id);

/* The peers, in the order of the command line; i < pairs_peer_count(). */
size_t pairs_peer_count(const struct pairs *pairs);
struct peer *pairs_peer(struct pairs *pairs, size_t i);

/* The i-th of all peers, if it is a partner of this one; or NULL. */
struct peer *pairs_partner(const struct peer *peer, size_t i);

/* The bonds of all partners, *count of them; NULL: there are none. */
struct bond *pairs_bonds(struct pairs *pairs, size_t *count);

/* The gate of all peers. */
struct gate *pairs_gate(struct pairs *pairs);

/* The flush_alls of all peers. */
struct flushes *pairs_flushes(struct pairs *pairs);

/* The keys at which servers fail. */
struct blame *pairs_blame(const struct pairs *pairs);

/* How fast copies may begin. */
struct pace *pairs_pace(const struct pairs *pairs);

/* Has mirrors learn single keys. */
struct learner *pairs_learner(const struct pairs *pairs);

/* Keys whose items have marks that memcached may forget. */
struct marks *pairs_marks(const struct pairs *pairs);

struct pairs_counters *pairs_counters(struct pairs *pairs);

/* Write the lowest of the versions that are known, as x.y.z, to out of size
   bytes.  1.6.18 if none is known. */
void pairs_version(const struct pairs *pairs, char *out, size_t size);

/* Whether no peer that is a mirror owes an answer, and the gate is open. */
bool pairs_are_idle(const struct pairs *pairs);

/* How many pairs of a primary and a backup have no authority.  A primary that
   has no backup counts as a pair. */
size_t pairs_uncovered(const struct pairs *pairs);

/* A peer has become a mirror, or it is none any more.  Note which peers are
   uncovered, and have these connect as soon as they can. */
void pairs_note_uncovered(struct pairs *pairs);

/* The peer that answers for the keys of this pair now; NULL: none does.  Calls
   can be submitted to it: see peer_is_mirror(). */
struct peer *pair_authority(const struct pair *pair);

/* Why it is that one, or none, in one word. */
const char *pair_reason(const struct pair *pair);

/* The other server of the pair than peer, which is one of them; NULL: there is
   none. */
struct peer *pair_partner(const struct pair *pair, const struct peer *peer);

/*
 * The peer has failed as the mirror of a key, and has not answered an effect or
 * a copy, or waits for one: its copy of the key may be old.  The key is as for
 * peer_add_dirty(), and its authority gets a new stamp.  If the authority of
 * the key has failed meanwhile, too, what the peer has is not old: after that
 * no server has answered a write, because the answer would have come behind
 * that of the effect.
 */
void pairs_lose_effect(const struct pairs *pairs, struct peer *peer,
    const char *key, size_t length, bool base64);

/*
 * How the keys are spread: shares[i * n + j], of n = pairs_peer_count(), is the
 * part of all hashes whose primary is the i-th peer and whose backup is the
 * j-th; with j = i, that of the i-th peer without a backup.  The sum is 1.
 * shares has n * n places.
 */
void pairs_measure(const struct pairs *pairs, double *shares);

/* Whether some peer is warming: see peer_set_warming(). */
bool pairs_are_warming(const struct pairs *pairs);

#endif
