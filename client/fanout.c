/*
 * Ask all primaries for their statistics.
 *
 *   fanout_stats() -> a branch per primary -> end_stats(): reply
 *
 * Invariant: owed counts the branches that were submitted and not answered, and
 * one more until all of them have been submitted.  So end_stats() runs once,
 * after the last answer.
 */

#include "client/fanout.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "client/request.h"
#include "client/stats.h"
#include "container_of.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

/* The call to one server. */
struct branch {
	struct call call;
	struct fanout *fanout; /* borrowed; set when the branch is submitted */
};

struct fanout {
	struct request_env *env;     /* borrowed */
	struct request *request;     /* gets the reply from end_stats() */
	unsigned int owed;           /* see the invariant */
	struct stats_of_servers sum; /* of those that have answered */
	fanout_render *render;       /* makes the reply from the sum */
	void *arg;                   /* for render() */
	struct branch branches[];    /* one for each peer, in their order */
};

/* A fanout that owes one answer: see close_branch().  Returns NULL when out of
   memory. */
static struct fanout *
fanout_new(struct request_env *env, struct request *request)
{
	size_t n = pairs_peer_count(env->pairs);
	struct fanout *fanout = calloc(1,
	    sizeof(*fanout) + n * sizeof(fanout->branches[0]));

	if (fanout == NULL)
		return NULL;
	fanout->env = env;
	fanout->request = request;
	fanout->owed = 1;
	return fanout;
}

/* Every primary that was asked has answered or failed. */
static void
end_stats(struct fanout *fanout)
{
	size_t length;
	struct block *page = fanout->render(fanout->arg, &fanout->sum, &length);

	if (page == NULL) {
		request_fail(fanout->request);
		return;
	}
	request_finish(fanout->request, page->bytes, length);
	block_release(page);
}

/* A branch has been answered, or all have been submitted.  The fanout, with the
   branch, may end in here. */
static void
close_branch(struct fanout *fanout)
{
	assert(fanout->owed > 0);
	if (--fanout->owed > 0)
		return;
	end_stats(fanout);
	free(fanout);
}

static bool
on_branch_stat(struct call *call, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	struct branch *branch = CONTAINER_OF(call, struct branch, call);

	stats_add(&branch->fanout->sum, bytes + at + stat->key.at,
	    stat->key.length, bytes + at + stat->data.at, stat->data.length);
	return true;
}

static void
on_branch_stats(struct call *call, const struct answer *answer)
{
	struct fanout *fanout = CONTAINER_OF(call, struct branch, call)->fanout;

	(void)answer; /* a server that fails adds no more to the sum */
	close_branch(fanout);
}

static void
submit_branch(struct fanout *fanout, size_t i)
{
	static const char line[] = "stats\r\n";
	struct branch *branch = &fanout->branches[i];

	assert(branch->fanout == NULL && fanout->owed <= i + 1);
	branch->fanout = fanout;
	branch->call.expect = PROTO_EXPECT_STATS;
	branch->call.done = on_branch_stats;
	branch->call.element = on_branch_stat;
	fanout->owed++;
	peer_submit(pairs_peer(fanout->env->pairs, i), 0, &branch->call, line,
	    sizeof(line) - 1, NULL, 0, NULL);
}

bool
fanout_stats(struct request_env *env, struct request *request,
    fanout_render *render, void *arg)
{
	struct fanout *fanout = fanout_new(env, request);
	const struct peer *peer;
	size_t i;

	if (fanout == NULL)
		return false;
	fanout->render = render;
	fanout->arg = arg;
	for (i = 0; i < pairs_peer_count(env->pairs); i++) {
		peer = pairs_peer(env->pairs, i);
		if (peer_is_trusted(peer) && peer->is_primary)
			submit_branch(fanout, i);
	}
	close_branch(fanout);
	return true;
}
