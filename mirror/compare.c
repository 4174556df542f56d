/*
 * Compare what the two servers of a key hold.
 *
 *   authority: mg -.-----------------------> mirror: mg -.--> ended()
 *                  '-> md I C  gives back what           '-> md I C
 *                              the read has won
 *
 * Invariant: the mirror is asked inside the done() of the read at the
 * authority, or not at all.  A key is held at the gate until it is known that
 * the item is neither stale nor a number; otherwise until the mirror has
 * answered, and what was won there is being given back.  So no command that
 * wins a stale item is ahead of that on one server and behind it on the other
 * one; and none counts an item that is part of a reply to us: memcached would
 * make a new one, without marks, and without the time to live that the command
 * sets.
 *
 * A server before 1.6 has no mg.  It is not compared: gets is a hit, and would
 * move each of its items in the LRU.
 */

#include "mirror/compare.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "conn.h"
#include "container_of.h"
#include "mirror/behind.h"
#include "mirror/blame.h"
#include "mirror/classic.h"
#include "mirror/item.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/tokens.h"
#include "server/server.h"

enum {
	/* What an item takes besides its key and value, at most: a mirror that
	   takes no larger items may lack it. */
	ITEM_HEAD = 100,
};

/* Whether the two servers are to hold the same now: both are up, and neither is
   behind the other; and whether they can be read. */
static bool
are_comparable(const struct peer *one, const struct peer *other)
{
	return one->state == PEER_UP && other->state == PEER_UP &&
	    behind_of(one, other) == BEHIND_NOT &&
	    behind_of(other, one) == BEHIND_NOT &&
	    abilities_has(&one->abilities, ABILITY_META_READ) &&
	    abilities_has(&other->abilities, ABILITY_META_READ);
}

/*
 * Calls
 */

/* Clients may win or count the item in here.  Unless end_compare() calls this,
   the comparison may end in here, too. */
static void
release_compared(struct compare *compare)
{
	if (!compare->is_held)
		return;
	compare->is_held = false;
	gate_release_key(pairs_gate(compare->pairs), &compare->held);
}

/* A call has its answer, or none.  If it was the last one, the comparison ends;
   it may be freed in here. */
static void
close_compare(struct compare *compare)
{
	assert(compare->owed > 0);
	if (--compare->owed > 0)
		return;
	assert(compare->end != COMPARE_UNDER_WAY);
	if (compare->end != COMPARE_LOST &&
	    compare->call.expect == PROTO_EXPECT_META_GET)
		blame_acquit(pairs_blame(compare->pairs), BLAME_COPY,
		    compare->key, compare->length);
	compare->ended(compare, compare->end);
}

/* The comparison is over, but for what is given back. */
static void
end_compare(struct compare *compare, enum compare_end end)
{
	assert(compare->owed > 0);
	compare->end = end;
	release_compared(compare);
	close_compare(compare);
}

/* A server has failed before it has answered; it may be because of this key,
   and it may have won the item. */
static void
lose_call(struct compare *compare, struct peer *peer)
{
	if (compare->call.is_suspect)
		blame_key(pairs_blame(compare->pairs), BLAME_COPY, compare->key,
		    compare->length);
	if (compare->call.was_sent &&
	    compare->call.expect == PROTO_EXPECT_META_GET)
		tokens_lost(peer, compare->key, compare->length,
		    compare->base64);
	end_compare(compare, COMPARE_LOST);
}

/* Ask a server for the item; done() is called. */
static void
submit_mg(struct compare *compare, struct peer *peer,
    void (*done)(struct call *call, const struct answer *answer))
{
	char line[ITEM_LINE_MAX];
	int n = item_write_read(line, compare->key, compare->length,
	    compare->base64, &compare->opaque);

	compare->call.expect = PROTO_EXPECT_META_GET;
	compare->call.done = done;
	compare->call.element = NULL;
	peer_submit(peer, compare->hash, &compare->call, line, (size_t)n, NULL,
	    0, NULL);
}

/*
 * Answers
 */

static void
on_compare_given_back(struct giveback *giveback)
{
	close_compare(CONTAINER_OF(giveback, struct compare, back));
}

static void
on_mirror_given_back(struct giveback *giveback)
{
	close_compare(CONTAINER_OF(giveback, struct compare, back_at_mirror));
}

/* Have the next client win what this read has won.  Until the server has
   answered that, other reads of ours see that the token is out. */
static void
settle_token(struct compare *compare, struct peer *peer,
    struct giveback *giveback, struct item *item)
{
	if (item->is_won) {
		compare->owed++;
		giveback_submit(giveback, peer, compare->hash, compare->key,
		    compare->length, compare->base64, item->cas);
	} else if (item->is_stale &&
	    giveback_is_under_way(peer, compare->key, compare->length)) {
		item->is_awaited = false;
	}
}

/* What peer has said of an item.  Returns false if this is another one: then
   the server has failed, and may have won the one that it was asked for. */
static bool
read_item(struct compare *compare, struct peer *peer, struct giveback *giveback,
    const struct answer *answer, struct holding *holding)
{
	const struct proto_span *data = &answer->last.data;
	struct item item = item_parse(answer, compare->key, compare->length,
	    compare->base64, compare->opaque);

	if (!item.is_own) {
		tokens_lost(peer, compare->key, compare->length,
		    compare->base64);
		server_fail(peer->server, "sent the value of another key");
		return false;
	}
	settle_token(compare, peer, giveback, &item);
	*holding = holding_of(&item, answer->bytes + data->at, data->length,
	    compare->hash_key);
	return true;
}

/* Read an answer to submit_mg().  Returns false if it is an error. */
static bool
read_holding(struct compare *compare, struct peer *peer,
    struct giveback *giveback, const struct answer *answer,
    struct holding *holding)
{
	*holding = (struct holding){ .is_there = false };
	if (answer->last.result == PROTO_META_VALUE) {
		if (!read_item(compare, peer, giveback, answer, holding))
			return false;
	} else if (answer->last.result != PROTO_META_EN) {
		return false;
	}
	compare->bytes += answer->length;
	holding->read_ms = conn_loop_now(compare->loop);
	return true;
}

/*
 * The mirror
 */

/* Whether the item is too large for the mirror. */
static bool
is_too_large(const struct compare *compare)
{
	uint64_t most = compare->mirror->identity.item_size_max;

	return most > 0 &&
	    compare->at_authority.length + compare->length + ITEM_HEAD > most;
}

/* Whether a read of the mirror may win something that cannot be given back
   without harm to what is set at this moment.  Only who knows all meta commands
   has marks. */
static bool
may_win_for_good(const struct compare *compare)
{
	const struct holding *holding = &compare->at_authority;

	if (abilities_has(&compare->mirror->abilities, ABILITY_META_DELETE_CAS))
		return false;
	return holding->is_stale || holding->is_awaited ||
	    (holding->is_number &&
		abilities_has(&compare->authority->abilities, ABILITY_META));
}

static void
on_mirror_read(struct call *call, const struct answer *answer)
{
	struct compare *compare = CONTAINER_OF(call, struct compare, call);
	struct peer *mirror = compare->mirror;
	bool is_equal;

	if (answer == NULL) {
		lose_call(compare, mirror);
		return;
	}
	if (!read_holding(compare, mirror, &compare->back_at_mirror, answer,
		&compare->at_mirror) ||
	    !are_comparable(compare->authority, mirror)) {
		end_compare(compare, COMPARE_LOST);
		return;
	}
	compare->difference = holdings_difference(&compare->at_authority,
	    &compare->at_mirror);
	is_equal = compare->difference == NULL ||
	    (!compare->at_mirror.is_there && is_too_large(compare));
	end_compare(compare, is_equal ? COMPARE_SAME : COMPARE_OTHERWISE);
}

/*
 * The authority
 */

static void
on_authority_read(struct call *call, const struct answer *answer)
{
	struct compare *compare = CONTAINER_OF(call, struct compare, call);

	if (answer == NULL) {
		lose_call(compare, compare->authority);
		return;
	}
	if (!read_holding(compare, compare->authority, &compare->back, answer,
		&compare->at_authority) ||
	    !are_comparable(compare->authority, compare->mirror) ||
	    may_win_for_good(compare)) {
		end_compare(compare, COMPARE_LOST);
		return;
	}
	submit_mg(compare, compare->mirror, on_mirror_read);
	if (!compare->at_authority.is_stale && !compare->at_authority.is_number)
		release_compared(compare);
}

static void
on_glance(struct call *call, const struct answer *answer)
{
	struct compare *compare = CONTAINER_OF(call, struct compare, call);

	if (answer == NULL)
		lose_call(compare, compare->authority);
	else if (answer->last.result == PROTO_META_EN)
		end_compare(compare, COMPARE_OTHERWISE);
	else
		end_compare(compare,
		    answer->last.result == PROTO_META_DEBUG ? COMPARE_SAME :
							      COMPARE_LOST);
}

static void
submit_glance(struct compare *compare)
{
	char line[ITEM_LINE_MAX];
	int n;

	n = snprintf(line, sizeof(line), "me %.*s\r\n", (int)compare->length,
	    compare->key);
	assert(n > 0 && (size_t)n < sizeof(line));
	compare->call.expect = PROTO_EXPECT_META_DEBUG;
	compare->call.done = on_glance;
	compare->call.element = NULL;
	peer_submit(compare->authority, compare->hash, &compare->call, line,
	    (size_t)n, NULL, 0, NULL);
}

static void
read_at_authority(struct compare *compare)
{
	compare->held.key = compare->key;
	compare->held.length = compare->length;
	compare->is_held = true;
	compare->back.done = on_compare_given_back;
	compare->back_at_mirror.done = on_mirror_given_back;
	gate_hold_key(pairs_gate(compare->pairs), &compare->held);
	submit_mg(compare, compare->authority, on_authority_read);
}

/* A glance is me, which before 1.6.10 is not said to be what it is today.  Not
   each memcached finds a key in base64 with it, either. */
static bool
can_glance(const struct compare *compare)
{
	return !compare->base64 &&
	    abilities_has(&compare->authority->abilities, ABILITY_META);
}

static bool
can_have(const struct peer *peer, const struct compare *compare)
{
	return classic_can_hold(&peer->abilities, compare->key, compare->length,
	    compare->base64);
}

enum compare_end
compare_begin(struct compare *compare, bool is_glance)
{
	struct pair pair = pairs_find_wire(compare->pairs, compare->key,
	    compare->length, compare->base64);

	assert(compare->owed == 0 && compare->length > 0);
	if (pair.backup == NULL || !are_comparable(pair.primary, pair.backup) ||
	    blame_is_clear(pairs_blame(compare->pairs), BLAME_COPY,
		compare->key, compare->length))
		return COMPARE_LOST;
	compare->authority = pair_authority(&pair);
	compare->mirror = pair_partner(&pair, compare->authority);
	if (!can_have(compare->authority, compare) ||
	    !can_have(compare->mirror, compare))
		return COMPARE_SAME;
	compare->hash = pair.hash;
	compare->at_authority = (struct holding){ .is_there = false };
	compare->difference = NULL;
	compare->bytes = 0;
	compare->owed = 1;
	compare->end = COMPARE_UNDER_WAY;
	if (is_glance && can_glance(compare))
		submit_glance(compare);
	else
		read_at_authority(compare);
	return COMPARE_UNDER_WAY;
}
