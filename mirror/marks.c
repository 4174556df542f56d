/*
 * Remember keys whose items were marked lately.
 *
 * Invariant: a place that is not 0 has the hash of a key, and whether it is in
 * doubt; count is how many are not 0.  A key belongs in any place of one row,
 * and is in one at most.  The places of a row are in the order in which their
 * keys were marked: when a row is full, the one is forgotten that was marked
 * first.
 *
 * memcached gathers replies while there are more commands to read, but sends
 * them at once for an mn.
 */

#include "mirror/marks.h"

#include <assert.h>
#include <stdlib.h>

#include <event2/util.h>

#include "mirror/command.h"
#include "mirror/peer.h"
#include "server/link.h"
#include "siphash.h"

enum {
	PLACES = 4096,
	/* With so many in a row, the keys that are marked at a time do not push
	   each other out by chance while they are less than a quarter. */
	ROW = 8,
	/* The lowest bits of a place. */
	DOUBTFUL = 1,
	BASE64 = 2,
	TAKEN = 4, /* always: a hash is not 0 */
	PLACE_BITS = 7,
};

struct marks {
	/* A client that could choose keys of one place would have others
	   forgotten. */
	unsigned char seed[SIPHASH_KEY];
	unsigned int count;
	uint64_t places[PLACES];
};

struct marks *
marks_new(void)
{
	struct marks *marks = calloc(1, sizeof(*marks));

	if (marks == NULL)
		return NULL;
	evutil_secure_rng_get_bytes(marks->seed, sizeof(marks->seed));
	return marks;
}

void
marks_free(struct marks *marks)
{
	free(marks);
}

/* The hash of a key, which is the same in base64 if it can be plain. */
static uint64_t
hash_of_key(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	char room[PROTO_KEY_MAX];
	struct proto_request key;
	uint64_t hash;

	bytes = command_plain_key(r, bytes, &key, room);
	hash = siphash(marks->seed, bytes + key.key.at, key.key.length);
	return (hash & ~(uint64_t)PLACE_BITS) | TAKEN |
	    (key.base64 ? BASE64 : 0);
}

/* The first place of the row of a key. */
static size_t
row_of(uint64_t hash)
{
	return (hash / (PLACE_BITS + 1)) % (PLACES / ROW) * ROW;
}

/* The place of a key that may be marked; PLACES: it is not. */
static size_t
find_place(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	uint64_t hash;
	size_t row, i;

	if (marks->count == 0)
		return PLACES;
	hash = hash_of_key(marks, r, bytes);
	row = row_of(hash);
	for (i = row; i < row + ROW; i++)
		if ((marks->places[i] & ~(uint64_t)DOUBTFUL) == hash)
			return i;
	return PLACES;
}

/* Forget what is in a place.  Those behind it in its row move up. */
static void
clear_place(struct marks *marks, size_t place)
{
	size_t last = place / ROW * ROW + ROW - 1;

	assert(marks->count > 0 && marks->places[place] != 0);
	marks->count--;
	for (; place < last; place++)
		marks->places[place] = marks->places[place + 1];
	marks->places[last] = 0;
}

static void
mark_key(struct marks *marks, const struct proto_request *r, const char *bytes)
{
	uint64_t hash = hash_of_key(marks, r, bytes);
	size_t place = find_place(marks, r, bytes);
	size_t row = row_of(hash), i;

	if (place != PLACES)
		clear_place(marks, place);
	else if (marks->places[row + ROW - 1] != 0)
		clear_place(marks, row);
	for (i = row; marks->places[i] != 0; i++)
		;
	assert(i < row + ROW);
	marks->count++;
	marks->places[i] = hash;
}

void
marks_set(struct marks *marks, const struct proto_request *r, const char *bytes,
    bool is_marked)
{
	size_t place;

	if (is_marked) {
		mark_key(marks, r, bytes);
		return;
	}
	place = find_place(marks, r, bytes);
	if (place != PLACES)
		clear_place(marks, place);
}

bool
marks_has(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	return find_place(marks, r, bytes) != PLACES;
}

void
marks_doubt(struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	size_t place = find_place(marks, r, bytes);

	if (place != PLACES)
		marks->places[place] |= DOUBTFUL;
}

bool
marks_are_doubtful(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	size_t place = find_place(marks, r, bytes);

	return place != PLACES && (marks->places[place] & DOUBTFUL) != 0;
}

static void
on_pushed(struct call *call, const struct answer *answer)
{
	(void)answer;
	free(call);
}

static void
push_replies(struct peer *peer, uint32_t hash)
{
	static const char line[] = "mn\r\n";
	struct call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return;
	call->expect = PROTO_EXPECT_META_NOOP;
	call->done = on_pushed;
	peer_submit(peer, hash, call, line, sizeof(line) - 1, NULL, 0, NULL);
}

void
marks_keep(const struct marks *marks, struct peer *peer, uint32_t hash,
    const struct proto_request *r, const char *bytes)
{
	if (command_counts(r) && marks_has(marks, r, bytes) &&
	    abilities_has(&peer->abilities, ABILITY_META_READ))
		push_replies(peer, hash);
}
