/*
 * What the daemon uses of libevent.
 *
 * Invariant: an event is in the list added exactly while LISTED is set, and in
 * the list active while ACTIVE is set.  A base that is freed has no events.
 */

#include "loop.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/util.h>

#include "world.h"

enum {
	TIMED = 0x01,  /* ev_timeout is when it fires */
	LISTED = 0x02, /* event_add() was called */
	ACTIVE = 0x08, /* it fires in this turn */
	/* Of most events; a lower one comes first. */
	PRIORITY = 1,
	/* Events that fire in one turn at most. */
	FIRED_MAX = 100000,
};

TAILQ_HEAD(added_list, event);
TAILQ_HEAD(active_list, event_callback);

struct event_base {
	struct added_list added;
	struct active_list active;
	bool is_idle;
};

static struct event_base *the_base;

static short *
flags_of_event(struct event *event)
{
	return &event->ev_evcallback.evcb_flags;
}

struct event_base *
event_base_new(void)
{
	struct event_base *base = malloc(sizeof(*base));

	if (base == NULL)
		return NULL;
	TAILQ_INIT(&base->added);
	TAILQ_INIT(&base->active);
	base->is_idle = false;
	the_base = base;
	return base;
}

void
event_base_free(struct event_base *base)
{
	if (!TAILQ_EMPTY(&base->added) || !TAILQ_EMPTY(&base->active))
		finding("events are left when the loop is freed");
	free(base);
	the_base = NULL;
}

int
event_assign(struct event *event, struct event_base *base, evutil_socket_t fd,
    short events, event_callback_fn callback, void *arg)
{
	memset(event, 0, sizeof(*event));
	event->ev_base = base;
	event->ev_fd = fd;
	event->ev_events = events;
	event->ev_evcallback.evcb_cb_union.evcb_callback = callback;
	event->ev_evcallback.evcb_arg = arg;
	event->ev_evcallback.evcb_pri = PRIORITY;
	return 0;
}

int
event_base_priority_init(struct event_base *base, int priorities)
{
	(void)base;
	return priorities == 2 * PRIORITY ? 0 : -1;
}

int
event_priority_set(struct event *event, int priority)
{
	event->ev_evcallback.evcb_pri = (ev_uint8_t)priority;
	return 0;
}

struct event *
event_new(struct event_base *base, evutil_socket_t fd, short events,
    event_callback_fn callback, void *arg)
{
	struct event *event = malloc(sizeof(*event));

	if (event != NULL)
		event_assign(event, base, fd, events, callback, arg);
	return event;
}

int
event_add(struct event *event, const struct timeval *after)
{
	int64_t us = world_now() * 1000;

	/* libevent seldom needs memory for a timer. */
	if (after == NULL && world_lacks_memory())
		return -1;
	if (!(*flags_of_event(event) & LISTED))
		TAILQ_INSERT_TAIL(&event->ev_base->added, event,
		    ev_timeout_pos.ev_next_with_common_timeout);
	*flags_of_event(event) |= LISTED;
	if (after == NULL)
		return 0;
	event->ev_.ev_io.ev_timeout = *after;
	us += after->tv_sec * 1000000 + after->tv_usec;
	event->ev_timeout.tv_sec = us / 1000000;
	event->ev_timeout.tv_usec = us % 1000000;
	*flags_of_event(event) |= TIMED;
	return 0;
}

static void
deactivate(struct event *event)
{
	if (*flags_of_event(event) & ACTIVE)
		TAILQ_REMOVE(&event->ev_base->active, &event->ev_evcallback,
		    evcb_active_next);
	*flags_of_event(event) &= ~ACTIVE;
}

int
event_del(struct event *event)
{
	if (*flags_of_event(event) & LISTED)
		TAILQ_REMOVE(&event->ev_base->added, event,
		    ev_timeout_pos.ev_next_with_common_timeout);
	deactivate(event);
	*flags_of_event(event) = 0;
	return 0;
}

void
event_free(struct event *event)
{
	event_del(event);
	free(event);
}

void
event_active(struct event *event, int result, short calls)
{
	(void)calls;
	event->ev_res = (short)result;
	if (*flags_of_event(event) & ACTIVE)
		return;
	*flags_of_event(event) |= ACTIVE;
	if (event->ev_evcallback.evcb_pri < PRIORITY)
		TAILQ_INSERT_HEAD(&event->ev_base->active,
		    &event->ev_evcallback, evcb_active_next);
	else
		TAILQ_INSERT_TAIL(&event->ev_base->active,
		    &event->ev_evcallback, evcb_active_next);
}

int
event_pending(const struct event *event, short events, struct timeval *when)
{
	short flags = event->ev_evcallback.evcb_flags;
	short found = 0;

	assert(when == NULL);
	if (flags & LISTED)
		found |= event->ev_events & (EV_READ | EV_WRITE | EV_SIGNAL);
	if (flags & ACTIVE)
		found |= event->ev_res;
	if (flags & TIMED)
		found |= EV_TIMEOUT;
	return found & events;
}

bool
loop_watches(int fd)
{
	struct event *event;

	if (the_base == NULL)
		return false;
	TAILQ_FOREACH(event, &the_base->added,
	    ev_timeout_pos.ev_next_with_common_timeout)
		if (event->ev_fd == fd)
			return true;
	return false;
}

/*
 * Turns
 */

static int64_t
fires_at(const struct event *event)
{
	return event->ev_timeout.tv_sec * 1000 +
	    (event->ev_timeout.tv_usec + 999) / 1000;
}

static short
ready_for(struct event *event)
{
	short events = event->ev_events & (EV_READ | EV_WRITE);
	short ready = 0;

	if (event->ev_fd == -1 || events == 0)
		return 0;
	if ((events & EV_READ) && world_is_ready(event->ev_fd, false))
		ready |= EV_READ;
	if ((events & EV_WRITE) && world_is_ready(event->ev_fd, true))
		ready |= EV_WRITE;
	return ready;
}

/* Sockets first, then timers, as libevent has it. */
static void
activate_ready(struct event_base *base)
{
	struct event *event;
	short ready;

	TAILQ_FOREACH(event, &base->added,
	    ev_timeout_pos.ev_next_with_common_timeout) {
		ready = ready_for(event);
		if (ready != 0)
			event_active(event, ready, 1);
	}
	TAILQ_FOREACH(event, &base->added,
	    ev_timeout_pos.ev_next_with_common_timeout)
		if ((*flags_of_event(event) & TIMED) &&
		    fires_at(event) <= world_now())
			event_active(event, EV_TIMEOUT, 1);
}

static void
fire(struct event *event)
{
	struct timeval again = event->ev_.ev_io.ev_timeout;
	bool was_timed = *flags_of_event(event) & TIMED;
	int64_t us;

	deactivate(event);
	if (!(event->ev_events & EV_PERSIST)) {
		event_del(event);
	} else if (was_timed) {
		us = world_now() * 1000 + again.tv_sec * 1000000 +
		    again.tv_usec;
		event->ev_timeout.tv_sec = us / 1000000;
		event->ev_timeout.tv_usec = us % 1000000;
	}
	event->ev_evcallback.evcb_cb_union.evcb_callback(event->ev_fd,
	    event->ev_res, event->ev_evcallback.evcb_arg);
}

int
event_base_loop(struct event_base *base, int flags)
{
	struct event_callback *callback;
	unsigned int fired = 0;

	activate_ready(base);
	base->is_idle = TAILQ_EMPTY(&base->active) &&
	    !(flags & EVLOOP_NONBLOCK);
	while ((callback = TAILQ_FIRST(&base->active)) != NULL) {
		if (++fired > FIRED_MAX)
			finding("a turn of the loop does not end");
		fire((struct event *)callback);
	}
	return 0;
}

bool
world_is_idle(void)
{
	return the_base->is_idle;
}

int64_t
world_next_timer(int64_t most)
{
	struct event *event;
	int64_t left;

	TAILQ_FOREACH(event, &the_base->added,
	    ev_timeout_pos.ev_next_with_common_timeout) {
		if (!(*flags_of_event(event) & TIMED))
			continue;
		left = fires_at(event) - world_now();
		if (left < most)
			most = left > 0 ? left : 0;
	}
	return most;
}

/*
 * The rest
 */

void
event_set_log_callback(event_log_cb callback)
{
	(void)callback;
}

/* Nothing is allocated in the place of libevent. */
void
event_set_mem_functions(void *(*allocate)(size_t size),
    void *(*change)(void *bytes, size_t size), void (*release)(void *bytes))
{
	(void)allocate;
	(void)change;
	(void)release;
}

const char *
event_get_version(void)
{
	return "2.1.12-fuzz";
}

void
evutil_secure_rng_get_bytes(void *to, size_t n)
{
	memset(to, 0x5a, n);
}

/* Numeric IPv4 only. */
int
evutil_getaddrinfo(const char *host, const char *port,
    const struct evutil_addrinfo *hints, struct evutil_addrinfo **found)
{
	struct sockaddr_in *in;

	(void)hints;
	*found = calloc(1, sizeof(**found) + sizeof(*in));
	if (*found == NULL)
		return EVUTIL_EAI_MEMORY;
	in = (struct sockaddr_in *)(*found + 1);
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)atoi(port));
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1) {
		free(*found);
		return EVUTIL_EAI_NONAME;
	}
	(*found)->ai_family = AF_INET;
	(*found)->ai_addr = (struct sockaddr *)in;
	(*found)->ai_addrlen = sizeof(*in);
	return 0;
}

void
evutil_freeaddrinfo(struct evutil_addrinfo *list)
{
	free(list);
}
