/*
 * How fast the scrub goes.
 *
 * Invariant: what is allowed grows with the time, and each key and each piece
 * of a value takes something of it.  No more than a little is saved up, so a
 * pause is not made up for.
 */

#include "mirror/rate.h"

#include <assert.h>

enum {
	/* Keys begin a few at a time: there is a tick for each key, but one
	   each millisecond at most, and one in this time at least. */
	RATE_TICK_MAX_MS = 50,
	/* So much of a second may begin at once after a pause. */
	RATE_BURST = 100,
	/* Keys in flight: one for so many of each second, and at least, and at
	   most, these. */
	RATE_PER_FLIGHT = 250,
	RATE_FLIGHT_MIN = 4,
	RATE_FLIGHT_MAX = 64,
	/* So many bytes of values count as one key. */
	RATE_KEY_BYTES = 16 << 10,
	/* While the buffers hold so many times the memory, one key is in
	   flight. */
	RATE_BUFFERS = 4,
	/* A tick makes what came lately less by this part. */
	RATE_LATELY = 16,
};

void
rate_begin(struct rate *rate, int64_t now_ms)
{
	assert(rate->keys_per_second > 0);
	rate->allowed = 0;
	rate->counted_ms = now_ms;
	rate->lately = 0;
}

void
rate_tick(struct rate *rate, int64_t now_ms, size_t bytes)
{
	int64_t pace = rate->keys_per_second;
	int64_t most = pace * 1000 / RATE_BURST + 1000;

	rate->lately -= rate->lately / RATE_LATELY;
	if (rate->lately < bytes)
		rate->lately = bytes;
	rate->allowed += (now_ms - rate->counted_ms) * pace;
	rate->counted_ms = now_ms;
	rate->allowed -= (int64_t)bytes * 1000 / RATE_KEY_BYTES;
	if (rate->allowed > most)
		rate->allowed = most;
}

int
rate_tick_ms(const struct rate *rate)
{
	unsigned int ms = 1000 / rate->keys_per_second;

	if (ms == 0)
		return 1;
	return ms < RATE_TICK_MAX_MS ? (int)ms : RATE_TICK_MAX_MS;
}

/* How many keys may be in flight: fewer if their values are large. */
static size_t
flight_of(const struct rate *rate)
{
	size_t room = 1 + rate->memory / (rate->lately + 1);
	size_t most = rate->keys_per_second / RATE_PER_FLIGHT;

	if (most < RATE_FLIGHT_MIN)
		most = RATE_FLIGHT_MIN;
	if (most > RATE_FLIGHT_MAX)
		most = RATE_FLIGHT_MAX;
	return most < room ? most : room;
}

bool
rate_allows(const struct rate *rate, size_t in_flight, size_t held)
{
	bool is_short = held > RATE_BUFFERS * rate->memory;

	return rate->allowed >= 1000 &&
	    in_flight < (is_short ? 1 : flight_of(rate));
}

void
rate_take(struct rate *rate)
{
	assert(rate->allowed >= 1000);
	rate->allowed -= 1000;
}
