/*
 * Find the moment at which a returned server can be the authority again.
 *
 *   begin -> the gate is closed: its partners have answered all
 *         -> a fence to a primary: it has answered the effects of that
 *         -> its repairs are finished -> done() -> the gate is open
 *
 * Invariant: when done() is called, no call of a client for the pairs of the
 * server is in flight, and a primary has done what its partners have done.  An
 * effect that it could not carry out is a repair: the copy of such a key is the
 * last that the old authority is asked for.
 */

#include "mirror/handback.h"

#include <assert.h>
#include <stddef.h>

#include "container_of.h"
#include "mirror/fence.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "server/server.h"

static void
end_handback(void *owner)
{
	struct handback *handback = owner;

	assert(handback->has_gate && handback->fence == NULL);
	handback->has_gate = false;
	handback->done(handback->owner);
	gate_open(handback->peer->gate);
}

static void
on_handback_fence(void *owner, bool was_reached)
{
	struct handback *handback = owner;

	handback->fence = NULL;
	assert(was_reached);
	(void)was_reached;
	if (!repairs_finish(handback->peer->repairs, end_handback, handback))
		end_handback(handback);
}

/* The job of the gate: the effects of all that was answered in place of the
   server are in its FIFO.  A backup stays a mirror, so nobody has to wait for
   its answers. */
static void
run_handback(struct gate_job *job)
{
	struct handback *handback = CONTAINER_OF(job, struct handback, job);

	assert(handback->peer->state == PEER_HANDBACK);
	assert(handback->fence == NULL && !handback->has_gate);
	handback->has_gate = true;
	if (!handback->peer->is_primary) {
		end_handback(handback);
		return;
	}
	handback->fence = fence_new(handback->peer, on_handback_fence,
	    handback);
	if (handback->fence == NULL)
		server_fail(handback->peer->server, "out of memory");
}

void
handback_init(struct handback *handback, struct peer *peer,
    void (*done)(void *owner), void *owner)
{
	handback->peer = peer;
	handback->done = done;
	handback->owner = owner;
	handback->job.run = run_handback;
	handback->job.peer = peer;
}

void
handback_begin(struct handback *handback)
{
	assert(handback->peer->state == PEER_HANDBACK);
	gate_quiesce(handback->peer->gate, &handback->job);
}

void
handback_stop(struct handback *handback)
{
	if (handback->fence != NULL)
		fence_cancel(handback->fence);
	handback->fence = NULL;
	gate_job_cancel(handback->peer->gate, &handback->job);
	if (!handback->has_gate)
		return;
	handback->has_gate = false;
	gate_open(handback->peer->gate);
}
