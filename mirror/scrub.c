/*
 * Prove that both copies of each key are equal.
 *
 *   server 0: keys -> inspections       those that it answers for: compared
 *   server 1: keys -> inspections       those that it mirrors: does the
 *     ...                               authority have them?
 *
 * Invariant: two copies that are equal are never taken for different.  For what
 * clients write through this magent, this is the order of two FIFOs: see
 * compare.h.  For what others write, it is time, the cas token of the
 * authority, and the stamps: see inspect.c.  What memcached does to an item by
 * itself counts as no difference (holding.c), nor does what a server has thrown
 * away to make room (evictions.h).  A key is made equal behind a read of its
 * own.
 *
 * Keys are compared only while both of their servers are up and neither is
 * behind the other one.  Nothing begins while a server is on its way back,
 * while the gate is closed, or while another magent serves clients and this one
 * does not: our gate does not hold up those clients while a read of ours has
 * won what they want to win, and our FIFOs do not have their effects.
 *
 * Nothing of this is on the path of a request.  While no pass is under way, and
 * none is to come, there is no timer.
 */

#include "mirror/scrub.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <event2/event.h>

#include "block.h"
#include "conn.h"
#include "log.h"
#include "mirror/gate.h"
#include "mirror/inspect.h"
#include "mirror/inventory.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rate.h"
#include "mirror/repair.h"
#include "mirror/rest.h"
#include "proto.h"

enum {
	/* Keys per second of a pass that was asked for, if none are given. */
	SCRUB_PACE = 2000,
	/* The same of scrub_prove(): somebody waits for it. */
	PROOF_PACE = 10000,
	/* Keys that may be dealt with at once in a tick. */
	SCRUB_SKIPPED = 1000,
	/* Between two tries while somebody is left alone. */
	SCRUB_HELD_MS = 100,
	/* Between two calls of inspections_tick(). */
	SCRUB_SECOND_MS = 1000,
	/* From the end of a pass to the next one. */
	SCRUB_PAUSE_MS = 10000,
};

struct scrub {
	struct conn_loop *loop;          /* borrowed */
	struct pairs *pairs;             /* borrowed */
	const struct rest *rest;         /* borrowed */
	struct inventory *inventory;     /* owned */
	struct inspections *inspections; /* owned */
	struct event *tick;              /* owned */
	struct rate rate;
	/* Of the option; 0: there is no next pass. */
	unsigned int keys_per_second;
	bool is_stopped;

	/* Of the pass that is under way: */

	/* Its end is to be logged in any case. */
	bool was_asked_for;
	/* Of scrub_prove(): NULL: nobody waits. */
	void (*done)(void *owner);
	void *owner;
	bool is_next; /* it waits for the end of the next pass, not of this */
	/* The server whose keys are read next. */
	size_t next_peer;
	/* Servers that failed meanwhile, were not up, or cannot list their
	   keys. */
	unsigned int left_out;
	int64_t began_ms;
	/* When inspections_tick() was called last. */
	int64_t ticked_ms;
	/* The counters at its beginning. */
	struct scrub_counters before;
};

static struct scrub_counters *
scrub_counters(const struct scrub *scrub)
{
	return &pairs_counters(scrub->pairs)->scrub;
}

/* Whether a pass is under way. */
static bool
is_running(const struct scrub *scrub)
{
	return scrub_counters(scrub)->is_running;
}

static void
set_scrub_timer(struct scrub *scrub, int ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000,
		.tv_usec = ms % 1000 * 1000,
	};

	event_add(scrub->tick, &wait);
}

/*
 * Passes
 */

static void
begin_pass(struct scrub *scrub)
{
	assert(!is_running(scrub) && inventory_peer(scrub->inventory) == NULL);
	scrub->was_asked_for |= scrub->is_next;
	scrub->is_next = false;
	scrub->rate.keys_per_second = scrub->keys_per_second > 0 ?
	    scrub->keys_per_second :
	    scrub->done != NULL ? PROOF_PACE :
				  SCRUB_PACE;
	scrub->began_ms = conn_loop_now(scrub->loop);
	rate_begin(&scrub->rate, scrub->began_ms);
	scrub->next_peer = 0;
	scrub->left_out = 0;
	scrub->ticked_ms = 0;
	scrub->before = *scrub_counters(scrub);
	scrub_counters(scrub)->is_running = true;
	scrub_counters(scrub)->began_ms = scrub->began_ms;
	scrub_counters(scrub)->taken = 0;
	set_scrub_timer(scrub, 0);
}

/* Log what the pass has done, if that was asked for or is worth it. */
static void
log_pass(const struct scrub *scrub)
{
	const struct scrub_counters *now = scrub_counters(scrub),
				    *before = &scrub->before;
	unsigned long long different = now->different - before->different;
	unsigned long long only = now->only_on_mirror - before->only_on_mirror;

	if (different > 0)
		log_warning("scrub: %llu keys were different on their servers",
		    different);
	if (different + only == 0 && !scrub->was_asked_for)
		return;
	log_info(
	    "scrub: done after %lld s: %llu keys compared, %llu different, "
	    "%llu only on a mirror, %llu of these made equal, %llu left as "
	    "they are, %llu not compared, %u servers left out",
	    (long long)(conn_loop_now(scrub->loop) - scrub->began_ms) / 1000,
	    (unsigned long long)(now->compared - before->compared), different,
	    only, (unsigned long long)(now->repaired - before->repaired),
	    (unsigned long long)(now->left - before->left),
	    (unsigned long long)(now->not_compared - before->not_compared),
	    scrub->left_out);
}

static void
end_pass(struct scrub *scrub)
{
	struct scrub_counters *counters = scrub_counters(scrub);

	void (*done)(void *owner);

	assert(is_running(scrub) && inspections_left(scrub->inspections) == 0);
	counters->is_running = false;
	counters->passes++;
	if (scrub->left_out == 0 &&
	    counters->not_compared == scrub->before.not_compared)
		counters->last_pass = (uint64_t)time(NULL);
	log_pass(scrub);
	scrub->was_asked_for = false;
	if (scrub->is_next)
		set_scrub_timer(scrub, 0);
	else if (scrub->keys_per_second > 0)
		set_scrub_timer(scrub, SCRUB_PAUSE_MS);
	if (scrub->done != NULL && !scrub->is_next) {
		done = scrub->done;
		scrub->done = NULL;
		done(scrub->owner);
	}
}

/*
 * Servers
 */

/* The keys of a server are not known, or cannot be read.  That is said once. */
static void
note_unable(const struct scrub *scrub, const struct peer *peer)
{
	if (scrub->was_asked_for || scrub_counters(scrub)->passes == 0)
		log_info(
		    "s %s: its keys are not compared: it does not list them, "
		    "or has no mg",
		    peer_name(peer));
}

/* A server was read, or cannot be. */
static void
end_inventory(struct scrub *scrub, enum inventory_state how)
{
	scrub->left_out += how != INVENTORY_WHOLE;
	if (how == INVENTORY_UNABLE)
		note_unable(scrub, inventory_peer(scrub->inventory));
	inventory_stop(scrub->inventory);
}

static bool
has_partner(const struct scrub *scrub, const struct peer *peer)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(scrub->pairs); i++)
		if (peers_are_partners(peer, pairs_peer(scrub->pairs, i)))
			return true;
	return false;
}

static bool
can_be_read(const struct peer *peer)
{
	return abilities_has(&peer->abilities, ABILITY_META_READ);
}

/* Go on to the next server that is up.  Returns false if there is none. */
static bool
next_inventory(struct scrub *scrub)
{
	struct peer *peer;

	while (scrub->next_peer < pairs_peer_count(scrub->pairs)) {
		peer = pairs_peer(scrub->pairs, scrub->next_peer++);
		if (!has_partner(scrub, peer))
			continue;
		if (peer->state == PEER_UP && can_be_read(peer)) {
			inventory_begin(scrub->inventory, peer);
			return true;
		}
		scrub->left_out++;
		if (peer->state == PEER_UP)
			note_unable(scrub, peer);
	}
	return false;
}

/* Whether another server answers for a key of the server that is being read. */
static bool
is_mirrored_key(const struct scrub *scrub, const char *key, size_t length,
    bool base64)
{
	struct pair pair = pairs_find_wire(scrub->pairs, key, length, base64);

	return pair_authority(&pair) != inventory_peer(scrub->inventory);
}

/* Begin with the next key of which a server can be asked: those of a server
   that is down cost nothing.  Returns false if there is none now. */
static bool
next_key(struct scrub *scrub)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;
	int n;

	if (inventory_peer(scrub->inventory) == NULL && !next_inventory(scrub))
		return false;
	for (n = 0; n < SCRUB_SKIPPED &&
	     inventory_pop(scrub->inventory, key, &length, &base64);
	     n++) {
		scrub_counters(scrub)->taken++;
		if (inspections_add(scrub->inspections, key, length, base64,
			is_mirrored_key(scrub, key, length, base64)))
			return true;
	}
	if (inventory_state(scrub->inventory) != INVENTORY_GOES_ON)
		end_inventory(scrub, inventory_state(scrub->inventory));
	return false;
}

/*
 * Time
 */

/* Whether a server is on its way back: it, and those that fill it, are left
   alone. */
static bool
is_somebody_returning(const struct scrub *scrub)
{
	enum peer_state state;
	size_t i;

	for (i = 0; i < pairs_peer_count(scrub->pairs); i++) {
		state = pairs_peer(scrub->pairs, i)->state;
		if (state != PEER_UP && state != PEER_DOWN)
			return true;
	}
	return false;
}

static bool
may_begin(const struct scrub *scrub)
{
	return rate_allows(&scrub->rate,
	    inspections_in_flight(scrub->inspections), block_total());
}

static void
begin_keys(struct scrub *scrub)
{
	while (may_begin(scrub)) {
		if (!inspections_go_on(scrub->inspections) &&
		    (!inspections_have_room(scrub->inspections) ||
			!next_key(scrub)))
			return;
		rate_take(&scrub->rate);
	}
}

/* Whether a key is being made equal, or will be. */
static bool
are_repairs_left(const struct scrub *scrub)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(scrub->pairs); i++)
		if (repairs_left(pairs_peer(scrub->pairs, i)->repairs) > 0)
			return true;
	return false;
}

static bool
is_pass_over(const struct scrub *scrub)
{
	return inventory_peer(scrub->inventory) == NULL &&
	    scrub->next_peer >= pairs_peer_count(scrub->pairs) &&
	    inspections_left(scrub->inspections) == 0 &&
	    !are_repairs_left(scrub);
}

/* Go on with the pass. */
static void
go_on_with_pass(struct scrub *scrub)
{
	int64_t now = conn_loop_now(scrub->loop);

	if (is_somebody_returning(scrub) ||
	    rest_is_other_serving(scrub->rest)) {
		inventory_pause(scrub->inventory);
		set_scrub_timer(scrub, SCRUB_HELD_MS);
		return;
	}
	if (now - scrub->ticked_ms >= SCRUB_SECOND_MS) {
		scrub->ticked_ms = now;
		inspections_tick(scrub->inspections);
	}
	rate_tick(&scrub->rate, now,
	    inspections_take_bytes(scrub->inspections));
	if (!gate_is_closed(pairs_gate(scrub->pairs)))
		begin_keys(scrub);
	if (is_pass_over(scrub))
		end_pass(scrub);
	else
		set_scrub_timer(scrub, rate_tick_ms(&scrub->rate));
}

static void
on_scrub_tick(evutil_socket_t fd, short what, void *arg)
{
	struct scrub *scrub = arg;

	(void)fd;
	(void)what;
	assert(!scrub->is_stopped);
	if (is_running(scrub))
		go_on_with_pass(scrub);
	else
		begin_pass(scrub);
}

/*
 * Life
 */

void
scrub_start(struct scrub *scrub)
{
	if (scrub->keys_per_second > 0 && pairs_are_mirrored(scrub->pairs))
		set_scrub_timer(scrub, 0);
}

void
scrub_start_pass(struct scrub *scrub, const char *why)
{
	if (scrub->is_stopped)
		return;
	if (!pairs_are_mirrored(scrub->pairs)) {
		log_info("scrub: no key has two servers");
		return;
	}
	scrub->was_asked_for = true;
	if (!is_running(scrub))
		begin_pass(scrub);
	log_info("scrub: a pass is under way, %u keys per second: %s",
	    scrub->rate.keys_per_second, why);
	if (rest_is_other_serving(scrub->rest))
		log_info("scrub: it waits: another magent serves clients");
}

void
scrub_prove(struct scrub *scrub, const char *why, void (*done)(void *owner),
    void *owner)
{
	if (scrub->is_stopped)
		return;
	assert(pairs_are_mirrored(scrub->pairs));
	scrub->done = done;
	scrub->owner = owner;
	scrub->is_next = is_running(scrub);
	scrub_start_pass(scrub, why);
}

void
scrub_stop(struct scrub *scrub)
{
	scrub->is_stopped = true;
	scrub_counters(scrub)->is_running = false;
	event_del(scrub->tick);
	inventory_stop(scrub->inventory);
	inspections_stop(scrub->inspections);
}

struct scrub *
scrub_new(struct conn_loop *loop, struct pairs *pairs, const struct rest *rest,
    size_t memory, unsigned int keys_per_second)
{
	struct scrub *scrub = calloc(1, sizeof(*scrub));

	if (scrub == NULL)
		return NULL;
	scrub->loop = loop;
	scrub->pairs = pairs;
	scrub->rest = rest;
	scrub->keys_per_second = keys_per_second;
	scrub->rate.memory = memory;
	scrub->inventory = inventory_new(loop, pairs, memory);
	scrub->inspections = inspections_new(loop, pairs);
	scrub->tick = event_new(conn_loop_base(loop), -1, 0, on_scrub_tick,
	    scrub);
	if (scrub->inventory != NULL && scrub->inspections != NULL &&
	    scrub->tick != NULL)
		return scrub;
	scrub_free(scrub);
	return NULL;
}

void
scrub_free(struct scrub *scrub)
{
	if (scrub == NULL)
		return;
	inventory_free(scrub->inventory);
	inspections_free(scrub->inspections);
	if (scrub->tick != NULL)
		event_free(scrub->tick);
	free(scrub);
}
