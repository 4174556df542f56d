/*
 * Bring a server that was away back.
 *
 * Invariant: a server is believed only if all that it was not told is gone from
 * it, and it has all that its partners have.  The authority of a pair changes
 * when a server goes down, before its unanswered calls are returned, or at a
 * moment at rest; so what the old authority has answered is in the FIFO of the
 * new one before anything else.
 *
 *   STARTING --------------------------------------------------------> UP
 *   DOWN -> IDENTIFY -> DRAIN -> INVALIDATE -> REBUILD -> HANDBACK --> UP
 *    ^         |          |          |            |          |         |
 *    +---------+----------+----------+------------+----------+---------+
 *                           any failure
 */

#include "mirror/mirror.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "conn.h"
#include "log.h"
#include "mirror/dirty.h"
#include "mirror/drain.h"
#include "mirror/gate.h"
#include "mirror/invalidate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rebuild.h"
#include "proto.h"
#include "server/server.h"

enum {
	STEADY_MS = 10000, /* up this long: the server does not flap */
	LAZY_SECONDS = 20, /* how long clients' reads rebuild */
};

/* What brings one peer back. */
struct recovery {
	struct peer *peer;
	struct mirror *mirror;
	struct identity found; /* who answers now */
	struct call ask_version, ask_stats, ask_settings;
	struct call flush; /* a delayed one, told again */
	struct drain drain;
	struct invalidation *invalidation;
	struct rebuild *rebuild; /* INVALIDATE, REBUILD */
	struct gate_job handback;
	struct event *lazy; /* the end of lazy learning */
	bool all;           /* it may lack anything, not only what
					   was dirty, until it is handed back */
	bool kept;          /* it has what it had when it went */
	bool lacking;       /* it is up, but a partner was away
					   when it was rebuilt ... */
	bool again;         /* ... which has come back meanwhile */
};

struct mirror {
	struct conn_loop *loop;
	struct pairs *pairs;
	size_t memory;
	struct recovery *keepers; /* one per peer */
	bool stopping;
	size_t uncovered;  /* pairs, as last told */
	uint64_t rebuilds; /* begun, of all servers */
	struct event *steady;
};

#define KEEPER_OF(member, field) \
	((struct recovery *)((char *)(member)-offsetof(struct recovery, field)))

/* The arrows above, and two more: a server without a partner has nothing to
   get back, and one that is up may be rebuilt once more. */
static bool
may_become(enum peer_state from, enum peer_state to)
{
	switch (to) {
	case PEER_DOWN:
		return true;
	case PEER_STARTING:
		return false;
	case PEER_IDENTIFY:
		return from == PEER_DOWN;
	case PEER_DRAIN:
		return from == PEER_IDENTIFY;
	case PEER_INVALIDATE:
		return from == PEER_DRAIN;
	case PEER_REBUILD:
		return from == PEER_INVALIDATE || from == PEER_UP;
	case PEER_HANDBACK:
		return from == PEER_REBUILD;
	case PEER_UP:
		return from == PEER_HANDBACK || from == PEER_STARTING ||
		    from == PEER_DRAIN;
	}
	return false;
}

static void
set_state(struct recovery *keeper, enum peer_state state)
{
	struct peer *peer = keeper->peer;

	if (peer->state == state)
		return;
	assert(may_become(peer->state, state));
	log_info("s %s: %s, was %s", peer_name(peer), peer_state_name(state),
	    peer_state_name(peer->state));
	if (state == PEER_REBUILD)
		peer->mirror_since = ++keeper->mirror->rebuilds;
	peer->state = state;
	peer->changed_ms = conn_loop_now(keeper->mirror->loop);
}

static void
ask(struct peer *peer, struct call *call, const char *line)
{
	server_submit(peer->server, 0, call, line, strlen(line), NULL, 0, NULL);
}

static void
on_flush_told(struct call *call, const struct answer *answer)
{
	if (answer != NULL && answer->last.result != PROTO_OKAY)
		log_warning("s %s: refuses a flush_all that is not due yet",
		    peer_name(KEEPER_OF(call, flush)->peer));
}

/* A flush_all that is not due yet is for what it gets from now on, too; it
   takes effect a second before the time that is told. */
static void
tell_flush(struct recovery *keeper)
{
	struct mirror *mirror = keeper->mirror;
	struct peer *peer = keeper->peer;
	int64_t seconds = pairs_flush_in(mirror->pairs,
	    conn_loop_now(mirror->loop));
	char line[40];

	if (seconds == 0)
		return;
	snprintf(line, sizeof(line), "flush_all %lld\r\n",
	    (long long)peer_exptime(peer, seconds + 1));
	keeper->flush = (struct call){
		.expect = PROTO_EXPECT_OK,
		.done = on_flush_told,
	};
	ask(peer, &keeper->flush, line);
}

/* Say so when keys have nobody left who answers for them, and when they have
   one again. */
static void
tell_coverage(struct mirror *mirror)
{
	size_t uncovered = pairs_uncovered(mirror->pairs);

	if (uncovered > 0 && uncovered != mirror->uncovered)
		log_warning("pairs without a server that is up: %zu",
		    uncovered);
	else if (uncovered == 0 && mirror->uncovered > 0)
		log_info("each pair has a server that is up again");
	mirror->uncovered = uncovered;
}

/*
 * HANDBACK
 */

static bool begin_rebuild(struct recovery *keeper);

/* Copy everything once more, from a partner who was away. */
static void
rebuild_again(struct recovery *keeper)
{
	assert(keeper->rebuild == NULL && !keeper->handback.waiting);
	if (keeper->mirror->stopping)
		return;
	keeper->lacking = keeper->again = false;
	keeper->all = true;
	if (!begin_rebuild(keeper))
		return;
	set_state(keeper, PEER_REBUILD);
	rebuild_start(keeper->rebuild, true);
}

/*
 * A server is back with all that it had, and a partner may lack some of it: it
 * came up, or is being rebuilt, while this one was away.  If it is up, it gives
 * the authority back until it has been rebuilt once more.
 */
static void
make_up_for(struct recovery *keeper)
{
	struct mirror *mirror = keeper->mirror;
	struct recovery *other;
	size_t i;

	for (i = 0; i < pairs_peer_count(mirror->pairs); i++) {
		other = &mirror->keepers[i];
		if (!peers_are_partners(keeper->peer, other->peer))
			continue;
		if (other->rebuild != NULL ||
		    other->peer->state == PEER_HANDBACK)
			other->again = true;
		else if (other->lacking && other->peer->state == PEER_UP)
			rebuild_again(other);
	}
}

/* Nothing is in flight: from here on the server is believed. */
static void
run_handback(struct gate_job *job)
{
	struct recovery *keeper = KEEPER_OF(job, handback);

	assert(keeper->peer->state == PEER_HANDBACK);
	set_state(keeper, PEER_UP);
	if (keeper->lacking && keeper->again)
		rebuild_again(keeper);
	else if (keeper->kept && !keeper->lacking)
		make_up_for(keeper);
	tell_coverage(keeper->mirror);
	gate_open(pairs_gate(keeper->mirror->pairs));
}

static void
hand_back(struct recovery *keeper)
{
	keeper->all = false;
	set_state(keeper, PEER_HANDBACK);
	gate_quiesce(pairs_gate(keeper->mirror->pairs), &keeper->handback);
}

/*
 * REBUILD
 */

static void
on_rebuilt(void *owner)
{
	struct recovery *keeper = owner;
	struct rebuild_progress progress = rebuild_progress(keeper->rebuild);

	log_info(
	    "s %s: %llu keys copied, %llu overtaken by clients, "
	    "%llu gone meanwhile",
	    peer_name(keeper->peer), (unsigned long long)progress.copied,
	    (unsigned long long)progress.overtaken,
	    (unsigned long long)progress.gone);
	keeper->lacking = progress.partial;
	pairs_counters(keeper->mirror->pairs)->copied += progress.copied;
	pairs_counters(keeper->mirror->pairs)->overtaken += progress.overtaken;
	keeper->rebuild = NULL;
	if (keeper->lacking && keeper->again)
		rebuild_again(keeper);
	else
		hand_back(keeper);
}

/* What it lacks cannot be listed: let it learn from what clients read. */
static void
on_impossible(void *owner)
{
	struct recovery *keeper = owner;
	struct timeval wait = { .tv_sec = LAZY_SECONDS };

	log_warning(
	    "s %s: its partners do not list their keys: it learns from "
	    "what clients read, for %d s",
	    peer_name(keeper->peer), LAZY_SECONDS);
	keeper->rebuild = NULL;
	peer_set_warming(keeper->peer, true);
	event_add(keeper->lazy, &wait);
}

static void
on_lazy_over(evutil_socket_t fd, short what, void *arg)
{
	struct recovery *keeper = arg;

	(void)fd;
	(void)what;
	peer_set_warming(keeper->peer, false);
	hand_back(keeper);
}

static const struct rebuild_handler on_rebuild = {
	.done = on_rebuilt,
	.impossible = on_impossible,
};

static bool
begin_rebuild(struct recovery *keeper)
{
	struct mirror *mirror = keeper->mirror;

	assert(keeper->rebuild == NULL);
	keeper->again = false;
	keeper->rebuild = rebuild_new(mirror->loop, mirror->pairs, keeper->peer,
	    mirror->memory, &on_rebuild, keeper);
	if (keeper->rebuild == NULL)
		server_fail(keeper->peer->server, "out of memory");
	return keeper->rebuild != NULL;
}

/*
 * INVALIDATE
 */

/* What is deleted has to come back. */
static bool
on_key_deleted(void *owner, const char *key, size_t length, bool base64)
{
	struct recovery *keeper = owner;

	return rebuild_add(keeper->rebuild, key, length, base64);
}

/* From here on it is a mirror. */
static void
on_invalidated(void *owner, bool everything)
{
	struct recovery *keeper = owner;

	keeper->all |= everything;
	keeper->kept &= !everything;
	tell_flush(keeper);
	set_state(keeper, PEER_REBUILD);
	rebuild_start(keeper->rebuild, keeper->all);
}

static const struct invalidation_handler on_invalidation = {
	.key = on_key_deleted,
	.done = on_invalidated,
};

/*
 * DRAIN
 */

static void
on_drained(struct drain *drain)
{
	struct recovery *keeper = KEEPER_OF(drain, drain);
	struct mirror *mirror = keeper->mirror;
	struct peer *peer = keeper->peer;

	pairs_counters(mirror->pairs)->zombies += drain->had_to_wait;
	if (mirror->stopping)
		return;
	server_attach_links(peer->server);
	if (!pairs_are_mirrored(mirror->pairs)) {
		dirty_clear(peer->dirty);
		keeper->all = false;
		tell_flush(keeper);
		set_state(keeper, PEER_UP);
		tell_coverage(mirror);
		return;
	}
	set_state(keeper, PEER_INVALIDATE);
	if (begin_rebuild(keeper))
		invalidation_start(keeper->invalidation);
}

/*
 * IDENTIFY
 */

/* All that it has may be old; but an empty one need not be flushed. */
static void
forget_all(struct recovery *keeper)
{
	dirty_clear(keeper->peer->dirty);
	if (keeper->found.stored > 0)
		peer_add_all_dirty(keeper->peer);
}

/* Values that fit in a primary may be too large for its backup. */
static void
compare_sizes(const struct recovery *keeper)
{
	const struct pairs *pairs = keeper->mirror->pairs;
	const struct peer *peer = keeper->peer;
	const struct peer *other;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		other = pairs_peer(keeper->mirror->pairs, i);
		if (peer->backup && other->primary &&
		    peer->identity.item_size_max > 0 &&
		    other->identity.item_size_max >
			peer->identity.item_size_max)
			log_warning(
			    "s %s: takes values up to %llu bytes, its "
			    "primary %s up to %llu",
			    peer_name(peer),
			    (unsigned long long)peer->identity.item_size_max,
			    peer_name(other),
			    (unsigned long long)other->identity.item_size_max);
	}
}

/* What does a server have that is another one than before, or may be? */
static void
judge(struct recovery *keeper)
{
	struct peer *peer = keeper->peer;

	assert(peer->state == PEER_IDENTIFY && keeper->found.known);
	keeper->kept = false;
	switch (identity_compare(&peer->identity, &keeper->found)) {
	case IDENTITY_SAME:
		keeper->kept = !keeper->all;
		break;
	case IDENTITY_NEW:
		/* Empty, but for what other proxies have put there since: that
		   may be old, too, so what is dirty stays dirty.  Unless it
		   keeps its items over a restart. */
		keeper->all = true;
		server_forget_ports(peer->server);
		if (keeper->found.restartable || dirty_is_all(peer->dirty))
			forget_all(keeper);
		break;
	case IDENTITY_UNSURE:
		keeper->all = true;
		forget_all(keeper);
		break;
	}
}

static void
on_identified(struct recovery *keeper)
{
	struct peer *peer = keeper->peer;
	struct identity *found = &keeper->found;

	found->known = true;
	log_info("s %s: version %u.%u.%u, pid %llu, up for %llu s",
	    peer_name(peer), found->version[0], found->version[1],
	    found->version[2], (unsigned long long)found->pid,
	    (unsigned long long)found->uptime);
	if (peer->state != PEER_STARTING)
		judge(keeper);
	peer->identity = *found;
	peer->clock_ahead = (int64_t)found->time - (int64_t)time(NULL);
	compare_sizes(keeper);
	if (peer->state != PEER_STARTING) {
		set_state(keeper, PEER_DRAIN);
		drain_start(&keeper->drain);
		return;
	}
	server_attach_links(peer->server);
	set_state(keeper, PEER_UP);
}

static bool
take_stat(struct identity *found, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	identity_stat(found, bytes + at + stat->key.at, stat->key.length,
	    bytes + at + stat->data.at, stat->data.length);
	return true;
}

static bool
on_stat(struct call *call, const struct proto_reply *stat, const char *bytes,
    size_t at)
{
	return take_stat(&KEEPER_OF(call, ask_stats)->found, stat, bytes, at);
}

static bool
on_setting(struct call *call, const struct proto_reply *stat, const char *bytes,
    size_t at)
{
	return take_stat(&KEEPER_OF(call, ask_settings)->found, stat, bytes,
	    at);
}

static void
on_version(struct call *call, const struct answer *answer)
{
	struct recovery *keeper = KEEPER_OF(call, ask_version);

	if (answer == NULL)
		return;
	if (answer->last.result != PROTO_VERSION_LINE) {
		server_fail(keeper->peer->server, "is no memcached");
		return;
	}
	if (keeper->peer->state == PEER_DOWN)
		set_state(keeper, PEER_IDENTIFY);
	identity_version(&keeper->found, answer->bytes + answer->last.data.at,
	    answer->last.data.length);
}

static void
on_stats(struct call *call, const struct answer *answer)
{
	(void)call;
	(void)answer;
}

/* The last of the calls that ask who it is. */
static void
on_settings(struct call *call, const struct answer *answer)
{
	if (answer != NULL)
		on_identified(KEEPER_OF(call, ask_settings));
}

static void
on_connecting(void *owner)
{
	struct peer *peer = owner;
	struct recovery *keeper = peer->recovery;

	memset(&keeper->found, 0, sizeof(keeper->found));
	keeper->ask_version = (struct call){
		.expect = PROTO_EXPECT_VERSION,
		.done = on_version,
	};
	keeper->ask_stats = (struct call){
		.expect = PROTO_EXPECT_STATS,
		.done = on_stats,
		.element = on_stat,
	};
	keeper->ask_settings = (struct call){
		.expect = PROTO_EXPECT_STATS,
		.done = on_settings,
		.element = on_setting,
	};
	ask(peer, &keeper->ask_version, "version\r\n");
	ask(peer, &keeper->ask_stats, "stats\r\n");
	ask(peer, &keeper->ask_settings, "stats settings\r\n");
}

/*
 * DOWN
 */

static void
on_failed(void *owner)
{
	struct peer *peer = owner;
	struct recovery *keeper = peer->recovery;
	struct pairs *pairs = keeper->mirror->pairs;

	if (peer_is_trusted(peer))
		pairs_counters(pairs)->failovers++;
	/* First: whoever is woken below must not turn to it. */
	set_state(keeper, PEER_DOWN);
	event_del(keeper->lazy);
	drain_stop(&keeper->drain);
	gate_job_cancel(pairs_gate(pairs), &keeper->handback);
	peer_set_warming(peer, false);
	if (keeper->rebuild != NULL)
		rebuild_stop(keeper->rebuild);
	keeper->rebuild = NULL;
	tell_coverage(keeper->mirror);
}

static const struct server_handler on_server = {
	.connecting = on_connecting,
	.failed = on_failed,
};

/*
 * Time
 */

/* Servers that stay up for a while do not flap. */
static void
on_steady(evutil_socket_t fd, short what, void *arg)
{
	struct mirror *mirror = arg;
	int64_t now = conn_loop_now(mirror->loop);
	struct peer *peer;
	size_t i;

	(void)fd;
	(void)what;
	for (i = 0; i < pairs_peer_count(mirror->pairs); i++) {
		peer = pairs_peer(mirror->pairs, i);
		if (peer->state == PEER_UP &&
		    now - peer->changed_ms >= STEADY_MS)
			server_steady(peer->server);
	}
}

/*
 * Life
 */

static bool
keeper_init(struct recovery *keeper, struct mirror *mirror, struct peer *peer)
{
	peer->recovery = keeper;
	keeper->peer = peer;
	keeper->mirror = mirror;
	keeper->handback.run = run_handback;
	keeper->lazy = event_new(conn_loop_base(mirror->loop), -1, 0,
	    on_lazy_over, keeper);
	keeper->invalidation = invalidation_new(peer, &on_invalidation, keeper);
	return drain_init(&keeper->drain, mirror->loop, peer, on_drained) &&
	    keeper->lazy != NULL && keeper->invalidation != NULL;
}

static void
keeper_destroy(struct recovery *keeper)
{
	drain_destroy(&keeper->drain);
	invalidation_free(keeper->invalidation);
	if (keeper->lazy != NULL)
		event_free(keeper->lazy);
}

struct mirror *
mirror_new(struct conn_loop *loop, struct evdns_base *dns,
    const struct pairs_servers *servers, const struct server_settings *settings,
    size_t memory)
{
	struct mirror *mirror = calloc(1, sizeof(*mirror));
	bool complete = true;
	size_t n, i;

	if (mirror == NULL)
		return NULL;
	mirror->loop = loop;
	mirror->memory = memory;
	mirror->steady = event_new(conn_loop_base(loop), -1, EV_PERSIST,
	    on_steady, mirror);
	mirror->pairs = pairs_new(loop, dns, servers, settings, &on_server);
	if (mirror->steady == NULL || mirror->pairs == NULL) {
		mirror_free(mirror);
		return NULL;
	}
	n = pairs_peer_count(mirror->pairs);
	mirror->keepers = calloc(n, sizeof(*mirror->keepers));
	for (i = 0; i < n && mirror->keepers != NULL; i++)
		complete = keeper_init(&mirror->keepers[i], mirror,
			       pairs_peer(mirror->pairs, i)) &&
		    complete;
	if (mirror->keepers == NULL || !complete) {
		mirror_free(mirror);
		return NULL;
	}
	return mirror;
}

void
mirror_start(struct mirror *mirror)
{
	struct timeval second = { .tv_sec = 1 };
	size_t i;

	event_add(mirror->steady, &second);
	for (i = 0; i < pairs_peer_count(mirror->pairs); i++)
		server_start(pairs_peer(mirror->pairs, i)->server);
}

void
mirror_stop(struct mirror *mirror)
{
	struct recovery *keeper;
	size_t i;

	mirror->stopping = true;
	for (i = 0; i < pairs_peer_count(mirror->pairs); i++) {
		keeper = &mirror->keepers[i];
		invalidation_stop(keeper->invalidation);
		if (keeper->rebuild != NULL)
			rebuild_stop(keeper->rebuild);
		keeper->rebuild = NULL;
	}
}

void
mirror_free(struct mirror *mirror)
{
	size_t i;

	for (i = 0;
	     mirror->keepers != NULL && i < pairs_peer_count(mirror->pairs);
	     i++)
		keeper_destroy(&mirror->keepers[i]);
	pairs_free(mirror->pairs);
	if (mirror->steady != NULL)
		event_free(mirror->steady);
	free(mirror->keepers);
	free(mirror);
}

struct pairs *
mirror_pairs(struct mirror *mirror)
{
	return mirror->pairs;
}

bool
mirror_is_starting(const struct mirror *mirror)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(mirror->pairs); i++)
		if (pairs_peer(mirror->pairs, i)->state == PEER_STARTING)
			return true;
	return false;
}

bool
mirror_progress(const struct peer *peer, struct rebuild_progress *progress)
{
	const struct recovery *keeper = peer->recovery;

	if (keeper->rebuild == NULL)
		return false;
	*progress = rebuild_progress(keeper->rebuild);
	return true;
}
