/*
 * The execution of one request.
 *
 * Invariant: owed counts the open subrequests, each of which a server owes an
 * answer, and one more while the caller of request_new() owes the reply.  An
 * exec ends when its owner is done with it, or gone, and nothing is owed.  Each
 * time that owed falls to zero the exec is ready, and its owner, if it is not
 * gone, is called.
 */

#include "client/exec.h"

#include <assert.h>
#include <string.h>

#include "block.h"
#include "client/budget.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "hot_assert.h"
#include "mirror/command.h"
#include "mirror/effect.h"
#include "mirror/stamp.h"
#include "pool.h"

const char exec_no_server[] = "SERVER_ERROR no server is up for this key\r\n";
const char exec_no_memory[] = "SERVER_ERROR out of memory\r\n";
const char exec_too_old[] =
    "SERVER_ERROR the memcached of this key is too old for this command\r\n";
const char exec_no_cas[] =
    "SERVER_ERROR the memcached of this key runs without cas (-C)\r\n";
const char exec_too_large[] = "SERVER_ERROR object too large for cache\r\n";

/* exec_new() clears what is before r, and exec_end() releases these members. */
static_assert(offsetof(struct exec, subrequests) < offsetof(struct exec, r) &&
	offsetof(struct exec, message) < offsetof(struct exec, r) &&
	offsetof(struct exec, get_keys_block) < offsetof(struct exec, r) &&
	offsetof(struct exec, text_block) < offsetof(struct exec, r),
    "exec_new() clears what exec_end() releases");

/* exec_add_subrequest() clears what is before end. */
static_assert(offsetof(struct subrequest, reply) <
	offsetof(struct subrequest, end),
    "a subrequest has no reply at first");

static struct pool execs = POOL(struct exec);
static struct pool subrequests = POOL(struct subrequest);

/* A reply waits for a stamp. */
struct confirmation {
	struct stamp_waiter waiter;
	struct exec *exec; /* borrowed: it is owed this */
	const char *error; /* static */
};

static struct pool confirmations = POOL(struct confirmation);

/*
 * Memory
 */

struct exec *
exec_new(struct request_env *env, void *owner)
{
	struct exec *exec = pool_take(&execs);

	if (exec == NULL)
		return NULL;
	/* What is behind r is large, and is written before it is read. */
	memset(exec, 0, offsetof(struct exec, r));
	exec->env = env;
	exec->request.owner = owner;
	exec->request.cost = sizeof(*exec);
	STAILQ_INIT(&exec->subrequests);
	return exec;
}

size_t
requests_under_way(void)
{
	return pool_in_use(&execs);
}

struct subrequest *
exec_add_subrequest(struct exec *exec)
{
	struct subrequest *sub = &exec->inline_sub;

	hot_assert(exec->inline_sub_is_used ==
	    !STAILQ_EMPTY(&exec->subrequests));
	if (exec->inline_sub_is_used) {
		sub = pool_take(&subrequests);
		if (sub == NULL)
			return NULL;
	}
	exec->inline_sub_is_used = true;
	memset(sub, 0, offsetof(struct subrequest, end));
	sub->exec = exec;
	STAILQ_INSERT_TAIL(&exec->subrequests, sub, entry);
	return sub;
}

void
exec_free_subrequests(struct exec *exec)
{
	struct subrequest *sub;

	while ((sub = STAILQ_FIRST(&exec->subrequests)) != NULL) {
		STAILQ_REMOVE_HEAD(&exec->subrequests, entry);
		block_release(sub->reply);
		if (sub != &exec->inline_sub)
			pool_give(&subrequests, sub);
	}
	exec->inline_sub_is_used = false;
}

void
exec_end(struct exec *exec)
{
	hot_assert(exec->owed == 0 && !exec->in_answered);
	exec_free_subrequests(exec);
	block_release(exec->message);
	block_release(exec->get_keys_block);
	block_release(exec->text_block);
	pool_give(&execs, exec);
}

/* Whether exec is carried out in rounds; the budget counts such gets apart. */
static bool
is_in_rounds(const struct exec *exec)
{
	return exec->round_max > 0;
}

void
exec_set_text(struct exec *exec, const char *text)
{
	assert(text != NULL);
	exec->text = text;
	exec->text_length = strlen(text);
}

/* The reply is, or ends with, an error: rounds may have been written before, or
   may come. */
static void
set_error(struct exec *exec, const char *error)
{
	if (is_in_rounds(exec))
		exec->error_line = error;
	else
		exec_set_text(exec, error);
}

/*
 * When a subrequest is answered
 */

/* There is no memory to keep the reply to sub: it becomes an error. */
static void
lose(struct subrequest *sub)
{
	struct get_key *key;

	assert(sub->reply == NULL);
	sub->exec->env->stats->memory_errors++;
	for (key = sub->first_key; key != NULL; key = key->next)
		key->value.length = 0;
	set_error(sub->exec, exec_no_memory);
}

/* Keep the reply to sub: it cannot be written now, and is valid no longer than
   done() runs. */
static void
keep_reply(struct subrequest *sub, const struct answer *answer)
{
	assert(sub->reply == NULL && answer != NULL && answer->length > 0);
	sub->reply_length = answer->length;
	sub->reply = answer_reference(answer, answer->bytes, answer->length,
	    &sub->reply_at);
	if (sub->reply == NULL)
		lose(sub);
}

/* Nothing is owed any more.  answer is the reply to sub, which was the last one
   to come; NULL: that reply is lost, or there is a text of ours. */
static void
become_ready(struct exec *exec, struct subrequest *sub,
    const struct answer *answer)
{
	hot_assert(exec->owed == 0 && exec->state == EXEC_WAITING);
	hot_assert(!exec->in_answered && exec->in_place == NULL);
	if (exec->request.owner == NULL) {
		exec_end(exec);
		return;
	}
	exec->state = EXEC_READY;
	exec->in_place = answer;
	exec->in_place_sub = sub;
	exec->in_answered = true;
	exec->env->answered(&exec->request);
	exec->in_answered = false;
	exec->in_place = NULL;
	if (exec->is_freed)
		exec_end(exec);
	else if (exec->state == EXEC_READY && answer != NULL)
		keep_reply(sub, answer);
}

void
exec_open_subrequest(struct subrequest *sub)
{
	struct exec *exec = sub->exec;

	hot_assert(exec->state != EXEC_READY);
	hot_assert(sub->peer != NULL && sub->call.done != NULL);
	exec->owed++;
	budget_expect(exec->env->budget, is_in_rounds(exec), sub->key_count);
}

void
exec_close_subrequest(struct subrequest *sub, const struct answer *answer)
{
	struct exec *exec = sub->exec;
	struct budget *budget = exec->env->budget;

	hot_assert(exec->owed > 0 && exec->state == EXEC_WAITING);
	if (answer == NULL) {
		budget_unexpect(budget, is_in_rounds(exec), sub->key_count);
	} else {
		budget_arrived(budget, is_in_rounds(exec), sub->key_count,
		    answer->length);
		sub->end = answer->last;
		sub->end_at = answer->last_at;
		sub->tag = peer_tag(sub->peer);
	}
	if (answer != NULL && answer->length > BLOCK_SMALL &&
	    budget_is_spent(budget)) {
		lose(sub);
		answer = NULL;
	}
	if (--exec->owed == 0)
		become_ready(exec, sub, answer);
	else if (answer != NULL)
		keep_reply(sub, answer);
}

void
exec_become_ready(struct exec *exec)
{
	become_ready(exec, NULL, NULL);
}

/*
 * Writes that a server has missed
 */

static void
on_confirmed(struct stamp_waiter *waiter, bool is_given)
{
	struct confirmation *confirmation = CONTAINER_OF(waiter,
	    struct confirmation, waiter);
	struct exec *exec = confirmation->exec;

	assert(exec->owed > 0);
	if (!is_given)
		set_error(exec, confirmation->error);
	pool_give(&confirmations, confirmation);
	if (--exec->owed == 0)
		become_ready(exec, NULL, NULL);
}

void
exec_confirm(struct exec *exec, const struct pair *pair, struct peer *asked,
    const char *error)
{
	struct confirmation *confirmation = pool_take(&confirmations);

	assert(exec->owed > 0);
	if (confirmation == NULL) {
		exec->env->stats->memory_errors++;
		set_error(exec, exec_no_memory);
		return;
	}
	exec->owed++;
	confirmation->waiter.wake = on_confirmed;
	confirmation->exec = exec;
	confirmation->error = error;
	effect_confirm(pair, asked, &confirmation->waiter);
}

/*
 * Writing
 */

const char *
exec_reply(const struct exec *exec, const struct subrequest *sub,
    size_t *length)
{
	hot_assert(sub->exec == exec && sub->exec->owed == 0);
	if (exec->in_place != NULL && sub == exec->in_place_sub) {
		*length = exec->in_place->length;
		return exec->in_place->bytes;
	}
	assert(sub->reply != NULL);
	*length = sub->reply_length;
	return sub->reply->bytes + sub->reply_at;
}

void
exec_put(struct exec *exec, struct conn *conn, const struct subrequest *sub,
    size_t at, size_t n)
{
	const struct answer *in_place = exec->in_place;
	struct block *block;
	size_t offset;

	if (in_place == NULL || sub != exec->in_place_sub) {
		assert(sub->reply != NULL && at + n <= sub->reply_length);
		conn_write_block(conn, sub->reply,
		    sub->reply->bytes + sub->reply_at + at, n);
		return;
	}
	hot_assert(at + n <= in_place->length);
	block = n < BLOCK_SMALL ?
	    NULL :
	    answer_reference(in_place, in_place->bytes + at, n, &offset);
	if (block == NULL) {
		conn_write(conn, in_place->bytes + at, n);
		return;
	}
	conn_write_block(conn, block, block->bytes + offset, n);
	block_release(block);
}

void
exec_put_tagged(struct exec *exec, struct conn *conn,
    const struct subrequest *sub, size_t at, size_t n, struct proto_span cas)
{
	const char *bytes;
	char token[24];
	size_t length;

	if (!pairs_are_mirrored(exec->env->pairs) || cas.length == 0) {
		exec_put(exec, conn, sub, at, n);
		return;
	}
	assert(cas.at + cas.length <= n);
	bytes = exec_reply(exec, sub, &length);
	length = command_tag(token, bytes + at + cas.at, cas.length, sub->tag);
	exec_put(exec, conn, sub, at, cas.at);
	conn_write(conn, token, length);
	exec_put(exec, conn, sub, at + cas.at + cas.length,
	    n - cas.at - cas.length);
}
