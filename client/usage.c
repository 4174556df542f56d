/*
 * Ask the servers what memory they use, while somebody wants to know.
 *
 *   usage_want() -> usage_tick() -> stats, to each server -> usage_of()
 *
 * Invariant: no server is asked while it has not answered the last time, nor
 * more than once in ASK_MS, nor later than WANTED_MS after the last
 * usage_want().  Nothing is asked while the gate is closed, because what begins
 * has to wait then.
 */

#include "client/usage.h"

#include <assert.h>
#include <stdlib.h>

#include "client/stats.h"
#include "container_of.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/link.h"

enum {
	ASK_MS = 3000,
	WANTED_MS = 10000,
};

/* Of one server. */
struct asking {
	struct call call;
	bool is_asked; /* the call has no answer */
	int64_t asked_ms;
	struct stats_of_servers next; /* so far */
	struct usage_of_server last;
	int64_t known_ms; /* when it was asked for that; 0: never */
};

struct usage {
	struct pairs *pairs;     /* borrowed */
	struct asking *of_peers; /* owned: one per peer, in their order */
	int64_t wanted_ms;       /* 0: it never was */
	int64_t asked_ms;        /* when they were asked last; 0: never */
};

static bool
on_usage_stat(struct call *call, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	struct asking *asking = CONTAINER_OF(call, struct asking, call);

	stats_add(&asking->next, bytes + at + stat->key.at, stat->key.length,
	    bytes + at + stat->data.at, stat->data.length);
	return true;
}

static void
on_usage(struct call *call, const struct answer *answer)
{
	struct asking *asking = CONTAINER_OF(call, struct asking, call);
	const struct stats_of_servers *next = &asking->next;
	int64_t ms = asking->asked_ms - asking->known_ms;
	uint64_t before = asking->last.evictions;

	assert(asking->is_asked);
	asking->is_asked = false;
	if (answer == NULL || answer->last.result != PROTO_END)
		return;
	asking->last = (struct usage_of_server){
		.bytes = next->bytes,
		.limit = next->limit_maxbytes,
		.items = next->curr_items,
		.evictions = next->evictions,
	};
	if (asking->known_ms > 0 && ms > 0 && next->evictions > before)
		asking->last.evicts = (double)(next->evictions - before) *
		    1000 / (double)ms;
	asking->known_ms = asking->asked_ms;
}

static void
ask_usage(struct asking *asking, struct peer *peer, int64_t now_ms)
{
	static const char line[] = "stats\r\n";

	asking->is_asked = true;
	asking->asked_ms = now_ms;
	asking->next = (struct stats_of_servers){ .bytes = 0 };
	asking->call.expect = PROTO_EXPECT_STATS;
	asking->call.done = on_usage;
	asking->call.element = on_usage_stat;
	peer_submit(peer, 0, &asking->call, line, sizeof(line) - 1, NULL, 0,
	    NULL);
}

void
usage_want(struct usage *usage, int64_t now_ms)
{
	usage->wanted_ms = now_ms;
}

void
usage_tick(struct usage *usage, int64_t now_ms)
{
	struct peer *peer;
	size_t i;

	if (usage->wanted_ms == 0 || now_ms - usage->wanted_ms > WANTED_MS ||
	    (usage->asked_ms != 0 && now_ms - usage->asked_ms < ASK_MS) ||
	    gate_is_closed(pairs_gate(usage->pairs)))
		return;
	usage->asked_ms = now_ms;
	for (i = 0; i < pairs_peer_count(usage->pairs); i++) {
		peer = pairs_peer(usage->pairs, i);
		if (peer->state == PEER_UP && !usage->of_peers[i].is_asked)
			ask_usage(&usage->of_peers[i], peer, now_ms);
	}
}

const struct usage_of_server *
usage_of(const struct usage *usage, const struct peer *peer)
{
	const struct asking *asking = &usage->of_peers[peer->index];

	return peer->state == PEER_UP && asking->known_ms > peer->changed_ms ?
	    &asking->last :
	    NULL;
}

struct usage *
usage_new(struct pairs *pairs)
{
	struct usage *usage = calloc(1, sizeof(*usage));

	if (usage == NULL)
		return NULL;
	usage->pairs = pairs;
	usage->of_peers = calloc(pairs_peer_count(pairs),
	    sizeof(*usage->of_peers));
	if (usage->of_peers != NULL)
		return usage;
	free(usage);
	return NULL;
}

void
usage_free(struct usage *usage)
{
	if (usage == NULL)
		return;
	free(usage->of_peers);
	free(usage);
}
