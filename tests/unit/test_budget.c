/* The budget: which request may begin, how many keys of it, which waiter is
   woken. */

#include <event2/event.h>

#include "block.h"
#include "client/budget.h"
#include "unit.h"

enum { MB = 1 << 20, LIMIT = 64 * MB };

static struct event_base *base;
static struct budget *budget;

struct my_waiter {
	struct budget_waiter waiter; /* first, so that one is the other */
	unsigned int woken;
	enum budget_need need; /* what it wants when it is woken; */
	bool again;            /* if it does */
	struct my_waiter *cancels;
};

static void
on_wake(struct budget_waiter *waiter)
{
	struct my_waiter *my = (struct my_waiter *)waiter;

	check(!waiter->waiting);
	my->woken++;
	if (my->again)
		budget_admit_or_wait(budget, waiter, my->need);
	if (my->cancels != NULL)
		budget_cancel(budget, &my->cancels->waiter);
}

static void
make(size_t value_max)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	budget = budget_new(base, LIMIT, value_max);
	unit_need(budget != NULL, "budget_new");
}

static void
end(void)
{
	budget_free(budget);
	event_base_free(base);
}

static struct block *
hold(size_t n)
{
	struct block *block = block_new(n);

	unit_need(block != NULL, "block_new");
	return block;
}

/* Whether somebody who keeps so much of his own, and has not waited yet, may
   begin this. */
static bool
may_begin(enum budget_need need, size_t own_bytes)
{
	struct budget_waiter waiter = { .wake = on_wake,
		.own_bytes = own_bytes };
	bool may = budget_admit_or_wait(budget, &waiter, need);

	check(waiter.waiting == !may);
	budget_cancel(budget, &waiter);
	return may;
}

/* One letter for each need that may be begun. */
static const char *
may(void)
{
	static char letters[4];
	char *to = letters;

	if (may_begin(BUDGET_SMALL, 0))
		*to++ = 'L';
	if (may_begin(BUDGET_LARGE, 0))
		*to++ = 'M';
	if (may_begin(BUDGET_ROUND, 0))
		*to++ = 'R';
	*to = '\0';
	return letters;
}

#define check_may(want) check_bytes(may(), strlen(may()), want)

/* n values of one size arrive, one by one. */
static void
take(bool many, unsigned int n, size_t bytes)
{
	while (n-- > 0) {
		budget_expect(budget, many, 1);
		budget_arrived(budget, many, 1, bytes);
	}
}

static void
test_budget_with_memory_held_admits_fewer_kinds(void)
{
	struct block *first, *second, *third;

	make(MB);
	check(!budget_is_short(budget) && !budget_is_spent(budget));
	first = hold(LIMIT);
	check(!budget_is_short(budget) && budget_is_ample(budget));
	check_may("LMR");
	second = hold(LIMIT / 2);
	check(budget_is_short(budget) && !budget_is_ample(budget));
	check_may("LR");
	third = hold(LIMIT / 2);
	check_may("L");
	block_release(second);
	second = hold(LIMIT);
	check_may("");
	/* But what is one's own is no reason to wait. */
	check(may_begin(BUDGET_SMALL, LIMIT / 2));
	check(!may_begin(BUDGET_LARGE, LIMIT));
	check(may_begin(BUDGET_LARGE, 2 * LIMIT));
	check(may_begin(BUDGET_ROUND, 100 * (size_t)LIMIT));
	check(!budget_is_spent(budget));
	block_release(second);
	second = hold(2 * LIMIT);
	check(budget_is_spent(budget));
	block_release(first);
	block_release(second);
	block_release(third);
	check(!budget_is_short(budget) && !budget_is_spent(budget));
	check_may("LMR");
	check(budget_share(budget) == LIMIT / 2);
	first = hold(LIMIT / 2);
	check(budget_share(budget) == LIMIT / 4);
	budget_expect(budget, false, 256); /* 64 KB each */
	check(budget_share(budget) == LIMIT / 8);
	budget_expect(budget, false, 1000);
	check(budget_share(budget) == 0);
	budget_unexpect(budget, false, 1256);
	block_release(first);
	end();
}

/* Memory that waiters keep does not count as held. */
static void
test_memory_kept_by_waiters_does_not_count_as_held(void)
{
	struct budget_waiter waiting = { .wake = on_wake,
		.own_bytes = 3 * (size_t)LIMIT };
	struct block *block = hold(3 * (size_t)LIMIT);
	struct block *more = hold(LIMIT);

	make(MB);
	check_may("");
	waiting.own_bytes = 2 * (size_t)LIMIT;
	check(!budget_admit_or_wait(budget, &waiting, BUDGET_LARGE));
	check_may("L");
	budget_cancel(budget, &waiting);
	check_may("");
	block_release(block);
	block_release(more);
	end();
}

/* Expected bytes count as if they were held, but they never keep out a client
   that wants little. */
static void
test_expected_bytes_count_but_leave_room_for_little_ones(void)
{
	struct block *block;

	make(MB);
	budget_expect(budget, false, 1024); /* 64 KB each, as far as known */
	check_may("LMR");
	budget_expect(budget, false, 1);
	check_may("LR");
	budget_expect(budget, false, 1024);
	check_may("L");
	budget_expect(budget, false, 1000000);
	check_may("L");
	block = hold(LIMIT + MB);
	check_may("");
	block_release(block);
	budget_unexpect(budget, false, 1002049);
	check_may("LMR");
	budget_expect(budget, true, 64); /* a MB each */
	check_may("LMR");
	budget_expect(budget, true, 1);
	check_may("L");
	budget_unexpect(budget, true, 65);
	end();
}

/* A round takes a quarter of the limit, and at most half of the limit is
   expected. */
static void
test_round_takes_a_quarter_of_the_limit_or_less(void)
{
	make(MB);
	check(budget_round(budget, 1) == 1 && budget_round(budget, 16) == 16);
	check(budget_round(budget, 1000) == 16);
	budget_expect(budget, true, 16);
	check(budget_round(budget, 1000) == 16);
	budget_expect(budget, true, 1);
	check(budget_round(budget, 1000) == 15);
	budget_expect(budget, true, 15);
	check(budget_round(budget, 1000) == 1);
	budget_expect(budget, true, 1000);
	check(budget_round(budget, 1000) == 1);
	budget_unexpect(budget, true, 1032);
	take(true, 200, 100);
	check(budget_round(budget, 1000) == 1000);
	end();
	make(1000 * (size_t)MB); /* more than there is: one by one */
	check(budget_round(budget, 1000) == 1);
	end();
}

/* What of a round is kept fits in a quarter of the limit, and with all that is
   held in the limit. */
static void
test_values_of_a_round_are_kept_while_they_fit(void)
{
	struct block *block;

	make(MB);
	check(budget_keeps(budget, 0, LIMIT / 4));
	check(!budget_keeps(budget, 1, LIMIT / 4));
	check(!budget_keeps(budget, LIMIT / 4, 1));
	block = hold(LIMIT - MB);
	check(budget_keeps(budget, 0, MB));
	check(!budget_keeps(budget, 0, MB + 1));
	block_release(block);
	end();
	base = event_base_new();
	budget = budget_new(base, (size_t)100 << 30, MB);
	unit_need(base != NULL && budget != NULL, "budget_new");
	check(budget_keeps(budget, MB, 1023 * MB));
	check(!budget_keeps(budget, MB, 1023 * (size_t)MB + 1));
	end();
}

/* The estimate follows quickly when values are large and slowly when they are
   small; gets of one key do not change that of gets of many. */
static void
test_estimate_grows_fast_and_shrinks_slowly_by_kind_of_get(void)
{
	make(MB);
	take(true, 100, 10);
	take(false, 100, MB);
	check(budget_round(budget, 700) == 700);
	take(true, 8, MB);
	check(budget_round(budget, 700) < 20);
	take(true, 8, 10);
	check(budget_round(budget, 700) < 40);
	budget_expect(budget, true, 100);
	budget_arrived(budget, true, 100, 100 * MB); /* each a MB */
	check(budget_round(budget, 700) < 40);
	take(true, 100, 10);
	check(budget_round(budget, 700) == 700);
	budget_arrived(budget, true, 0, 100 * MB); /* no values at all */
	check(budget_round(budget, 700) == 700);
	end();
}

static void
loop_until(const unsigned int *count, unsigned int want)
{
	while (*count < want)
		event_base_loop(base, EVLOOP_ONCE);
}

static void
want(struct my_waiter *my, enum budget_need need)
{
	my->waiter.wake = on_wake;
	my->need = need;
	check(!budget_admit_or_wait(budget, &my->waiter, need));
	check(!budget_admit_or_wait(budget, &my->waiter, need));
	check(my->waiter.waiting);
}

static void
test_waiters_are_woken_one_by_one_in_their_order(void)
{
	struct block *block = hold(2 * LIMIT);
	struct my_waiter waiters[3] = { { .woken = 0 } };

	make(MB);
	budget_wake(budget);
	want(&waiters[0], BUDGET_LARGE);
	want(&waiters[1], BUDGET_LARGE);
	budget_wake(budget);
	check(waiters[0].woken == 1 && waiters[1].woken == 0);
	budget_wake(budget);
	budget_wake(budget);
	check(waiters[0].woken == 1 && waiters[1].woken == 1);
	/* The timer wakes all, also those that go on waiting. */
	waiters[0].again = waiters[2].again = true;
	want(&waiters[0], BUDGET_LARGE);
	want(&waiters[1], BUDGET_LARGE);
	want(&waiters[2], BUDGET_LARGE);
	loop_until(&waiters[2].woken, 1);
	check(waiters[0].woken == 2 && waiters[1].woken == 2);
	loop_until(&waiters[2].woken, 2);
	check(waiters[0].woken == 3 && waiters[1].woken == 2);
	/* One that is cancelled, even meanwhile, is not woken. */
	waiters[0].cancels = &waiters[2];
	loop_until(&waiters[0].woken, 4);
	check(waiters[2].woken == 2 && !waiters[2].waiter.waiting);
	waiters[0].cancels = NULL;
	budget_cancel(budget, &waiters[0].waiter);
	budget_cancel(budget, &waiters[0].waiter);
	check(!waiters[0].waiter.waiting);
	block_release(block);
	end();
}

/* A waiter that has waited for long may use half as much again. */
static void
test_waiter_of_long_patience_may_use_half_as_much_again(void)
{
	struct block *block = hold(LIMIT + LIMIT / 2);
	struct my_waiter waiter = { .again = true };

	make(MB);
	want(&waiter, BUDGET_LARGE);
	while (waiter.waiter.waiting)
		event_base_loop(base, EVLOOP_ONCE);
	check(waiter.woken > 10);
	check_may("LR");
	block_release(block);
	end();
}

int
main(void)
{
	RUN(test_budget_with_memory_held_admits_fewer_kinds);
	RUN(test_memory_kept_by_waiters_does_not_count_as_held);
	RUN(test_expected_bytes_count_but_leave_room_for_little_ones);
	RUN(test_round_takes_a_quarter_of_the_limit_or_less);
	RUN(test_values_of_a_round_are_kept_while_they_fit);
	RUN(test_estimate_grows_fast_and_shrinks_slowly_by_kind_of_get);
	RUN(test_waiters_are_woken_one_by_one_in_their_order);
	RUN(test_waiter_of_long_patience_may_use_half_as_much_again);
	block_free_spare();
	return unit_end();
}
