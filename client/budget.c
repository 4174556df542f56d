/*
 * How much memory the buffers may take.
 *
 * Invariant: while a claim waits, the timer is set; so nobody waits for ever
 * for what was given back unseen.
 */

#include "client/budget.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/event.h>

#include "block.h"

enum {
	WAIT_MS = 20,           /* between looks */
	PATIENCE = 25,          /* looks in vain */
	VALUE_FIRST = 64 << 10, /* bytes that a value is taken for: at
					   first, if it comes alone, */
	VALUE_MIN = 16 << 10,   /* and at least: all may become large
					   at once */
	SPENT = 3,              /* times the limit */
};

TAILQ_HEAD(budget_waiter_list, budget_waiter);

/* What is due. */
struct flow {
	size_t keys;
	size_t value; /* bytes of one, about */
};

struct budget {
	size_t limit;
	struct flow single; /* of gets of one key */
	struct flow rounds; /* of gets of many */
	struct budget_waiter_list waiters;
	size_t waiting;   /* how many these are, */
	size_t own_bytes; /* and what they keep */
	struct event *timer;
};

static struct flow *
flow_of(struct budget *budget, bool many)
{
	return many ? &budget->rounds : &budget->single;
}

bool
budget_is_short(const struct budget *budget)
{
	return block_total() > budget->limit;
}

bool
budget_is_spent(const struct budget *budget)
{
	return block_total() > SPENT * budget->limit;
}

size_t
budget_share(const struct budget *budget, unsigned int n)
{
	assert(n > 0);
	return budget->limit / 2 / n;
}

/* Half of the memory is for what comes; one round may take half of that. */
unsigned int
budget_round(const struct budget *budget, unsigned int n)
{
	const struct flow *rounds = &budget->rounds;
	size_t room = budget->limit / 2 / rounds->value;
	size_t most = rounds->keys < room ? room - rounds->keys : 0;

	if (most > room / 2)
		most = room / 2;
	if (most == 0)
		most = 1;
	return n < most ? n : (unsigned int)most;
}

void
budget_expect(struct budget *budget, bool many, unsigned int keys)
{
	flow_of(budget, many)->keys += keys;
}

void
budget_unexpect(struct budget *budget, bool many, unsigned int keys)
{
	struct flow *flow = flow_of(budget, many);

	assert(flow->keys >= keys);
	flow->keys -= keys;
}

/* Up faster than down, so that not many large values are asked for before it
   is seen that they are. */
void
budget_arrived(struct budget *budget, bool many, unsigned int keys,
    size_t bytes)
{
	struct flow *flow = flow_of(budget, many);
	size_t value = keys > 1 ? bytes / keys : bytes;

	if (keys == 0)
		return;
	budget_unexpect(budget, many, keys);
	if (value < VALUE_MIN)
		value = VALUE_MIN;
	if (value > flow->value)
		flow->value += (value - flow->value) / 4;
	else
		flow->value -= (flow->value - value) / 16;
}

/*
 * Waiting
 */

/* About how many bytes are due. */
static size_t
expected_bytes(const struct flow *flow)
{
	return flow->keys * flow->value;
}

/* The short way of fits(), for nearly all. */
bool
budget_is_ample(const struct budget *budget)
{
	return block_total() + expected_bytes(&budget->single) +
	    expected_bytes(&budget->rounds) <=
	    budget->limit;
}

/*
 * Who holds little, and asks for little, need not wait for those who hold or
 * ask for much: there is as much again for him, whatever is due, for a server
 * that hangs may owe it.  Half of that is for who has waited for long, and for
 * a get of many keys that is the only one.
 *
 * What those hold who wait themselves does not count: or they would wait for
 * each other.
 */
static bool
fits(const struct budget *budget, const struct budget_waiter *waiter,
    enum budget_need need)
{
	const struct flow *single = &budget->single, *rounds = &budget->rounds;
	size_t own = budget->own_bytes +
	    (waiter->waiting ? 0 : waiter->own_bytes);
	size_t total = block_total(), limit = budget->limit;
	size_t held = total > own ? total - own : 0;
	size_t coming = expected_bytes(single) + expected_bytes(rounds);

	if (held + coming <= limit)
		return true;
	coming = coming < limit ? coming : limit;
	if (need == BUDGET_SMALL)
		return held + coming <= 2 * limit;
	if (waiter->checks > PATIENCE)
		return held + coming <= limit + limit / 2;
	return need == BUDGET_ROUND && rounds->keys == 0 &&
	    held + expected_bytes(single) <= limit + limit / 2;
}

static void
start_waiting(struct budget *budget, struct budget_waiter *waiter)
{
	struct timeval look = { .tv_usec = WAIT_MS * 1000 };

	if (waiter->waiting)
		return;
	waiter->waiting = true;
	budget->waiting++;
	budget->own_bytes += waiter->own_bytes;
	TAILQ_INSERT_TAIL(&budget->waiters, waiter, entry);
	if (!event_pending(budget->timer, EV_TIMEOUT, NULL))
		event_add(budget->timer, &look);
}

bool
budget_admit_or_wait(struct budget *budget, struct budget_waiter *waiter,
    enum budget_need need)
{
	if (fits(budget, waiter, need))
		return true;
	start_waiting(budget, waiter);
	return false;
}

void
budget_cancel(struct budget *budget, struct budget_waiter *waiter)
{
	if (!waiter->waiting)
		return;
	assert(budget->own_bytes >= waiter->own_bytes);
	waiter->waiting = false;
	budget->waiting--;
	budget->own_bytes -= waiter->own_bytes;
	TAILQ_REMOVE(&budget->waiters, waiter, entry);
}

/* Somebody may be admitted on his way, while he waits. */
void
budget_admitted(struct budget *budget, struct budget_waiter *waiter)
{
	budget_cancel(budget, waiter);
	waiter->checks = 0;
}

void
budget_wake(struct budget *budget)
{
	struct budget_waiter *waiter = TAILQ_FIRST(&budget->waiters);

	if (waiter == NULL)
		return;
	budget_cancel(budget, waiter);
	waiter->wake(waiter);
}

/* Wake as many as wait now; those who go on waiting are behind them. */
static void
on_budget_timer(evutil_socket_t fd, short what, void *arg)
{
	struct budget *budget = arg;
	size_t n = budget->waiting;
	struct budget_waiter *waiter;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(waiter, &budget->waiters, entry)
		waiter->checks++;
	while (n-- > 0)
		budget_wake(budget);
}

/*
 * Life
 */

struct budget *
budget_new(struct event_base *base, size_t limit, size_t value_max)
{
	struct budget *budget = calloc(1, sizeof(*budget));

	assert(limit > 0);
	if (budget == NULL)
		return NULL;
	budget->limit = limit;
	budget->single.value = VALUE_FIRST;
	budget->rounds.value = value_max > VALUE_MIN ? value_max : VALUE_MIN;
	TAILQ_INIT(&budget->waiters);
	budget->timer = event_new(base, -1, 0, on_budget_timer, budget);
	if (budget->timer == NULL) {
		free(budget);
		return NULL;
	}
	return budget;
}

void
budget_free(struct budget *budget)
{
	if (budget == NULL)
		return;
	assert(TAILQ_EMPTY(&budget->waiters));
	event_free(budget->timer);
	free(budget);
}
