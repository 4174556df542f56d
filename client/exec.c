/*
 * What a request takes to be carried out.
 *
 * Invariant: a work has exactly as many open parts as servers owe it answers;
 * it ends when its owner is done with it (or gone) and no part is open.
 */

#include "client/exec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "client/budget.h"
#include "client/stats.h"
#include "conn.h"
#include "mirror/command.h"

const char exec_no_server[] = "SERVER_ERROR no server is up for this key\r\n";
const char exec_no_memory[] = "SERVER_ERROR out of memory\r\n";

static struct exec *spare_execs;
static struct subrequest_list spare_subrequests =
    STAILQ_HEAD_INITIALIZER(spare_subrequests);

/*
 * Memory
 */

struct exec *
exec_new(struct request_env *env, void *owner)
{
	struct exec *exec = spare_execs;

	if (exec != NULL)
		spare_execs = exec->next_spare;
	else
		exec = malloc(sizeof(*exec));
	if (exec == NULL)
		return NULL;
	/* The rest is large, and is written before it is read. */
	memset(exec, 0, offsetof(struct exec, r));
	exec->env = env;
	exec->request.owner = owner;
	exec->request.cost = sizeof(*exec);
	STAILQ_INIT(&exec->subrequests);
	return exec;
}

struct subrequest *
exec_add_subrequest(struct exec *exec)
{
	struct subrequest *sub = &exec->inline_sub;

	if (exec->inline_sub_is_used) {
		sub = STAILQ_FIRST(&spare_subrequests);
		if (sub != NULL)
			STAILQ_REMOVE_HEAD(&spare_subrequests, entry);
		else
			sub = malloc(sizeof(*sub));
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
			STAILQ_INSERT_HEAD(&spare_subrequests, sub, entry);
	}
	exec->inline_sub_is_used = false;
}

void
exec_end(struct exec *exec)
{
	assert(exec->owed == 0);
	exec_free_subrequests(exec);
	block_release(exec->message);
	block_release(exec->get_keys_block);
	block_release(exec->text_block);
	exec->next_spare = spare_execs;
	spare_execs = exec;
}

void
exec_pool_free(void)
{
	struct exec *exec;
	struct subrequest *sub;

	while ((exec = spare_execs) != NULL) {
		spare_execs = exec->next_spare;
		free(exec);
	}
	while ((sub = STAILQ_FIRST(&spare_subrequests)) != NULL) {
		STAILQ_REMOVE_HEAD(&spare_subrequests, entry);
		free(sub);
	}
}

void
exec_set_text(struct exec *exec, const char *text)
{
	assert(text != NULL);
	exec->text = text;
	exec->text_length = strlen(text);
}

/*
 * When a part is answered
 */

/* The reply cannot be kept: it becomes an error. */
static void
lose(struct subrequest *sub)
{
	struct get_key *key;

	sub->exec->env->stats->memory_errors++;
	for (key = sub->first; key != NULL; key = key->next)
		key->value.length = 0;
	if (sub->first != NULL)
		sub->exec->error_line = exec_no_memory;
	else
		exec_set_text(sub->exec, exec_no_memory);
}

/* Keep the reply that is being looked at: the owner cannot take it yet. */
static void
hold(struct subrequest *sub, const struct answer *answer)
{
	assert(sub->reply == NULL && answer->length > 0);
	sub->length = answer->length;
	sub->reply = answer_reference(answer, answer->bytes, answer->length,
	    &sub->offset);
	if (sub->reply == NULL)
		lose(sub);
}

/* The last open part has its answer (or NULL, and the reply is ours). */
static void
become_ready(struct exec *exec, struct subrequest *sub,
    const struct answer *answer)
{
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
		hold(sub, answer);
}

/* Whether it is a get that is carried out in rounds. */
static bool
is_many(const struct exec *exec)
{
	return exec->round > 0;
}

void
exec_open_subrequest(struct subrequest *sub)
{
	struct exec *exec = sub->exec;

	exec->owed++;
	budget_expect(exec->env->budget, is_many(exec), sub->keys);
}

void
exec_close_subrequest(struct subrequest *sub, const struct answer *answer)
{
	struct exec *exec = sub->exec;
	struct budget *budget = exec->env->budget;

	assert(exec->owed > 0);
	if (answer == NULL) {
		budget_unexpect(budget, is_many(exec), sub->keys);
	} else {
		budget_arrived(budget, is_many(exec), sub->keys,
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
		hold(sub, answer);
}

void
exec_become_ready(struct exec *exec)
{
	become_ready(exec, NULL, NULL);
}

/*
 * Writing
 */

const char *
exec_reply(const struct exec *exec, const struct subrequest *sub,
    size_t *length)
{
	assert(sub->exec == exec && sub->exec->owed == 0);
	if (exec->in_place != NULL && sub == exec->in_place_sub) {
		*length = exec->in_place->length;
		return exec->in_place->bytes;
	}
	*length = sub->length;
	return sub->reply->bytes + sub->offset;
}

/* n bytes of the reply to part. */
void
exec_put(struct exec *exec, struct conn *conn, const struct subrequest *sub,
    size_t at, size_t n)
{
	const struct answer *in_place = exec->in_place;
	struct block *block;
	size_t offset;

	if (in_place == NULL || sub != exec->in_place_sub) {
		conn_write_block(conn, sub->reply,
		    sub->reply->bytes + sub->offset + at, n);
		return;
	}
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

/* n bytes of the reply to part at offset at, with the cas token in them, if
   there is one, tagged. */
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
	bytes = exec_reply(exec, sub, &length);
	length = command_tag(token, bytes + at + cas.at, cas.length, sub->tag);
	exec_put(exec, conn, sub, at, cas.at);
	conn_write(conn, token, length);
	exec_put(exec, conn, sub, at + cas.at + cas.length,
	    n - cas.at - cas.length);
}
