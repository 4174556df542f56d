/*
 * What a request takes to be carried out.
 *
 * Invariant: a work has exactly as many open parts as servers owe it answers;
 * it ends when its owner is done with it (or gone) and no part is open.
 */

#include "client/work.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "client/budget.h"
#include "client/stats.h"
#include "conn.h"
#include "mirror/command.h"

const char work_no_server[] = "SERVER_ERROR no server is up for this key\r\n";
const char work_no_memory[] = "SERVER_ERROR out of memory\r\n";

static struct work *spare_works;
static struct part_list spare_parts = STAILQ_HEAD_INITIALIZER(spare_parts);

/*
 * Memory
 */

struct work *
work_new(struct request_world *world, void *owner)
{
	struct work *work = spare_works;

	if (work != NULL)
		spare_works = work->next_spare;
	else
		work = malloc(sizeof(*work));
	if (work == NULL)
		return NULL;
	/* The rest is large, and is written before it is read. */
	memset(work, 0, offsetof(struct work, r));
	work->world = world;
	work->request.owner = owner;
	work->request.cost = sizeof(*work);
	STAILQ_INIT(&work->parts);
	return work;
}

struct part *
work_add_part(struct work *work)
{
	struct part *part = &work->own;

	if (work->own_used) {
		part = STAILQ_FIRST(&spare_parts);
		if (part != NULL)
			STAILQ_REMOVE_HEAD(&spare_parts, entry);
		else
			part = malloc(sizeof(*part));
		if (part == NULL)
			return NULL;
	}
	work->own_used = true;
	memset(part, 0, offsetof(struct part, end));
	part->work = work;
	STAILQ_INSERT_TAIL(&work->parts, part, entry);
	return part;
}

void
work_free_parts(struct work *work)
{
	struct part *part;

	while ((part = STAILQ_FIRST(&work->parts)) != NULL) {
		STAILQ_REMOVE_HEAD(&work->parts, entry);
		block_release(part->reply);
		if (part != &work->own)
			STAILQ_INSERT_HEAD(&spare_parts, part, entry);
	}
	work->own_used = false;
}

void
work_end(struct work *work)
{
	assert(work->open == 0);
	work_free_parts(work);
	block_release(work->message);
	block_release(work->slot_block);
	block_release(work->text_block);
	work->next_spare = spare_works;
	spare_works = work;
}

void
work_pool_free(void)
{
	struct work *work;
	struct part *part;

	while ((work = spare_works) != NULL) {
		spare_works = work->next_spare;
		free(work);
	}
	while ((part = STAILQ_FIRST(&spare_parts)) != NULL) {
		STAILQ_REMOVE_HEAD(&spare_parts, entry);
		free(part);
	}
}

void
work_set_text(struct work *work, const char *text)
{
	assert(text != NULL);
	work->text = text;
	work->text_length = strlen(text);
}

/*
 * When a part is answered
 */

/* The reply cannot be kept: it becomes an error. */
static void
lose(struct part *part)
{
	struct slot *slot;

	part->work->world->stats->memory_errors++;
	for (slot = part->first; slot != NULL; slot = slot->next)
		slot->value.length = 0;
	if (part->first != NULL)
		part->work->lack = work_no_memory;
	else
		work_set_text(part->work, work_no_memory);
}

/* Keep the reply that is being looked at: the owner cannot take it yet. */
static void
hold(struct part *part, const struct answer *answer)
{
	assert(part->reply == NULL && answer->length > 0);
	part->length = answer->length;
	part->reply = answer_keep(answer, answer->bytes, answer->length,
	    &part->offset);
	if (part->reply == NULL)
		lose(part);
}

/* The last open part has its answer (or NULL, and the reply is ours). */
static void
become_ready(struct work *work, struct part *part, const struct answer *answer)
{
	if (work->request.owner == NULL) {
		work_end(work);
		return;
	}
	work->state = WORK_READY;
	work->live = answer;
	work->live_part = part;
	work->telling = true;
	work->world->answered(&work->request);
	work->telling = false;
	work->live = NULL;
	if (work->over)
		work_end(work);
	else if (work->state == WORK_READY && answer != NULL)
		hold(part, answer);
}

/* Whether it is a get that is carried out in rounds. */
static bool
is_many(const struct work *work)
{
	return work->round > 0;
}

void
work_open_part(struct part *part)
{
	struct work *work = part->work;

	work->open++;
	budget_ask(work->world->budget, is_many(work), part->keys);
}

void
work_close_part(struct part *part, const struct answer *answer)
{
	struct work *work = part->work;
	struct budget *budget = work->world->budget;

	assert(work->open > 0);
	if (answer == NULL) {
		budget_forget(budget, is_many(work), part->keys);
	} else {
		budget_take(budget, is_many(work), part->keys, answer->length);
		part->end = answer->last;
		part->end_at = answer->last_at;
		part->tag = peer_tag(part->peer);
	}
	if (answer != NULL && answer->length > BLOCK_SMALL &&
	    budget_is_spent(budget)) {
		lose(part);
		answer = NULL;
	}
	if (--work->open == 0)
		become_ready(work, part, answer);
	else if (answer != NULL)
		hold(part, answer);
}

void
work_become_ready(struct work *work)
{
	become_ready(work, NULL, NULL);
}

/*
 * Writing
 */

const char *
work_reply(const struct work *work, const struct part *part, size_t *length)
{
	assert(part->work == work && part->work->open == 0);
	if (work->live != NULL && part == work->live_part) {
		*length = work->live->length;
		return work->live->bytes;
	}
	*length = part->length;
	return part->reply->bytes + part->offset;
}

/* n bytes of the reply to part. */
void
work_put(struct work *work, struct conn *conn, const struct part *part,
    size_t at, size_t n)
{
	const struct answer *live = work->live;
	struct block *block;
	size_t offset;

	if (live == NULL || part != work->live_part) {
		conn_write_block(conn, part->reply,
		    part->reply->bytes + part->offset + at, n);
		return;
	}
	block = n < BLOCK_SMALL ?
	    NULL :
	    answer_keep(live, live->bytes + at, n, &offset);
	if (block == NULL) {
		conn_write(conn, live->bytes + at, n);
		return;
	}
	conn_write_block(conn, block, block->bytes + offset, n);
	block_release(block);
}

/* n bytes of the reply to part at offset at, with the cas token in them, if
   there is one, tagged. */
void
work_put_tagged(struct work *work, struct conn *conn, const struct part *part,
    size_t at, size_t n, struct proto_span cas)
{
	const char *bytes;
	char token[24];
	size_t length;

	if (!pairs_are_mirrored(work->world->pairs) || cas.length == 0) {
		work_put(work, conn, part, at, n);
		return;
	}
	bytes = work_reply(work, part, &length);
	length = command_tag(token, bytes + at + cas.at, cas.length, part->tag);
	work_put(work, conn, part, at, cas.at);
	conn_write(conn, token, length);
	work_put(work, conn, part, at + cas.at + cas.length,
	    n - cas.at - cas.length);
}
