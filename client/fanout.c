/*
 * Carry the commands that go to all servers.
 *
 *   fanout_flush() -> gate closed -> a branch per mirror --.
 *   fanout_stats() -----------> a branch per primary ------+-> end(): reply
 *
 * Invariant: owed counts the branches that were submitted and not answered, and
 * one more until all of them have been submitted; so end() runs once, after the
 * last answer.
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
	struct fanout *fanout; /* set when the branch is submitted */
	struct peer *peer;
};

struct fanout {
	struct gate_job job;     /* flush_all: submits the branches */
	struct request_env *env; /* borrowed */
	struct request *request; /* gets the reply from end() */
	unsigned int owed;       /* see the invariant */
	/* Makes the reply.  The fanout is freed after it. */
	void (*end)(struct fanout *fanout);
	char line[32];        /* flush_all: the command, with its delay */
	int64_t flush_at;     /* flush_all: see pairs_set_flush() */
	unsigned int flushed; /* flush_all: servers that said OK */
	/* Of a flush_all: what a server said instead of OK; may be empty. */
	char refusal[PROTO_LINE_MAX + 1];
	struct stats_of_servers sum; /* stats: of those that have answered */
	fanout_render *render;       /* stats: makes the reply from the sum */
	void *arg;                   /* stats: for render() */
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

/* A branch has been answered, or all have been submitted.  The fanout, with the
   branch, may end in here. */
static void
close_branch(struct fanout *fanout)
{
	assert(fanout->owed > 0 && fanout->end != NULL);
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

	assert(branch->call.done != NULL && branch->fanout == NULL);
	assert(fanout->owed > 0 && fanout->owed <= i + 1);
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

	assert(gate_is_closed(pairs_gate(fanout->env->pairs)));
	if (answer == NULL)
		peer_add_all_dirty(peer);
	else if (answer->last.result == PROTO_OKAY)
		fanout->flushed++;
	else if (answer->length < sizeof(fanout->refusal))
		memcpy(fanout->refusal, answer->bytes, answer->length);
	close_branch(fanout);
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

/* The job of the gate: flush the servers that take effects.  Those that do not
   are emptied when they return. */
static void
run_flush(struct gate_job *job)
{
	struct fanout *fanout = CONTAINER_OF(job, struct fanout, job);
	struct pairs *pairs = fanout->env->pairs;
	struct branch *branch;
	size_t i;

	assert(fanout->owed == 1 && gate_is_closed(pairs_gate(pairs)));
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

/* When servers carry out a flush_all with this delay, for pairs_set_flush():
   memcached drops what it holds a second before the delay is over.  0: now, or
   never. */
static int64_t
flush_time(int64_t delay, int64_t now_ms)
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
	assert(r->command == PROTO_FLUSH_ALL);
	fanout->end = end_flush;
	fanout->job.run = run_flush;
	fanout->flush_at = flush_time(r->exptime, now_ms);
	if (r->has_exptime)
		snprintf(fanout->line, sizeof(fanout->line), "flush_all %d\r\n",
		    (int)r->exptime);
	else
		strcpy(fanout->line, "flush_all\r\n");
	request_hold(request);
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

	(void)answer; /* a server that fails adds no more to the sum */
	close_branch(fanout);
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
		if (peer_is_trusted(branch->peer) && branch->peer->is_primary)
			submit_branch(fanout, i, "stats\r\n",
			    PROTO_EXPECT_STATS);
	}
	close_branch(fanout);
	return true;
}
