/*
 * Another magent rebuilds a server.
 *
 *   look -> not yet --------------------------------------.
 *    ^   -> it was emptied, or lacks nothing -> may_begin()|
 *    '-----------------------------------------------------'
 *        -> it has the stamps of its partners -> done()
 *        -> nobody rebuilds it -> ended()
 *
 * Invariant: our effects race with what the other magent copies, so the peer
 * gets them only while there are none (this magent rests, and leaves the peer
 * when it no longer does: see rest.c), or while both serve: then it cannot be
 * avoided, and the peer would never be whole otherwise.
 */

#include "mirror/follow.h"

#include <assert.h>
#include <stddef.h>

#include <event2/event.h>

#include "conn.h"
#include "mirror/bond.h"
#include "mirror/goals.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rest.h"
#include "mirror/stamp.h"
#include "mirror/survey.h"
#include "server/server.h"

enum {
	/* Between two looks. */
	FOLLOW_MS = 50,
};

/* Whether some partner says that the peer is being rebuilt.  Notes how far. */
static bool
is_claimed(struct follow *follow)
{
	const struct peer *peer = follow->peer, *partner;
	bool is_claimed = false;
	uint64_t claim;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL || !peer_is_mirror(partner))
			continue;
		claim = bond_side(bond_of(peer, partner), partner)->claim;
		is_claimed |= claim > 0;
		if (claim > follow->keys_done)
			follow->keys_done = claim - 1;
	}
	return is_claimed;
}

static void
look_again(struct follow *follow)
{
	struct timeval wait = { .tv_usec = FOLLOW_MS * 1000 };

	event_add(follow->timer, &wait);
}

static void
on_partners_looked_at(void *owner)
{
	struct follow *follow = owner;
	struct peer *peer = follow->peer;
	bool is_left = rest_leaves(follow->rest, peer);

	follow->survey = NULL;
	look_again(follow);
	if (goals_are_given(peer))
		follow->handler->done(follow->owner);
	else if (!is_claimed(follow) && !is_left)
		follow->handler->ended(follow->owner);
	else if (peer->state == PEER_INVALIDATE && goals_may_follow(peer) &&
	    rest_may_follow(follow->rest, peer))
		follow->handler->may_begin(follow->owner);
}

static void
on_peer_looked_at(void *owner, bool is_read)
{
	struct follow *follow = owner;
	struct peer *peer = follow->peer;

	follow->asking = NULL;
	if (!is_read) {
		server_fail(peer->server, "does not answer get");
		return;
	}
	follow->survey = survey_new(peer->pairs, peer, on_partners_looked_at,
	    follow);
	if (follow->survey == NULL)
		server_fail(peer->server, "out of memory");
}

static void
on_time_to_look(evutil_socket_t fd, short what, void *arg)
{
	struct follow *follow = arg;

	(void)fd;
	(void)what;
	assert(follow->asking == NULL && follow->survey == NULL);
	follow->asking = asking_new(follow->peer, on_peer_looked_at, follow);
	if (follow->asking == NULL)
		server_fail(follow->peer->server, "out of memory");
}

void
follow_start(struct follow *follow, const struct rest *rest)
{
	assert(follow->peer->state == PEER_INVALIDATE);
	assert(!follow->peer->is_left);
	follow->rest = rest;
	follow->peer->is_left = true;
	follow->keys_done = 0;
	look_again(follow);
}

void
follow_stop(struct follow *follow)
{
	if (follow->asking != NULL)
		asking_cancel(follow->asking);
	if (follow->survey != NULL)
		survey_cancel(follow->survey);
	follow->asking = NULL;
	follow->survey = NULL;
	follow->peer->is_left = false;
	event_del(follow->timer);
}

bool
follow_init(struct follow *follow, struct conn_loop *loop, struct peer *peer,
    const struct follow_handler *handler, void *owner)
{
	follow->peer = peer;
	follow->handler = handler;
	follow->owner = owner;
	follow->timer = event_new(conn_loop_base(loop), -1, 0, on_time_to_look,
	    follow);
	return follow->timer != NULL;
}

void
follow_destroy(struct follow *follow)
{
	if (follow->timer != NULL)
		event_free(follow->timer);
	asking_free(follow->asking);
}
