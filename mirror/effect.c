/*
 * Make the mirror of a key equal to its authority after a write.
 *
 * Invariant: an effect is in the FIFO of the mirror before the client knows of
 * the write; one that the mirror does not carry out as the authority did ends
 * with the key deleted there, or dirty.
 */

#include "mirror/effect.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container_of.h"
#include "mirror/command.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

/* How long a value lives whose TTL is not known. */
enum { LEARNED_SECONDS = 30 };

/* An effect on its way. */
struct effect {
	struct call call;
	struct effect *next_spare;
	struct peer *peer; /* the mirror of the key */
	uint32_t hash;
	bool is_number; /* the mirror must reply number */
	uint64_t number;
	bool repair;                  /* it is the delete after a mismatch */
	struct proto_request request; /* its key only */
	char key[PROTO_KEY_MAX];
};

static struct effect *spare_effects;

static bool
is_write(const struct proto_request *r)
{
	switch (r->command) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_ME:
		return false;
	case PROTO_MG:
		return r->has_ttl;
	default:
		return true;
	}
}

static void
submit_effect(struct effect *effect, const struct command *command,
    const char *data, size_t length, struct block *block)
{
	effect->call.expect = command->expect;
	peer_submit(effect->peer, effect->hash, &effect->call, command->line,
	    command->length, data, length, block);
}

/* The mirror has not done what the authority did: the key must go there. */
static void
repair_mirror(struct effect *effect)
{
	struct pairs_counters *counters = pairs_counters(effect->peer->pairs);
	struct command command;

	counters->mismatches++;
	if (effect->repair) {
		peer_add_dirty(effect->peer, effect->key,
		    effect->request.key.length, effect->request.base64);
		server_fail(effect->peer->server, "refuses a delete");
		return;
	}
	counters->repairs++;
	effect->repair = true;
	effect->is_number = false;
	command_delete(&command, &effect->request, effect->key);
	submit_effect(effect, &command, NULL, 0, NULL);
}

static bool
has_number(const struct proto_reply *reply)
{
	return reply->result == PROTO_NUMBER ||
	    reply->result == PROTO_META_VALUE;
}

static bool
agrees(const struct effect *effect, const struct proto_reply *reply)
{
	switch (reply->result) {
	case PROTO_ERROR:
	case PROTO_CLIENT_ERROR:
	case PROTO_SERVER_ERROR:
		return false;
	case PROTO_NUMBER:
	case PROTO_META_VALUE:
		return !effect->is_number || reply->number == effect->number;
	default:
		return true;
	}
}

static void
effect_free(struct effect *effect)
{
	effect->next_spare = spare_effects;
	spare_effects = effect;
}

static void
on_effect_reply(struct call *call, const struct answer *answer)
{
	struct effect *effect = CONTAINER_OF(call, struct effect, call);
	struct peer *peer = effect->peer;
	bool was_repair = effect->repair;

	assert(effect->request.key.length > 0);
	if (answer == NULL)
		peer_add_dirty(peer, effect->key, effect->request.key.length,
		    effect->request.base64);
	else if (!agrees(effect, &answer->last))
		repair_mirror(effect);
	/* Now it is done with, unless repair() has sent it again. */
	if (effect->repair == was_repair)
		effect_free(effect);
	peer_finish(peer);
}

static struct effect *
effect_new(struct peer *peer, uint32_t hash, const struct proto_request *r,
    const char *bytes)
{
	struct effect *effect = spare_effects;

	if (effect != NULL)
		spare_effects = effect->next_spare;
	else
		effect = malloc(sizeof(*effect));
	if (effect == NULL)
		return NULL;
	assert(r->key.length <= sizeof(effect->key));
	effect->call.done = on_effect_reply;
	effect->call.element = NULL;
	effect->peer = peer;
	effect->hash = hash;
	effect->is_number = false;
	effect->repair = false;
	effect->request.key.at = 0;
	effect->request.key.length = r->key.length;
	effect->request.base64 = r->base64;
	memcpy(effect->key, bytes + r->key.at, r->key.length);
	return effect;
}

void
effect_send(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply)
{
	enum command_effect what = command_effect_of(r, reply->result);
	struct peer *peer = pair_partner(pair, asked);
	struct effect *effect = NULL;
	struct command command;

	if (what == COMMAND_NOTHING || peer == NULL)
		return;
	if (peer_is_mirror(peer)) {
		effect = effect_new(peer, pair->hash, r, bytes);
		if (effect == NULL)
			server_fail(peer->server, "out of memory");
	}
	if (effect == NULL) {
		peer_add_dirty(peer, bytes + r->key.at, r->key.length,
		    r->base64);
		return;
	}
	assert(peer != asked);
	effect->is_number = what == COMMAND_SAME && has_number(reply);
	effect->number = reply->number;
	pairs_counters(peer->pairs)->effects++;
	command_mirror(&command, r, bytes, what);
	submit_effect(effect, &command, bytes + r->data.at,
	    command.data ? r->data.length + 2 : 0, block);
}

/* The client flags of a VALUE: the token behind the key. */
static struct proto_span
flags_of(const char *value, const struct proto_reply *parsed)
{
	struct proto_span flags = { 0, 0 };
	size_t at = parsed->key.at + parsed->key.length;

	proto_token(value, parsed->data.at, &at, &flags);
	return flags;
}

void
effect_warm(const struct pair *pair, struct peer *asked,
    enum proto_expect expect, const char *value, size_t length)
{
	struct peer *peer = pair_partner(pair, asked);
	struct proto_request r = { .base64 = false };
	struct proto_reply parsed;
	struct proto_span flags;
	struct effect *effect;
	char line[PROTO_KEY_MAX + 64];
	int n;

	if (peer == NULL || !peer->warming || !peer_is_mirror(peer) ||
	    proto_reply(value, length, expect, length, &parsed) != PROTO_OK)
		return;
	r.key = parsed.key;
	effect = effect_new(peer, pair->hash, &r, value);
	if (effect == NULL)
		return;
	flags = flags_of(value, &parsed);
	n = snprintf(line, sizeof(line), "add %.*s %.*s %d %u\r\n",
	    (int)r.key.length, effect->key, (int)flags.length, value + flags.at,
	    LEARNED_SECONDS, parsed.data.length);
	assert(n > 0 && (size_t)n < sizeof(line));
	effect->call.expect = PROTO_EXPECT_STORED;
	peer_submit(peer, effect->hash, &effect->call, line, (size_t)n,
	    value + parsed.data.at, parsed.data.length + 2, NULL);
}

void
effect_lost(struct peer *asked, const struct proto_request *r,
    const char *bytes)
{
	if (is_write(r))
		peer_add_dirty(asked, bytes + r->key.at, r->key.length,
		    r->base64);
}

void
effect_pool_free(void)
{
	struct effect *effect;

	while ((effect = spare_effects) != NULL) {
		spare_effects = effect->next_spare;
		free(effect);
	}
}
