/*
 * Copy to a server that has returned what it lacks.
 *
 *   listing of a survivor -> copies -> done(), or impossible()
 *   dirty keys --------------^
 *
 * Invariant: a key that was found is in copies until it has been dealt with.
 * So rebuild_stop() knows all keys that are missing.
 */

#include "mirror/rebuild.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/event.h>

#include "conn.h"
#include "container_of.h"
#include "mirror/behind.h"
#include "mirror/copies.h"
#include "mirror/dirty.h"
#include "mirror/listing.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"

struct rebuilds {
	struct conn_loop *loop;    /* borrowed */
	struct pairs *pairs;       /* borrowed */
	struct listings *listings; /* owned */
	/* Bytes of the keys that wait, of all rebuilds. */
	size_t held;
};

struct rebuild {
	struct rebuilds *all;                  /* borrowed */
	struct peer *to;                       /* borrowed */
	const struct rebuild_handler *handler; /* borrowed */
	void *owner;
	bool is_started;
	/* A survivor has no metadump, or no mg. */
	bool survivor_cannot_list;

	/* Owned: of the keys that were found. */
	struct copies *copies;
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

static void find_more(struct rebuild *rebuild);

/*
 * Ending
 */

static void
rebuild_free(struct rebuild *rebuild)
{
	assert(rebuild->reader.listing == NULL);
	if (rebuild->finish != NULL)
		event_free(rebuild->finish);
	copies_end(rebuild->copies);
	free(rebuild);
}

/* The server of this key that is not the returned one. */
static struct peer *
holder_of(const struct rebuild *rebuild, const char *key, size_t length,
    bool base64)
{
	struct pair pair = pairs_find_wire(rebuild->all->pairs, key, length,
	    base64);

	return pair_partner(&pair, rebuild->to);
}

/* Whether the key is found in the list of its holder. */
static bool
is_listed_key(const struct rebuild *rebuild, const char *key, size_t length,
    bool base64)
{
	const struct peer *holder = holder_of(rebuild, key, length, base64);

	return holder != NULL && behind_of(rebuild->to, holder) == BEHIND_ALL;
}

/* The holder of this key cannot be read now.  Note the key for the time when it
   is back, unless it is listed then. */
static void
miss_key(struct rebuild *rebuild, const struct copy *copy)
{
	const struct peer *holder = holder_of(rebuild, copy->key, copy->length,
	    copy->base64);

	rebuild->gone++;
	if (holder == NULL || behind_of(rebuild->to, holder) == BEHIND_NOT)
		return; /* nobody has it */
	behind_unread(rebuild->to, holder);
	if (behind_of(rebuild->to, holder) == BEHIND_KEYS)
		dirty_add(rebuild->to->missing, copy->key, copy->length,
		    copy->base64);
}

void
rebuild_stop(struct rebuild *rebuild)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;

	/* What is listed will be listed once more. */
	while (copies_pop(rebuild->copies, key, &length, &base64))
		if (!is_listed_key(rebuild, key, length, base64))
			peer_add_dirty(rebuild->to, key, length, base64);
	copies_make_dirty(rebuild->copies);
	listing_leave(&rebuild->reader);
	rebuild_free(rebuild);
}

/*
 * Copying
 */

static void
on_key_ended(void *owner, const struct copy *copy, enum copy_end end)
{
	struct rebuild *rebuild = owner;

	assert(end != COPY_UNDER_WAY && end != COPY_FAILED);
	rebuild->survivor_cannot_list |= end == COPY_UNABLE;
	if (end == COPY_ADDED)
		rebuild->copied++;
	else if (end == COPY_OVERTAKEN)
		rebuild->overtaken++;
	else if (end == COPY_REFUSED)
		rebuild->refused++;
	else if (end == COPY_NOBODY)
		miss_key(rebuild, copy);
	else
		rebuild->gone++;
}

/* Whether there may be keys that were not found yet. */
static bool
is_searching(const struct rebuild *rebuild)
{
	return rebuild->survivor < pairs_peer_count(rebuild->all->pairs);
}

/* Whether all has been found and copied. */
static bool
is_complete(const struct rebuild *rebuild)
{
	return copies_left(rebuild->copies) == 0 && !is_searching(rebuild);
}

/* Something has changed: find more keys, notice the end. */
static void
on_copies_moved(void *owner)
{
	struct rebuild *rebuild = owner;

	if (!rebuild->is_started)
		return;
	find_more(rebuild);
	if (is_complete(rebuild))
		event_active(rebuild->finish, EV_TIMEOUT, 0);
}

static const struct copies_handler on_rebuild_copies = {
	.ended = on_key_ended,
	.moved = on_copies_moved,
};

/*
 * Finding keys
 */

/* The survivor has this key, and the returned server should have it, too.
   Returns false if there is no memory for it. */
static bool
on_key(struct listing_reader *reader, const char *key, size_t length)
{
	struct rebuild *rebuild = CONTAINER_OF(reader, struct rebuild, reader);
	char encoded[PROTO_BASE64_MAX];
	bool base64 = proto_base64_is_needed(key, length);

	assert(length > 0 && length <= PROTO_KEY_MAX);
	if (base64) {
		length = proto_base64_encode(key, length, encoded);
		key = encoded;
	}
	/* No client can have set a key that is longer on a command line. */
	if (length > PROTO_KEY_MAX)
		return true;
	if (!rebuild_add(rebuild, key, length, base64))
		return false;
	copies_go(rebuild->copies);
	return true;
}

/* One survivor is done.  If it cannot list its keys, those of the others are
   copied all the same. */
static void
on_read_all(struct listing_reader *reader, enum dump_end how)
{
	struct rebuild *rebuild = CONTAINER_OF(reader, struct rebuild, reader);

	assert(how != DUMP_STOPPED);
	if (how == DUMP_LOST)
		behind_unread(rebuild->to,
		    pairs_peer(rebuild->all->pairs, rebuild->survivor));
	rebuild->survivor_cannot_list |= how == DUMP_UNABLE;
	rebuild->survivor++;
	copies_go(rebuild->copies);
}

/* Read the keys of the next survivor, unless one is being read. */
static void
find_more(struct rebuild *rebuild)
{
	struct pairs *pairs = rebuild->all->pairs;
	size_t n = pairs_peer_count(pairs);

	assert(rebuild->survivor <= n);
	if (rebuild->reader.listing != NULL)
		return;
	while (rebuild->survivor < n &&
	    !behind_is_listed(rebuild->to,
		pairs_peer(pairs, rebuild->survivor)))
		rebuild->survivor++;
	if (rebuild->survivor < n)
		listing_join(rebuild->all->listings,
		    pairs_peer(pairs, rebuild->survivor), &rebuild->reader);
}

/* Call a handler, and end.  This is not done as soon as it is complete, so that
   those who have noticed that can go on with the rebuild. */
static void
on_rebuild_finish(evutil_socket_t fd, short what, void *arg)
{
	struct rebuild *rebuild = arg;
	const struct rebuild_handler *handler = rebuild->handler;

	(void)fd;
	(void)what;
	if (!is_complete(rebuild))
		return;
	behind_end_reading(rebuild->to);
	if (rebuild->survivor_cannot_list)
		handler->impossible(rebuild->owner);
	else
		handler->done(rebuild->owner);
	rebuild_free(rebuild);
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
	all->listings = listings_new(loop, pairs, &all->held, memory);
	if (all->listings != NULL)
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
	free(all);
}

struct rebuild *
rebuild_new(struct rebuilds *all, struct peer *to,
    const struct rebuild_handler *handler, void *owner)
{
	struct rebuild *rebuild = calloc(1, sizeof(*rebuild));

	if (rebuild == NULL)
		return NULL;
	assert(handler->done != NULL && handler->impossible != NULL);
	rebuild->all = all;
	rebuild->to = to;
	rebuild->handler = handler;
	rebuild->owner = owner;
	rebuild->reader.to = to;
	rebuild->reader.key = on_key;
	rebuild->reader.ended = on_read_all;
	rebuild->copies = copies_new(all->pairs, to, false, &all->held,
	    &on_rebuild_copies, rebuild);
	rebuild->finish = event_new(conn_loop_base(all->loop), -1, 0,
	    on_rebuild_finish, rebuild);
	if (rebuild->copies == NULL || rebuild->finish == NULL) {
		rebuild_free(rebuild);
		return NULL;
	}
	return rebuild;
}

bool
rebuild_add(struct rebuild *rebuild, const char *key, size_t length,
    bool base64)
{
	return copies_add(rebuild->copies, key, length, base64);
}

/* Add the keys that earlier rebuilds could not copy. */
static void
add_missing(struct rebuild *rebuild)
{
	struct dirty *missing = rebuild->to->missing;
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;
	bool are_known = !dirty_is_all(missing);

	while (are_known && dirty_pop(missing, key, &length, &base64))
		are_known = rebuild_add(rebuild, key, length, base64);
	if (!are_known)
		behind_forget_keys(rebuild->to);
	dirty_clear(missing);
}

void
rebuild_start(struct rebuild *rebuild)
{
	assert(!rebuild->is_started);
	assert(rebuild->to->state == PEER_REBUILD);
	add_missing(rebuild);
	behind_begin_reading(rebuild->to);
	rebuild->is_started = true;
	rebuild->began_ms = conn_loop_now(rebuild->all->loop);
	copies_go(rebuild->copies);
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
		.left = copies_left(rebuild->copies),
	};

	if (rebuild->is_started && ms > 0)
		progress.per_second = (rebuild->copied + rebuild->overtaken +
					  rebuild->gone + rebuild->refused) *
		    1000 / (uint64_t)ms;
	return progress;
}
