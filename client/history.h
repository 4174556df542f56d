#ifndef HISTORY_H
#define HISTORY_H

/*
 * Keep what was counted in each of the last 600 seconds, for whoever looks at
 * the page of magent: of magent itself and of each server.
 */

#include <stddef.h>
#include <stdint.h>

struct history;
struct pairs;
struct peer;
struct stats;

enum {
	HISTORY_SECONDS = 600,
	/* Servers that have samples; of more, the first ones. */
	HISTORY_SERVERS = 64,
};

/* One second of magent, or of a server. */
struct history_sample {
	uint32_t requests;     /* commands about keys, or that it was sent */
	uint32_t hits, misses; /* keys that were read */
	/* Microseconds until the answer; 0: there was none. */
	uint32_t p50_us, p99_us;
	/* Clients that are connected, or commands that have no answer. */
	uint32_t open;
	uint8_t state; /* of a server: enum peer_state, as it is shown */
};

/* What was counted in the last ten to twenty seconds, or since the start. */
struct history_rates {
	double requests; /* per second */
	uint64_t hits, misses;
	uint32_t p50_us, p99_us; /* as in a sample */
};

/* stats and pairs are borrowed.  Returns NULL when out of memory. */
struct history *history_new(const struct stats *stats, struct pairs *pairs);
void history_free(struct history *history); /* NULL is fine */

/* Begin, or take the sample that is due, if one is.  To be called several
   times a second from the loop.  now_ms is of the monotonic clock. */
void history_tick(struct history *history, int64_t now_ms);

/* How many samples there are, and the number of the oldest one: the first one
   of all has the number 0. */
size_t history_length(const struct history *history);
uint64_t history_first(const struct history *history);

/* The i-th sample, from the oldest one, of a server; NULL: it has none.  If
   peer is NULL, that of magent itself. */
const struct history_sample *history_sample(const struct history *history,
    const struct peer *peer, size_t i);

struct history_rates history_rates(const struct history *history,
    const struct peer *peer);

/* Keys that the scrub has found to be different meanwhile. */
uint64_t history_differences(const struct history *history);

#endif
