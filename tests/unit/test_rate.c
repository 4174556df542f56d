/*
 * How many keys of the scrub begin, and when.
 */

#include "mirror/rate.h"
#include "unit.h"

enum { MEMORY = 1 << 20 };

static struct rate
rate_of(unsigned int keys_per_second)
{
	struct rate rate = {
		.keys_per_second = keys_per_second,
		.memory = MEMORY,
	};

	rate_begin(&rate, 1000);
	return rate;
}

/* Take what is allowed, while none are in flight. */
static unsigned int
take_all(struct rate *rate)
{
	unsigned int n = 0;

	while (rate_allows(rate, 0, 0)) {
		rate_take(rate);
		n++;
	}
	return n;
}

static unsigned int
keys_in_a_second(unsigned int keys_per_second, size_t bytes)
{
	struct rate rate = rate_of(keys_per_second);
	int64_t now = 1000;
	unsigned int n = 0;

	while (now < 2000) {
		now += rate_tick_ms(&rate);
		rate_tick(&rate, now, bytes);
		n += take_all(&rate);
	}
	return n;
}

static void
test_each_second_has_as_many_keys_as_were_asked_for(void)
{
	static const unsigned int paces[] = { 1, 3, 7, 20, 50, 999, 1000, 1001,
		2000, 33333, 1000000 };
	unsigned int n;
	size_t i;

	for (i = 0; i < COUNT(paces); i++) {
		n = keys_in_a_second(paces[i], 0);
		check_case(n <= paces[i] + paces[i] / 20 + 1 &&
			n + 1 >= paces[i] - paces[i] / 20,
		    "%u: %u", paces[i], n);
	}
}

static void
test_large_values_count_as_several_keys(void)
{
	check(keys_in_a_second(1000, 8 << 10) < 520);
	check(keys_in_a_second(1000, 8 << 10) > 480);
	check(keys_in_a_second(1000, 1 << 20) == 0);
}

static void
test_pause_is_not_made_up_for(void)
{
	struct rate rate = rate_of(1000);

	rate_tick(&rate, 60000, 0);
	check(take_all(&rate) == 11);
}

static void
test_few_keys_are_in_flight(void)
{
	struct rate rate = rate_of(2000);

	rate_tick(&rate, 1100, 0);
	check(rate_allows(&rate, 7, 0) && !rate_allows(&rate, 8, 0));
	rate = rate_of(1);
	rate_tick(&rate, 10000, 0);
	check(rate_allows(&rate, 3, 0) && !rate_allows(&rate, 4, 0));
	rate = rate_of(1000000);
	rate_tick(&rate, 1100, 0);
	check(rate_allows(&rate, 63, 0) && !rate_allows(&rate, 64, 0));
}

static void
test_memory_that_is_short_makes_it_slow(void)
{
	struct rate rate = rate_of(2000);

	rate_tick(&rate, 1100, 0);
	check(rate_allows(&rate, 5, 4 * MEMORY));
	check(!rate_allows(&rate, 1, 4 * MEMORY + 1));
	check(rate_allows(&rate, 0, 4 * MEMORY + 1));
	/* Half a megabyte came in one tick. */
	rate_tick(&rate, 1101, MEMORY / 2);
	rate_tick(&rate, 2000, 0);
	check(rate_allows(&rate, 2, 0) && !rate_allows(&rate, 4, 0));
	check(rate_allows(&rate, 0, 0));
}

int
main(void)
{
	RUN(test_each_second_has_as_many_keys_as_were_asked_for);
	RUN(test_large_values_count_as_several_keys);
	RUN(test_pause_is_not_made_up_for);
	RUN(test_few_keys_are_in_flight);
	RUN(test_memory_that_is_short_makes_it_slow);
	return unit_end();
}
