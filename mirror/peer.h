#ifndef PEER_H
#define PEER_H

/*
 * A server as the order rules see it: its roles, its state, what its copy of
 * the keys is worth, and the way to it through the gate.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mirror/identity.h"

struct address;
struct block;
struct call;
struct conn_loop;
struct dirty;
struct resolver;
struct gate;
struct pairs;
struct recovery;
struct server;
struct server_handler;
struct server_settings;

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
	PEER_STARTING,   /* it has not answered since magent started */
	PEER_IDENTIFY,   /* it has answered and is asked who it is */
	PEER_DRAIN,      /* it may still carry out what it was sent before */
	PEER_INVALIDATE, /* keys that may be old in it are being deleted */
	PEER_REBUILD,    /* the keys that it lacks are being copied to it */
	PEER_HANDBACK,   /* it has all keys and waits for the idle gate */
	PEER_UP,         /* it answers for its keys */
};

struct peer {
	const struct address *address; /* borrowed */
	struct server *server;         /* owned */
	struct pairs *pairs;           /* borrowed: those that it is in */
	struct gate *gate;             /* borrowed: the one of all peers */
	unsigned int *warming_peers;   /* borrowed: how many are warming */
	bool primary, backup;          /* its roles; both is possible */

	/* recovery.c alone sets the state. */
	enum peer_state state;
	/* When it got into that state: milliseconds of the monotonic clock. */
	int64_t changed_ms;
	/* Counts the rebuilds of all peers: of two peers that are mirrors and
	   not trusted, the one with the lower number is the authority. */
	uint64_t mirror_since;
	/* It is also given what clients read from its partners. */
	bool warming;
	/* Who it was when it answered last. */
	struct identity identity;
	/* Seconds by which its clock is ahead of ours. */
	int64_t clock_ahead;
	/* Keys whose copy on it may be old. */
	struct dirty *dirty;       /* owned */
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

/* Make *peer, which is all zero, of the server at address, with no role yet.
   Returns false when out of memory; it is to be destroyed then, too. */
bool peer_init(struct peer *peer, const struct address *address,
    const struct peer_args *args);
void peer_destroy(struct peer *peer);

const char *peer_name(const struct peer *peer);
const char *peer_role(const struct peer *peer);
const char *peer_state_name(enum peer_state state);

/* Whether it may be the authority of a pair. */
bool peer_is_trusted(const struct peer *peer);

/* Whether effects are sent to it; if not, its keys become dirty. */
bool peer_is_mirror(const struct peer *peer);

/* Whether there may be keys that both of these hold. */
bool peers_are_partners(const struct peer *one, const struct peer *other);

/* The tag, in bits 48 to 62, of the cas tokens that it gives out now. */
uint64_t peer_tag(const struct peer *peer);

/* The exptime that gives an item on peer so many seconds to live; negative:
   an item that does not expire. */
int64_t peer_exptime(const struct peer *peer, int64_t seconds);

void peer_set_warming(struct peer *peer, bool warming);

/* The copy of this key on peer may be old; base64: the key is written so. */
void peer_add_dirty(struct peer *peer, const char *key, size_t length,
    bool base64);

/* The copy of every key on peer may be old. */
void peer_add_all_dirty(struct peer *peer);

/*
 * Submit a call to a peer that is a mirror, through the gate: see
 * server_submit() and server_get().  The call's done() ends with peer_finish():
 * what follows from the reply has been submitted before that.
 */
void peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block);
void peer_get(struct peer *peer, uint32_t hash, struct call *call,
    const char *key, size_t length);
void peer_finish(struct peer *peer);

#endif
