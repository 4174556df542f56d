/*
 * Which bucket a time is counted in, and what the buckets tell.
 */

#include <string.h>

#include "histogram.h"
#include "unit.h"

/* The bucket by its definition. */
static unsigned int
bucket_of(uint32_t us)
{
	unsigned int i = 0;

	while (i < HISTOGRAM_BOUNDS && us > histogram_bounds[i])
		i++;
	return i;
}

static void
check_time(uint32_t us)
{
	struct histogram histogram = { .sum_us = 0 };

	histogram_add(&histogram, us);
	check(histogram.counts[bucket_of(us)] == 1);
	check(histogram_count(&histogram) == 1 && histogram.sum_us == us);
}

static void
test_each_time_is_in_its_bucket(void)
{
	unsigned int i;
	uint32_t us;

	for (i = 0; i < HISTOGRAM_BOUNDS; i++)
		for (us = histogram_bounds[i] - 1;
		     us <= histogram_bounds[i] + 1; us++)
			check_time(us);
	for (i = 0; i < 32; i++) {
		check_time((uint32_t)1 << i);
		check_time(((uint32_t)1 << i) - 1);
	}
	check_time(UINT32_MAX);
}

static void
test_bounds_are_far_enough_from_each_other(void)
{
	unsigned int i;

	for (i = 1; i < HISTOGRAM_BUCKETS; i++)
		check(histogram_bounds[i] / 2 >= histogram_bounds[i - 1]);
}

static void
test_quantiles_lie_in_their_buckets(void)
{
	struct histogram histogram = { .sum_us = 0 };
	unsigned int i;

	check(histogram_quantile(&histogram, 500) == 0);
	for (i = 0; i < 98; i++)
		histogram_add(&histogram, 75);
	histogram_add(&histogram, 1500);
	histogram_add(&histogram, 20000000);
	check(histogram_quantile(&histogram, 0) == 50);
	check(histogram_quantile(&histogram, 500) > 50);
	check(histogram_quantile(&histogram, 980) == 100);
	check(histogram_quantile(&histogram, 990) == 2000);
	check(histogram_quantile(&histogram, 1000) == 10000000);
}

static void
test_what_was_counted_between_two_looks(void)
{
	struct histogram now = { .sum_us = 0 }, before, since;

	histogram_add(&now, 10);
	before = now;
	histogram_add(&now, 300);
	since = histogram_since(&now, &before);
	check(histogram_count(&since) == 1 && since.sum_us == 300);
	check(since.counts[bucket_of(300)] == 1);
	/* It was reset. */
	memset(&now, 0, sizeof(now));
	histogram_add(&now, 7);
	before.counts[0] = 5;
	since = histogram_since(&now, &before);
	check(histogram_count(&since) == 1 && since.sum_us == 7);
}

int
main(void)
{
	RUN(test_each_time_is_in_its_bucket);
	RUN(test_bounds_are_far_enough_from_each_other);
	RUN(test_quantiles_lie_in_their_buckets);
	RUN(test_what_was_counted_between_two_looks);
	return unit_end();
}
