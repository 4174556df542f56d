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
#include "mirror/identity.h"

struct address;
struct block;
struct call;
struct conn_loop;
struct dirty;
struct evdns_base;
struct gate;
struct pairs;
struct server;
struct server_handler;
struct server_settings;

enum peer_state {
	PEER_DOWN,       /* away; waits for a connection */
	PEER_STARTING,   /* never heard of yet: believed, calls queue */
	PEER_IDENTIFY,   /* it is back: who is it? */
	PEER_DRAIN,      /* what it got before may be carried out */
	PEER_INVALIDATE, /* what may be old in it is being removed */
	PEER_REBUILD,    /* a mirror again; gets back what it lacks */
	PEER_HANDBACK,   /* has all; waits for a moment at rest */
	PEER_UP,
};

/* A server, as the order rules see it.  Only mirror.c changes one. */
struct peer {
	const struct address *address;
	struct server *server;
	struct pairs *pairs;
	bool primary, backup; /* its roles */
	enum peer_state state;
	int64_t changed_ms;    /* when it got there, monotonic */
	uint64_t mirror_since; /* of two that are only mirrors, the
					   lower one is the authority */
	bool lazy;             /* learns from what clients read; see
					   peer_set_warming() */
	struct identity identity;
	int64_t clock_ahead; /* of ours, seconds */
	struct dirty *dirty; /* keys whose copy here may be old */
	void *keeper;        /* mirror.c's */
};

/* The servers of a key. */
struct pair {
	struct peer *primary;
	struct peer *backup; /* NULL: none */
	uint32_t hash;       /* of the key */
};

enum {
	PAIRS_BATCH = 8,                        /* keys */
	PAIRS_RELATIVE_MAX = 60 * 60 * 24 * 30, /* seconds: memcached takes
						   more for a time */
};

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
struct pairs *pairs_new(struct conn_loop *loop, struct evdns_base *dns,
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

/* Whether there may be keys that these two hold. */
bool peers_are_partners(const struct peer *one, const struct peer *other);

/* Whether it may be an authority. */
bool peer_is_trusted(const struct peer *peer);

/* Whether effects are to be sent to it; otherwise its keys become dirty. */
bool peer_is_mirror(const struct peer *peer);

/* The tag, in bits 48 to 62, of the cas tokens that it gives out now. */
uint64_t peer_tag(const struct peer *peer);

/* The exptime that gives an item on peer so many seconds to live; -1: no
   end. */
int64_t peer_exptime(const struct peer *peer, int64_t seconds);

/*
 * All servers have been told to drop, at this time of the monotonic clock, what
 * they hold then; 0: they have not.  In how many seconds from now that is; 0 if
 * it is over.
 */
void pairs_set_flush(struct pairs *pairs, int64_t at_ms);
int64_t pairs_flush_in(const struct pairs *pairs, int64_t now_ms);

const char *peer_name(const struct peer *peer);
const char *peer_role(const struct peer *peer);
const char *peer_state_name(enum peer_state state);

/* Whether a peer is to be given what clients read from its partners; whether
   any is. */
void peer_set_warming(struct peer *peer, bool lazy);
bool pairs_are_warming(const struct pairs *pairs);

/* The copy of this key on peer may be old; or that of every key. */
void peer_add_dirty(struct peer *peer, const char *key, size_t length,
    bool base64);
void peer_add_all_dirty(struct peer *peer);

/*
 * Submit a call to a peer (see server_submit() and server_get()) through the
 * gate.  peer_finish() is to be called once in its done(), as the last thing
 * there: what follows from the reply has been told before.
 */
void peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block);
void peer_get(struct peer *peer, uint32_t hash, struct call *call,
    const char *key, size_t length);
void peer_finish(struct peer *peer);

#endif
