#ifndef STATS_H
#define STATS_H

/* Count what clients ask and what they are answered, for report.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto.h"

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

/* Count a command by its reply; or keys of a get, so many of them hits. */
void stats_count(struct stats *stats, const struct proto_request *r,
    enum proto_result result);
void stats_count_get(struct stats *stats, enum proto_command command,
    unsigned int keys, unsigned int hits);

void stats_reset(struct stats *stats);

/* Take up one STAT line of a server. */
void stats_add(struct stats_of_servers *sum, const char *name, size_t n,
    const char *value, size_t length);

#endif
