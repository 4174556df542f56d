/* The budget: which request may begin, how many keys of it, which waiter is
   woken. */

#include <event2/event.h>

#include "block.h"
#include "client/budget.h"
#include "unit.h"

enum { MB = 1 << 20, LIMIT = 64 * MB };

static struct event_base *base;
static struct budget *budget;

struct my_claim {
	struct claim claim; /* first, so that one is the other */
	unsigned int woken;
	enum budget_need need; /* what it wants when it is woken; */
	bool again;            /* if it does */
	struct my_claim *cancels;
};

static void
on_wake(struct claim *claim)
{
	struct my_claim *my = (struct my_claim *)claim;

	check(!claim->waiting);
	my->woken++;
	if (my->again)
		budget_admit(budget, claim, my->need);
	if (my->cancels != NULL)
		budget_cancel(budget, &my->cancels->claim);
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
may_begin(enum budget_need need, size_t kept)
{
	struct claim claim = { .wake = on_wake, .kept = kept };
	bool may = budget_admit(budget, &claim, need);

	check(claim.waiting == !may);
	budget_cancel(budget, &claim);
	return may;
}

/* One letter for each need that may be begun. */
static const char *
may(void)
{
	static char letters[4];
	char *to = letters;

	if (may_begin(BUDGET_LITTLE, 0))
		*to++ = 'L';
	if (may_begin(BUDGET_MORE, 0))
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
		budget_ask(budget, many, 1);
		budget_take(budget, many, 1, bytes);
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
	check(may_begin(BUDGET_LITTLE, LIMIT / 2));
	check(!may_begin(BUDGET_MORE, LIMIT));
	check(may_begin(BUDGET_MORE, 2 * LIMIT));
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
	check(budget_share(budget, 1) == LIMIT / 2);
	check(budget_share(budget, 8) == LIMIT / 16);
	end();
}

/* Memory that waiters keep does not count as held. */
static void
test_memory_kept_by_waiters_does_not_count_as_held(void)
{
	struct claim waiting = { .wake = on_wake, .kept = 3 * (size_t)LIMIT };
	struct block *block = hold(3 * (size_t)LIMIT);
	struct block *more = hold(LIMIT);

	make(MB);
	check_may("");
	waiting.kept = 2 * (size_t)LIMIT;
	check(!budget_admit(budget, &waiting, BUDGET_MORE));
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
	budget_ask(budget, false, 1024); /* 64 KB each, as far as known */
	check_may("LMR");
	budget_ask(budget, false, 1);
	check_may("LR");
	budget_ask(budget, false, 1024);
	check_may("L");
	budget_ask(budget, false, 1000000);
	check_may("L");
	block = hold(LIMIT + MB);
	check_may("");
	block_release(block);
	budget_forget(budget, false, 1002049);
	check_may("LMR");
	budget_ask(budget, true, 64); /* a MB each */
	check_may("LMR");
	budget_ask(budget, true, 1);
	check_may("L");
	budget_forget(budget, true, 65);
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
	budget_ask(budget, true, 16);
	check(budget_round(budget, 1000) == 16);
	budget_ask(budget, true, 1);
	check(budget_round(budget, 1000) == 15);
	budget_ask(budget, true, 15);
	check(budget_round(budget, 1000) == 1);
	budget_ask(budget, true, 1000);
	check(budget_round(budget, 1000) == 1);
	budget_forget(budget, true, 1032);
	take(true, 200, 100);
	check(budget_round(budget, 1000) == 1000);
	end();
	make(1000 * (size_t)MB); /* more than there is: one by one */
	check(budget_round(budget, 1000) == 1);
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
	budget_ask(budget, true, 100);
	budget_take(budget, true, 100, 100 * MB); /* each a MB */
	check(budget_round(budget, 700) < 40);
	take(true, 100, 10);
	check(budget_round(budget, 700) == 700);
	budget_take(budget, true, 0, 100 * MB); /* no values at all */
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
want(struct my_claim *my, enum budget_need need)
{
	my->claim.wake = on_wake;
	my->need = need;
	check(!budget_admit(budget, &my->claim, need));
	check(!budget_admit(budget, &my->claim, need));
	check(my->claim.waiting);
}

static void
test_waiters_are_woken_one_by_one_in_their_order(void)
{
	struct block *block = hold(2 * LIMIT);
	struct my_claim claims[3] = { { .woken = 0 } };

	make(MB);
	budget_wake(budget);
	want(&claims[0], BUDGET_MORE);
	want(&claims[1], BUDGET_MORE);
	budget_wake(budget);
	check(claims[0].woken == 1 && claims[1].woken == 0);
	budget_wake(budget);
	budget_wake(budget);
	check(claims[0].woken == 1 && claims[1].woken == 1);
	/* The timer wakes all, also those that go on waiting. */
	claims[0].again = claims[2].again = true;
	want(&claims[0], BUDGET_MORE);
	want(&claims[1], BUDGET_MORE);
	want(&claims[2], BUDGET_MORE);
	loop_until(&claims[2].woken, 1);
	check(claims[0].woken == 2 && claims[1].woken == 2);
	loop_until(&claims[2].woken, 2);
	check(claims[0].woken == 3 && claims[1].woken == 2);
	/* One that is cancelled, even meanwhile, is not woken. */
	claims[0].cancels = &claims[2];
	loop_until(&claims[0].woken, 4);
	check(claims[2].woken == 2 && !claims[2].claim.waiting);
	claims[0].cancels = NULL;
	budget_cancel(budget, &claims[0].claim);
	budget_cancel(budget, &claims[0].claim);
	check(!claims[0].claim.waiting);
	block_release(block);
	end();
}

/* A waiter that has waited for long may use half as much again. */
static void
test_waiter_of_long_patience_may_use_half_as_much_again(void)
{
	struct block *block = hold(LIMIT + LIMIT / 2);
	struct my_claim claim = { .again = true };

	make(MB);
	want(&claim, BUDGET_MORE);
	while (claim.claim.waiting)
		event_base_loop(base, EVLOOP_ONCE);
	check(claim.woken > 10);
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
	RUN(test_estimate_grows_fast_and_shrinks_slowly_by_kind_of_get);
	RUN(test_waiters_are_woken_one_by_one_in_their_order);
	RUN(test_waiter_of_long_patience_may_use_half_as_much_again);
	block_pool_free();
	return unit_end();
}
