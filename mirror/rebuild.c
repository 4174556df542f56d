/*
 * Copy to a server that has returned what it lacks.
 *
 *   listing of a survivor -> keys -> mg (authority) -> add (returned server)
 *   dirty keys ---------------^
 *
 * Invariant: a key that was found is in keys, or in one copy, until the
 * returned server has answered its add, or it is gone.  So rebuild_stop() knows
 * all keys that are missing.
 *
 * What memcached asks its clients for stays as it was: a read with mg wins the
 * right to set a stale item anew (flag W), as that of a client does.  The copy
 * gives it back.
 */

#include "mirror/rebuild.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "block.h"
#include "conn.h"
#include "container_of.h"
#include "mirror/blame.h"
#include "mirror/classic.h"
#include "mirror/gate.h"
#include "mirror/keys.h"
#include "mirror/listing.h"
#include "mirror/pace.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

enum {
	/* Copies in flight.  More are not faster. */
	COPIES_MAX = 16,
	/* Bytes of a command with its key, which may be in base64. */
	LINE_MAX = PROTO_KEY_MAX * 4 / 3 + 128,
};

static_assert(LINE_MAX - PROTO_BASE64_MAX > 65,
    "a line has room for a key, three numbers and the words of add_copy()");

struct rebuilds {
	struct conn_loop *loop;    /* borrowed */
	struct pairs *pairs;       /* borrowed */
	struct pace *pace;         /* owned */
	struct listings *listings; /* owned */
	/* Bytes of the keys that wait, of all rebuilds. */
	size_t held;
};

struct copy {
	/* First the mg, then the add. */
	struct call call;
	struct rebuild *rebuild;
	/* The peer that was asked for the key, borrowed. */
	struct peer *authority;
	/* Of the key. */
	uint32_t hash;
	/* The next of the idle ones, if this is one of them. */
	struct copy *next_idle;
	/* Its call has no reply. */
	bool is_in_flight;
	bool base64;
	size_t length;
	/* As on a command line. */
	char key[PROTO_KEY_MAX];
};

struct rebuild {
	struct rebuilds *all;                  /* borrowed */
	struct peer *to;                       /* borrowed */
	const struct rebuild_handler *handler; /* borrowed */
	void *owner;
	/* All keys that the server should hold are to be copied. */
	bool copy_all;
	bool is_started;
	/* rebuild_stop() or a handler was called.  It is freed when no copy is
	   in flight. */
	bool is_stopped;
	/* A survivor has no metadump, or no mg. */
	bool survivor_cannot_list;
	/* A partner was not trusted when its keys were to be listed, or a key
	   had no other authority than the returned server. */
	bool is_partial;

	/* Owned: the keys that wait. */
	struct keys *keys;
	struct copy copies[COPIES_MAX];
	/* Copies that are not in flight, linked by next_idle. */
	struct copy *idle;
	/* How many copies are in flight. */
	unsigned int in_flight;
	/* Waits while the gate is closed. */
	struct gate_waiter waiter;
	/* Waits until more copies may begin. */
	struct pace_waiter turn;

	/* Reads the keys of a survivor. */
	struct listing_reader reader;
	/* The index of the peer whose keys are or were read. */
	size_t survivor;

	/* Owned: calls a handler, from the loop. */
	struct event *finish;
	/* When it was started: milliseconds of the monotonic clock. */
	int64_t began_ms;
	/* See struct rebuild_progress. */
	uint64_t copied, overtaken, gone, refused;
};

static void pump(struct rebuild *rebuild);
static void find_more(struct rebuild *rebuild);

/*
 * Ending
 */

static void
rebuild_free(struct rebuild *rebuild)
{
	assert(rebuild->in_flight == 0);
	assert(rebuild->reader.listing == NULL);
	gate_wait_cancel(pairs_gate(rebuild->all->pairs), &rebuild->waiter);
	pace_cancel(rebuild->all->pace, &rebuild->turn);
	if (rebuild->finish != NULL)
		event_free(rebuild->finish);
	keys_free(rebuild->keys);
	free(rebuild);
}

/* Call a handler.  Then the rebuild ends; it may be freed in here. */
static void
end_rebuild(struct rebuild *rebuild, void (*handler)(void *owner))
{
	assert(rebuild->is_started && !rebuild->is_stopped);
	rebuild->is_stopped = true;
	handler(rebuild->owner);
	if (rebuild->in_flight == 0)
		rebuild_free(rebuild);
}

void
rebuild_stop(struct rebuild *rebuild)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;
	int i;

	assert(!rebuild->is_stopped);
	rebuild->is_stopped = true;
	/* If all keys were to be copied, they will be once more. */
	while (!rebuild->copy_all &&
	    keys_pop(rebuild->keys, key, &length, &base64))
		peer_add_dirty(rebuild->to, key, length, base64);
	/* A server that hangs may still add these when it goes on. */
	for (i = 0; i < COPIES_MAX; i++)
		if (rebuild->copies[i].is_in_flight)
			peer_add_dirty(rebuild->to, rebuild->copies[i].key,
			    rebuild->copies[i].length,
			    rebuild->copies[i].base64);
	listing_leave(&rebuild->reader);
	event_del(rebuild->finish);
	if (rebuild->in_flight == 0)
		rebuild_free(rebuild);
}

/*
 * Copies
 */

static void
release_copy(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;

	assert(copy->is_in_flight && rebuild->in_flight > 0);
	copy->is_in_flight = false;
	copy->next_idle = rebuild->idle;
	rebuild->idle = copy;
	rebuild->in_flight--;
	pace_end(rebuild->all->pace);
}

/* A copy has ended.  Begin others; or, if the rebuild was stopped and this was
   the last copy, free the rebuild. */
static void
finish_copy(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;

	release_copy(copy);
	if (!rebuild->is_stopped)
		pump(rebuild);
	else if (rebuild->in_flight == 0)
		rebuild_free(rebuild);
}

/* The server of its call has failed; it may be because of this key. */
static void
blame_copy(const struct copy *copy)
{
	if (copy->call.is_suspect)
		blame_key(pairs_blame(copy->rebuild->all->pairs), copy->key,
		    copy->length);
}

static void
on_added(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, call);
	struct rebuild *rebuild = copy->rebuild;

	/* If the server failed, the recovery has stopped the rebuild. */
	assert(answer != NULL || rebuild->is_stopped);
	if (answer == NULL)
		blame_copy(copy);
	if (answer != NULL &&
	    (answer->last.result == PROTO_STORED ||
		answer->last.result == PROTO_META_HD))
		rebuild->copied++;
	else if (answer != NULL)
		rebuild->overtaken++;
	finish_copy(copy);
}

/* What the reply to mg says of an item besides its value. */
struct item {
	/* The client's flags. */
	uint64_t flags;
	/* Seconds to live; -1: it does not expire; 0: there is no item. */
	int64_t ttl;
	/* Its key was set in base64 (flag b). */
	bool is_binary;
	/* It was invalidated (flag X). */
	bool is_stale;
	/* This read has won the right to set it anew (flag W). */
	bool is_won;
	/* One client was asked to set it anew (flags W, Z).  With an empty
	   value it was made for that, and holds nothing. */
	bool is_awaited;
	/* Its cas token; 0: the server gives none. */
	uint64_t cas;
};

/* The seconds of a flag t; -1 if the item does not expire. */
static int64_t
parse_ttl(const char *bytes, size_t n)
{
	if (n > 0 && bytes[0] == '-')
		return -1;
	return (int64_t)proto_number(bytes, n);
}

static struct item
parse_item(const char *bytes, const struct proto_span *meta)
{
	struct item item = { .ttl = -1 };
	struct proto_span token;
	size_t at = meta->at;

	while (proto_token(bytes, meta->at + meta->length, &at, &token)) {
		if (bytes[token.at] == 'f')
			item.flags = proto_number(bytes + token.at + 1,
			    token.length - 1);
		else if (bytes[token.at] == 't')
			item.ttl = parse_ttl(bytes + token.at + 1,
			    token.length - 1);
		else if (bytes[token.at] == 'b')
			item.is_binary = true;
		else if (bytes[token.at] == 'X')
			item.is_stale = true;
		else if (bytes[token.at] == 'c')
			item.cas = proto_number(bytes + token.at + 1,
			    token.length - 1);
		else if (bytes[token.at] == 'W')
			item.is_won = item.is_awaited = true;
		else if (bytes[token.at] == 'Z')
			item.is_awaited = true;
	}
	return item;
}

/* Whether the returned server can hold the item of a copy in the form that it
   has: one with a key in base64 may have to be written with a plain one. */
static bool
keeps_base64(const struct rebuild *rebuild)
{
	return abilities_has(&rebuild->to->abilities, ABILITY_BASE64);
}

/* Write the key of a copy to out, in base64 if the key of the item is.  Returns
   its length; out has room for PROTO_BASE64_MAX bytes. */
static size_t
key_for(const struct copy *copy, const struct item *item, char *out)
{
	if (item->is_binary && !copy->base64)
		return proto_base64_encode(copy->key, copy->length, out);
	if (!item->is_binary && copy->base64)
		return proto_base64_decode(copy->key, copy->length, out);
	memcpy(out, copy->key, copy->length);
	return copy->length;
}

/* The authority has the item: add it to the returned server. */
static void
add_copy(struct copy *copy, const struct answer *answer,
    const struct item *item)
{
	const struct proto_span *data = &answer->last.data;
	struct rebuild *rebuild = copy->rebuild;
	long long expires = peer_exptime(rebuild->to, item->ttl);
	const char *bytes = answer->bytes + data->at;
	char line[LINE_MAX], key[PROTO_BASE64_MAX];
	int length = (int)key_for(copy, item, key);
	struct block *block = NULL;
	size_t offset;
	int n;

	assert(copy->is_in_flight && !rebuild->is_stopped);
	if (item->is_binary)
		n = snprintf(line, sizeof(line),
		    "ms %.*s %u b ME F%llu "
		    "T%lld\r\n",
		    length, key, data->length, (unsigned long long)item->flags,
		    expires);
	else
		n = snprintf(line, sizeof(line), "add %.*s %llu %lld %u\r\n",
		    length, key, (unsigned long long)item->flags, expires,
		    data->length);
	assert(n > 0 && (size_t)n < sizeof(line));
	if (data->length >= BLOCK_SMALL) {
		block = answer_reference(answer, bytes, data->length + 2,
		    &offset);
		if (block != NULL)
			bytes = block->bytes + offset;
	}
	copy->call.expect = item->is_binary ?
	    PROTO_EXPECT_META_SET :
	    PROTO_EXPECT_STORED;
	copy->call.done = on_added;
	peer_submit(rebuild->to, copy->hash, &copy->call, line, (size_t)n,
	    bytes, data->length + 2, block);
	block_release(block);
}

static void
on_given_back(struct call *call, const struct answer *answer)
{
	(void)answer;
	finish_copy(CONTAINER_OF(call, struct copy, call));
}

/*
 * The read has won a stale item, which is not copied.  Have the next client win
 * it instead: invalidate it once more, unless it has changed since.  That is
 * right in any order with what others do, so no gate matters to it.
 */
static void
give_back(struct copy *copy, const struct item *item)
{
	char line[LINE_MAX];
	int n;

	assert(copy->is_in_flight && item->is_won && item->cas != 0);
	n = snprintf(line, sizeof(line), "md %.*s%s I C%llu\r\n",
	    (int)copy->length, copy->key, copy->base64 ? " b" : "",
	    (unsigned long long)item->cas);
	assert(n > 0 && (size_t)n < sizeof(line));
	copy->call.expect = PROTO_EXPECT_META_DELETE;
	copy->call.done = on_given_back;
	peer_submit(copy->authority, copy->hash, &copy->call, line, (size_t)n,
	    NULL, 0, NULL);
}

static void
on_read(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, call);
	struct rebuild *rebuild = copy->rebuild;
	struct peer *authority = copy->authority;
	struct item item = { .ttl = 0 };

	assert(copy->is_in_flight && authority != rebuild->to);
	if (answer != NULL && answer->last.result == PROTO_META_VALUE)
		item = parse_item(answer->bytes, &answer->last.meta);
	item.is_binary &= keeps_base64(rebuild);
	if (item.is_stale && item.is_won && item.cas != 0) {
		rebuild->gone++;
		give_back(copy, &item);
	} else if (rebuild->is_stopped) {
		finish_copy(copy);
	} else if (answer == NULL) {
		blame_copy(copy);
		/* The key is copied from the authority that follows. */
		if (!rebuild_add(rebuild, copy->key, copy->length,
			copy->base64))
			rebuild->gone++;
		finish_copy(copy);
	} else if (!classic_can_hold(&rebuild->to->abilities, copy->key,
		       copy->length, copy->base64)) {
		rebuild->gone++;
		finish_copy(copy);
	} else if (item.ttl != 0 && !item.is_stale &&
	    (!item.is_awaited || answer->last.data.length > 0)) {
		add_copy(copy, answer, &item);
	} else {
		if (answer->last.result == PROTO_SERVER_ERROR)
			rebuild->refused++;
		else
			rebuild->gone++;
		finish_copy(copy);
	}
}

/* Find the authority that the key of a copy is read from.  Returns false if
   there is none but the returned server itself. */
static bool
find_authority(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;
	struct pair pair = pairs_find_wire(rebuild->all->pairs, copy->key,
	    copy->length, copy->base64);

	copy->authority = pair_authority(&pair);
	copy->hash = pair.hash;
	return copy->authority != NULL && copy->authority != rebuild->to;
}

/* Whether the authority can be asked for the item of a copy.  If it has no mg,
   the rebuild is impossible.  A key that it cannot hold is not there.  One that
   it can, becomes plain, if it knows no base64. */
static bool
can_read(struct copy *copy)
{
	const struct abilities *abilities = &copy->authority->abilities;
	char key[PROTO_KEY_MAX];

	if (!abilities_has(abilities, ABILITY_META_READ)) {
		copy->rebuild->survivor_cannot_list = true;
		return false;
	}
	if (!classic_can_hold(abilities, copy->key, copy->length, copy->base64))
		return false;
	if (copy->base64 && !abilities_has(abilities, ABILITY_BASE64)) {
		copy->length = proto_base64_decode(copy->key, copy->length,
		    key);
		memcpy(copy->key, key, copy->length);
		copy->base64 = false;
	}
	return true;
}

/* Read the key of a copy from its authority. */
static void
submit_read(struct copy *copy)
{
	char line[LINE_MAX];
	int n;

	n = snprintf(line, sizeof(line), "mg %.*s%s k f t v c\r\n",
	    (int)copy->length, copy->key, copy->base64 ? " b" : "");
	assert(n > 0 && (size_t)n < sizeof(line));
	copy->call.expect = PROTO_EXPECT_META_GET;
	copy->call.done = on_read;
	copy->call.element = NULL;
	peer_submit(copy->authority, copy->hash, &copy->call, line, (size_t)n,
	    NULL, 0, NULL);
}

/* Whether there may be keys that were not found yet. */
static bool
is_searching(const struct rebuild *rebuild)
{
	return rebuild->copy_all &&
	    rebuild->survivor < pairs_peer_count(rebuild->all->pairs);
}

/* Whether all has been found and copied. */
static bool
is_complete(const struct rebuild *rebuild)
{
	return rebuild->in_flight == 0 && keys_count(rebuild->keys) == 0 &&
	    !is_searching(rebuild);
}

/* Begin as many copies as may be in flight. */
static void
start_copies(struct rebuild *rebuild)
{
	const struct blame *blame = pairs_blame(rebuild->all->pairs);
	struct copy *copy;

	while ((copy = rebuild->idle) != NULL &&
	    keys_count(rebuild->keys) > 0 &&
	    pace_begin(rebuild->all->pace, &rebuild->turn)) {
		keys_pop(rebuild->keys, copy->key, &copy->length,
		    &copy->base64);
		assert(!copy->is_in_flight);
		rebuild->idle = copy->next_idle;
		copy->is_in_flight = true;
		rebuild->in_flight++;
		if (blame_is_clear(blame, copy->key, copy->length)) {
			rebuild->refused++;
			release_copy(copy);
		} else if (!find_authority(copy)) {
			rebuild->is_partial = true;
			rebuild->gone++;
			release_copy(copy);
		} else if (!can_read(copy)) {
			rebuild->gone++;
			release_copy(copy);
		} else {
			submit_read(copy);
		}
	}
}

/* Do what can be done now: begin copies, find more keys, notice the end.  It is
   called when something has changed that it may have waited for. */
static void
pump(struct rebuild *rebuild)
{
	struct gate *gate = pairs_gate(rebuild->all->pairs);

	if (!rebuild->is_started || rebuild->is_stopped)
		return;
	if (gate_is_closed(gate)) {
		if (!rebuild->waiter.waiting)
			gate_wait(gate, &rebuild->waiter);
		return;
	}
	start_copies(rebuild);
	if (rebuild->copy_all)
		find_more(rebuild);
	if (is_complete(rebuild))
		event_active(rebuild->finish, EV_TIMEOUT, 0);
}

static void
on_turn(struct pace_waiter *waiter)
{
	pump(CONTAINER_OF(waiter, struct rebuild, turn));
}

static void
on_gate_open(struct gate_waiter *waiter)
{
	pump(CONTAINER_OF(waiter, struct rebuild, waiter));
}

/*
 * Finding keys
 */

/* Whether the keys of peer are to be dumped.  A partner that is not trusted is
   left out, and makes the rebuild partial. */
static bool
admit_survivor(struct rebuild *rebuild, const struct peer *peer)
{
	if (!peers_are_partners(rebuild->to, peer))
		return false;
	rebuild->is_partial |= !peer_is_trusted(peer);
	return peer_is_trusted(peer);
}

/* The survivor has this key, and the returned server should have it, too.
   Returns false if there is no memory for it. */
static bool
on_key(struct listing_reader *reader, const char *key, size_t length)
{
	struct rebuild *rebuild = CONTAINER_OF(reader, struct rebuild, reader);
	char encoded[PROTO_BASE64_MAX];
	bool base64 = proto_base64_is_needed(key, length);

	assert(length > 0 && length <= PROTO_KEY_MAX && !rebuild->is_stopped);
	if (base64) {
		length = proto_base64_encode(key, length, encoded);
		key = encoded;
	}
	/* No client can have set a key that is longer on a command line. */
	if (length > PROTO_KEY_MAX)
		return true;
	if (!rebuild_add(rebuild, key, length, base64))
		return false;
	pump(rebuild);
	return true;
}

/* One survivor is done.  If it cannot list its keys, those of the others are
   copied all the same. */
static void
on_read_all(struct listing_reader *reader, enum dump_end how)
{
	struct rebuild *rebuild = CONTAINER_OF(reader, struct rebuild, reader);

	assert(how != DUMP_STOPPED && !rebuild->is_stopped);
	rebuild->is_partial |= how == DUMP_LOST;
	rebuild->survivor_cannot_list |= how == DUMP_UNABLE;
	rebuild->survivor++;
	pump(rebuild);
}

/* Read the keys of the next survivor, unless one is being read. */
static void
find_more(struct rebuild *rebuild)
{
	struct pairs *pairs = rebuild->all->pairs;
	size_t n = pairs_peer_count(pairs);

	assert(rebuild->copy_all && !rebuild->is_stopped);
	assert(rebuild->survivor <= n);
	if (rebuild->reader.listing != NULL)
		return;
	while (rebuild->survivor < n &&
	    !admit_survivor(rebuild, pairs_peer(pairs, rebuild->survivor)))
		rebuild->survivor++;
	if (rebuild->survivor < n)
		listing_join(rebuild->all->listings,
		    pairs_peer(pairs, rebuild->survivor), &rebuild->reader);
}

/* Call a handler.  This is not done inside pump(), so that its callers can go
   on with the rebuild. */
static void
on_rebuild_finish(evutil_socket_t fd, short what, void *arg)
{
	struct rebuild *rebuild = arg;

	(void)fd;
	(void)what;
	if (is_complete(rebuild))
		end_rebuild(rebuild,
		    rebuild->survivor_cannot_list ?
			rebuild->handler->impossible :
			rebuild->handler->done);
}

/*
 * Life
 */

struct rebuilds *
rebuilds_new(struct conn_loop *loop, struct pairs *pairs, size_t memory)
{
	struct rebuilds *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return NULL;
	all->loop = loop;
	all->pairs = pairs;
	all->pace = pace_new(loop);
	all->listings = listings_new(loop, pairs, &all->held, memory);
	if (all->pace != NULL && all->listings != NULL)
		return all;
	rebuilds_free(all);
	return NULL;
}

void
rebuilds_free(struct rebuilds *all)
{
	if (all == NULL)
		return;
	listings_free(all->listings);
	pace_free(all->pace);
	free(all);
}

struct rebuild *
rebuild_new(struct rebuilds *all, struct peer *to,
    const struct rebuild_handler *handler, void *owner)
{
	struct rebuild *rebuild = calloc(1, sizeof(*rebuild));
	int i;

	if (rebuild == NULL)
		return NULL;
	assert(handler->done != NULL && handler->impossible != NULL);
	rebuild->all = all;
	rebuild->to = to;
	rebuild->handler = handler;
	rebuild->owner = owner;
	rebuild->waiter.wake = on_gate_open;
	rebuild->turn.wake = on_turn;
	rebuild->reader.to = to;
	rebuild->reader.key = on_key;
	rebuild->reader.ended = on_read_all;
	for (i = 0; i < COPIES_MAX; i++) {
		rebuild->copies[i].rebuild = rebuild;
		rebuild->copies[i].next_idle = rebuild->idle;
		rebuild->idle = &rebuild->copies[i];
	}
	rebuild->keys = keys_new(&all->held);
	rebuild->finish = event_new(conn_loop_base(all->loop), -1, 0,
	    on_rebuild_finish, rebuild);
	if (rebuild->keys == NULL || rebuild->finish == NULL) {
		rebuild_free(rebuild);
		return NULL;
	}
	return rebuild;
}

bool
rebuild_add(struct rebuild *rebuild, const char *key, size_t length,
    bool base64)
{
	return keys_add(rebuild->keys, key, length, base64);
}

void
rebuild_start(struct rebuild *rebuild, bool copy_all)
{
	assert(!rebuild->is_started && !rebuild->is_stopped);
	assert(rebuild->to->state == PEER_REBUILD);
	rebuild->copy_all = copy_all;
	rebuild->is_started = true;
	rebuild->began_ms = conn_loop_now(rebuild->all->loop);
	pump(rebuild);
}

struct rebuild_progress
rebuild_progress(const struct rebuild *rebuild)
{
	int64_t ms = conn_loop_now(rebuild->all->loop) - rebuild->began_ms;
	struct rebuild_progress progress = {
		.copied = rebuild->copied,
		.overtaken = rebuild->overtaken,
		.gone = rebuild->gone,
		.refused = rebuild->refused,
		.searching = is_searching(rebuild),
		.partial = rebuild->is_partial,
		.left = keys_count(rebuild->keys) + rebuild->in_flight,
	};

	if (rebuild->is_started && ms > 0)
		progress.per_second = (rebuild->copied + rebuild->overtaken +
					  rebuild->gone + rebuild->refused) *
		    1000 / (uint64_t)ms;
	return progress;
}
