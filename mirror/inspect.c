/*
 * Find out whether the two servers of a key hold the same.
 *
 *   first comparison -----> wait -----> second comparison -----> judge()
 *   or glance: equal, done              |  equal: done
 *                             ^-- changed'
 *
 * What follows from two comparisons that have found the key different:
 *
 *   | authority | mirror | who lacks it throws items away | the key is ... |
 *   |-----------|--------|--------------------------------|----------------|
 *   | has it    | other  |                                | made equal     |
 *   | has it    | lacks  | lately                         | left           |
 *   | has it    | lacks  | not lately                     | made equal     |
 *   | lacks it  | has it | ever                           | left           |
 *   | lacks it  | has it | never                          | made equal     |
 *
 * A server that throws items away decides for itself what it keeps: two such
 * servers never hold the same keys.  A mirror that does so now would throw away
 * others for what it is given.
 *
 * Invariant: a key is judged only if two comparisons one after the other have
 * found it different, more than a second apart, and the authority has not
 * changed it in between: its cas token, time to live and marks are the same; or
 * if COMPARISONS_MAX of them have, and no other magent is known to serve.  Each
 * of them is right as to what this magent writes: see compare.h.  The time
 * between them is for what it does not know: an effect of another magent, which
 * comes to the mirror a moment after the write; somebody who writes both
 * servers himself; a repair that is under way.
 *
 * So a key that has changed is compared once more, and not taken for equal:
 * what is joined to a value, or touches an item, leaves what was different as
 * it is.
 *
 * And the stamps of the two servers must have been found equal after the first
 * comparison.  A server that another magent has left behind, or that was
 * emptied past us, holds no key that is right, and we may not know it yet.
 *
 * A key is made equal by a repair, which reads it anew at the authority, and
 * writes the mirror in the done() of that.  So that is right also if the key is
 * written meanwhile.
 */

#include "mirror/inspect.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/util.h>

#include "block.h"
#include "conn.h"
#include "container_of.h"
#include "log.h"
#include "mirror/bond.h"
#include "mirror/compare.h"
#include "mirror/evictions.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "server/server.h"

enum {
	/* Keys that have not been dealt with.  They take some 900 bytes. */
	INSPECTIONS_MAX = 1024,
	/* Between two comparisons, besides the greatest age of the mirror: in
	   this time stamps and evictions are looked at once or twice. */
	SECOND_COMPARISON_MS = 2000,
	/* Comparisons of a key that cannot be judged yet, or changes. */
	COMPARISONS_MAX = 5,
};

TAILQ_HEAD(inspection_list, inspection);

struct inspection {
	struct compare compare;
	struct inspections *all; /* borrowed */
	TAILQ_ENTRY(inspection) entry;
	/* See inspections_add(). */
	bool is_stray;
	/* Comparisons that have found the key different. */
	unsigned int comparisons;
	/* What the last one has found at the authority. */
	struct holding before;
	/* When the first one ended: milliseconds of the monotonic clock. */
	int64_t compared_ms;
	/* When the next one is due: milliseconds of the monotonic clock. */
	int64_t due_ms;
};

struct inspections {
	struct conn_loop *loop;      /* borrowed */
	struct pairs *pairs;         /* borrowed */
	struct evictions *evictions; /* owned */
	/* Of the values: clients choose them. */
	unsigned char hash_key[SIPHASH_KEY];
	/* Owned: those that a server is being asked about; and those that wait
	   to be compared once more, in the order in which they are due. */
	struct inspection_list in_flight, waiting;
	size_t in_flight_count, count;
	size_t bytes;
	/* Nothing follows from what is answered. */
	bool are_stopped;
};

static struct scrub_counters *
counters_of(const struct inspections *all)
{
	return &pairs_counters(all->pairs)->scrub;
}

static void
inspection_free(struct inspection *inspection)
{
	assert(inspection->all->count > 0);
	inspection->all->count--;
	block_count(-(ptrdiff_t)sizeof(*inspection));
	free(inspection);
}

/* Have the key compared once more. */
static void
compare_later(struct inspection *inspection)
{
	struct inspections *all = inspection->all;
	const struct peer *mirror = inspection->compare.mirror;

	inspection->due_ms = conn_loop_now(all->loop) + SECOND_COMPARISON_MS +
	    server_age_limit(mirror->server);
	TAILQ_INSERT_TAIL(&all->waiting, inspection, entry);
}

/*
 * Judging
 */

/* Which server lacks the key; NULL: both have it. */
static const struct peer *
who_lacks_it(const struct compare *compare)
{
	if (!compare->at_authority.is_there)
		return compare->authority;
	return compare->at_mirror.is_there ? NULL : compare->mirror;
}

/* Whether all that may explain a difference is known. */
static bool
can_be_judged(const struct inspection *inspection)
{
	const struct compare *compare = &inspection->compare;
	const struct peer *lacking = who_lacks_it(compare);
	int64_t ms = inspection->compared_ms;

	/* Another magent takes up to that time to give a higher stamp. */
	if (bond_of(compare->authority, compare->mirror)->equal_ms <=
	    ms + server_age_limit(compare->mirror->server))
		return false;
	return lacking == NULL ||
	    evictions_are_known(inspection->all->evictions, lacking, ms);
}

/* Whether one of the servers has thrown the key away, or would do so. */
static bool
is_left(const struct inspection *inspection)
{
	const struct compare *compare = &inspection->compare;
	const struct evictions *evictions = inspection->all->evictions;
	const struct peer *lacking = who_lacks_it(compare);

	if (lacking == NULL)
		return false;
	return lacking == compare->authority ?
	    evictions_have_been(evictions, lacking) :
	    evictions_go_on(evictions, lacking);
}

static void
log_difference(const struct compare *compare)
{
	char key[4 * PROTO_KEY_MAX + 1];

	assert(compare->difference != NULL);
	if (log_level() < LOG_LEVEL_DEBUG)
		return;
	log_debug("s %s: differs from s %s: %s: key %s%s",
	    peer_name(compare->mirror), peer_name(compare->authority),
	    compare->difference,
	    log_escape(compare->key, compare->length, key, sizeof(key)),
	    compare->base64 ? " in base64" : "");
}

/* Count a key that was judged.  What has drifted is no fault of anybody. */
static void
count_judged(const struct inspection *inspection, bool was_left)
{
	const struct compare *compare = &inspection->compare;
	struct scrub_counters *counters = counters_of(inspection->all);

	log_difference(compare);
	counters->left += was_left;
	counters->repaired += !was_left;
	if (!compare->at_authority.is_there)
		counters->only_on_mirror++;
	else if (!was_left &&
	    !holdings_have_drifted(&compare->at_authority, &compare->at_mirror))
		counters->different++;
}

/* Judge a key that is different.  Returns false if it is not known yet what
   that means, or there is no memory. */
static bool
judge(const struct inspection *inspection)
{
	const struct compare *compare = &inspection->compare;
	bool leave;

	if (!can_be_judged(inspection))
		return false;
	leave = is_left(inspection);
	if (!leave &&
	    !repairs_add(compare->mirror->repairs, compare->key,
		compare->length, compare->base64))
		return false;
	count_judged(inspection, leave);
	return true;
}

/* Whether what changes the key may be this magent alone. */
static bool
nobody_else_serves(const struct compare *compare)
{
	return !peer_is_shared(compare->authority) &&
	    !peer_is_shared(compare->mirror);
}

/* A further comparison has found the key different. */
static void
note_difference_again(struct inspection *inspection)
{
	const struct compare *compare = &inspection->compare;
	bool is_last = inspection->comparisons == COMPARISONS_MAX;
	bool may_judge = holding_is_unchanged(&inspection->before,
			     &compare->at_authority) ||
	    (is_last && nobody_else_serves(compare));

	inspection->before = compare->at_authority;
	if (may_judge && judge(inspection)) {
		inspection_free(inspection);
	} else if (!is_last) {
		compare_later(inspection);
	} else {
		counters_of(inspection->all)->not_compared++;
		inspection_free(inspection);
	}
}

/*
 * Comparing
 */

/* A comparison has found that the servers do not hold the same. */
static void
note_difference(struct inspection *inspection)
{
	if (++inspection->comparisons > 1) {
		note_difference_again(inspection);
		return;
	}
	inspection->before = inspection->compare.at_authority;
	inspection->compared_ms = conn_loop_now(inspection->all->loop);
	compare_later(inspection);
}

static void
on_inspected(struct compare *compare, enum compare_end end)
{
	struct inspection *inspection = CONTAINER_OF(compare, struct inspection,
	    compare);
	struct inspections *all = inspection->all;
	bool is_compared = end == COMPARE_SAME || end == COMPARE_OTHERWISE;
	bool is_no_stray = inspection->is_stray &&
	    compare->at_authority.is_there;

	TAILQ_REMOVE(&all->in_flight, inspection, entry);
	all->in_flight_count--;
	all->bytes += compare->bytes;
	if (all->are_stopped) {
		inspection_free(inspection);
		return;
	}
	counters_of(all)->compared += is_compared && !inspection->is_stray &&
	    inspection->comparisons == 0;
	counters_of(all)->not_compared += end == COMPARE_LOST;
	if (end == COMPARE_OTHERWISE && !is_no_stray)
		note_difference(inspection);
	else
		inspection_free(inspection);
}

/* Compare the key of one that is in no list.  Returns whether a server is
   asked. */
static bool
begin_comparison(struct inspection *inspection)
{
	struct inspections *all = inspection->all;
	enum compare_end end = compare_begin(&inspection->compare,
	    inspection->is_stray && inspection->comparisons == 0);

	if (end == COMPARE_UNDER_WAY) {
		TAILQ_INSERT_TAIL(&all->in_flight, inspection, entry);
		all->in_flight_count++;
		return true;
	}
	counters_of(all)->not_compared += end == COMPARE_LOST;
	inspection_free(inspection);
	return false;
}

bool
inspections_add(struct inspections *all, const char *key, size_t length,
    bool base64, bool is_stray)
{
	struct inspection *inspection = calloc(1, sizeof(*inspection));

	assert(length > 0 && length <= PROTO_KEY_MAX && !all->are_stopped);
	if (inspection == NULL) {
		counters_of(all)->not_compared++;
		return false;
	}
	all->count++;
	block_count(sizeof(*inspection));
	inspection->all = all;
	inspection->is_stray = is_stray;
	inspection->compare.ended = on_inspected;
	inspection->compare.loop = all->loop;
	inspection->compare.pairs = all->pairs;
	inspection->compare.hash_key = all->hash_key;
	inspection->compare.length = length;
	inspection->compare.base64 = base64;
	memcpy(inspection->compare.key, key, length);
	return begin_comparison(inspection);
}

bool
inspections_go_on(struct inspections *all)
{
	struct inspection *inspection = TAILQ_FIRST(&all->waiting);

	if (inspection == NULL || inspection->due_ms > conn_loop_now(all->loop))
		return false;
	TAILQ_REMOVE(&all->waiting, inspection, entry);
	begin_comparison(inspection);
	return true;
}

/*
 * All of them
 */

bool
inspections_have_room(const struct inspections *all)
{
	return all->count < INSPECTIONS_MAX;
}

size_t
inspections_in_flight(const struct inspections *all)
{
	return all->in_flight_count;
}

size_t
inspections_left(const struct inspections *all)
{
	return all->count;
}

size_t
inspections_take_bytes(struct inspections *all)
{
	size_t bytes = all->bytes;

	all->bytes = 0;
	return bytes;
}

void
inspections_tick(struct inspections *all)
{
	evictions_ask(all->evictions);
}

static void
free_list(struct inspection_list *list)
{
	struct inspection *inspection;

	while ((inspection = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, inspection, entry);
		inspection_free(inspection);
	}
}

void
inspections_stop(struct inspections *all)
{
	all->are_stopped = true;
	free_list(&all->waiting);
}

struct inspections *
inspections_new(struct conn_loop *loop, struct pairs *pairs)
{
	struct inspections *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return NULL;
	all->loop = loop;
	all->pairs = pairs;
	TAILQ_INIT(&all->in_flight);
	TAILQ_INIT(&all->waiting);
	evutil_secure_rng_get_bytes(all->hash_key, sizeof(all->hash_key));
	all->evictions = evictions_new(loop, pairs);
	if (all->evictions != NULL)
		return all;
	free(all);
	return NULL;
}

void
inspections_free(struct inspections *all)
{
	if (all == NULL)
		return;
	free_list(&all->in_flight);
	free_list(&all->waiting);
	evictions_free(all->evictions);
	free(all);
}
