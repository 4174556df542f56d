/*
 * Count times by how long they are.
 *
 * Invariant: a bucket is found with one comparison, since a bound is at least
 * twice the one before: of the numbers that have the same count of bits, one
 * bound at most divides them.
 */

#include "histogram.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "carry.h"

static_assert((int)HISTOGRAM_BUCKETS < (int)CARRY_NUMBERS,
    "a line has room for it");

const uint32_t histogram_bounds[HISTOGRAM_BUCKETS] = { 50, 100, 200, 500, 1000,
	2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000,
	2000000, 5000000, 10000000, UINT32_MAX };

const uint8_t histogram_first[32] = { 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 7,
	8, 9, 10, 11, 12, 13, 14, 15, 15, 16, 17, 17, 17, 17, 17, 17, 17, 17 };

uint64_t
histogram_count(const struct histogram *histogram)
{
	uint64_t count = 0;
	unsigned int i;

	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += histogram->counts[i];
	return count;
}

/* The times of a bucket are taken to be spread evenly over it. */
uint32_t
histogram_quantile(const struct histogram *histogram, unsigned int per_mille)
{
	uint64_t count = histogram_count(histogram);
	uint64_t rank = (count * per_mille + 999) / 1000;
	uint64_t before = 0;
	uint32_t from = 0, bound;
	unsigned int i;

	assert(per_mille <= 1000);
	if (count == 0)
		return 0;
	for (i = 0; i < HISTOGRAM_BOUNDS; i++) {
		bound = histogram_bounds[i];
		if (before + histogram->counts[i] >= rank &&
		    histogram->counts[i] > 0)
			return from +
			    (uint32_t)((bound - from) * (rank - before) /
				histogram->counts[i]);
		before += histogram->counts[i];
		from = bound;
	}
	return from;
}

struct histogram
histogram_since(const struct histogram *now, const struct histogram *before)
{
	struct histogram since = *now;
	unsigned int i;

	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (before->counts[i] > now->counts[i])
			return *now;
		since.counts[i] -= before->counts[i];
	}
	since.sum_us -= before->sum_us;
	return since;
}

void
histogram_carry(const struct histogram *histogram, struct carry *carry,
    const char *name, const char *about)
{
	uint64_t numbers[HISTOGRAM_BUCKETS + 1];

	numbers[0] = histogram->sum_us;
	memcpy(numbers + 1, histogram->counts, sizeof(histogram->counts));
	carry_add(carry, name, numbers, HISTOGRAM_BUCKETS + 1, about,
	    strlen(about));
}

void
histogram_take(struct histogram *histogram, const struct carry_line *line,
    const char *name, const char *about)
{
	if (!carry_is(line, name) || line->bytes == NULL ||
	    line->length != strlen(about) ||
	    memcmp(line->bytes, about, line->length) != 0)
		return;
	histogram->sum_us = line->numbers[0];
	memcpy(histogram->counts, line->numbers + 1, sizeof(histogram->counts));
}
