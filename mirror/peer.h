#ifndef PEER_H
#define PEER_H

/*
 * A server as the order rules see it: its roles, its state, what its copy of
 * the keys is worth, and the way to it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "mirror/abilities.h"
#include "mirror/identity.h"
#include "mirror/serving.h"

struct address;
struct block;
struct call;
struct conn_loop;
struct dirty;
struct dump;
struct fence;
struct gate;
struct giveback;
struct pairs;
struct recovery;
struct resolver;
struct server;
struct server_handler;
struct server_settings;
struct standing;
struct trial;
struct zombies;

/*
 * The order is that of a return, but for the first two.  A trusted peer may be
 * the authority of its pairs; a mirror is sent effects.
 *
 *	              trusted  mirror
 *	DOWN             -       -
 *	STARTING        yes     yes
 *	IDENTIFY         -       -
 *	DRAIN            -       -
 *	INVALIDATE       -       -
 *	REBUILD          -      yes
 *	HANDBACK         -      yes
 *	UP              yes     yes
 */
enum peer_state {
	PEER_DOWN,       /* there is no connection */
	PEER_STARTING,   /* it is not known yet: the gate holds its pairs */
	PEER_IDENTIFY,   /* it has answered and is asked who it is */
	PEER_DRAIN,      /* it may still carry out what it was sent before */
	PEER_INVALIDATE, /* keys that may be old in it are being deleted */
	PEER_REBUILD,    /* the keys that it lacks are being copied to it */
	PEER_HANDBACK,   /* it has all keys and waits for the gate */
	PEER_UP,         /* it answers for its keys */
};

struct peer {
	const struct address *address; /* borrowed */
	struct server *server;         /* owned */
	struct pairs *pairs;           /* borrowed: those that it is in */
	struct gate *gate;             /* borrowed: the one of all peers */
	unsigned int *warming_peers;   /* borrowed: how many are warming */
	bool is_primary, is_backup;    /* its roles; both is possible */

	/* state.c alone sets it. */
	enum peer_state state;
	/* When it got into that state: milliseconds of the monotonic clock. */
	int64_t changed_ms;
	struct fence *gate_fence; /* of the gate's job; NULL: none waits */
	unsigned int gate_holds;  /* of gate_hold() */
	/* Of the calls that it has returned: see suspect.c. */
	LIST_HEAD(, trial) trials;
	/* Keys that were read from it for clients: found, and not. */
	uint64_t hits, misses;
	/* It is in a pair that nobody answers for. */
	bool is_uncovered;
	/* What this magent has said on it, since it serves and it is there; 0:
	   nothing. */
	uint64_t said_id;
	/* The magent, another one than that, that has said on it last that it
	   serves; 0: none has.  When that was read: milliseconds of the
	   monotonic clock; and whether it was said behind ours. */
	uint64_t active_id;
	int64_t active_ms;
	bool active_is_new;
	bool is_left; /* to another magent: see follow.c */
	/* What those who serve have said on it: others, when that was read
	   last. */
	uint64_t serving[SERVING_SLOTS];
	/* What gives it back what reads of ours have won. */
	LIST_HEAD(, giveback) giving_back;
	/* How many partners are not trusted now. */
	unsigned int away_partners;
	/* Its place among the peers of pairs. */
	size_t index;
	/* With each peer of pairs, in their order, borrowed: see behind.c. */
	struct standing *standings;
	/* Grows with each peer that becomes a mirror, or ceases to be one: of
	   two mirrors, the one with the lower number has been one for longer.
	   0: it has been one since magent started. */
	uint64_t mirror_since;
	/* It gets what clients read from its partners, too. */
	bool warming;
	/* The incarnation that answered last. */
	struct identity identity;
	/* What that incarnation can do.  It is known when the peer gets calls
	   of clients and effects. */
	struct abilities abilities;
	/* Seconds by which its time of day is ahead of our monotonic clock; 0:
	   it has not said yet. */
	int64_t clock_ahead;
	/* Keys whose copy on it may be old. */
	struct dirty *dirty; /* owned */
	/* Besides, what it has of the keys of all partners that it is behind in
	   any key is old; what it has of others is not. */
	bool has_old_part;
	/* Keys that were dirty and have been deleted on it, and could not be
	   copied back, because the partner that holds them was away. */
	struct dirty *missing; /* owned */
	/* Keys whose last write neither it nor their other server has answered:
	   see undecided.c. */
	struct dirty *undecided; /* owned */
	/* Keys of stale items that reads of ours may have won: see tokens.c. */
	struct dirty *taken; /* owned */
	/* Borrowed: its keys that are not what they are at their authority. */
	struct repairs *repairs;
	/* Deletes of effect.c, for such keys, that have no answer. */
	unsigned int repair_deletes;
	/* Owned: connections on which it was asked for a list of its keys that
	   it has not begun, and that nobody wants any more; NULL: none. */
	struct zombies *lists;
	/* Borrowed: what has asked it for a list that it has not begun, and
	   waits for that; NULL: nobody. */
	const struct dump *list_asker;
	struct recovery *recovery; /* borrowed: what brings it back */
};

/* What peers are made with; all borrowed. */
struct peer_args {
	struct conn_loop *loop;
	struct resolver
	    *resolver; /* NULL: all addresses are numeric or paths */
	const struct server_settings *settings;
	const struct server_handler *handler; /* its owner is the peer */
	struct pairs *pairs;
	struct gate *gate;
	unsigned int *warming_peers;
};

/*
 * Make *peer, which is all zero, of the server at address.  It is STARTING and
 * has no role; the caller sets its roles.  Returns false when out of memory;
 * also then peer_destroy() is to be called.
 */
bool peer_init(struct peer *peer, const struct address *address,
    const struct peer_args *args);
void peer_destroy(struct peer *peer);

/* Its address, for the log. */
const char *peer_name(const struct peer *peer);

/* "primary", "backup" or "both". */
const char *peer_role(const struct peer *peer);

/* The state in the log and in stats. */
const char *peer_state_name(enum peer_state state);

/* Whether it may be the authority of a pair. */
bool peer_is_trusted(const struct peer *peer);

/* Whether it gets effects, and may get other calls.  If it does not, a key that
   is written becomes dirty for it. */
bool peer_is_mirror(const struct peer *peer);

/* Whether it is a mirror, and has answered since the start: until then it is
   only taken to be one. */
static inline bool
peer_is_there(const struct peer *peer)
{
	return peer_is_mirror(peer) && peer->state != PEER_STARTING;
}

/* Count keys that a client has read from it. */
static inline void
peer_count_reads(struct peer *peer, unsigned int keys, unsigned int hits)
{
	peer->hits += hits;
	peer->misses += keys - hits;
}

/* Whether another magent serves clients from it: that one has said so not long
   before the stamps of the peer were read last. */
bool peer_is_shared(const struct peer *peer);

/* Whether they may share a pair: one is a primary, and the other is a backup
   and another server. */
bool peers_are_partners(const struct peer *one, const struct peer *other);

/* The tag, in bits 48 to 62, of the cas tokens that it gives now.  The other
   bits are 0. */
uint64_t peer_tag(const struct peer *peer);

/* The server says that its time of day is now, in seconds since 1970; 0: it
   does not say. */
void peer_set_clock(struct peer *peer, int64_t now);

/* The exptime that lets an item on peer live for this number of seconds.
   Negative seconds stand for an item that does not expire.  Where the clock of
   peer is not known, more than 30 days become 30 days. */
int64_t peer_exptime(const struct peer *peer, int64_t seconds);

/* How many seconds an item lives on peer that is given this exptime, which is
   not negative; -1: it does not expire. */
int64_t peer_seconds_left(const struct peer *peer, int32_t exptime);

/*
 * The exptime, which a client has given to other, for peer.  If it is a time of
 * day, it is changed by what the clock of peer is ahead of that of other, so
 * that an item lives for the same number of seconds on both.  It is not changed
 * where the clocks are not known, or differ by a second, which may be rounding.
 */
int32_t peer_shift_date(const struct peer *peer, const struct peer *other,
    int32_t exptime);

/* Begin or end to give it what clients read from its partners.  It is in the
   state REBUILD when this begins.  Nothing happens if it is so already. */
void peer_set_warming(struct peer *peer, bool warming);

/* The copy of a key on peer may be old.  The key has 1 to 250 bytes, as on a
   command line, where it is in base64 if base64 is set.  Returns whether it is
   dirty from now on, and was not before. */
bool peer_add_dirty(struct peer *peer, const char *key, size_t length,
    bool base64);

/* It is not old after all.  Nothing happens if all keys are dirty. */
void peer_remove_dirty(struct peer *peer, const char *key, size_t length,
    bool base64);

/* The copy of every key on peer may be old. */
void peer_add_all_dirty(struct peer *peer);

/* Submit a call to a peer that is a mirror: see server_submit() and
   server_get().  What follows from the reply is submitted inside the done() of
   the call: see gate.h. */
void peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block);
void peer_get(struct peer *peer, uint32_t hash, struct call *call,
    const char *key, size_t length);

#endif
