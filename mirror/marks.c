/*
 * Remember keys whose items were marked lately.
 *
 * Invariant: a place that is not 0 has the hash of the key that was marked last
 * of those that belong there; count is how many are not 0.
 *
 * A key that is counted has its item copied once more, because one of its
 * servers may have forgotten the marks: see effect.c.  Until then they differ,
 * so it is better that neither forgets them.  memcached gathers replies while
 * there are more commands to read, but sends them at once for a get: 1.6.26
 * does, 1.6.45 does not.
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

/* The hash of a key, which is the same in base64 if it can be plain; not 0. */
static uint64_t
hash_of_key(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	char room[PROTO_KEY_MAX];
	struct proto_request key;

	bytes = command_plain_key(r, bytes, &key, room);
	return (siphash(marks->seed, bytes + key.key.at, key.key.length) ^
		   (key.base64 ? 2 : 0)) |
	    1;
}

void
marks_set(struct marks *marks, const struct proto_request *r, const char *bytes,
    bool is_marked)
{
	uint64_t hash, *place;

	if (!is_marked && marks->count == 0)
		return;
	hash = hash_of_key(marks, r, bytes);
	place = &marks->places[(hash >> 1) % PLACES];
	if (!is_marked && *place != hash)
		return;
	assert(*place == 0 || marks->count > 0);
	marks->count -= *place != 0;
	*place = is_marked ? hash : 0;
	marks->count += *place != 0;
}

bool
marks_has(const struct marks *marks, const struct proto_request *r,
    const char *bytes)
{
	uint64_t hash;

	if (marks->count == 0)
		return false;
	hash = hash_of_key(marks, r, bytes);
	return marks->places[(hash >> 1) % PLACES] == hash;
}

static void
on_pushed(struct call *call, const struct answer *answer)
{
	(void)answer;
	free(call);
}

/* A get of a key that nobody has. */
static void
push_replies(struct peer *peer, uint32_t hash)
{
	static const char key[] = "magent:";
	struct call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return;
	call->expect = PROTO_EXPECT_VALUES;
	call->done = on_pushed;
	peer_get(peer, hash, call, key, sizeof(key) - 1);
}

static bool
counts(const struct proto_request *r)
{
	return r->command == PROTO_INCR || r->command == PROTO_DECR ||
	    r->command == PROTO_MA;
}

void
marks_keep(const struct marks *marks, struct peer *peer, uint32_t hash,
    const struct proto_request *r, const char *bytes)
{
	if (counts(r) && marks_has(marks, r, bytes) &&
	    !abilities_has(&peer->abilities, ABILITY_META_CHOSEN_CAS))
		push_replies(peer, hash);
}
