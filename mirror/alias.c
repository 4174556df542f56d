/*
 * Find out whether two servers are one process.
 *
 *   alias_check() -> set at the other -> delete here -> delete at the other
 *
 * Pid, start time and port only say which two may be: in containers each
 * memcached has pid 1 and port 11211, and many start in the same second.  So
 * one of the two is given an item with a random key, and the other is to delete
 * it.  What it can delete is in it, so nobody is warned of without a proof.
 *
 * Invariant: while other is set, one call has no answer, or is being made.  The
 * item, if it is left behind, is gone after some seconds.
 */

#include "mirror/alias.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "container_of.h"
#include "log.h"
#include "mirror/identity.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

enum { ITEM_SECONDS = 10 };

static void check_next(struct alias *alias);

/* Whether calls can be given to the peer. */
static bool
is_connected(const struct peer *peer)
{
	return peer->state != PEER_DOWN && peer->identity.known;
}

static void
ask_server(struct alias *alias, struct peer *peer, const char *line,
    enum proto_expect expect,
    void (*done)(struct call *call, const struct answer *answer))
{
	alias->call = (struct call){ .expect = expect, .done = done };
	server_submit(peer->server, 0, &alias->call, line, strlen(line), NULL,
	    0, NULL);
}

static void
ask_to_delete(struct alias *alias, struct peer *peer,
    void (*done)(struct call *call, const struct answer *answer))
{
	char line[sizeof(alias->key) + 16];

	snprintf(line, sizeof(line), "delete %s\r\n", alias->key);
	ask_server(alias, peer, line, PROTO_EXPECT_DELETED, done);
}

static void
on_cleaned(struct call *call, const struct answer *answer)
{
	struct alias *alias = CONTAINER_OF(call, struct alias, call);

	(void)answer;
	check_next(alias);
}

static void
on_asked_back(struct call *call, const struct answer *answer)
{
	struct alias *alias = CONTAINER_OF(call, struct alias, call);

	if (answer != NULL && answer->last.result == PROTO_DELETED)
		log_warning(
		    "s %s: is the same process as %s: each write is "
		    "done twice",
		    peer_name(alias->peer), peer_name(alias->other));
	else if (is_connected(alias->other)) {
		ask_to_delete(alias, alias->other, on_cleaned);
		return;
	}
	check_next(alias);
}

static void
on_item_set(struct call *call, const struct answer *answer)
{
	struct alias *alias = CONTAINER_OF(call, struct alias, call);

	if (answer != NULL && answer->last.result == PROTO_STORED &&
	    is_connected(alias->peer))
		ask_to_delete(alias, alias->peer, on_asked_back);
	else
		check_next(alias);
}

/* Whether what the two say of themselves does not tell them apart. */
static bool
may_be_one(const struct peer *one, const struct peer *other)
{
	return one != other && is_connected(other) &&
	    identity_may_be_one(&one->identity, &other->identity);
}

/* Begin with the next peer that may be the same process; or end. */
static void
check_next(struct alias *alias)
{
	char line[sizeof(alias->key) + 32];
	uint64_t random[2];
	struct peer *other = NULL;

	alias->other = NULL;
	while (is_connected(alias->peer) && alias->other == NULL &&
	    alias->next < pairs_peer_count(alias->pairs)) {
		other = pairs_peer(alias->pairs, alias->next++);
		if (may_be_one(alias->peer, other))
			alias->other = other;
	}
	if (alias->other == NULL ||
	    getrandom(random, sizeof(random), GRND_NONBLOCK) !=
		sizeof(random)) {
		alias->other = NULL;
		return;
	}
	snprintf(alias->key, sizeof(alias->key),
	    PROTO_RESERVED "%016llx%016llx", (unsigned long long)random[0],
	    (unsigned long long)random[1]);
	snprintf(line, sizeof(line), "set %s 0 %d 0\r\n\r\n", alias->key,
	    ITEM_SECONDS);
	ask_server(alias, alias->other, line, PROTO_EXPECT_STORED, on_item_set);
}

void
alias_check(struct alias *alias)
{
	assert(is_connected(alias->peer));
	if (alias->other != NULL)
		return;
	alias->next = 0;
	check_next(alias);
}

void
alias_init(struct alias *alias, struct peer *peer, struct pairs *pairs)
{
	alias->peer = peer;
	alias->pairs = pairs;
	alias->other = NULL;
}
