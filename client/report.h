#ifndef REPORT_H
#define REPORT_H

/*
 * What the stats commands say: each makes a whole reply, END included, in a
 * block of *length bytes.  They return NULL when out of memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;
struct client_list;
struct pairs;
struct stats;
struct stats_of_servers;

/* Facts that do not change. */
struct report_settings {
	unsigned int max_clients, port, timeout_ms, links;
	size_t item_size, memory_limit;
	const char *const *listen_hosts; /* listen_count of them; 0: all */
	size_t listen_count;
	const char *socket_path; /* NULL: none */
	const char *ring;        /* its name */
	unsigned int verbosity;
	bool refuse_flush, error_on_down;
	int64_t started_ms; /* monotonic */
};

/* stats.  sum: what the servers said of themselves. */
struct block *report_general(const struct stats *stats, struct pairs *pairs,
    const struct stats_of_servers *sum, const struct report_settings *settings,
    int64_t now_ms, size_t *length);

/* stats servers */
struct block *report_servers(struct pairs *pairs, int64_t now_ms,
    size_t *length);

/* stats settings */
struct block *report_settings(const struct pairs *pairs,
    const struct report_settings *settings, size_t *length);

/* stats conns: the clients, those first of which something is under way.  If
   there are too many, it says how many were left out. */
struct block *report_conns(struct client_list *clients, size_t *length);

#endif
