/*
 * Carry one command from parsed line to whole reply.
 *
 * Invariant: a work has exactly as many open parts as servers owe it answers;
 * it ends when its owner is done with it (or gone) and no part is open.
 *
 *   request_start -> ask_key ---------> one part ------> reply as it is
 *                \-> start_round -> a part per server -> VALUEs in the order
 *                      ^  (a slot per key)          |    of the keys, END
 *                      +---- request_continue ------+
 */

#include "request.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "command.h"
#include "conn.h"
#include "effect.h"
#include "gate.h"
#include "pair.h"
#include "server.h"
#include "stats.h"

enum {
	MESSAGE_SMALL = 256,	/* bytes of a request kept in its work */
	TRIES_MAX = 2,		/* the authority, and who followed it */
	ROUND_MAX = 1000,	/* keys that are asked for at a time ... */
	ROUND_BYTES = 256 << 10	/* ... if that many bytes came of the last */
};

struct part;
struct work;

/* One key of a get, and where its VALUE is in the reply to its part. */
struct slot {
	struct proto_span key;
	struct proto_span value;	/* length 0: a miss */
	struct part *part;		/* NULL: nobody can be asked */
	struct slot *next;		/* of the same part */
};

static const char no_server[] = "SERVER_ERROR no server is up for this key\r\n";

enum { ROUND_FIRST = BLOCK_SMALL / sizeof(struct slot) };

/* What one server is asked for a work. */
struct part {
	struct call call;
	STAILQ_ENTRY(part) entry;
	struct work *work;
	struct peer *peer;
	uint32_t hash;			/* picks the link */
	unsigned int tries;
	bool told;
	struct slot *first, *last;	/* get family: its keys */
	struct slot *next;		/* the first that may come next */
	unsigned int keys, hits;
	struct block *reply;		/* the reply, if it had to be kept */
	size_t offset, length;
	/* Set when the reply has come: */
	struct proto_reply end;		/* its last element, */
	size_t end_at;			/* which is at this offset */
	uint64_t tag;			/* of the cas tokens in it */
};

STAILQ_HEAD(part_list, part);

enum work_state { WORK_WAITING, WORK_READY, WORK_WRITTEN };

struct work {
	struct request request;
	struct request_world *world;
	enum work_state state;
	bool telling, over;		/* in answered(); freed in there */
	bool own_used;
	bool begun;			/* a round has been written */
	bool unserved;			/* a key had nobody to be asked */
	unsigned int open;
	struct part_list parts;
	struct block *message;		/* what r was parsed from, if large */
	struct block *slot_block;
	const char *text;		/* the reply, if we make it */
	size_t text_length;
	struct block *text_block;
	const struct answer *live;	/* the reply to live_part, in place */
	unsigned int keys_left;		/* for the rounds to come */
	/* All above begins as zero. */
	struct proto_request r;
	const char *bytes;		/* of r: in message or small */
	struct pair pair;		/* a command about one key */
	struct slot *slots;		/* of this round */
	unsigned int slot_count;
	unsigned int round;		/* keys in it at most */
	size_t key_at;			/* where the next round begins */
	struct slot one;
	struct part *live_part;
	struct part own;		/* most works need one part only */
	struct work *next_spare;
	char small[MESSAGE_SMALL];
};

static struct work *spare_works;
static struct part_list spare_parts = STAILQ_HEAD_INITIALIZER(spare_parts);

static struct work *
work_of(struct request *request)
{
	return (struct work *)request;
}

/* Whether it is carried out in rounds; a get of one key takes the short way
   of all commands about one key. */
static bool
has_rounds(const struct proto_request *r)
{
	return r->command <= PROTO_GATS &&
	    (r->command != PROTO_GET || r->key_count > 1);
}

/*
 * Memory
 */

static struct work *
work_new(struct request_world *world, void *owner)
{
	struct work *work = spare_works;

	if (work != NULL)
		spare_works = work->next_spare;
	else
		work = malloc(sizeof(*work));
	if (work == NULL)
		return NULL;
	/* The rest is large, and is written before it is read. */
	memset(work, 0, offsetof(struct work, r));
	work->world = world;
	work->request.owner = owner;
	STAILQ_INIT(&work->parts);
	return work;
}

static struct part *
part_new(struct work *work)
{
	struct part *part = &work->own;

	if (work->own_used) {
		part = STAILQ_FIRST(&spare_parts);
		if (part != NULL)
			STAILQ_REMOVE_HEAD(&spare_parts, entry);
		else
			part = malloc(sizeof(*part));
		if (part == NULL)
			return NULL;
	}
	work->own_used = true;
	memset(part, 0, offsetof(struct part, end));
	part->work = work;
	STAILQ_INSERT_TAIL(&work->parts, part, entry);
	return part;
}

static void
free_parts(struct work *work)
{
	struct part *part;

	while ((part = STAILQ_FIRST(&work->parts)) != NULL) {
		STAILQ_REMOVE_HEAD(&work->parts, entry);
		block_release(part->reply);
		if (part != &work->own)
			STAILQ_INSERT_HEAD(&spare_parts, part, entry);
	}
	work->own_used = false;
}

static void
recycle(struct work *work)
{
	assert(work->open == 0);
	free_parts(work);
	block_release(work->message);
	block_release(work->slot_block);
	block_release(work->text_block);
	work->next_spare = spare_works;
	spare_works = work;
}

void
request_pool_free(void)
{
	struct work *work;
	struct part *part;

	while ((work = spare_works) != NULL) {
		spare_works = work->next_spare;
		free(work);
	}
	while ((part = STAILQ_FIRST(&spare_parts)) != NULL) {
		STAILQ_REMOVE_HEAD(&spare_parts, entry);
		free(part);
	}
}

/* Keep the message that r was parsed from. */
static bool
keep_message(struct work *work, struct conn *conn,
    const struct proto_request *r, const char *bytes)
{
	size_t offset;

	work->r = *r;
	work->bytes = work->small;
	if (r->length <= sizeof(work->small)) {
		memcpy(work->small, bytes, r->length);
		return true;
	}
	work->message = conn_keep(conn, bytes, r->length, &offset);
	if (work->message == NULL)
		return false;
	work->bytes = work->message->bytes + offset;
	return true;
}

/*
 * Replies that we make
 */

static void
set_text(struct work *work, const char *text)
{
	work->text = text;
	work->text_length = strlen(text);
}

/* A meta reply of ours: the word, and of the flags O and k. */
static void
set_meta_text(struct work *work, const char *word)
{
	const struct proto_request *r = &work->r;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	struct proto_span token;
	char *to;

	work->text_block = block_new(2 * r->meta.length + r->key.length + 16);
	if (work->text_block == NULL) {
		set_text(work, "SERVER_ERROR out of memory\r\n");
		return;
	}
	to = work->text_block->bytes;
	to = mempcpy(to, word, 2);
	while (proto_token(work->bytes, end, &at, &token)) {
		if (work->bytes[token.at] == 'O') {
			*to++ = ' ';
			to = mempcpy(to, work->bytes + token.at, token.length);
		} else if (work->bytes[token.at] == 'c') {
			to = mempcpy(to, " c0", r->command == PROTO_MS ? 3 : 0);
		} else if (work->bytes[token.at] == 'k') {
			to = mempcpy(to, " k", 2);
			to = mempcpy(to, work->bytes + r->key.at,
			    r->key.length);
			to = mempcpy(to, " b", r->base64 ? 2 : 0);
		}
	}
	to = mempcpy(to, "\r\n", 2);
	work->text = work->text_block->bytes;
	work->text_length = (size_t)(to - work->text);
}

/* The reply when nobody can be asked. */
static void
refuse(struct work *work)
{
	enum proto_command command = work->r.command;

	work->world->stats->no_server_errors++;
	if (work->world->error_on_down)
		set_text(work, no_server);
	else if (command == PROTO_GET)
		set_text(work, "END\r\n");
	else if (command == PROTO_ME || (command == PROTO_MG && work->r.quiet))
		set_text(work, command == PROTO_ME ? "EN\r\n" : "");
	else if (command == PROTO_MG)
		set_meta_text(work, "EN");
	else
		set_text(work, no_server);
}

/*
 * A token of another server or incarnation never matches.  Returns false, and
 * *cas as the server knows it, if the token may match.
 */
static bool
is_foreign(struct work *work, const struct peer *peer, uint64_t *cas)
{
	*cas = work->r.cas;
	if (work->r.command != PROTO_CAS && !work->r.has_cas)
		return false;
	if (!pairs_are_mirrored(work->world->pairs))
		return false;
	if ((*cas & ~COMMAND_CAS_MASK) != peer_tag(peer))
		return true;
	*cas &= COMMAND_CAS_MASK;
	return false;
}

/*
 * When a part is answered
 */

/* Keep the reply that is being looked at: the owner cannot take it yet. */
static void
hold(struct part *part, const struct answer *answer)
{
	struct slot *slot;

	part->length = answer->length;
	part->reply = answer_keep(answer, answer->bytes, answer->length,
	    &part->offset);
	if (part->reply != NULL)
		return;
	part->work->world->stats->memory_errors++;
	for (slot = part->first; slot != NULL; slot = slot->next)
		slot->value.length = 0;
	if (part->first == NULL)
		set_text(part->work, "SERVER_ERROR out of memory\r\n");
}

/* The last open part has its answer (or NULL, and the reply is ours). */
static void
become_ready(struct work *work, struct part *part, const struct answer *answer)
{
	if (work->request.owner == NULL) {
		recycle(work);
		return;
	}
	work->state = WORK_READY;
	work->live = answer;
	work->live_part = part;
	work->telling = true;
	work->world->answered(&work->request);
	work->telling = false;
	work->live = NULL;
	if (work->over)
		recycle(work);
	else if (work->state == WORK_READY && answer != NULL)
		hold(part, answer);
}

/* A part has been dealt with. */
static void
close_part(struct part *part, const struct answer *answer)
{
	struct work *work = part->work;

	assert(work->open > 0);
	if (answer != NULL) {
		part->end = answer->last;
		part->end_at = answer->last_at;
		part->tag = peer_tag(part->peer);
	}
	if (--work->open == 0)
		become_ready(work, part, answer);
	else if (answer != NULL)
		hold(part, answer);
}

/*
 * Commands about one key
 */

static void on_reply(struct call *call, const struct answer *answer);

/* The VALUE of a get. */
static bool
on_hit(struct call *call, const struct proto_reply *value, const char *bytes,
    size_t at)
{
	struct part *part = (struct part *)call;
	const struct proto_request *r = &part->work->r;

	return part->hits++ == 0 && value->key.length == r->key.length &&
	    memcmp(part->work->bytes + r->key.at, bytes + at + value->key.at,
	    r->key.length) == 0;
}

/* Ask the authority; or make the reply, if there is none to be asked. */
static void
ask_key(struct work *work, unsigned int tries)
{
	struct peer *peer = pair_authority(&work->pair);
	struct command command;
	struct part *part;
	uint64_t cas;

	if (peer == NULL || tries == TRIES_MAX) {
		refuse(work);
		return;
	}
	if (is_foreign(work, peer, &cas)) {
		if (work->r.command == PROTO_CAS)
			set_text(work, "EXISTS\r\n");
		else
			set_meta_text(work, "EX");
		return;
	}
	if (!STAILQ_EMPTY(&work->parts))
		free_parts(work);
	part = part_new(work);
	part->peer = peer;
	part->tries = tries;
	command_forward(&command, &work->r, work->bytes, cas);
	part->call.expect = command.expect;
	part->call.done = on_reply;
	part->call.element = work->r.command == PROTO_GET ? on_hit : NULL;
	work->open++;
	peer_tell(peer, work->pair.hash, &part->call, command.line,
	    command.length, work->bytes + work->r.data.at,
	    command.data ? work->r.data.length + 2 : 0, work->message);
}

static void
on_reply(struct call *call, const struct answer *answer)
{
	struct part *part = (struct part *)call;
	struct work *work = part->work;
	struct peer *peer = part->peer;

	if (answer == NULL) {
		effect_lost(peer, &work->r, work->bytes);
		ask_key(work, part->tries + 1);
	} else if (work->r.command == PROTO_GET) {
		if (part->hits > 0 && pairs_are_lazy(work->world->pairs))
			effect_learn(&work->pair, peer, part->call.expect,
			    answer->bytes, answer->last_at);
		stats_count_get(work->world->stats, PROTO_GET, 1, part->hits);
	} else {
		effect_send(&work->pair, peer, &work->r, work->bytes,
		    work->message, &answer->last);
		stats_count(work->world->stats, work->r.command,
		    answer->last.result);
	}
	close_part(part, answer);
	peer_told(peer);
}

static void
start_key(struct work *work)
{
	const struct proto_request *r = &work->r;

	work->pair = pairs_find_wire(work->world->pairs,
	    work->bytes + r->key.at, r->key.length, r->base64);
	ask_key(work, 0);
}

/*
 * Commands of the get family
 */

static bool
on_value(struct call *call, const struct proto_reply *value,
    const char *bytes, size_t at)
{
	struct part *part = (struct part *)call;
	const char *message = part->work->bytes;
	struct slot *slot;

	for (slot = part->next; slot != NULL; slot = slot->next) {
		if (slot->key.length != value->key.length ||
		    memcmp(message + slot->key.at, bytes + at + value->key.at,
		    slot->key.length) != 0)
			continue;
		slot->value.at = (uint32_t)at;
		slot->value.length = (uint32_t)value->length;
		part->next = slot->next;
		part->hits++;
		return true;
	}
	return false;
}

static void on_values(struct call *call, const struct answer *answer);

/* The part, not yet told, that asks this peer over this link. */
static struct part *
part_for(struct work *work, struct peer *peer, uint32_t hash,
    unsigned int tries)
{
	unsigned int links = work->world->links;
	struct part *part;

	STAILQ_FOREACH(part, &work->parts, entry)
		if (!part->told && part->peer == peer &&
		    part->hash % links == hash % links)
			return part;
	part = part_new(work);
	if (part == NULL)
		return NULL;
	part->peer = peer;
	part->hash = hash;
	part->tries = tries;
	part->call.done = on_values;
	part->call.element = on_value;
	return part;
}

/* Put a key into the part for its authority. */
static void
route(struct work *work, struct slot *slot, unsigned int tries)
{
	struct pair pair = pairs_find(work->world->pairs,
	    work->bytes + slot->key.at, slot->key.length);
	struct peer *peer = pair_authority(&pair);
	struct part *part = NULL;

	if (peer != NULL && tries < TRIES_MAX)
		part = part_for(work, peer, pair.hash, tries);
	slot->part = part;
	slot->next = NULL;
	slot->value.length = 0;
	if (part == NULL) {
		work->unserved = true;
		work->world->stats->no_server_errors++;
		stats_count_get(work->world->stats, work->r.command, 1, 0);
		return;
	}
	if (part->first == NULL)
		part->first = part->next = slot;
	else
		part->last->next = slot;
	part->last = slot;
	part->keys++;
}

static void
tell_part(struct part *part)
{
	static char line[32 + ROUND_MAX * (1 + PROTO_KEY_MAX) + 2];
	struct work *work = part->work;
	const struct proto_request *r = &work->r;
	const struct slot *slot;
	char *to = line + command_get(line, r);

	for (slot = part->first; slot != NULL; slot = slot->next) {
		*to++ = ' ';
		to = mempcpy(to, work->bytes + slot->key.at, slot->key.length);
	}
	to = mempcpy(to, "\r\n", 2);
	part->told = true;
	part->call.expect =
	    r->command == PROTO_GETS || r->command == PROTO_GATS ?
	    PROTO_EXPECT_VALUES_CAS : PROTO_EXPECT_VALUES;
	work->open++;
	peer_tell(part->peer, part->hash, &part->call,
	    line, (size_t)(to - line), NULL, 0, NULL);
}

static void
tell_parts(struct work *work)
{
	struct part *part;

	STAILQ_FOREACH(part, &work->parts, entry)
		if (!part->told)
			tell_part(part);
}

/* The server has failed: ask again who is the authority now. */
static void
reroute(struct work *work, struct part *failed)
{
	struct slot *slot, *next;

	for (slot = failed->first; slot != NULL; slot = next) {
		next = slot->next;
		route(work, slot, failed->tries + 1);
	}
	failed->first = NULL;
	tell_parts(work);
}

/* The hits of a gat, gats are touched on their mirrors. */
static void
send_touches(struct work *work, const struct part *part)
{
	static const struct proto_reply hit = { .result = PROTO_VALUE };
	struct proto_request r = work->r;
	const struct slot *slot;
	struct pair pair;

	for (slot = part->first; slot != NULL; slot = slot->next) {
		if (slot->value.length == 0)
			continue;
		pair = pairs_find(work->world->pairs,
		    work->bytes + slot->key.at, slot->key.length);
		r.key = slot->key;
		effect_send(&pair, part->peer, &r, work->bytes,
		    work->message, &hit);
	}
}

/* What clients read helps a server that knows nothing yet. */
static void
teach(struct work *work, const struct part *part, const struct answer *answer)
{
	const struct slot *slot;
	struct pair pair;

	for (slot = part->first; slot != NULL; slot = slot->next) {
		if (slot->value.length == 0)
			continue;
		pair = pairs_find(work->world->pairs,
		    work->bytes + slot->key.at, slot->key.length);
		effect_learn(&pair, part->peer, part->call.expect,
		    answer->bytes + slot->value.at, slot->value.length);
	}
}

static void
lose_touches(struct work *work, const struct part *part)
{
	struct proto_request r = work->r;
	const struct slot *slot;

	for (slot = part->first; slot != NULL; slot = slot->next) {
		r.key = slot->key;
		effect_lost(part->peer, &r, work->bytes);
	}
}

static void
on_values(struct call *call, const struct answer *answer)
{
	struct part *part = (struct part *)call;
	struct work *work = part->work;
	struct peer *peer = part->peer;
	bool touches = work->r.command == PROTO_GAT ||
	    work->r.command == PROTO_GATS;

	if (answer == NULL) {
		if (touches)
			lose_touches(work, part);
		reroute(work, part);
	} else {
		if (touches)
			send_touches(work, part);
		if (pairs_are_lazy(work->world->pairs))
			teach(work, part, answer);
		stats_count_get(work->world->stats, work->r.command,
		    part->keys, part->hits);
	}
	close_part(part, answer);
	peer_told(peer);
}

/* Ask for the next keys, as many as fit in a round. */
static bool
start_round(struct work *work)
{
	size_t end = work->r.keys.at + work->r.keys.length;
	unsigned int n = work->keys_left;
	unsigned int i;

	if (n > work->round)
		n = work->round;
	free_parts(work);
	block_release(work->slot_block);
	work->slot_block = NULL;
	work->slots = &work->one;
	if (n > 1) {
		work->slot_block = block_new(n * sizeof(struct slot));
		if (work->slot_block == NULL)
			return false;
		work->slots = (struct slot *)(void *)work->slot_block->bytes;
	}
	work->slot_count = n;
	work->keys_left -= n;
	for (i = 0; i < n; i++) {
		proto_token(work->bytes, end, &work->key_at,
		    &work->slots[i].key);
		route(work, &work->slots[i], 0);
	}
	tell_parts(work);
	work->state = work->open == 0 ? WORK_READY : WORK_WAITING;
	return true;
}

/*
 * Writing
 */

/* n bytes of the reply to part. */
static void
put(struct work *work, struct conn *conn, const struct part *part, size_t at,
    size_t n)
{
	const struct answer *live = work->live;
	struct block *block;
	size_t offset;

	if (live == NULL || part != work->live_part) {
		conn_write_block(conn, part->reply,
		    part->reply->bytes + part->offset + at, n);
		return;
	}
	block = n < BLOCK_SMALL ? NULL :
	    answer_keep(live, live->bytes + at, n, &offset);
	if (block == NULL) {
		conn_write(conn, live->bytes + at, n);
		return;
	}
	conn_write_block(conn, block, block->bytes + offset, n);
	block_release(block);
}

/* n bytes of the reply to part at offset at, with the cas token in them, if
   there is one, tagged. */
static void
put_tagged(struct work *work, struct conn *conn, const struct part *part,
    size_t at, size_t n, struct proto_span cas)
{
	const char *bytes;
	char token[24];
	size_t length;

	if (!pairs_are_mirrored(work->world->pairs) || cas.length == 0) {
		put(work, conn, part, at, n);
		return;
	}
	bytes = work->live != NULL && part == work->live_part ?
	    work->live->bytes : part->reply->bytes + part->offset;
	length = command_tag(token, bytes + at + cas.at, cas.length,
	    part->tag);
	put(work, conn, part, at, cas.at);
	conn_write(conn, token, length);
	put(work, conn, part, at + cas.at + cas.length,
	    n - cas.at - cas.length);
}

/* A reply to ma with the number, which only we have asked for, left out. */
static void
put_without_number(struct work *work, struct conn *conn,
    const struct part *part)
{
	const struct proto_span *meta = &part->end.meta;
	struct proto_span cas = part->end.cas;

	conn_write(conn, "HD", 2);
	if (meta->length > 0) {
		conn_write(conn, " ", 1);
		if (cas.length > 0)
			cas.at -= meta->at;
		put_tagged(work, conn, part, part->end_at + meta->at,
		    meta->length, cas);
	}
	conn_write(conn, "\r\n", 2);
}

/* Whether the client wants to hear this reply. */
static bool
is_silent(const struct work *work, enum proto_result result)
{
	if (!work->r.quiet)
		return work->r.noreply;
	if (work->r.command == PROTO_MG)
		return result == PROTO_META_EN;
	return result == PROTO_META_HD || result == PROTO_META_VALUE;
}

static void
write_reply(struct work *work, struct conn *conn)
{
	const struct part *part = STAILQ_FIRST(&work->parts);
	size_t length = work->live != NULL ? work->live->length : part->length;

	if (is_silent(work, part->end.result))
		return;
	if (part->end.result == PROTO_META_VALUE &&
	    work->r.command == PROTO_MA && !work->r.has_value)
		put_without_number(work, conn, part);
	else
		put_tagged(work, conn, part, 0, length, part->end.cas);
}

/* One VALUE. */
static void
write_value(struct work *work, struct conn *conn, const struct slot *slot)
{
	const struct part *part = slot->part;
	struct proto_reply value = { .cas = { 0, 0 } };
	const char *bytes;

	if ((work->r.command == PROTO_GETS || work->r.command == PROTO_GATS) &&
	    pairs_are_mirrored(work->world->pairs)) {
		bytes = work->live != NULL && part == work->live_part ?
		    work->live->bytes : part->reply->bytes + part->offset;
		proto_reply(bytes + slot->value.at, slot->value.length,
		    PROTO_EXPECT_VALUES_CAS, slot->value.length, &value);
	}
	put_tagged(work, conn, part, slot->value.at, slot->value.length,
	    value.cas);
}

/* Whether the one reply there is can be passed on as it came. */
static bool
is_plain(const struct work *work)
{
	const struct part *part = STAILQ_FIRST(&work->parts);

	return part != NULL && STAILQ_NEXT(part, entry) == NULL &&
	    part->keys == work->slot_count && !work->begun &&
	    work->keys_left == 0 && (part->hits == 0 ||
	    work->r.command == PROTO_GET || work->r.command == PROTO_GAT ||
	    !pairs_are_mirrored(work->world->pairs)) &&
	    (work->live != NULL || part->reply != NULL);
}

static void
write_values(struct work *work, struct conn *conn)
{
	const struct part *part = STAILQ_FIRST(&work->parts);
	size_t bytes = 0;
	unsigned int i;

	if (is_plain(work)) {
		put(work, conn, part, 0, work->live != NULL ?
		    work->live->length : part->length);
		return;
	}
	for (i = 0; i < work->slot_count; i++) {
		if (work->slots[i].value.length > 0)
			write_value(work, conn, &work->slots[i]);
		bytes += work->slots[i].value.length;
	}
	work->begun = true;
	if (bytes < ROUND_BYTES && work->round <= ROUND_MAX / 2)
		work->round *= 2;
	if (work->keys_left > 0)
		return;
	if (work->unserved && work->world->error_on_down)
		conn_write(conn, no_server, sizeof(no_server) - 1);
	else
		conn_write(conn, "END\r\n", 5);
}

bool
request_write(struct request *request, struct conn *conn)
{
	struct work *work = work_of(request);

	assert(work->state == WORK_READY);
	work->state = WORK_WRITTEN;
	if (work->text != NULL) {
		if (!work->r.noreply)
			conn_write(conn, work->text, work->text_length);
		return true;
	}
	if (work->r.too_large) {
		if (work->r.noreply)
			return true;
		conn_write(conn, work->r.error, strlen(work->r.error));
		conn_write(conn, "\r\n", 2);
		return true;
	}
	if (!has_rounds(&work->r)) {
		write_reply(work, conn);
		return true;
	}
	write_values(work, conn);
	return work->keys_left == 0;
}

/*
 * Life
 */

struct request *
request_start(struct request_world *world, void *owner, struct conn *conn,
    const struct proto_request *r, const char *bytes)
{
	struct work *work = work_new(world, owner);
	bool started = true;

	assert(!gate_is_closed(pairs_gate(world->pairs)));
	if (work == NULL)
		return NULL;
	if (!keep_message(work, conn, r, bytes)) {
		recycle(work);
		return NULL;
	}
	work->request.cost = r->length;
	if (has_rounds(r)) {
		work->keys_left = r->key_count;
		work->key_at = r->keys.at;
		work->round = ROUND_FIRST;
		started = start_round(work);
	} else {
		start_key(work);
		work->state = work->open == 0 ? WORK_READY : WORK_WAITING;
	}
	if (started)
		return &work->request;
	recycle(work);
	return NULL;
}

struct request *
request_new(struct request_world *world, void *owner)
{
	struct work *work = work_new(world, owner);

	if (work == NULL)
		return NULL;
	memset(&work->r, 0, sizeof(work->r));
	work->open = 1;
	return &work->request;
}

void
request_silence(struct request *request, bool silent)
{
	work_of(request)->r.noreply = silent;
}

void
request_finish(struct request *request, const char *bytes, size_t n)
{
	struct work *work = work_of(request);

	work->open = 0;
	work->text_block = block_copy(bytes, n);
	if (work->text_block != NULL) {
		work->text = work->text_block->bytes;
		work->text_length = n;
	} else {
		set_text(work, "SERVER_ERROR out of memory\r\n");
	}
	become_ready(work, NULL, NULL);
}

bool
request_ready(const struct request *request)
{
	return ((const struct work *)request)->state == WORK_READY;
}

void
request_continue(struct request *request)
{
	struct work *work = work_of(request);

	assert(work->state == WORK_WRITTEN && work->keys_left > 0);
	if (start_round(work))
		return;
	work->keys_left = 0;
	set_text(work, "SERVER_ERROR out of memory\r\n");
	work->state = WORK_READY;
}

bool
request_is_paused(const struct request *request)
{
	const struct work *work = (const struct work *)request;

	return work->state == WORK_WRITTEN && work->keys_left > 0;
}

bool
request_is_told(const struct request *request)
{
	return ((const struct work *)request)->keys_left == 0;
}

void
request_free(struct request *request)
{
	struct work *work = work_of(request);

	if (work->open > 0) {
		request->owner = NULL;
		work->keys_left = 0;
	} else if (work->telling) {
		work->over = true;
	} else {
		recycle(work);
	}
}
