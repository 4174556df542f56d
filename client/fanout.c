/*
 * Carry the commands that go to all servers.
 *
 * Invariant: open counts the calls that are out, and one more while they are
 * being told, so that nothing ends before all have been told.
 */

#include "client/fanout.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block.h"
#include "client/request.h"
#include "client/stats.h"
#include "container_of.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

/* The call to one server. */
struct branch {
	struct call call;
	struct fanout *fanout;
	struct peer *peer;
};

struct fanout {
	struct gate_job job;
	struct request_env *env;
	struct request *request;
	unsigned int owed;
	void (*end)(struct fanout *fanout);
	char line[32];        /* flush_all with its delay */
	int64_t flush_at;     /* see pairs_set_flush() */
	unsigned int flushed; /* servers that said OK */
	char refusal[128];    /* what one said instead */
	struct stats_of_servers sum;
	fanout_render *render;
	void *arg;
	struct branch branches[]; /* one per peer */
};

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

static void
close_branch(struct fanout *fanout)
{
	assert(fanout->owed > 0);
	if (--fanout->owed > 0)
		return;
	fanout->end(fanout);
	free(fanout);
}

static void
submit_branch(struct fanout *fanout, size_t i, const char *line,
    enum proto_expect expect)
{
	struct branch *branch = &fanout->branches[i];

	assert(branch->call.done != NULL && fanout->owed > 0);
	branch->fanout = fanout;
	branch->call.expect = expect;
	fanout->owed++;
	peer_submit(branch->peer, 0, &branch->call, line, strlen(line), NULL, 0,
	    NULL);
}

/*
 * flush_all
 */

static void
on_branch_flushed(struct call *call, const struct answer *answer)
{
	struct branch *branch = CONTAINER_OF(call, struct branch, call);
	struct fanout *fanout = branch->fanout;
	struct peer *peer = branch->peer;

	if (answer == NULL)
		peer_add_all_dirty(peer);
	else if (answer->last.result == PROTO_OKAY)
		fanout->flushed++;
	else if (answer->length < sizeof(fanout->refusal))
		memcpy(fanout->refusal, answer->bytes, answer->length);
	close_branch(fanout);
	peer_finish(peer);
}

static void
end_flush(struct fanout *fanout)
{
	static const char nobody[] = "SERVER_ERROR no server is up\r\n";
	const char *reply = "OK\r\n";

	assert(gate_is_closed(pairs_gate(fanout->env->pairs)));
	if (fanout->refusal[0] != '\0')
		reply = fanout->refusal;
	else if (fanout->flushed == 0)
		reply = nobody;
	else
		pairs_set_flush(fanout->env->pairs, fanout->flush_at);
	gate_open(pairs_gate(fanout->env->pairs));
	request_finish(fanout->request, reply, strlen(reply));
}

/* Nothing is in flight. */
static void
run_flush(struct gate_job *job)
{
	struct fanout *fanout = CONTAINER_OF(job, struct fanout, job);
	struct pairs *pairs = fanout->env->pairs;
	struct branch *branch;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		branch = &fanout->branches[i];
		branch->peer = pairs_peer(pairs, i);
		branch->call.done = on_branch_flushed;
		if (peer_is_mirror(branch->peer))
			submit_branch(fanout, i, fanout->line, PROTO_EXPECT_OK);
		else
			peer_add_all_dirty(branch->peer);
	}
	close_branch(fanout);
}

/* When a flush_all with this delay is due, if that is not at once or never:
   memcached drops what it holds a second before that. */
static int64_t
flush_due(int64_t delay, int64_t now_ms)
{
	if (delay > PROTO_RELATIVE_MAX)
		delay -= (int64_t)time(NULL);
	return delay > 1 ? now_ms + (delay - 1) * 1000 : 0;
}

bool
fanout_flush(struct request_env *env, struct request *request,
    const struct proto_request *r, int64_t now_ms)
{
	struct fanout *fanout = fanout_new(env, request);

	if (fanout == NULL)
		return false;
	fanout->end = end_flush;
	fanout->job.run = run_flush;
	fanout->flush_at = flush_due(r->exptime, now_ms);
	if (r->has_exptime)
		snprintf(fanout->line, sizeof(fanout->line), "flush_all %d\r\n",
		    (int)r->exptime);
	else
		strcpy(fanout->line, "flush_all\r\n");
	gate_quiesce(pairs_gate(env->pairs), &fanout->job);
	return true;
}

/*
 * stats
 */

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
	struct peer *peer = CONTAINER_OF(call, struct branch, call)->peer;

	(void)answer; /* one that fails adds nothing more */
	close_branch(fanout);
	peer_finish(peer);
}

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

bool
fanout_stats(struct request_env *env, struct request *request,
    fanout_render *render, void *arg)
{
	struct fanout *fanout = fanout_new(env, request);
	struct pairs *pairs = env->pairs;
	struct branch *branch;
	size_t i;

	if (fanout == NULL)
		return false;
	fanout->end = end_stats;
	fanout->render = render;
	fanout->arg = arg;
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		branch = &fanout->branches[i];
		branch->peer = pairs_peer(pairs, i);
		branch->call.done = on_branch_stats;
		branch->call.element = on_branch_stat;
		if (peer_is_trusted(branch->peer) && branch->peer->primary)
			submit_branch(fanout, i, "stats\r\n",
			    PROTO_EXPECT_STATS);
	}
	close_branch(fanout);
	return true;
}
