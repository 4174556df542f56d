#ifndef STATS_H
#define STATS_H

/* Counters, and what the stats commands say of them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto.h"

struct block;
struct pairs;

/* Counters; stats reset sets them to zero. */
struct stats {
	uint64_t total_connections, rejected_connections;
	uint64_t cmd_get, get_hits, get_misses;
	uint64_t cmd_set;
	uint64_t cmd_touch, touch_hits, touch_misses;
	uint64_t cmd_flush, cmd_meta;
	uint64_t delete_hits, delete_misses;
	uint64_t incr_hits, incr_misses, decr_hits, decr_misses;
	uint64_t cas_hits, cas_misses, cas_badval;
	uint64_t bytes_read, bytes_written;
	uint64_t listen_disabled; /* times that no client was accepted */
	uint64_t listen_disabled_us;
	uint64_t yields; /* a client had to wait for others */
	uint64_t no_server_errors, memory_errors;

	/* What is now. */
	unsigned int connections;
	bool accepting;
};

/* What a server's own stats add to ours. */
struct stats_of_servers {
	uint64_t bytes, curr_items, total_items, evictions, limit_maxbytes;
};

/* Fixed facts for stats settings. */
struct stats_settings {
	unsigned int max_clients, port, timeout_ms, links;
	size_t item_size, memory_limit;
	const char *listen_host, *socket_path; /* NULL: none */
	const char *ring;                      /* its name */
	unsigned int verbosity;
	bool refuse_flush, error_on_down;
	int64_t started_ms; /* monotonic */
};

/* Count a command by its reply; or keys of a get, so many of them hits. */
void stats_count(struct stats *stats, const struct proto_request *r,
    enum proto_result result);
void stats_count_get(struct stats *stats, enum proto_command command,
    unsigned int keys, unsigned int hits);

void stats_reset(struct stats *stats);

/* Take up one STAT line of a server. */
void stats_add(struct stats_of_servers *sum, const char *name, size_t n,
    const char *value, size_t length);

/*
 * The replies, END included, as a block of *length bytes.  They return NULL
 * when out of memory.
 */
struct block *stats_render_general(const struct stats *stats,
    struct pairs *pairs, const struct stats_of_servers *sum,
    const struct stats_settings *settings, int64_t now_ms, size_t *length);
struct block *stats_render_servers(struct pairs *pairs, int64_t now_ms,
    size_t *length);
struct block *stats_settings(const struct pairs *pairs,
    const struct stats_settings *settings, size_t *length);

#endif
