/*
 * Build a ring and find the owner of a key.
 *
 * Invariant: points[0 .. count) are sorted by hash.  points[count] has the
 * owner of the first point, and the highest hash that there is.  So a walk up
 * the points ends there at the latest, and wraps round, without a test for the
 * end.  first[hash >> shift] is the first point whose leading bits are those of
 * hash, or higher.  A walk from there takes one step or less on average.
 */

#include "ketama.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "md5.h"

enum {
	POINTS_PER_NAME = 4,  /* one for each word of an MD5 digest */
	NAME_ROOM = 32,       /* bytes of a name behind the host, with NUL */
	DEFAULT_PORT = 11211, /* libmemcached leaves it out of the names */
};

static_assert(NAME_ROOM >= sizeof(":65535-18446744073709551615"),
    "a name has room for a port and a number");

struct point {
	uint32_t hash;
	uint32_t server;
};

struct ketama {
	size_t n;     /* servers */
	size_t count; /* points, without the copy at the end */
	/* Owned.  NULL: no points are needed, because the kind is modula or
	   there is one server. */
	struct point *points;
	uint32_t *first;    /* owned; NULL if points is */
	unsigned int shift; /* takes a hash to an index of first[] */
};

static const char *const kind_names[] = {
	[KETAMA] = "ketama",
	[KETAMA_LIBKETAMA] = "libketama",
	[KETAMA_TWEMPROXY] = "twemproxy",
	[KETAMA_MAGENT] = "magent",
	[KETAMA_MODULA] = "modula",
};

static_assert(sizeof(kind_names) / sizeof(kind_names[0]) == KETAMA_MODULA + 1,
    "each kind has a name");

const char *
ketama_kind_name(enum ketama_kind kind)
{
	assert(kind <= KETAMA_MODULA);
	return kind_names[kind];
}

bool
ketama_kind(const char *name, enum ketama_kind *kind)
{
	size_t i;

	for (i = 0; i < sizeof(kind_names) / sizeof(kind_names[0]); i++)
		if (strcmp(name, kind_names[i]) == 0) {
			*kind = (enum ketama_kind)i;
			return true;
		}
	return false;
}

/* The low half of FNV-1a with 64 bits.  Bytes count as signed numbers, as in
   twemproxy. */
static uint32_t
hash_fnv1a(const char *key, size_t length)
{
	uint32_t hash = 0x84222325;
	size_t i;

	for (i = 0; i < length; i++)
		hash = (hash ^ (uint32_t)(signed char)key[i]) * 0x1b3;
	return hash;
}

static uint32_t
hash_times33(const char *key, size_t length)
{
	uint32_t hash = 5381;
	size_t i;

	for (i = 0; i < length; i++)
		hash = hash * 33 + (uint32_t)(signed char)key[i];
	return hash;
}

uint32_t
ketama_hash(enum ketama_kind kind, const char *key, size_t length)
{
	if (kind == KETAMA_TWEMPROXY)
		return hash_fnv1a(key, length);
	if (kind == KETAMA_MODULA)
		return hash_times33(key, length);
	return md5_word(key, length);
}

void
ketama_hashes(enum ketama_kind kind, const char *const *keys,
    const size_t *lengths, size_t n, uint32_t *hashes)
{
	size_t i;

	if (kind != KETAMA_TWEMPROXY && kind != KETAMA_MODULA) {
		md5_words(keys, lengths, n, hashes);
		return;
	}
	for (i = 0; i < n; i++)
		hashes[i] = ketama_hash(kind, keys[i], lengths[i]);
}

/*
 * How many names a server has on the ring.  The other programs round to float
 * after each operation.  So the order of the operations and the types are part
 * of the formula, and each result is assigned or cast, which rounds it where
 * FLT_EVAL_METHOD is not 0.  No result is negative, so the conversion to an
 * integer is their floor.
 */
static size_t
count_names(enum ketama_kind kind, unsigned int weight, uint64_t total,
    size_t n)
{
	float names = (float)weight / (float)total;

	assert(weight > 0 && weight <= total);
	switch (kind) {
	case KETAMA_LIBKETAMA:
		names = (float)(names * 40.0 * (float)n);
		break;
	case KETAMA_MAGENT:
		names *= 500;
		names *= (float)n;
		break;
	default:
		names *= 160;
		names /= 4;
		names *= (float)n;
		names = (float)(names + 1e-10);
	}
	return (size_t)names;
}

/*
 * Print what the names of a server have before their number.  Returns what
 * snprintf() does.  A unix socket has port 0.  libmemcached prints that port
 * like any other.  twemproxy takes what its configuration has before the
 * weight, which is "path:" for a unix socket.
 */
static int
print_name(char *name, size_t size, enum ketama_kind kind,
    const struct ketama_server *server)
{
	if (kind == KETAMA_MAGENT)
		return snprintf(name, size, "%s-%u-", server->host,
		    server->port);
	if (kind == KETAMA_TWEMPROXY && server->port == 0)
		return snprintf(name, size, "%s:-", server->host);
	if (kind != KETAMA_LIBKETAMA && server->port == DEFAULT_PORT)
		return snprintf(name, size, "%s-", server->host);
	return snprintf(name, size, "%s:%u-", server->host, server->port);
}

static void
put_points(struct point *points, uint32_t server, const char *name)
{
	unsigned char digest[16];
	int i;

	md5(name, strlen(name), digest);
	for (i = 0; i < POINTS_PER_NAME; i++) {
		points[i].hash = (uint32_t)digest[4 * i] |
		    (uint32_t)digest[4 * i + 1] << 8 |
		    (uint32_t)digest[4 * i + 2] << 16 |
		    (uint32_t)digest[4 * i + 3] << 24;
		points[i].server = server;
	}
}

/* Append the points of a server.  Returns false when out of memory. */
static bool
add_points(struct ketama *ring, enum ketama_kind kind, uint32_t index,
    const struct ketama_server *server, size_t names)
{
	size_t size = strlen(server->host) + NAME_ROOM, number;
	char *name = malloc(size);
	int length;

	assert(server->port <= 65535);
	if (name == NULL)
		return false;
	length = print_name(name, size, kind, server);
	assert(length > 0 && (size_t)length < size);
	for (number = 0; number < names; number++) {
		snprintf(name + length, size - (size_t)length, "%zu", number);
		put_points(ring->points + ring->count, index, name);
		ring->count += POINTS_PER_NAME;
	}
	free(name);
	return true;
}

/* Points with the same hash are in the order of their servers: the other
   programs sort with qsort() of glibc, which does not move equal ones. */
static int
compare_points(const void *left, const void *right)
{
	const struct point *a = left, *b = right;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return (a->server > b->server) - (a->server < b->server);
}

static bool
make_points(struct ketama *ring, enum ketama_kind kind,
    const struct ketama_server *servers)
{
	size_t count = 0, i, names;
	uint64_t total = 0;

	for (i = 0; i < ring->n; i++) {
		assert(servers[i].host != NULL && servers[i].weight > 0);
		total += servers[i].weight;
	}
	for (i = 0; i < ring->n; i++)
		count += POINTS_PER_NAME *
		    count_names(kind, servers[i].weight, total, ring->n);
	/* The heaviest server has 1/n of the weight or more. */
	assert(count > 0 && count < UINT32_MAX);
	ring->points = calloc(count + 1, sizeof(*ring->points));
	if (ring->points == NULL)
		return false;
	for (i = 0; i < ring->n; i++) {
		names = count_names(kind, servers[i].weight, total, ring->n);
		if (!add_points(ring, kind, (uint32_t)i, &servers[i], names))
			return false;
	}
	assert(ring->count == count);
	qsort(ring->points, count, sizeof(*ring->points), compare_points);
	ring->points[count].hash = UINT32_MAX;
	ring->points[count].server = ring->points[0].server;
	return true;
}

/* Fill first[]: it has at least as many buckets as there are points, and less
   than twice as many. */
static bool
make_buckets(struct ketama *ring)
{
	size_t buckets = 2, bucket;
	uint32_t i = 0;

	ring->shift = 31;
	while (buckets < ring->count && ring->shift > 0) {
		buckets *= 2;
		ring->shift--;
	}
	assert(buckets - 1 == UINT32_MAX >> ring->shift);
	ring->first = calloc(buckets, sizeof(*ring->first));
	if (ring->first == NULL)
		return false;
	for (bucket = 0; bucket < buckets; bucket++) {
		while (i < ring->count &&
		    ring->points[i].hash >> ring->shift < bucket)
			i++;
		ring->first[bucket] = i;
	}
	assert(ring->first[0] == 0);
	return true;
}

struct ketama *
ketama_new(enum ketama_kind kind, const struct ketama_server *servers, size_t n)
{
	struct ketama *ring;

	assert(n > 0 && n < UINT32_MAX && kind <= KETAMA_MODULA);
	ring = calloc(1, sizeof(*ring));
	if (ring == NULL)
		return NULL;
	ring->n = n;
	if (n == 1 || kind == KETAMA_MODULA)
		return ring;
	if (!make_points(ring, kind, servers) || !make_buckets(ring)) {
		ketama_free(ring);
		return NULL;
	}
	return ring;
}

void
ketama_free(struct ketama *ring)
{
	if (ring == NULL)
		return;
	free(ring->points);
	free(ring->first);
	free(ring);
}

/* The first point at or after hash, which may be the copy at the end. */
static inline const struct point *
find_point(const struct ketama *ring, uint32_t hash)
{
	const struct point *point;

	point = ring->points + ring->first[hash >> ring->shift];
	while (point->hash < hash)
		point++;
	return point;
}

size_t
ketama_find(const struct ketama *ring, uint32_t hash)
{
	if (ring->points == NULL)
		return (hash & INT32_MAX) % (uint32_t)ring->n;
	return find_point(ring, hash)->server;
}

size_t
ketama_find_other(const struct ketama *ring, uint32_t hash, size_t excluded)
{
	size_t owner = ketama_find(ring, hash), i;
	const struct point *point;

	if (owner != excluded)
		return owner;
	if (ring->n == 1)
		return ring->n;
	if (ring->points == NULL)
		return (owner + 1) % ring->n;
	point = find_point(ring, hash);
	for (i = 0; i < ring->count && point->server == excluded; i++)
		if (++point >= ring->points + ring->count)
			point = ring->points;
	if (point->server != excluded)
		return point->server;
	/* The other servers weigh too little to have a point. */
	assert(owner < ring->n);
	return (owner + 1) % ring->n;
}

uint32_t
ketama_arc_end(const struct ketama *ring, uint32_t hash)
{
	if (ring->n == 1)
		return UINT32_MAX;
	return ring->points == NULL ? hash : find_point(ring, hash)->hash;
}
