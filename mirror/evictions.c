/*
 * Whether a server has thrown items away.
 *
 *   evictions_ask() -> stats -> the sum of some counters
 *
 * Invariant: a server that says nothing of its evictions, or whose counters
 * were set back (stats reset), may have thrown items away in this life.
 */

#include "mirror/evictions.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "container_of.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/link.h"

enum {
	/* A server that has thrown an item away does so again within this
	   time. */
	EVICTIONS_MS = 600000,
};

/* What one answer to stats says. */
struct tally {
	/* Items that were thrown away, whatever for. */
	uint64_t evicted;
	bool has_evicted;
	/* Items that it was given since the counters were set to 0, and items
	   that are in it. */
	uint64_t given, stored;
	/* Seconds since its start: less than before in another life. */
	uint64_t uptime;
};

struct census {
	struct call call;
	bool is_asked; /* the call has no answer */
	int64_t asked_ms;
	struct tally next; /* so far */
	struct tally last;
	/* When it was asked for that; 0: never. */
	int64_t known_ms;
	/* When more was thrown away than before; 0: never. */
	int64_t grown_ms;
	/* The counters were set back in this life. */
	bool is_reset;
};

struct evictions {
	struct conn_loop *loop;  /* borrowed */
	struct pairs *pairs;     /* borrowed */
	struct census *of_peers; /* owned: one per peer, in their order */
};

/* The counters of items that memcached has dropped and that had not expired:
   for others, for the page of a slab that is moved, and from its file. */
static bool
counts_evictions(const char *name, size_t n)
{
	static const char *const names[] = {
		"evictions",
		"slab_reassign_evictions_nomem",
		"slab_reassign_busy_deletes",
		"extstore_objects_evicted",
		"extstore_page_evictions",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
			return true;
	return false;
}

static bool
is_named(const char *name, size_t n, const char *word)
{
	return strlen(word) == n && memcmp(word, name, n) == 0;
}

static bool
on_census_stat(struct call *call, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	struct tally *next = &CONTAINER_OF(call, struct census, call)->next;
	const char *name = bytes + at + stat->key.at;
	size_t n = stat->key.length;
	uint64_t number = proto_number(bytes + at + stat->data.at,
	    stat->data.length);

	if (counts_evictions(name, n))
		next->evicted += number;
	if (is_named(name, n, "evictions"))
		next->has_evicted = true;
	else if (is_named(name, n, "total_items"))
		next->given = number;
	else if (is_named(name, n, "curr_items"))
		next->stored = number;
	else if (is_named(name, n, "uptime"))
		next->uptime = number;
	return true;
}

static void
on_census(struct call *call, const struct answer *answer)
{
	struct census *census = CONTAINER_OF(call, struct census, call);
	const struct tally *next = &census->next, *last = &census->last;

	assert(census->is_asked);
	census->is_asked = false;
	if (answer == NULL || answer->last.result != PROTO_END)
		return;
	if (next->uptime < last->uptime) {
		census->is_reset = false;
		census->last = (struct tally){ .evicted = 0 };
	}
	census->is_reset |= next->given < last->given ||
	    next->given < next->stored || next->evicted < last->evicted;
	if (census->known_ms > 0 && next->evicted != last->evicted)
		census->grown_ms = census->asked_ms;
	census->last = *next;
	census->known_ms = census->asked_ms;
}

static void
ask_census(struct census *census, struct peer *peer, int64_t now)
{
	static const char line[] = "stats\r\n";

	census->is_asked = true;
	census->asked_ms = now;
	census->next = (struct tally){ .evicted = 0 };
	census->call.expect = PROTO_EXPECT_STATS;
	census->call.done = on_census;
	census->call.element = on_census_stat;
	peer_submit(peer, 0, &census->call, line, sizeof(line) - 1, NULL, 0,
	    NULL);
}

void
evictions_ask(struct evictions *evictions)
{
	int64_t now = conn_loop_now(evictions->loop);
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(evictions->pairs); i++) {
		peer = pairs_peer(evictions->pairs, i);
		if (peer->state == PEER_UP && !evictions->of_peers[i].is_asked)
			ask_census(&evictions->of_peers[i], peer, now);
	}
}

bool
evictions_are_known(const struct evictions *evictions, const struct peer *peer,
    int64_t since_ms)
{
	return evictions->of_peers[peer->index].known_ms > since_ms;
}

bool
evictions_have_been(const struct evictions *evictions, const struct peer *peer)
{
	const struct census *census = &evictions->of_peers[peer->index];

	return census->is_reset || !census->last.has_evicted ||
	    census->last.evicted > 0;
}

bool
evictions_go_on(const struct evictions *evictions, const struct peer *peer)
{
	int64_t grown_ms = evictions->of_peers[peer->index].grown_ms;

	return grown_ms > 0 &&
	    conn_loop_now(evictions->loop) - grown_ms < EVICTIONS_MS;
}

struct evictions *
evictions_new(struct conn_loop *loop, struct pairs *pairs)
{
	struct evictions *evictions = calloc(1, sizeof(*evictions));

	if (evictions == NULL)
		return NULL;
	evictions->loop = loop;
	evictions->pairs = pairs;
	evictions->of_peers = calloc(pairs_peer_count(pairs),
	    sizeof(*evictions->of_peers));
	if (evictions->of_peers != NULL)
		return evictions;
	free(evictions);
	return NULL;
}

void
evictions_free(struct evictions *evictions)
{
	if (evictions == NULL)
		return;
	free(evictions->of_peers);
	free(evictions);
}
