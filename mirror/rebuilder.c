/*
 * Which of several magents rebuilds a server.
 *
 *   choose -> this one rests, another one serves -------> follow
 *          -> somebody is to be read, and has a claim --> follow
 *          -> nobody has one, and ours is there --------> ours()
 *          -> nobody is to be read ---------------------> ours()
 *
 * Invariant: while ours is under way, the claim is there, and is renewed; until
 * the server has answered to the stamps that it got in the end.  So whoever
 * claims it next reads those, and sees that it lacks nothing.
 */

#include "mirror/rebuilder.h"

#include <assert.h>
#include <stddef.h>

#include <event2/event.h>

#include "conn.h"
#include "log.h"
#include "mirror/fence.h"
#include "mirror/peer.h"
#include "mirror/rest.h"
#include "server/server.h"

enum {
	/* Between two times of saying how far a rebuild is. */
	RENEW_MS = 50,
};

/*
 * Ours
 */

static void
on_claim_answered(void *owner, bool is_taken)
{
	struct rebuilder *rebuilder = owner;

	if (is_taken) {
		rebuilder->handler->ours(rebuilder->owner, true);
		return;
	}
	log_info("s %s: rebuilt by another magent", peer_name(rebuilder->peer));
	follow_start(&rebuilder->follow, rebuilder->rest);
}

void
rebuilder_choose(struct rebuilder *rebuilder)
{
	const struct rest *rest = rebuilder->rest;

	assert(rebuilder->peer->state == PEER_INVALIDATE);
	if (rest_leaves(rest, rebuilder->peer))
		follow_start(&rebuilder->follow, rest);
	else if (!claim_take(&rebuilder->claim, conn_loop_now(rebuilder->loop)))
		rebuilder->handler->ours(rebuilder->owner, false);
}

static void
on_time_to_renew(evutil_socket_t fd, short what, void *arg)
{
	struct rebuilder *rebuilder = arg;

	(void)fd;
	(void)what;
	claim_renew(&rebuilder->claim,
	    rebuilder->handler->progress(rebuilder->owner));
}

void
rebuilder_begin(struct rebuilder *rebuilder)
{
	struct timeval wait = { .tv_usec = RENEW_MS * 1000 };

	assert(!rebuilder->peer->is_left);
	event_add(rebuilder->renew, &wait);
}

void
rebuilder_keep(struct rebuilder *rebuilder)
{
	rebuilder->keeps_claim = rest_serves(rebuilder->rest);
	if (rebuilder->keeps_claim)
		claim_keep(&rebuilder->claim, conn_loop_now(rebuilder->loop));
}

static void
on_gifts_answered(void *owner, bool was_reached)
{
	struct rebuilder *rebuilder = owner;

	(void)was_reached;
	rebuilder->gifts = NULL;
	claim_drop(&rebuilder->claim);
	event_del(rebuilder->renew);
}

void
rebuilder_finish(struct rebuilder *rebuilder)
{
	if (rebuilder->gifts != NULL)
		fence_cancel(rebuilder->gifts);
	rebuilder->gifts = fence_new(rebuilder->peer, on_gifts_answered,
	    rebuilder);
	if (rebuilder->gifts == NULL)
		on_gifts_answered(rebuilder, false);
}

/*
 * Another magent's
 */

static void
on_followed_may_begin(void *owner)
{
	struct rebuilder *rebuilder = owner;

	rebuilder->handler->may_follow(rebuilder->owner);
}

static void
on_followed_done(void *owner)
{
	struct rebuilder *rebuilder = owner;
	struct server *server = rebuilder->peer->server;

	if (rebuilder->peer->state == PEER_INVALIDATE) {
		server_steady(server);
		server_fail(server, "rebuilt by another magent");
		return;
	}
	if (!rebuilder->awaits_other)
		return;
	rebuilder->awaits_other = false;
	follow_stop(&rebuilder->follow);
	rebuilder->handler->whole(rebuilder->owner);
}

static void
on_followed_ended(void *owner)
{
	struct rebuilder *rebuilder = owner;
	struct server *server = rebuilder->peer->server;

	server_steady(server);
	server_fail(server, "its rebuild by another magent has ended");
}

static const struct follow_handler on_follow = {
	.may_begin = on_followed_may_begin,
	.done = on_followed_done,
	.ended = on_followed_ended,
};

bool
rebuilder_await(struct rebuilder *rebuilder)
{
	rebuilder->awaits_other = rebuilder->peer->is_left;
	return rebuilder->awaits_other;
}

/*
 * Life
 */

void
rebuilder_stop(struct rebuilder *rebuilder)
{
	if (rebuilder->peer->is_left)
		follow_stop(&rebuilder->follow);
	rebuilder->awaits_other = false;
	if (rebuilder->gifts != NULL)
		fence_cancel(rebuilder->gifts);
	rebuilder->gifts = NULL;
	event_del(rebuilder->renew);
	if (!rebuilder->keeps_claim)
		claim_drop(&rebuilder->claim);
	rebuilder->keeps_claim = false;
}

bool
rebuilder_init(struct rebuilder *rebuilder, struct conn_loop *loop,
    struct peer *peer, const struct rest *rest,
    const struct rebuilder_handler *handler, void *owner)
{
	assert(rebuilder->peer == NULL);
	rebuilder->peer = peer;
	rebuilder->loop = loop;
	rebuilder->rest = rest;
	rebuilder->handler = handler;
	rebuilder->owner = owner;
	claim_init(&rebuilder->claim, peer, on_claim_answered, rebuilder);
	rebuilder->renew = event_new(conn_loop_base(loop), -1, EV_PERSIST,
	    on_time_to_renew, rebuilder);
	return follow_init(&rebuilder->follow, loop, peer, &on_follow,
		   rebuilder) &&
	    rebuilder->renew != NULL;
}

void
rebuilder_destroy(struct rebuilder *rebuilder)
{
	if (rebuilder->renew != NULL)
		event_free(rebuilder->renew);
	follow_destroy(&rebuilder->follow);
}
