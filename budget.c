/*
 * How much memory the buffers may take.
 *
 * Invariant: while a claim waits, the timer is set; so nobody waits for ever
 * for what was given back unseen.
 */

#include "budget.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/event.h>

#include "block.h"

enum {
	WAIT_MS = 20,			/* between looks */
	VALUE_MIN = 16 << 10,		/* bytes that a value is taken for: all
					   may become large at once */
	SPENT = 3			/* times the limit */
};

TAILQ_HEAD(claim_list, claim);

struct budget {
	size_t limit;
	size_t asked;			/* keys whose values are due */
	size_t value;			/* bytes of one, about */
	struct claim_list claims;
	size_t waiting;			/* how many these are */
	struct event *timer;
};

/* About how many bytes are due. */
static size_t
due(const struct budget *budget)
{
	return budget->asked * budget->value;
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

/* Those who hold memory wait first; who is served at once, and costs little,
   need not wait for the others to give it back. */
bool
budget_allows(const struct budget *budget, bool holds)
{
	size_t total = block_total() + due(budget);

	return total <= budget->limit ||
	    (!holds && total <= 2 * budget->limit);
}

/* Half of the memory is for what comes; one round may take half of that. */
unsigned int
budget_round(const struct budget *budget, unsigned int n)
{
	size_t most = budget->limit / 4 / budget->value + 1;

	if (n > most)
		n = (unsigned int)most;
	return budget->asked == 0 ||
	    due(budget) + n * budget->value <= budget->limit / 2 ? n : 0;
}

void
budget_ask(struct budget *budget, unsigned int keys)
{
	budget->asked += keys;
}

void
budget_forget(struct budget *budget, unsigned int keys)
{
	assert(budget->asked >= keys);
	budget->asked -= keys;
}

/* Up faster than down, so that not many large values are asked for before it
   is seen that they are. */
void
budget_take(struct budget *budget, unsigned int keys, size_t bytes)
{
	size_t value = keys > 1 ? bytes / keys : bytes;

	if (keys == 0)
		return;
	budget_forget(budget, keys);
	if (value < VALUE_MIN)
		value = VALUE_MIN;
	if (value > budget->value)
		budget->value += (value - budget->value) / 4;
	else
		budget->value -= (budget->value - value) / 16;
}

/*
 * Waiting
 */

void
budget_wait(struct budget *budget, struct claim *claim)
{
	struct timeval wait = { .tv_usec = WAIT_MS * 1000 };

	if (claim->waiting)
		return;
	claim->waiting = true;
	budget->waiting++;
	TAILQ_INSERT_TAIL(&budget->claims, claim, entry);
	if (!event_pending(budget->timer, EV_TIMEOUT, NULL))
		event_add(budget->timer, &wait);
}

void
budget_cancel(struct budget *budget, struct claim *claim)
{
	if (!claim->waiting)
		return;
	claim->waiting = false;
	budget->waiting--;
	TAILQ_REMOVE(&budget->claims, claim, entry);
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

	(void)fd;
	(void)what;
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
	/* Nothing is known of the values yet. */
	budget->value = value_max > VALUE_MIN ? value_max : VALUE_MIN;
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
