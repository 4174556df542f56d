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
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "proto.h"
#include "server/server.h"

/* The call to one server. */
struct branch {
	struct call call;
	struct fanout *fanout;
	struct peer *peer;
};

struct fanout {
	struct rest rest;
	struct request_world *world;
	struct request *request;
	unsigned int open;
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
fanout_new(struct request_world *world, struct request *request)
{
	size_t n = pairs_peer_count(world->pairs);
	struct fanout *fanout = calloc(1,
	    sizeof(*fanout) + n * sizeof(fanout->branches[0]));

	if (fanout == NULL)
		return NULL;
	fanout->world = world;
	fanout->request = request;
	fanout->open = 1;
	return fanout;
}

static void
close_branch(struct fanout *fanout)
{
	assert(fanout->open > 0);
	if (--fanout->open > 0)
		return;
	fanout->end(fanout);
	free(fanout);
}

static void
tell(struct fanout *fanout, size_t i, const char *line,
    enum proto_expect expect)
{
	struct branch *branch = &fanout->branches[i];

	assert(branch->call.done != NULL && fanout->open > 0);
	branch->fanout = fanout;
	branch->call.expect = expect;
	fanout->open++;
	peer_tell(branch->peer, 0, &branch->call, line, strlen(line), NULL, 0,
	    NULL);
}

/*
 * flush_all
 */

static void
on_flushed(struct call *call, const struct answer *answer)
{
	struct branch *branch = (struct branch *)call;
	struct fanout *fanout = branch->fanout;
	struct peer *peer = branch->peer;

	if (answer == NULL)
		peer_add_all_dirty(peer);
	else if (answer->last.result == PROTO_OKAY)
		fanout->flushed++;
	else if (answer->length < sizeof(fanout->refusal))
		memcpy(fanout->refusal, answer->bytes, answer->length);
	close_branch(fanout);
	peer_told(peer);
}

static void
end_flush(struct fanout *fanout)
{
	static const char nobody[] = "SERVER_ERROR no server is up\r\n";
	const char *reply = "OK\r\n";

	assert(gate_is_closed(pairs_gate(fanout->world->pairs)));
	if (fanout->refusal[0] != '\0')
		reply = fanout->refusal;
	else if (fanout->flushed == 0)
		reply = nobody;
	else
		pairs_set_flush(fanout->world->pairs, fanout->flush_at);
	gate_open(pairs_gate(fanout->world->pairs));
	request_finish(fanout->request, reply, strlen(reply));
}

/* Nothing is in flight. */
static void
run_flush(struct rest *rest)
{
	struct fanout *fanout = (struct fanout *)rest;
	struct pairs *pairs = fanout->world->pairs;
	struct branch *branch;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		branch = &fanout->branches[i];
		branch->peer = pairs_peer(pairs, i);
		branch->call.done = on_flushed;
		if (peer_is_mirror(branch->peer))
			tell(fanout, i, fanout->line, PROTO_EXPECT_OK);
		else
			peer_add_all_dirty(branch->peer);
	}
	close_branch(fanout);
}

/* When a flush_all with this delay is due, if that is not at once or never:
   memcached drops what it holds a second before that. */
static int64_t
due(int64_t delay, int64_t now_ms)
{
	if (delay > PAIRS_RELATIVE_MAX)
		delay -= (int64_t)time(NULL);
	return delay > 1 ? now_ms + (delay - 1) * 1000 : 0;
}

bool
fanout_flush(struct request_world *world, struct request *request,
    const struct proto_request *r, int64_t now_ms)
{
	struct fanout *fanout = fanout_new(world, request);

	if (fanout == NULL)
		return false;
	fanout->end = end_flush;
	fanout->rest.run = run_flush;
	fanout->flush_at = due(r->exptime, now_ms);
	if (r->has_exptime)
		snprintf(fanout->line, sizeof(fanout->line), "flush_all %d\r\n",
		    (int)r->exptime);
	else
		strcpy(fanout->line, "flush_all\r\n");
	gate_rest(pairs_gate(world->pairs), &fanout->rest);
	return true;
}

/*
 * stats
 */

static bool
on_stat(struct call *call, const struct proto_reply *stat, const char *bytes,
    size_t at)
{
	struct branch *branch = (struct branch *)call;

	stats_add(&branch->fanout->sum, bytes + at + stat->key.at,
	    stat->key.length, bytes + at + stat->data.at, stat->data.length);
	return true;
}

static void
on_stats(struct call *call, const struct answer *answer)
{
	struct fanout *fanout = ((struct branch *)call)->fanout;
	struct peer *peer = ((struct branch *)call)->peer;

	(void)answer; /* one that fails adds nothing more */
	close_branch(fanout);
	peer_told(peer);
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
fanout_stats(struct request_world *world, struct request *request,
    fanout_render *render, void *arg)
{
	struct fanout *fanout = fanout_new(world, request);
	struct pairs *pairs = world->pairs;
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
		branch->call.done = on_stats;
		branch->call.element = on_stat;
		if (peer_is_believed(branch->peer) && branch->peer->primary)
			tell(fanout, i, "stats\r\n", PROTO_EXPECT_STATS);
	}
	close_branch(fanout);
	return true;
}
