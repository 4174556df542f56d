#ifndef RECOVERY_H
#define RECOVERY_H

/*
 * Bring back a server that was away: a recovery takes one peer from its first
 * connection to the state UP (see enum peer_state), as often as it fails.
 */

#include <stdbool.h>
#include <stddef.h>

struct carry;
struct conn_loop;
struct resolver;
struct pairs;
struct pairs_servers;
struct peer;
struct rebuild_progress;
struct recoveries;
struct scrub;
struct server_settings;

struct recoveries_settings {
	size_t memory;    /* bytes of keys that all rebuilds may hold */
	size_t item_size; /* bytes of the largest value from a client */
	/* Keys per second; 0: no pass begins by itself. */
	unsigned int scrub_pace;
};

/*
 * Make the pairs of these servers, and a recovery for each peer.  The pointers
 * are borrowed, but for the settings; resolver may be NULL: see struct
 * peer_args.  Returns NULL when out of memory.
 */
struct recoveries *recoveries_new(struct conn_loop *loop,
    struct resolver *resolver, const struct pairs_servers *servers,
    const struct server_settings *server_settings,
    const struct recoveries_settings *settings);

/* The pairs are freed, too.  recoveries_stop() was called before, if they were
   started. */
void recoveries_free(struct recoveries *recoveries);

/* Begin to connect to all servers.  To be called once. */
void recoveries_start(struct recoveries *recoveries);

/* From now on no server is invalidated or rebuilt, and what was begun of this
   ends.  Connections stay, and calls are answered.  To be called once. */
void recoveries_stop(struct recoveries *recoveries);

/* Nothing of clients is under way, nor will be: say so on the servers.  Returns
   whether something of that is to be sent.  recoveries_stop() was called. */
bool recoveries_leave(struct recoveries *recoveries);

/* Write what is known of the servers, which knowledge_is_at_rest(), to carry;
   and take that over, before recoveries_start().  Returns false when out of
   memory.  See knowledge.h. */
void recoveries_carry(struct recoveries *recoveries, struct carry *carry);
bool recoveries_take(struct recoveries *recoveries, struct carry *carry);

/* The pairs, which the recoveries own. */
struct pairs *recoveries_pairs(struct recoveries *recoveries);

/* The scrub, which the recoveries own. */
struct scrub *recoveries_scrub(struct recoveries *recoveries);

/* The same, by one of the peers. */
struct scrub *recovery_scrub(const struct peer *peer);

/* A peer that is up has lost all that it held: fill it from its partners.  They
   answer in its place meanwhile.  To be called in a job of the gate. */
void recovery_refill(struct peer *peer);

/* Whether some server has neither answered nor failed since the start. */
bool recoveries_are_starting(const struct recoveries *recoveries);

/* How far the rebuild of a peer is.  Returns false, and sets nothing, if there
   is none. */
bool recovery_progress(const struct peer *peer,
    struct rebuild_progress *progress);

#endif
