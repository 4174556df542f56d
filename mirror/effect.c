/*
 * Make the mirror of a key equal to its authority after a write.
 *
 *   reply of the authority -> command_effect_of() -> FIFO of the mirror
 *
 *   The mirror replies, and agrees:    done
 *   The mirror replies otherwise:      repair: delete the key there
 *   It replies to this with an error:  the mirror fails, the key is dirty
 *   It does not reply:                 the key is dirty
 *
 * Invariant: an effect is in the FIFO of the mirror before the client knows of
 * the write.  If the mirror does not do what the authority did, the key ends
 * deleted there, or dirty.
 */

#include "mirror/effect.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "container_of.h"
#include "mirror/classic.h"
#include "mirror/command.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "pool.h"
#include "server/server.h"

/* How long a value lives on a server that is warming: its TTL is not known. */
enum { WARM_VALUE_SECONDS = 30 };

/* An effect, from its submission until the mirror has replied. */
struct effect {
	struct call call;
	/* The mirror of the key, borrowed. */
	struct peer *peer;
	/* Of the key. */
	uint32_t hash;
	/* A mirror that has the key must reply with the number. */
	bool has_number;
	uint64_t number;
	/* It is the delete that follows a mismatch. */
	bool is_repair;
	/* Only the span of the key, and whether it is base64, are set. */
	struct proto_request request;
	/* The bytes of that span, which begins at 0. */
	char key[PROTO_KEY_MAX];
};

static struct pool effects = POOL(struct effect);

/* Whether r may change something on a server. */
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
	assert(command->has_data == (length > 0));
	effect->call.expect = command->expect;
	peer_submit(effect->peer, effect->hash, &effect->call, command->line,
	    command->length, data, length, block);
}

/* The mirror has not done what the authority did, so delete the key there.  If
   it was this delete, the mirror fails in here. */
static void
repair_mirror(struct effect *effect)
{
	struct pairs_counters *counters = pairs_counters(effect->peer->pairs);
	struct command command;

	counters->mismatches++;
	if (effect->is_repair) {
		peer_add_dirty(effect->peer, effect->key,
		    effect->request.key.length, effect->request.base64);
		server_fail(effect->peer->server, "refuses a delete");
		return;
	}
	counters->repairs++;
	effect->is_repair = true;
	effect->has_number = false;
	command_delete(&command, &effect->request, effect->key);
	submit_effect(effect, &command, NULL, 0, NULL);
}

/* Whether a reply is a number: that of incr or decr, or the VA of an ma. */
static bool
is_number(const struct proto_reply *reply)
{
	return reply->result == PROTO_NUMBER ||
	    reply->result == PROTO_META_VALUE;
}

/* Whether the mirror did what the authority did, as far as its reply tells.  A
   mirror that lacks the key agrees: a miss is not a wrong value. */
static bool
agrees(const struct effect *effect, const struct proto_reply *reply)
{
	if (effect->is_repair)
		return command_has_deleted(&effect->request, reply->result);
	switch (reply->result) {
	case PROTO_ERROR:
	case PROTO_CLIENT_ERROR:
	case PROTO_SERVER_ERROR:
		return false;
	case PROTO_NUMBER:
	case PROTO_META_VALUE:
		return !effect->has_number || reply->number == effect->number;
	default:
		return true;
	}
}

static void
effect_free(struct effect *effect)
{
	pool_give(&effects, effect);
}

static void
on_effect_reply(struct call *call, const struct answer *answer)
{
	struct effect *effect = CONTAINER_OF(call, struct effect, call);
	struct peer *peer = effect->peer;
	bool was_repair = effect->is_repair;

	assert(effect->request.key.length > 0);
	assert(answer != NULL || !peer_is_mirror(peer));
	if (answer == NULL)
		peer_add_dirty(peer, effect->key, effect->request.key.length,
		    effect->request.base64);
	else if (!agrees(effect, &answer->last))
		repair_mirror(effect);
	/* repair_mirror() has sent it once more if this has changed. */
	if (effect->is_repair == was_repair)
		effect_free(effect);
}

/* An effect about the key of r, which does not compare numbers.  Returns NULL
   when out of memory. */
static struct effect *
effect_new(struct peer *peer, uint32_t hash, const struct proto_request *r,
    const char *bytes)
{
	struct effect *effect = pool_take(&effects);

	if (effect == NULL)
		return NULL;
	assert(r->key.length > 0 && r->key.length <= sizeof(effect->key));
	effect->call.done = on_effect_reply;
	effect->call.element = NULL;
	effect->peer = peer;
	effect->hash = hash;
	effect->has_number = false;
	effect->is_repair = false;
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
	assert(!effect->is_repair && effect->peer == peer);
	what = classic_mirror(&command, &peer->abilities, r, bytes, what);
	if (what == COMMAND_NOTHING) {
		effect_free(effect);
		return;
	}
	effect->has_number = what == COMMAND_SAME && is_number(reply);
	effect->number = reply->number;
	pairs_counters(peer->pairs)->effects++;
	submit_effect(effect, &command, bytes + r->data.at,
	    command.has_data ? r->data.length + 2 : 0, block);
}

/* Where in value its client flags are: the token behind the key. */
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

	assert(expect == PROTO_EXPECT_VALUES ||
	    expect == PROTO_EXPECT_VALUES_CAS);
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
	    WARM_VALUE_SECONDS, parsed.data.length);
	assert(n > 0 && (size_t)n < sizeof(line));
	effect->call.expect = PROTO_EXPECT_STORED;
	peer_submit(peer, effect->hash, &effect->call, line, (size_t)n,
	    value + parsed.data.at, parsed.data.length + 2, NULL);
}

void
effect_lost(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes)
{
	if (is_write(r) && pair_authority(pair) != NULL)
		peer_add_dirty(asked, bytes + r->key.at, r->key.length,
		    r->base64);
}
