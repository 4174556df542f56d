/*
 * Decide who is the authority of a key, and bring servers back.
 *
 * Invariant: the authority of a pair changes only when its server goes down,
 * before the unanswered calls of that server are returned, or while nothing is
 * in flight.  So all that a key's old authority has answered is in the FIFO of
 * the new one before anything else of that key.
 *
 *                +-----------------------------------------------+
 *                v                                               | any failure
 *   STARTING   DOWN -> IDENTIFY -> INVALIDATE -> HANDBACK -> UP -+
 *      |                   |                                 ^
 *      |                   +--- it has no partner -----------+
 *      +--- identified --------------------------------------+
 */

#include "mirror.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "address.h"
#include "conn.h"
#include "dirty.h"
#include "log.h"
#include "server.h"

enum {
	STEADY_SECONDS = 10,	/* up this long: the server does not flap */
	TAG_SHIFT = 48,
	TAG_BITS = 15
};

struct peer {
	struct mirror *mirror;
	struct server *server;
	const struct address *address;
	bool primary, backup;
	enum peer_state state;
	int64_t changed_ms;
	struct dirty *dirty;
	struct peer_identity identity;
	struct call ask_version, ask_stats, invalidate;
	struct rest handback;
};

TAILQ_HEAD(rest_list, rest);
TAILQ_HEAD(waiter_list, waiter);

struct mirror {
	struct conn_loop *loop;
	enum ketama_kind kind;
	struct ketama *primary_ring, *backup_ring;
	struct peer **primaries, **backups;	/* as their rings count them */
	size_t primary_count, backup_count;
	struct peer *peers;
	size_t peer_count;
	bool hashes;		/* whether the hash of a key matters */
	bool pairs;		/* whether keys have two servers */

	size_t in_flight;
	struct rest_list rests;
	struct rest *resting;	/* it runs: new requests are stopped */
	struct waiter_list waiters;
	struct event *rest_event;
	struct event *steady;
	struct mirror_counters counters;
};

static const char *const state_names[] = {
	[PEER_DOWN] = "down", [PEER_STARTING] = "starting",
	[PEER_IDENTIFY] = "identify", [PEER_INVALIDATE] = "invalidate",
	[PEER_HANDBACK] = "handback", [PEER_UP] = "up"
};

static void
set_state(struct peer *peer, enum peer_state state)
{
	if (peer->state == state)
		return;
	log_info("s %s: %s, was %s", peer_name(peer), state_names[state],
	    state_names[peer->state]);
	peer->state = state;
	peer->changed_ms = conn_loop_now(peer->mirror->loop);
}

/*
 * Keys
 */

struct pair
mirror_pair(const struct mirror *mirror, const char *key, size_t length)
{
	struct pair pair = { .primary = mirror->primaries[0] };
	size_t owner;

	if (mirror->hashes)
		pair.hash = ketama_hash(mirror->kind, key, length);
	owner = ketama_find(mirror->primary_ring, pair.hash);
	pair.primary = mirror->primaries[owner];
	if (mirror->backup_count == 0)
		return pair;
	owner = ketama_find(mirror->backup_ring, pair.hash);
	if (mirror->backups[owner] == pair.primary)
		owner = ketama_find_other(mirror->backup_ring, pair.hash,
		    owner);
	if (owner < mirror->backup_count)
		pair.backup = mirror->backups[owner];
	return pair;
}

bool
peer_is_believed(const struct peer *peer)
{
	return peer->state == PEER_UP || peer->state == PEER_STARTING;
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer_is_believed(peer) || peer->state == PEER_HANDBACK;
}

struct peer *
mirror_authority(const struct pair *pair)
{
	if (peer_is_believed(pair->primary))
		return pair->primary;
	if (pair->backup != NULL && peer_is_believed(pair->backup))
		return pair->backup;
	/* The last one that knows anything: misses are better than errors. */
	if (pair->primary->state == PEER_HANDBACK)
		return pair->primary;
	if (pair->backup != NULL && pair->backup->state == PEER_HANDBACK)
		return pair->backup;
	return NULL;
}

struct peer *
mirror_partner(const struct pair *pair, const struct peer *peer)
{
	assert(peer == pair->primary || peer == pair->backup);
	return peer == pair->primary ? pair->backup : pair->primary;
}

bool
mirror_is_tagging(const struct mirror *mirror)
{
	return mirror->backup_count > 0;
}

uint64_t
peer_tag(const struct peer *peer)
{
	uint64_t mix;

	mix = (uint64_t)peer->identity.pid * 4 + (uint64_t)peer->primary * 2 +
	    (uint64_t)peer->backup;
	mix = mix * 0x9e3779b97f4a7c15u ^ (uint64_t)peer->identity.start;
	mix *= 0xbf58476d1ce4e5b9u;
	return mix >> (64 - TAG_BITS) << TAG_SHIFT;
}

void
peer_add_dirty(struct peer *peer, const char *key, size_t length, bool base64)
{
	dirty_add(peer->dirty, key, length, base64);
}

void
peer_add_all_dirty(struct peer *peer)
{
	dirty_add_all(peer->dirty);
}

void
mirror_tell(struct mirror *mirror, struct peer *peer, uint32_t hash,
    struct call *call, const char *line, size_t line_length, const char *data,
    size_t length, struct block *block)
{
	mirror->in_flight++;
	server_submit(peer->server, hash, call, line, line_length, data,
	    length, block);
}

/*
 * Rest
 */

static void
try_rest(struct mirror *mirror)
{
	if (mirror->in_flight == 0 && mirror->resting == NULL &&
	    !TAILQ_EMPTY(&mirror->rests))
		event_active(mirror->rest_event, EV_TIMEOUT, 0);
}

void
mirror_told(struct mirror *mirror)
{
	assert(mirror->in_flight > 0);
	if (--mirror->in_flight == 0)
		try_rest(mirror);
}

static void
on_rest(evutil_socket_t fd, short what, void *arg)
{
	struct mirror *mirror = arg;
	struct rest *rest = TAILQ_FIRST(&mirror->rests);

	(void)fd;
	(void)what;
	if (mirror->in_flight > 0 || mirror->resting != NULL || rest == NULL)
		return;
	TAILQ_REMOVE(&mirror->rests, rest, entry);
	rest->waiting = false;
	mirror->resting = rest;
	rest->run(rest);
}

void
mirror_rest(struct mirror *mirror, struct rest *rest)
{
	assert(!rest->waiting && mirror->resting != rest);
	rest->waiting = true;
	TAILQ_INSERT_TAIL(&mirror->rests, rest, entry);
	try_rest(mirror);
}

static void
wake_all(struct mirror *mirror)
{
	struct waiter *waiter;

	while (!mirror_is_resting(mirror) &&
	    (waiter = TAILQ_FIRST(&mirror->waiters)) != NULL) {
		mirror_wait_cancel(mirror, waiter);
		waiter->wake(waiter);
	}
}

void
mirror_rest_over(struct mirror *mirror)
{
	assert(mirror->resting != NULL);
	mirror->resting = NULL;
	wake_all(mirror);
	try_rest(mirror);
}

static void
rest_cancel(struct mirror *mirror, struct rest *rest)
{
	if (!rest->waiting)
		return;
	rest->waiting = false;
	TAILQ_REMOVE(&mirror->rests, rest, entry);
	wake_all(mirror);
}

bool
mirror_is_resting(const struct mirror *mirror)
{
	return mirror->resting != NULL || !TAILQ_EMPTY(&mirror->rests);
}

void
mirror_wait(struct mirror *mirror, struct waiter *waiter)
{
	assert(!waiter->waiting);
	waiter->waiting = true;
	TAILQ_INSERT_TAIL(&mirror->waiters, waiter, entry);
}

void
mirror_wait_cancel(struct mirror *mirror, struct waiter *waiter)
{
	if (!waiter->waiting)
		return;
	waiter->waiting = false;
	TAILQ_REMOVE(&mirror->waiters, waiter, entry);
}

/*
 * How a server comes back
 */

#define PEER_OF(member, field) \
	((struct peer *)((char *)(member) - offsetof(struct peer, field)))

/* Nothing is in flight: from here on the server is believed. */
static void
run_handback(struct rest *rest)
{
	struct peer *peer = PEER_OF(rest, handback);

	assert(peer->state == PEER_HANDBACK);
	set_state(peer, PEER_UP);
	mirror_rest_over(peer->mirror);
}

static void
on_invalidated(struct call *call, const struct answer *answer)
{
	struct peer *peer = PEER_OF(call, invalidate);

	if (answer == NULL)
		return;
	if (answer->last.result != PROTO_OKAY) {
		server_fail(peer->server, "refuses flush_all");
		return;
	}
	dirty_clear(peer->dirty);
	set_state(peer, PEER_HANDBACK);
	mirror_rest(peer->mirror, &peer->handback);
}

static void
invalidate(struct peer *peer)
{
	static const char flush[] = "flush_all\r\n";

	set_state(peer, PEER_INVALIDATE);
	peer->invalidate = (struct call){
		.expect = PROTO_EXPECT_OK, .done = on_invalidated
	};
	server_submit(peer->server, 0, &peer->invalidate, flush,
	    sizeof(flush) - 1, NULL, 0, NULL);
}

static void
on_identified(struct peer *peer)
{
	const struct peer_identity *identity = &peer->identity;

	log_info("s %s: version %u.%u.%u, pid %lld, started %lld",
	    peer_name(peer), identity->version[0], identity->version[1],
	    identity->version[2], (long long)identity->pid,
	    (long long)identity->start);
	server_attach_links(peer->server);
	if (peer->state == PEER_IDENTIFY && peer->mirror->pairs)
		invalidate(peer);
	else
		set_state(peer, PEER_UP);
}

/*
 * Identity
 */

static uint64_t
parse_number(const char *bytes, size_t n)
{
	uint64_t number = 0;
	size_t i;

	for (i = 0; i < n && i < 18 && bytes[i] >= '0' && bytes[i] <= '9'; i++)
		number = number * 10 + (uint64_t)(bytes[i] - '0');
	return number;
}

/* x.y.z, as far as it goes. */
static void
parse_version(const char *bytes, size_t n, unsigned int version[3])
{
	const char *end = bytes + n;
	int i;

	for (i = 0; i < 3; i++) {
		version[i] = (unsigned int)parse_number(bytes,
		    (size_t)(end - bytes)) % 1000;
		bytes = memchr(bytes, '.', (size_t)(end - bytes));
		if (bytes == NULL)
			return;
		bytes++;
	}
}

static bool
on_stat(struct call *call, const struct proto_reply *stat, const char *bytes,
    size_t at)
{
	struct peer *peer = PEER_OF(call, ask_stats);
	struct peer_identity *identity = &peer->identity;
	const char *name = bytes + at + stat->key.at;
	uint64_t value = parse_number(bytes + at + stat->data.at,
	    stat->data.length);

	if (stat->key.length == 3 && memcmp(name, "pid", 3) == 0)
		identity->pid = (int64_t)value;
	else if (stat->key.length == 4 && memcmp(name, "time", 4) == 0)
		identity->start += (int64_t)value;
	else if (stat->key.length == 6 && memcmp(name, "uptime", 6) == 0)
		identity->start -= (int64_t)value;
	else if (stat->key.length == 14 && memcmp(name, "limit_maxbytes", 14)
	    == 0)
		identity->limit_maxbytes = value;
	return true;
}

static void
on_version(struct call *call, const struct answer *answer)
{
	struct peer *peer = PEER_OF(call, ask_version);

	if (answer == NULL)
		return;
	if (answer->last.result != PROTO_VERSION_LINE) {
		server_fail(peer->server, "is no memcached");
		return;
	}
	parse_version(answer->bytes + answer->last.data.at,
	    answer->last.data.length, peer->identity.version);
}

/* The last of the calls that ask who it is. */
static void
on_stats(struct call *call, const struct answer *answer)
{
	struct peer *peer = PEER_OF(call, ask_stats);

	if (answer != NULL)
		on_identified(peer);
}

static void
on_connecting(void *owner)
{
	static const char version[] = "version\r\n", stats[] = "stats\r\n";
	struct peer *peer = owner;

	if (peer->state != PEER_STARTING)
		set_state(peer, PEER_IDENTIFY);
	memset(&peer->identity, 0, sizeof(peer->identity));
	peer->ask_version = (struct call){
		.expect = PROTO_EXPECT_VERSION, .done = on_version
	};
	peer->ask_stats = (struct call){
		.expect = PROTO_EXPECT_STATS, .done = on_stats,
		.element = on_stat
	};
	server_submit(peer->server, 0, &peer->ask_version, version,
	    sizeof(version) - 1, NULL, 0, NULL);
	server_submit(peer->server, 0, &peer->ask_stats, stats,
	    sizeof(stats) - 1, NULL, 0, NULL);
}

static void
on_failed(void *owner)
{
	struct peer *peer = owner;
	struct mirror *mirror = peer->mirror;

	if (peer_is_believed(peer)) {
		mirror->counters.failovers++;
		log_warning("s %s: down", peer_name(peer));
	}
	set_state(peer, PEER_DOWN);
	rest_cancel(mirror, &peer->handback);
}

static const struct server_news news = {
	.connecting = on_connecting, .failed = on_failed
};

/*
 * Life
 */

/* Servers that stay up for a while do not flap. */
static void
on_steady(evutil_socket_t fd, short what, void *arg)
{
	struct mirror *mirror = arg;
	int64_t now = conn_loop_now(mirror->loop);
	struct peer *peer;

	(void)fd;
	(void)what;
	for (peer = mirror->peers; peer < mirror->peers + mirror->peer_count;
	    peer++)
		if (peer->state == PEER_UP &&
		    now - peer->changed_ms >= STEADY_SECONDS * 1000)
			server_steady(peer->server);
}

/* The peer with this address, made if it is new.  NULL: out of memory. */
static struct peer *
peer_at(struct mirror *mirror, const struct address *address,
    struct evdns_base *dns, const struct server_settings *settings)
{
	struct peer *peer;

	for (peer = mirror->peers; peer < mirror->peers + mirror->peer_count;
	    peer++)
		if (strcmp(peer_name(peer), address->name) == 0)
			return peer;
	mirror->peer_count++;
	peer->mirror = mirror;
	peer->address = address;
	peer->state = PEER_STARTING;
	peer->changed_ms = conn_loop_now(mirror->loop);
	peer->handback.run = run_handback;
	peer->dirty = dirty_new();
	peer->server = server_new(mirror->loop, dns, address, settings, &news,
	    peer);
	return peer->dirty == NULL || peer->server == NULL ? NULL : peer;
}

/* The ring over these addresses.  NULL: out of memory. */
static struct ketama *
ring_new(enum ketama_kind kind, const struct address *addresses, size_t n)
{
	struct ketama_server *servers = calloc(n, sizeof(*servers));
	struct ketama *ring;
	size_t i;

	if (servers == NULL)
		return NULL;
	for (i = 0; i < n; i++) {
		servers[i].host = addresses[i].host;
		servers[i].port = addresses[i].port;
		servers[i].weight = addresses[i].weight;
	}
	ring = ketama_new(kind, servers, n);
	free(servers);
	return ring;
}

static bool
build_rings(struct mirror *mirror, const struct mirror_servers *servers)
{
	mirror->primary_ring = ring_new(servers->ring, servers->primaries,
	    servers->primary_count);
	if (servers->backup_count > 0)
		mirror->backup_ring = ring_new(servers->ring,
		    servers->backups, servers->backup_count);
	return mirror->primary_ring != NULL &&
	    (servers->backup_count == 0 || mirror->backup_ring != NULL);
}

static bool
build_peers(struct mirror *mirror, struct evdns_base *dns,
    const struct mirror_servers *servers,
    const struct server_settings *settings)
{
	size_t i;

	for (i = 0; i < servers->primary_count; i++) {
		mirror->primaries[i] = peer_at(mirror, &servers->primaries[i],
		    dns, settings);
		if (mirror->primaries[i] == NULL)
			return false;
		mirror->primaries[i]->primary = true;
	}
	for (i = 0; i < servers->backup_count; i++) {
		mirror->backups[i] = peer_at(mirror, &servers->backups[i],
		    dns, settings);
		if (mirror->backups[i] == NULL)
			return false;
		mirror->backups[i]->backup = true;
	}
	return true;
}

struct mirror *
mirror_new(struct conn_loop *loop, struct evdns_base *dns,
    const struct mirror_servers *servers,
    const struct server_settings *settings)
{
	struct event_base *base = conn_loop_base(loop);
	struct mirror *mirror = calloc(1, sizeof(*mirror));

	assert(servers->primary_count > 0);
	if (mirror == NULL)
		return NULL;
	mirror->loop = loop;
	mirror->kind = servers->ring;
	mirror->primary_count = servers->primary_count;
	mirror->backup_count = servers->backup_count;
	mirror->hashes = servers->primary_count > 1 ||
	    servers->backup_count > 1 || settings->links > 1;
	TAILQ_INIT(&mirror->rests);
	TAILQ_INIT(&mirror->waiters);
	mirror->rest_event = event_new(base, -1, 0, on_rest, mirror);
	mirror->steady = event_new(base, -1, EV_PERSIST, on_steady, mirror);
	mirror->primaries = calloc(servers->primary_count, sizeof(void *));
	mirror->backups = calloc(servers->backup_count + 1, sizeof(void *));
	mirror->peers = calloc(servers->primary_count + servers->backup_count,
	    sizeof(*mirror->peers));
	if (mirror->rest_event == NULL || mirror->steady == NULL ||
	    mirror->primaries == NULL || mirror->backups == NULL ||
	    mirror->peers == NULL || !build_rings(mirror, servers) ||
	    !build_peers(mirror, dns, servers, settings)) {
		mirror_free(mirror);
		return NULL;
	}
	mirror->pairs = mirror->backup_count > 0 && mirror->peer_count > 1;
	return mirror;
}

void
mirror_start(struct mirror *mirror)
{
	struct timeval second = { .tv_sec = 1 };
	size_t i;

	event_add(mirror->steady, &second);
	for (i = 0; i < mirror->peer_count; i++)
		server_start(mirror->peers[i].server);
}

void
mirror_free(struct mirror *mirror)
{
	size_t i;

	for (i = 0; i < mirror->peer_count; i++) {
		if (mirror->peers[i].server != NULL)
			server_free(mirror->peers[i].server);
		dirty_free(mirror->peers[i].dirty);
	}
	if (mirror->rest_event != NULL)
		event_free(mirror->rest_event);
	if (mirror->steady != NULL)
		event_free(mirror->steady);
	ketama_free(mirror->primary_ring);
	ketama_free(mirror->backup_ring);
	free(mirror->primaries);
	free(mirror->backups);
	free(mirror->peers);
	free(mirror);
}

/*
 * What there is to say
 */

bool
mirror_is_starting(const struct mirror *mirror)
{
	size_t i;

	for (i = 0; i < mirror->peer_count; i++)
		if (mirror->peers[i].state == PEER_STARTING)
			return true;
	return false;
}

bool
mirror_is_busy(const struct mirror *mirror)
{
	return mirror->in_flight > 0;
}

size_t
mirror_peer_count(const struct mirror *mirror)
{
	return mirror->peer_count;
}

struct peer *
mirror_peer(const struct mirror *mirror, size_t i)
{
	assert(i < mirror->peer_count);
	return &mirror->peers[i];
}

struct mirror_counters *
mirror_counters(struct mirror *mirror)
{
	return &mirror->counters;
}

size_t
mirror_uncovered(const struct mirror *mirror)
{
	struct pair pair;
	size_t uncovered = 0;
	size_t i, j;

	for (i = 0; i < mirror->primary_count; i++) {
		pair.primary = mirror->primaries[i];
		pair.backup = NULL;
		if (mirror->backup_count == 0)
			uncovered += mirror_authority(&pair) == NULL;
		for (j = 0; j < mirror->backup_count; j++) {
			if (mirror->backups[j] != pair.primary)
				pair.backup = mirror->backups[j];
			uncovered += mirror_authority(&pair) == NULL;
		}
	}
	return uncovered;
}

/* Whether version a is lower than b. */
static bool
is_lower(const unsigned int a[3], const unsigned int b[3])
{
	int i;

	for (i = 0; i < 2 && a[i] == b[i]; i++)
		;
	return a[i] < b[i];
}

void
mirror_version(const struct mirror *mirror, char *out, size_t size)
{
	static const unsigned int usual[3] = { 1, 6, 18 };
	const unsigned int *lowest = NULL;
	const unsigned int *version;
	size_t i;

	for (i = 0; i < mirror->peer_count; i++) {
		version = mirror->peers[i].identity.version;
		if (version[0] > 0 &&
		    (lowest == NULL || is_lower(version, lowest)))
			lowest = version;
	}
	if (lowest == NULL)
		lowest = usual;
	snprintf(out, size, "%u.%u.%u", lowest[0], lowest[1], lowest[2]);
}

const char *
peer_name(const struct peer *peer)
{
	return peer->address->name;
}

const char *
peer_role(const struct peer *peer)
{
	if (peer->primary && peer->backup)
		return "both";
	return peer->primary ? "primary" : "backup";
}

const char *
peer_state_name(const struct peer *peer)
{
	return state_names[peer->state];
}

bool
peer_is_primary(const struct peer *peer)
{
	return peer->primary;
}

const struct peer_identity *
peer_identity(const struct peer *peer)
{
	return &peer->identity;
}

int64_t
peer_changed_ms(const struct peer *peer)
{
	return peer->changed_ms;
}

size_t
peer_dirty_count(const struct peer *peer, bool *all)
{
	*all = dirty_is_all(peer->dirty);
	return dirty_count(peer->dirty);
}

struct server *
peer_server(const struct peer *peer)
{
	return peer->server;
}
