/*
 * How fast copies may begin.
 *
 *   pace_begin() -> allowed, and few under way: a copy begins
 *              \--> waiters -> timer -> wake() -> pace_begin() ...
 *
 * Invariant: while somebody waits, the timer is set, or PACE_COPIES are under
 * way.  Those who wait are woken in their order, so a rebuild that has many
 * keys does not keep others from theirs.
 */

#include "mirror/pace.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include <event2/event.h>

#include "conn.h"

enum {
	/* Copies under way, of all rebuilds. */
	PACE_COPIES = 128,
	/* Copies that may begin in each millisecond. */
	COPIES_PER_MS = 50,
	/* Copies that may begin at once after a pause. */
	COPIES_BURST = 200,
};

TAILQ_HEAD(pace_waiter_list, pace_waiter);

struct pace {
	struct conn_loop *loop; /* borrowed */
	/* Copies under way. */
	unsigned int copies;
	/* How many copies might begin at the time counted_ms. */
	int64_t allowed;
	/* When allowed was counted last: monotonic milliseconds. */
	int64_t counted_ms;
	/* Borrowed, the one that has waited longest first. */
	struct pace_waiter_list waiters;
	/* The one whose wake() runs, or NULL. */
	const struct pace_waiter *woken;
	struct event *timer; /* owned: wakes those who wait */
};

/* Whether a copy may begin now. */
static bool
is_allowed(struct pace *pace)
{
	int64_t now = conn_loop_now(pace->loop);

	pace->allowed += (now - pace->counted_ms) * COPIES_PER_MS;
	pace->counted_ms = now;
	if (pace->allowed > COPIES_BURST)
		pace->allowed = COPIES_BURST;
	return pace->allowed > 0 && pace->copies < PACE_COPIES;
}

static void
set_pace_timer(struct pace *pace)
{
	struct timeval soon = { .tv_usec = 1000 };

	if (pace->copies < PACE_COPIES &&
	    !event_pending(pace->timer, EV_TIMEOUT, NULL))
		event_add(pace->timer, &soon);
}

static void
wait_for_turn(struct pace *pace, struct pace_waiter *waiter)
{
	assert(waiter->wake != NULL);
	if (!waiter->waiting)
		TAILQ_INSERT_TAIL(&pace->waiters, waiter, entry);
	waiter->waiting = true;
	set_pace_timer(pace);
}

bool
pace_begin(struct pace *pace, struct pace_waiter *waiter)
{
	bool is_turn = pace->woken == waiter || TAILQ_EMPTY(&pace->waiters);

	if (!is_turn || !is_allowed(pace)) {
		wait_for_turn(pace, waiter);
		return false;
	}
	assert(!waiter->waiting);
	pace->allowed--;
	pace->copies++;
	return true;
}

void
pace_end(struct pace *pace)
{
	assert(pace->copies > 0 && pace->copies <= PACE_COPIES);
	pace->copies--;
	if (!TAILQ_EMPTY(&pace->waiters))
		set_pace_timer(pace);
}

void
pace_cancel(struct pace *pace, struct pace_waiter *waiter)
{
	if (!waiter->waiting)
		return;
	assert(!TAILQ_EMPTY(&pace->waiters));
	waiter->waiting = false;
	TAILQ_REMOVE(&pace->waiters, waiter, entry);
}

/* Wake those who wait as long as copies may begin.  Who has begun some, and
   wants more, waits again only when no more may begin. */
static void
on_pace_timer(evutil_socket_t fd, short what, void *arg)
{
	struct pace *pace = arg;
	struct pace_waiter *waiter;

	(void)fd;
	(void)what;
	while ((waiter = TAILQ_FIRST(&pace->waiters)) != NULL &&
	    is_allowed(pace)) {
		assert(waiter->waiting && pace->woken == NULL);
		pace_cancel(pace, waiter);
		pace->woken = waiter;
		waiter->wake(waiter);
		pace->woken = NULL;
	}
	if (!TAILQ_EMPTY(&pace->waiters))
		set_pace_timer(pace);
}

struct pace *
pace_new(struct conn_loop *loop)
{
	struct pace *pace = calloc(1, sizeof(*pace));

	if (pace == NULL)
		return NULL;
	pace->loop = loop;
	pace->counted_ms = conn_loop_now(loop);
	TAILQ_INIT(&pace->waiters);
	pace->timer = event_new(conn_loop_base(loop), -1, 0, on_pace_timer,
	    pace);
	if (pace->timer == NULL) {
		free(pace);
		return NULL;
	}
	return pace;
}

void
pace_free(struct pace *pace)
{
	if (pace == NULL)
		return;
	event_free(pace->timer);
	free(pace);
}
