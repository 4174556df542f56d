/*
 * Carry one command from parsed line to whole reply.
 *
 *   request_start -> ask_key: one part -> effect -> its reply, as it is
 *               \-> multiget.c: many keys, and all gets but the simplest
 *
 * Invariant: the effects of a reply are told before the owner is.
 */

#include "client/request.h"

#include <assert.h>
#include <string.h>

#include "block.h"
#include "client/multiget.h"
#include "client/stats.h"
#include "client/work.h"
#include "conn.h"
#include "mirror/command.h"
#include "mirror/effect.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "server/server.h"

static struct work *
work_of(struct request *request)
{
	return (struct work *)request;
}

static bool
is_get(const struct proto_request *r)
{
	return r->command == PROTO_GET || r->command == PROTO_GETS;
}

/* Whether it is carried out in rounds; a get of one key takes the short way
   of all commands about one key. */
static bool
has_rounds(const struct proto_request *r)
{
	return r->command <= PROTO_GATS && (!is_get(r) || r->key_count > 1);
}

/* Keep the message that r was parsed from. */
static bool
keep_message(struct work *work, struct conn *conn,
    const struct proto_request *r, const char *bytes)
{
	size_t offset;

	assert(r->length > 0);
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
		work_set_text(work, work_no_memory);
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
	assert(to <= work->text_block->bytes + work->text_block->size);
	work->text = work->text_block->bytes;
	work->text_length = (size_t)(to - work->text);
}

/* The reply when nobody can be asked. */
static void
refuse(struct work *work)
{
	enum proto_command command = work->r.command;
	struct stats *stats = work->world->stats;

	stats->no_server_errors++;
	if (is_get(&work->r))
		stats_count_get(stats, command, 1, 0);
	else if (command == PROTO_MG)
		stats_count(stats, &work->r, PROTO_META_EN);
	if (work->world->error_on_down)
		work_set_text(work, work_no_server);
	else if (is_get(&work->r))
		work_set_text(work, "END\r\n");
	else if (command == PROTO_ME || (command == PROTO_MG && work->r.quiet))
		work_set_text(work, command == PROTO_ME ? "EN\r\n" : "");
	else if (command == PROTO_MG)
		set_meta_text(work, "EN");
	else
		work_set_text(work, work_no_server);
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
 * Commands about one key
 */

static void on_reply(struct call *call, const struct answer *answer);

static void
tell_part(struct work *work, struct part *part, uint64_t cas)
{
	const struct proto_request *r = &work->r;
	struct command command;

	part->call.done = on_reply;
	part->call.element = NULL;
	part->keys = is_get(r) || r->command == PROTO_MG;
	work_open_part(part);
	if (is_get(r)) {
		part->call.expect = r->command == PROTO_GET ?
		    PROTO_EXPECT_VALUES :
		    PROTO_EXPECT_VALUES_CAS;
		peer_ask(part->peer, work->pair.hash, &part->call,
		    work->bytes + r->key.at, r->key.length);
		return;
	}
	command_forward(&command, r, work->bytes, cas);
	part->call.expect = command.expect;
	peer_tell(part->peer, work->pair.hash, &part->call, command.line,
	    command.length, work->bytes + r->data.at,
	    command.data ? r->data.length + 2 : 0, work->message);
}

/* Ask the authority; or make the reply, if there is none to be asked. */
static void
ask_key(struct work *work, unsigned int tries)
{
	struct peer *peer = pair_authority(&work->pair);
	struct part *part;
	uint64_t cas;

	if (peer == NULL || tries == WORK_TRIES_MAX) {
		refuse(work);
		return;
	}
	if (is_foreign(work, peer, &cas)) {
		stats_count(work->world->stats, &work->r, PROTO_EXISTS);
		if (work->r.command == PROTO_CAS)
			work_set_text(work, "EXISTS\r\n");
		else
			set_meta_text(work, "EX");
		return;
	}
	if (!STAILQ_EMPTY(&work->parts))
		work_free_parts(work);
	part = work_add_part(work);
	part->peer = peer;
	part->tries = tries;
	tell_part(work, part, cas);
}

static void
on_reply(struct call *call, const struct answer *answer)
{
	struct part *part = (struct part *)call;
	struct work *work = part->work;
	struct peer *peer = part->peer;
	bool hit;

	assert(work->open > 0 && part == STAILQ_FIRST(&work->parts));
	if (answer == NULL) {
		effect_lost(peer, &work->r, work->bytes);
		ask_key(work, part->tries + 1);
	} else if (is_get(&work->r)) {
		hit = answer->last.result == PROTO_VALUE;
		if (hit && pairs_are_lazy(work->world->pairs))
			effect_learn(&work->pair, peer, part->call.expect,
			    answer->bytes, answer->length);
		stats_count_get(work->world->stats, work->r.command, 1, hit);
	} else {
		effect_send(&work->pair, peer, &work->r, work->bytes,
		    work->message, &answer->last);
		stats_count(work->world->stats, &work->r, answer->last.result);
	}
	work_close_part(part, answer);
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
 * Writing
 */

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
		work_put_tagged(work, conn, part, part->end_at + meta->at,
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
	size_t length;

	assert(part != NULL && work->open == 0);
	if (is_silent(work, part->end.result))
		return;
	work_reply(work, part, &length);
	if (part->end.result == PROTO_META_VALUE &&
	    work->r.command == PROTO_MA && !work->r.has_value)
		put_without_number(work, conn, part);
	else
		work_put_tagged(work, conn, part, 0, length, part->end.cas);
	if (part->end.result == PROTO_VALUE)
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
	multiget_write(work, conn);
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
		work_end(work);
		return NULL;
	}
	work->request.cost += r->length;
	if (has_rounds(r)) {
		work->keys_left = r->key_count;
		work->key_at = r->keys.at;
		started = multiget_start(work);
	} else {
		start_key(work);
		work->state = work->open == 0 ? WORK_READY : WORK_WAITING;
	}
	if (started)
		return &work->request;
	work_end(work);
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

	assert(work->open == 1 && work->text == NULL);
	work->open = 0;
	work->text_length = n;
	if (n <= sizeof(work->small)) {
		memcpy(work->small, bytes, n);
		work->text = work->small;
	} else if ((work->text_block = block_copy(bytes, n)) != NULL) {
		work->text = work->text_block->bytes;
	} else {
		work_set_text(work, work_no_memory);
	}
	work_become_ready(work);
}

void
request_fail(struct request *request)
{
	request_finish(request, work_no_memory, strlen(work_no_memory));
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
	if (multiget_start(work))
		return;
	work->keys_left = 0;
	work_set_text(work, work_no_memory);
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

	assert(request->owner != NULL && !work->over);
	if (work->open > 0) {
		request->owner = NULL;
		work->keys_left = 0;
	} else if (work->telling) {
		work->over = true;
	} else {
		work_end(work);
	}
}

void
request_pool_free(void)
{
	work_pool_free();
	effect_pool_free();
}
