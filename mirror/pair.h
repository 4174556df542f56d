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
struct conn_loop;
struct resolver;
struct gate;
struct pairs;
struct peer;
struct server_handler;
struct server_settings;

/* The servers of a key. */
struct pair {
	struct peer *primary;
	struct peer *backup; /* NULL: none */
	uint32_t hash;       /* of the key */
};

enum { PAIRS_BATCH = 8 }; /* keys that are looked up together */

struct pairs_servers {
	const struct address *primaries, *backups; /* borrowed */
	size_t primary_count, backup_count;
	enum ketama_kind ring;
};

/* What has happened since the start. */
struct pairs_counters {
	uint64_t failovers;  /* a believed server went down */
	uint64_t effects;    /* sent to mirrors */
	uint64_t mismatches; /* a mirror answered otherwise */
	uint64_t repairs;    /* keys deleted on a mirror because of that */
	uint64_t zombies;    /* old connections had to be waited for */
	uint64_t copied;     /* keys given back to returned servers */
	uint64_t overtaken;  /* a live write was there before the copy */
};

/* Build the rings and the servers, which tell news with their peer as owner.
   Returns NULL when out of memory. */
struct pairs *pairs_new(struct conn_loop *loop, struct resolver *resolver,
    const struct pairs_servers *servers, const struct server_settings *settings,
    const struct server_handler *handler);

void pairs_free(struct pairs *pairs); /* NULL is fine */

struct pair pairs_find(const struct pairs *pairs, const char *key,
    size_t length);

/* The same for n keys, at most PAIRS_BATCH, to found[]; cheaper than one by
   one. */
void pairs_find_all(const struct pairs *pairs, const char *const *keys,
    const size_t *lengths, size_t n, struct pair *found);

/* The same for a key as it is on a command line, base64 or not. */
struct pair pairs_find_wire(const struct pairs *pairs, const char *key,
    size_t length, bool base64);

/* Whether keys have two servers; then cas tokens are tagged, too. */
bool pairs_are_mirrored(const struct pairs *pairs);

size_t pairs_peer_count(const struct pairs *pairs);
struct peer *pairs_peer(struct pairs *pairs, size_t i);
struct gate *pairs_gate(struct pairs *pairs);
struct pairs_counters *pairs_counters(struct pairs *pairs);

/* The lowest x.y.z of the servers' versions that are known. */
void pairs_version(const struct pairs *pairs, char *out, size_t size);

/* How many pairs of servers have nobody who answers. */
size_t pairs_uncovered(const struct pairs *pairs);

/* Who answers for the keys of this pair now; NULL: nobody. */
struct peer *pair_authority(const struct pair *pair);

/* The other one of the pair; NULL: there is none. */
struct peer *pair_partner(const struct pair *pair, const struct peer *peer);

/*
 * All servers have been told to drop, at this time of the monotonic clock, what
 * they hold then; 0: they have not.  In how many seconds from now that is; 0 if
 * it is over.
 */
void pairs_set_flush(struct pairs *pairs, int64_t at_ms);
int64_t pairs_flush_in(const struct pairs *pairs, int64_t now_ms);

/* Whether any peer is to be given what clients read from its partners. */
bool pairs_are_warming(const struct pairs *pairs);

#endif
