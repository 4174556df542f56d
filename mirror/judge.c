/*
 * Decide what a returned server still holds.
 *
 *	                     its items        behind its     its partners
 *	                                      partners       behind it
 *	the same process     are kept         as it was      as they were
 *	perhaps another one  are kept         all            as they were
 *	another one          are none, or of  all            not: it lost them
 *	                     other proxies
 *	a stranger           go               all            not
 *
 * What a server lacks outlasts its failures: see behind.c.
 *
 * Invariant: a key whose copy on the server may be old is dirty.
 */

#include "mirror/judge.h"

#include <assert.h>

#include "mirror/behind.h"
#include "mirror/dirty.h"
#include "mirror/identity.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"
#include "server/zombie.h"

enum {
	/* A memcached says that it is up for so many seconds when it starts. */
	UPTIME_FIRST = 2,
	/* A server that has failed may have done so for this time. */
	UNNOTICED_MS = 300,
	/* A server of unknown items waits so long for a partner that is up. */
	STRANGER_WAIT_MS = 10000,
};

/* Every item of the server may be old.  If it has none, no key is dirty. */
static void
distrust_all_items(struct peer *peer, const struct identity *found)
{
	dirty_clear(peer->dirty);
	if (found->stored > 0)
		peer_add_all_dirty(peer);
}

static bool
has_trusted_partner(const struct peer *peer)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++)
		if (peers_are_partners(peer, pairs_peer(peer->pairs, i)) &&
		    peer_is_trusted(pairs_peer(peer->pairs, i)))
			return true;
	return false;
}

/*
 * No incarnation at this address has been heard of since magent started.  It is
 * believed, as it is at the start: nobody knows that it has missed anything but
 * its dirty keys.  One that was started later than magent was empty then.
 */
static void
judge_first(struct judge *judge, const struct identity *found, int64_t now_ms)
{
	int64_t ms = now_ms - judge->started_ms;

	if (dirty_is_all(judge->peer->dirty))
		distrust_all_items(judge->peer, found);
	if (found->stored == 0 ||
	    (found->uptime * 1000 < (uint64_t)ms && !found->restartable))
		behind_lost(judge->peer);
}

/* Whether this incarnation ran already when the last one did: it is another
   memcached, which the address has come to mean, and has items of its own.  One
   that keeps its items over a restart keeps its uptime as well. */
static bool
is_stranger(const struct judge *judge, const struct identity *found,
    int64_t now_ms)
{
	int64_t away = now_ms - judge->lost_ms;

	assert(away >= 0);
	return found->stored > 0 && !found->restartable &&
	    found->uptime > UPTIME_FIRST &&
	    (found->uptime - UPTIME_FIRST) * 1000 >
	    (uint64_t)away + UNNOTICED_MS;
}

/*
 * The items of a stranger are not believed, so it must be emptied.  What is
 * thrown away should be on a partner that is up.  Returns whether one is, or
 * none has been for so long that it is better to go on.
 */
static bool
may_empty_stranger(struct judge *judge, int64_t now_ms)
{
	const struct peer *peer = judge->peer;

	if (has_trusted_partner(peer) || peer->away_partners == 0)
		return true;
	if (judge->stranger_ms == 0)
		judge->stranger_ms = now_ms;
	return now_ms - judge->stranger_ms >= STRANGER_WAIT_MS;
}

/*
 * This is another incarnation than the last one.  It is empty, but for what
 * other proxies have put there since.  That may be old as well, so dirty keys
 * stay dirty.  It is not empty if it keeps its items over a restart, which is
 * believed only if nobody else can have them.  Returns false if it has to wait.
 */
static bool
judge_new(struct judge *judge, const struct identity *found, int64_t now_ms)
{
	struct peer *peer = judge->peer;
	bool has_partners = pairs_are_mirrored(peer->pairs);
	bool are_all_up = has_partners && peer->away_partners == 0;

	if (has_partners && is_stranger(judge, found, now_ms)) {
		if (!may_empty_stranger(judge, now_ms))
			return false;
		distrust_all_items(peer, found);
	}
	zombies_reset(server_zombies(peer->server));
	if (peer->lists != NULL)
		zombies_reset(peer->lists);
	if (found->restartable && !are_all_up && !dirty_is_all(peer->dirty)) {
		behind_all(peer);
		return true;
	}
	behind_lost(peer);
	if (dirty_is_all(peer->dirty) || found->restartable)
		distrust_all_items(peer, found);
	return true;
}

bool
judge_contents(struct judge *judge, const struct identity *found,
    int64_t now_ms)
{
	const struct identity *before = &judge->peer->identity;

	assert(judge->peer->state == PEER_IDENTIFY && found->known);
	if (!before->known) {
		judge_first(judge, found, now_ms);
		return true;
	}
	switch (identity_compare(before, found)) {
	case IDENTITY_SAME:
		break;
	case IDENTITY_NEW:
		if (!judge_new(judge, found, now_ms))
			return false;
		break;
	case IDENTITY_UNSURE:
		/* If it is the same one, its items are those that it had; if it
		   is a new one, it has none, or what others have put there. */
		behind_all(judge->peer);
		break;
	}
	judge->stranger_ms = 0;
	return true;
}
