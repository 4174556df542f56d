#ifndef HISTOGRAM_H
#define HISTOGRAM_H

/* Count times by how long they are: from 50 microseconds to 10 seconds. */

#include <stdint.h>

struct carry;
struct carry_line;

enum {
	HISTOGRAM_BOUNDS = 17,
	/* Behind the last bound is one more bucket. */
	HISTOGRAM_BUCKETS = HISTOGRAM_BOUNDS + 1,
};

struct histogram {
	/* Times that are longer than the bound before, and not longer than that
	   of the bucket. */
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t sum_us; /* microseconds of all of them */
};

/* Microseconds, each at least twice the one before.  One more stands for the
   end of the last bucket. */
extern const uint32_t histogram_bounds[HISTOGRAM_BUCKETS];

/* The first bound that a number may be over whose highest bit is this one.  It
   is over that bound at most. */
extern const uint8_t histogram_first[32];

/* Count a time of so many microseconds. */
static inline void
histogram_add(struct histogram *histogram, uint32_t us)
{
	unsigned int bits = 31 - (unsigned int)__builtin_clz(us | 1);
	unsigned int bucket = histogram_first[bits];

	bucket += us > histogram_bounds[bucket];
	histogram->counts[bucket]++;
	histogram->sum_us += us;
}

/* How many times were counted. */
uint64_t histogram_count(const struct histogram *histogram);

/* The time, in microseconds, that so many of a thousand are not longer than, as
   far as buckets tell; behind the last bound, that bound.  0: none was
   counted. */
uint32_t histogram_quantile(const struct histogram *histogram,
    unsigned int per_mille);

/* What was counted between two looks at a histogram.  If it was reset in
   between, all of it. */
struct histogram histogram_since(const struct histogram *now,
    const struct histogram *before);

/* Write it to carry, as a line of this name and of what it is about; and take
   it over from such a line, unless that is another one. */
void histogram_carry(const struct histogram *histogram, struct carry *carry,
    const char *name, const char *about);
void histogram_take(struct histogram *histogram, const struct carry_line *line,
    const char *name, const char *about);

#endif
