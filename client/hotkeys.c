/*
 * The keys that clients ask for most.
 *
 *   each key -- one of SAMPLE_GAP --> its place, or the place of fewest samples
 *
 * Invariant: the samples of all places are those that were taken.  A key that
 * has a larger part of them than one of PLACES has a place: a new key takes
 * over the place of fewest samples with what is there, which is doubtful then.
 * (A. Metwally, D. Agrawal, A. El Abbadi, "Efficient computation of frequent
 * and top-k elements in data streams", 2005.)
 *
 * Each HALF_LIFE_MS all numbers are halved.
 */

#include "client/hotkeys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <event2/util.h>

#include "conn.h"
#include "proto.h"

enum {
	PLACES = 128,
	/* Keys between two samples, on average; what repeats itself must not
	   be hit by the same one again and again. */
	SAMPLE_GAP = 16,
	HALF_LIFE_MS = 10000,
};

struct place_of_key {
	uint32_t hash;
	unsigned int samples; /* doubtful ones too; 0: it is free */
	unsigned int doubtful;
	size_t length;
	char key[PROTO_KEY_MAX];
};

struct hotkeys {
	struct conn_loop *loop; /* borrowed */
	unsigned int left;      /* keys until the next sample */
	uint32_t random;        /* of the gaps; never 0 */
	unsigned int samples;   /* of all places */
	int64_t halved_ms;
	struct place_of_key places[PLACES];
};

/* Make what was counted long ago count less. */
static void
grow_old(struct hotkeys *hotkeys)
{
	int64_t now = conn_loop_now(hotkeys->loop);
	struct place_of_key *place;

	for (; now - hotkeys->halved_ms >= HALF_LIFE_MS && hotkeys->samples > 0;
	     hotkeys->halved_ms += HALF_LIFE_MS) {
		hotkeys->samples = 0;
		for (place = hotkeys->places; place < hotkeys->places + PLACES;
		     place++) {
			place->samples /= 2;
			place->doubtful /= 2;
			hotkeys->samples += place->samples;
		}
	}
	if (hotkeys->samples == 0)
		hotkeys->halved_ms = now;
}

static bool
is_place_of(const struct place_of_key *place, uint32_t hash, const char *key,
    size_t length)
{
	return place->hash == hash && place->length == length &&
	    memcmp(place->key, key, length) == 0;
}

/* The place of the key, or that which it is to take. */
static struct place_of_key *
place_of(struct hotkeys *hotkeys, uint32_t hash, const char *key, size_t length)
{
	struct place_of_key *fewest = hotkeys->places, *place;

	for (place = hotkeys->places; place < hotkeys->places + PLACES;
	     place++) {
		if (place->samples > 0 && is_place_of(place, hash, key, length))
			return place;
		if (place->samples < fewest->samples)
			fewest = place;
	}
	fewest->hash = hash;
	fewest->length = length;
	memcpy(fewest->key, key, length);
	fewest->doubtful = fewest->samples;
	return fewest;
}

/* Keys until the next sample: 1 to twice the gap, less one. */
static unsigned int
next_gap(struct hotkeys *hotkeys)
{
	uint32_t random = hotkeys->random;

	/* G. Marsaglia, "Xorshift RNGs", 2003. */
	random ^= random << 13;
	random ^= random >> 17;
	random ^= random << 5;
	hotkeys->random = random;
	return 1 + random % (2 * SAMPLE_GAP - 1);
}

void
hotkeys_note(struct hotkeys *hotkeys, uint32_t hash, const char *key,
    size_t length)
{
	assert(length > 0 && length <= PROTO_KEY_MAX && hotkeys->left > 0);
	if (--hotkeys->left > 0)
		return;
	hotkeys->left = next_gap(hotkeys);
	grow_old(hotkeys);
	place_of(hotkeys, hash, key, length)->samples++;
	hotkeys->samples++;
}

static unsigned int
certain(const struct place_of_key *place)
{
	return place->samples - place->doubtful;
}

static int
compare_places(const void *one, const void *other)
{
	unsigned int a = certain(one), b = certain(other);

	return a > b ? -1 : a < b;
}

/* Sorting moves the places, which are in no order. */
size_t
hotkeys_list(struct hotkeys *hotkeys, struct hotkey list[HOTKEYS_LISTED],
    unsigned int *samples)
{
	const struct place_of_key *place = hotkeys->places;
	size_t n;

	grow_old(hotkeys);
	qsort(hotkeys->places, PLACES, sizeof(hotkeys->places[0]),
	    compare_places);
	for (n = 0; n < HOTKEYS_LISTED && certain(place) > 0; n++, place++)
		list[n] = (struct hotkey){
			.key = place->key,
			.length = place->length,
			.samples = certain(place),
			.doubtful = place->doubtful,
		};
	*samples = hotkeys->samples;
	return n;
}

struct hotkeys *
hotkeys_new(struct conn_loop *loop)
{
	struct hotkeys *hotkeys = calloc(1, sizeof(*hotkeys));

	if (hotkeys == NULL)
		return NULL;
	hotkeys->loop = loop;
	hotkeys->left = 1;
	evutil_secure_rng_get_bytes(&hotkeys->random, sizeof(hotkeys->random));
	hotkeys->random |= 1;
	hotkeys->halved_ms = conn_loop_now(loop);
	return hotkeys;
}

void
hotkeys_free(struct hotkeys *hotkeys)
{
	free(hotkeys);
}
