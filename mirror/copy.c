/*
 * Copy one key from its authority to the mirror.
 *
 *   authority: mg -----.-> mirror: delete         what it has, to replace it
 *                      |           add, or mg N   the item
 *                      |           md I           it is stale
 *                      |           mg, or mg R    its token is out
 *                      '-> authority: md I C      gives back what mg has won
 *
 * Invariant: all that the mirror gets is queued at once, inside the done() of
 * the read.  So it is one step in the FIFO of the mirror.  The effects ahead of
 * it have made the mirror what the read has found, or the mirror lacks the key;
 * or has it otherwise, and the copy replaces that.  In all cases each of these
 * commands is right, whatever the one before it was answered, and there is
 * nothing to compare.
 *
 * What memcached asks its clients for stays as it was.  A read with mg wins the
 * right to set a stale item anew (flag W), as that of a client does, and gives
 * it back: md I makes the item once more one that nobody has won, unless it has
 * changed since.  Until that is queued, the gate holds the commands of clients
 * that may win the item or change its cas token.  With the flag u the read is
 * no hit, and moves no item in the LRU; each server that has mg in this form
 * knows it.
 *
 * An authority that fails before it has answered the read, or has its token
 * back, is asked for that when it returns with its items: see tokens.c.
 */

#include "mirror/copy.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "container_of.h"
#include "mirror/blame.h"
#include "mirror/command.h"
#include "mirror/giveback.h"
#include "mirror/item.h"
#include "mirror/marks.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/tokens.h"
#include "server/server.h"

enum {
	/* So much longer than it lives an item is to live to keep its token. */
	RECACHE_SECONDS = 60,
	/* How long an item lives that does not expire, until its token is
	   taken. */
	TOKEN_SECONDS = 60,
};

/*
 * What servers know
 */

/* Those of 1.5 that have mg write it otherwise. */
static bool
knows_meta(const struct peer *peer)
{
	return abilities_has(&peer->abilities, ABILITY_META_READ);
}

static bool
knows_base64(const struct peer *peer)
{
	return abilities_has(&peer->abilities, ABILITY_BASE64);
}

bool
copy_can_read(const struct peer *peer)
{
	return !peer->identity.known || knows_meta(peer);
}

/* Whether peer can hold the item of a copy. */
static bool
can_hold(const struct peer *peer, const struct copy *copy,
    const struct item *item)
{
	if (!peer->identity.known || (copy->is_binary && !knows_base64(peer)))
		return false;
	return knows_meta(peer) || (!item->is_stale && !item->is_placeholder);
}

/*
 * Calls
 */

/* A call has its answer, or none.  If it was the last one, the copy ends; it
   may be freed in here. */
static void
close_call(struct copy *copy)
{
	assert(copy->owed > 0 && copy->end != COPY_UNDER_WAY);
	if (--copy->owed > 0)
		return;
	if (copy->end == COPY_ADDED || copy->end == COPY_OVERTAKEN)
		blame_acquit(pairs_blame(copy->pairs), BLAME_COPY, copy->key,
		    copy->length);
	copy->ended(copy, copy->end);
}

/* The server of a call has failed; it may be because of this key. */
static void
blame_copy(const struct copy *copy, const struct call *call)
{
	if (call->is_suspect)
		blame_key(pairs_blame(copy->pairs), BLAME_COPY, copy->key,
		    copy->length);
}

/* Submit a command of n bytes, which is not the first one. */
static void
submit_line(struct copy *copy, struct peer *peer, struct call *call,
    const char *line, int n)
{
	assert(n > 0 && n < ITEM_LINE_MAX && copy->owed > 0);
	call->element = NULL;
	copy->owed++;
	peer_submit(peer, copy->hash, call, line, (size_t)n, NULL, 0, NULL);
}

/* Write the key to out, in base64 if the key of the item is.  Returns its
   length; out has room for PROTO_BASE64_MAX bytes. */
static int
put_key(const struct copy *copy, char *out)
{
	assert(copy->is_binary || !copy->base64);
	if (copy->is_binary && !copy->base64)
		return (int)proto_base64_encode(copy->key, copy->length, out);
	memcpy(out, copy->key, copy->length);
	return (int)copy->length;
}

/* From here on the key is base64 only if it cannot be written otherwise. */
static void
simplify_key(struct copy *copy)
{
	char key[PROTO_KEY_MAX];
	size_t length;

	if (!copy->base64)
		return;
	length = proto_base64_decode(copy->key, copy->length, key);
	if (proto_base64_is_needed(key, length))
		return;
	memcpy(copy->key, key, length);
	copy->length = length;
	copy->base64 = false;
}

/*
 * To the mirror
 */

/* The mirror has failed and may still carry a call out. */
static void
lose_mirror(struct copy *copy, const struct call *call)
{
	assert(!peer_is_mirror(copy->to));
	blame_copy(copy, call);
	pairs_lose_effect(copy->pairs, copy->to, copy->key, copy->length,
	    copy->base64);
}

/* A request that has the key, which is at copy->key. */
static struct proto_request
request_of(const struct copy *copy)
{
	return (struct proto_request){
		.key = { 0, (uint32_t)copy->length },
		.base64 = copy->base64,
	};
}

static void
on_dropped(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, drop);
	const struct proto_request key = request_of(copy);

	if (answer == NULL) {
		lose_mirror(copy, call);
	} else if (!command_has_deleted(&key, answer->last.result)) {
		peer_add_dirty(copy->to, copy->key, copy->length, copy->base64);
		server_fail(copy->to->server, "refuses a delete");
	}
	close_call(copy);
}

static void
on_added(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, add);

	if (answer == NULL)
		lose_mirror(copy, call);
	else if (answer->last.result == PROTO_STORED ||
	    answer->last.result == PROTO_META_HD)
		copy->end = COPY_ADDED;
	else
		copy->end = COPY_OVERTAKEN;
	close_call(copy);
}

static void
on_marked(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, mark);

	if (answer == NULL)
		lose_mirror(copy, call);
	close_call(copy);
}

static void
on_taken(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, take);

	if (answer == NULL)
		lose_mirror(copy, call);
	close_call(copy);
}

/* Delete what the mirror has of the key. */
static void
drop_item(struct copy *copy)
{
	const struct proto_request key = request_of(copy);
	struct command command;

	command_delete(&command, &key, copy->key);
	copy->drop.expect = command.expect;
	copy->drop.done = on_dropped;
	submit_line(copy, copy->to, &copy->drop, command.line,
	    (int)command.length);
}

/* Add the item, if the mirror lacks the key. */
static void
add_item(struct copy *copy, const struct answer *answer,
    const struct item *item)
{
	unsigned int size = answer->last.data.length;
	const char *bytes = answer->bytes + answer->last.data.at;
	unsigned long long flags = item->flags;
	long long expires = peer_exptime(copy->to, item->ttl);
	char line[ITEM_LINE_MAX], key[PROTO_BASE64_MAX];
	int n, length = put_key(copy, key);
	struct block *block = NULL;
	size_t offset;

	if (copy->is_binary)
		n = snprintf(line, sizeof(line),
		    "ms %.*s %u b ME F%llu T%lld\r\n", length, key, size, flags,
		    expires);
	else
		n = snprintf(line, sizeof(line), "add %.*s %llu %lld %u\r\n",
		    length, key, flags, expires, size);
	assert(n > 0 && n < ITEM_LINE_MAX && copy->owed > 0);
	if (size >= BLOCK_SMALL)
		block = answer_reference(answer, bytes, size + 2, &offset);
	if (block != NULL)
		bytes = block->bytes + offset;
	copy->add.expect = copy->is_binary ?
	    PROTO_EXPECT_META_SET :
	    PROTO_EXPECT_STORED;
	copy->add.done = on_added;
	copy->add.element = NULL;
	copy->owed++;
	peer_submit(copy->to, copy->hash, &copy->add, line, (size_t)n, bytes,
	    size + 2, block);
	block_release(block);
}

/* Make an item that waits for who sets it, if the mirror lacks the key. */
static void
make_placeholder(struct copy *copy, const struct item *item)
{
	char line[ITEM_LINE_MAX], key[PROTO_BASE64_MAX];
	int length = put_key(copy, key);

	copy->add.expect = PROTO_EXPECT_META_GET;
	copy->add.done = on_added;
	submit_line(copy, copy->to, &copy->add, line,
	    snprintf(line, sizeof(line), "mg %.*s%s N%lld u\r\n", length, key,
		copy->is_binary ? " b" : "",
		(long long)peer_exptime(copy->to, item->ttl)));
}

static void
mark_stale(struct copy *copy)
{
	char line[ITEM_LINE_MAX], key[PROTO_BASE64_MAX];
	int length = put_key(copy, key);

	copy->mark.expect = PROTO_EXPECT_META_DELETE;
	copy->mark.done = on_marked;
	submit_line(copy, copy->to, &copy->mark, line,
	    snprintf(line, sizeof(line), "md %.*s%s I\r\n", length, key,
		copy->is_binary ? " b" : ""));
}

/* Take the token of the item: who reads a stale one gets it, or one that soon
   expires.  One that does not expire is given its end for a moment: see
   write_item(). */
static void
take_token(struct copy *copy, const struct item *item)
{
	bool expires = item->ttl >= 0;
	int64_t ttl = expires ? item->ttl : TOKEN_SECONDS;
	char line[ITEM_LINE_MAX], key[PROTO_BASE64_MAX], recache[32] = "";
	int length = put_key(copy, key);

	if (!item->is_stale)
		snprintf(recache, sizeof(recache), " R%lld%s",
		    (long long)peer_exptime(copy->to, ttl + RECACHE_SECONDS),
		    expires ? "" : " T0");
	copy->take.expect = PROTO_EXPECT_META_GET;
	copy->take.done = on_taken;
	submit_line(copy, copy->to, &copy->take, line,
	    snprintf(line, sizeof(line), "mg %.*s%s%s u\r\n", length, key,
		copy->is_binary ? " b" : "", recache));
}

static void
note_item_marks(const struct copy *copy)
{
	const struct proto_request key = request_of(copy);

	marks_set(pairs_marks(copy->pairs), &key, copy->key, true);
}

/* Have the mirror hold what the authority has answered. */
static void
write_item(struct copy *copy, const struct answer *answer,
    const struct item *item)
{
	bool has_token = item->is_awaited && knows_meta(copy->to);
	struct item first = *item;

	if (!peer_is_mirror(copy->to) || item->ttl == 0) {
		copy->end = COPY_GONE;
		return;
	}
	if (copy->replaces)
		drop_item(copy);
	if (item->is_stale || item->is_awaited)
		note_item_marks(copy);
	if (!can_hold(copy->to, copy, item)) {
		copy->end = COPY_REFUSED;
		return;
	}
	copy->end = COPY_GONE; /* until the mirror has replied */
	if (item->is_placeholder) {
		make_placeholder(copy, item);
		return;
	}
	/* If the mirror has it already, what follows leaves it as it is. */
	if (has_token && !item->is_stale && item->ttl < 0)
		first.ttl = TOKEN_SECONDS;
	add_item(copy, answer, &first);
	if (item->is_stale)
		mark_stale(copy);
	if (has_token)
		take_token(copy, item);
}

/*
 * From the authority
 */

static void
on_copy_given_back(struct giveback *giveback)
{
	close_call(CONTAINER_OF(giveback, struct copy, back));
}

/* The read has won a stale item.  The next client, which waits at the gate
   until this is queued, as do those that count, is to win it instead. */
static void
give_back(struct copy *copy, const struct item *item)
{
	assert(copy->owed > 0);
	copy->owed++;
	copy->back.done = on_copy_given_back;
	giveback_submit(&copy->back, copy->authority, copy->hash, copy->key,
	    copy->length, copy->base64, item->cas);
}

static enum copy_end
end_without_value(enum proto_result result)
{
	if (result == PROTO_ERROR)
		return COPY_UNABLE;
	return result == PROTO_SERVER_ERROR ? COPY_REFUSED : COPY_GONE;
}

/* The authority has not told what it has: it may have won the item. */
static void
lose_read(struct copy *copy)
{
	tokens_lost(copy->authority, copy->key, copy->length, copy->base64);
	copy->end = COPY_FAILED;
}

/* The token of the stale item is out: whether perhaps because of another read
   of ours, or of another magent, which gives it back, too.  If that is not so
   after all, it is won once more when the mirror answers.  Otherwise nobody
   would win it there, for as long as it lives. */
static bool
may_be_given_back(const struct copy *copy)
{
	return peer_is_shared(copy->authority) ||
	    giveback_is_under_way(copy->authority, copy->key, copy->length);
}

static void
take_value(struct copy *copy, const struct answer *answer)
{
	struct item item = item_parse(answer, copy->key, copy->length,
	    copy->base64, copy->opaque);

	if (!item.is_own) {
		lose_read(copy);
		server_fail(copy->authority->server,
		    "sent the value of another key");
		return;
	}
	/* A text is kept as one where base64 is not known. */
	copy->is_binary = copy->base64 ||
	    (item.is_binary && knows_base64(copy->to));
	if (item.is_won)
		give_back(copy, &item);
	else if (item.is_stale && may_be_given_back(copy))
		item.is_awaited = false;
	write_item(copy, answer, &item);
}

static void
on_read(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, source);

	assert(copy->owed == 1 && copy->authority != copy->to);
	if (answer == NULL) {
		blame_copy(copy, call);
		copy->end = COPY_FAILED;
		if (call->was_sent)
			lose_read(copy);
	} else if (answer->last.result != PROTO_META_VALUE) {
		copy->end = end_without_value(answer->last.result);
		if (answer->last.result == PROTO_META_EN && copy->replaces &&
		    peer_is_mirror(copy->to))
			drop_item(copy);
	} else {
		take_value(copy, answer);
	}
	/* Clients may win or count it in here, behind what is given back. */
	gate_release_key(pairs_gate(copy->pairs), &copy->held);
	close_call(copy);
}

static void
submit_read(struct copy *copy)
{
	char line[ITEM_LINE_MAX];
	int n = item_write_read(line, copy->key, copy->length, copy->base64,
	    &copy->opaque);

	assert(copy->owed == 0);
	copy->source.expect = PROTO_EXPECT_META_GET;
	copy->source.done = on_read;
	copy->source.element = NULL;
	copy->end = COPY_UNDER_WAY;
	copy->owed = 1;
	copy->held.key = copy->key;
	copy->held.length = copy->length;
	gate_hold_key(pairs_gate(copy->pairs), &copy->held);
	peer_submit(copy->authority, copy->hash, &copy->source, line, (size_t)n,
	    NULL, 0, NULL);
}

enum copy_end
copy_begin(struct copy *copy, struct pairs *pairs, const struct peer *to)
{
	struct pair pair = pairs_find_wire(pairs, copy->key, copy->length,
	    copy->base64);
	struct peer *authority = pair_authority(&pair);
	struct peer *mirror = NULL;

	assert(copy->owed == 0 && copy->length > 0 && copy->ended != NULL);
	simplify_key(copy);
	if (blame_is_clear(pairs_blame(pairs), BLAME_COPY, copy->key,
		copy->length))
		return COPY_REFUSED;
	if (authority != NULL)
		mirror = pair_partner(&pair, authority);
	if (mirror == NULL || !peer_is_mirror(mirror) ||
	    (to != NULL && mirror != to))
		return COPY_NOBODY;
	if (!copy_can_read(authority))
		return COPY_UNABLE;
	/* It cannot hold such a key. */
	if (copy->base64 && authority->identity.known &&
	    !knows_base64(authority))
		return COPY_GONE;
	copy->pairs = pairs;
	copy->authority = authority;
	copy->to = mirror;
	copy->hash = pair.hash;
	submit_read(copy);
	return COPY_UNDER_WAY;
}
