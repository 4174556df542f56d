/*
 * Read stamps, and give them.
 *
 *   a write was missed -> stamp_raise() -> incr, incr -> the waiters are woken
 *                              ^                |
 *                              '-- missed more -'
 *
 * Invariant: a waiter is woken when the server has been given a stamp by a
 * command that was sent after the waiter had come.  Those who come while one is
 * under way wait for the next one, all together.
 *
 * The answer to incr tells whether somebody else has given a stamp meanwhile.
 * If so, our dirty keys are not all that the other server lacks.
 */

#include "mirror/stamp.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container_of.h"
#include "log.h"
#include "mirror/bond.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "pool.h"
#include "server/link.h"
#include "server/server.h"

enum {
	/* What is asked for of each bond: its stamp, and its claim. */
	ITEMS = BOND_TWINS + 1,
	/* Bonds that one command asks for.  Old memcacheds take lines of 2048
	   bytes. */
	ASKED_MAX = 19,
	ASK_LINE_MAX = 128 + ASKED_MAX * ITEMS * BOND_KEY_MAX,
};

static_assert(ASK_LINE_MAX <= 2048,
    "a line is short enough for every memcached");

/* It ends so many seconds after the last time that somebody has said so. */
#define ACTIVE_SECONDS "3"

#define CLAIM_SECONDS "4"

static const char active_key[] = STAMP_ACTIVE;

/* The last character is the number of the slot. */
static const char serving_key[] = PROTO_RESERVED "serving0";

/*
 * Reading
 */

struct asking {
	struct call call;
	struct peer *peer; /* borrowed */
	/* NULL: asking_cancel() was called. */
	void (*done)(void *owner, bool is_read);
	void *owner;
	size_t next; /* the index of the peer behind the last that was asked
			for */
	unsigned int asked; /* bonds of this command */
	struct bond *bonds[ASKED_MAX];
	unsigned int gifts[ASKED_MAX]; /* of their sides, when it was sent */
	uint64_t found[ASKED_MAX][ITEMS];
	/* What was found so far. */
	uint64_t active_id, serving[SERVING_SLOTS];
	bool is_behind_ours; /* it was sent when we had said ours */
};

/* The key of one of the items that are asked for of a bond. */
static size_t
item_key(const struct bond *bond, unsigned int item, char out[BOND_KEY_MAX])
{
	return item < BOND_TWINS ? bond_key(bond, item, out) :
				   bond_claim_key(bond, out);
}

static void
end_asking(struct asking *asking, bool is_read)
{
	if (asking->done != NULL)
		asking->done(asking->owner, is_read);
	free(asking);
}

/* One of the items has come. */
static bool
on_stamp(struct call *call, const struct proto_reply *value, const char *bytes,
    size_t at)
{
	struct asking *asking = CONTAINER_OF(call, struct asking, call);
	const char *key = bytes + at + value->key.at;
	char expected[BOND_KEY_MAX];
	unsigned int i, item;
	uint64_t number;

	if (value->result != PROTO_VALUE)
		return true;
	number = bond_parse(bytes + at + value->data.at, value->data.length);
	if (value->key.length == sizeof(active_key) - 1 &&
	    memcmp(key, active_key, value->key.length) == 0) {
		asking->active_id = number;
		return true;
	}
	if (value->key.length == sizeof(serving_key) - 1 &&
	    memcmp(key, serving_key, value->key.length - 1) == 0) {
		item = (unsigned int)(key[value->key.length - 1] - '0');
		if (item >= SERVING_SLOTS)
			return false;
		asking->serving[item] = number;
		return true;
	}
	for (i = 0; i < asking->asked * ITEMS; i++) {
		item = i % ITEMS;
		if (item_key(asking->bonds[i / ITEMS], item, expected) !=
			value->key.length ||
		    memcmp(key, expected, value->key.length) != 0)
			continue;
		asking->found[i / ITEMS][item] = number;
		return true;
	}
	return false;
}

/* The server does not keep the stamp that it was given. */
static void
note_refused(struct bond *bond, const struct peer *peer)
{
	struct bond_side *side = bond_side(bond, peer);

	if (!side->is_refused)
		log_warning(
		    "s %s: has no room for a stamp: other magents "
		    "cannot see what it lacks",
		    peer_name(peer));
	side->is_refused = true;
	side->stamp = STAMP_MISSING;
}

static void
note_found(const struct asking *asking, unsigned int i)
{
	const uint64_t *found = asking->found[i];
	struct bond *bond = asking->bonds[i];

	struct bond_side *side = bond_side(bond, asking->peer);

	side->claim = found[BOND_TWINS];
	if (side->gifts != asking->gifts[i])
		return;
	if (found[0] == STAMP_MISSING && found[1] == STAMP_MISSING &&
	    side->is_read && !side->is_kept && side->stamp != STAMP_MISSING)
		note_refused(bond, asking->peer);
	bond_read(bond, asking->peer, found[0], found[1]);
}

/* Each magent that serves says so in the same item, one over the other: ours
   tells nothing of others. */
static void
note_active(const struct asking *asking)
{
	struct peer *peer = asking->peer;

	if (asking->active_id != 0 && asking->active_id == peer->said_id)
		return;
	peer->active_id = asking->active_id;
	peer->active_ms = server_now(peer->server);
	peer->active_is_new = asking->is_behind_ours;
}

static void ask_more(struct asking *asking);

static void
on_stamps(struct call *call, const struct answer *answer)
{
	struct asking *asking = CONTAINER_OF(call, struct asking, call);
	unsigned int i;

	if (answer == NULL || answer->last.result != PROTO_END) {
		end_asking(asking, false);
		return;
	}
	for (i = 0; i < asking->asked; i++)
		note_found(asking, i);
	ask_more(asking);
}

/* Put the keys of the next bonds behind the line.  Returns its length. */
static size_t
put_keys(struct asking *asking, char *line, size_t length)
{
	const struct peer *peer = asking->peer, *partner;
	struct bond *bond;
	unsigned int item;

	asking->asked = 0;
	for (; asking->next < pairs_peer_count(peer->pairs) &&
	     asking->asked < ASKED_MAX;
	     asking->next++) {
		partner = pairs_peer(peer->pairs, asking->next);
		if (!peers_are_partners(peer, partner))
			continue;
		bond = bond_of(peer, partner);
		asking->gifts[asking->asked] = bond_side(bond, peer)->gifts;
		asking->bonds[asking->asked++] = bond;
		for (item = 0; item < ITEMS; item++) {
			line[length++] = ' ';
			length += item_key(bond, item, line + length);
		}
	}
	return length;
}

/* Put a space and the key of a slot to out.  Returns their length. */
static size_t
put_serving_key(unsigned int slot, char *out)
{
	size_t length = sizeof(serving_key) - 1;

	out[0] = ' ';
	memcpy(out + 1, serving_key, length);
	out[length] = (char)('0' + slot);
	return length + 1;
}

/* Ask for the stamps with the next partners.  If there are none, end. */
static void
ask_more(struct asking *asking)
{
	char line[ASK_LINE_MAX];
	unsigned int slot;
	size_t length;

	length = (size_t)snprintf(line, sizeof(line), "get %s", active_key);
	for (slot = 0; slot < SERVING_SLOTS; slot++)
		length += put_serving_key(slot, line + length);
	length = put_keys(asking, line, length);

	assert(length + 2 < sizeof(line));
	if (asking->asked == 0) {
		memcpy(asking->peer->serving, asking->serving,
		    sizeof(asking->serving));
		note_active(asking);
		end_asking(asking, true);
		return;
	}
	memset(asking->found, 0, sizeof(asking->found));
	memcpy(line + length, "\r\n", 2);
	server_submit(asking->peer->server, 0, &asking->call, line, length + 2,
	    NULL, 0, NULL);
}

struct asking *
asking_new(struct peer *peer, void (*done)(void *owner, bool is_read),
    void *owner)
{
	struct asking *asking = calloc(1, sizeof(*asking));

	if (asking == NULL)
		return NULL;
	assert(done != NULL && pairs_are_mirrored(peer->pairs));
	asking->peer = peer;
	asking->done = done;
	asking->owner = owner;
	asking->call.expect = PROTO_EXPECT_VALUES;
	asking->call.done = on_stamps;
	asking->call.element = on_stamp;
	asking->is_behind_ours = peer->said_id != 0;
	ask_more(asking);
	return asking;
}

void
asking_cancel(struct asking *asking)
{
	assert(asking->done != NULL);
	asking->done = NULL;
}

void
asking_free(struct asking *asking)
{
	free(asking);
}

/*
 * Giving
 */

/* A command for one of the items, whose answer nobody waits for. */
struct gift {
	struct call call;
	/* Of whom it gives the stamp, borrowed; NULL: it is something else. */
	struct peer *peer;
	struct bond *bond;
};

static struct pool gifts = POOL(struct gift);

static void
on_given(struct call *call, const struct answer *answer)
{
	struct gift *gift = CONTAINER_OF(call, struct gift, call);

	/* Otherwise the next look at the stamps tells. */
	if (answer != NULL && gift->bond != NULL &&
	    answer->last.result == PROTO_SERVER_ERROR)
		note_refused(gift->bond, gift->peer);
	pool_give(&gifts, gift);
}

/* A call whose answer nobody waits for; NULL: out of memory. */
static struct gift *
gift_new(enum proto_expect expect)
{
	struct gift *gift = pool_take(&gifts);

	if (gift == NULL)
		return NULL;
	gift->bond = NULL;
	gift->call.expect = expect;
	gift->call.done = on_given;
	gift->call.element = NULL;
	return gift;
}

/* Store a number under a key, with set or add. */
static void
store_number(struct peer *peer, struct call *call, const char *verb,
    const char *key, const char *exptime, uint64_t number)
{
	char line[BOND_KEY_MAX + 48], data[24];
	int length, n;

	length = snprintf(data, sizeof(data), "%" PRIu64 "\r\n", number);
	n = snprintf(line, sizeof(line), "%s %s 0 %s %d\r\n", verb, key,
	    exptime, length - 2);
	assert(n > 0 && (size_t)n < sizeof(line) && length > 2);
	server_submit(peer->server, 0, call, line, (size_t)n, data,
	    (size_t)length, NULL);
}

/* Set or add a number, which is there for so many seconds, or less. */
static void
store_for_now(struct peer *peer, const char *verb, const char *key,
    const char *seconds, uint64_t number)
{
	struct gift *gift = gift_new(PROTO_EXPECT_STORED);

	if (gift != NULL)
		store_number(peer, &gift->call, verb, key, seconds, number);
}

static void
store_twins(struct bond *bond, struct peer *peer, const char *verb,
    uint64_t stamp)
{
	char key[BOND_KEY_MAX];
	struct gift *gift;
	unsigned int twin;

	for (twin = 0; twin < BOND_TWINS; twin++) {
		gift = gift_new(PROTO_EXPECT_STORED);
		if (gift == NULL)
			return;
		gift->peer = peer;
		gift->bond = bond;
		bond_key(bond, twin, key);
		store_number(peer, &gift->call, verb, key, "0", stamp);
	}
}

void
stamp_give(struct bond *bond, struct peer *peer, uint64_t stamp)
{
	struct bond_side *side = bond_side(bond, peer);

	assert(stamp != STAMP_MISSING);
	store_twins(bond, peer, "set", stamp);
	side->stamp = stamp;
	side->gifts++;
	side->unanswered = 0;
	side->lacks_twin = false;
}

void
stamp_give_first(struct bond *bond, struct peer *peer)
{
	struct bond_side *side = bond_side(bond, peer);

	stamp_add_twins(bond, peer, STAMP_FIRST);
	side->stamp = STAMP_FIRST;
	side->gifts++;
}

void
stamp_add_twins(struct bond *bond, struct peer *peer, uint64_t stamp)
{
	store_twins(bond, peer, "add", stamp);
}

void
stamp_say_active(struct peer *peer, uint64_t id)
{
	store_for_now(peer, "set", active_key, ACTIVE_SECONDS, id);
	peer->said_id = id;
}

void
stamp_add_claim(const struct bond *bond, struct peer *peer, struct call *call)
{
	char key[BOND_KEY_MAX];

	bond_claim_key(bond, key);
	store_number(peer, call, "add", key, CLAIM_SECONDS, 1);
}

void
stamp_renew_claim(const struct bond *bond, struct peer *peer,
    uint64_t keys_done)
{
	char key[BOND_KEY_MAX];

	bond_claim_key(bond, key);
	store_for_now(peer, "set", key, CLAIM_SECONDS, keys_done + 1);
}

static void
delete_item(struct peer *peer, const char *key)
{
	struct gift *gift = gift_new(PROTO_EXPECT_DELETED);
	char line[BOND_KEY_MAX + 16];
	int n;

	if (gift == NULL)
		return;
	n = snprintf(line, sizeof(line), "delete %s\r\n", key);
	assert(n > 0 && (size_t)n < sizeof(line));
	server_submit(peer->server, 0, &gift->call, line, (size_t)n, NULL, 0,
	    NULL);
}

void
stamp_drop_claim(const struct bond *bond, struct peer *peer)
{
	char key[BOND_KEY_MAX];

	bond_claim_key(bond, key);
	delete_item(peer, key);
}

static void
store_serving(struct peer *peer, const char *verb, unsigned int slot,
    uint64_t number)
{
	char key[BOND_KEY_MAX];

	put_serving_key(slot, key);
	key[sizeof(serving_key)] = '\0';
	store_for_now(peer, verb, key + 1, "0", number);
}

void
stamp_say_serving(struct peer *peer, unsigned int slot, uint64_t number)
{
	store_serving(peer, "set", slot, number);
}

void
stamp_restore_serving(struct peer *peer)
{
	unsigned int slot;

	/* Who has said more since is right. */
	for (slot = 0; slot < SERVING_SLOTS; slot++)
		if (peer->serving[slot] != 0)
			store_serving(peer, "add", slot, peer->serving[slot]);
	if (peer->said_id != 0)
		stamp_say_active(peer, peer->said_id);
}

void
stamp_drop_serving(struct peer *peer, unsigned int slot)
{
	char key[BOND_KEY_MAX];

	put_serving_key(slot, key);
	key[sizeof(serving_key)] = '\0';
	delete_item(peer, key + 1);
}

/*
 * Raising
 */

struct bump_call {
	struct call call;
	struct bump *bump;
	/* What the item is now; STAMP_MISSING: it is not there. */
	uint64_t stamp;
};

struct bump {
	struct bond *bond; /* borrowed; NULL: it has another bump */
	struct peer *at;   /* borrowed */
	uint64_t step;     /* what is added */
	bool was_reached;  /* each call that has ended was answered */
	unsigned int owed; /* calls without an answer */
	struct bump_call calls[BOND_TWINS];
	/* Borrowed: those who wait for this one, and for the one after it. */
	struct stamp_waiters waiters, late_waiters;
	bool is_late; /* there has to be one after it */
};

static void raise_twins(struct bump *bump);

static void
wake_all(struct stamp_waiters *waiters, bool is_given)
{
	struct stamp_waiter *waiter;

	while ((waiter = STAILQ_FIRST(waiters)) != NULL) {
		STAILQ_REMOVE_HEAD(waiters, entry);
		waiter->wake(waiter, is_given);
	}
}

/* The server has answered: what its stamp is now. */
static void
note_raised(struct bump *bump)
{
	uint64_t one = bump->calls[0].stamp, other = bump->calls[1].stamp;
	uint64_t stamp = one > other ? one : other;
	struct bond *bond = bump->bond;
	struct bond_side *side = bond_side(bond, bump->at);
	struct bond_side *partner = bond_side(bond,
	    bond_partner(bond, bump->at));
	uint64_t expected = side->stamp + bump->step;

	if (stamp == STAMP_MISSING) {
		/* It had neither of the items. */
		stamp = expected;
		stamp_give(bond, bump->at, stamp);
	}
	/* What the other server had missed it has had since, or is to get. */
	if (stamp == expected && partner->goal == side->stamp &&
	    partner->goal != STAMP_MISSING)
		partner->goal = stamp;
	if (stamp != expected && !bond_is_late_answer(side, stamp - bump->step))
		bond->is_foreign = true;
	if (stamp > bond->known)
		bond->known = stamp;
	side->stamp = stamp;
}

static void
end_bump(struct bump *bump)
{
	struct stamp_waiters waiters = STAILQ_HEAD_INITIALIZER(waiters);
	bool was_reached = bump->was_reached && bump->bond != NULL;

	if (was_reached)
		note_raised(bump);
	else if (bump->bond != NULL)
		bond_side(bump->bond, bump->at)->unanswered = bump->step;
	STAILQ_CONCAT(&waiters, &bump->waiters);
	if (was_reached && bump->is_late) {
		STAILQ_CONCAT(&bump->waiters, &bump->late_waiters);
		raise_twins(bump);
	} else {
		STAILQ_CONCAT(&waiters, &bump->late_waiters);
		if (bump->bond != NULL)
			bump->bond->bump = NULL;
		free(bump);
	}
	wake_all(&waiters, was_reached);
}

static void
on_raised(struct call *call, const struct answer *answer)
{
	struct bump_call *bump_call = CONTAINER_OF(call, struct bump_call,
	    call);
	struct bump *bump = bump_call->bump;

	assert(bump->owed > 0);
	if (answer == NULL)
		bump->was_reached = false;
	else if (answer->last.result == PROTO_NUMBER)
		bump_call->stamp = answer->last.number;
	if (--bump->owed == 0)
		end_bump(bump);
}

static void
raise_twins(struct bump *bump)
{
	char key[BOND_KEY_MAX], line[BOND_KEY_MAX + 32];
	struct bump_call *bump_call;
	unsigned int twin;
	int n;

	bump->step = bond_step(bump->bond,
	    bond_side(bump->bond, bump->at)->stamp);
	bump->is_late = false;
	bump->was_reached = true;
	bump->owed = BOND_TWINS;
	for (twin = 0; twin < BOND_TWINS; twin++) {
		bond_key(bump->bond, twin, key);
		n = snprintf(line, sizeof(line), "incr %s %" PRIu64 "\r\n", key,
		    bump->step);
		assert(n > 0 && (size_t)n < sizeof(line));
		bump_call = &bump->calls[twin];
		bump_call->bump = bump;
		bump_call->stamp = STAMP_MISSING;
		bump_call->call.expect = PROTO_EXPECT_NUMBER;
		bump_call->call.done = on_raised;
		bump_call->call.element = NULL;
		server_submit(bump->at->server, 0, &bump_call->call, line,
		    (size_t)n, NULL, 0, NULL);
	}
}

/* Begin to give at a new stamp.  Returns false when out of memory. */
static bool
begin_bump(struct bond *bond, struct peer *at)
{
	struct bump *bump = calloc(1, sizeof(*bump)), *before = bond->bump;

	if (bump == NULL)
		return false;
	STAILQ_INIT(&bump->waiters);
	STAILQ_INIT(&bump->late_waiters);
	bump->bond = bond;
	bump->at = at;
	/* The server of that one has failed: it is going to be returned. */
	if (before != NULL)
		before->bond = NULL;
	bond->bump = bump;
	raise_twins(bump);
	return true;
}

void
stamp_raise(struct bond *bond, struct peer *at, struct stamp_waiter *waiter)
{
	struct bump *bump = bond->bump;
	bool is_late = bump != NULL && bump->at == at;

	assert(peer_is_mirror(at));
	if (!is_late && !begin_bump(bond, at)) {
		server_fail(at->server, "out of memory");
		if (waiter != NULL)
			waiter->wake(waiter, false);
		return;
	}
	bump = bond->bump;
	bump->is_late |= is_late;
	if (waiter != NULL)
		STAILQ_INSERT_TAIL(is_late ? &bump->late_waiters :
					     &bump->waiters,
		    waiter, entry);
}
