/*
 * Gets of many keys.
 *
 * Invariant: a key of the round is in the slots of one part, or nobody can be
 * asked for it; values are written in the order of the slots, which is that of
 * the keys.
 *
 *   multiget_start: keys -> slots -> a part per server and link
 *        ^                                |
 *        +---- request_continue ----- multiget_write: VALUEs, then END
 */

#include "client/multiget.h"

#include <assert.h>
#include <string.h>

#include "block.h"
#include "client/budget.h"
#include "client/stats.h"
#include "client/work.h"
#include "conn.h"
#include "mirror/command.h"
#include "mirror/effect.h"

enum {
	ROUND_FIRST = BLOCK_SMALL / sizeof(struct slot), /* keys */
	ROUND_MAX = 1000,                                /* as many later ... */
	ROUND_BYTES = 256 << 10, /* ... if no more bytes came of the last */
};

static bool
on_value(struct call *call, const struct proto_reply *value, const char *bytes,
    size_t at)
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
	unsigned int link = links > 1 ? hash % links : 0;
	struct part *part;

	STAILQ_FOREACH(part, &work->parts, entry)
	if (!part->told && part->peer == peer && part->link == link)
		return part;
	part = work_add_part(work);
	if (part == NULL)
		return NULL;
	part->peer = peer;
	part->link = link;
	part->tries = tries;
	part->call.done = on_values;
	part->call.element = on_value;
	return part;
}

static struct pair
pair_of(const struct work *work, const struct slot *slot)
{
	return pairs_find(work->world->pairs, work->bytes + slot->key.at,
	    slot->key.length);
}

/* A key cannot be asked for. */
static void
leave_out(struct work *work, const char *why)
{
	struct stats *stats = work->world->stats;

	stats_count_get(stats, work->r.command, 1, 0);
	if (why == work_no_server)
		stats->no_server_errors++;
	else if (work->lack != why)
		stats->memory_errors++; /* one for the command */
	if (why == work_no_memory || work->world->error_on_down)
		work->lack = why;
}

/* Put a key into the part for its authority. */
static void
route(struct work *work, struct slot *slot, const struct pair *pair,
    unsigned int tries)
{
	struct peer *peer = pair_authority(pair);
	bool served = peer != NULL && tries < WORK_TRIES_MAX;
	struct part *part = NULL;

	if (served)
		part = part_for(work, peer, pair->hash, tries);
	slot->part = part;
	slot->next = NULL;
	slot->value.length = 0;
	if (part == NULL) {
		leave_out(work, served ? work_no_memory : work_no_server);
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

	assert(!part->told && part->keys > 0 && part->keys <= ROUND_MAX);
	for (slot = part->first; slot != NULL; slot = slot->next) {
		*to++ = ' ';
		to = mempcpy(to, work->bytes + slot->key.at, slot->key.length);
	}
	to = mempcpy(to, "\r\n", 2);
	assert(to <= line + sizeof(line));
	part->told = true;
	part->call.expect = r->command == PROTO_GETS ||
		r->command == PROTO_GATS ?
	    PROTO_EXPECT_VALUES_CAS :
	    PROTO_EXPECT_VALUES;
	work_open_part(part);
	peer_tell(part->peer, part->link, &part->call, line,
	    (size_t)(to - line), NULL, 0, NULL);
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
	struct pair pair;

	for (slot = failed->first; slot != NULL; slot = next) {
		next = slot->next;
		pair = pair_of(work, slot);
		route(work, slot, &pair, failed->tries + 1);
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
		pair = pair_of(work, slot);
		r.key = slot->key;
		effect_send(&pair, part->peer, &r, work->bytes, work->message,
		    &hit);
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
		pair = pair_of(work, slot);
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

	assert(part->told && work->open > 0 && part->hits <= part->keys);
	if (answer == NULL) {
		if (touches)
			lose_touches(work, part);
		reroute(work, part);
	} else {
		if (touches)
			send_touches(work, part);
		if (pairs_are_lazy(work->world->pairs))
			teach(work, part, answer);
		stats_count_get(work->world->stats, work->r.command, part->keys,
		    part->hits);
	}
	work_close_part(part, answer);
	peer_told(peer);
}

/* Take the next n keys, at most PAIRS_BATCH, to slots[] and route them. */
static void
take_keys(struct work *work, struct slot *slots, unsigned int n)
{
	size_t end = work->r.keys.at + work->r.keys.length;
	const char *keys[PAIRS_BATCH];
	size_t lengths[PAIRS_BATCH];
	struct pair pairs[PAIRS_BATCH];
	unsigned int i;

	assert(n > 0 && n <= PAIRS_BATCH);
	for (i = 0; i < n; i++) {
		proto_token(work->bytes, end, &work->key_at, &slots[i].key);
		keys[i] = work->bytes + slots[i].key.at;
		lengths[i] = slots[i].key.length;
	}
	pairs_find_all(work->world->pairs, keys, lengths, n, pairs);
	for (i = 0; i < n; i++)
		route(work, &slots[i], &pairs[i], 0);
}

/* How many keys the next round has. */
static unsigned int
next_round(struct work *work)
{
	unsigned int n = work->keys_left;

	if (work->round == 0)
		work->round = ROUND_FIRST;
	return budget_round(work->world->budget,
	    n < work->round ? n : work->round);
}

bool
multiget_start(struct work *work)
{
	unsigned int n = next_round(work);
	unsigned int i;

	assert(work->open == 0 && n > 0 && work->slot_block == NULL);
	work->slots = &work->one;
	if (n > 1) {
		work->slot_block = block_new(n * sizeof(struct slot));
		if (work->slot_block == NULL)
			return false;
		work->slots = (struct slot *)(void *)work->slot_block->bytes;
	}
	work->slot_count = n;
	work->keys_left -= n;
	for (i = 0; i < n; i += PAIRS_BATCH)
		take_keys(work, &work->slots[i],
		    n - i < PAIRS_BATCH ? n - i : PAIRS_BATCH);
	tell_parts(work);
	work->state = work->open == 0 ? WORK_READY : WORK_WAITING;
	return true;
}

/* One VALUE. */
static void
write_value(struct work *work, struct conn *conn, const struct slot *slot)
{
	const struct part *part = slot->part;
	struct proto_reply value = { .cas = { 0, 0 } };
	const char *bytes;
	size_t length;

	assert(part != NULL && slot->value.length > 0);
	if ((work->r.command == PROTO_GETS || work->r.command == PROTO_GATS) &&
	    pairs_are_mirrored(work->world->pairs)) {
		bytes = work_reply(work, part, &length);
		proto_reply(bytes + slot->value.at, slot->value.length,
		    PROTO_EXPECT_VALUES_CAS, slot->value.length, &value);
	}
	work_put_tagged(work, conn, part, slot->value.at, slot->value.length,
	    value.cas);
}

/* Whether the one reply there is can be passed on as it came. */
static bool
is_plain(const struct work *work)
{
	const struct part *part = STAILQ_FIRST(&work->parts);

	return part != NULL && STAILQ_NEXT(part, entry) == NULL &&
	    part->keys == work->slot_count && !work->begun &&
	    work->keys_left == 0 &&
	    (part->hits == 0 || work->r.command == PROTO_GET ||
		work->r.command == PROTO_GAT ||
		!pairs_are_mirrored(work->world->pairs)) &&
	    (work->live != NULL || part->reply != NULL);
}

/* What it held is not needed any more; the next round may have to wait. */
static void
end_round(struct work *work)
{
	work->begun = true;
	work_free_parts(work);
	block_release(work->slot_block);
	work->slot_block = NULL;
}

void
multiget_write(struct work *work, struct conn *conn)
{
	const struct part *part = STAILQ_FIRST(&work->parts);
	size_t bytes = 0;
	unsigned int i;

	if (is_plain(work)) {
		work_reply(work, part, &bytes);
		work_put(work, conn, part, 0, bytes);
		return;
	}
	for (i = 0; i < work->slot_count; i++) {
		if (work->slots[i].value.length > 0)
			write_value(work, conn, &work->slots[i]);
		bytes += work->slots[i].value.length;
	}
	end_round(work);
	if (bytes < ROUND_BYTES && work->round <= ROUND_MAX / 2)
		work->round *= 2;
	if (work->keys_left > 0)
		return;
	if (work->lack != NULL)
		conn_write(conn, work->lack, strlen(work->lack));
	else
		conn_write(conn, "END\r\n", 5);
}
