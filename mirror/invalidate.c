/*
 * Remove from a server that is back what may be old in it.
 *
 *   dirty set -> dirty_pop() -> deletion -> delete -> reply
 *        ^                                              |
 *        '--- an error, or no reply --------------------'
 *
 * Invariant: a key that may be old is dirty, or in a deletion whose delete has
 * no reply.  Writes of clients make more keys dirty until done() is called,
 * because the server gets no effects before that.
 */

#include "mirror/invalidate.h"

#include <assert.h>
#include <stdlib.h>

#include "container_of.h"
#include "mirror/blame.h"
#include "mirror/classic.h"
#include "mirror/command.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

/* Deletes in flight. */
enum { DELETIONS_MAX = 64 };

/* The delete of a dirty key. */
struct deletion {
	struct call call;
	struct invalidation *invalidation;
	/* The next of the idle ones, if this is one of them. */
	struct deletion *next_idle;
	size_t length;
	bool base64;
	/* As it is on a command line. */
	char key[PROTO_KEY_MAX];
};

struct invalidation {
	struct peer *peer;                          /* borrowed */
	const struct invalidation_handler *handler; /* borrowed */
	void *owner;
	/* It was started and not stopped, and has neither called done() nor
	   had a delete without a reply. */
	bool is_running;
	/* The flush_all, in flight while is_flushing. */
	struct call flush;
	bool is_flushing;
	struct deletion deletions[DELETIONS_MAX];
	/* Deletions that are not in flight, linked by next_idle. */
	struct deletion *idle;
};

static void delete_more(struct invalidation *invalidation);

static void
finish_invalidation(struct invalidation *invalidation, bool is_emptied)
{
	assert(invalidation->is_running && !invalidation->is_flushing);
	assert(invalidation->peer->state == PEER_INVALIDATE);
	assert(!dirty_is_all(invalidation->peer->dirty) &&
	    dirty_count(invalidation->peer->dirty) == 0);
	invalidation->is_running = false;
	invalidation->handler->done(invalidation->owner, is_emptied);
}

/*
 * Everything
 */

static void
on_emptied(struct call *call, const struct answer *answer)
{
	struct invalidation *invalidation = CONTAINER_OF(call,
	    struct invalidation, flush);
	struct peer *peer = invalidation->peer;

	invalidation->is_flushing = false;
	if (answer == NULL || !invalidation->is_running)
		return;
	if (answer->last.result != PROTO_OKAY) {
		server_fail(peer->server, "refuses flush_all");
		return;
	}
	dirty_clear(peer->dirty);
	finish_invalidation(invalidation, true);
}

static void
flush_everything(struct invalidation *invalidation)
{
	static const char line[] = "flush_all\r\n";

	assert(dirty_is_all(invalidation->peer->dirty));
	if (invalidation->is_flushing)
		return;
	invalidation->is_flushing = true;
	invalidation->flush = (struct call){
		.expect = PROTO_EXPECT_OK,
		.done = on_emptied,
	};
	server_submit(invalidation->peer->server, 0, &invalidation->flush, line,
	    sizeof(line) - 1, NULL, 0, NULL);
}

/*
 * Key by key
 */

/* The server has failed, and it may be because of this delete.  If that has
   happened before, it is emptied instead. */
static void
blame_deletion(const struct deletion *deletion)
{
	struct peer *peer = deletion->invalidation->peer;
	struct blame *blame = pairs_blame(peer->pairs);

	if (!deletion->call.is_suspect)
		return;
	blame_key(blame, deletion->key, deletion->length);
	if (blame_is_clear(blame, deletion->key, deletion->length))
		peer_add_all_dirty(peer);
}

static void
on_deleted(struct call *call, const struct answer *answer)
{
	struct deletion *deletion = CONTAINER_OF(call, struct deletion, call);
	struct invalidation *invalidation = deletion->invalidation;
	struct peer *peer = invalidation->peer;
	const struct proto_request r = { .base64 = deletion->base64 };

	assert(deletion->length > 0);
	deletion->next_idle = invalidation->idle;
	invalidation->idle = deletion;
	if (answer == NULL) {
		peer_add_dirty(peer, deletion->key, deletion->length,
		    deletion->base64);
		blame_deletion(deletion);
		invalidation->is_running = false;
		return;
	}
	if (!command_has_deleted(&r, answer->last.result)) {
		peer_add_dirty(peer, deletion->key, deletion->length,
		    deletion->base64);
		server_fail(peer->server, "refuses a delete");
	} else if (invalidation->is_running) {
		delete_more(invalidation);
	}
}

static void
delete_key(struct invalidation *invalidation, struct deletion *deletion)
{
	struct peer *peer = invalidation->peer;
	struct pair pair = pairs_find_wire(peer->pairs, deletion->key,
	    deletion->length, deletion->base64);
	struct proto_request r = {
		.key = { 0, (uint32_t)deletion->length },
		.base64 = deletion->base64,
	};
	struct command command;

	assert(deletion->length > 0 && deletion->length <= PROTO_KEY_MAX);
	command_delete(&command, &r, deletion->key);
	deletion->call.expect = command.expect;
	deletion->call.done = on_deleted;
	server_submit(peer->server, pair.hash, &deletion->call, command.line,
	    command.length, NULL, 0, NULL);
}

/* Delete as many dirty keys as may be in flight.  If all keys are dirty, empty
   the server.  If none is, finish. */
static void
delete_more(struct invalidation *invalidation)
{
	struct dirty *dirty = invalidation->peer->dirty;
	struct deletion *deletion;

	assert(invalidation->is_running);
	assert(invalidation->peer->state == PEER_INVALIDATE);
	while (!dirty_is_all(dirty) &&
	    (deletion = invalidation->idle) != NULL &&
	    dirty_pop(dirty, deletion->key, &deletion->length,
		&deletion->base64)) {
		if (!invalidation->handler->key(invalidation->owner,
			deletion->key, deletion->length, deletion->base64))
			dirty_add_all(dirty);
		/* Of a key that the server cannot have, it has nothing old. */
		if (!classic_can_hold(&invalidation->peer->abilities,
			deletion->key, deletion->length, deletion->base64))
			continue;
		invalidation->idle = deletion->next_idle;
		delete_key(invalidation, deletion);
	}
	if (dirty_is_all(dirty))
		flush_everything(invalidation);
	else if (dirty_count(dirty) == 0)
		finish_invalidation(invalidation, false);
}

void
invalidation_start(struct invalidation *invalidation)
{
	assert(invalidation->peer->state == PEER_INVALIDATE);
	assert(!invalidation->is_flushing && invalidation->idle != NULL);
	invalidation->is_running = true;
	delete_more(invalidation);
}

void
invalidation_stop(struct invalidation *invalidation)
{
	invalidation->is_running = false;
}

struct invalidation *
invalidation_new(struct peer *peer, const struct invalidation_handler *handler,
    void *owner)
{
	struct invalidation *invalidation = calloc(1, sizeof(*invalidation));
	int i;

	if (invalidation == NULL)
		return NULL;
	assert(handler->key != NULL && handler->done != NULL);
	invalidation->peer = peer;
	invalidation->handler = handler;
	invalidation->owner = owner;
	for (i = 0; i < DELETIONS_MAX; i++) {
		invalidation->deletions[i].invalidation = invalidation;
		invalidation->deletions[i].next_idle = invalidation->idle;
		invalidation->idle = &invalidation->deletions[i];
	}
	return invalidation;
}

void
invalidation_free(struct invalidation *invalidation)
{
	free(invalidation);
}
