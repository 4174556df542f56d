/*
 * Carry out gets of many keys.
 *
 * Invariant: each key of the round is in the list of one subrequest, or no
 * server can be asked for it.  VALUEs are written in the order of get_keys[],
 * which is that of the command.
 *
 *   multiget_start(): keys -> get_keys[] -> a subrequest per server and link
 *        ^                                       |
 *        |                                       v
 *        '--- request_continue() <--- multiget_write(): VALUEs; END at the end
 */

#include "client/multiget.h"

#include <assert.h>
#include <string.h>

#include "block.h"
#include "client/budget.h"
#include "client/exec.h"
#include "client/hotkeys.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "mirror/command.h"
#include "mirror/effect.h"
#include "mirror/gate.h"
#include "mirror/suspect.h"

enum {
	/* Keys of the first round: as many as a block of the pool has room for.
	   Each round may have twice as many as the last one had. */
	ROUND_FIRST = BLOCK_SMALL / sizeof(struct get_key),
	/* No round has more keys than this. */
	ROUND_MAX = 250,
	/* Rounds do not grow after one that brought this number of bytes. */
	ROUND_BYTES = 256 << 10,
};

static_assert(ROUND_FIRST <= ROUND_MAX, "the first round is not too large");
static_assert(offsetof(struct block, bytes) % _Alignof(struct get_key) == 0,
    "get_keys may be in a block");

/* A VALUE has come: note where it is.  Returns false if no key that may come
   next was asked for by this name; then the server talks nonsense. */
static bool
on_value(struct call *call, const struct proto_reply *value, const char *bytes,
    size_t at)
{
	struct subrequest *sub = CONTAINER_OF(call, struct subrequest, call);
	const char *message = sub->exec->bytes;
	struct get_key *key;

	assert(sub->is_sent && sub->hits <= sub->key_count);
	for (key = sub->next_key; key != NULL; key = key->next) {
		if (key->name.length != value->key.length ||
		    memcmp(message + key->name.at, bytes + at + value->key.at,
			key->name.length) != 0)
			continue;
		sub->next_key = key->next;
		sub->dropped += value->result != PROTO_VALUE;
		if (value->result == PROTO_LARGE_VALUE) {
			sub->exec->error_line = exec_too_large;
			return true;
		}
		if (value->result == PROTO_LATER_VALUE) {
			key->value.length = EXEC_LATER;
			sub->exec->round_is_cut = true;
			return true;
		}
		key->value.at = (uint32_t)at;
		key->value.length = (uint32_t)value->length;
		sub->hits++;
		return true;
	}
	return false;
}

/* Whether a VALUE is to be kept that begins to arrive.  The first one of a
   reply is, so that each round brings the value of its first key. */
static bool
keeps_value(struct call *call, size_t at, size_t n)
{
	const struct subrequest *sub = CONTAINER_OF(call, struct subrequest,
	    call);

	return at == 0 || budget_keeps(sub->exec->env->budget, at, n);
}

static void on_values(struct call *call, const struct answer *answer);

/* Whether the command of sub, which was not submitted yet, may have one key
   more.  Long lines are taken by memcached for get and gets alone: for others
   it closes the connection. */
static bool
has_room(const struct subrequest *sub, size_t key_length)
{
	const struct proto_request *r = &sub->exec->r;

	return r->command == PROTO_GET || r->command == PROTO_GETS ||
	    sub->line_length + 1 + key_length <= COMMAND_LINE_MAX;
}

/* Make a subrequest.  Returns NULL when out of memory. */
static __attribute__((noinline)) struct subrequest *
add_subrequest(struct exec *exec, struct peer *peer, unsigned int link,
    unsigned int tries)
{
	char line[COMMAND_GET_MAX];
	struct subrequest *sub = exec_add_subrequest(exec);

	if (sub == NULL)
		return NULL;
	sub->peer = peer;
	sub->link = link;
	sub->tries = tries;
	sub->line_length = command_get(line, &exec->r) + 2;
	sub->call.done = on_values;
	sub->call.element = on_value;
	sub->call.keeps = keeps_value;
	return sub;
}

/* The subrequest that asks this peer over the link for this hash, was not
   submitted yet and has room for the key: found, or made.  Returns NULL when
   out of memory. */
static inline struct subrequest *
subrequest_for(struct exec *exec, struct peer *peer, uint32_t hash,
    size_t key_length, unsigned int tries)
{
	unsigned int links = exec->env->links;
	unsigned int link = links > 1 ? hash % links : 0;
	struct subrequest *sub;

	STAILQ_FOREACH(sub, &exec->subrequests, entry)
		if (!sub->is_sent && sub->peer == peer && sub->link == link &&
		    has_room(sub, key_length))
			return sub;
	return add_subrequest(exec, peer, link, tries);
}

static struct pair
pair_of_key(const struct exec *exec, const struct get_key *key)
{
	return pairs_find(exec->env->pairs, exec->bytes + key->name.at,
	    key->name.length);
}

/* A key is not asked for, because of why, one of the two texts in exec.h. */
static void
leave_key_out(struct exec *exec, const char *why)
{
	struct stats *stats = exec->env->stats;

	assert(why == exec_no_server || why == exec_no_memory);
	if (why == exec_no_server)
		stats->no_server_errors++;
	else if (exec->error_line != why)
		stats->memory_errors++; /* once per command */
	if (why == exec_no_memory || exec->env->error_on_down)
		exec->error_line = why;
}

/* Whether peer has the command: gat and gats came late. */
static bool
is_able(const struct exec *exec, const struct peer *peer)
{
	return exec->r.command < PROTO_GAT ||
	    abilities_has(&peer->abilities, ABILITY_GAT);
}

/* No server is asked for the key, and the reply says why. */
static void
leave_to_nobody(struct exec *exec, struct get_key *key)
{
	key->sub = NULL;
	key->next = NULL;
	key->value.length = 0;
	exec->error_line = exec_too_old;
}

/* Put a key into the subrequest for its authority, or leave it out.  tries:
   servers that were asked for it and failed. */
static void
route(struct exec *exec, struct get_key *key, const struct pair *pair,
    unsigned int tries)
{
	struct peer *peer = pair_authority(pair);
	bool can_ask = peer != NULL && tries < EXEC_TRIES_MAX;
	struct subrequest *sub = NULL;

	if (can_ask && !is_able(exec, peer)) {
		leave_to_nobody(exec, key);
		return;
	}
	if (can_ask)
		sub = subrequest_for(exec, peer, pair->hash, key->name.length,
		    tries);
	key->sub = sub;
	key->next = NULL;
	key->value.length = 0;
	if (sub == NULL) {
		leave_key_out(exec, can_ask ? exec_no_memory : exec_no_server);
		return;
	}
	assert(sub->tries == tries);
	if (sub->first_key == NULL)
		sub->first_key = sub->next_key = key;
	else
		sub->last_key->next = key;
	sub->last_key = key;
	sub->key_count++;
	sub->line_length += 1 + key->name.length;
}

/* failed: the subrequest for these keys that its server has returned; or
   NULL. */
static void
submit_subrequest(struct subrequest *sub, const struct subrequest *failed)
{
	static char line[COMMAND_GET_MAX + ROUND_MAX * (1 + PROTO_KEY_MAX) + 2];
	struct exec *exec = sub->exec;
	const struct proto_request *r = &exec->r;
	const struct get_key *key;
	char *to = line + command_get(line, r);

	assert(!sub->is_sent && sub->key_count > 0 &&
	    sub->key_count <= ROUND_MAX);
	for (key = sub->first_key; key != NULL; key = key->next) {
		*to++ = ' ';
		to = mempcpy(to, exec->bytes + key->name.at, key->name.length);
	}
	to = mempcpy(to, "\r\n", 2);
	assert((size_t)(to - line) == sub->line_length);
	sub->is_sent = true;
	sub->call.expect = r->command == PROTO_GETS ||
		r->command == PROTO_GATS ?
	    PROTO_EXPECT_VALUES_CAS :
	    PROTO_EXPECT_VALUES;
	exec_open_subrequest(sub);
	if (failed != NULL)
		suspect_begin(failed->peer, sub->peer, failed->call.is_suspect);
	peer_submit(sub->peer, sub->link, &sub->call, line, (size_t)(to - line),
	    NULL, 0, NULL);
}

static void
submit_subrequests(struct exec *exec, const struct subrequest *failed)
{
	struct subrequest *sub;

	STAILQ_FOREACH(sub, &exec->subrequests, entry)
		if (!sub->is_sent)
			submit_subrequest(sub, failed);
}

/* The server has failed: ask the authorities that its keys have now. */
static void
reroute(struct exec *exec, struct subrequest *failed)
{
	struct get_key *key, *next;
	struct pair pair;

	assert(failed->is_sent && failed->tries < EXEC_TRIES_MAX);
	for (key = failed->first_key; key != NULL; key = next) {
		next = key->next;
		pair = pair_of_key(exec, key);
		route(exec, key, &pair, failed->tries + 1);
	}
	/* Its keys are in other lists now; their number is for the budget. */
	failed->first_key = NULL;
	submit_subrequests(exec, failed);
}

/* The hits of a gat or gats are touched on their mirrors, too. */
static void
send_touches(struct exec *exec, const struct subrequest *sub)
{
	static const struct proto_reply hit = { .result = PROTO_VALUE };
	struct proto_request r = exec->r;
	const struct get_key *key;
	struct pair pair;

	for (key = sub->first_key; key != NULL; key = key->next) {
		if (key->value.length == 0)
			continue;
		pair = pair_of_key(exec, key);
		r.key = key->name;
		if (effect_send(&pair, sub->peer, &r, exec->bytes,
			exec->message, &hit) &&
		    peer_is_mirror(sub->peer))
			exec_confirm(exec, &pair, sub->peer, exec_no_server);
	}
}

/* Give the values that have come to partners that are warming.  Those of a gat
   are not, because their new TTL may be a short one. */
static void
warm_partners(struct exec *exec, const struct subrequest *sub,
    const struct answer *answer)
{
	const struct get_key *key;
	struct pair pair;

	for (key = sub->first_key; key != NULL; key = key->next) {
		if (key->value.length == 0 || key->value.length == EXEC_LATER)
			continue;
		pair = pair_of_key(exec, key);
		effect_warm(&pair, sub->peer, sub->call.expect,
		    answer->bytes + key->value.at, key->value.length);
	}
}

/* The server of a gat or gats has failed: which keys it touched is unknown. */
static void
lose_touches(struct exec *exec, const struct subrequest *sub)
{
	struct proto_request r = exec->r;
	const struct get_key *key;
	struct pair pair;
	bool is_doubtful;

	for (key = sub->first_key; key != NULL; key = key->next) {
		pair = pair_of_key(exec, key);
		r.key = key->name;
		is_doubtful = false;
		effect_lost(&pair, sub->peer, &r, exec->bytes, true,
		    &is_doubtful);
	}
}

/* The connection has failed behind some values, and is not asked again. */
static void
refuse_values(struct subrequest *sub)
{
	struct get_key *key;

	for (key = sub->first_key; key != NULL; key = key->next)
		key->value.length = 0;
	sub->hits = 0;
	sub->exec->error_line = suspect_error;
}

static void
on_values(struct call *call, const struct answer *answer)
{
	struct subrequest *sub = CONTAINER_OF(call, struct subrequest, call);
	struct exec *exec = sub->exec;
	bool touches = exec->r.command == PROTO_GAT ||
	    exec->r.command == PROTO_GATS;

	assert(sub->is_sent && exec->owed > 0 && sub->hits <= sub->key_count);
	if (answer == NULL) {
		if (touches && call->was_sent)
			lose_touches(exec, sub);
		reroute(exec, sub);
	} else {
		if (answer->bytes == suspect_error)
			refuse_values(sub);
		if (answer->last.result == PROTO_END)
			peer_count_reads(sub->peer,
			    sub->key_count - sub->dropped, sub->hits);
		if (touches)
			send_touches(exec, sub);
		else if (pairs_are_warming(exec->env->pairs))
			warm_partners(exec, sub, answer);
	}
	exec_close_subrequest(sub, answer);
}

/* Read the next n keys of the command, at most PAIRS_BATCH, into get_keys[] and
   route them. */
static void
route_keys(struct exec *exec, struct get_key *get_keys, unsigned int n)
{
	size_t end = exec->r.keys.at + exec->r.keys.length;
	const char *keys[PAIRS_BATCH];
	size_t lengths[PAIRS_BATCH];
	struct pair pairs[PAIRS_BATCH];
	unsigned int i;
	bool is_there;

	assert(n > 0 && n <= PAIRS_BATCH);
	for (i = 0; i < n; i++) {
		is_there = proto_token(exec->bytes, end, &exec->key_at,
		    &get_keys[i].name);
		assert(is_there && get_keys[i].name.length <= PROTO_KEY_MAX);
		(void)is_there;
		keys[i] = exec->bytes + get_keys[i].name.at;
		lengths[i] = get_keys[i].name.length;
	}
	pairs_find_all(exec->env->pairs, keys, lengths, n, pairs);
	for (i = 0; exec->env->hotkeys != NULL && i < n; i++)
		hotkeys_note(exec->env->hotkeys, pairs[i].hash, keys[i],
		    lengths[i]);
	for (i = 0; i < n; i++)
		route(exec, &get_keys[i], &pairs[i], 0);
}

/* How many keys the next round has: 1 to keys_left. */
static unsigned int
size_round(struct exec *exec)
{
	unsigned int n = exec->keys_left;

	if (exec->round_max == 0)
		exec->round_max = ROUND_FIRST;
	assert(n > 0 && exec->round_max <= ROUND_MAX);
	return budget_round(exec->env->budget,
	    n < exec->round_max ? n : exec->round_max);
}

bool
multiget_may_start(const struct request_env *env, const struct proto_request *r,
    const char *bytes, size_t at)
{
	const struct gate *gate = pairs_gate(env->pairs);
	size_t end = r->keys.at + r->keys.length;
	struct proto_span key;
	struct pair pair;
	int n;

	for (n = 0; n < ROUND_MAX && proto_token(bytes, end, &at, &key); n++) {
		pair = pairs_find(env->pairs, bytes + key.at, key.length);
		if (gate_holds(gate, &pair))
			return false;
	}
	return true;
}

bool
multiget_start(struct exec *exec)
{
	unsigned int n = size_round(exec);
	unsigned int i;

	assert(exec->owed == 0 && n > 0 && n <= exec->keys_left);
	assert(exec->get_keys_block == NULL);
	assert(STAILQ_EMPTY(&exec->subrequests));
	exec->get_keys = &exec->inline_key;
	if (n > 1) {
		exec->get_keys_block = block_new(n * sizeof(struct get_key));
		if (exec->get_keys_block == NULL)
			return false;
		exec->get_keys =
		    (struct get_key *)(void *)exec->get_keys_block->bytes;
	}
	exec->get_key_count = n;
	exec->keys_left -= n;
	exec->round_is_cut = false;
	for (i = 0; i < n; i += PAIRS_BATCH)
		route_keys(exec, &exec->get_keys[i],
		    n - i < PAIRS_BATCH ? n - i : PAIRS_BATCH);
	submit_subrequests(exec, NULL);
	exec->state = exec->owed == 0 ? EXEC_READY : EXEC_WAITING;
	return true;
}

/* Whether the cas tokens of VALUEs get a tag. */
static bool
has_tags(const struct exec *exec)
{
	return (exec->r.command == PROTO_GETS ||
		   exec->r.command == PROTO_GATS) &&
	    pairs_are_mirrored(exec->env->pairs);
}

/* Write the VALUE of one key, its cas token tagged. */
static void
write_tagged(struct exec *exec, struct conn *conn, const struct get_key *key)
{
	const struct subrequest *sub = key->sub;
	struct proto_reply value = { .cas = { 0, 0 } };
	const char *bytes;
	size_t length;

	bytes = exec_reply(exec, sub, &length);
	proto_reply(bytes + key->value.at, key->value.length,
	    PROTO_EXPECT_VALUES_CAS, key->value.length, &value);
	exec_put_tagged(exec, conn, sub, key->value.at, key->value.length,
	    value.cas);
}

/* VALUEs that follow each other in a reply, and are to be written. */
struct stretch {
	const struct subrequest *sub; /* valid unless length is 0 */
	size_t at, length;
};

static void
write_stretch(struct exec *exec, struct conn *conn, struct stretch *stretch)
{
	if (stretch->length > 0)
		exec_put(exec, conn, stretch->sub, stretch->at,
		    stretch->length);
	stretch->length = 0;
}

/* The VALUE of the key is to be written next. */
static void
lengthen(struct exec *exec, struct conn *conn, struct stretch *stretch,
    const struct get_key *key)
{
	if (stretch->sub != key->sub ||
	    stretch->at + stretch->length != key->value.at)
		write_stretch(exec, conn, stretch);
	if (stretch->length == 0) {
		stretch->sub = key->sub;
		stretch->at = key->value.at;
	}
	stretch->length += key->value.length;
}

/* Whether the reply to the only subrequest is the reply to the client, byte for
   byte: it was asked for all keys, and no cas token in it needs a tag. */
static bool
is_whole_reply(const struct exec *exec)
{
	const struct subrequest *sub = STAILQ_FIRST(&exec->subrequests);

	return sub != NULL && STAILQ_NEXT(sub, entry) == NULL &&
	    sub->key_count == exec->get_key_count && !exec->round_is_written &&
	    exec->error_line == NULL && exec->keys_left == 0 &&
	    !exec->round_is_cut &&
	    (sub->hits == 0 || exec->r.command == PROTO_GET ||
		exec->r.command == PROTO_GAT ||
		!pairs_are_mirrored(exec->env->pairs)) &&
	    (exec->in_place != NULL || sub->reply != NULL);
}

/* Free what the round held: the next round may have to wait for memory. */
static void
end_round(struct exec *exec)
{
	assert(exec->owed == 0);
	exec->round_is_written = true;
	exec_free_subrequests(exec);
	block_release(exec->get_keys_block);
	exec->get_keys_block = NULL;
}

/* Values of the round were thrown away: end it ahead of the first one of these,
   and have the keys from there on asked again by smaller rounds.  None is left
   if their server failed after that, and its partner was asked for them. */
static void
cut_round(struct exec *exec)
{
	unsigned int n = 0;

	while (n < exec->get_key_count &&
	    exec->get_keys[n].value.length != EXEC_LATER)
		n++;
	if (n == exec->get_key_count)
		return;
	assert(n > 0);
	exec->keys_left += exec->get_key_count - n;
	exec->key_at = exec->get_keys[n].name.at;
	exec->get_key_count = n;
	exec->round_max = n;
}

void
multiget_write(struct exec *exec, struct conn *conn)
{
	const struct subrequest *sub = STAILQ_FIRST(&exec->subrequests);
	struct stats *stats = exec->env->stats;
	struct stretch stretch = { .length = 0 };
	const struct get_key *key;
	unsigned int i, hits = 0;
	size_t bytes = 0;

	if (is_whole_reply(exec)) {
		stats_count_get(stats, exec->r.command, sub->key_count,
		    sub->hits);
		exec_reply(exec, sub, &bytes);
		exec_put(exec, conn, sub, 0, bytes);
		return;
	}
	if (exec->round_is_cut)
		cut_round(exec);
	for (i = 0; i < exec->get_key_count; i++) {
		key = &exec->get_keys[i];
		if (key->value.length == 0)
			continue;
		assert(key->sub != NULL && key->sub->is_sent);
		if (has_tags(exec))
			write_tagged(exec, conn, key);
		else
			lengthen(exec, conn, &stretch, key);
		bytes += key->value.length;
		hits++;
	}
	write_stretch(exec, conn, &stretch);
	stats_count_get(stats, exec->r.command, exec->get_key_count, hits);
	if (bytes < ROUND_BYTES && exec->round_max <= ROUND_MAX / 2 &&
	    !exec->round_is_cut)
		exec->round_max *= 2;
	end_round(exec);
	if (exec->keys_left > 0)
		return;
	if (exec->error_line != NULL)
		conn_write(conn, exec->error_line, strlen(exec->error_line));
	else
		conn_write(conn, "END\r\n", 5);
}
