#ifndef RATE_H
#define RATE_H

/*
 * How fast the scrub goes: evenly, no faster than it may, and slower where
 * servers, clients or memory are short.  (Copies have a pace of their own: see
 * pace.h.)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one scrub.  Times are monotonic milliseconds. */
struct rate {
	unsigned int keys_per_second;
	/* A part of -m, as bytes: keys may take as much. */
	size_t memory;

	/* Of rate.c: */

	/* Thousandths of keys that may begin, as of the time counted_ms. */
	int64_t allowed, counted_ms;
	/* Bytes of values that came lately in a tick. */
	size_t lately;
};

/* Begin now with a rate of which the first two fields are set. */
void rate_begin(struct rate *rate, int64_t now_ms);

/* A tick: so many bytes of values have come since the last one. */
void rate_tick(struct rate *rate, int64_t now_ms, size_t bytes);

/* In how many milliseconds the next tick is due. */
int rate_tick_ms(const struct rate *rate);

/* Whether a key may begin while so many are in flight, and all buffers hold
   held bytes; and that it does so now. */
bool rate_allows(const struct rate *rate, size_t in_flight, size_t held);
void rate_take(struct rate *rate);

#endif
