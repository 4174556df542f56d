/*
 * When two servers hold the same of a key, and when one of them was written
 * between two reads.
 */

#include "mirror/holding.h"
#include "mirror/item.h"
#include "unit.h"

static const unsigned char hash_key[SIPHASH_KEY] = "a key of a hash";

/* An item that does not expire, unless a test says so. */
static struct item
item_with(int64_t ttl)
{
	return (struct item){ .flags = 7, .ttl = ttl, .cas = 5 };
}

static struct holding
held(const struct item *item, const char *value)
{
	return holding_of(item, value, strlen(value), hash_key);
}

static bool
agree(const struct holding *one, const struct holding *other)
{
	bool is_same = holdings_difference(one, other) == NULL;

	check(is_same == (holdings_difference(other, one) == NULL));
	return is_same;
}

static bool
values_agree(const char *one, const char *other)
{
	struct item item = item_with(-1);
	struct holding a = held(&item, one), b = held(&item, other);

	return agree(&a, &b);
}

static bool
ttls_agree(int64_t one, int64_t other)
{
	struct item first = item_with(one), second = item_with(other);
	struct holding a = held(&first, "v"), b = held(&second, "v");

	return agree(&a, &b);
}

static void
test_values_differ_by_each_byte(void)
{
	check(values_agree("value", "value") && values_agree("", ""));
	check(!values_agree("value", "valuf"));
	check(!values_agree("value", "value "));
	check(!values_agree("", "0"));
	check(!values_agree("10", "11"));
}

/* memcached fills a number that has become shorter up, or makes a new item. */
static void
test_spaces_behind_a_number_do_not_count(void)
{
	check(values_agree("9 ", "9") && values_agree("9  ", "9 "));
	check(!values_agree(" 9", "9") && !values_agree("9 x", "9"));
	check(!values_agree("9", "09") && !values_agree("-9", "-9 "));
	check(!values_agree("123456789012345678901 ", "123456789012345678901"));
}

static void
test_flags_differ(void)
{
	struct item item = item_with(-1), other = item;
	struct holding a = held(&item, "v"), b;

	other.flags = 8;
	b = held(&other, "v");
	check(!agree(&a, &b));
}

static void
test_times_to_live_may_differ_by_some_seconds(void)
{
	check(ttls_agree(100, 100) && ttls_agree(100, 105));
	check(!ttls_agree(100, 106) && !ttls_agree(1000, 900));
	check(ttls_agree(90000, 90090) && !ttls_agree(90000, 90100));
	check(ttls_agree(-1, -1) && !ttls_agree(-1, 100));
	check(!ttls_agree(-1, 0));
}

static void
test_time_between_the_two_reads_counts(void)
{
	struct item item = item_with(100), later = item_with(80);
	struct holding a = held(&item, "v"), b = held(&later, "v");

	check(!agree(&a, &b));
	b.read_ms = 20000;
	check(agree(&a, &b));
	check(holding_is_unchanged(&a, &b));
}

static void
test_item_that_is_missing_may_have_just_ended(void)
{
	struct item item = item_with(-1);
	struct holding none = { .is_there = false }, a;

	check(agree(&none, &none));
	a = held(&item, "v");
	check(!agree(&a, &none));
	item.ttl = 6;
	a = held(&item, "v");
	check(!agree(&a, &none));
	item.ttl = 5;
	a = held(&item, "v");
	check(agree(&a, &none));
	item.ttl = 0;
	a = held(&item, "v");
	check(agree(&a, &none));
}

static void
test_marks_differ(void)
{
	struct item item = item_with(-1), stale = item, won = item;
	struct holding a, b;

	stale.is_stale = true;
	won.is_awaited = true;
	a = held(&item, "v");
	b = held(&stale, "v");
	check(!agree(&a, &b));
	b = held(&won, "v");
	check(!agree(&a, &b));
	a = held(&item, "41");
	b = held(&stale, "41");
	check(!agree(&a, &b) && holdings_have_drifted(&a, &b));
	/* This read has won it: it is given back. */
	stale.is_won = true;
	a = held(&stale, "v");
	stale.is_won = false;
	b = held(&stale, "v");
	check(agree(&a, &b));
}

/* An ma with T sets it, unless memcached makes a new item at that moment. */
static void
test_number_may_drift_in_what_is_not_its_value(void)
{
	struct item item = item_with(100), other = item_with(1000);
	struct holding a = held(&item, "41"), b = held(&other, "41 ");

	check(!agree(&a, &b) && holdings_have_drifted(&a, &b));
	b = held(&other, "42");
	check(!holdings_have_drifted(&a, &b));
	other.flags = 8;
	b = held(&other, "41");
	check(!holdings_have_drifted(&a, &b));
	a = held(&item, "v");
	b = held(&other, "v");
	check(!holdings_have_drifted(&a, &b));
}

static void
test_item_with_another_token_was_written(void)
{
	struct item item = item_with(-1);
	struct holding before = held(&item, "v"), after = before;
	struct holding none = { .is_there = false };

	check(holding_is_unchanged(&before, &after));
	check(holding_is_unchanged(&none, &none));
	check(!holding_is_unchanged(&before, &none));
	check(!holding_is_unchanged(&none, &before));
	after.cas = 6;
	check(!holding_is_unchanged(&before, &after));
	/* Our own read has changed the token. */
	item.is_stale = item.is_won = true;
	before = after = held(&item, "v");
	check(before.cas == 0);
	after.cas = 6;
	check(holding_is_unchanged(&before, &after));
	after = held(&item, "w");
	check(!holding_is_unchanged(&before, &after));
}

/* Neither changes the token. */
static void
test_item_that_is_touched_or_won_was_written(void)
{
	struct item item = item_with(100), other = item_with(200);
	struct holding before = held(&item, "v"), after = held(&other, "v");

	check(!holding_is_unchanged(&before, &after));
	other = item;
	other.is_awaited = true;
	after = held(&other, "v");
	check(!holding_is_unchanged(&before, &after));
}

static void
test_without_tokens_the_content_tells(void)
{
	struct item item = { .flags = 7, .ttl = -1 };
	struct holding before = held(&item, "v"), after = before;

	check(holding_is_unchanged(&before, &after));
	after = held(&item, "w");
	check(!holding_is_unchanged(&before, &after));
}

int
main(void)
{
	RUN(test_values_differ_by_each_byte);
	RUN(test_spaces_behind_a_number_do_not_count);
	RUN(test_flags_differ);
	RUN(test_times_to_live_may_differ_by_some_seconds);
	RUN(test_time_between_the_two_reads_counts);
	RUN(test_item_that_is_missing_may_have_just_ended);
	RUN(test_marks_differ);
	RUN(test_number_may_drift_in_what_is_not_its_value);
	RUN(test_item_with_another_token_was_written);
	RUN(test_item_that_is_touched_or_won_was_written);
	RUN(test_without_tokens_the_content_tells);
	return unit_end();
}
