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
#include "client/exec.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "mirror/command.h"
#include "mirror/effect.h"

enum {
	ROUND_FIRST = BLOCK_SMALL / sizeof(struct get_key), /* keys */
	ROUND_MAX = 1000,        /* as many later ... */
	ROUND_BYTES = 256 << 10, /* ... if no more bytes came of the last */
};

static bool
on_value(struct call *call, const struct proto_reply *value, const char *bytes,
    size_t at)
{
	struct subrequest *sub = CONTAINER_OF(call, struct subrequest, call);
	const char *message = sub->exec->bytes;
	struct get_key *key;

	for (key = sub->next; key != NULL; key = key->next) {
		if (key->key.length != value->key.length ||
		    memcmp(message + key->key.at, bytes + at + value->key.at,
			key->key.length) != 0)
			continue;
		key->value.at = (uint32_t)at;
		key->value.length = (uint32_t)value->length;
		sub->next = key->next;
		sub->hits++;
		return true;
	}
	return false;
}

static void on_values(struct call *call, const struct answer *answer);

/* The part, not yet told, that asks this peer over this link. */
static struct subrequest *
subrequest_for(struct exec *exec, struct peer *peer, uint32_t hash,
    unsigned int tries)
{
	unsigned int links = exec->env->links;
	unsigned int link = links > 1 ? hash % links : 0;
	struct subrequest *sub;

	STAILQ_FOREACH(sub, &exec->subrequests, entry)
	if (!sub->sent && sub->peer == peer && sub->link == link)
		return sub;
	sub = exec_add_subrequest(exec);
	if (sub == NULL)
		return NULL;
	sub->peer = peer;
	sub->link = link;
	sub->tries = tries;
	sub->call.done = on_values;
	sub->call.element = on_value;
	return sub;
}

static struct pair
pair_of_key(const struct exec *exec, const struct get_key *key)
{
	return pairs_find(exec->env->pairs, exec->bytes + key->key.at,
	    key->key.length);
}

/* A key cannot be asked for. */
static void
leave_key_out(struct exec *exec, const char *why)
{
	struct stats *stats = exec->env->stats;

	stats_count_get(stats, exec->r.command, 1, 0);
	if (why == exec_no_server)
		stats->no_server_errors++;
	else if (exec->error_line != why)
		stats->memory_errors++; /* one for the command */
	if (why == exec_no_memory || exec->env->error_on_down)
		exec->error_line = why;
}

/* Put a key into the part for its authority. */
static void
route(struct exec *exec, struct get_key *key, const struct pair *pair,
    unsigned int tries)
{
	struct peer *peer = pair_authority(pair);
	bool served = peer != NULL && tries < EXEC_TRIES_MAX;
	struct subrequest *sub = NULL;

	if (served)
		sub = subrequest_for(exec, peer, pair->hash, tries);
	key->sub = sub;
	key->next = NULL;
	key->value.length = 0;
	if (sub == NULL) {
		leave_key_out(exec, served ? exec_no_memory : exec_no_server);
		return;
	}
	if (sub->first == NULL)
		sub->first = sub->next = key;
	else
		sub->last->next = key;
	sub->last = key;
	sub->keys++;
}

static void
submit_subrequest(struct subrequest *sub)
{
	static char line[32 + ROUND_MAX * (1 + PROTO_KEY_MAX) + 2];
	struct exec *exec = sub->exec;
	const struct proto_request *r = &exec->r;
	const struct get_key *key;
	char *to = line + command_get(line, r);

	assert(!sub->sent && sub->keys > 0 && sub->keys <= ROUND_MAX);
	for (key = sub->first; key != NULL; key = key->next) {
		*to++ = ' ';
		to = mempcpy(to, exec->bytes + key->key.at, key->key.length);
	}
	to = mempcpy(to, "\r\n", 2);
	assert(to <= line + sizeof(line));
	sub->sent = true;
	sub->call.expect = r->command == PROTO_GETS ||
		r->command == PROTO_GATS ?
	    PROTO_EXPECT_VALUES_CAS :
	    PROTO_EXPECT_VALUES;
	exec_open_subrequest(sub);
	peer_submit(sub->peer, sub->link, &sub->call, line, (size_t)(to - line),
	    NULL, 0, NULL);
}

static void
submit_subrequests(struct exec *exec)
{
	struct subrequest *sub;

	STAILQ_FOREACH(sub, &exec->subrequests, entry)
	if (!sub->sent)
		submit_subrequest(sub);
}

/* The server has failed: ask again who is the authority now. */
static void
reroute(struct exec *exec, struct subrequest *failed)
{
	struct get_key *key, *next;
	struct pair pair;

	for (key = failed->first; key != NULL; key = next) {
		next = key->next;
		pair = pair_of_key(exec, key);
		route(exec, key, &pair, failed->tries + 1);
	}
	failed->first = NULL;
	submit_subrequests(exec);
}

/* The hits of a gat, gats are touched on their mirrors. */
static void
send_touches(struct exec *exec, const struct subrequest *sub)
{
	static const struct proto_reply hit = { .result = PROTO_VALUE };
	struct proto_request r = exec->r;
	const struct get_key *key;
	struct pair pair;

	for (key = sub->first; key != NULL; key = key->next) {
		if (key->value.length == 0)
			continue;
		pair = pair_of_key(exec, key);
		r.key = key->key;
		effect_send(&pair, sub->peer, &r, exec->bytes, exec->message,
		    &hit);
	}
}

/* What clients read helps a server that knows nothing yet. */
static void
warm_partners(struct exec *exec, const struct subrequest *sub,
    const struct answer *answer)
{
	const struct get_key *key;
	struct pair pair;

	for (key = sub->first; key != NULL; key = key->next) {
		if (key->value.length == 0)
			continue;
		pair = pair_of_key(exec, key);
		effect_warm(&pair, sub->peer, sub->call.expect,
		    answer->bytes + key->value.at, key->value.length);
	}
}

static void
lose_touches(struct exec *exec, const struct subrequest *sub)
{
	struct proto_request r = exec->r;
	const struct get_key *key;

	for (key = sub->first; key != NULL; key = key->next) {
		r.key = key->key;
		effect_lost(sub->peer, &r, exec->bytes);
	}
}

static void
on_values(struct call *call, const struct answer *answer)
{
	struct subrequest *sub = CONTAINER_OF(call, struct subrequest, call);
	struct exec *exec = sub->exec;
	struct peer *peer = sub->peer;
	bool touches = exec->r.command == PROTO_GAT ||
	    exec->r.command == PROTO_GATS;

	assert(sub->sent && exec->owed > 0 && sub->hits <= sub->keys);
	if (answer == NULL) {
		if (touches)
			lose_touches(exec, sub);
		reroute(exec, sub);
	} else {
		if (touches)
			send_touches(exec, sub);
		if (pairs_are_warming(exec->env->pairs))
			warm_partners(exec, sub, answer);
		stats_count_get(exec->env->stats, exec->r.command, sub->keys,
		    sub->hits);
	}
	exec_close_subrequest(sub, answer);
	peer_finish(peer);
}

/* Take the next n keys, at most PAIRS_BATCH, to slots[] and route them. */
static void
route_keys(struct exec *exec, struct get_key *get_keys, unsigned int n)
{
	size_t end = exec->r.keys.at + exec->r.keys.length;
	const char *keys[PAIRS_BATCH];
	size_t lengths[PAIRS_BATCH];
	struct pair pairs[PAIRS_BATCH];
	unsigned int i;

	assert(n > 0 && n <= PAIRS_BATCH);
	for (i = 0; i < n; i++) {
		proto_token(exec->bytes, end, &exec->key_at, &get_keys[i].key);
		keys[i] = exec->bytes + get_keys[i].key.at;
		lengths[i] = get_keys[i].key.length;
	}
	pairs_find_all(exec->env->pairs, keys, lengths, n, pairs);
	for (i = 0; i < n; i++)
		route(exec, &get_keys[i], &pairs[i], 0);
}

/* How many keys the next round has. */
static unsigned int
next_round(struct exec *exec)
{
	unsigned int n = exec->keys_left;

	if (exec->round == 0)
		exec->round = ROUND_FIRST;
	return budget_round(exec->env->budget,
	    n < exec->round ? n : exec->round);
}

bool
multiget_start(struct exec *exec)
{
	unsigned int n = next_round(exec);
	unsigned int i;

	assert(exec->owed == 0 && n > 0 && exec->get_keys_block == NULL);
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
	for (i = 0; i < n; i += PAIRS_BATCH)
		route_keys(exec, &exec->get_keys[i],
		    n - i < PAIRS_BATCH ? n - i : PAIRS_BATCH);
	submit_subrequests(exec);
	exec->state = exec->owed == 0 ? EXEC_READY : EXEC_WAITING;
	return true;
}

/* One VALUE. */
static void
write_value(struct exec *exec, struct conn *conn, const struct get_key *key)
{
	const struct subrequest *sub = key->sub;
	struct proto_reply value = { .cas = { 0, 0 } };
	const char *bytes;
	size_t length;

	assert(sub != NULL && key->value.length > 0);
	if ((exec->r.command == PROTO_GETS || exec->r.command == PROTO_GATS) &&
	    pairs_are_mirrored(exec->env->pairs)) {
		bytes = exec_reply(exec, sub, &length);
		proto_reply(bytes + key->value.at, key->value.length,
		    PROTO_EXPECT_VALUES_CAS, key->value.length, &value);
	}
	exec_put_tagged(exec, conn, sub, key->value.at, key->value.length,
	    value.cas);
}

/* Whether the one reply there is can be passed on as it came. */
static bool
is_whole_reply(const struct exec *exec)
{
	const struct subrequest *sub = STAILQ_FIRST(&exec->subrequests);

	return sub != NULL && STAILQ_NEXT(sub, entry) == NULL &&
	    sub->keys == exec->get_key_count && !exec->round_is_written &&
	    exec->keys_left == 0 &&
	    (sub->hits == 0 || exec->r.command == PROTO_GET ||
		exec->r.command == PROTO_GAT ||
		!pairs_are_mirrored(exec->env->pairs)) &&
	    (exec->in_place != NULL || sub->reply != NULL);
}

/* What it held is not needed any more; the next round may have to wait. */
static void
end_round(struct exec *exec)
{
	exec->round_is_written = true;
	exec_free_subrequests(exec);
	block_release(exec->get_keys_block);
	exec->get_keys_block = NULL;
}

void
multiget_write(struct exec *exec, struct conn *conn)
{
	const struct subrequest *sub = STAILQ_FIRST(&exec->subrequests);
	size_t bytes = 0;
	unsigned int i;

	if (is_whole_reply(exec)) {
		exec_reply(exec, sub, &bytes);
		exec_put(exec, conn, sub, 0, bytes);
		return;
	}
	for (i = 0; i < exec->get_key_count; i++) {
		if (exec->get_keys[i].value.length > 0)
			write_value(exec, conn, &exec->get_keys[i]);
		bytes += exec->get_keys[i].value.length;
	}
	end_round(exec);
	if (bytes < ROUND_BYTES && exec->round <= ROUND_MAX / 2)
		exec->round *= 2;
	if (exec->keys_left > 0)
		return;
	if (exec->error_line != NULL)
		conn_write(conn, exec->error_line, strlen(exec->error_line));
	else
		conn_write(conn, "END\r\n", 5);
}
