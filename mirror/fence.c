/*
 * Learn when a server has carried out all that it was sent so far.
 *
 *   link 0: ... version --.
 *   link 1: ... version ---+--> passed()
 *   link 2: ... version --'
 *
 * Invariant: a fence is freed when the last of its calls is answered, and not
 * before.  passed() is called then, unless fence_cancel() was called.
 */

#include "mirror/fence.h"

#include <assert.h>
#include <stdlib.h>

#include "container_of.h"
#include "mirror/peer.h"
#include "server/server.h"

/* The call on one link. */
struct fence_call {
	struct call call;
	struct fence *fence;
};

struct fence {
	/* NULL: fence_cancel() was called. */
	void (*passed)(void *owner, bool was_reached);
	void *owner;
	bool was_reached;  /* each call that has ended was answered */
	unsigned int left; /* calls without an answer */
	struct fence_call calls[];
};

static void
on_fence_reply(struct call *call, const struct answer *answer)
{
	struct fence *fence =
	    CONTAINER_OF(call, struct fence_call, call)->fence;

	assert(fence->left > 0);
	fence->was_reached &= answer != NULL;
	if (--fence->left > 0)
		return;
	if (fence->passed != NULL)
		fence->passed(fence->owner, fence->was_reached);
	free(fence);
}

struct fence *
fence_new(struct peer *peer, void (*passed)(void *owner, bool was_reached),
    void *owner)
{
	static const char version[] = "version\r\n";
	unsigned int links = server_links(peer->server);
	struct fence *fence = calloc(1,
	    sizeof(*fence) + links * sizeof(fence->calls[0]));
	struct call *call;
	unsigned int i;

	if (fence == NULL)
		return NULL;
	fence->passed = passed;
	fence->owner = owner;
	fence->was_reached = true;
	fence->left = links;
	for (i = 0; i < links; i++) {
		fence->calls[i].fence = fence;
		call = &fence->calls[i].call;
		call->expect = PROTO_EXPECT_VERSION;
		call->done = on_fence_reply;
		peer_submit(peer, i, call, version, sizeof(version) - 1, NULL,
		    0, NULL);
	}
	return fence;
}

void
fence_cancel(struct fence *fence)
{
	assert(fence->left > 0 && fence->passed != NULL);
	fence->passed = NULL;
}
