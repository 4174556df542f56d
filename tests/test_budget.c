/* The budget: what is short, what is allowed, who is woken. */

#include <event2/event.h>

#include "../block.h"
#include "../budget.h"
#include "unit.h"

enum { MB = 1 << 20, LIMIT = 64 * MB };

static struct event_base *base;
static struct budget *budget;

struct my_claim {
	struct claim claim;	/* first, so that one is the other */
	unsigned int woken;
	bool again;		/* it goes on waiting */
	struct my_claim *cancels;
};

static void
on_wake(struct claim *claim)
{
	struct my_claim *my = (struct my_claim *)claim;

	check(!claim->waiting);
	my->woken++;
	if (my->again)
		budget_wait(budget, claim);
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

/* So many values of a size come, one by one. */
static void
take(unsigned int n, size_t bytes)
{
	while (n-- > 0) {
		budget_ask(budget, 1);
		budget_take(budget, 1, bytes);
	}
}

static void
test_held(void)
{
	struct block *first, *second, *third;

	make(MB);
	check(!budget_is_short(budget) && !budget_is_spent(budget));
	first = hold(LIMIT);
	check(!budget_is_short(budget) && budget_allows(budget, true));
	second = hold(LIMIT - MB);
	check(budget_is_short(budget) && !budget_allows(budget, true));
	check(budget_allows(budget, false));
	third = hold(LIMIT + MB);
	check(!budget_allows(budget, false) && !budget_is_spent(budget));
	block_release(third);
	third = hold(LIMIT + 2 * MB);
	check(budget_is_spent(budget));
	block_release(first);
	block_release(second);
	block_release(third);
	check(!budget_is_short(budget) && budget_allows(budget, true));
	check(budget_share(budget, 1) == LIMIT / 2);
	check(budget_share(budget, 8) == LIMIT / 16);
	end();
}

/* What is due counts as if it were held: at first as if it were large. */
static void
test_due(void)
{
	make(MB);
	budget_ask(budget, 64);
	check(budget_allows(budget, true));
	budget_ask(budget, 1);
	check(!budget_allows(budget, true) && budget_allows(budget, false));
	budget_ask(budget, 64);
	check(!budget_allows(budget, false));
	budget_forget(budget, 129);
	check(budget_allows(budget, true));
	end();
	make(1);
	budget_ask(budget, LIMIT / (16 << 10));
	check(budget_allows(budget, true));
	budget_ask(budget, 1);
	check(!budget_allows(budget, true));
	end();
}

/* A round takes a quarter of the memory, and half of it at most is due. */
static void
test_round(void)
{
	make(MB);
	check(budget_round(budget, 1) == 1 && budget_round(budget, 16) == 16);
	check(budget_round(budget, 1000) == 17);
	budget_ask(budget, 16);
	check(budget_round(budget, 16) == 16);
	budget_ask(budget, 1);
	check(budget_round(budget, 16) == 0 && budget_round(budget, 15) == 15);
	budget_ask(budget, 15);
	check(budget_round(budget, 1) == 0);
	budget_forget(budget, 32);
	take(200, 100);
	check(budget_round(budget, 1000) == 1000);
	end();
	make(1000 * MB);	/* more than there is: one by one */
	check(budget_round(budget, 1000) == 1);
	budget_ask(budget, 1);
	check(budget_round(budget, 1000) == 0);
	budget_take(budget, 1, 0);
	check(budget_round(budget, 1000) == 1);
	end();
}

/* It learns: quickly that values are large, slower that they are small. */
static void
test_values(void)
{
	make(MB);
	take(100, 10);
	check(budget_round(budget, 700) == 700);
	budget_ask(budget, 100);
	budget_take(budget, 100, 0);
	take(8, MB);
	check(budget_round(budget, 700) < 20);
	take(8, 10);
	check(budget_round(budget, 700) < 40);
	budget_ask(budget, 100);
	budget_take(budget, 100, 100 * MB);	/* each a MB */
	check(budget_round(budget, 700) < 40);
	take(100, 10);
	check(budget_round(budget, 700) == 700);
	budget_take(budget, 0, 100 * MB);	/* no values at all */
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
test_waiting(void)
{
	struct my_claim claims[3] = {
		{ .claim.wake = on_wake }, { .claim.wake = on_wake },
		{ .claim.wake = on_wake }
	};

	make(MB);
	budget_wake(budget);
	budget_wait(budget, &claims[0].claim);
	budget_wait(budget, &claims[0].claim);
	budget_wait(budget, &claims[1].claim);
	check(claims[0].claim.waiting && claims[0].woken == 0);
	budget_wake(budget);
	check(claims[0].woken == 1 && claims[1].woken == 0);
	budget_wake(budget);
	budget_wake(budget);
	check(claims[0].woken == 1 && claims[1].woken == 1);
	/* The timer wakes each once, also those that go on waiting. */
	claims[0].again = claims[2].again = true;
	budget_wait(budget, &claims[0].claim);
	budget_wait(budget, &claims[1].claim);
	budget_wait(budget, &claims[2].claim);
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
	end();
}

int
main(void)
{
	test_held();
	test_due();
	test_round();
	test_values();
	test_waiting();
	block_pool_free();
	return unit_end();
}
