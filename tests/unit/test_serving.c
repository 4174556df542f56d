/*
 * Which magents count as gone, and which backups are not proved for that, for
 * what the servers hold at each second.  The servers are played by the test.
 */

#include <unistd.h>

#include "carry.h"
#include "conn.h"
#include "log.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/serving.h"
#include "mirror/stamp.h"
#include "unit.h"

enum { PEERS = 2 };

static struct peer peers[PEERS];
static struct standing standings[PEERS][PEERS];
static struct bond bond;
static struct serving *serving;
static int64_t now_ms;
static bool is_idle;
static unsigned int uncleans, warnings, dropped;
/* The mark that this magent has left last. */
static uint64_t said;
static unsigned int said_slot;
/* The last one that got a higher stamp. */
static const struct peer *raised;

/*
 * Stand-ins
 */

size_t
pairs_peer_count(const struct pairs *pairs)
{
	(void)pairs;
	return PEERS;
}

struct peer *
pairs_peer(struct pairs *pairs, size_t i)
{
	(void)pairs;
	return &peers[i];
}

bool
pairs_are_idle(const struct pairs *pairs)
{
	(void)pairs;
	return is_idle;
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer->state == PEER_UP;
}

bool
peers_are_partners(const struct peer *one, const struct peer *other)
{
	return one->is_primary != other->is_primary;
}

struct bond *
bond_of(const struct peer *peer, const struct peer *partner)
{
	check(peers_are_partners(peer, partner));
	return &bond;
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	(void)loop;
	return now_ms;
}

void
log_warning(const char *format, ...)
{
	(void)format;
	warnings++;
}

void
log_error(const char *format, ...)
{
	log_warning("%s", format);
}

void
stamp_say_serving(struct peer *peer, unsigned int slot, uint64_t number)
{
	check(peer_is_mirror(peer) && slot < SERVING_SLOTS);
	said = number;
	said_slot = slot;
}

void
stamp_drop_serving(struct peer *peer, unsigned int slot)
{
	check(peer_is_mirror(peer) && slot < SERVING_SLOTS);
	dropped++;
}

void
stamp_raise(struct bond *at_bond, struct peer *at, struct stamp_waiter *waiter)
{
	check(at_bond == &bond && peer_is_mirror(at) && waiter == NULL);
	raised = at;
}

static void
on_unclean(void *owner)
{
	check(owner == &uncleans);
	uncleans++;
}

/*
 * Scenes
 */

static void
begin(void)
{
	int i;

	memset(peers, 0, sizeof(peers));
	memset(standings, 0, sizeof(standings));
	memset(&bond, 0, sizeof(bond));
	for (i = 0; i < PEERS; i++) {
		peers[i].state = PEER_UP;
		peers[i].index = (size_t)i;
		peers[i].standings = standings[i];
	}
	peers[0].is_primary = true;
	peers[1].is_backup = true;
	uncleans = warnings = dropped = 0;
	said = 0;
	is_idle = true;
	serving = serving_new(NULL, NULL, on_unclean, &uncleans);
	unit_need(serving != NULL, "serving_new");
}

static void
end(void)
{
	serving_free(serving);
}

/* A second later the servers hold this in a slot. */
static void
look(unsigned int slot, uint64_t number, bool is_first)
{
	now_ms += 1000;
	peers[0].serving[slot] = peers[1].serving[slot] = number;
	serving_look(serving, is_first ? LOOK_FIRST : LOOK_EQUAL);
}

/* Whether the backup holds what the primary does, as far as is known. */
static bool
is_proved(void)
{
	check(!serving_is_unproved(&peers[0]));
	check(serving_is_unproved(&peers[1]) == standings[1][0].is_unproved);
	return !standings[1][0].is_unproved;
}

static void
test_mark_is_left_and_taken_away(void)
{
	begin();
	check(!serving_rest(serving));
	serving_say(serving);
	check(said != 0 && said_slot == 0);
	is_idle = false;
	check(!serving_rest(serving));
	is_idle = true;
	check(serving_rest(serving) && dropped == PEERS);
	check(!serving_rest(serving) && dropped == PEERS);
	end();
}

static void
test_taken_slots_are_left_alone(void)
{
	begin();
	look(0, 7, false);
	serving_say(serving);
	check(said_slot == 1);
	peers[0].serving[1] = peers[1].serving[1] = said;
	serving_say(serving);
	check(said_slot == 1);
	/* Two have taken it at the same moment. */
	look(1, 8, false);
	serving_say(serving);
	check(said_slot == 2);
	end();
}

static void
test_own_mark_is_nobody_elses(void)
{
	int i;

	begin();
	serving_say(serving);
	for (i = 0; i < 10; i++)
		look(said_slot, said, i == 0);
	check(uncleans == 0 && is_proved());
	end();
}

static void
test_server_is_in_use_while_a_mark_there_is_as_new_as_elsewhere(void)
{
	uint64_t other = UINT64_C(7) << 32;
	uint64_t i;

	begin();
	check(!serving_is_in_use(serving, &peers[0]));
	serving_say(serving);
	check(!serving_is_in_use(serving, &peers[0]));
	look(1, other + 100, true);
	check(serving_is_in_use(serving, &peers[0]));
	/* It says so on the other server only. */
	peers[1].serving[1] = other + 101;
	check(serving_is_in_use(serving, &peers[0]));
	peers[1].serving[1] = other + 102;
	check(!serving_is_in_use(serving, &peers[0]));
	check(serving_is_in_use(serving, &peers[1]));
	/* Elsewhere another one has the slot. */
	peers[1].serving[1] = (UINT64_C(8) << 32) + 102;
	check(serving_is_in_use(serving, &peers[0]));
	peers[1].serving[1] = other + 102;
	/* It is gone. */
	for (i = 0; i < 6; i++)
		look(1, other + 102, false);
	check(uncleans == 1 && !serving_is_in_use(serving, &peers[1]));
	end();
}

/* Who takes its mark away may have raised a stamp before. */
static void
test_backup_is_not_proved_while_stamps_differ(void)
{
	begin();
	look(0, 100, true);
	check(!is_proved());
	peers[0].serving[0] = peers[1].serving[0] = 0;
	serving_look(serving, LOOK_DIFFERENT);
	check(!is_proved());
	serving_look(serving, LOOK_EQUAL);
	check(is_proved());
	end();
}

static void
test_own_mark_in_a_slot_that_is_another_ones_is_taken_away(void)
{
	uint64_t before;

	begin();
	serving_say(serving);
	check(said_slot == 0);
	look(0, said, false);
	before = said;
	/* One server has that of another magent, from before. */
	peers[0].serving[0] = UINT64_MAX;
	serving_say(serving);
	check(said_slot == 1 && dropped == 0);
	peers[0].serving[1] = peers[1].serving[1] = said;
	/* That one is away, and then is there without it. */
	peers[0].serving[0] = 0;
	serving_look(serving, LOOK_EQUAL);
	check(dropped == 1 && peers[1].serving[0] == 0);
	check(peers[1].serving[1] >> 32 == before >> 32);
	end();
}

static void
test_own_mark_that_comes_back_with_a_server_is_taken_away(void)
{
	begin();
	serving_say(serving);
	look(0, said, false);
	peers[1].state = PEER_DOWN;
	check(serving_rest(serving) && dropped == 1);
	peers[1].state = PEER_UP;
	peers[1].serving[0] = said;
	serving_look(serving, LOOK_EQUAL);
	check(dropped == 2 && peers[1].serving[0] == 0);
	check(uncleans == 0 && is_proved());
	end();
}

static void
test_other_that_serves_is_alive(void)
{
	uint64_t i;

	begin();
	look(0, 100, true);
	check(!is_proved());
	look(0, 101, false);
	check(is_proved());
	for (i = 0; i < 20; i++)
		look(0, 102 + i / 3, false);
	check(uncleans == 0 && is_proved());
	end();
}

static void
test_other_that_ends_well_is_forgotten(void)
{
	int i;

	begin();
	look(0, 100, true);
	check(!is_proved());
	look(0, 0, false);
	check(is_proved());
	for (i = 0; i < 10; i++)
		look(0, 0, false);
	check(uncleans == 0 && warnings == 0);
	end();
}

static void
test_other_that_is_gone_has_copies_compared(void)
{
	int i;

	begin();
	look(2, 100, true);
	for (i = 0; i < 10; i++)
		look(2, 100, false);
	check(uncleans == 1 && warnings == 1 && !is_proved());
	serving_proved(serving);
	check(is_proved() && dropped == PEERS);
	check(peers[0].serving[2] == 0);
	look(2, 0, false);
	check(uncleans == 1 && is_proved());
	end();
}

/* It is taken for alive until it has not changed for seconds. */
static void
test_other_that_is_killed_while_both_serve_is_noticed(void)
{
	int i;

	begin();
	look(0, 100, false);
	look(0, 101, false);
	for (i = 0; i < 3; i++)
		look(0, 101, false);
	check(uncleans == 0 && is_proved());
	for (i = 0; i < 3; i++)
		look(0, 101, false);
	check(uncleans == 1 && !is_proved());
	end();
}

/* It takes the mark away. */
static void
test_proof_of_another_magent_counts(void)
{
	int i;

	begin();
	for (i = 0; i < 5; i++)
		look(0, 100, i == 0);
	check(uncleans == 1 && !is_proved());
	look(0, 0, false);
	check(is_proved());
	for (i = 0; i < 5; i++)
		look(0, 200, i == 0);
	check(uncleans == 2 && !is_proved());
	serving_proved(serving);
	check(is_proved());
	end();
}

static void
test_mark_is_new_at_the_first_look_after_a_rest(void)
{
	begin();
	look(0, 100, false);
	look(0, 101, false);
	check(is_proved());
	look(0, 101, true);
	check(!is_proved());
	look(0, 102, false);
	check(is_proved());
	end();
}

/* When it is back, it gets all that the other one has, which has a higher stamp
   from now on. */
static void
test_pair_of_which_one_was_away_is_foreign(void)
{
	unsigned int away;

	for (away = 0; away < 2; away++) {
		begin();
		raised = NULL;
		peers[away].state = PEER_DOWN;
		look(0, 100, true);
		check(is_proved() && bond.is_foreign);
		check(raised == &peers[1 - away]);
		end();
	}
}

/* It was taken to be there when the mark was found. */
static void
test_pair_of_which_one_was_never_there_is_foreign(void)
{
	unsigned int away;

	for (away = 0; away < 2; away++) {
		begin();
		raised = NULL;
		look(0, 100, true);
		check(!bond.is_foreign && raised == NULL);
		peers[away].state = PEER_DOWN;
		serving_never_there(serving, &peers[away]);
		check(bond.is_foreign && raised == &peers[1 - away]);
		end();
	}
	/* Without a mark there is no doubt. */
	begin();
	raised = NULL;
	look(0, 0, true);
	peers[0].state = PEER_DOWN;
	serving_never_there(serving, &peers[0]);
	check(!bond.is_foreign && raised == NULL);
	end();
}

static void
test_backup_that_is_not_proved_is_not_foreign_while_it_is_there(void)
{
	begin();
	look(0, 100, true);
	check(!is_proved() && !bond.is_foreign);
	end();
}

/* It may have died after the comparison had begun. */
static void
test_other_that_is_gone_later_has_copies_compared_again(void)
{
	int i;

	begin();
	for (i = 0; i < 5; i++) {
		peers[0].serving[1] = i < 3 ? 200 + (uint64_t)i : 202;
		look(0, 100, i == 0);
	}
	check(uncleans == 1 && !is_proved());
	for (i = 0; i < 2; i++)
		look(0, 100, false);
	check(uncleans == 2 && !is_proved());
	serving_proved(serving);
	check(is_proved() && dropped == 2 * PEERS);
	end();
}

/* Four marks are there, of which so many change each second; ours is written
   over the last one.  A while later. */
static void
cover(unsigned int live)
{
	uint64_t number, second;
	unsigned int slot;

	for (second = 0; second < 3; second++)
		for (slot = 0; slot < SERVING_SLOTS; slot++) {
			number = (uint64_t)(slot + 1) << 32;
			number += slot < live ? second : 0;
			peers[0].serving[slot] = number;
			if (slot + 1 == SERVING_SLOTS)
				look(slot, number, second == 0);
		}
	serving_say(serving);
	check(said_slot == SERVING_SLOTS - 1);
	look(said_slot, said, false);
}

static void
test_mark_that_ours_is_written_over_is_gone_in_its_time(void)
{
	begin();
	cover(3);
	check(!is_proved() && uncleans == 0);
	/* Until its copies were compared, ours stays. */
	check(!serving_rest(serving));
	look(said_slot, said, false);
	check(!is_proved() && uncleans == 0);
	now_ms += 2000;
	look(said_slot, said, false);
	check(!is_proved() && uncleans >= 1);
	serving_proved(serving);
	check(peers[0].serving[said_slot] == said);
	check(serving_rest(serving));
	end();
}

static void
test_mark_that_ours_is_written_over_may_be_seen_elsewhere(void)
{
	unsigned int slot;

	begin();
	cover(4);
	check(!serving_rest(serving));
	look(0, ((uint64_t)SERVING_SLOTS << 32) + 9, false);
	check(serving_rest(serving));
	for (slot = 0; slot < SERVING_SLOTS; slot++)
		peers[0].serving[slot] = peers[1].serving[slot] = 0;
	look(0, 0, false);
	check(is_proved() && uncleans == 0);
	end();
}

/* What it has left before is a mark of somebody who has not ended well. */
static void
test_magent_that_begins_anew_has_its_own_writes_proved(void)
{
	uint64_t before;
	int i;

	begin();
	serving_say(serving);
	before = said;
	look(said_slot, before, false);
	check(is_proved());
	serving_begin_anew(serving);
	look(said_slot, before, true);
	check(!is_proved() && uncleans == 0);
	serving_say(serving);
	check(said >> 32 != before >> 32 && said_slot != 0);
	for (i = 0; i < 4; i++)
		look(0, before, false);
	check(uncleans == 1);
	serving_proved(serving);
	check(is_proved());
	end();
}

/* Another program goes on as the same magent; its mark is its own, and stands
   for what it was written over. */
static void
test_next_program_goes_on(void)
{
	struct carry *carry, *read;
	struct carry_line line;
	uint64_t before;

	begin();
	cover(3);
	before = said;
	carry = carry_new();
	unit_need(carry != NULL, "carry_new");
	serving_carry(serving, carry);
	check(carry_end(carry));
	check(carry_export(carry, "CARRY_TEST"));
	end();
	serving = serving_new(NULL, NULL, on_unclean, &uncleans);
	unit_need(serving != NULL, "serving_new");
	read = carry_open(dup(atoi(getenv("CARRY_TEST"))));
	unit_need(read != NULL, "carry_open");
	while (carry_next(read, &line))
		serving_take(serving, &line);
	carry_free(read);
	carry_free(carry);
	look(said_slot, before, true);
	serving_say(serving);
	check(said >> 32 == before >> 32 && said_slot == SERVING_SLOTS - 1);
	check(!serving_rest(serving));
	now_ms += 4000;
	look(said_slot, said, false);
	check(uncleans >= 1);
	serving_proved(serving);
	check(serving_rest(serving));
	end();
}

int
main(void)
{
	RUN(test_mark_is_left_and_taken_away);
	RUN(test_taken_slots_are_left_alone);
	RUN(test_own_mark_is_nobody_elses);
	RUN(test_server_is_in_use_while_a_mark_there_is_as_new_as_elsewhere);
	RUN(test_backup_is_not_proved_while_stamps_differ);
	RUN(test_own_mark_in_a_slot_that_is_another_ones_is_taken_away);
	RUN(test_own_mark_that_comes_back_with_a_server_is_taken_away);
	RUN(test_other_that_serves_is_alive);
	RUN(test_other_that_ends_well_is_forgotten);
	RUN(test_other_that_is_gone_has_copies_compared);
	RUN(test_other_that_is_killed_while_both_serve_is_noticed);
	RUN(test_proof_of_another_magent_counts);
	RUN(test_mark_is_new_at_the_first_look_after_a_rest);
	RUN(test_other_that_is_gone_later_has_copies_compared_again);
	RUN(test_mark_that_ours_is_written_over_is_gone_in_its_time);
	RUN(test_mark_that_ours_is_written_over_may_be_seen_elsewhere);
	RUN(test_pair_of_which_one_was_away_is_foreign);
	RUN(test_pair_of_which_one_was_never_there_is_foreign);
	RUN(test_backup_that_is_not_proved_is_not_foreign_while_it_is_there);
	RUN(test_next_program_goes_on);
	RUN(test_magent_that_begins_anew_has_its_own_writes_proved);
	return unit_end();
}
