/*
 * Have mirrors that are warming learn what clients read.
 *
 *   a hit, its mirror is warming ---> copies
 *
 * Invariant: at most WAITING_MAX keys wait.  A key that is not copied is
 * missing at its mirror, which is no wrong value.
 */

#include "mirror/learn.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/copies.h"
#include "mirror/peer.h"
#include "siphash.h"

enum {
	/* Keys that wait to be copied. */
	WAITING_MAX = 1000,
	/* Keys that were read lately and are not copied once more. */
	SEEN_MAX = 4096,
};

struct learner {
	struct copies *copies; /* owned */
	/* Bytes of the keys that wait. */
	size_t held;
	/* Hashes of keys and their mirrors, each at its place. */
	uint64_t seen[SEEN_MAX];
};

static void
on_learned(void *owner, const struct copy *copy, enum copy_end end)
{
	(void)owner;
	(void)copy;
	(void)end;
}

static void
on_moved(void *owner)
{
	(void)owner;
}

static const struct copies_handler on_copies = {
	.ended = on_learned,
	.moved = on_moved,
};

struct learner *
learner_new(struct pairs *pairs)
{
	struct learner *learner = calloc(1, sizeof(*learner));

	if (learner == NULL)
		return NULL;
	learner->copies = copies_new(pairs, NULL, false, &learner->held,
	    &on_copies, learner);
	if (learner->copies != NULL)
		return learner;
	free(learner);
	return NULL;
}

void
learner_free(struct learner *learner)
{
	if (learner == NULL)
		return;
	copies_free(learner->copies);
	free(learner);
}

/* Returns false if there is no room. */
static bool
learn_key(struct learner *learner, const char *key, size_t length)
{
	if (copies_left(learner->copies) >= WAITING_MAX ||
	    !copies_add(learner->copies, key, length, false))
		return false;
	copies_go(learner->copies);
	return true;
}

/* Each time that a server is warming, it learns anew. */
static uint64_t
hash_of(const struct peer *to, const char *key, size_t length)
{
	unsigned char time[SIPHASH_KEY] = { 0 };

	static_assert(sizeof(to->mirror_since) <= sizeof(time),
	    "a number of a rebuild is part of a key of SipHash");
	memcpy(time, &to->mirror_since, sizeof(to->mirror_since));
	return siphash(time, key, length);
}

void
learn_read(struct learner *learner, const struct peer *to, const char *key,
    size_t length)
{
	uint64_t hash = hash_of(to, key, length);
	uint64_t *seen = &learner->seen[hash % SEEN_MAX];

	assert(to->warming);
	if (*seen != hash && learn_key(learner, key, length))
		*seen = hash;
}
