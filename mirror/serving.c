/*
 * Who serves, and who has not ended well.
 *
 *   mark of another magent:
 *     not there ---- seen ----> NEW -- it has changed --> ALIVE
 *         ^                      |                          |
 *         |                      '---- GONE_MS the same ----+
 *         |                                                 v
 *         '---- serving_proved(), which takes it away --- GONE
 *               by us, or by another magent
 *
 * A mark is a number that changes each second: who of its magent, and when.  If
 * all slots are taken, a mark is written over another one, and stands for that,
 * too: it stays until the copies were compared, or the other one is seen again
 * elsewhere.
 *
 * Invariant: what is compared for a mark was compared from when that was GONE
 * on: its magent wrote up to GONE_MS before.
 *
 * Invariant: a backup is not proved for a primary that was a mirror, as it was
 * itself, from the first look after a rest if that finds a mark, or from one
 * that finds a mark to be GONE, until all marks are ALIVE or not there, and the
 * copies were compared if one was GONE.  Who takes its mark away has given the
 * stamps that say what the backup lacks: so it is not proved either while
 * stamps differ that are read with the marks.  At the first look after a rest
 * each mark is NEW: its magent may have been killed since the look before.  If
 * one of the two is away then, it may have missed what the other one has done,
 * and no stamp says so: the other one gets a higher stamp, and their bond is
 * foreign, because a rebuild of our dirty keys would not be all.
 */

#include "mirror/serving.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <event2/util.h>

#include "carry.h"
#include "conn.h"
#include "log.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"

enum {
	/* A mark that is as old is of a magent that is gone. */
	GONE_MS = 4000,
	/* Marks that differ by no more were left at the same time. */
	LATELY_SECONDS = 1,
	NO_SLOT = SERVING_SLOTS,
};

enum mark_state { MARK_NONE, MARK_NEW, MARK_ALIVE, MARK_GONE };

struct other_mark {
	enum mark_state state;
	uint64_t number;
	int64_t changed_ms; /* or when it became NEW */
};

struct serving {
	struct conn_loop *loop; /* borrowed */
	struct pairs *pairs;    /* borrowed */
	void (*unclean)(void *owner);
	void *owner;
	uint64_t id; /* the high half of our marks */
	unsigned int slot;
	bool is_said; /* our mark is on some server */
	struct other_mark others[SERVING_SLOTS];
	/* What our mark was written over, never ALIVE; number 0: several. */
	struct other_mark covered;
	bool is_unproved;
	bool is_comparing; /* unclean() was called */
};

/*
 * Our mark
 */

/* The number of a slot, on any server; 0: there is none. */
static uint64_t
number_at(const struct serving *serving, unsigned int slot)
{
	uint64_t number = 0, found;
	size_t i;

	for (i = 0; i < pairs_peer_count(serving->pairs); i++) {
		found = pairs_peer(serving->pairs, i)->serving[slot];
		if (found > number)
			number = found;
	}
	return number;
}

static bool
is_ours(const struct serving *serving, uint64_t number)
{
	return number >> 32 == serving->id;
}

/* All slots are taken. */
static unsigned int
cover_mark(struct serving *serving)
{
	unsigned int slot = SERVING_SLOTS - 1;
	struct other_mark *covered = &serving->covered;

	covered->number = covered->state == MARK_NONE ?
	    number_at(serving, slot) :
	    0;
	covered->state = MARK_NEW;
	covered->changed_ms = conn_loop_now(serving->loop);
	return slot;
}

/* Take a slot, if there is none, or somebody else has taken it, too. */
static void
choose_slot(struct serving *serving)
{
	uint64_t number;
	unsigned int slot;

	if (serving->slot != NO_SLOT) {
		number = number_at(serving, serving->slot);
		if (number == 0 || is_ours(serving, number))
			return;
	}
	for (slot = 0; slot < SERVING_SLOTS; slot++)
		if (number_at(serving, slot) == 0)
			break;
	serving->slot = slot < SERVING_SLOTS ? slot : cover_mark(serving);
}

void
serving_say(struct serving *serving)
{
	uint64_t number = serving->id << 32 | (uint32_t)time(NULL);
	struct peer *peer;
	size_t i;

	choose_slot(serving);
	for (i = 0; i < pairs_peer_count(serving->pairs); i++) {
		peer = pairs_peer(serving->pairs, i);
		if (!peer_is_there(peer))
			continue;
		stamp_say_serving(peer, serving->slot, number);
		peer->serving[serving->slot] = number;
		serving->is_said = true;
	}
}

static void
drop_slot(const struct serving *serving, unsigned int slot)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(serving->pairs); i++) {
		peer = pairs_peer(serving->pairs, i);
		peer->serving[slot] = 0;
		if (peer_is_there(peer))
			stamp_drop_serving(peer, slot);
	}
}

bool
serving_rest(struct serving *serving)
{
	if (!serving->is_said || serving->covered.state != MARK_NONE ||
	    !pairs_are_idle(serving->pairs))
		return false;
	serving->is_said = false;
	drop_slot(serving, serving->slot);
	return true;
}

/* As whom we leave marks. */
static void
choose_id(struct serving *serving)
{
	uint32_t id;

	evutil_secure_rng_get_bytes(&id, sizeof(id));
	serving->id = id >> 8 | 1; /* 17 digits at most with the time, not 0 */
	serving->slot = NO_SLOT;
}

void
serving_begin_anew(struct serving *serving)
{
	choose_id(serving);
	serving->is_said = false;
}

/*
 * The marks of others
 */

/* Whether a mark that has not changed is GONE from now on. */
static bool
has_gone(const struct serving *serving, struct other_mark *mark)
{
	if (mark->state == MARK_GONE ||
	    conn_loop_now(serving->loop) - mark->changed_ms < GONE_MS)
		return false;
	mark->state = MARK_GONE;
	return true;
}

/* Take our mark away where it is and should not be: on a server that was away
   as it was taken away elsewhere, or where somebody else has been in the slot
   that was ours, and is not any more.  For others it is of one that is gone. */
static void
drop_left_over(const struct serving *serving, unsigned int slot)
{
	struct peer *peer;
	size_t i;

	if (serving->is_said && slot == serving->slot)
		return;
	for (i = 0; i < pairs_peer_count(serving->pairs); i++) {
		peer = pairs_peer(serving->pairs, i);
		if (!is_ours(serving, peer->serving[slot]) ||
		    !peer_is_there(peer))
			continue;
		peer->serving[slot] = 0;
		stamp_drop_serving(peer, slot);
	}
}

/* Returns whether the mark is GONE from now on. */
static bool
look_at(struct serving *serving, unsigned int slot, enum serving_look look)
{
	struct other_mark *mark = &serving->others[slot];
	uint64_t number = number_at(serving, slot);
	bool has_changed = number != mark->number;
	bool is_another = number >> 32 != mark->number >> 32;

	mark->number = number;
	if (number == 0 || is_ours(serving, number)) {
		mark->state = MARK_NONE;
		return false;
	}
	if (mark->state == MARK_NONE || is_another ||
	    (look == LOOK_FIRST && mark->state == MARK_ALIVE))
		mark->state = MARK_NEW;
	else if (has_changed)
		mark->state = MARK_ALIVE;
	else
		return has_gone(serving, mark);
	mark->changed_ms = conn_loop_now(serving->loop);
	return false;
}

/* The same for what our mark was written over. */
static bool
look_at_covered(struct serving *serving)
{
	struct other_mark *covered = &serving->covered;
	unsigned int slot;
	uint64_t number;

	if (covered->state == MARK_NONE)
		return false;
	for (slot = 0; slot < SERVING_SLOTS && covered->number != 0; slot++) {
		number = number_at(serving, slot);
		if (number >> 32 == covered->number >> 32 &&
		    number != covered->number) {
			covered->state = MARK_NONE;
			return false;
		}
	}
	return has_gone(serving, covered);
}

static bool
has_mark(const struct serving *serving, enum mark_state state)
{
	unsigned int slot;

	for (slot = 0; slot < SERVING_SLOTS; slot++)
		if (serving->others[slot].state == state)
			return true;
	return serving->covered.state == state;
}

/* The backup may lack what the primary has.  If one of the two is away, it may
   lack what the other one has. */
static void
doubt_backup(struct peer *primary, struct peer *backup)
{
	struct bond *bond;

	if (!primary->is_primary || !backup->is_backup ||
	    !peers_are_partners(primary, backup))
		return;
	if (peer_is_mirror(primary) && peer_is_mirror(backup)) {
		backup->standings[primary->index].is_unproved = true;
		return;
	}
	bond = bond_of(primary, backup);
	bond->is_foreign = true;
	if (peer_is_there(primary))
		stamp_raise(bond, primary, NULL);
	else if (peer_is_there(backup))
		stamp_raise(bond, backup, NULL);
}

static void
set_unproved(struct serving *serving, bool is_unproved)
{
	struct pairs *pairs = serving->pairs;
	struct peer *primary, *backup;
	size_t i, j;

	serving->is_unproved = is_unproved;
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		backup = pairs_peer(pairs, i);
		for (j = 0; j < pairs_peer_count(pairs); j++) {
			primary = pairs_peer(pairs, j);
			backup->standings[j].is_unproved = false;
			if (is_unproved)
				doubt_backup(primary, backup);
		}
	}
}

void
serving_never_there(struct serving *serving, struct peer *peer)
{
	struct peer *partner;
	size_t i;

	assert(!peer_is_mirror(peer));
	for (i = 0; serving->is_unproved && i < pairs_peer_count(peer->pairs);
	     i++) {
		partner = pairs_peer(peer->pairs, i);
		doubt_backup(peer, partner);
		doubt_backup(partner, peer);
	}
}

bool
serving_is_unproved(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++)
		if (peer->standings[i].is_unproved)
			return true;
	return false;
}

/* Whether some server is there whose marks could be read. */
static bool
is_any_known(const struct serving *serving)
{
	const struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(serving->pairs); i++) {
		peer = pairs_peer(serving->pairs, i);
		if (peer_is_there(peer))
			return true;
	}
	return false;
}

void
serving_look(struct serving *serving, enum serving_look look)
{
	bool is_gone;
	unsigned int slot;

	if (!is_any_known(serving))
		return;
	is_gone = look_at_covered(serving);
	for (slot = 0; slot < SERVING_SLOTS; slot++) {
		drop_left_over(serving, slot);
		is_gone |= look_at(serving, slot, look);
	}
	/* Another magent may have compared them: it takes the mark away. */
	serving->is_comparing &= has_mark(serving, MARK_GONE);
	if (is_gone) {
		log_warning(
		    "another magent has not ended well: what it has "
		    "written may be missing on backups");
		serving->is_comparing = true;
		if (!serving->is_unproved)
			set_unproved(serving, true);
		serving->unclean(serving->owner);
	} else if (look == LOOK_FIRST && has_mark(serving, MARK_NEW) &&
	    !serving->is_unproved) {
		set_unproved(serving, true);
	} else if (look == LOOK_EQUAL && serving->is_unproved &&
	    !serving->is_comparing && !has_mark(serving, MARK_NEW)) {
		set_unproved(serving, false);
	}
}

bool
serving_is_in_use(const struct serving *serving, const struct peer *peer)
{
	uint64_t number, latest;
	unsigned int slot;

	for (slot = 0; slot < SERVING_SLOTS; slot++) {
		number = peer->serving[slot];
		if (number == 0 || is_ours(serving, number) ||
		    serving->others[slot].state == MARK_GONE)
			continue;
		/* Two servers are not read at the same moment, and two magents
		   may have taken one slot. */
		latest = number_at(serving, slot);
		if (number + LATELY_SECONDS >= latest ||
		    number >> 32 != latest >> 32)
			return true;
	}
	return false;
}

void
serving_proved(struct serving *serving)
{
	unsigned int slot;

	if (!serving->is_comparing)
		return;
	serving->is_comparing = false;
	for (slot = 0; slot < SERVING_SLOTS; slot++) {
		if (serving->others[slot].state != MARK_GONE)
			continue;
		serving->others[slot].state = MARK_NONE;
		drop_slot(serving, slot);
	}
	if (serving->covered.state == MARK_GONE)
		serving->covered.state = MARK_NONE;
	if (!has_mark(serving, MARK_NEW))
		set_unproved(serving, false);
}

/*
 * From one program to the next one
 */

enum {
	SERVING_ID,
	SERVING_SLOT,
	SERVING_IS_SAID,
	SERVING_IS_UNPROVED,
	SERVING_COVERED, /* it has covered a mark: its number, and since when */
	SERVING_COVERED_NUMBER,
	SERVING_COVERED_MS,
	SERVING_NUMBERS,
};

void
serving_carry(const struct serving *serving, struct carry *carry)
{
	uint64_t numbers[SERVING_NUMBERS] = {
		[SERVING_ID] = serving->id,
		[SERVING_SLOT] = serving->slot,
		[SERVING_IS_SAID] = serving->is_said,
		[SERVING_IS_UNPROVED] = serving->is_unproved,
		[SERVING_COVERED] = serving->covered.state != MARK_NONE,
		[SERVING_COVERED_NUMBER] = serving->covered.number,
		[SERVING_COVERED_MS] = (uint64_t)serving->covered.changed_ms,
	};

	carry_numbers(carry, "serving", numbers, SERVING_NUMBERS);
}

void
serving_take(struct serving *serving, const struct carry_line *line)
{
	const uint64_t *numbers = line->numbers;

	if (!carry_is(line, "serving") || numbers[SERVING_SLOT] > NO_SLOT)
		return;
	serving->id = numbers[SERVING_ID];
	serving->slot = (unsigned int)numbers[SERVING_SLOT];
	serving->is_said = numbers[SERVING_IS_SAID];
	serving->is_unproved = numbers[SERVING_IS_UNPROVED];
	/* What is being compared is compared once more. */
	if (numbers[SERVING_COVERED])
		serving->covered.state = MARK_NEW;
	serving->covered.number = numbers[SERVING_COVERED_NUMBER];
	serving->covered.changed_ms = (int64_t)numbers[SERVING_COVERED_MS];
}

/*
 * Life
 */

struct serving *
serving_new(struct conn_loop *loop, struct pairs *pairs,
    void (*unclean)(void *owner), void *owner)
{
	struct serving *serving = calloc(1, sizeof(*serving));

	if (serving == NULL)
		return NULL;
	assert(unclean != NULL);
	choose_id(serving);
	serving->loop = loop;
	serving->pairs = pairs;
	serving->unclean = unclean;
	serving->owner = owner;
	return serving;
}

void
serving_free(struct serving *serving)
{
	free(serving);
}
