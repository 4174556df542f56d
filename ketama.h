#ifndef KETAMA_H
#define KETAMA_H

/*
 * A ring of servers: who owns a key.  The kinds differ in how the points are
 * named, how many there are and how a key is hashed, and agree, point for
 * point, with the program that each is named after.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ketama_kind {
	KETAMA, /* libmemcached KETAMA_WEIGHTED, and twemproxy
				   with hash: md5 */
	KETAMA_LIBKETAMA,
	KETAMA_TWEMPROXY, /* twemproxy with its default fnv1a_64 */
	KETAMA_MAGENT,    /* magent 0.7 with -k */
	KETAMA_MODULA,    /* old magent without -k */
};

struct ketama_server {
	const char *host;    /* borrowed during ketama_new() */
	unsigned int port;   /* 0 for a unix socket, whose path is host */
	unsigned int weight; /* 1 and up */
};

struct ketama;

/* Find the kind with this name (ketama libketama twemproxy magent modula).
   Returns false if there is none. */
bool ketama_kind(const char *name, enum ketama_kind *kind);

const char *ketama_kind_name(enum ketama_kind kind);

/* Build a ring over n > 0 servers.  Returns NULL when out of memory. */
struct ketama *ketama_new(enum ketama_kind kind,
    const struct ketama_server *servers, size_t n);

void ketama_free(struct ketama *ring); /* NULL is fine */

/* The hash of a key, the same for all rings of one kind. */
uint32_t ketama_hash(enum ketama_kind kind, const char *key, size_t length);

/* The hashes of n keys, the i-th of lengths[i] bytes at keys[i]; cheaper than
   one by one. */
void ketama_hashes(enum ketama_kind kind, const char *const *keys,
    const size_t *lengths, size_t n, uint32_t *hashes);

/* The index in servers[] of the owner of a hash. */
size_t ketama_find(const struct ketama *ring, uint32_t hash);

/*
 * As ketama_find(), but the first owner at or after the hash that is not the
 * server with index excluded.  Returns n (no server) if there is no other.
 */
size_t ketama_find_other(const struct ketama *ring, uint32_t hash,
    size_t excluded);

#endif
