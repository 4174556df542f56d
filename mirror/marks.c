/*
 * Remember keys whose items were marked lately.
 *
 * Invariant: a place that is not 0 has the hash of the key that was marked last
 * of those that belong there, and whether it is in doubt; count is how many are
 * not 0.
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

static size_t
place_of(uint64_t hash)
{
	return (hash / (PLACE_BITS + 1)) % PLACES;
}

/* The place of a key that may be marked; PLACES: it is not. */
static size_t
find_place(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	uint64_t hash;
	size_t place;

	if (marks->count == 0)
		return PLACES;
	hash = hash_of_key(marks, r, bytes);
	place = place_of(hash);
	return (marks->places[place] & ~(uint64_t)DOUBTFUL) == hash ?
	    place :
	    PLACES;
}

static void
mark_key(struct marks *marks, const struct proto_request *r, const char *bytes)
{
	uint64_t hash = hash_of_key(marks, r, bytes);
	uint64_t *place = &marks->places[place_of(hash)];

	assert(*place == 0 || marks->count > 0);
	marks->count += *place == 0;
	*place = hash;
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
	if (place == PLACES)
		return;
	assert(marks->count > 0);
	marks->count--;
	marks->places[place] = 0;
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
