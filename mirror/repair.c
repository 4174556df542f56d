/*
 * Make single keys of a mirror what they are at its authority.
 *
 *   effect.c: the mirror has ---> keys ---> copies ---> done() of who waits
 *   done otherwise
 *
 * Invariant: a key that was added is left until the mirror has answered its
 * copy, or has failed; then it is dirty.  At most WAITING_MAX keys are left.  A
 * copy that the mirror refuses is not repaired, so nothing here begins by
 * itself once more.
 */

#include "mirror/repair.h"

#include <assert.h>
#include <stdlib.h>

#include "mirror/copies.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

enum {
	/* Keys that wait to be copied. */
	WAITING_MAX = 1000,
	/* Who waits for few to be left waits for so many to be dealt with at
	   most: a mirror that is too small may lack keys again and again. */
	PATIENCE = 2 * WAITING_MAX,
};

struct repairs {
	struct pairs *pairs;   /* borrowed */
	struct peer *to;       /* borrowed */
	struct copies *copies; /* owned; NULL until there is a key */
	size_t held;           /* bytes of the keys that wait */
	/* Called when not more than few are left; NULL: nobody waits. */
	void (*done)(void *owner);
	void *owner;
	size_t few;
	size_t patience; /* how many more may be dealt with before that */
};

static void
on_repaired_key(void *owner, const struct copy *copy, enum copy_end end)
{
	struct repairs *repairs = owner;

	(void)copy;
	(void)end;
	if (repairs->patience > 0)
		repairs->patience--;
}

size_t
repairs_left(const struct repairs *repairs)
{
	return repairs->copies == NULL ? 0 : copies_left(repairs->copies);
}

static void
on_repairs_moved(void *owner)
{
	struct repairs *repairs = owner;
	void (*done)(void *owner) = repairs->done;

	if (done == NULL ||
	    (repairs->patience > 0 && repairs_left(repairs) > repairs->few))
		return;
	repairs->done = NULL;
	copies_set_hurry(repairs->copies, false);
	done(repairs->owner);
}

static const struct copies_handler on_repairs = {
	.ended = on_repaired_key,
	.moved = on_repairs_moved,
};

struct repairs *
repairs_new(struct pairs *pairs, struct peer *to)
{
	struct repairs *repairs = calloc(1, sizeof(*repairs));

	if (repairs == NULL)
		return NULL;
	repairs->pairs = pairs;
	repairs->to = to;
	return repairs;
}

void
repairs_free(struct repairs *repairs)
{
	if (repairs == NULL)
		return;
	copies_free(repairs->copies);
	free(repairs);
}

bool
repairs_add(struct repairs *repairs, const char *key, size_t length,
    bool base64)
{
	assert(peer_is_mirror(repairs->to));
	if (repairs->copies == NULL)
		repairs->copies = copies_new(repairs->pairs, repairs->to, true,
		    &repairs->held, &on_repairs, repairs);
	if (repairs->copies == NULL || repairs_left(repairs) >= WAITING_MAX ||
	    !copies_add(repairs->copies, key, length, base64))
		return false;
	copies_go(repairs->copies);
	return true;
}

bool
repairs_await(struct repairs *repairs, size_t few, void (*done)(void *owner),
    void *owner)
{
	assert(repairs->done == NULL);
	if (repairs_left(repairs) <= few)
		return false;
	repairs->few = few;
	repairs->patience = PATIENCE;
	repairs->done = done;
	repairs->owner = owner;
	return true;
}

void
repairs_set_hurry(struct repairs *repairs, bool is_in_hurry)
{
	if (repairs->copies == NULL)
		return;
	copies_set_hurry(repairs->copies, is_in_hurry);
	/* What is not in a hurry waits for the gate in there. */
	copies_go(repairs->copies);
}

bool
repairs_finish(struct repairs *repairs, void (*done)(void *owner), void *owner)
{
	if (repairs->copies != NULL) {
		copies_set_hurry(repairs->copies, true);
		copies_go(repairs->copies);
	}
	if (repairs_await(repairs, 0, done, owner))
		return true;
	if (repairs->copies != NULL)
		copies_set_hurry(repairs->copies, false);
	return false;
}

void
repairs_stop(struct repairs *repairs)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;

	repairs->done = NULL;
	if (repairs->copies == NULL)
		return;
	copies_set_hurry(repairs->copies, false);
	while (copies_pop(repairs->copies, key, &length, &base64))
		pairs_lose_effect(repairs->pairs, repairs->to, key, length,
		    base64);
	copies_make_dirty(repairs->copies);
}
