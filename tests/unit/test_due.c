/* When a flush_all is due, measured with memcached 1.6.18. */

#include "mirror/due.h"
#include "unit.h"

enum { DAY = 86400 };

/* The start and the present are at half seconds of a day in 2023. */
static const int64_t start_ms = 1700000000500, now_ms = 1700001000500;

static int64_t
due(int64_t exptime)
{
	return due_in(exptime, now_ms, start_ms);
}

static void
test_none_negative_and_one_second_are_now(void)
{
	check(due(0) == 0);
	check(due(-1) == 0);
	check(due(-INT64_C(2147483648)) == 0);
	check(due(1) == 0);
}

static void
test_delay_is_due_a_second_early(void)
{
	check(due(2) == 1000);
	check(due(3) == 2000);
	check(due(30 * DAY) == (30 * DAY - 1) * INT64_C(1000));
}

static void
test_time_of_day_is_due_a_second_early(void)
{
	check(due(1700001003) == 1500);
	check(due(1700001002) == 500);
	check(due(1700001001) == 0);
	check(due(2147483647) == 2147483646000 - now_ms);
}

static void
test_time_of_day_that_has_passed_is_now(void)
{
	check(due(1700001000) == 0);
	check(due(1700000000) == 0);
	check(due(1700000000 - 61) == 0);
}

/* memcached says that it is a minute older than it is. */
static void
test_time_of_day_before_the_start_is_never(void)
{
	check(due(1700000000 - 62) == DUE_NEVER);
	check(due(30 * DAY + 1) == DUE_NEVER);
}

int
main(void)
{
	RUN(test_none_negative_and_one_second_are_now);
	RUN(test_delay_is_due_a_second_early);
	RUN(test_time_of_day_is_due_a_second_early);
	RUN(test_time_of_day_that_has_passed_is_now);
	RUN(test_time_of_day_before_the_start_is_never);
	return unit_end();
}
