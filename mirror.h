#ifndef MIRROR_H
#define MIRROR_H

/*
 * Decide who is the authority of a key, keep what a server that is away has
 * missed, and bring it back.
 *
 * A peer is a server as the order rules see it.  A call that is told to a peer
 * is in flight until mirror_told(): some things may only happen while nothing
 * is, see mirror_rest().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ketama.h"

struct address;
struct block;
struct call;
struct conn_loop;
struct evdns_base;
struct mirror;
struct peer;
struct server;
struct server_settings;

enum peer_state {
	PEER_DOWN,		/* away; waits for a connection */
	PEER_STARTING,		/* never heard of yet: believed, calls queue */
	PEER_IDENTIFY,		/* it is back: who is it? */
	PEER_INVALIDATE,	/* what it has may be old: being emptied */
	PEER_HANDBACK,		/* a mirror again; waits for a moment at rest */
	PEER_UP
};

/* The servers of a key. */
struct pair {
	struct peer *primary;
	struct peer *backup;	/* NULL: none */
	uint32_t hash;		/* of the key */
};

struct mirror_counters {
	uint64_t failovers;	/* a believed server went down */
	uint64_t effects;	/* sent to mirrors */
	uint64_t mismatches;	/* a mirror answered otherwise */
	uint64_t repairs;	/* keys deleted on a mirror because of that */
};

struct mirror_servers {
	const struct address *primaries, *backups;	/* borrowed */
	size_t primary_count, backup_count;
	enum ketama_kind ring;
};

/* Build the rings and the servers.  Returns NULL when out of memory. */
struct mirror *mirror_new(struct conn_loop *loop, struct evdns_base *dns,
    const struct mirror_servers *servers,
    const struct server_settings *settings);

void mirror_free(struct mirror *mirror);

/* Connect to all servers. */
void mirror_start(struct mirror *mirror);

/*
 * Keys
 */

struct pair mirror_pair(const struct mirror *mirror, const char *key,
    size_t length);

/* Who answers for a key now; NULL: nobody. */
struct peer *mirror_authority(const struct pair *pair);

/* The other server of the pair; NULL: there is none. */
struct peer *mirror_partner(const struct pair *pair, const struct peer *peer);

/*
 * Whether cas tokens are tagged (there are backups), and the tag, in bits 48 to
 * 62, of those that this peer gives out now.
 */
bool mirror_is_tagging(const struct mirror *mirror);
uint64_t peer_tag(const struct peer *peer);

/* Submit a call to a peer that is connected (see server_submit()). */
void mirror_tell(struct mirror *mirror, struct peer *peer, uint32_t hash,
    struct call *call, const char *line, size_t line_length, const char *data,
    size_t length, struct block *block);

/* To be called once in the done() of each call that was told, as the last
   thing: what follows from the reply has been told before. */
void mirror_told(struct mirror *mirror);

/* Whether effects are to be sent to this peer; otherwise its keys are made
   dirty. */
bool peer_is_mirror(const struct peer *peer);

/* The copy of this key on peer may be old; or that of every key. */
void peer_add_dirty(struct peer *peer, const char *key, size_t length,
    bool base64);
void peer_add_all_dirty(struct peer *peer);

/*
 * Rest: a moment at which nothing is in flight
 */

struct rest {
	TAILQ_ENTRY(rest) entry;
	void (*run)(struct rest *rest);
	bool waiting;
};

/* Stop new requests, wait until nothing is in flight, then run(): not from
   inside this call.  New requests stay stopped until mirror_rest_over(). */
void mirror_rest(struct mirror *mirror, struct rest *rest);
void mirror_rest_over(struct mirror *mirror);

struct waiter {
	TAILQ_ENTRY(waiter) entry;
	void (*wake)(struct waiter *waiter);
	bool waiting;
};

/* Whether new requests have to wait (mirror_wait()) before they are told. */
bool mirror_is_resting(const struct mirror *mirror);
void mirror_wait(struct mirror *mirror, struct waiter *waiter);
void mirror_wait_cancel(struct mirror *mirror, struct waiter *waiter);

/*
 * What there is to say
 */

/* Whether some server has not been heard of yet, nor given up; whether calls
   are in flight. */
bool mirror_is_starting(const struct mirror *mirror);
bool mirror_is_busy(const struct mirror *mirror);

size_t mirror_peer_count(const struct mirror *mirror);
struct peer *mirror_peer(const struct mirror *mirror, size_t i);
struct mirror_counters *mirror_counters(struct mirror *mirror);

/* How many pairs of servers have nobody who answers. */
size_t mirror_uncovered(const struct mirror *mirror);

/* The lowest x.y.z of the servers' versions that are known. */
void mirror_version(const struct mirror *mirror, char *out, size_t size);

/* What a peer said of itself when it was last identified. */
struct peer_identity {
	int64_t pid, start;		/* start: seconds since 1970 */
	uint64_t limit_maxbytes;
	unsigned int version[3];
};

const char *peer_name(const struct peer *peer);
const char *peer_role(const struct peer *peer);
const char *peer_state_name(const struct peer *peer);
bool peer_is_believed(const struct peer *peer);	/* may be an authority */
bool peer_is_primary(const struct peer *peer);
const struct peer_identity *peer_identity(const struct peer *peer);
int64_t peer_changed_ms(const struct peer *peer);	/* monotonic */
size_t peer_dirty_count(const struct peer *peer, bool *all);
struct server *peer_server(const struct peer *peer);

#endif
