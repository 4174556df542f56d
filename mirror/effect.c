/*
 * Make the mirror of a key equal to its authority after a write.
 *
 *   reply of the authority -> outcome_effect() -> FIFO of the mirror
 *
 *   The mirror replies, and agrees:    done
 *   It lacks the key:                  the key is copied
 *   It was not to be won there:        the key is copied, and replaced
 *   The mirror replies otherwise:      repair: delete the key there, copy it
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
#include "mirror/bond.h"
#include "mirror/classic.h"
#include "mirror/command.h"
#include "mirror/copy.h"
#include "mirror/learn.h"
#include "mirror/marks.h"
#include "mirror/outcome.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "mirror/stamp.h"
#include "mirror/undecided.h"
#include "pool.h"
#include "server/server.h"

/* How long a value lives on a server that is warming if its TTL is not known:
   the authority has no mg. */
enum { WARM_VALUE_SECONDS = 30 };

/* An effect, from its submission until the mirror has replied. */
struct effect {
	struct call call;
	/* The mirror of the key, borrowed. */
	struct peer *peer;
	/* Of the key. */
	uint32_t hash;
	/* What it is; COMMAND_NOTHING: the value for a mirror that is warming,
	   which may have another one. */
	enum command_effect what;
	/* What the authority has replied to an mg: of enum proto_mark. */
	unsigned int marks;
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

/* Whether r may change something on a server.  Any other mg may win an item
   that is stale; but if each were a write here, one that kills a server would
   do so once more when its key is copied. */
static bool
is_write(const struct proto_request *r)
{
	switch (r->command) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_ME:
		return false;
	case PROTO_MG:
		return r->has_ttl || r->has_vivify || r->has_recache;
	default:
		return true;
	}
}

/* Whether the mirror can carry out the effect; if not, it gets a delete. */
static bool
can_carry_out(const struct peer *peer, enum command_effect what)
{
	return what < COMMAND_SET_STALE ||
	    abilities_has(&peer->abilities, ABILITY_META);
}

/* Have the key copied, after what is in the FIFO of the mirror now.  Returns
   false if it cannot be. */
static bool
copy_effect_again(const struct effect *effect)
{
	return repairs_add(effect->peer->repairs, effect->key,
	    effect->request.key.length, effect->request.base64);
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

/* Whether the mirror has the value of the authority, and only who is to set it
   anew is another: see marks.h. */
static bool
is_value_same(const struct effect *effect, bool is_refused)
{
	return effect->what == COMMAND_WIN && !effect->is_repair && !is_refused;
}

/* The mirror has not done what the authority did, so delete the key there; and
   have it copied, unless the mirror refuses such values.  If it was this
   delete, the mirror fails in here. */
static void
repair_mirror(struct effect *effect, bool is_refused)
{
	struct pairs_counters *counters = pairs_counters(effect->peer->pairs);
	struct command command;

	counters->mismatches++;
	if (is_value_same(effect, is_refused) && copy_effect_again(effect))
		return;
	if (effect->is_repair) {
		server_fail(effect->peer->server, "refuses a delete");
		pairs_lose_effect(effect->peer->pairs, effect->peer,
		    effect->key, effect->request.key.length,
		    effect->request.base64);
		return;
	}
	counters->repairs++;
	effect->peer->repair_deletes++;
	effect->is_repair = true;
	effect->has_number = false;
	command_delete(&command, &effect->request, effect->key);
	submit_effect(effect, &command, NULL, 0, NULL);
	if (!is_refused)
		copy_effect_again(effect);
}

/* Whether a reply is a number: that of incr or decr, or the VA of an ma. */
static bool
is_number(const struct proto_reply *reply)
{
	return reply->result == PROTO_NUMBER ||
	    reply->result == PROTO_META_VALUE;
}

static bool
is_error(const struct proto_reply *reply)
{
	return reply->result == PROTO_ERROR ||
	    reply->result == PROTO_CLIENT_ERROR ||
	    reply->result == PROTO_SERVER_ERROR;
}

/* Whether the mirror has replied that it lacks the key.  NOT_STORED and NS do
   not say that: it may have the key, and no room for more. */
static bool
is_lacking(const struct proto_reply *reply)
{
	return reply->result == PROTO_NOT_FOUND ||
	    reply->result == PROTO_META_NF || reply->result == PROTO_META_EN;
}

/* Whether the item on the mirror was won when that of the authority was.  Who
   has won it does not matter. */
static bool
is_won_too(const struct effect *effect, const struct proto_reply *reply)
{
	return (reply->marks & (PROTO_WON | PROTO_AWAITED)) != 0 &&
	    (reply->marks & PROTO_STALE) == (effect->marks & PROTO_STALE);
}

/* Whether the mirror did what the authority did, as far as its reply tells.  A
   mirror that lacks the key agrees: a miss is not a wrong value. */
static bool
agrees(const struct effect *effect, const struct proto_reply *reply)
{
	if (effect->is_repair)
		return command_has_deleted(&effect->request, reply->result);
	if (is_error(reply))
		return false;
	if (is_lacking(reply))
		return true;
	switch (effect->what) {
	case COMMAND_SET_STALE:
	case COMMAND_STRIP:
		return reply->result == PROTO_META_HD;
	case COMMAND_SAME:
		if (is_number(reply))
			return !effect->has_number ||
			    reply->number == effect->number;
		return reply->result == PROTO_STORED ||
		    reply->result == PROTO_META_HD;
	case COMMAND_WIN:
	case COMMAND_MAKE:
		return is_won_too(effect, reply);
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
	peer->repair_deletes -= was_repair;
	assert(answer != NULL || !peer_is_mirror(peer));
	if (answer == NULL)
		pairs_lose_effect(peer->pairs, peer, effect->key,
		    effect->request.key.length, effect->request.base64);
	else if (!agrees(effect, &answer->last))
		repair_mirror(effect, is_error(&answer->last));
	else if (!effect->is_repair && effect->what != COMMAND_DELETE &&
	    is_lacking(&answer->last))
		copy_effect_again(effect);
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
	effect->what = COMMAND_NOTHING;
	effect->has_number = false;
	effect->is_repair = false;
	effect->request.key.at = 0;
	effect->request.key.length = r->key.length;
	effect->request.base64 = r->base64;
	memcpy(effect->key, bytes + r->key.at, r->key.length);
	return effect;
}

/* Queue an effect, or note that the key is dirty.  Returns whether it is. */
static bool
send_one(const struct pair *pair, struct peer *peer,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply, enum command_effect what)
{
	struct effect *effect = NULL;
	struct command command;

	if (peer_is_mirror(peer)) {
		effect = effect_new(peer, pair->hash, r, bytes);
		if (effect == NULL)
			server_fail(peer->server, "out of memory");
	}
	if (effect == NULL) {
		peer_add_dirty(peer, bytes + r->key.at, r->key.length,
		    r->base64);
		return true;
	}
	assert(!effect->is_repair && effect->peer == peer);
	what = classic_mirror(&command, &peer->abilities, r, bytes, what);
	if (what == COMMAND_NOTHING) {
		effect_free(effect);
		return false;
	}
	effect->what = what;
	effect->marks = reply->marks;
	effect->has_number = what == COMMAND_SAME && is_number(reply);
	effect->number = reply->number;
	pairs_counters(peer->pairs)->effects++;
	submit_effect(effect, &command, bytes + r->data.at,
	    command.has_data ? r->data.length + 2 : 0, block);
	return false;
}

/* Send an effect that is more than one command, or whose command not every
   server knows.  Returns what else is to be sent. */
static enum command_effect
prepare_mirror(const struct pair *pair, struct peer *peer,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply, enum command_effect what)
{
	if (!can_carry_out(peer, what))
		return COMMAND_DELETE;
	/* The mirror may still have an item that the authority has lost. */
	if (what == COMMAND_MAKE)
		send_one(pair, peer, r, bytes, block, reply, COMMAND_DELETE);
	return what;
}

/* The times of day that r has, for the clock of the mirror. */
static struct proto_request
shift_dates(const struct proto_request *r, const struct peer *peer,
    const struct peer *asked)
{
	struct proto_request shifted = *r;

	shifted.exptime = peer_shift_date(peer, asked, r->exptime);
	shifted.vivify = peer_shift_date(peer, asked, r->vivify);
	shifted.recache = peer_shift_date(peer, asked, r->recache);
	shifted.words.length = 0;
	return shifted;
}

/* Remember whether the item is marked now, if that is known. */
static void
note_marks(struct peer *peer, const struct proto_request *r, const char *bytes,
    enum command_effect what, bool is_counted)
{
	struct marks *marks = pairs_marks(peer->pairs);

	switch (what) {
	case COMMAND_SET_STALE:
		/* Its token stays as it was, so a doubt does, too. */
		if (!marks_has(marks, r, bytes))
			marks_set(marks, r, bytes, true);
		break;
	case COMMAND_MAKE:
	case COMMAND_STALE:
		marks_set(marks, r, bytes, true);
		break;
	case COMMAND_WIN:
		if (!marks_are_doubtful(marks, r, bytes))
			marks_set(marks, r, bytes, true);
		break;
	case COMMAND_SET:
	case COMMAND_SAME:
	case COMMAND_DELETE:
		if (!is_counted)
			marks_set(marks, r, bytes, false);
		break;
	default:
		break;
	}
}

/*
 * A client has read with mg which marks an item has that one of its servers may
 * have forgotten: now both are to have the same.  It sees the same after that
 * if the authority fails at once, because this is ahead of what it is told.
 * Returns what else follows from the reply.
 */
static enum command_effect
settle_marks(const struct pair *pair, struct peer *peer,
    const struct proto_request *r, const char *bytes,
    const struct proto_reply *reply, enum command_effect what)
{
	struct marks *marks = pairs_marks(peer->pairs);
	bool is_hit = reply->result == PROTO_META_VALUE ||
	    reply->result == PROTO_META_HD;

	if (!is_hit || what == COMMAND_MAKE || !peer_is_mirror(peer) ||
	    !abilities_has(&peer->abilities, ABILITY_META) ||
	    !marks_are_doubtful(marks, r, bytes))
		return what;
	marks_set(marks, r, bytes, reply->marks != 0);
	/* What is not stale, and was not won before, is to be so there. */
	if ((reply->marks & PROTO_STALE) != 0)
		send_one(pair, peer, r, bytes, NULL, reply, COMMAND_MARK);
	else if ((reply->marks & PROTO_AWAITED) == 0)
		send_one(pair, peer, r, bytes, NULL, reply, COMMAND_STRIP);
	/* The token is out, if there is a mark. */
	return reply->marks == 0 ? what : COMMAND_WIN;
}

/* Send what follows from the reply, which is something.  Returns whether the
   key has become dirty instead. */
static bool
send_effect(const struct pair *pair, struct peer *asked, struct peer *peer,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply, enum command_effect what)
{
	struct proto_request shifted;
	bool is_counted = what == COMMAND_SAME && command_counts(r);
	bool is_unknown, is_missed;

	note_marks(peer, r, bytes, what, is_counted);
	if (r->exptime > PROTO_RELATIVE_MAX || r->meta.length > 0) {
		shifted = shift_dates(r, peer, asked);
		r = &shifted;
	}
	if (is_counted && peer_is_mirror(peer))
		marks_keep(pairs_marks(peer->pairs), peer, pair->hash, r,
		    bytes);
	if (what > COMMAND_DELETE)
		what = prepare_mirror(pair, peer, r, bytes, block, reply, what);
	is_unknown = what == COMMAND_UNKNOWN;
	is_missed = send_one(pair, peer, r, bytes, block, reply, what);
	if (is_counted)
		marks_doubt(pairs_marks(peer->pairs), r, bytes);
	if (is_unknown && peer_is_mirror(peer))
		repairs_add(peer->repairs, bytes + r->key.at, r->key.length,
		    r->base64);
	return is_missed;
}

bool
effect_send(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply)
{
	enum command_effect what = outcome_effect(r, reply);
	struct peer *peer = pair_partner(pair, asked);

	if (peer == NULL)
		return false;
	if (r->command == PROTO_MG)
		what = settle_marks(pair, peer, r, bytes, reply, what);
	return what != COMMAND_NOTHING &&
	    send_effect(pair, asked, peer, r, bytes, block, reply, what);
}

void
effect_confirm(const struct pair *pair, struct peer *asked,
    struct stamp_waiter *waiter)
{
	struct peer *partner = pair_partner(pair, asked);

	assert(partner != NULL);
	stamp_raise(bond_of(asked, partner), asked, waiter);
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
	if (copy_can_read(asked)) {
		learn_read(pairs_learner(peer->pairs), peer, value + r.key.at,
		    r.key.length);
		return;
	}
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
    const struct proto_request *r, const char *bytes, bool was_sent,
    bool *is_doubtful)
{
	struct peer *partner = pair_partner(pair, asked);
	char room[PROTO_KEY_MAX];
	struct proto_request plain;
	const char *key;

	if (!is_write(r) || partner == NULL)
		return;
	key = command_plain_key(r, bytes, &plain, room) + plain.key.at;
	if (pair_authority(pair) != NULL) {
		*is_doubtful = was_sent &&
		    peer_add_dirty(asked, key, plain.key.length, plain.base64);
		if (was_sent && peer_is_mirror(partner))
			stamp_raise(bond_of(asked, partner), partner, NULL);
		return;
	}
	if (*is_doubtful)
		peer_remove_dirty(partner, key, plain.key.length, plain.base64);
	if (*is_doubtful || was_sent)
		undecided_add(asked, partner, key, plain.key.length,
		    plain.base64);
}
