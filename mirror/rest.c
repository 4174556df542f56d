/*
 * Look at the stamps before the first request after a rest.
 *
 *   SERVING -- no request for a tick --> RESTED -- a request --> LOOKING
 *      ^                                                            |
 *      '--- nobody is in question any more, or it takes too long ---'
 *
 * It also looks when it was held up, and another magent has served meanwhile:
 * then all servers have just failed, and each is waited for.
 *
 * Invariant: what is sent to a server was sent less than HELD_UP_MS after the
 * last tick; or other magents were asked for first, and none serves.
 *
 * Invariant: the gate holds all pairs while it is LOOKING.  A request that
 * begins in another state comes less than TICK_MS after the last tick at which
 * it was known that one had come before; or less than two ticks after a look.
 *
 * It costs nothing while requests come: the gate is watched, and tells of the
 * first one after each tick.
 *
 * A magent that serves says so on each server.  One that rests leaves to it
 * what is to be rebuilt.
 */

#include "mirror/rest.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <event2/event.h>

#include "conn.h"
#include "container_of.h"
#include "mirror/bond.h"
#include "mirror/gate.h"
#include "mirror/late.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/probe.h"
#include "mirror/serving.h"
#include "mirror/stamp.h"
#include "mirror/survey.h"
#include "server/server.h"

enum {
	/* A rest is noticed after one to two of these. */
	TICK_MS = 500,
	/* So long after a tick, this process was held up. */
	HELD_UP_MS = 1000,
	/* Between two looks whether a server is in question. */
	LOOK_MS = 2,
	/* So long may a server take to be heard of that was away. */
	HEAR_MS = 10,
};

struct rest {
	struct conn_loop *loop;  /* borrowed */
	struct pairs *pairs;     /* borrowed */
	struct serving *serving; /* borrowed */
	struct gate_watch watch;
	bool is_watching; /* no request has come since the last tick */
	bool is_rested;
	bool is_looking;
	bool is_ignorant; /* all servers are to be heard of in this look */
	/* The stamps that differ are being read once more. */
	bool is_sure;
	/* Milliseconds of the monotonic clock. */
	int64_t late_ms, looked_ms;
	/* Owned. */
	struct event *tick, *look;
	struct survey *survey; /* NULL: none is under way */
};

/* Have servers that are away tried at once. */
static void
hurry_all(const struct rest *rest)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(rest->pairs); i++)
		server_hurry(pairs_peer(rest->pairs, i)->server);
}

/*
 * Looking
 */

/* To others, on each server. */
static void
say_active(const struct rest *rest)
{
	uint64_t id = pairs_magent_id(rest->pairs);
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(rest->pairs); i++) {
		peer = pairs_peer(rest->pairs, i);
		if (peer_is_there(peer))
			stamp_say_active(peer, id);
	}
}

static void
end_look(struct rest *rest)
{
	assert(rest->is_looking && rest->survey == NULL);
	rest->is_looking = rest->is_ignorant = false;
	/* Of those that have been heard of since the survey, too. */
	serving_look(rest->serving, LOOK_FIRST);
	say_active(rest);
	serving_say(rest->serving);
	gate_release_all(pairs_gate(rest->pairs));
}

/* Whether it may soon be known what a server that was away has. */
static bool
is_in_question(const struct peer *peer, int64_t ms)
{
	switch (peer->state) {
	case PEER_DOWN:
		return ms < HEAR_MS && server_is_connecting(peer->server);
	case PEER_STARTING:
	case PEER_IDENTIFY:
		return true;
	case PEER_DRAIN:
	case PEER_INVALIDATE:
		return peer->is_uncovered;
	default:
		return false;
	}
}

/* The same while nothing is known of any server: what is written before all are
   mirrors again would be past one that another magent uses. */
static bool
is_returning(const struct peer *peer)
{
	return peer->state == PEER_DOWN ?
	    server_is_connecting(peer->server) :
	    !peer_is_mirror(peer);
}

/* What another magent rebuilds may not get our effects without more. */
static void
take_back(const struct rest *rest)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(rest->pairs); i++) {
		peer = pairs_peer(rest->pairs, i);
		if (peer->is_left)
			server_fail(peer->server, "was left to another magent");
	}
}

/* End the look when no server is in question any more. */
static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	struct timeval wait = { .tv_usec = LOOK_MS * 1000 };
	struct rest *rest = arg;
	int64_t ms = conn_loop_now(rest->loop) - rest->looked_ms;
	const struct peer *peer;
	size_t i;

	(void)fd;
	(void)what;
	for (i = 0; i < pairs_peer_count(rest->pairs); i++) {
		peer = pairs_peer(rest->pairs, i);
		if (ms < server_age_limit(peer->server) &&
		    (rest->is_ignorant ? is_returning(peer) :
					 is_in_question(peer, ms))) {
			event_add(rest->look, &wait);
			return;
		}
	}
	end_look(rest);
}

static void on_rest_surveyed(void *owner);

static void
begin_survey(struct rest *rest)
{
	assert(rest->survey == NULL);
	rest->survey = survey_new(rest->pairs, NULL, on_rest_surveyed, rest);
	if (rest->survey == NULL)
		end_look(rest);
}

/* What differs may have been on its way to one of two servers: so it is read
   once more. */
static void
on_rest_surveyed(void *owner)
{
	struct rest *rest = owner;
	bool differs;

	rest->survey = NULL;
	if (!rest->is_sure) {
		take_back(rest);
		serving_look(rest->serving, LOOK_FIRST);
	}
	differs = probe_compare(rest->pairs, rest->is_sure, rest->looked_ms);
	if (differs && !rest->is_sure) {
		rest->is_sure = true;
		begin_survey(rest);
	} else {
		on_look(-1, 0, rest);
	}
}

static void
begin_look(struct rest *rest)
{
	assert(!rest->is_looking);
	rest->is_looking = true;
	rest->is_sure = false;
	rest->looked_ms = conn_loop_now(rest->loop);
	gate_hold_all(pairs_gate(rest->pairs));
	hurry_all(rest);
	begin_survey(rest);
}

/*
 * Time
 */

static void
on_request_noticed(struct gate_watch *watch)
{
	struct rest *rest = CONTAINER_OF(watch, struct rest, watch);

	rest->is_watching = false;
	if (rest->is_rested && !rest->is_looking)
		begin_look(rest);
	rest->is_rested = false;
}

/* This process was held up.  Returns whether what was under way is
   forgotten. */
static bool
wake_up(struct rest *rest)
{
	bool is_at_work = !rest->is_rested || !pairs_are_idle(rest->pairs);

	rest->is_rested = true;
	if (!is_at_work || rest->is_looking ||
	    !late_is_other_at_work(rest->pairs))
		return false;
	late_forget(rest->pairs);
	serving_begin_anew(rest->serving);
	rest->is_ignorant = true;
	begin_look(rest);
	return true;
}

static void
set_deadline(struct rest *rest, int64_t now)
{
	rest->late_ms = now + HELD_UP_MS;
	conn_loop_set_deadline(rest->loop, rest->late_ms);
}

/* It was stopped inside a turn, which may have read something before that, or
   since.  The next tick has nothing to add. */
static bool
on_late(void *owner)
{
	struct rest *rest = owner;

	set_deadline(rest, conn_loop_now(rest->loop));
	return wake_up(rest);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct rest *rest = arg;
	int64_t now = conn_loop_now(rest->loop);

	(void)fd;
	(void)what;
	if (now >= rest->late_ms)
		wake_up(rest);
	if (rest->is_watching)
		rest->is_rested = true;
	if (rest->is_rested && !rest->is_looking) {
		serving_rest(rest->serving);
		hurry_all(rest);
	}
	set_deadline(rest, now);
	rest->is_watching = true;
	gate_set_watch(pairs_gate(rest->pairs), &rest->watch);
}

/*
 * Others
 */

bool
rest_serves(const struct rest *rest)
{
	return !rest->is_rested;
}

bool
rest_begins_anew(const struct rest *rest)
{
	return rest->is_ignorant;
}

void
rest_say(struct rest *rest)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(rest->pairs); i++) {
		peer = pairs_peer(rest->pairs, i);
		if (rest->is_rested || !peer_is_mirror(peer))
			peer->said_id = 0;
	}
	if (rest->is_rested)
		return;
	say_active(rest);
	serving_say(rest->serving);
}

bool
rest_is_other_serving(const struct rest *rest)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(rest->pairs); i++)
		if (peer_is_shared(pairs_peer(rest->pairs, i)))
			return rest->is_rested;
	return false;
}

bool
rest_leaves(const struct rest *rest, const struct peer *peer)
{
	const struct peer *partner;
	struct bond *bond;
	size_t i;

	if (!rest->is_rested)
		return false;
	for (i = 0; i < pairs_peer_count(rest->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL || !peer_is_mirror(partner))
			continue;
		bond = bond_of(peer, partner);
		if (bond_side(bond, peer)->stamp !=
			bond_side(bond, partner)->stamp &&
		    peer_is_shared(partner))
			return true;
	}
	return false;
}

bool
rest_both_serve(const struct rest *rest, const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	if (rest->is_rested)
		return false;
	for (i = 0; i < pairs_peer_count(rest->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL && peer_is_mirror(partner) &&
		    partner->active_is_new && peer_is_shared(partner))
			return true;
	}
	return false;
}

bool
rest_may_follow(const struct rest *rest, const struct peer *peer)
{
	return rest->is_rested || rest_both_serve(rest, peer);
}

/*
 * Life
 */

void
rest_start(struct rest *rest)
{
	struct timeval every = { .tv_usec = TICK_MS * 1000 };

	rest->is_rested = rest->is_watching = true;
	set_deadline(rest, conn_loop_now(rest->loop));
	conn_loop_set_late(rest->loop, on_late, rest);
	gate_set_watch(pairs_gate(rest->pairs), &rest->watch);
	event_add(rest->tick, &every);
}

struct rest *
rest_new(struct conn_loop *loop, struct pairs *pairs, struct serving *serving)
{
	struct event_base *base = conn_loop_base(loop);
	struct rest *rest = calloc(1, sizeof(*rest));

	if (rest == NULL)
		return NULL;
	rest->loop = loop;
	rest->pairs = pairs;
	rest->serving = serving;
	rest->watch.noticed = on_request_noticed;
	rest->tick = event_new(base, -1, EV_PERSIST, on_tick, rest);
	rest->look = event_new(base, -1, 0, on_look, rest);
	if (rest->tick != NULL && rest->look != NULL) {
		/* Ahead of what has come while this process was held up. */
		event_priority_set(rest->tick, 0);
		return rest;
	}
	rest_free(rest);
	return NULL;
}

void
rest_free(struct rest *rest)
{
	if (rest == NULL)
		return;
	conn_loop_set_late(rest->loop, NULL, NULL);
	if (rest->tick != NULL)
		event_free(rest->tick);
	if (rest->look != NULL)
		event_free(rest->look);
	free(rest);
}
