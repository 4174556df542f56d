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

TAILQ_HEAD(claim_list, claim);

/* What is due. */
struct flow {
	size_t keys;
	size_t value; /* bytes of one, about */
};

struct budget {
	size_t limit;
	struct flow single; /* of gets of one key */
	struct flow rounds; /* of gets of many */
	struct claim_list claims;
	size_t waiting; /* how many these are, */
	size_t kept;    /* and what they keep */
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
budget_ask(struct budget *budget, bool many, unsigned int keys)
{
	flow_of(budget, many)->keys += keys;
}

void
budget_forget(struct budget *budget, bool many, unsigned int keys)
{
	struct flow *flow = flow_of(budget, many);

	assert(flow->keys >= keys);
	flow->keys -= keys;
}

/* Up faster than down, so that not many large values are asked for before it
   is seen that they are. */
void
budget_take(struct budget *budget, bool many, unsigned int keys, size_t bytes)
{
	struct flow *flow = flow_of(budget, many);
	size_t value = keys > 1 ? bytes / keys : bytes;

	if (keys == 0)
		return;
	budget_forget(budget, many, keys);
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
due(const struct flow *flow)
{
	return flow->keys * flow->value;
}

/* The short way of fits(), for nearly all. */
bool
budget_is_ample(const struct budget *budget)
{
	return block_total() + due(&budget->single) + due(&budget->rounds) <=
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
fits(const struct budget *budget, const struct claim *claim,
    enum budget_need need)
{
	const struct flow *single = &budget->single, *rounds = &budget->rounds;
	size_t own = budget->kept + (claim->waiting ? 0 : claim->kept);
	size_t total = block_total(), limit = budget->limit;
	size_t held = total > own ? total - own : 0;
	size_t coming = due(single) + due(rounds);

	if (held + coming <= limit)
		return true;
	coming = coming < limit ? coming : limit;
	if (need == BUDGET_LITTLE)
		return held + coming <= 2 * limit;
	if (claim->looks > PATIENCE)
		return held + coming <= limit + limit / 2;
	return need == BUDGET_ROUND && rounds->keys == 0 &&
	    held + due(single) <= limit + limit / 2;
}

static void
wait(struct budget *budget, struct claim *claim)
{
	struct timeval look = { .tv_usec = WAIT_MS * 1000 };

	if (claim->waiting)
		return;
	claim->waiting = true;
	budget->waiting++;
	budget->kept += claim->kept;
	TAILQ_INSERT_TAIL(&budget->claims, claim, entry);
	if (!event_pending(budget->timer, EV_TIMEOUT, NULL))
		event_add(budget->timer, &look);
}

bool
budget_admit(struct budget *budget, struct claim *claim, enum budget_need need)
{
	if (fits(budget, claim, need))
		return true;
	wait(budget, claim);
	return false;
}

void
budget_cancel(struct budget *budget, struct claim *claim)
{
	if (!claim->waiting)
		return;
	assert(budget->kept >= claim->kept);
	claim->waiting = false;
	budget->waiting--;
	budget->kept -= claim->kept;
	TAILQ_REMOVE(&budget->claims, claim, entry);
}

/* Somebody may be admitted on his way, while he waits. */
void
budget_begin(struct budget *budget, struct claim *claim)
{
	budget_cancel(budget, claim);
	claim->looks = 0;
}

void
budget_wake(struct budget *budget)
{
	struct claim *claim = TAILQ_FIRST(&budget->claims);

	if (claim == NULL)
		return;
	budget_cancel(budget, claim);
	claim->wake(claim);
}

/* Wake as many as wait now; those who go on waiting are behind them. */
static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct budget *budget = arg;
	size_t n = budget->waiting;
	struct claim *claim;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(claim, &budget->claims, entry)
	claim->looks++;
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
	TAILQ_INIT(&budget->claims);
	budget->timer = event_new(base, -1, 0, on_timer, budget);
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
	assert(TAILQ_EMPTY(&budget->claims));
	event_free(budget->timer);
	free(budget);
}
