/*
 * The keys of survivors, for all rebuilds together.
 *
 *   reader --.
 *   reader ---+-> listing of a survivor -> dump -> key() of one of them
 *   reader --'
 *
 * Invariant: a list counts for a reader only if its try began, behind a fence,
 * when the reader had joined, and so when its server was a mirror.  What the
 * survivor was written before that is in the list, and what it is written later
 * reaches the returned server as an effect.  A reader that joins while a list
 * runs waits for the next one.
 *
 * If the keys do not fit in memory, a list covers a part of them: those whose
 * hash is in a range.  The next list covers the range behind it, round and
 * round, so a reader may join at any place.  It has got all keys when it has
 * read lists that cover all hashes.
 *
 *      0 |-------[ start | width ]------------------| 2^32
 *                 this list       the next one
 */

#include "mirror/listing.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/event.h>
#include <event2/util.h>

#include "conn.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "siphash.h"

/* The hashes of all keys. */
#define HASHES ((uint64_t)1 << 32)

enum {
	/* When a list is too long, the next one covers that part of it. */
	NARROWER = 4,
	/* The least part of all hashes that a list covers. */
	PARTS_MAX = 4096,
	/* A list is too long only if it has told that part of the memory. */
	TOLD_PART = 16,
	/* Between two looks whether there is memory for a list. */
	MEMORY_PAUSE_MS = 10,
};

TAILQ_HEAD(listing_reader_list, listing_reader);

struct listing {
	struct listings *all;               /* borrowed */
	struct peer *from;                  /* borrowed: the survivor */
	struct listing_reader_list readers; /* borrowed */
	struct dump *dump;                  /* owned; NULL: no list runs */
	/* Owned: begins a list. */
	struct event *next;
	/* Which hashes the list covers. */
	uint32_t start;
	uint64_t width;
	/* Bytes of keys of this list that were told to readers. */
	size_t told;
};

struct listings {
	struct conn_loop *loop; /* borrowed */
	struct pairs *pairs;    /* borrowed */
	const size_t *held;     /* borrowed */
	size_t memory;
	/* Of the hashes: clients choose the keys. */
	unsigned char hash_key[SIPHASH_KEY];
	struct listing *of_peers; /* owned: one per peer, in their order */
	/* Borrowed, one per peer, in their order; NULL: it does not read. */
	struct listing_reader **reader_of;
};

static size_t
index_of(const struct listings *all, const struct peer *peer)
{
	size_t index = (size_t)(peer - pairs_peer(all->pairs, 0));

	assert(index < pairs_peer_count(all->pairs));
	return index;
}

static void
begin_list_in(struct listing *listing, int ms)
{
	struct timeval wait = { .tv_usec = ms * 1000 };

	event_add(listing->next, &wait);
}

/*
 * Readers
 */

void
listing_join(struct listings *all, const struct peer *from,
    struct listing_reader *reader)
{
	struct listing *listing = &all->of_peers[index_of(all, from)];

	assert(reader->listing == NULL && reader->key != NULL &&
	    reader->ended != NULL);
	assert(peers_are_partners(reader->to, from));
	assert(all->reader_of[index_of(all, reader->to)] == NULL);
	reader->listing = listing;
	reader->is_reading = false;
	reader->covered = 0;
	TAILQ_INSERT_TAIL(&listing->readers, reader, entry);
	all->reader_of[index_of(all, reader->to)] = reader;
	if (listing->dump == NULL)
		begin_list_in(listing, 0);
}

/* Nobody reads any more. */
static void
end_listing(struct listing *listing)
{
	assert(TAILQ_EMPTY(&listing->readers));
	if (listing->dump != NULL)
		dump_free(listing->dump);
	listing->dump = NULL;
	event_del(listing->next);
	listing->width = HASHES;
}

static void
take_out(struct listing_reader *reader)
{
	struct listing *listing = reader->listing;
	struct listings *all = listing->all;

	assert(all->reader_of[index_of(all, reader->to)] == reader);
	all->reader_of[index_of(all, reader->to)] = NULL;
	TAILQ_REMOVE(&listing->readers, reader, entry);
	reader->listing = NULL;
}

void
listing_leave(struct listing_reader *reader)
{
	struct listing *listing = reader->listing;

	if (listing == NULL)
		return;
	take_out(reader);
	if (TAILQ_EMPTY(&listing->readers))
		end_listing(listing);
}

/* Some reader that has covered so many hashes, or NULL. */
static struct listing_reader *
find_reader(const struct listing *listing, uint64_t covered)
{
	struct listing_reader *reader;

	TAILQ_FOREACH(reader, &listing->readers, entry)
		if (reader->covered >= covered)
			return reader;
	return NULL;
}

/* Tell those readers that have covered so many hashes that it is over. */
static void
end_readers(struct listing *listing, uint64_t covered, enum dump_end how)
{
	struct listing_reader *reader;

	while ((reader = find_reader(listing, covered)) != NULL) {
		take_out(reader);
		reader->ended(reader, how);
		assert(reader->listing != listing);
	}
}

/*
 * Lists
 */

static bool
is_covered(const struct listing *listing, const char *key, size_t length)
{
	uint32_t hash;

	if (listing->width == HASHES)
		return true;
	hash = (uint32_t)siphash(listing->all->hash_key, key, length);
	return (uint32_t)(hash - listing->start) < listing->width;
}

/* A try of a list begins: it counts for all who are there. */
static void
on_list_begins(void *owner)
{
	struct listing *listing = owner;
	struct listing_reader *reader;

	listing->told = 0;
	TAILQ_FOREACH(reader, &listing->readers, entry) {
		assert(peer_is_mirror(reader->to));
		reader->is_reading = true;
	}
}

/* The survivor has this key: tell whoever shares it.  Returns false if there is
   no memory for more keys. */
static bool
on_listed_key(void *owner, const char *key, size_t length)
{
	struct listing *listing = owner;
	const struct listings *all = listing->all;
	struct pair pair = pairs_find(all->pairs, key, length);
	const struct peer *to;
	struct listing_reader *reader;

	if ((pair.primary != listing->from && pair.backup != listing->from) ||
	    proto_key_is_reserved(key, length, false))
		return true;
	to = pair_partner(&pair, listing->from);
	reader = to == NULL ? NULL : all->reader_of[index_of(all, to)];
	if (reader == NULL || reader->listing != listing ||
	    !reader->is_reading || !is_covered(listing, key, length))
		return true;
	listing->told += length;
	return reader->key(reader, key, length) && *all->held <= all->memory;
}

/*
 * The list did not fit.  Once there is room, go on with a shorter one, which
 * begins where this one does; or with the same one, if the keys of others took
 * the memory.  Returns false if none is shorter.
 */
static bool
make_narrower(struct listing *listing)
{
	if (listing->told <= listing->all->memory / TOLD_PART)
		return true;
	if (listing->width <= HASHES / PARTS_MAX)
		return false;
	listing->width /= NARROWER;
	return true;
}

static void
on_list_whole(struct listing *listing)
{
	struct listing_reader *reader;

	TAILQ_FOREACH(reader, &listing->readers, entry)
		if (reader->is_reading)
			reader->covered += listing->width;
	listing->start += (uint32_t)listing->width;
	end_readers(listing, HASHES, DUMP_WHOLE);
}

static void
on_list_ended(void *owner, enum dump_end how)
{
	struct listing *listing = owner;
	struct listing_reader *reader;

	assert(listing->dump != NULL && !TAILQ_EMPTY(&listing->readers));
	listing->dump = NULL;
	if (how == DUMP_WHOLE)
		on_list_whole(listing);
	else if (how != DUMP_STOPPED || !make_narrower(listing))
		end_readers(listing, 0, how == DUMP_LOST ? how : DUMP_UNABLE);
	TAILQ_FOREACH(reader, &listing->readers, entry)
		reader->is_reading = false;
	if (TAILQ_EMPTY(&listing->readers))
		end_listing(listing);
	else
		begin_list_in(listing, 0);
}

static const struct dump_handler on_list = {
	.begins = on_list_begins,
	.key = on_listed_key,
	.ended = on_list_ended,
};

/* Begin the next list, unless too many keys still wait to be copied. */
static void
on_next(evutil_socket_t fd, short what, void *arg)
{
	struct listing *listing = arg;
	const struct listings *all = listing->all;

	(void)fd;
	(void)what;
	assert(listing->dump == NULL && !TAILQ_EMPTY(&listing->readers));
	if (*all->held <= all->memory / 2)
		listing->dump = dump_new(all->loop, listing->from, &on_list,
		    listing);
	if (listing->dump == NULL)
		begin_list_in(listing, MEMORY_PAUSE_MS);
}

/*
 * Life
 */

static bool
listing_init(struct listing *listing, struct listings *all, struct peer *from)
{
	listing->all = all;
	listing->from = from;
	listing->width = HASHES;
	TAILQ_INIT(&listing->readers);
	listing->next = event_new(conn_loop_base(all->loop), -1, 0, on_next,
	    listing);
	return listing->next != NULL;
}

struct listings *
listings_new(struct conn_loop *loop, struct pairs *pairs, const size_t *held,
    size_t memory)
{
	struct listings *all = calloc(1, sizeof(*all));
	size_t n = pairs_peer_count(pairs);
	bool is_complete = true;
	size_t i;

	if (all == NULL)
		return NULL;
	all->loop = loop;
	all->pairs = pairs;
	all->held = held;
	all->memory = memory;
	evutil_secure_rng_get_bytes(all->hash_key, sizeof(all->hash_key));
	all->of_peers = calloc(n, sizeof(*all->of_peers));
	all->reader_of = calloc(n, sizeof(void *));
	if (all->of_peers == NULL || all->reader_of == NULL) {
		listings_free(all);
		return NULL;
	}
	for (i = 0; i < n; i++)
		is_complete &= listing_init(&all->of_peers[i], all,
		    pairs_peer(pairs, i));
	if (is_complete)
		return all;
	listings_free(all);
	return NULL;
}

void
listings_free(struct listings *all)
{
	struct listing *listing;
	size_t i, n;

	if (all == NULL)
		return;
	n = all->of_peers == NULL ? 0 : pairs_peer_count(all->pairs);
	for (i = 0; i < n; i++) {
		listing = &all->of_peers[i];
		assert(listing->dump == NULL);
		if (listing->next != NULL)
			event_free(listing->next);
	}
	free(all->of_peers);
	free(all->reader_of);
	free(all);
}
