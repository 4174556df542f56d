/*
 * Bring back a server that was away.  The functions stand in the order in which
 * that happens:
 *
 *   connect -> identify -> drain -> invalidate -> rebuild -> handback -> up
 *
 * Invariant: a server that was away is trusted only when every key whose write
 * it missed has been deleted from it, and it holds what those of its partners
 * hold that could be read; behind.c knows which could not.  The authority of a
 * pair changes when a server goes down, before its unanswered calls are
 * returned, or in a job of the gate.  So the effects of all that the old
 * authority has answered are in the FIFO of the new one before anything else.
 * (A pair without an authority may get one at any moment.)
 */

#include "mirror/recovery.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/event.h>

#include "conn.h"
#include "container_of.h"
#include "log.h"
#include "mirror/arrival.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/dirty.h"
#include "mirror/drain.h"
#include "mirror/failover.h"
#include "mirror/fence.h"
#include "mirror/flush.h"
#include "mirror/gate.h"
#include "mirror/goals.h"
#include "mirror/handback.h"
#include "mirror/invalidate.h"
#include "mirror/judge.h"
#include "mirror/knowledge.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/probe.h"
#include "mirror/rebuild.h"
#include "mirror/rebuilder.h"
#include "mirror/repair.h"
#include "mirror/rest.h"
#include "mirror/scrub.h"
#include "mirror/serving.h"
#include "mirror/state.h"
#include "mirror/survey.h"
#include "mirror/tokens.h"
#include "mirror/undecided.h"
#include "server/server.h"

enum {
	/* A server that was up for this time does not come and go. */
	STEADY_MS = 10000,
	/* A server that cannot be rebuilt is warmed for this time. */
	WARM_SECONDS = 20,
	/* For another magent to see that a server is being filled: see
	   FOLLOW_MS in follow.c. */
	COMPANY_MS = 150,
	/* Another magent that answers from a server which is behind sees that
	   in two looks, of a second each, if it can. */
	IN_USE_MS = 3000,
	/* Between two looks whether it has. */
	IN_USE_LOOK_MS = 100,
	/* So many repairs may be left when the gate is closed for them. */
	REPAIRS_LEFT = 16,
	/* The scrub gets that part of the memory for keys. */
	SCRUB_PART = 4,
};

struct recovery {
	struct peer *peer;      /* borrowed */
	struct recoveries *all; /* borrowed */
	struct arrival arrival;
	struct drain drain;
	struct invalidation *invalidation; /* owned */
	/* From INVALIDATE until the end of REBUILD, unless it is warmed.  Owned
	   until it calls a handler. */
	struct rebuild *rebuild;
	struct event *warm_end; /* owned: ends the warming */
	/* Waits for the first answer on each link; NULL: it does not.  Owned
	   until it has passed. */
	struct fence *links;
	struct handback handback;
	struct repairs *repairs; /* owned */
	struct tokens tokens;
	struct rebuilder rebuilder;
	/* The stamps of its partners are being read; NULL: they are not.  Owned
	   until it has ended. */
	struct survey *survey;
	/* Owned: ends the wait for another magent that is to send its effects
	   to the server, too. */
	struct event *company;
	/* Owned: another look whether another magent answers from the
	   server. */
	struct event *in_use;
	int64_t in_use_ms; /* since when it waits for that; 0: it does not */
};

struct recoveries {
	struct conn_loop *loop;    /* borrowed */
	struct pairs *pairs;       /* owned */
	struct rebuilds *rebuilds; /* owned */
	struct probe *probe;       /* owned */
	struct rest *rest;         /* owned */
	struct serving *serving;   /* owned */
	struct scrub *scrub;       /* owned */
	struct arrival_around around;
	/* Owned: one per peer, in their order. */
	struct recovery *of_peers;
	bool are_stopping;
	/* Pairs without an authority, as it was logged last. */
	size_t uncovered;
	struct event *steady; /* owned: calls on_steady() each second */
};

static void on_tokens_given(void *owner);
static void hand_back(struct recovery *recovery);
static void await_links(struct recovery *recovery);
static bool begin_rebuild(struct recovery *recovery);
static void on_goals_surveyed(void *owner);

static void
set_state(struct recovery *recovery, enum peer_state state)
{
	state_set(recovery->peer, state, conn_loop_now(recovery->all->loop));
}

/* Log it when there are pairs without an authority, and when there are none
   any more. */
static void
log_coverage(struct recoveries *all)
{
	size_t uncovered = pairs_uncovered(all->pairs);

	if (uncovered > 0 && uncovered != all->uncovered)
		log_warning("pairs without a server that is up: %zu",
		    uncovered);
	else if (uncovered == 0 && all->uncovered > 0)
		log_info("each pair has a server that is up again");
	all->uncovered = uncovered;
}

/*
 * IDENTIFY
 */

static void
on_connecting(void *owner)
{
	struct peer *peer = owner;

	assert(peer->recovery->rebuild == NULL);
	arrival_begin(&peer->recovery->arrival);
}

static void
on_server_heard(void *owner)
{
	struct recovery *recovery = owner;

	if (recovery->peer->state == PEER_DOWN)
		set_state(recovery, PEER_IDENTIFY);
}

/* It is known what the server holds. */
static void
on_known(void *owner)
{
	struct recovery *recovery = owner;

	if (recovery->peer->state == PEER_STARTING) {
		server_attach_links(recovery->peer->server);
		await_links(recovery);
		return;
	}
	set_state(recovery, PEER_DRAIN);
	drain_start(&recovery->drain);
}

/*
 * DRAIN
 */

/* Without partners nobody has written what the server should hold. */
static void
come_up_alone(struct recovery *recovery)
{
	assert(recovery->peer->state == PEER_DRAIN);
	assert(recovery->rebuild == NULL);
	dirty_clear(recovery->peer->dirty);
	set_state(recovery, PEER_UP);
	log_coverage(recovery->all);
}

/* It has done what it was sent before, and may be changed from here on. */
static void
begin_return(struct recovery *recovery)
{
	set_state(recovery, PEER_INVALIDATE);
	undecided_settle(recovery->peer);
	if (begin_rebuild(recovery) && !tokens_give_back(&recovery->tokens))
		on_tokens_given(recovery);
}

/* Whether another magent answers from the server what would be deleted on it
   next: its clients would miss that. */
static bool
is_in_use(const struct recovery *recovery)
{
	const struct peer *peer = recovery->peer;

	return serving_is_in_use(recovery->all->serving, peer) &&
	    !peer->is_uncovered &&
	    (peer->has_old_part || dirty_is_all(peer->dirty) ||
		dirty_count(peer->dirty) > 0);
}

/* Returns false if it has waited for long enough. */
static bool
await_other(struct recovery *recovery)
{
	struct timeval wait = { .tv_usec = IN_USE_LOOK_MS * 1000 };
	int64_t now = conn_loop_now(recovery->all->loop);

	if (recovery->in_use_ms == 0) {
		recovery->in_use_ms = now;
		log_info("s %s: another magent answers from it: it waits",
		    peer_name(recovery->peer));
	}
	if (now - recovery->in_use_ms >= IN_USE_MS)
		return false;
	event_add(recovery->in_use, &wait);
	return true;
}

/* To drain it may have taken long. */
static void
on_stood_drained(void *owner)
{
	struct recovery *recovery = owner;

	if (recovery->all->are_stopping ||
	    (is_in_use(recovery) && await_other(recovery)))
		return;
	begin_return(recovery);
}

static void
on_time_to_look_again(evutil_socket_t fd, short what, void *arg)
{
	struct recovery *recovery = arg;

	(void)fd;
	(void)what;
	assert(recovery->peer->state == PEER_DRAIN);
	if (!recovery->all->are_stopping)
		arrival_confirm(&recovery->arrival, on_stood_drained);
}

static void
on_server_drained(struct drain *drain)
{
	struct recovery *recovery = CONTAINER_OF(drain, struct recovery, drain);
	struct pairs *pairs = recovery->all->pairs;
	struct peer *peer = recovery->peer;

	assert(peer->state == PEER_DRAIN);
	pairs_counters(pairs)->zombies += drain->had_to_wait;
	if (recovery->all->are_stopping)
		return;
	server_attach_links(peer->server);
	if (pairs_are_mirrored(pairs)) {
		arrival_confirm(&recovery->arrival, on_stood_drained);
	} else if (dirty_is_all(peer->dirty)) {
		/* It may have been away at a flush_all. */
		begin_return(recovery);
	} else {
		come_up_alone(recovery);
	}
}

/*
 * INVALIDATE
 */

static void
begin_invalidation(void *owner)
{
	struct recovery *recovery = owner;

	if (recovery->all->are_stopping)
		return;
	rebuilder_begin(&recovery->rebuilder);
	invalidation_start(recovery->invalidation);
}

static void
on_tokens_given(void *owner)
{
	struct recovery *recovery = owner;

	if (!recovery->all->are_stopping)
		rebuilder_choose(&recovery->rebuilder);
}

/* Whoever has claimed it until now may have made it whole. */
static void
on_ours(void *owner, bool is_new)
{
	struct recovery *recovery = owner;

	if (is_new)
		arrival_confirm(&recovery->arrival, begin_invalidation);
	else
		begin_invalidation(recovery);
}

static void
on_may_follow(void *owner)
{
	struct recovery *recovery = owner;

	if (recovery->all->are_stopping)
		return;
	goals_follow(recovery->peer);
	invalidation_start(recovery->invalidation);
}

static void
on_whole(void *owner)
{
	struct recovery *recovery = owner;

	set_state(recovery, PEER_HANDBACK);
	handback_begin(&recovery->handback);
}

static uint64_t
count_progress(void *owner)
{
	const struct recovery *recovery = owner;
	struct rebuild_progress progress;

	if (recovery->rebuild == NULL)
		return 0;
	progress = rebuild_progress(recovery->rebuild);
	return progress.copied + progress.overtaken + progress.gone +
	    progress.refused;
}

static const struct rebuilder_handler on_rebuilder = {
	.ours = on_ours,
	.may_follow = on_may_follow,
	.whole = on_whole,
	.progress = count_progress,
};

/* A key that is deleted must be copied back. */
static bool
on_key_deleted(void *owner, const char *key, size_t length, bool base64)
{
	struct recovery *recovery = owner;

	assert(recovery->rebuild != NULL);
	return rebuild_add(recovery->rebuild, key, length, base64);
}

/* Look at the stamps of the partners; done() is called then. */
static void
survey_partners(struct recovery *recovery, void (*done)(void *owner))
{
	struct peer *peer = recovery->peer;

	assert(recovery->survey == NULL);
	recovery->survey = survey_new(recovery->all->pairs, peer, done,
	    recovery);
	if (recovery->survey == NULL)
		server_fail(peer->server, "out of memory");
}

/* From here on the server is a mirror. */
static void
on_invalidated(void *owner, bool is_emptied)
{
	struct timeval wait = { .tv_usec = COMPANY_MS * 1000 };
	struct recovery *recovery = owner;

	assert(recovery->peer->state == PEER_INVALIDATE);
	assert(recovery->rebuild != NULL);
	behind_be_emptied(recovery->peer);
	if (is_emptied)
		behind_lost(recovery->peer);
	set_state(recovery, PEER_REBUILD);
	if (rest_begins_anew(recovery->all->rest))
		behind_missed_nothing(recovery->peer);
	if (recovery->peer->is_left) {
		rebuild_start(recovery->rebuild);
		return;
	}
	goals_mark_filling(recovery->peer);
	goals_raise_alone(recovery->peer);
	if (!peer_is_mirror(recovery->peer))
		return;
	/* Each write of another magent that serves, too, would be past it. */
	if (rest_both_serve(recovery->all->rest, recovery->peer))
		event_add(recovery->company, &wait);
	else
		survey_partners(recovery, on_goals_surveyed);
}

static void
on_company(evutil_socket_t fd, short what, void *arg)
{
	struct recovery *recovery = arg;

	(void)fd;
	(void)what;
	assert(recovery->peer->state == PEER_REBUILD);
	survey_partners(recovery, on_goals_surveyed);
}

static const struct invalidation_handler on_invalidation = {
	.key = on_key_deleted,
	.done = on_invalidated,
};

/*
 * REBUILD
 */

/* A partner that was away has come back, and holds what the server lacks. */
static void
rebuild_again(struct recovery *recovery)
{
	assert(recovery->rebuild == NULL && !recovery->handback.job.waiting);
	if (recovery->all->are_stopping || !begin_rebuild(recovery))
		return;
	set_state(recovery, PEER_REBUILD);
	survey_partners(recovery, on_goals_surveyed);
}

/* Somebody has written past it meanwhile. */
static void
begin_anew(struct recovery *recovery, const struct peer *ahead)
{
	rebuilder_keep(&recovery->rebuilder);
	server_steady(recovery->peer->server);
	judge_fail(recovery->peer, ahead);
}

/* The stamps of its partners are those that it is to have at the end. */
static void
on_goals_surveyed(void *owner)
{
	struct recovery *recovery = owner;
	const struct peer *ahead;

	recovery->survey = NULL;
	if (recovery->rebuild == NULL)
		return; /* magent stops */
	ahead = goals_set(recovery->peer);
	if (ahead != NULL)
		begin_anew(recovery, ahead);
	else
		rebuild_start(recovery->rebuild);
}

/* Log and count what the rebuild has done.  It ends when the caller has
   returned. */
static void
take_stock(struct recovery *recovery)
{
	struct pairs_counters *counters = pairs_counters(recovery->all->pairs);
	struct rebuild_progress progress = rebuild_progress(recovery->rebuild);

	assert(recovery->peer->state == PEER_REBUILD);
	log_info(
	    "s %s: %llu keys copied, %llu overtaken by clients, "
	    "%llu gone meanwhile",
	    peer_name(recovery->peer), (unsigned long long)progress.copied,
	    (unsigned long long)progress.overtaken,
	    (unsigned long long)progress.gone);
	if (progress.refused > 0)
		log_warning(
		    "s %s: %llu keys were not copied: they cannot be read, "
		    "are larger than -I, or servers fail at them",
		    peer_name(recovery->peer),
		    (unsigned long long)progress.refused);
	counters->copied += progress.copied;
	counters->overtaken += progress.overtaken;
	recovery->rebuild = NULL;
}

static void
on_rebuilt(void *owner)
{
	struct recovery *recovery = owner;

	take_stock(recovery);
	await_links(recovery);
}

/* What the server lacks cannot be listed: warm it with what clients read. */
static void
on_rebuild_impossible(void *owner)
{
	struct recovery *recovery = owner;
	struct timeval wait = { .tv_sec = WARM_SECONDS };

	take_stock(recovery);
	log_warning(
	    "s %s: its partners do not list their keys: it learns from "
	    "what clients read, for %d s",
	    peer_name(recovery->peer), WARM_SECONDS);
	peer_set_warming(recovery->peer, true);
	event_add(recovery->warm_end, &wait);
}

static void
on_warm_end(evutil_socket_t fd, short what, void *arg)
{
	struct recovery *recovery = arg;

	(void)fd;
	(void)what;
	assert(recovery->peer->warming);
	peer_set_warming(recovery->peer, false);
	await_links(recovery);
}

static const struct rebuild_handler on_rebuild = {
	.done = on_rebuilt,
	.impossible = on_rebuild_impossible,
};

/* Make a rebuild, which collects keys until it is started.  Returns false when
   out of memory; then the server has failed. */
static bool
begin_rebuild(struct recovery *recovery)
{
	struct recoveries *all = recovery->all;

	assert(recovery->rebuild == NULL);
	recovery->rebuild = rebuild_new(all->rebuilds, recovery->peer,
	    &on_rebuild, recovery);
	if (recovery->rebuild == NULL)
		server_fail(recovery->peer->server, "out of memory");
	return recovery->rebuild != NULL;
}

/*
 * HANDBACK
 */

static void
on_links_answered(void *owner, bool was_reached)
{
	struct recovery *recovery = owner;

	recovery->links = NULL;
	assert(was_reached);
	(void)was_reached;
	if (recovery->peer->state == PEER_STARTING)
		set_state(recovery, PEER_UP);
	else
		hand_back(recovery);
}

/* A server that only some links could reach would make clients wait: trust it
   when all have been answered. */
static void
await_links(struct recovery *recovery)
{
	struct peer *peer = recovery->peer;

	assert(recovery->links == NULL && peer_is_mirror(peer));
	recovery->links = fence_new(peer, on_links_answered, recovery);
	if (recovery->links == NULL)
		server_fail(peer->server, "out of memory");
}

/* It may have the stamps that it was to get, unless they have moved: then
   somebody has written past it meanwhile. */
static void
on_goals_checked(void *owner)
{
	struct recovery *recovery = owner;
	const struct peer *ahead = goals_moved(recovery->peer);
	struct peer *lost;
	bool is_lost = false;

	recovery->survey = NULL;
	if (ahead != NULL) {
		begin_anew(recovery, ahead);
		return;
	}
	for (; (lost = goals_lost(recovery->peer)) != NULL; is_lost = true)
		behind_unread(recovery->peer, lost);
	if (is_lost)
		rebuild_again(recovery);
	else
		handback_begin(&recovery->handback);
}

/* Copy once more, if a partner that could not be read is back.  Otherwise the
   server holds what its partners hold: trust it as soon as they have answered
   what they were asked in its place. */
static void
on_few_repairs(void *owner)
{
	struct recovery *recovery = owner;

	assert(recovery->rebuild == NULL && !recovery->peer->warming);
	if (rebuilder_await(&recovery->rebuilder))
		return;
	if (behind_may_read_more(recovery->peer)) {
		rebuild_again(recovery);
		return;
	}
	set_state(recovery, PEER_HANDBACK);
	survey_partners(recovery, on_goals_checked);
}

/* All keys were copied.  Clients wait for the repairs that are left when the
   gate is closed, so let there be few. */
static void
hand_back(struct recovery *recovery)
{
	if (!repairs_await(recovery->repairs, REPAIRS_LEFT, on_few_repairs,
		recovery))
		on_few_repairs(recovery);
}

/*
 * A server holds what is to be had.  A partner that was rebuilt while it was
 * away may lack some of that: one that is up gives back the authority of the
 * pairs that they share, until it has read that.
 */
static void
make_up_for_absence(struct recovery *recovery)
{
	struct recoveries *all = recovery->all;
	struct recovery *other;
	size_t i;

	for (i = 0; i < pairs_peer_count(all->pairs); i++) {
		other = &all->of_peers[i];
		if (peers_are_partners(recovery->peer, other->peer) &&
		    other->peer->state == PEER_UP &&
		    behind_yields(other->peer, recovery->peer))
			rebuild_again(other);
	}
}

/* From here on the server is trusted. */
static void
on_handed_back(void *owner)
{
	struct recovery *recovery = owner;

	assert(recovery->peer->state == PEER_HANDBACK);
	goals_give(recovery->peer);
	rebuilder_finish(&recovery->rebuilder);
	behind_become_whole(recovery->peer);
	if (behind_may_read_more(recovery->peer))
		rebuild_again(recovery);
	else
		set_state(recovery, PEER_UP);
	make_up_for_absence(recovery);
	log_coverage(recovery->all);
}

/*
 * UP
 */

/* A rebuild of a magent that rests is in the way of one that serves, and that
   has written past it.  What was copied so far is of no use then. */
static void
give_up_for_other(struct recovery *recovery)
{
	struct peer *peer = recovery->peer;

	if (peer->state == PEER_REBUILD && !peer->is_left &&
	    goals_moved(peer) != NULL && rest_leaves(recovery->all->rest, peer))
		server_fail(peer->server,
		    "is left to another magent, which serves clients");
}

static void
on_all_looked_at(void *owner, bool differs)
{
	struct recoveries *all = owner;

	if (!all->are_stopping)
		serving_look(all->serving,
		    differs ? LOOK_DIFFERENT : LOOK_EQUAL);
}

/* Servers that have been up for a while are steady. */
static void
on_steady(evutil_socket_t fd, short what, void *arg)
{
	struct recoveries *all = arg;
	int64_t now = conn_loop_now(all->loop);
	struct peer *peer;
	size_t i;

	(void)fd;
	(void)what;
	if (pairs_are_mirrored(all->pairs) && !all->are_stopping) {
		probe_look(all->probe, now);
		rest_say(all->rest);
	}
	for (i = 0; i < pairs_peer_count(all->pairs); i++) {
		peer = pairs_peer(all->pairs, i);
		give_up_for_other(&all->of_peers[i]);
		if (peer->state == PEER_UP &&
		    now - peer->changed_ms >= STEADY_MS)
			server_steady(peer->server);
	}
}

/*
 * DOWN
 */

static void
stop_waiting(struct recovery *recovery)
{
	if (recovery->survey != NULL)
		survey_cancel(recovery->survey);
	recovery->survey = NULL;
	event_del(recovery->company);
	event_del(recovery->in_use);
	recovery->in_use_ms = 0;
}

static void
on_server_failed(void *owner)
{
	struct peer *peer = owner;
	struct recovery *recovery = peer->recovery;
	struct pairs *pairs = recovery->all->pairs;

	bool was_trusted = peer_is_trusted(peer);
	bool was_starting = peer->state == PEER_STARTING;
	bool has_answered = peer_is_there(peer);

	if (was_trusted)
		pairs_counters(pairs)->failovers++;
	/* The state comes first: callbacks below choose an authority. */
	set_state(recovery, PEER_DOWN);
	if (has_answered)
		failover_begin(peer, was_trusted);
	event_del(recovery->warm_end);
	drain_stop(&recovery->drain);
	arrival_stop(&recovery->arrival);
	stop_waiting(recovery);
	rebuilder_stop(&recovery->rebuilder);
	invalidation_stop(recovery->invalidation);
	if (recovery->links != NULL)
		fence_cancel(recovery->links);
	recovery->links = NULL;
	repairs_stop(recovery->repairs);
	handback_stop(&recovery->handback);
	peer_set_warming(peer, false);
	if (recovery->rebuild != NULL)
		rebuild_stop(recovery->rebuild);
	recovery->rebuild = NULL;
	behind_stop_reading(peer);
	if (pairs_are_mirrored(pairs)) {
		bonds_peer_failed(peer);
		goals_forget(peer);
		if (was_starting)
			serving_never_there(recovery->all->serving, peer);
	}
	log_coverage(recovery->all);
}

/*
 * Magents that have not ended well
 */

static void
on_proved(void *owner)
{
	struct recoveries *all = owner;

	serving_proved(all->serving);
}

static void
on_unclean(void *owner)
{
	struct recoveries *all = owner;

	scrub_prove(all->scrub, "another magent has not ended well", on_proved,
	    all);
}

static const struct server_handler on_server = {
	.connecting = on_connecting,
	.failed = on_server_failed,
};

/*
 * Life
 */

static bool
recovery_init(struct recovery *recovery, struct recoveries *all,
    struct peer *peer)
{
	assert(peer->recovery == NULL && peer->state == PEER_STARTING);
	peer->recovery = recovery;
	recovery->peer = peer;
	recovery->all = all;
	recovery->repairs = repairs_new(all->pairs, peer);
	peer->repairs = recovery->repairs;
	tokens_init(&recovery->tokens, peer, on_tokens_given, recovery);
	handback_init(&recovery->handback, peer, on_handed_back, recovery);
	arrival_init(&recovery->arrival, peer, &all->around, on_server_heard,
	    on_known, recovery);
	recovery->warm_end = event_new(conn_loop_base(all->loop), -1, 0,
	    on_warm_end, recovery);
	recovery->company = event_new(conn_loop_base(all->loop), -1, 0,
	    on_company, recovery);
	recovery->in_use = event_new(conn_loop_base(all->loop), -1, 0,
	    on_time_to_look_again, recovery);
	recovery->invalidation = invalidation_new(all->loop, peer,
	    &on_invalidation, recovery);
	return drain_init(&recovery->drain, all->loop, peer,
		   on_server_drained) &&
	    rebuilder_init(&recovery->rebuilder, all->loop, peer, all->rest,
		&on_rebuilder, recovery) &&
	    recovery->warm_end != NULL && recovery->company != NULL &&
	    recovery->in_use != NULL && recovery->invalidation != NULL &&
	    recovery->repairs != NULL;
}

static void
recovery_destroy(struct recovery *recovery)
{
	drain_destroy(&recovery->drain);
	invalidation_free(recovery->invalidation);
	repairs_free(recovery->repairs);
	if (recovery->warm_end != NULL)
		event_free(recovery->warm_end);
	if (recovery->company != NULL)
		event_free(recovery->company);
	if (recovery->in_use != NULL)
		event_free(recovery->in_use);
	rebuilder_destroy(&recovery->rebuilder);
	arrival_destroy(&recovery->arrival);
}

/* Returns false when out of memory. */
static bool
build_recoveries(struct recoveries *all)
{
	size_t n = pairs_peer_count(all->pairs);
	bool is_complete = true;
	size_t i;

	all->of_peers = calloc(n, sizeof(*all->of_peers));
	if (all->of_peers == NULL)
		return false;
	/* Each one is initialised, so that each one can be destroyed. */
	for (i = 0; i < n; i++)
		is_complete &= recovery_init(&all->of_peers[i], all,
		    pairs_peer(all->pairs, i));
	return is_complete;
}

struct recoveries *
recoveries_new(struct conn_loop *loop, struct resolver *resolver,
    const struct pairs_servers *servers,
    const struct server_settings *server_settings,
    const struct recoveries_settings *settings)
{
	struct recoveries *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return NULL;
	all->loop = loop;
	all->steady = event_new(conn_loop_base(loop), -1, EV_PERSIST, on_steady,
	    all);
	all->pairs = pairs_new(loop, resolver, servers, server_settings,
	    &on_server);
	if (all->pairs != NULL)
		all->probe = probe_new(all->pairs, on_all_looked_at, all);
	if (all->pairs != NULL)
		all->serving = serving_new(loop, all->pairs, on_unclean, all);
	if (all->serving != NULL)
		all->rest = rest_new(loop, all->pairs, all->serving);
	if (all->pairs != NULL)
		all->rebuilds = rebuilds_new(loop, all->pairs,
		    settings->memory);
	if (all->rebuilds != NULL && all->rest != NULL)
		all->scrub = scrub_new(loop, all->pairs, all->rest,
		    settings->memory / SCRUB_PART, settings->scrub_pace);
	all->around = (struct arrival_around){
		.loop = loop,
		.serving = all->serving,
		.item_size = settings->item_size,
	};
	if (all->steady == NULL || all->probe == NULL || all->scrub == NULL ||
	    !build_recoveries(all)) {
		recoveries_free(all);
		return NULL;
	}
	return all;
}

void
recoveries_start(struct recoveries *all)
{
	struct timeval second = { .tv_sec = 1 };
	struct peer *peer;
	size_t i;

	event_add(all->steady, &second);
	for (i = 0; i < pairs_peer_count(all->pairs); i++) {
		peer = pairs_peer(all->pairs, i);
		if (peer->state == PEER_STARTING)
			gate_hold(peer->gate, peer);
		/* See probe.h. */
		if (pairs_are_mirrored(all->pairs))
			server_set_asked(peer->server);
		if (!server_is_held(peer->server))
			server_start(peer->server);
	}
	if (pairs_are_mirrored(all->pairs))
		rest_start(all->rest);
	scrub_start(all->scrub);
}

void
recoveries_stop(struct recoveries *all)
{
	struct recovery *recovery;
	size_t i;

	assert(!all->are_stopping);
	all->are_stopping = true;
	flushes_stop(pairs_flushes(all->pairs));
	scrub_stop(all->scrub);
	for (i = 0; i < pairs_peer_count(all->pairs); i++) {
		recovery = &all->of_peers[i];
		invalidation_stop(recovery->invalidation);
		if (recovery->rebuild != NULL)
			rebuild_stop(recovery->rebuild);
		recovery->rebuild = NULL;
	}
}

bool
recoveries_leave(struct recoveries *all)
{
	assert(all->are_stopping);
	return serving_rest(all->serving);
}

void
recoveries_carry(struct recoveries *all, struct carry *carry)
{
	knowledge_carry(all->pairs, all->serving, carry);
}

bool
recoveries_take(struct recoveries *all, struct carry *carry)
{
	return knowledge_take(all->pairs, all->serving, carry);
}

void
recoveries_free(struct recoveries *all)
{
	size_t n = all->of_peers == NULL ? 0 : pairs_peer_count(all->pairs);
	size_t i;

	/* The servers go first: they hold calls that recoveries are made of.
	   Ahead of them goes what uses the servers by itself. */
	for (i = 0; i < n; i++)
		invalidation_drop_list(all->of_peers[i].invalidation);
	rebuilds_free(all->rebuilds);
	probe_free(all->probe);
	rest_free(all->rest);
	serving_free(all->serving);
	pairs_free(all->pairs);
	scrub_free(all->scrub);
	for (i = 0; i < n; i++)
		recovery_destroy(&all->of_peers[i]);
	if (all->steady != NULL)
		event_free(all->steady);
	free(all->of_peers);
	free(all);
}

void
recovery_refill(struct peer *peer)
{
	struct recovery *recovery = peer->recovery;

	assert(peer->state == PEER_UP && gate_is_closed(peer->gate));
	behind_lost(peer);
	goals_mark_filling(peer);
	rebuild_again(recovery);
}

struct pairs *
recoveries_pairs(struct recoveries *all)
{
	return all->pairs;
}

struct scrub *
recoveries_scrub(struct recoveries *all)
{
	return all->scrub;
}

struct scrub *
recovery_scrub(const struct peer *peer)
{
	return peer->recovery->all->scrub;
}

bool
recoveries_are_starting(const struct recoveries *all)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(all->pairs); i++)
		if (pairs_peer(all->pairs, i)->state == PEER_STARTING)
			return true;
	return false;
}

bool
recovery_progress(const struct peer *peer, struct rebuild_progress *progress)
{
	const struct recovery *recovery = peer->recovery;

	if (recovery->peer->is_left) {
		*progress = (struct rebuild_progress){
			.copied = recovery->rebuilder.follow.keys_done,
			.searching = true,
		};
		return true;
	}
	if (recovery->rebuild == NULL)
		return false;
	*progress = rebuild_progress(recovery->rebuild);
	return true;
}
