/*
 * ketama.c against other programs (the files rings-programs and rings-model of
 * the vectors, whose heads say what they hold and how the keys are made) and
 * against its contract.
 *
 * test_ketama [DIRECTORY]: the vectors are there, or in tests/unit/vectors.
 */

#include <stdint.h>

#include "ketama.h"
#include "md5.h"
#include "unit.h"

enum { MAX_SERVERS = 200, MAX_KEY = 256, SAMPLES = 20000 };

static const char *directory = "tests/unit/vectors";

static struct ketama *
make_ring(enum ketama_kind kind, const struct ketama_server *servers, size_t n)
{
	struct ketama *ring = ketama_new(kind, servers, n);

	if (ring == NULL)
		exit(1);
	return ring;
}

/* A set of servers of one weight, 10.1.0.0 and up. */
struct set {
	struct ketama_server servers[MAX_SERVERS];
	char hosts[MAX_SERVERS][16];
	size_t n;
};

static void
make_set(struct set *set, size_t n, unsigned int port, unsigned int weight)
{
	size_t i;

	for (i = 0; i < n; i++) {
		snprintf(set->hosts[i], sizeof(set->hosts[i]), "10.1.%u.%u",
		    (unsigned char)(i / 100), (unsigned char)(i % 100));
		set->servers[i].host = set->hosts[i];
		set->servers[i].port = port;
		set->servers[i].weight = weight;
	}
	set->n = n;
}

static uint32_t
next_number(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* ---- the keys of the vector files */

static size_t
put_code_point(char *out, uint32_t v)
{
	uint32_t c = v % 4 == 0 ? 0x1f300 + v / 4 % 0x300 :
				  0x80 + v / 4 % 0x7780;
	size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4, i;
	static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

	for (i = length - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(lead[length] | c);
	return length;
}

static size_t
put_bytes(char *key, uint32_t *x, size_t length, uint32_t low, uint32_t range)
{
	uint32_t byte;
	size_t i;

	for (i = 0; i < length; i++) {
		byte = low + next_number(x) % range;
		if (byte == 0 || byte == '\n' || byte == '\r' || byte == ' ')
			byte = 'x';
		key[i] = (char)byte;
	}
	return length;
}

static size_t
put_code_points(char *key, uint32_t *x, size_t count)
{
	size_t length = 0;

	for (; count > 0; count--)
		length += put_code_point(key + length, next_number(x));
	return length;
}

static size_t
make_key(char key[MAX_KEY], uint32_t i)
{
	static const unsigned char boundaries[] = {
		7,
		8,
		9,
		15,
		16,
		23,
		24,
		31,
		32,
		33,
		47,
		48,
		54,
		55,
		56,
		57,
		63,
		64,
		65,
		119,
		120,
		121,
		249,
		250,
	};
	uint32_t x = (i + 1) * UINT32_C(0x9e3779b1);

	switch (i % 8) {
	case 0:
		return (size_t)snprintf(key, MAX_KEY, "key:%u", i);
	case 1:
		return (size_t)snprintf(key, MAX_KEY, "%u", next_number(&x));
	case 2:
		return put_bytes(key, &x, 1 + next_number(&x) % 16, 'a', 26);
	case 3:
		return put_bytes(key, &x, 17 + next_number(&x) % 234, 0x21, 94);
	case 4:
		return put_bytes(key, &x, 1 + next_number(&x) % 60, 0, 256);
	case 5:
		return put_code_points(key, &x, 1 + next_number(&x) % 40);
	case 6:
		return (size_t)snprintf(key, MAX_KEY, "session/%08x",
		    next_number(&x));
	default:
		return put_bytes(key, &x,
		    boundaries[i / 8 % sizeof(boundaries)], 'A', 26);
	}
}

/* ---- the vector files */

struct vectors {
	const char *file;
	struct ketama_server servers[MAX_SERVERS]; /* hosts owned */
	size_t n;
	char set[128];
	uint32_t keys;
	unsigned int rings; /* checked */
};

static void
check_keys(struct vectors *vectors, const char *hex)
{
	char *all, got[33], *end;
	unsigned char digest[16];
	uint32_t i;

	all = malloc((size_t)vectors->keys * MAX_KEY);
	if (all == NULL)
		exit(1);
	for (end = all, i = 0; i < vectors->keys; i++) {
		end += make_key(end, i);
		*end++ = '\n';
	}
	md5(all, (size_t)(end - all), digest);
	free(all);
	for (i = 0; i < 16; i++)
		snprintf(got + 2 * i, 3, "%02x", digest[i]);
	check_case(strcmp(got, hex) == 0, "%s: the keys are others",
	    vectors->file);
}

/* One ring of the set that was read last. */
static void
check_owners(struct vectors *vectors, enum ketama_kind kind, const char *owners)
{
	struct ketama *ring = make_ring(kind, vectors->servers, vectors->n);
	uint32_t i, wrong = 0;
	char key[MAX_KEY];
	size_t length;

	for (i = 0; i < vectors->keys && owners[i] != '\0'; i++) {
		length = make_key(key, i);
		wrong += ketama_find(ring, ketama_hash(kind, key, length)) !=
		    (size_t)(owners[i] - 'A');
	}
	check_case(wrong == 0 && i == vectors->keys && i > 0,
	    "%s: set %s, ring %u: %u of %u keys wrong", vectors->file,
	    vectors->set, kind, wrong, i);
	ketama_free(ring);
	vectors->rings++;
}

static void
begin_set(struct vectors *vectors, const char *name)
{
	while (vectors->n > 0)
		free((void *)(uintptr_t)vectors->servers[--vectors->n].host);
	snprintf(vectors->set, sizeof(vectors->set), "%s", name);
}

static void
read_line(struct vectors *vectors, const char *line)
{
	struct ketama_server *server = &vectors->servers[vectors->n];
	char word[16], text[128];
	enum ketama_kind kind;

	if (sscanf(line, "keys %u %127s", &vectors->keys, text) == 2) {
		check_keys(vectors, text);
	} else if (sscanf(line, "set %127s", text) == 1) {
		begin_set(vectors, text);
	} else if (sscanf(line, "server %127s %u %u", text, &server->port,
		       &server->weight) == 3) {
		server->host = strdup(text);
		vectors->n++;
	} else if (sscanf(line, "%15s", word) == 1 &&
	    ketama_kind(word, &kind)) {
		check_owners(vectors, kind, line + strlen(word) + 1);
	} else {
		check_case(line[0] == '#', "%s: %s", vectors->file, line);
	}
}

static void
check_file(const char *name, unsigned int rings)
{
	struct vectors vectors = { .file = name };
	char path[4096], *line = NULL;
	size_t size = 0;
	ssize_t length;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "r");
	if (file != NULL) {
		while ((length = getline(&line, &size, file)) != -1) {
			line[strcspn(line, "\n")] = '\0';
			read_line(&vectors, line);
		}
		fclose(file);
	}
	begin_set(&vectors, "");
	free(line);
	check_case(vectors.rings == rings, "%s: %u of %u rings", path,
	    vectors.rings, rings);
}

static void
test_rings_equal_those_of_other_programs(void)
{
	check_file("rings-programs", 26);
}

static void
test_rings_equal_those_of_the_model(void)
{
	check_file("rings-model", 24);
}

/* ---- small vectors */

static void
test_ring_kind_is_known_by_its_name(void)
{
	static const struct {
		const char *name;
		enum ketama_kind kind;
	} names[] = {
		{ "ketama", KETAMA },
		{ "libketama", KETAMA_LIBKETAMA },
		{ "twemproxy", KETAMA_TWEMPROXY },
		{ "magent", KETAMA_MAGENT },
		{ "modula", KETAMA_MODULA },
	};
	static const char *const others[] = {
		"",
		"k",
		"ketam",
		"ketama2",
		"KETAMA",
		" ketama",
		"ketama ",
	};
	enum ketama_kind kind;
	size_t i;

	for (i = 0; i < COUNT(names); i++)
		check_case(ketama_kind(names[i].name, &kind) &&
			kind == names[i].kind,
		    "name %s", names[i].name);
	for (i = 0; i < COUNT(others); i++)
		check_case(!ketama_kind(others[i], &kind), "name %s",
		    others[i]);
}

/* What the design prints. */
static void
test_ring_of_three_servers_equals_the_design(void)
{
	static const struct ketama_server servers[] = {
		{ "10.0.0.1", 11211, 1 },
		{ "10.0.0.2", 11211, 1 },
		{ "10.0.0.3", 11212, 1 },
	};
	static const char *const keys[] = {
		"foo",
		"bar",
		"key:1",
		"user:12345",
		"session/abcdef",
		"hello_world",
	};
	static const char *const owners[] = {
		[KETAMA] = "111012",
		[KETAMA_LIBKETAMA] = "102002",
		[KETAMA_TWEMPROXY] = "120022",
		[KETAMA_MAGENT] = "110010",
		[KETAMA_MODULA] = "000200",
	};
	size_t lengths[COUNT(keys)];
	uint32_t hash, hashes[COUNT(keys)];
	struct ketama *ring;
	size_t kind, i;

	for (i = 0; i < COUNT(keys); i++)
		lengths[i] = strlen(keys[i]);
	for (kind = 0; kind < COUNT(owners); kind++) {
		ring = make_ring((enum ketama_kind)kind, servers, 3);
		ketama_hashes((enum ketama_kind)kind, keys, lengths,
		    COUNT(keys), hashes);
		for (i = 0; i < COUNT(keys); i++) {
			hash = ketama_hash((enum ketama_kind)kind, keys[i],
			    lengths[i]);
			check_case(hash == hashes[i], "hash %zu of %s", kind,
			    keys[i]);
			check_case(ketama_find(ring, hash) ==
				(size_t)(owners[kind][i] - '0'),
			    "ring %zu, key %s", kind, keys[i]);
		}
		ketama_free(ring);
	}
}

static void
test_hash_of_each_ring_kind_has_its_known_value(void)
{
	static const char high[] = { (char)0x80, 'a', (char)0xff };

	check_case(ketama_hash(KETAMA, "", 0) == 0xd98c1dd4, "md5 of nothing");
	check_case(ketama_hash(KETAMA, "abc", 3) == 0x98500190, "md5");
	check_case(ketama_hash(KETAMA_LIBKETAMA, "abc", 3) == 0x98500190,
	    "libketama");
	check_case(ketama_hash(KETAMA_MAGENT, "abc", 3) == 0x98500190,
	    "magent");
	check_case(ketama_hash(KETAMA_TWEMPROXY, "", 0) == 0x84222325,
	    "fnv1a of nothing");
	/* a byte over 127 is a negative number in both */
	check_case(ketama_hash(KETAMA_TWEMPROXY, high, 3) ==
		(((0x84222325u ^ 0xffffff80u) * 0x1b3u ^ 'a') * 0x1b3u ^
		    0xffffffffu) *
		    0x1b3u,
	    "fnv1a of high bytes");
	check_case((ketama_hash(KETAMA_MODULA, high, 3) & INT32_MAX) ==
		(uint32_t)(((5381 * 33 - 128) * 33 + 'a') * 33 - 1),
	    "times 33 of high bytes");
}

/* ---- the ring against a simple one */

struct point {
	uint32_t hash;
	uint32_t server;
};

/* The numbers of servers, to 200, at which a server of equal weight has a
   name less than 40 (500 with magent): what float arithmetic makes of it. */
static bool
is_one_short(enum ketama_kind kind, size_t n)
{
	static const unsigned char libmemcached[] = {
		25,
		47,
		50,
		55,
		61,
		71,
		94,
		100,
		107,
		109,
		110,
		115,
		122,
		142,
		159,
		163,
		188,
		193,
		200,
	};
	static const unsigned char magent[] = {
		47,
		59,
		83,
		94,
		101,
		107,
		109,
		118,
		121,
		143,
		166,
		177,
		188,
		193,
		197,
	};

	if (kind == KETAMA_LIBKETAMA)
		return n == 61 || n == 122;
	if (kind == KETAMA_MAGENT)
		return memchr(magent, (int)n, sizeof(magent)) != NULL;
	return memchr(libmemcached, (int)n, sizeof(libmemcached)) != NULL;
}

static size_t
count_names(enum ketama_kind kind, size_t n)
{
	return (kind == KETAMA_MAGENT ? 500 : 40) - is_one_short(kind, n);
}

static void
put_points(struct point *points, enum ketama_kind kind, uint32_t server,
    const struct ketama_server *address, size_t number)
{
	unsigned char digest[16];
	char name[64];
	int i;

	if (kind == KETAMA_MAGENT)
		snprintf(name, sizeof(name), "%s-%u-%zu", address->host,
		    address->port, number);
	else if (kind == KETAMA_LIBKETAMA || address->port != 11211)
		snprintf(name, sizeof(name), "%s:%u-%zu", address->host,
		    address->port, number);
	else
		snprintf(name, sizeof(name), "%s-%zu", address->host, number);
	md5(name, strlen(name), digest);
	for (i = 0; i < 4; i++) {
		points[i].hash = (uint32_t)digest[4 * i] |
		    (uint32_t)digest[4 * i + 1] << 8 |
		    (uint32_t)digest[4 * i + 2] << 16 |
		    (uint32_t)digest[4 * i + 3] << 24;
		points[i].server = server;
	}
}

static int
compare(const void *left, const void *right)
{
	const struct point *a = left, *b = right;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return (a->server > b->server) - (a->server < b->server);
}

/* The sorted points of a set of servers with equal weights. */
static struct point *
make_points(enum ketama_kind kind, const struct set *set, size_t *count)
{
	size_t names = count_names(kind, set->n), i, number;
	struct point *points;

	points = calloc(set->n * names, 4 * sizeof(*points));
	if (points == NULL)
		exit(1);
	*count = 0;
	for (i = 0; i < set->n; i++)
		for (number = 0; number < names; number++, *count += 4)
			put_points(points + *count, kind, (uint32_t)i,
			    &set->servers[i], number);
	qsort(points, *count, sizeof(*points), compare);
	return points;
}

/* Ask for the hash of each point, the one before and the one after. */
static void
check_points(enum ketama_kind kind, const struct set *set)
{
	struct ketama *ring = make_ring(kind, set->servers, set->n);
	struct point *points;
	size_t count, i, next;

	points = make_points(kind, set, &count);
	for (i = 0; i < count; i = next) {
		for (next = i;
		     next < count && points[next].hash == points[i].hash;
		     next++)
			continue;
		check_case(ketama_find(ring, points[i].hash) ==
			points[i].server,
		    "ring %u of %zu: point %zu", kind, set->n, i);
		check_case(points[i].hash == 0 ||
			(i > 0 && points[i - 1].hash == points[i].hash - 1) ||
			ketama_find(ring, points[i].hash - 1) ==
			    points[i].server,
		    "ring %u of %zu: before point %zu", kind, set->n, i);
		check_case(ketama_find(ring, points[i].hash + 1) ==
			points[next % count].server,
		    "ring %u of %zu: after point %zu", kind, set->n, i);
	}
	check_case(ketama_find(ring, 0) == points[0].server,
	    "ring %u of %zu: hash 0", kind, set->n);
	check_case(ketama_find(ring, UINT32_MAX) == points[0].server ||
		points[count - 1].hash == UINT32_MAX,
	    "ring %u of %zu: the end does not wrap", kind, set->n);
	free(points);
	ketama_free(ring);
}

/* With 200 servers the magent ring has 21 hashes with two servers. */
static void
test_key_at_each_point_of_ring_finds_its_owner(void)
{
	static const size_t sizes[] = { 2, 3, 7, 20, 25, 47, 61, 200 };
	struct set set;
	size_t i;

	for (i = 0; i < COUNT(sizes); i++) {
		make_set(&set, sizes[i], i % 2 == 0 ? 11211 : 11212, 1);
		check_points(KETAMA, &set);
		check_points(KETAMA_LIBKETAMA, &set);
		check_points(KETAMA_TWEMPROXY, &set);
		check_points(KETAMA_MAGENT, &set);
	}
}

/* Is the name with this number on the ring, for all servers? */
static bool
has_name(const struct ketama *ring, enum ketama_kind kind,
    const struct set *set, size_t number)
{
	struct point points[4];
	size_t i, j;

	for (i = 0; i < set->n; i++) {
		put_points(points, kind, (uint32_t)i, &set->servers[i], number);
		for (j = 0; j < 4; j++)
			if (ketama_find(ring, points[j].hash) != i)
				return false;
	}
	return true;
}

/* The points of magent are so dense that some share a hash, and those of
   twemproxy are as many as of ketama. */
static void
test_ring_has_the_known_number_of_points(void)
{
	static const enum ketama_kind kinds[] = { KETAMA, KETAMA_LIBKETAMA };
	struct ketama *ring;
	struct set set;
	size_t i, n;

	for (i = 0; i < COUNT(kinds); i++)
		for (n = 2; n <= MAX_SERVERS; n++) {
			make_set(&set, n, 11211, 1 + (n % 3) * 31);
			ring = make_ring(kinds[i], set.servers, n);
			check_case(has_name(ring, kinds[i], &set, 38) &&
				has_name(ring, kinds[i], &set, 39) !=
				    is_one_short(kinds[i], n) &&
				!has_name(ring, kinds[i], &set, 40),
			    "ring %u: names of %zu servers", kinds[i], n);
			ketama_free(ring);
		}
}

/* Servers in another order own what they owned. */
static void
test_ring_of_reordered_servers_has_the_same_owners(void)
{
	struct ketama *ring, *other;
	struct set set, reversed;
	uint32_t hash = 1;
	size_t i, n = 20;

	make_set(&set, n, 11211, 1);
	for (i = 0; i < n; i++)
		set.servers[i].weight = (unsigned int)(1 + i % 3);
	for (i = 0; i < n; i++)
		reversed.servers[i] = set.servers[n - 1 - i];
	ring = make_ring(KETAMA, set.servers, n);
	other = make_ring(KETAMA, reversed.servers, n);
	for (i = 0; i < SAMPLES; i++) {
		next_number(&hash);
		check_case(ketama_find(ring, hash) ==
			n - 1 - ketama_find(other, hash),
		    "hash %u", hash);
	}
	ketama_free(ring);
	ketama_free(other);
}

/* ---- ketama_find_other() */

/* Without a server its points are gone, and nothing else: what it owned goes
   to the other owner, if the number of names stays the same. */
static void
check_without(enum ketama_kind kind, const struct set *set, size_t excluded)
{
	struct ketama_server left[MAX_SERVERS];
	struct ketama *ring, *rest;
	size_t i, n = 0, other, owner;
	uint32_t x = 1, hash;

	for (i = 0; i < set->n; i++)
		if (i != excluded)
			left[n++] = set->servers[i];
	ring = make_ring(kind, set->servers, set->n);
	rest = make_ring(kind, left, n);
	for (i = 0; i < SAMPLES; i++) {
		/* both ends as well */
		hash = i == 0 ? 0 : i == 1 ? UINT32_MAX : next_number(&x);
		owner = ketama_find(ring, hash);
		other = ketama_find_other(ring, hash, excluded);
		check_case(other != excluded && other < set->n &&
			(owner == excluded || other == owner) &&
			other - (other > excluded) == ketama_find(rest, hash),
		    "ring %u without %zu: hash %u", kind, excluded, hash);
	}
	ketama_free(ring);
	ketama_free(rest);
}

static void
test_other_owner_is_that_of_ring_without_the_first(void)
{
	struct set set;
	size_t excluded;

	make_set(&set, 5, 11211, 3);
	for (excluded = 0; excluded < set.n; excluded++) {
		check_without(KETAMA, &set, excluded);
		check_without(KETAMA_LIBKETAMA, &set, excluded);
		check_without(KETAMA_TWEMPROXY, &set, excluded);
		check_without(KETAMA_MAGENT, &set, excluded);
	}
	make_set(&set, 2, 11211, 1);
	check_without(KETAMA, &set, 0);
	check_without(KETAMA, &set, 1);
}

/* An index that is no server's excludes none. */
static void
test_other_owner_of_no_server_is_the_owner(void)
{
	struct ketama *ring;
	struct set set;
	uint32_t hash = 1;
	size_t i;

	make_set(&set, 20, 11211, 1);
	ring = make_ring(KETAMA, set.servers, set.n);
	for (i = 0; i < SAMPLES; i++) {
		next_number(&hash);
		check_case(ketama_find_other(ring, hash, set.n) ==
			ketama_find(ring, hash),
		    "n excluded, hash %u", hash);
		check_case(ketama_find_other(ring, hash, SIZE_MAX) ==
			ketama_find(ring, hash),
		    "none excluded, hash %u", hash);
	}
	ketama_free(ring);
}

/* A server that weighs too little for a point is still another server, and
   the same server given twice is two. */
static void
test_other_owner_is_no_server_without_points(void)
{
	static const struct ketama_server light[] = {
		{ "10.0.0.1", 11211, 1 },
		{ "10.0.0.2", 11211, 1000 },
	};
	static const struct ketama_server twice[] = {
		{ "10.0.0.1", 11211, 1 },
		{ "10.0.0.1", 11211, 1 },
	};
	struct ketama *ring;
	uint32_t hash = 1;
	int i;

	ring = make_ring(KETAMA, light, 2);
	for (i = 0; i < 1000; i++) {
		next_number(&hash);
		check_case(ketama_find(ring, hash) == 1, "light, hash %u",
		    hash);
		check_case(ketama_find_other(ring, hash, 1) == 0,
		    "other than heavy, hash %u", hash);
	}
	ketama_free(ring);
	ring = make_ring(KETAMA, twice, 2);
	for (i = 0; i < 1000; i++) {
		next_number(&hash);
		check_case(ketama_find(ring, hash) == 0, "twice, hash %u",
		    hash);
		check_case(ketama_find_other(ring, hash, 0) == 1,
		    "other of twice, hash %u", hash);
	}
	ketama_free(ring);
}

static void
test_ring_of_one_server_gives_it_every_hash(void)
{
	static const enum ketama_kind kinds[] = {
		KETAMA,
		KETAMA_LIBKETAMA,
		KETAMA_TWEMPROXY,
		KETAMA_MAGENT,
		KETAMA_MODULA,
	};
	static const struct ketama_server server = { "10.0.0.1", 11211, 7 };
	static const uint32_t hashes[] = { 0, 1, INT32_MAX, UINT32_MAX };
	struct ketama *ring;
	size_t i, j;

	for (i = 0; i < COUNT(kinds); i++) {
		ring = make_ring(kinds[i], &server, 1);
		for (j = 0; j < COUNT(hashes); j++) {
			check_case(ketama_find(ring, hashes[j]) == 0, "find");
			check_case(ketama_find_other(ring, hashes[j], 0) == 1,
			    "there is no other");
			check_case(ketama_find_other(ring, hashes[j], 1) == 0,
			    "not excluded");
		}
		ketama_free(ring);
	}
	ketama_free(NULL);
}

static void
test_modula_takes_hash_modulo_servers_and_ignores_weight(void)
{
	struct ketama *ring;
	struct set set;
	uint32_t hash = 1;
	size_t i, owner;

	make_set(&set, 7, 11211, 1);
	set.servers[3].weight = 100; /* has no meaning here */
	ring = make_ring(KETAMA_MODULA, set.servers, set.n);
	for (i = 0; i < SAMPLES; i++) {
		next_number(&hash);
		owner = (hash & 0x7fffffff) % 7;
		check_case(ketama_find(ring, hash) == owner, "hash %u", hash);
		check_case(ketama_find_other(ring, hash, owner) ==
			(owner + 1) % 7,
		    "next of hash %u", hash);
		check_case(ketama_find_other(ring, hash, (owner + 1) % 7) ==
			owner,
		    "not excluded, hash %u", hash);
	}
	ketama_free(ring);
}

/* Walk round a ring by its arcs: all hashes of one have one owner, and the next
   one begins a point. */
static void
check_arcs(enum ketama_kind kind)
{
	uint64_t hash = 0, end, arcs = 0;
	struct ketama *ring;
	struct set set;

	make_set(&set, 5, 11211, 1);
	ring = make_ring(kind, set.servers, set.n);
	for (; hash <= UINT32_MAX; hash = end + 1, arcs++) {
		end = ketama_arc_end(ring, (uint32_t)hash);
		check_case(end >= hash, "arc at %llx",
		    (unsigned long long)hash);
		check_case(ketama_find(ring, (uint32_t)hash) ==
			    ketama_find(ring, (uint32_t)end) &&
			ketama_find_other(ring, (uint32_t)hash, 2) ==
			    ketama_find_other(ring, (uint32_t)end, 2),
		    "owners at %llx", (unsigned long long)hash);
		if (end < hash)
			break;
	}
	check_case(arcs > 500 && arcs < 5 * 600, "%llu arcs",
	    (unsigned long long)arcs);
	ketama_free(ring);
}

static void
test_ring_is_a_row_of_arcs_of_one_owner_each(void)
{
	check_arcs(KETAMA);
	check_arcs(KETAMA_LIBKETAMA);
	check_arcs(KETAMA_TWEMPROXY);
}

static void
test_arc_of_one_server_is_the_ring_and_of_modula_a_hash(void)
{
	struct ketama *ring;
	struct set set;

	make_set(&set, 3, 11211, 1);
	ring = make_ring(KETAMA, set.servers, 1);
	check(ketama_arc_end(ring, 7) == UINT32_MAX);
	ketama_free(ring);
	ring = make_ring(KETAMA_MODULA, set.servers, 3);
	check(ketama_arc_end(ring, 7) == 7);
	ketama_free(ring);
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		directory = argv[1];
	RUN(test_ring_kind_is_known_by_its_name);
	RUN(test_ring_of_three_servers_equals_the_design);
	RUN(test_hash_of_each_ring_kind_has_its_known_value);
	RUN(test_rings_equal_those_of_other_programs);
	RUN(test_rings_equal_those_of_the_model);
	RUN(test_key_at_each_point_of_ring_finds_its_owner);
	RUN(test_ring_has_the_known_number_of_points);
	RUN(test_ring_of_reordered_servers_has_the_same_owners);
	RUN(test_other_owner_is_that_of_ring_without_the_first);
	RUN(test_other_owner_of_no_server_is_the_owner);
	RUN(test_other_owner_is_no_server_without_points);
	RUN(test_ring_of_one_server_gives_it_every_hash);
	RUN(test_modula_takes_hash_modulo_servers_and_ignores_weight);
	RUN(test_ring_is_a_row_of_arcs_of_one_owner_each);
	RUN(test_arc_of_one_server_is_the_ring_and_of_modula_a_hash);
	return unit_end();
}
