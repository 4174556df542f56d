/*
 * Give back what a read of ours has won.
 *
 * The item is made stale once more, with the cas token that it has, if it has
 * not changed.  Where that cannot be asked, a value that a client sets at this
 * moment becomes stale, and is set once more; otherwise nobody would set it at
 * all.
 *
 * Invariant: a giveback is in the list of its peer until it is answered.  If
 * that fails before, it is asked for the token when it returns with its items:
 * see tokens.c.
 */

#include "mirror/giveback.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "container_of.h"
#include "mirror/blame.h"
#include "mirror/item.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/tokens.h"
#include "proto.h"

/* Whether an md compares cas tokens (flag C): before, none are equal to it. */
static bool
compares_cas(const struct peer *peer)
{
	return abilities_has(&peer->abilities, ABILITY_META_DELETE_CAS);
}

/* Whether an md may say what the cas token becomes (flag E). */
static bool
knows_new_cas(const struct peer *peer)
{
	return abilities_has(&peer->abilities, ABILITY_META_CHOSEN_CAS);
}

static void
on_given_back(struct call *call, const struct answer *answer)
{
	struct giveback *giveback = CONTAINER_OF(call, struct giveback, call);
	struct peer *peer = giveback->peer;

	LIST_REMOVE(giveback, entry);
	if (answer == NULL && call->is_suspect)
		blame_key(pairs_blame(peer->pairs), BLAME_COPY, giveback->key,
		    giveback->length);
	if (answer == NULL)
		tokens_lost(peer, giveback->key, giveback->length,
		    giveback->base64);
	giveback->done(giveback);
}

void
giveback_submit(struct giveback *giveback, struct peer *peer, uint32_t hash,
    const char *key, size_t length, bool base64, uint64_t cas)
{
	unsigned long long token = cas;
	char line[ITEM_LINE_MAX], same[64] = "";
	int n;

	assert(giveback->done != NULL && length > 0);
	giveback->peer = peer;
	giveback->key = key;
	giveback->length = length;
	giveback->base64 = base64;
	LIST_INSERT_HEAD(&peer->giving_back, giveback, entry);
	if (knows_new_cas(peer) && cas != 0)
		snprintf(same, sizeof(same), " C%llu E%llu", token, token);
	else if (compares_cas(peer))
		snprintf(same, sizeof(same), " C%llu", token);
	giveback->call.expect = PROTO_EXPECT_META_DELETE;
	giveback->call.done = on_given_back;
	giveback->call.element = NULL;
	n = snprintf(line, sizeof(line), "md %.*s%s I%s\r\n", (int)length, key,
	    base64 ? " b" : "", same);
	assert(n > 0 && n < ITEM_LINE_MAX);
	peer_submit(peer, hash, &giveback->call, line, (size_t)n, NULL, 0,
	    NULL);
}

bool
giveback_is_under_way(const struct peer *peer, const char *key, size_t length)
{
	const struct giveback *other;

	LIST_FOREACH(other, &peer->giving_back, entry)
		if (other->length == length &&
		    memcmp(other->key, key, length) == 0)
			return true;
	return false;
}
