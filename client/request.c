/*
 * Carry one command from parsed line to whole reply.
 *
 *   request_start() -> one key:   a subrequest -> effect -> its reply, as it is
 *                        ^                           |
 *                        '---- the next step <-------'
 *                   -> in rounds: multiget.c
 *
 * Invariant: when the owner is called because of a reply to a write, the effect
 * of that write is in the FIFO of the mirror, or its key is dirty there.
 */

#include "client/request.h"

#include <assert.h>
#include <string.h>

#include "block.h"
#include "client/exec.h"
#include "client/hotkeys.h"
#include "client/meta_reply.h"
#include "client/multiget.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "hot_assert.h"
#include "mirror/classic.h"
#include "mirror/command.h"
#include "mirror/effect.h"
#include "mirror/gate.h"
#include "mirror/marks.h"
#include "mirror/outcome.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/suspect.h"
#include "server/server.h"

static_assert(PROTO_GET == 0 && PROTO_GATS == 3,
    "the family of get has the first four numbers");

enum {
	/* Steps of a request.  There are more than two only while other clients
	   make and delete its item; after these it is sent as it is. */
	STEPS_MAX = 8,
};

static struct exec *
exec_of(struct request *request)
{
	return CONTAINER_OF(request, struct exec, request);
}

static bool
is_get(const struct proto_request *r)
{
	return r->command == PROTO_GET || r->command == PROTO_GETS;
}

/* Whether r is carried out in rounds.  A get or gets of one key is not: it
   takes the shorter way of all commands about one key. */
static bool
has_rounds(const struct proto_request *r)
{
	return r->command <= PROTO_GATS && (!is_get(r) || r->key_count > 1);
}

/* Keep r and the bytes that it was parsed from.  Returns false when out of
   memory. */
static bool
keep_message(struct exec *exec, struct conn *conn,
    const struct proto_request *r, const char *bytes)
{
	size_t offset;

	assert(r->length > 0);
	exec->r = *r;
	exec->bytes = exec->small;
	if (r->length <= sizeof(exec->small)) {
		memcpy(exec->small, bytes, r->length);
		return true;
	}
	exec->message = conn_reference(conn, bytes, r->length, &offset);
	if (exec->message == NULL)
		return false;
	exec->bytes = exec->message->bytes + offset;
	return true;
}

/*
 * Replies that we make
 */

/*
 * The error for a command that no server can carry out.  Some client libraries
 * give up the whole of magent for a while at most errors.  These are the ones
 * that most of them take for the trouble of one key: doc/operations.md has what
 * was tried.
 */
static const char *
no_server_error(enum proto_command command)
{
	if ((command >= PROTO_SET && command <= PROTO_CAS) ||
	    command == PROTO_MS)
		return "SERVER_ERROR out of memory storing object\r\n";
	if (command >= PROTO_INCR && command <= PROTO_DELETE)
		return "CLIENT_ERROR no server is up for this key\r\n";
	return exec_no_server;
}

/* Make the reply when no server can be asked: a miss or an error. */
static void
refuse_key(struct exec *exec)
{
	enum proto_command command = exec->r.command;
	struct stats *stats = exec->env->stats;

	stats->no_server_errors++;
	if (is_get(&exec->r))
		stats_count_get(stats, command, 1, 0);
	else if (command == PROTO_MG)
		stats_count(stats, &exec->r, PROTO_META_EN);
	/* An mg with N would make its key on a miss. */
	if (exec->env->error_on_down ||
	    (command == PROTO_MG && exec->r.has_vivify))
		exec_set_text(exec, no_server_error(command));
	else if (is_get(&exec->r))
		exec_set_text(exec, "END\r\n");
	else if (command == PROTO_ME || (command == PROTO_MG && exec->r.quiet))
		exec_set_text(exec, command == PROTO_ME ? "EN\r\n" : "");
	else if (command == PROTO_MG)
		meta_reply_set(exec, "EN");
	else
		exec_set_text(exec, no_server_error(command));
}

/*
 * True: another server, or another incarnation of this one, gave out the cas
 * token of the request; the reply is EXISTS.  False: *cas is the token without
 * our tag, if there is one.
 */
static bool
is_foreign_cas(struct exec *exec, const struct peer *peer, uint64_t *cas)
{
	if (exec->r.command != PROTO_CAS && !exec->r.has_cas)
		return false;
	if (!pairs_are_mirrored(exec->env->pairs))
		return false;
	if ((*cas & ~COMMAND_CAS_MASK) != peer_tag(peer))
		return true;
	*cas &= COMMAND_CAS_MASK;
	return false;
}

/*
 * The error for a flag that came after 1.6.18, as 1.6.18 words it; NULL: peer
 * knows the flags.  Where keys have two servers, nobody can choose a cas token:
 * it would be equal on both, and our tags say whose it is.
 */
static const char *
newer_flag_error(const struct exec *exec, const struct peer *peer)
{
	const struct proto_request *r = &exec->r;

	if (!r->has_chosen_cas && !r->removes_value)
		return NULL;
	if (abilities_has(&peer->abilities, ABILITY_META_CHOSEN_CAS) &&
	    (!r->has_chosen_cas || !pairs_are_mirrored(exec->env->pairs)))
		return NULL;
	return r->command == PROTO_MD || r->command == PROTO_MA ?
	    "CLIENT_ERROR invalid or duplicate flag\r\n" :
	    "CLIENT_ERROR invalid flag\r\n";
}

/* Make the reply without peer, its authority, if it must not be asked.  Returns
   false if it is to be asked; *cas is the token to send then. */
static bool
answer_alone(struct exec *exec, const struct peer *peer, uint64_t *cas)
{
	const struct proto_request *r = &exec->r;
	enum classic_way way;
	const char *error;

	assert(r->command >= PROTO_CAS);
	error = newer_flag_error(exec, peer);
	/* The server may write such a key as it is, whatever is in it. */
	if (r->command == PROTO_ME && command_needs_base64(r, exec->bytes))
		error = "CLIENT_ERROR me takes no key that needs base64\r\n";
	way = classic_way(&peer->abilities, r, exec->bytes);
	if (error != NULL) {
		exec_set_text(exec, error);
	} else if (way == CLASSIC_TOO_OLD) {
		exec_set_text(exec, exec_too_old);
	} else if (way == CLASSIC_NO_CAS) {
		exec_set_text(exec, exec_no_cas);
	} else if (way == CLASSIC_MISS) {
		stats_count(exec->env->stats, r, PROTO_META_EN);
		if (r->quiet)
			exec_set_text(exec, "");
		else
			meta_reply_set(exec, "EN");
	} else if (is_foreign_cas(exec, peer, cas)) {
		stats_count(exec->env->stats, r, PROTO_EXISTS);
		if (r->command == PROTO_CAS)
			exec_set_text(exec, "EXISTS\r\n");
		else
			meta_reply_set(exec, "EX");
	} else {
		return false;
	}
	return true;
}

/*
 * Keys that are held
 */

/* Whether a command waits while its key is held: it may win the item, or change
   its cas token, and leaves it stale and won. */
static bool
is_for_held_keys(const struct proto_request *r)
{
	return r->command == PROTO_MG || r->command == PROTO_MA ||
	    r->command == PROTO_INCR || r->command == PROTO_DECR ||
	    (r->command == PROTO_MS && r->has_cas && r->has_invalidate);
}

/* Whether the gate holds r because of its key. */
static bool
is_held_key(const struct gate *gate, const struct proto_request *r,
    const char *bytes)
{
	struct proto_request key;
	char room[PROTO_KEY_MAX];

	if (!gate_has_keys(gate) || !is_for_held_keys(r))
		return false;
	bytes = command_plain_key(r, bytes, &key, room);
	return gate_holds_key(gate, bytes + key.key.at, key.key.length);
}

/*
 * Commands about one key
 */

static void on_single_reply(struct call *call, const struct answer *answer);

/* What is to be sent now: the request, or a step of it. */
static const struct proto_request *
current_step(const struct exec *exec)
{
	return exec->is_in_steps ? &exec->step : &exec->r;
}

/* Without a second server nobody needs to know what was done. */
static void
begin_steps(struct exec *exec)
{
	exec->is_in_steps = pairs_are_mirrored(exec->env->pairs) &&
	    exec->step_count < STEPS_MAX &&
	    outcome_begin_steps(&exec->step, &exec->r);
}

/* A server has replied.  Returns whether something else is to be sent;
   otherwise this is the reply to the request. */
static __attribute__((noinline)) bool
take_next_step(struct exec *exec, const struct peer *peer,
    const struct answer *answer)
{
	bool can_vivify = abilities_has(&peer->abilities,
	    ABILITY_META_APPEND_MAKES);

	assert(exec->is_in_steps);
	switch (outcome_next_step(&exec->step, &exec->r, exec->bytes,
	    &answer->last, can_vivify)) {
	case OUTCOME_IS_REPLY:
		if (exec->r.command == PROTO_MA &&
		    exec->step.mode == COMMAND_MAKES &&
		    answer->last.result == PROTO_META_HD)
			meta_reply_set_made(exec, peer, answer);
		return false;
	case OUTCOME_HAS_STEP:
		exec->is_in_steps = ++exec->step_count < STEPS_MAX;
		break;
	case OUTCOME_IS_WHOLE:
		exec->is_in_steps = false;
		break;
	}
	return true;
}

/* Submit a command that is no get or gets, or a step of it. */
static __attribute__((noinline)) void
submit_command(struct exec *exec, struct subrequest *sub, uint64_t cas)
{
	const struct proto_request *r = &exec->r, *step = current_step(exec);
	struct command command;
	struct classic classic;

	if (command_is_meta(r) &&
	    classic_make(&classic, &sub->peer->abilities, step, exec->bytes) ==
		CLASSIC_INSTEAD) {
		command_forward(&command, &classic.r, classic.bytes, cas);
		sub->call.element = meta_reply_element;
		exec->error_line = NULL;
	} else {
		command_forward(&command, step, exec->bytes, cas);
	}
	sub->call.expect = command.expect;
	peer_submit(sub->peer, exec->pair.hash, &sub->call, command.line,
	    command.length, exec->bytes + r->data.at,
	    command.has_data ? r->data.length + 2 : 0, exec->message);
}

/* returned_by: the server that has returned it; or NULL. */
static void
submit_single(struct exec *exec, struct subrequest *sub, uint64_t cas,
    struct peer *returned_by, bool is_suspect)
{
	const struct proto_request *r = &exec->r;

	hot_assert(sub == &exec->inline_sub && sub->peer != NULL);
	sub->call.done = on_single_reply;
	sub->call.element = NULL;
	sub->key_count = is_get(r) || r->command == PROTO_MG;
	exec_open_subrequest(sub);
	if (returned_by != NULL)
		suspect_begin(returned_by, sub->peer, is_suspect);
	else if (!is_get(r) && pairs_are_mirrored(exec->env->pairs))
		marks_keep(pairs_marks(exec->env->pairs), sub->peer,
		    exec->pair.hash, r, exec->bytes);
	if (!is_get(r)) {
		submit_command(exec, sub, cas);
		return;
	}
	sub->call.expect = r->command == PROTO_GET ?
	    PROTO_EXPECT_VALUES :
	    PROTO_EXPECT_VALUES_CAS;
	peer_get(sub->peer, exec->pair.hash, &sub->call,
	    exec->bytes + r->key.at, r->key.length);
}

/* Ask the authority of the key; or make the reply, if none is to be asked.  A
   subrequest that was answered, or returned, is to be closed behind this.
   tries: servers that were asked and failed; returned_by: the last of them, or
   NULL; is_suspect: see suspect.h. */
static void
submit_to_authority(struct exec *exec, unsigned int tries,
    struct peer *returned_by, bool is_suspect)
{
	struct peer *peer = pair_authority(&exec->pair);
	struct subrequest *sub;
	uint64_t cas;

	hot_assert(tries <= EXEC_TRIES_MAX &&
	    exec->owed == !STAILQ_EMPTY(&exec->subrequests));
	if (peer == NULL || tries == EXEC_TRIES_MAX) {
		refuse_key(exec);
		return;
	}
	cas = exec->r.cas;
	/* Every server can do what comes before. */
	if (exec->r.command >= PROTO_CAS && answer_alone(exec, peer, &cas))
		return;
	/* A subrequest that failed, or was a step, becomes the new one in
	   place: it is open twice until on_single_reply() closes it. */
	if (!STAILQ_EMPTY(&exec->subrequests))
		exec_free_subrequests(exec);
	sub = exec_add_subrequest(exec);
	sub->peer = peer;
	sub->tries = tries;
	submit_single(exec, sub, cas, returned_by, is_suspect);
}

/* Whether a classic command was sent for a meta command. */
static bool
is_translated(const struct exec *exec, const struct subrequest *sub)
{
	return command_is_meta(&exec->r) && !exec->r.too_large &&
	    sub->call.expect < PROTO_EXPECT_META_GET;
}

/* What follows from a reply to a command that is no get or gets, or to one of
   its steps. */
static void
follow_reply(struct exec *exec, const struct subrequest *sub,
    const struct answer *answer, const struct proto_reply *reply)
{
	exec->has_missed |= effect_send(&exec->pair, sub->peer,
	    current_step(exec), exec->bytes, exec->message, reply);
	if (sub->call.expect <= PROTO_EXPECT_VALUES_CAS &&
	    (reply->result == PROTO_META_VALUE ||
		reply->result == PROTO_META_HD) &&
	    pairs_are_warming(exec->env->pairs))
		effect_warm(&exec->pair, sub->peer, sub->call.expect,
		    answer->bytes, answer->length);
}

/* Count a reply of peer to a command that is no get or gets.  An error says
   nothing of the key. */
static void
count_reply(const struct exec *exec, struct peer *peer,
    enum proto_result result)
{
	stats_count(exec->env->stats, &exec->r, result);
	if (exec->r.command == PROTO_MG &&
	    (result == PROTO_META_VALUE || result == PROTO_META_HD ||
		result == PROTO_META_EN))
		peer_count_reads(peer, 1, result != PROTO_META_EN);
}

/* The same of a reply to a classic command in place of the command. */
static __attribute__((noinline)) void
follow_translated(struct exec *exec, const struct subrequest *sub,
    const struct answer *answer)
{
	struct proto_reply reply = meta_reply_translate(exec, sub, answer);

	follow_reply(exec, sub, answer, &reply);
	count_reply(exec, sub->peer, reply.result);
}

static void
submit_next_step(struct exec *exec)
{
	struct subrequest *sub = STAILQ_FIRST(&exec->subrequests);

	submit_to_authority(exec, sub->tries, NULL, false);
	exec_close_subrequest(sub, NULL);
}

static void go_on_or_wait(struct exec *exec);

static void
on_step_waiter(struct gate_waiter *waiter)
{
	go_on_or_wait(CONTAINER_OF(waiter, struct exec, step_waiter));
}

/* Submit the next step.  It is new to the authority, so it is held by the gate;
   its subrequest stays open meanwhile. */
static __attribute__((noinline)) void
go_on_or_wait(struct exec *exec)
{
	struct gate *gate = pairs_gate(exec->env->pairs);

	assert(exec->owed == 1);
	if ((!gate_is_closed(gate) || !gate_holds_step(gate, &exec->pair)) &&
	    !is_held_key(gate, current_step(exec), exec->bytes)) {
		submit_next_step(exec);
		return;
	}
	exec->step_waiter = (struct gate_waiter){ .wake = on_step_waiter,
		.waiting = false };
	gate_wait(gate, &exec->step_waiter);
}

/* The reply to a write that the other server has missed waits for a stamp. */
static __attribute__((noinline)) void
confirm(struct exec *exec, struct peer *asked)
{
	exec->has_missed = false;
	exec_confirm(exec, &exec->pair, asked,
	    no_server_error(exec->r.command));
}

static void
on_single_reply(struct call *call, const struct answer *answer)
{
	struct subrequest *sub = CONTAINER_OF(call, struct subrequest, call);
	struct exec *exec = sub->exec;
	struct peer *peer = sub->peer;
	bool hit;

	hot_assert(exec->owed == 1 && sub == STAILQ_FIRST(&exec->subrequests));
	if (answer == NULL) {
		effect_lost(&exec->pair, peer, &exec->r, exec->bytes,
		    call->was_sent, &exec->is_doubtful);
		if (exec->r.meta.length > 0)
			begin_steps(exec);
		submit_to_authority(exec, sub->tries + 1, peer,
		    call->is_suspect);
	} else if (is_get(&exec->r)) {
		hit = answer->last.result == PROTO_VALUE;
		if (hit && pairs_are_warming(exec->env->pairs))
			effect_warm(&exec->pair, peer, sub->call.expect,
			    answer->bytes, answer->length);
		stats_count_get(exec->env->stats, exec->r.command, 1, hit);
		peer_count_reads(peer, hit || answer->last.result == PROTO_END,
		    hit);
	} else if (is_translated(exec, sub)) {
		follow_translated(exec, sub, answer);
		answer = NULL; /* a text takes its place */
	} else {
		follow_reply(exec, sub, answer, &answer->last);
		if (exec->is_in_steps && take_next_step(exec, peer, answer)) {
			exec->is_doubtful = false;
			go_on_or_wait(exec);
			return;
		}
		count_reply(exec, peer, answer->last.result);
	}
	if (exec->has_missed && peer_is_mirror(peer))
		confirm(exec, peer);
	/* Behind the effect: this may call the owner, and end exec and sub. */
	exec_close_subrequest(sub, answer);
}

static void
start_single(struct exec *exec)
{
	const struct proto_request *r = &exec->r;

	exec->pair = pairs_find_wire(exec->env->pairs, exec->bytes + r->key.at,
	    r->key.length, r->base64);
	if (exec->env->hotkeys != NULL)
		hotkeys_note(exec->env->hotkeys, exec->pair.hash,
		    exec->bytes + r->key.at, r->key.length);
	if (r->meta.length > 0)
		begin_steps(exec);
	submit_to_authority(exec, 0, NULL, false);
}

/*
 * Writing
 */

/* Whether the client does not want this reply: noreply, or q of a meta command,
   which leaves out what is usual. */
static bool
is_silent(const struct exec *exec, enum proto_result result)
{
	if (!exec->r.quiet)
		return exec->r.noreply;
	if (exec->r.command == PROTO_MG)
		return result == PROTO_META_EN;
	return result == PROTO_META_HD || result == PROTO_META_VALUE;
}

static void
write_reply(struct exec *exec, struct conn *conn)
{
	const struct subrequest *sub = STAILQ_FIRST(&exec->subrequests);
	size_t length;

	hot_assert(sub != NULL && STAILQ_NEXT(sub, entry) == NULL);
	assert(exec->owed == 0);
	if (is_silent(exec, sub->end.result))
		return;
	exec_reply(exec, sub, &length);
	if (sub->end.result >= PROTO_META_VALUE && command_is_meta(&exec->r))
		meta_reply_write(exec, conn, sub);
	else
		exec_put_tagged(exec, conn, sub, 0, length, sub->end.cas);
	if (sub->end.result == PROTO_VALUE)
		conn_write(conn, "END\r\n", 5);
}

static void
write_text(const struct exec *exec, struct conn *conn)
{
	if (exec->r.noreply)
		return;
	if (exec->text_length < BLOCK_SMALL || exec->text_block == NULL)
		conn_write(conn, exec->text, exec->text_length);
	else
		conn_write_block(conn, exec->text_block, exec->text,
		    exec->text_length);
}

static void
write_error(const struct exec *exec, struct conn *conn)
{
	if (exec->r.noreply)
		return;
	conn_write(conn, exec->r.error, strlen(exec->r.error));
	conn_write(conn, "\r\n", 2);
}

bool
request_write(struct request *request, struct conn *conn)
{
	struct exec *exec = exec_of(request);

	hot_assert(exec->state == EXEC_READY && exec->owed == 0);
	exec->state = EXEC_WRITTEN;
	/* What takes the place of a reply takes that of all its rounds. */
	hot_assert(exec->text == NULL || exec->keys_left == 0);
	if (exec->text != NULL)
		write_text(exec, conn);
	else if (exec->r.too_large)
		write_error(exec, conn);
	else if (!has_rounds(&exec->r))
		write_reply(exec, conn);
	else
		multiget_write(exec, conn);
	if (exec->keys_left > 0)
		return false;
	/* That of request_new() has no command. */
	if (exec->r.length > 0)
		stats_count_time(exec->env->stats, exec->r.command,
		    (uint32_t)conn_loop_us(exec->env->loop) - exec->began_us);
	return true;
}

/*
 * Life
 */

bool
request_may_start(const struct request_env *env, const struct proto_request *r,
    const char *bytes)
{
	struct gate *gate = pairs_gate(env->pairs);
	struct pair pair;

	gate_notice(gate);
	if (is_held_key(gate, r, bytes))
		return false;
	if (!gate_is_closed(gate))
		return true;
	if (has_rounds(r))
		return multiget_may_start(env, r, bytes, r->keys.at);
	pair = pairs_find_wire(env->pairs, bytes + r->key.at, r->key.length,
	    r->base64);
	return !gate_holds(gate, &pair);
}

bool
request_may_continue(const struct request *request)
{
	const struct exec *exec = CONTAINER_OF(request, struct exec, request);

	assert(exec->keys_left > 0);
	return !gate_is_closed(pairs_gate(exec->env->pairs)) ||
	    multiget_may_start(exec->env, &exec->r, exec->bytes, exec->key_at);
}

struct request *
request_start(struct request_env *env, void *owner, struct conn *conn,
    const struct proto_request *r, const char *bytes)
{
	struct exec *exec = exec_new(env, owner);
	bool started = true;

	assert(owner != NULL);
	if (exec == NULL)
		return NULL;
	if (!keep_message(exec, conn, r, bytes)) {
		exec_end(exec);
		return NULL;
	}
	exec->request.cost += r->length;
	exec->began_us = (uint32_t)conn_loop_us(env->loop);
	if (has_rounds(r)) {
		exec->keys_left = r->key_count;
		exec->key_at = r->keys.at;
		started = multiget_start(exec);
	} else {
		start_single(exec);
		exec->state = exec->owed == 0 ? EXEC_READY : EXEC_WAITING;
	}
	if (started)
		return &exec->request;
	exec_end(exec);
	return NULL;
}

struct request *
request_new(struct request_env *env, void *owner)
{
	struct exec *exec = exec_new(env, owner);

	assert(owner != NULL);
	if (exec == NULL)
		return NULL;
	memset(&exec->r, 0, sizeof(exec->r));
	exec->owed = 1;
	return &exec->request;
}

void
request_silence(struct request *request, bool silent)
{
	struct exec *exec = exec_of(request);

	assert(exec->owed == 1 && STAILQ_EMPTY(&exec->subrequests));
	exec->r.noreply = silent;
}

void
request_hold(struct request *request)
{
	struct exec *exec = exec_of(request);

	assert(exec->owed == 1 && STAILQ_EMPTY(&exec->subrequests));
	exec->is_held = true;
}

void
request_finish(struct request *request, const char *bytes, size_t n)
{
	struct exec *exec = exec_of(request);

	assert(exec->owed == 1 && exec->text == NULL);
	assert(STAILQ_EMPTY(&exec->subrequests));
	exec->owed = 0;
	exec->is_held = false;
	exec->text_length = n;
	if (n <= sizeof(exec->small)) {
		memcpy(exec->small, bytes, n);
		exec->text = exec->small;
	} else if ((exec->text_block = block_copy(bytes, n)) != NULL) {
		exec->text = exec->text_block->bytes;
	} else {
		exec_set_text(exec, exec_no_memory);
	}
	exec_become_ready(exec);
}

void
request_fail(struct request *request)
{
	request_finish(request, exec_no_memory, strlen(exec_no_memory));
}

bool
request_is_ready(const struct request *request)
{
	return CONTAINER_OF(request, struct exec, request)->state == EXEC_READY;
}

void
request_continue(struct request *request)
{
	struct exec *exec = exec_of(request);

	assert(exec->state == EXEC_WRITTEN && exec->keys_left > 0);
	if (multiget_start(exec))
		return;
	exec->keys_left = 0;
	exec_set_text(exec, exec_no_memory);
	exec->state = EXEC_READY;
}

bool
request_is_paused(const struct request *request)
{
	const struct exec *exec = CONTAINER_OF(request, struct exec, request);

	return exec->state == EXEC_WRITTEN && exec->keys_left > 0;
}

void
request_left(const struct request *request, struct request_text *head,
    struct request_text *keys)
{
	const struct exec *exec = CONTAINER_OF(request, struct exec, request);

	assert(request_is_paused(request));
	head->bytes = exec->bytes;
	head->length = exec->r.keys.at;
	keys->bytes = exec->bytes + exec->key_at;
	keys->length = exec->r.length - exec->key_at;
}

bool
request_is_sent(const struct request *request)
{
	const struct exec *exec = CONTAINER_OF(request, struct exec, request);

	return exec->keys_left == 0 && !exec->is_held;
}

bool
request_is_in_steps(const struct request *request)
{
	const struct exec *exec = CONTAINER_OF(request, struct exec, request);

	return exec->is_in_steps && exec->state == EXEC_WAITING;
}

bool
request_would_overtake(const struct request *request,
    const struct proto_request *r, const char *bytes)
{
	const struct exec *exec = CONTAINER_OF(request, struct exec, request);
	const struct proto_span *key = &exec->r.key;

	if (!request_is_in_steps(request))
		return false;
	if (has_rounds(r) || r->base64 != exec->r.base64)
		return true;
	return key->length == r->key.length &&
	    memcmp(exec->bytes + key->at, bytes + r->key.at, key->length) == 0;
}

void
request_free(struct request *request)
{
	struct exec *exec = exec_of(request);

	assert(request->owner != NULL && !exec->is_freed);
	hot_assert(exec->owed == 0 || exec->state == EXEC_WAITING);
	if (exec->owed > 0) {
		request->owner = NULL;
		exec->keys_left = 0;
	} else if (exec->in_answered) {
		exec->is_freed = true;
	} else {
		exec_end(exec);
	}
}
