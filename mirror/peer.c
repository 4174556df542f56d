/*
 * A server as the order rules see it.
 *
 * Invariant: only a peer that is a mirror gets calls by peer_submit() and
 * peer_get().  Any other one gets the calls of its own recovery, and the probes
 * of server.c.
 */

#include "mirror/peer.h"

#include <assert.h>
#include <time.h>

#include "conn.h"
#include "hot_assert.h"
#include "mirror/command.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "proto.h"
#include "server/address.h"
#include "server/server.h"
#include "server/zombie.h"

enum {
	/* A magent that serves says so each second.  Who has not been heard of
	   for so long does not serve any more. */
	HEARD_MS = 2500,
};

static const char *const state_names[] = {
	[PEER_DOWN] = "down",
	[PEER_STARTING] = "starting",
	[PEER_IDENTIFY] = "identify",
	[PEER_DRAIN] = "drain",
	[PEER_INVALIDATE] = "invalidate",
	[PEER_REBUILD] = "rebuild",
	[PEER_HANDBACK] = "handback",
	[PEER_UP] = "up",
};

static_assert(sizeof(state_names) / sizeof(state_names[0]) == PEER_UP + 1,
    "each state has a name");

bool
peer_init(struct peer *peer, const struct address *address,
    const struct peer_args *args)
{
	assert(peer->server == NULL && peer->dirty == NULL);
	assert(args->gate != NULL && args->warming_peers != NULL);
	peer->address = address;
	peer->pairs = args->pairs;
	peer->gate = args->gate;
	peer->warming_peers = args->warming_peers;
	peer->state = PEER_STARTING;
	peer->changed_ms = conn_loop_now(args->loop);
	peer->dirty = dirty_new();
	peer->missing = dirty_new();
	peer->undecided = dirty_new();
	peer->taken = dirty_new();
	peer->server = server_new(args->loop, args->resolver, address,
	    args->settings, args->handler, peer);
	return peer->dirty != NULL && peer->missing != NULL &&
	    peer->undecided != NULL && peer->taken != NULL &&
	    peer->server != NULL;
}

void
peer_destroy(struct peer *peer)
{
	if (peer->server != NULL)
		server_free(peer->server);
	dirty_free(peer->dirty);
	dirty_free(peer->missing);
	dirty_free(peer->undecided);
	dirty_free(peer->taken);
	zombies_free(peer->lists);
}

const char *
peer_name(const struct peer *peer)
{
	return peer->address->name;
}

const char *
peer_role(const struct peer *peer)
{
	assert(peer->is_primary || peer->is_backup);
	if (peer->is_primary && peer->is_backup)
		return "both";
	return peer->is_primary ? "primary" : "backup";
}

const char *
peer_state_name(enum peer_state state)
{
	assert(state <= PEER_UP);
	return state_names[state];
}

bool
peer_is_trusted(const struct peer *peer)
{
	return peer->state == PEER_UP || peer->state == PEER_STARTING;
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer_is_trusted(peer) || peer->state == PEER_REBUILD ||
	    peer->state == PEER_HANDBACK;
}

bool
peer_is_shared(const struct peer *peer)
{
	return peer->active_id != 0 &&
	    peer->active_id != pairs_magent_id(peer->pairs) &&
	    server_now(peer->server) - peer->active_ms < HEARD_MS;
}

bool
peers_are_partners(const struct peer *one, const struct peer *other)
{
	return one != other &&
	    ((one->is_primary && other->is_backup) ||
		(one->is_backup && other->is_primary));
}

uint64_t
peer_tag(const struct peer *peer)
{
	unsigned int role = 2 * (unsigned int)peer->is_primary +
	    (unsigned int)peer->is_backup;

	hot_assert(role > 0);
	return identity_tag(&peer->identity, role) * (COMMAND_CAS_MASK + 1);
}

/* Our own time of day may be set at any moment; that of a memcached cannot be
   after its start. */
static int64_t
monotonic_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

void
peer_set_clock(struct peer *peer, int64_t now)
{
	peer->clock_ahead = now > 0 ? now - monotonic_seconds() : 0;
}

int64_t
peer_exptime(const struct peer *peer, int64_t seconds)
{
	if (seconds < 0)
		return 0;
	if (seconds <= PROTO_RELATIVE_MAX)
		return seconds;
	if (peer->clock_ahead == 0)
		return PROTO_RELATIVE_MAX;
	return seconds + monotonic_seconds() + peer->clock_ahead;
}

int64_t
peer_seconds_left(const struct peer *peer, int32_t exptime)
{
	int64_t left = exptime;

	assert(exptime >= 0);
	if (exptime > PROTO_RELATIVE_MAX)
		left -= monotonic_seconds() + peer->clock_ahead;
	if (exptime == 0)
		return -1;
	return left > 0 ? left : 0;
}

int32_t
peer_shift_date(const struct peer *peer, const struct peer *other,
    int32_t exptime)
{
	int64_t shift = peer->clock_ahead - other->clock_ahead;
	int64_t date = exptime + shift;

	if (exptime <= PROTO_RELATIVE_MAX || peer->clock_ahead == 0 ||
	    other->clock_ahead == 0 || (shift >= -1 && shift <= 1))
		return exptime;
	/* What is no date is long past. */
	if (date <= PROTO_RELATIVE_MAX)
		return -1;
	return date < INT32_MAX ? (int32_t)date : INT32_MAX;
}

void
peer_set_warming(struct peer *peer, bool warming)
{
	if (peer->warming == warming)
		return;
	assert(warming ? peer->state == PEER_REBUILD :
			 *peer->warming_peers > 0);
	peer->warming = warming;
	if (warming)
		++*peer->warming_peers;
	else
		--*peer->warming_peers;
}

/* A key is dirty in one form only: in base64 if it cannot be plain. */
static const char *
plain_key(const char *key, size_t length, bool base64,
    struct proto_request *plain, char *room)
{
	const struct proto_request r = {
		.key = { 0, (uint32_t)length },
		.base64 = base64,
	};

	return command_plain_key(&r, key, plain, room);
}

bool
peer_add_dirty(struct peer *peer, const char *key, size_t length, bool base64)
{
	char room[PROTO_KEY_MAX];
	struct proto_request plain;

	key = plain_key(key, length, base64, &plain, room);
	dirty_remove(peer->undecided, key, plain.key.length, plain.base64);
	return dirty_add(peer->dirty, key, plain.key.length, plain.base64);
}

void
peer_remove_dirty(struct peer *peer, const char *key, size_t length,
    bool base64)
{
	char room[PROTO_KEY_MAX];
	struct proto_request plain;

	key = plain_key(key, length, base64, &plain, room);
	dirty_remove(peer->dirty, key, plain.key.length, plain.base64);
}

void
peer_add_all_dirty(struct peer *peer)
{
	dirty_clear(peer->undecided);
	dirty_add_all(peer->dirty);
}

/*
 * Calls
 */

void
peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	hot_assert(peer_is_mirror(peer) && call->done != NULL);
	server_submit(peer->server, hash, call, line, line_length, data, length,
	    block);
}

void
peer_get(struct peer *peer, uint32_t hash, struct call *call, const char *key,
    size_t length)
{
	hot_assert(peer_is_mirror(peer) && call->done != NULL);
	server_get(peer->server, hash, call, key, length);
}
