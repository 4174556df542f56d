/*
 * Wait until the clock of a server has gone on.
 *
 *   stats -> uptime is another one than at first -> passed()
 *     ^           |
 *     '-- pause --'
 *
 * Our own clock would not do: the ticks of a busy memcached come late.  What
 * stats says is the clock that its items are stamped with.
 *
 * Invariant: either the call has no answer, or the timer runs.
 */

#include "mirror/second.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "container_of.h"
#include "mirror/identity.h"
#include "mirror/peer.h"
#include "server/server.h"

enum {
	/* Between two looks. */
	LOOK_MS = 20,
	/* Looks at a clock that stands still. */
	LOOKS_MAX = 150,
};

struct second {
	struct call call;
	struct peer *peer; /* borrowed */
	void (*passed)(void *owner, bool is_over);
	void *owner;
	struct event *pause; /* owned */
	unsigned int looks;
	uint64_t first;         /* the uptime at the first look */
	struct identity latest; /* what the last stats say */
};

void
second_free(struct second *second)
{
	if (second == NULL)
		return;
	event_free(second->pause);
	free(second);
}

static void
end_second(struct second *second, bool is_over)
{
	second->passed(second->owner, is_over);
	second_free(second);
}

static bool
on_second_stat(struct call *call, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	struct second *second = CONTAINER_OF(call, struct second, call);

	identity_stat(&second->latest, bytes + at + stat->key.at,
	    stat->key.length, bytes + at + stat->data.at, stat->data.length);
	return true;
}

static void
on_second_stats(struct call *call, const struct answer *answer)
{
	struct second *second = CONTAINER_OF(call, struct second, call);
	struct timeval pause = { .tv_usec = LOOK_MS * 1000 };

	if (answer == NULL) {
		end_second(second, false);
		return;
	}
	if (second->looks == 0)
		second->first = second->latest.uptime;
	if (second->latest.uptime != second->first) {
		end_second(second, true);
		return;
	}
	if (++second->looks == LOOKS_MAX) {
		server_fail(second->peer->server, "its clock stands still");
		end_second(second, false);
		return;
	}
	event_add(second->pause, &pause);
}

static void
look(struct second *second)
{
	static const char stats[] = "stats\r\n";

	second->call = (struct call){
		.expect = PROTO_EXPECT_STATS,
		.done = on_second_stats,
		.element = on_second_stat,
	};
	server_submit(second->peer->server, 0, &second->call, stats,
	    sizeof(stats) - 1, NULL, 0, NULL);
}

static void
on_second_pause(evutil_socket_t fd, short what, void *arg)
{
	struct second *second = arg;

	(void)fd;
	(void)what;
	if (second->peer->state == PEER_DOWN)
		end_second(second, false);
	else
		look(second);
}

struct second *
second_wait(struct peer *peer, void (*passed)(void *owner, bool is_over),
    void *owner)
{
	struct second *second = calloc(1, sizeof(*second));

	if (second == NULL)
		return NULL;
	assert(peer->state != PEER_DOWN && passed != NULL);
	second->peer = peer;
	second->passed = passed;
	second->owner = owner;
	second->pause = event_new(server_event_base(peer->server), -1, 0,
	    on_second_pause, second);
	if (second->pause == NULL) {
		free(second);
		return NULL;
	}
	look(second);
	return second;
}
