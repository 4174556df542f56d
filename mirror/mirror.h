#ifndef MIRROR_H
#define MIRROR_H

/*
 * Bring a server that was away back: the life of a server, from the first
 * connection on, as a machine of states (see enum peer_state).
 */

#include <stdbool.h>
#include <stddef.h>

struct conn_loop;
struct evdns_base;
struct mirror;
struct pairs;
struct pairs_servers;
struct peer;
struct rebuild_progress;
struct server_settings;

/* memory: how many bytes of keys a rebuild may hold.  Returns NULL when out of
   memory. */
struct mirror *mirror_new(struct conn_loop *loop, struct evdns_base *dns,
    const struct pairs_servers *servers, const struct server_settings *settings,
    size_t memory);

/* After mirror_stop(), if it was started. */
void mirror_free(struct mirror *mirror);

/* Connect to all servers. */
void mirror_start(struct mirror *mirror);

/* Begin nothing new. */
void mirror_stop(struct mirror *mirror);

struct pairs *mirror_pairs(struct mirror *mirror);

/* Whether some server has not been heard of yet, nor given up. */
bool mirror_is_starting(const struct mirror *mirror);

/* How far the rebuild of a peer is.  Returns false if there is none. */
bool mirror_progress(const struct peer *peer,
    struct rebuild_progress *progress);

#endif
