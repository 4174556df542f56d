#ifndef REPORT_H
#define REPORT_H

/*
 * Write the replies to the stats commands.  Each report_ function makes a whole
 * reply of *length bytes, END included, in a block that the caller is to
 * release.  Returns NULL when out of memory; then *length is not valid.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mirror/peer.h"

struct block;
struct client_list;
struct hotkeys;
struct pairs;
struct stats;
struct stats_of_servers;

/* What does not change while magent runs; strings are borrowed. */
struct report_settings {
	unsigned int max_clients; /* as many as there are descriptors for */
	unsigned int port;        /* 0: none */
	unsigned int timeout_ms;  /* for a reply of a server */
	unsigned int links;       /* connections per server */
	size_t item_size;         /* bytes of the largest value */
	size_t memory_limit;      /* bytes of all buffers */
	/* The hosts of -l, listen_count of them; none: all addresses. */
	const char *const *listen_hosts;
	size_t listen_count;
	const char *socket_path; /* NULL: there is no socket file */
	const char *ring;        /* the name of its kind */
	unsigned int verbosity;  /* how often -v was given */
	bool refuse_flush;       /* -F */
	bool error_on_down;      /* --on-down=error */
	unsigned int scrub_pace; /* --scrub */
	int64_t started_ms;      /* milliseconds of the monotonic clock */
	bool is_ready;    /* it, or a program before it, has been ready */
	bool is_stopping; /* it was told to end */
};

/* stats hotkeys. */
struct block *report_hotkeys(struct hotkeys *hotkeys, size_t *length);

/* stats latency. */
struct block *report_latency(const struct stats *stats, struct pairs *pairs,
    size_t *length);

/* stats; sum: what the servers say of themselves. */
struct block *report_general(const struct stats *stats, struct pairs *pairs,
    const struct stats_of_servers *sum, const struct report_settings *settings,
    int64_t now_ms, size_t *length);

/* Commands about keys; each key of a get counts. */
uint64_t report_commands(const struct stats *stats);

/* stats servers: the state of each server, and what it is doing. */
struct block *report_servers(struct pairs *pairs, int64_t now_ms,
    size_t *length);

/* The state of a server as it is shown: one that may lack something is as one
   that is being rebuilt. */
enum peer_state report_state(const struct peer *peer);

/* stats route: the servers of a key of 1 to 250 bytes, which of them answers
   for it, and why. */
struct block *report_route(struct pairs *pairs, const char *key,
    size_t key_length, size_t *length);

/* stats settings. */
struct block *report_settings(const struct pairs *pairs,
    const struct report_settings *settings, size_t *length);

/* stats conns: the clients, first those of which something is under way.  Of
   more than a thousand, the rest is left out and counted. */
struct block *report_conns(struct client_list *clients, size_t *length);

#endif
