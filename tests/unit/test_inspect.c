/*
 * What follows from the comparisons of a key, and when.  The comparisons, the
 * clock, and what is known of the servers are played by the test.
 */

#include "block.h"
#include "conn.h"
#include "log.h"
#include "mirror/bond.h"
#include "mirror/compare.h"
#include "mirror/evictions.h"
#include "mirror/inspect.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "server/server.h"
#include "unit.h"

enum { A, M, PEERS, AGE = 250, KEYS_MAX = 4 };

static struct peer peers[PEERS];
static struct pairs_counters counters;
static struct bond bond;
static int64_t now;
static struct compare *begun[KEYS_MAX]; /* under way, the oldest first */
static size_t begun_count;
static unsigned int glances, reads, repairs;
static bool is_known[PEERS], has_thrown_away[PEERS], has_room, is_shared;
static enum compare_end at_once;

/*
 * What the inspections ask
 */

struct pairs_counters *
pairs_counters(struct pairs *pairs)
{
	(void)pairs;
	return &counters;
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	(void)loop;
	return now;
}

unsigned int
server_age_limit(const struct server *server)
{
	(void)server;
	return AGE;
}

struct bond *
bond_of(const struct peer *peer, const struct peer *partner)
{
	check(peer != partner);
	return &bond;
}

const char *
peer_name(const struct peer *peer)
{
	return peer == &peers[A] ? "A" : "M";
}

bool
peer_is_shared(const struct peer *peer)
{
	return peer == &peers[A] && is_shared;
}

struct evictions *
evictions_new(struct conn_loop *loop, struct pairs *pairs)
{
	(void)loop;
	(void)pairs;
	return malloc(1);
}

void
evictions_free(struct evictions *evictions)
{
	free(evictions);
}

void
evictions_ask(struct evictions *evictions)
{
	(void)evictions;
}

bool
evictions_are_known(const struct evictions *evictions, const struct peer *peer,
    int64_t since_ms)
{
	(void)evictions;
	check(since_ms > 0 && since_ms <= now);
	return is_known[peer - peers];
}

bool
evictions_have_been(const struct evictions *evictions, const struct peer *peer)
{
	(void)evictions;
	check(peer == &peers[A]);
	return has_thrown_away[A];
}

bool
evictions_go_on(const struct evictions *evictions, const struct peer *peer)
{
	(void)evictions;
	check(peer == &peers[M]);
	return has_thrown_away[M];
}

bool
repairs_add(struct repairs *of, const char *key, size_t length, bool base64)
{
	(void)of;
	check(length == 1 && key[0] == 'k' && !base64);
	repairs += has_room;
	return has_room;
}

enum compare_end
compare_begin(struct compare *compare, bool is_glance)
{
	if (at_once != COMPARE_UNDER_WAY)
		return at_once;
	check(begun_count < KEYS_MAX);
	begun[begun_count++] = compare;
	compare->authority = &peers[A];
	compare->mirror = &peers[M];
	compare->at_authority = (struct holding){ .is_there = false };
	compare->difference = is_glance ? NULL : "in some way";
	glances += is_glance;
	reads += !is_glance;
	return COMPARE_UNDER_WAY;
}

/*
 * Cases
 */

static struct inspections *
begin_case(void)
{
	memset(&counters, 0, sizeof(counters));
	memset(&bond, 0, sizeof(bond));
	begun_count = 0;
	glances = reads = repairs = 0;
	now = 1000;
	is_known[A] = is_known[M] = has_room = true;
	has_thrown_away[A] = has_thrown_away[M] = is_shared = false;
	at_once = COMPARE_UNDER_WAY;
	return inspections_new(NULL, NULL);
}

/* The stamps are found equal by a look that began now. */
static void
look_at_stamps(void)
{
	bond.equal_ms = now;
}

static void
end_case(struct inspections *all, unsigned int left)
{
	check(inspections_left(all) == left);
	inspections_stop(all);
	inspections_free(all);
	check(block_total() == 0);
}

/* The oldest comparison ends: the servers hold something or nothing. */
static void
end_comparison(enum compare_end end, bool at_authority, bool at_mirror)
{
	struct compare *compare = begun[0];

	check(begun_count > 0);
	memmove(&begun[0], &begun[1], --begun_count * sizeof(*begun));
	compare->at_authority.is_there = at_authority;
	compare->at_mirror.is_there = at_mirror;
	compare->ended(compare, end);
}

/* Time goes on, and what is due begins. */
static void
wait_for_next(struct inspections *all)
{
	check(!inspections_go_on(all));
	now += 1000 + AGE;
	check(!inspections_go_on(all));
	look_at_stamps();
	now += 1000;
	check(inspections_go_on(all) && !inspections_go_on(all));
}

/* Two comparisons find a key so. */
static struct inspections *
differ_twice(bool at_authority, bool at_mirror)
{
	struct inspections *all = begin_case();

	check(inspections_add(all, "k", 1, false, false));
	end_comparison(COMPARE_OTHERWISE, at_authority, at_mirror);
	wait_for_next(all);
	return all;
}

static void
test_equal_key_is_done(void)
{
	struct inspections *all = begin_case();

	check(inspections_add(all, "k", 1, false, false) && reads == 1);
	check(inspections_in_flight(all) == 1);
	end_comparison(COMPARE_SAME, true, true);
	check(counters.scrub.compared == 1 && counters.scrub.not_compared == 0);
	end_case(all, 0);
}

static void
test_key_that_cannot_be_compared_is_counted(void)
{
	struct inspections *all = begin_case();

	at_once = COMPARE_LOST;
	check(!inspections_add(all, "k", 1, false, false));
	at_once = COMPARE_SAME;
	check(!inspections_add(all, "k", 1, false, false));
	at_once = COMPARE_UNDER_WAY;
	check(inspections_add(all, "k", 1, false, false));
	end_comparison(COMPARE_LOST, false, false);
	check(counters.scrub.not_compared == 2 && counters.scrub.compared == 0);
	end_case(all, 0);
}

static void
test_key_that_differs_twice_is_made_equal(void)
{
	struct inspections *all = differ_twice(true, true);

	check(repairs == 0);
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(repairs == 1 && counters.scrub.different == 1);
	check(counters.scrub.repaired == 1 && counters.scrub.compared == 1);
	end_case(all, 0);
}

/* An append, say, leaves it as different as it was. */
static void
test_key_that_was_changed_meanwhile_is_compared_once_more(void)
{
	struct inspections *all = differ_twice(true, true);

	begun[0]->at_authority.flags = 1;
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(repairs == 0 && counters.scrub.different == 0);
	wait_for_next(all);
	begun[0]->at_authority.flags = 1;
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(repairs == 1 && counters.scrub.different == 1);
	end_case(all, 0);
}

static void
test_key_that_was_set_meanwhile_is_equal(void)
{
	struct inspections *all = differ_twice(true, true);

	begun[0]->at_authority.flags = 1;
	end_comparison(COMPARE_OTHERWISE, true, true);
	wait_for_next(all);
	end_comparison(COMPARE_SAME, true, true);
	check(repairs == 0 && counters.scrub.different == 0);
	check(counters.scrub.compared == 1);
	end_case(all, 0);
}

/* Five comparisons, each of another value. */
static struct inspections *
differ_each_time(void)
{
	struct inspections *all = begin_case();
	unsigned int i;

	check(inspections_add(all, "k", 1, false, false));
	for (i = 0; i < 4; i++) {
		begun[0]->at_authority.flags = i;
		end_comparison(COMPARE_OTHERWISE, true, true);
		check(repairs == 0 && counters.scrub.not_compared == 0);
		wait_for_next(all);
	}
	begun[0]->at_authority.flags = i;
	return all;
}

static void
test_key_that_changes_all_the_time_is_made_equal(void)
{
	struct inspections *all = differ_each_time();

	end_comparison(COMPARE_OTHERWISE, true, true);
	check(repairs == 1 && counters.scrub.different == 1);
	end_case(all, 0);
}

static void
test_key_that_another_magent_may_change_is_left_alone(void)
{
	struct inspections *all = differ_each_time();

	is_shared = true;
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(repairs == 0 && counters.scrub.not_compared == 1);
	end_case(all, 0);
}

/* Who was left behind by another magent holds what is old. */
static void
test_nothing_is_judged_before_the_stamps_are_known_to_be_equal(void)
{
	struct inspections *all = begin_case();
	unsigned int i;

	check(inspections_add(all, "k", 1, false, false));
	end_comparison(COMPARE_OTHERWISE, true, true);
	now += AGE;
	look_at_stamps(); /* too early by a moment */
	for (i = 0; i < 4; i++) {
		now += 2000 + AGE;
		check(inspections_go_on(all));
		end_comparison(COMPARE_OTHERWISE, true, true);
		check(repairs == 0 && counters.scrub.different == 0);
	}
	check(counters.scrub.not_compared == 1);
	end_case(all, 0);
}

static void
test_mirror_that_throws_items_away_is_not_filled(void)
{
	struct inspections *all = differ_twice(true, false);

	has_thrown_away[M] = true;
	end_comparison(COMPARE_OTHERWISE, true, false);
	check(repairs == 0 && counters.scrub.left == 1);
	check(counters.scrub.different == 0);
	end_case(all, 0);
	all = differ_twice(true, false);
	end_comparison(COMPARE_OTHERWISE, true, false);
	check(repairs == 1 && counters.scrub.different == 1);
	end_case(all, 0);
}

static void
test_key_that_the_authority_may_have_thrown_away_is_left(void)
{
	struct inspections *all = differ_twice(false, true);

	has_thrown_away[A] = true;
	end_comparison(COMPARE_OTHERWISE, false, true);
	check(repairs == 0 && counters.scrub.left == 1);
	check(counters.scrub.only_on_mirror == 1);
	end_case(all, 0);
	all = differ_twice(false, true);
	end_comparison(COMPARE_OTHERWISE, false, true);
	check(repairs == 1 && counters.scrub.only_on_mirror == 1);
	check(counters.scrub.different == 0);
	end_case(all, 0);
}

static void
test_key_is_compared_again_until_it_is_known_who_throws_away(void)
{
	struct inspections *all = differ_twice(true, false);

	is_known[M] = false;
	end_comparison(COMPARE_OTHERWISE, true, false);
	check(repairs == 0 && counters.scrub.left == 0);
	is_known[M] = true;
	wait_for_next(all);
	end_comparison(COMPARE_OTHERWISE, true, false);
	check(repairs == 1);
	end_case(all, 0);
}

static void
test_key_is_compared_again_while_there_is_no_room_for_repairs(void)
{
	struct inspections *all = differ_twice(true, true);

	has_room = false;
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(counters.scrub.different == 0 && counters.scrub.repaired == 0);
	end_case(all, 1);
}

static void
test_key_of_a_mirror_is_compared_only_if_the_authority_lacks_it(void)
{
	struct inspections *all = begin_case();

	check(inspections_add(all, "k", 1, false, true) && glances == 1);
	end_comparison(COMPARE_SAME, false, false);
	check(reads == 0 && counters.scrub.compared == 0);
	check(inspections_add(all, "k", 1, false, true) && glances == 2);
	end_comparison(COMPARE_OTHERWISE, false, false);
	wait_for_next(all);
	check(glances == 2 && reads == 1);
	end_comparison(COMPARE_OTHERWISE, false, true);
	check(repairs == 1 && counters.scrub.only_on_mirror == 1);
	/* Or somebody has set it meanwhile; or it was read at once. */
	check(inspections_add(all, "k", 1, false, true));
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(repairs == 1 && counters.scrub.compared == 0);
	end_case(all, 0);
}

static void
test_nothing_follows_after_the_end(void)
{
	struct inspections *all = begin_case();

	check(inspections_add(all, "k", 1, false, false));
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(inspections_add(all, "k", 1, false, false));
	check(inspections_left(all) == 2);
	inspections_stop(all);
	check(inspections_left(all) == 1);
	end_comparison(COMPARE_OTHERWISE, true, true);
	check(counters.scrub.compared == 1);
	end_case(all, 0);
}

int
main(void)
{
	RUN(test_equal_key_is_done);
	RUN(test_key_that_cannot_be_compared_is_counted);
	RUN(test_key_that_differs_twice_is_made_equal);
	RUN(test_key_that_was_changed_meanwhile_is_compared_once_more);
	RUN(test_key_that_was_set_meanwhile_is_equal);
	RUN(test_key_that_changes_all_the_time_is_made_equal);
	RUN(test_key_that_another_magent_may_change_is_left_alone);
	RUN(test_nothing_is_judged_before_the_stamps_are_known_to_be_equal);
	RUN(test_mirror_that_throws_items_away_is_not_filled);
	RUN(test_key_that_the_authority_may_have_thrown_away_is_left);
	RUN(test_key_is_compared_again_until_it_is_known_who_throws_away);
	RUN(test_key_is_compared_again_while_there_is_no_room_for_repairs);
	RUN(test_key_of_a_mirror_is_compared_only_if_the_authority_lacks_it);
	RUN(test_nothing_follows_after_the_end);
	return unit_end();
}
