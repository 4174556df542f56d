/*
 * Decide who may use memory for buffers now; budget.h has the picture.
 *
 * A command of which a part has come holds memory for as long as its client
 * likes, and a byte now and then is no progress.  So it is its age that counts.
 * The one that was begun first is given up, and then the next one,
 *
 *   at once,              while more than -m is held, and unfinished commands
 *                         hold more than a quarter of -m
 *   two seconds after     while more than -m is held; or while -m is held or
 *   it was begun,         expected, and they hold more than a quarter of -m
 *
 * Its data is thrown away as it comes, and the client gets "SERVER_ERROR out of
 * memory storing object", as from a memcached without memory.  As there, the
 * old value of a set or ms is deleted.  A client that has sent a part of a line
 * cannot be answered in step: it gets an error and is closed.
 *
 * Invariant: while anybody waits, the timer is set.  Memory is also freed where
 * nobody calls budget_wake(); the timer bounds how long a waiter misses that.
 */

#include "client/budget.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/event.h>

#include "block.h"
#include "hot_assert.h"
#include "pool.h"

enum {
	/* Time between two looks at those that wait. */
	WAIT_MS = 20,
	/* After more looks than this a waiter gets more room. */
	PATIENCE = 25,
	/* Bytes that the value of a single key counts before one has come. */
	VALUE_FIRST = 64 << 10,
	/* Bytes that a value counts at least: small ones may all become large
	   at once. */
	VALUE_MIN = 16 << 10,
	/* Bytes of a reply with several values, whatever the limit: offsets in
	   it have 32 bits. */
	REPLY_MAX = 1 << 30,
	/* Unfinished commands may hold the limit divided by this, when others
	   need memory. */
	UNFINISHED = 4,
	/* An unfinished command is old after this. */
	UNFINISHED_MS = 2000,
	/* Times the limit: above this, what comes is thrown away. */
	SPENT = 3,
};

static_assert(VALUE_FIRST >= VALUE_MIN, "no value counts less than VALUE_MIN");
static_assert(SPENT > 2, "nothing begins long before the budget is spent");

TAILQ_HEAD(budget_waiter_list, budget_waiter);

/* Values that are expected. */
struct flow {
	size_t keys;  /* of which the value has not come */
	size_t value; /* bytes that one value counts, from recent ones */
};

struct budget {
	size_t limit;       /* bytes: -m */
	struct flow single; /* commands about one key */
	struct flow rounds; /* gets that are carried out in rounds */
	/* In the order in which they are woken. */
	struct budget_waiter_list waiters;
	size_t waiter_count; /* of waiters */
	size_t own_bytes;    /* sum of the own_bytes of all waiters */
	struct event *timer; /* owned */
};

static struct flow *
flow_of(struct budget *budget, bool in_rounds)
{
	return in_rounds ? &budget->rounds : &budget->single;
}

/* What is held.  If that is too much, what is spare is freed before it is
   counted. */
static size_t
held_bytes(const struct budget *budget)
{
	if (block_total() > budget->limit)
		pool_trim(0);
	return block_total();
}

bool
budget_is_short(const struct budget *budget)
{
	return held_bytes(budget) > budget->limit;
}

bool
budget_is_spent(const struct budget *budget)
{
	return held_bytes(budget) > SPENT * budget->limit;
}

/* About how many bytes are to come. */
static size_t
expected_bytes(const struct flow *flow)
{
	return flow->keys * flow->value;
}

/* What is held or expected. */
static inline size_t
used_bytes(const struct budget *budget)
{
	return block_total() + expected_bytes(&budget->single) +
	    expected_bytes(&budget->rounds);
}

bool
budget_gives_up(const struct budget *budget, size_t bytes, size_t leaving,
    int64_t age_ms)
{
	bool is_short = held_bytes(budget) > budget->limit + leaving;
	bool are_many = bytes > budget->limit / UNFINISHED;

	if (age_ms < UNFINISHED_MS)
		return is_short && are_many;
	return is_short || (are_many && !budget_is_ample(budget));
}

/*
 * Half of what is neither held nor expected.  If n clients use their shares as
 * far as they can, each has the limit divided by n + 2, and twice that is left
 * for those that come.  Clients that ask for nothing do not matter, however
 * many they are.
 */
size_t
budget_share(const struct budget *budget)
{
	size_t used = used_bytes(budget);

	return used < budget->limit ? (budget->limit - used) / 2 : 0;
}

/* Half of the limit is for the values of all rounds; one round takes half of
   that at most. */
unsigned int
budget_round(const struct budget *budget, unsigned int n)
{
	const struct flow *rounds = &budget->rounds;
	size_t room = budget->limit / 2 / rounds->value;
	size_t most = rounds->keys < room ? room - rounds->keys : 0;

	assert(n > 0 && rounds->value >= VALUE_MIN);
	if (most > room / 2)
		most = room / 2;
	if (most == 0)
		most = 1;
	return n < most ? n : (unsigned int)most;
}

bool
budget_keeps(const struct budget *budget, size_t held, size_t more)
{
	size_t most = budget->limit / 4 < REPLY_MAX ?
	    budget->limit / 4 :
	    REPLY_MAX;

	return held + more <= most &&
	    held_bytes(budget) + more <= budget->limit;
}

void
budget_expect(struct budget *budget, bool in_rounds, unsigned int keys)
{
	flow_of(budget, in_rounds)->keys += keys;
}

void
budget_unexpect(struct budget *budget, bool in_rounds, unsigned int keys)
{
	struct flow *flow = flow_of(budget, in_rounds);

	assert(flow->keys >= keys);
	flow->keys -= keys;
}

/* What a value counts goes up faster than down, so that not many large ones are
   asked for before it is noticed that they are large. */
void
budget_arrived(struct budget *budget, bool in_rounds, unsigned int keys,
    size_t bytes)
{
	struct flow *flow = flow_of(budget, in_rounds);
	size_t value = keys > 1 ? bytes / keys : bytes;

	if (keys == 0)
		return;
	budget_unexpect(budget, in_rounds, keys);
	if (value < VALUE_MIN)
		value = VALUE_MIN;
	if (value > flow->value)
		flow->value += (value - flow->value) / 4;
	else
		flow->value -= (flow->value - value) / 16;
	hot_assert(flow->value >= VALUE_MIN);
}

/*
 * Waiting
 */

/* The first test of fits() without a waiter: nearly all need no other one. */
bool
budget_is_ample(const struct budget *budget)
{
	return used_bytes(budget) <= budget->limit;
}

/*
 * Whether what the waiter needs may begin.  Above the limit:
 *
 * A command of a client that holds and asks for little gets a second budget of
 * `limit` bytes, even if everything expected arrives: a hung server may owe it,
 * so what is expected counts as `limit` at most.  Half of this second budget is
 * also open to one that has waited for more than PATIENCE looks, and to a round
 * while no other one is under way.
 *
 * Memory of clients that wait for memory themselves is not counted: they would
 * wait for each other.
 */
static bool
fits(const struct budget *budget, const struct budget_waiter *waiter,
    enum budget_need need)
{
	const struct flow *single = &budget->single, *rounds = &budget->rounds;
	size_t own = budget->own_bytes +
	    (waiter->waiting ? 0 : waiter->own_bytes);
	size_t total = held_bytes(budget), limit = budget->limit;
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

	assert(waiter->wake != NULL);
	if (waiter->waiting)
		return;
	assert((budget->waiter_count == 0) == TAILQ_EMPTY(&budget->waiters));
	waiter->waiting = true;
	budget->waiter_count++;
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
	assert(budget->waiter_count > 0);
	assert(budget->own_bytes >= waiter->own_bytes);
	waiter->waiting = false;
	budget->waiter_count--;
	budget->own_bytes -= waiter->own_bytes;
	TAILQ_REMOVE(&budget->waiters, waiter, entry);
}

/* One that waits may be admitted before it is woken, by a call of its own. */
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
	assert(waiter->waiting);
	budget_cancel(budget, waiter);
	waiter->wake(waiter);
}

/* Wake as many as wait now: one that goes on waiting is put at the end, behind
   those that were not woken yet. */
static void
on_budget_timer(evutil_socket_t fd, short what, void *arg)
{
	struct budget *budget = arg;
	size_t n = budget->waiter_count;
	struct budget_waiter *waiter;

	(void)fd;
	(void)what;
	assert((n == 0) == TAILQ_EMPTY(&budget->waiters));
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

	assert(limit > 0 && base != NULL);
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
	assert(budget->waiter_count == 0 && budget->own_bytes == 0);
	event_free(budget->timer);
	free(budget);
}
