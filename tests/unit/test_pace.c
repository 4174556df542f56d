/* How many copies may begin, how fast, and in whose turn. */

#include <event2/event.h>

#include "conn.h"
#include "mirror/pace.h"
#include "unit.h"

enum {
	UNDER_WAY = 128, /* at most */
	BURST = 200,
	PER_MS = 50,
	WAITERS = 3,
};

/* One who wants to begin copies. */
struct eater {
	struct pace_waiter waiter;
	unsigned int wanted; /* copies that it would begin when it is woken */
	unsigned int got;
};

static struct event_base *base;
static int64_t now_ms = 1000;
static struct pace *pace;
static struct eater eaters[WAITERS];
static unsigned int under_way;

struct event_base *
conn_loop_base(struct conn_loop *loop)
{
	(void)loop;
	return base;
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	(void)loop;
	return now_ms;
}

/* Begin as many copies as it wants, and may. */
static void
eat(struct eater *eater)
{
	while (eater->wanted > 0 && pace_begin(pace, &eater->waiter)) {
		eater->wanted--;
		eater->got++;
		under_way++;
		check(under_way <= UNDER_WAY);
	}
}

static void
on_wake(struct pace_waiter *waiter)
{
	check(!waiter->waiting);
	eat((struct eater *)waiter);
}

static void
end_copies(unsigned int n)
{
	for (; n > 0; n--, under_way--)
		pace_end(pace);
}

static void
begin_test(void)
{
	int i;

	memset(eaters, 0, sizeof(eaters));
	for (i = 0; i < WAITERS; i++)
		eaters[i].waiter.wake = on_wake;
	pace = pace_new(NULL);
	unit_need(pace != NULL, "pace_new");
	now_ms += 10000;
}

static void
end_test(void)
{
	end_copies(under_way);
	pace_free(pace);
}

/* Some ms of our clock, and the timer after them. */
static void
pass_ms(int64_t ms)
{
	now_ms += ms;
	event_base_loop(base, EVLOOP_ONCE);
}

static void
test_no_more_than_so_many_are_under_way(void)
{
	begin_test();
	eaters[0].wanted = 1000;
	eat(&eaters[0]);
	check(eaters[0].got == UNDER_WAY && eaters[0].waiter.waiting);
	/* Nobody is woken while none may begin; the timer is not even set. */
	event_base_loop(base, EVLOOP_NONBLOCK);
	check(eaters[0].got == UNDER_WAY);
	end_copies(10);
	pass_ms(1);
	check(eaters[0].got == UNDER_WAY + 10 && eaters[0].waiter.waiting);
	pace_cancel(pace, &eaters[0].waiter);
	check(!eaters[0].waiter.waiting);
	end_test();
}

/* As many at once as a burst has; then so many in each millisecond. */
static void
test_copies_begin_no_faster(void)
{
	unsigned int i;

	begin_test();
	for (i = 0; i < BURST; i++) {
		check(pace_begin(pace, &eaters[0].waiter));
		pace_end(pace);
	}
	check(!pace_begin(pace, &eaters[0].waiter));
	eaters[0].wanted = 1000;
	for (i = 1; i <= 4; i++) {
		pass_ms(1);
		check_case(eaters[0].got == i * PER_MS, "%u", eaters[0].got);
		end_copies(under_way);
	}
	pace_cancel(pace, &eaters[0].waiter);
	end_test();
}

/* One who wants more waits behind those who came before. */
static void
test_each_has_its_turn(void)
{
	int i;

	begin_test();
	eaters[0].wanted = 1000;
	eat(&eaters[0]);
	for (i = 1; i < WAITERS; i++) {
		eaters[i].wanted = 20;
		eat(&eaters[i]);
		check(eaters[i].waiter.waiting && eaters[i].got == 0);
	}
	end_copies(UNDER_WAY);
	/* There are 72 left of the burst; the first one takes what it can. */
	for (i = 0; i < 20; i++) {
		pass_ms(1);
		end_copies(under_way);
	}
	check(eaters[0].wanted == 0 || eaters[0].waiter.waiting);
	for (i = 1; i < WAITERS; i++)
		check(eaters[i].got == 20 && !eaters[i].waiter.waiting);
	for (i = 0; i < WAITERS; i++)
		pace_cancel(pace, &eaters[i].waiter);
	end_test();
}

int
main(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	pace_free(NULL);
	RUN(test_no_more_than_so_many_are_under_way);
	RUN(test_copies_begin_no_faster);
	RUN(test_each_has_its_turn);
	event_base_free(base);
	return unit_end();
}
