/*
 * Remove from a server that is back what may be old in it.
 *
 *   dirty set -> dirty_pop() -> deletion -> delete -> reply
 *        ^                                              |
 *        '--- an error, or no reply --------------------'
 *
 *   All keys are dirty:  flush_all -> reply -> (-C) the end of the second
 *   It refuses that:     dump -> listed keys -> deletion -> delete -> reply
 *   A part of it is old: the same; or the flush_all, if it can list no keys
 *
 * Invariant: a key that may be old is dirty, or in a deletion whose delete has
 * no reply.  Writes of clients make more keys dirty until done() is called,
 * because the server gets no effects before that.  All keys stay dirty until
 * the server has been emptied.
 */

#include "mirror/invalidate.h"

#include <assert.h>
#include <stdlib.h>

#include "container_of.h"
#include "log.h"
#include "mirror/behind.h"
#include "mirror/blame.h"
#include "mirror/classic.h"
#include "mirror/command.h"
#include "mirror/dirty.h"
#include "mirror/dump.h"
#include "mirror/goals.h"
#include "mirror/keys.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/second.h"
#include "proto.h"
#include "server/server.h"

enum {
	/* Deletes in flight. */
	DELETIONS_MAX = 64,
	/* Memory of the keys of a server that refuses flush_all, bytes.  If it
	   has more keys, they are listed again when these are deleted. */
	LISTED_MAX = 16 << 20,
};

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
	struct conn_loop *loop;                     /* borrowed */
	struct peer *peer;                          /* borrowed */
	const struct invalidation_handler *handler; /* borrowed */
	void *owner;
	/* It was started and not stopped, and has neither called done() nor
	   had a delete without a reply. */
	bool is_running;
	struct call flush;
	bool is_flushing; /* the flush_all has no answer */
	/* The one in which the flush_all was carried out, owned until it has
	   passed; NULL: none. */
	struct second *second;
	/* The server refuses flush_all: the keys that it has listed are
	   deleted. */
	bool is_purging;
	struct dump *dump;   /* owned; NULL: no list is being read */
	enum dump_end list;  /* how the last list has ended */
	size_t found;        /* keys of the last list */
	struct keys *listed; /* owned: keys that wait to be deleted */
	size_t held;         /* memory of listed, in bytes */
	struct deletion deletions[DELETIONS_MAX];
	/* Deletions that are not in flight, linked by next_idle. */
	struct deletion *idle;
};

static void delete_more(struct invalidation *invalidation);

static void
finish_invalidation(struct invalidation *invalidation, bool is_emptied)
{
	assert(invalidation->is_running && !invalidation->is_flushing);
	assert(invalidation->second == NULL);
	assert(invalidation->peer->state == PEER_INVALIDATE);
	assert(!dirty_is_all(invalidation->peer->dirty) &&
	    dirty_count(invalidation->peer->dirty) == 0);
	assert(invalidation->dump == NULL && !invalidation->is_purging);
	invalidation->is_running = false;
	invalidation->handler->done(invalidation->owner, is_emptied);
}

/*
 * Everything
 */

/* The server holds nothing; or nothing that is old. */
static void
finish_emptied(struct invalidation *invalidation)
{
	struct peer *peer = invalidation->peer;
	bool is_part = !dirty_is_all(peer->dirty);

	assert(!is_part || peer->has_old_part);
	invalidation->is_purging = false;
	peer->has_old_part = false;
	if (!is_part)
		dirty_clear(peer->dirty);
	finish_invalidation(invalidation, !is_part);
}

static void
on_emptied_second(void *owner, bool is_over)
{
	struct invalidation *invalidation = owner;

	invalidation->second = NULL;
	if (is_over && invalidation->is_running)
		finish_emptied(invalidation);
}

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
		peer->identity.refuses_flush = true;
		delete_more(invalidation);
	} else if (!peer->identity.has_no_cas) {
		finish_emptied(invalidation);
	} else {
		invalidation->second = second_wait(peer, on_emptied_second,
		    invalidation);
		if (invalidation->second == NULL)
			server_fail(peer->server, "out of memory");
	}
}

static void
flush_everything(struct invalidation *invalidation)
{
	static const char line[] = "flush_all\r\n";

	assert(dirty_is_all(invalidation->peer->dirty));
	if (invalidation->is_flushing || invalidation->second != NULL)
		return;
	invalidation->is_flushing = true;
	invalidation->flush = (struct call){
		.expect = PROTO_EXPECT_OK,
		.done = on_emptied,
	};
	server_submit(invalidation->peer->server, 0, &invalidation->flush, line,
	    sizeof(line) - 1, NULL, 0, NULL);
}

/* Forget an earlier try, which has failed: its second may not be over. */
static void
reset_flush(struct invalidation *invalidation)
{
	assert(!invalidation->is_flushing);
	second_free(invalidation->second);
	invalidation->second = NULL;
}

/*
 * Everything, of a server that refuses flush_all
 */

static void
on_purge_list_begins(void *owner)
{
	(void)owner;
}

/* Whether the server may not keep what it has of a key. */
static bool
is_to_be_purged(const struct invalidation *invalidation, const char *key,
    size_t length)
{
	const struct peer *peer = invalidation->peer, *partner;
	struct pair pair;

	if (proto_key_is_reserved(key, length, false))
		return false;
	if (!peer->has_old_part || dirty_is_all(peer->dirty))
		return true;
	pair = pairs_find(peer->pairs, key, length);
	if (pair.primary != peer && pair.backup != peer)
		return true;
	partner = pair_partner(&pair, peer);
	return partner != NULL && behind_is_old(peer, partner);
}

static bool
on_key_to_purge(void *owner, const char *key, size_t length)
{
	struct invalidation *invalidation = owner;
	char encoded[PROTO_BASE64_MAX];
	bool base64 = proto_base64_is_needed(key, length);

	if (!is_to_be_purged(invalidation, key, length))
		return true;
	if (base64) {
		length = proto_base64_encode(key, length, encoded);
		key = encoded;
	}
	/* No client can have set, or read, a key that is longer on a command
	   line. */
	if (length > PROTO_KEY_MAX)
		return true;
	invalidation->found++;
	return keys_add(invalidation->listed, key, length, base64) &&
	    invalidation->held <= LISTED_MAX;
}

/* It never says which keys it has.  So those that only it has go, too, rather
   than that it does not return at all. */
static void
empty_unlisted(struct invalidation *invalidation)
{
	struct peer *peer = invalidation->peer;

	log_warning("s %s: does not list its keys: all of them are deleted",
	    peer_name(peer));
	invalidation->is_purging = false;
	peer_add_all_dirty(peer);
	delete_more(invalidation);
}

static void
on_purge_list_ended(void *owner, enum dump_end how)
{
	struct invalidation *invalidation = owner;

	invalidation->dump = NULL;
	invalidation->list = how;
	if (!invalidation->is_running)
		return;
	if (how == DUMP_UNABLE && invalidation->peer->identity.refuses_flush)
		server_fail(invalidation->peer->server,
		    "refuses flush_all, and does not list its keys");
	else if (how == DUMP_UNABLE)
		empty_unlisted(invalidation);
	else if (how == DUMP_FAILED)
		server_fail(invalidation->peer->server,
		    "has not listed its keys");
	else if (how != DUMP_LOST)
		delete_more(invalidation);
}

static const struct dump_handler on_purge_list = {
	.begins = on_purge_list_begins,
	.key = on_key_to_purge,
	.ended = on_purge_list_ended,
};

static void
list_everything(struct invalidation *invalidation)
{
	struct peer *peer = invalidation->peer;

	assert(invalidation->dump == NULL);
	invalidation->found = 0;
	invalidation->dump = dump_new(invalidation->loop, peer, &on_purge_list,
	    invalidation);
	if (invalidation->dump == NULL)
		server_fail(peer->server, "out of memory");
}

/* No key is left of the last list.  If that had them all, the server is empty:
   it is given no other ones.  The lists of old servers may lack some. */
static void
purge_more(struct invalidation *invalidation)
{
	const struct identity *identity = &invalidation->peer->identity;

	assert(keys_count(invalidation->listed) == 0);
	if (invalidation->list == DUMP_WHOLE &&
	    (invalidation->found == 0 || identity_is_since(identity, 1, 6, 9)))
		finish_emptied(invalidation);
	else
		list_everything(invalidation);
}

/* Its stamps go first: so it is known to be behind if it fails in between. */
static void
begin_purge(struct invalidation *invalidation)
{
	log_info("s %s: %s: its keys are deleted one by one",
	    peer_name(invalidation->peer),
	    dirty_is_all(invalidation->peer->dirty) ?
		"refuses flush_all" :
		"has keys that only it has");
	goals_mark_filling(invalidation->peer);
	invalidation->is_purging = true;
	list_everything(invalidation);
}

/* Forget an earlier try, which has failed. */
static void
reset_purge(struct invalidation *invalidation)
{
	struct deletion *deletion = invalidation->idle;

	invalidation->is_purging = false;
	if (invalidation->dump != NULL)
		dump_free(invalidation->dump);
	invalidation->dump = NULL;
	assert(deletion != NULL);
	while (keys_pop(invalidation->listed, deletion->key, &deletion->length,
	    &deletion->base64))
		;
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
	blame_key(blame, BLAME_DELETE, deletion->key, deletion->length);
	if (blame_is_clear(blame, BLAME_DELETE, deletion->key,
		deletion->length))
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
		return;
	}
	blame_acquit(pairs_blame(peer->pairs), BLAME_DELETE, deletion->key,
	    deletion->length);
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

/* Delete as many of the listed keys as may be in flight. */
static void
delete_listed(struct invalidation *invalidation)
{
	struct deletion *deletion;

	while ((deletion = invalidation->idle) != NULL &&
	    keys_pop(invalidation->listed, deletion->key, &deletion->length,
		&deletion->base64)) {
		invalidation->idle = deletion->next_idle;
		delete_key(invalidation, deletion);
	}
	if (keys_count(invalidation->listed) == 0)
		purge_more(invalidation);
}

/* All keys are dirty, or some part of them is. */
static void
empty_server(struct invalidation *invalidation)
{
	const struct peer *peer = invalidation->peer;

	if (invalidation->dump != NULL)
		return;
	if (invalidation->is_purging)
		delete_listed(invalidation);
	else if (peer->identity.refuses_flush || !dirty_is_all(peer->dirty))
		begin_purge(invalidation);
	else
		flush_everything(invalidation);
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
	if (dirty_is_all(dirty) ||
	    (dirty_count(dirty) == 0 && invalidation->peer->has_old_part))
		empty_server(invalidation);
	else if (dirty_count(dirty) == 0)
		finish_invalidation(invalidation, false);
}

void
invalidation_start(struct invalidation *invalidation)
{
	assert(invalidation->peer->state == PEER_INVALIDATE);
	reset_flush(invalidation);
	reset_purge(invalidation);
	invalidation->is_running = true;
	delete_more(invalidation);
}

void
invalidation_stop(struct invalidation *invalidation)
{
	invalidation->is_running = false;
}

struct invalidation *
invalidation_new(struct conn_loop *loop, struct peer *peer,
    const struct invalidation_handler *handler, void *owner)
{
	struct invalidation *invalidation = calloc(1, sizeof(*invalidation));
	int i;

	if (invalidation == NULL)
		return NULL;
	assert(handler->key != NULL && handler->done != NULL);
	invalidation->loop = loop;
	invalidation->peer = peer;
	invalidation->handler = handler;
	invalidation->owner = owner;
	for (i = 0; i < DELETIONS_MAX; i++) {
		invalidation->deletions[i].invalidation = invalidation;
		invalidation->deletions[i].next_idle = invalidation->idle;
		invalidation->idle = &invalidation->deletions[i];
	}
	invalidation->listed = keys_new(&invalidation->held);
	if (invalidation->listed == NULL) {
		free(invalidation);
		return NULL;
	}
	return invalidation;
}

void
invalidation_drop_list(struct invalidation *invalidation)
{
	if (invalidation == NULL || invalidation->dump == NULL)
		return;
	dump_free(invalidation->dump);
	invalidation->dump = NULL;
}

void
invalidation_free(struct invalidation *invalidation)
{
	if (invalidation == NULL)
		return;
	assert(invalidation->dump == NULL);
	keys_free(invalidation->listed);
	second_free(invalidation->second);
	free(invalidation);
}
