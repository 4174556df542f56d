/*
 * One magent at a time rebuilds a server.
 *
 * Invariant: while a claim is held, no other magent that reads from the same
 * servers has taken it; unless this one was held up for CLAIM_SECONDS, or the
 * item was evicted.  Then the stamps tell.
 */

#include "mirror/claim.h"

#include <assert.h>
#include <stddef.h>

#include "container_of.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"

enum {
	/* So long it is there without being renewed, and a second less. */
	KEPT_MS = 3000,
};

static void ask_for_claim(struct claim *claim);

static void
on_claimed(struct call *call, const struct answer *answer)
{
	struct claim *claim = CONTAINER_OF(call, struct claim, call);
	bool is_taken = answer == NULL ||
	    answer->last.result != PROTO_NOT_STORED;

	claim->is_asked = false;
	if (claim->is_dropped) {
		claim->is_dropped = false;
		if (is_taken && peer_is_mirror(claim->at))
			stamp_drop_claim(claim->bond, claim->at);
		claim->bond = NULL;
		if (claim->is_waiting)
			ask_for_claim(claim);
		return;
	}
	assert(claim->is_waiting);
	claim->is_waiting = false;
	if (!is_taken)
		claim->bond = NULL;
	claim->done(claim->owner, is_taken);
}

/* The first server that the peer is rebuilt from; NULL: there is none. */
static struct peer *
find_source(const struct peer *peer)
{
	struct peer *source;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		source = pairs_peer(peer->pairs, i);
		if (peers_are_partners(peer, source) &&
		    peer_is_mirror(source) &&
		    behind_of(peer, source) != BEHIND_NOT)
			return source;
	}
	return NULL;
}

static void
ask_for_claim(struct claim *claim)
{
	struct peer *source = find_source(claim->peer);

	assert(!claim->is_asked && claim->is_waiting);
	if (source == NULL) {
		claim->is_waiting = false;
		claim->done(claim->owner, true);
		return;
	}
	claim->bond = bond_of(claim->peer, source);
	claim->at = source;
	claim->is_asked = true;
	claim->call.expect = PROTO_EXPECT_STORED;
	claim->call.done = on_claimed;
	claim->call.element = NULL;
	stamp_add_claim(claim->bond, source, &claim->call);
}

bool
claim_take(struct claim *claim, int64_t now_ms)
{
	bool is_kept = claim->kept_ms > 0 &&
	    now_ms - claim->kept_ms < KEPT_MS && peer_is_mirror(claim->at);

	assert(!claim->is_waiting);
	claim->kept_ms = 0;
	if (is_kept) {
		claim_renew(claim, 0);
		return false;
	}
	if (!claim->is_asked)
		claim->bond = NULL;
	if (find_source(claim->peer) == NULL)
		return false;
	claim->is_waiting = true;
	if (!claim->is_asked)
		ask_for_claim(claim);
	return true;
}

void
claim_renew(const struct claim *claim, uint64_t keys_done)
{
	if (claim->bond != NULL && !claim->is_asked && claim->kept_ms == 0 &&
	    peer_is_mirror(claim->at))
		stamp_renew_claim(claim->bond, claim->at, keys_done);
}

void
claim_drop(struct claim *claim)
{
	claim->is_waiting = false;
	claim->kept_ms = 0;
	/* It may be somebody else's: the answer tells. */
	claim->is_dropped = claim->is_asked;
	if (claim->is_asked)
		return;
	if (claim->bond != NULL && peer_is_mirror(claim->at))
		stamp_drop_claim(claim->bond, claim->at);
	claim->bond = NULL;
}

void
claim_keep(struct claim *claim, int64_t now_ms)
{
	if (claim->bond != NULL && !claim->is_asked)
		claim->kept_ms = now_ms;
}

void
claim_init(struct claim *claim, struct peer *peer,
    void (*done)(void *owner, bool is_taken), void *owner)
{
	assert(claim->bond == NULL && done != NULL);
	claim->peer = peer;
	claim->done = done;
	claim->owner = owner;
}
