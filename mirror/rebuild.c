/*
 * Copy to a server that has returned what it lacks.
 *
 *   metadump of a survivor -> keys -> mg (authority) -> add (returned server)
 *   dirty keys --------------^        at most COPIES_MAX at a time
 *
 * Invariant: a key that has been found and is not yet answered for by the
 * returned server is in keys or in one copy, so that rebuild_stop() knows all
 * that is missing.
 *
 * If the keys of a survivor do not fit in memory, the dump is given up and
 * repeated in slices.
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
#include "mirror/dump.h"
#include "mirror/gate.h"
#include "mirror/keys.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

enum {
	COPIES_MAX = 16,    /* in flight; more are not faster */
	COPIES_PER_MS = 50, /* so that the clients hardly notice */
	COPIES_BURST = 200, /* at once, after a pause */
	SLICES_MAX = 4096,
	LINE_MAX = PROTO_KEY_MAX * 4 / 3 + 128,
};

struct copy {
	struct call call;
	struct rebuild *rebuild;
	struct peer *authority; /* the authority when it was asked */
	uint32_t hash;
	struct copy *next_idle;
	bool in_flight;
	bool base64;
	size_t length;
	char key[PROTO_KEY_MAX]; /* as on a command line */
};

struct rebuild {
	struct conn_loop *loop;
	struct pairs *pairs;
	struct peer *to;
	const struct rebuild_handler *handler;
	void *owner;
	size_t memory;
	bool copy_all;
	bool started;
	bool stopped;
	bool survivor_cannot_list; /* a survivor cannot list its keys */
	bool partial;              /* a partner was away */
	struct keys *keys;
	struct copy copies[COPIES_MAX];
	struct copy *idle;
	unsigned int in_flight;
	struct gate_waiter waiter;
	struct dump *dump;      /* NULL: none runs */
	size_t survivor;        /* whose keys it lists: its index */
	uint64_t slice, slices; /* of the survivor's keys */
	bool overflowed;        /* the keys of this slice did not fit */
	struct event *finish;   /* tells the end */
	struct event *pace;     /* until more copies may begin */
	int64_t paced_ms;       /* at this time ... */
	int64_t allowed;        /* ... so many more might begin */
	int64_t began_ms;
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
	if (rebuild->dump != NULL)
		dump_free(rebuild->dump);
	gate_wait_cancel(pairs_gate(rebuild->pairs), &rebuild->waiter);
	if (rebuild->finish != NULL)
		event_free(rebuild->finish);
	if (rebuild->pace != NULL)
		event_free(rebuild->pace);
	keys_free(rebuild->keys);
	free(rebuild);
}

/* Tell how it ended; then the rebuild ends, too. */
static void
end_rebuild(struct rebuild *rebuild, void (*handler)(void *owner))
{
	assert(rebuild->started && !rebuild->stopped);
	rebuild->stopped = true;
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

	assert(!rebuild->stopped);
	rebuild->stopped = true;
	/* If it lacked anything, everything will be copied again anyway. */
	while (!rebuild->copy_all &&
	    keys_pop(rebuild->keys, key, &length, &base64))
		peer_add_dirty(rebuild->to, key, length, base64);
	/* These may still be added when it wakes. */
	for (i = 0; i < COPIES_MAX; i++)
		if (rebuild->copies[i].in_flight)
			peer_add_dirty(rebuild->to, rebuild->copies[i].key,
			    rebuild->copies[i].length,
			    rebuild->copies[i].base64);
	if (rebuild->dump != NULL)
		dump_free(rebuild->dump);
	rebuild->dump = NULL;
	event_del(rebuild->finish);
	event_del(rebuild->pace);
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

	assert(copy->in_flight && rebuild->in_flight > 0);
	copy->in_flight = false;
	copy->next_idle = rebuild->idle;
	rebuild->idle = copy;
	rebuild->in_flight--;
}

/* A copy is dealt with: go on, or end if that was all. */
static void
finish_copy(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;

	release_copy(copy);
	if (!rebuild->stopped)
		pump(rebuild);
	else if (rebuild->in_flight == 0)
		rebuild_free(rebuild);
}

static void
on_added(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, call);
	struct rebuild *rebuild = copy->rebuild;
	struct peer *to = rebuild->to;

	/* Without an answer rebuild_stop() has run. */
	assert(answer != NULL || rebuild->stopped);
	if (answer != NULL &&
	    (answer->last.result == PROTO_STORED ||
		answer->last.result == PROTO_META_HD))
		rebuild->copied++;
	else if (answer != NULL)
		rebuild->overtaken++;
	finish_copy(copy);
	peer_finish(to);
}

/* What an mg says of an item besides its value. */
struct item {
	uint64_t flags;
	int64_t ttl;  /* -1: for ever */
	bool binary;  /* its key was given in base64 */
	bool stale;   /* invalidated */
	bool awaited; /* or made so: a client is to set it */
};

/* A TTL; -1 stands for no end. */
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
			item.binary = true;
		else if (bytes[token.at] == 'X')
			item.stale = true;
		else if (bytes[token.at] == 'W' || bytes[token.at] == 'Z')
			item.awaited = true;
	}
	return item;
}

/* The key as the item wants it, to out, in base64 or not.  Returns its
   length. */
static size_t
key_for(const struct copy *copy, const struct item *item, char *out)
{
	if (item->binary && !copy->base64)
		return proto_base64_encode(copy->key, copy->length, out);
	if (!item->binary && copy->base64)
		return proto_base64_decode(copy->key, copy->length, out);
	memcpy(out, copy->key, copy->length);
	return copy->length;
}

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

	if (item->binary)
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
	copy->call.expect = item->binary ?
	    PROTO_EXPECT_META_SET :
	    PROTO_EXPECT_STORED;
	copy->call.done = on_added;
	peer_submit(rebuild->to, copy->hash, &copy->call, line, (size_t)n,
	    bytes, data->length + 2, block);
	block_release(block);
}

static void
on_read(struct call *call, const struct answer *answer)
{
	struct copy *copy = CONTAINER_OF(call, struct copy, call);
	struct rebuild *rebuild = copy->rebuild;
	struct peer *authority = copy->authority;
	struct item item = { .ttl = 0 };

	if (answer != NULL && answer->last.result == PROTO_META_VALUE)
		item = parse_item(answer->bytes, &answer->last.meta);
	if (rebuild->stopped) {
		finish_copy(copy);
	} else if (answer == NULL) {
		/* Ask again, who is the authority then. */
		if (!rebuild_add(rebuild, copy->key, copy->length,
			copy->base64))
			rebuild->gone++;
		finish_copy(copy);
	} else if (item.ttl != 0 && !item.stale &&
	    (!item.awaited || answer->last.data.length > 0)) {
		add_copy(copy, answer, &item);
	} else {
		/* It has no such command. */
		if (answer->last.result == PROTO_ERROR)
			rebuild->survivor_cannot_list = true;
		if (answer->last.result == PROTO_SERVER_ERROR)
			rebuild->refused++;
		else
			rebuild->gone++;
		finish_copy(copy);
	}
	peer_finish(authority);
}

/* Read the key of a copy from its authority, if that is another server. */
static bool
submit_read(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;
	struct pair pair = pairs_find_wire(rebuild->pairs, copy->key,
	    copy->length, copy->base64);
	char line[LINE_MAX];
	int n;

	copy->authority = pair_authority(&pair);
	copy->hash = pair.hash;
	if (copy->authority == NULL || copy->authority == rebuild->to)
		return false;
	n = snprintf(line, sizeof(line), "mg %.*s%s k f t v\r\n",
	    (int)copy->length, copy->key, copy->base64 ? " b" : "");
	assert(n > 0 && (size_t)n < sizeof(line));
	copy->call.expect = PROTO_EXPECT_META_GET;
	copy->call.done = on_read;
	copy->call.element = NULL;
	peer_submit(copy->authority, pair.hash, &copy->call, line, (size_t)n,
	    NULL, 0, NULL);
	return true;
}

/* Whether there may be keys that were not found yet. */
static bool
is_searching(const struct rebuild *rebuild)
{
	return rebuild->copy_all &&
	    rebuild->survivor < pairs_peer_count(rebuild->pairs);
}

/* Whether all has been found and copied. */
static bool
is_complete(const struct rebuild *rebuild)
{
	return rebuild->in_flight == 0 && keys_count(rebuild->keys) == 0 &&
	    !is_searching(rebuild);
}

/* Go on a little later. */
static void
pump_soon(struct rebuild *rebuild)
{
	struct timeval soon = { .tv_usec = 1000 };

	if (!event_pending(rebuild->pace, EV_TIMEOUT, NULL))
		event_add(rebuild->pace, &soon);
}

/* Whether another copy may begin now; if not, it is seen to that they go on. */
static bool
try_begin_copy(struct rebuild *rebuild)
{
	int64_t now = conn_loop_now(rebuild->loop);

	rebuild->allowed += (now - rebuild->paced_ms) * COPIES_PER_MS;
	rebuild->paced_ms = now;
	if (rebuild->allowed > COPIES_BURST)
		rebuild->allowed = COPIES_BURST;
	if (rebuild->allowed > 0) {
		rebuild->allowed--;
		return true;
	}
	pump_soon(rebuild);
	return false;
}

static void
start_copies(struct rebuild *rebuild)
{
	struct copy *copy;

	while ((copy = rebuild->idle) != NULL &&
	    keys_count(rebuild->keys) > 0 && try_begin_copy(rebuild)) {
		keys_pop(rebuild->keys, copy->key, &copy->length,
		    &copy->base64);
		assert(!copy->in_flight);
		rebuild->idle = copy->next_idle;
		copy->in_flight = true;
		rebuild->in_flight++;
		if (!submit_read(copy)) {
			rebuild->partial = true;
			rebuild->gone++;
			release_copy(copy);
		}
	}
}

/* Keep the copies going. */
static void
pump(struct rebuild *rebuild)
{
	struct gate *gate = pairs_gate(rebuild->pairs);

	if (!rebuild->started || rebuild->stopped)
		return;
	if (gate_is_closed(gate)) {
		if (!rebuild->waiter.waiting)
			gate_wait(gate, &rebuild->waiter);
		return;
	}
	start_copies(rebuild);
	if (rebuild->copy_all)
		find_more(rebuild);
	if (rebuild->survivor_cannot_list || is_complete(rebuild))
		event_active(rebuild->finish, EV_TIMEOUT, 0);
}

static void
on_pace(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pump(arg);
}

static void
on_gate_open(struct gate_waiter *waiter)
{
	pump(CONTAINER_OF(waiter, struct rebuild, waiter));
}

/*
 * Finding keys
 */

/* Whether peer has keys that the returned server should have, too. */
static bool
try_survivor(struct rebuild *rebuild, const struct peer *peer)
{
	if (!peers_are_partners(rebuild->to, peer))
		return false;
	rebuild->partial |= !peer_is_trusted(peer);
	return peer_is_trusted(peer);
}

static bool
is_pair_of(const struct pair *pair, const struct peer *one,
    const struct peer *other)
{
	return (pair->primary == one && pair->backup == other) ||
	    (pair->primary == other && pair->backup == one);
}

/* Whether the key is in the slice that is being copied: a range of hashes, so
   that slice s of n is slices 4s to 4s + 3 of 4n. */
static bool
is_in_slice(const struct rebuild *rebuild, const char *key, size_t length)
{
	uint32_t hash = 2166136261u;
	size_t i;

	if (rebuild->slices == 1)
		return true;
	for (i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)key[i]) * 16777619u;
	return hash * rebuild->slices >> 32 == rebuild->slice;
}

/* A key that the survivor has. */
static bool
on_key(void *owner, const char *key, size_t length)
{
	struct rebuild *rebuild = owner;
	struct pair pair = pairs_find(rebuild->pairs, key, length);
	char encoded[PROTO_BASE64_MAX];
	bool base64 = proto_base64_is_needed(key, length);

	assert(length > 0 && length <= PROTO_KEY_MAX);
	if (!is_pair_of(&pair, rebuild->to,
		pairs_peer(rebuild->pairs, rebuild->survivor)) ||
	    !is_in_slice(rebuild, key, length))
		return true;
	if (base64) {
		length = proto_base64_encode(key, length, encoded);
		key = encoded;
	}
	/* A longer one nobody can have set. */
	if (length > PROTO_KEY_MAX)
		return true;
	if (!rebuild_add(rebuild, key, length, base64) ||
	    keys_bytes(rebuild->keys) > rebuild->memory)
		return false;
	pump(rebuild);
	return true;
}

static void
on_dumped(void *owner, enum dump_end how)
{
	struct rebuild *rebuild = owner;

	rebuild->dump = NULL;
	switch (how) {
	case DUMP_WHOLE:
		rebuild->slice++;
		break;
	case DUMP_STOPPED:
		/* Too many: once these are copied, a slice at a time. */
		rebuild->overflowed = true;
		if (rebuild->slices < SLICES_MAX) {
			rebuild->slices *= 4;
			rebuild->slice *= 4;
		}
		break;
	case DUMP_LOST:
		rebuild->partial = true;
		rebuild->slice = rebuild->slices;
		break;
	case DUMP_UNABLE:
		rebuild->survivor_cannot_list = true;
		break;
	}
	pump(rebuild);
}

static const struct dump_handler dump_handler = {
	.key = on_key,
	.ended = on_dumped,
};

/* Have the next slice, or the next survivor, dumped if it is time for it. */
static void
find_more(struct rebuild *rebuild)
{
	size_t n = pairs_peer_count(rebuild->pairs);

	if (rebuild->dump != NULL || rebuild->survivor_cannot_list ||
	    (rebuild->overflowed && keys_count(rebuild->keys) > 0))
		return;
	rebuild->overflowed = false;
	if (rebuild->slice == rebuild->slices && rebuild->survivor < n) {
		rebuild->survivor++;
		rebuild->slice = 0;
		rebuild->slices = 1;
	}
	while (rebuild->survivor < n &&
	    !try_survivor(rebuild,
		pairs_peer(rebuild->pairs, rebuild->survivor)))
		rebuild->survivor++;
	if (rebuild->survivor == n)
		return;
	rebuild->dump = dump_new(rebuild->loop,
	    pairs_peer(rebuild->pairs, rebuild->survivor), &dump_handler,
	    rebuild);
	if (rebuild->dump == NULL) /* no memory now */
		pump_soon(rebuild);
}

/* The end is told from the loop, not from inside some call. */
static void
on_rebuild_finish(evutil_socket_t fd, short what, void *arg)
{
	struct rebuild *rebuild = arg;

	(void)fd;
	(void)what;
	if (rebuild->survivor_cannot_list)
		end_rebuild(rebuild, rebuild->handler->impossible);
	else if (is_complete(rebuild))
		end_rebuild(rebuild, rebuild->handler->done);
}

/*
 * Life
 */

struct rebuild *
rebuild_new(struct conn_loop *loop, struct pairs *pairs, struct peer *to,
    size_t memory, const struct rebuild_handler *handler, void *owner)
{
	struct rebuild *rebuild = calloc(1, sizeof(*rebuild));
	int i;

	if (rebuild == NULL)
		return NULL;
	rebuild->loop = loop;
	rebuild->pairs = pairs;
	rebuild->to = to;
	rebuild->memory = memory;
	rebuild->handler = handler;
	rebuild->owner = owner;
	rebuild->waiter.wake = on_gate_open;
	for (i = 0; i < COPIES_MAX; i++) {
		rebuild->copies[i].rebuild = rebuild;
		rebuild->copies[i].next_idle = rebuild->idle;
		rebuild->idle = &rebuild->copies[i];
	}
	rebuild->keys = keys_new();
	rebuild->slices = 1;
	rebuild->finish = event_new(conn_loop_base(loop), -1, 0,
	    on_rebuild_finish, rebuild);
	rebuild->pace = event_new(conn_loop_base(loop), -1, 0, on_pace,
	    rebuild);
	if (rebuild->keys == NULL || rebuild->finish == NULL ||
	    rebuild->pace == NULL) {
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
	assert(!rebuild->started);
	rebuild->copy_all = copy_all;
	rebuild->started = true;
	rebuild->began_ms = conn_loop_now(rebuild->loop);
	rebuild->paced_ms = rebuild->began_ms;
	pump(rebuild);
}

struct rebuild_progress
rebuild_progress(const struct rebuild *rebuild)
{
	int64_t ms = conn_loop_now(rebuild->loop) - rebuild->began_ms;
	struct rebuild_progress progress = {
		.copied = rebuild->copied,
		.overtaken = rebuild->overtaken,
		.gone = rebuild->gone,
		.refused = rebuild->refused,
		.searching = is_searching(rebuild),
		.partial = rebuild->partial,
		.left = keys_count(rebuild->keys) + rebuild->in_flight,
	};

	if (rebuild->started && ms > 0)
		progress.per_second = (rebuild->copied + rebuild->overtaken +
					  rebuild->gone + rebuild->refused) *
		    1000 / (uint64_t)ms;
	return progress;
}
