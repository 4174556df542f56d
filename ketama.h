#ifndef KETAMA_H
#define KETAMA_H

/*
 * A ring of servers: it finds the owner of a key.  The kinds differ in how the
 * points are named, how many there are and how a key is hashed.  Each has the
 * same points as the program that it is named after.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ketama_kind {
	/* libmemcached KETAMA_WEIGHTED, and twemproxy with "hash: md5" */
	KETAMA,
	KETAMA_LIBKETAMA,
	KETAMA_TWEMPROXY, /* twemproxy with its default fnv1a_64 */
	KETAMA_MAGENT,    /* magent 0.7 with -k */
	KETAMA_MODULA,    /* magent 0.7 without -k */
};

struct ketama_server {
	const char *host;    /* borrowed; not needed after ketama_new() */
	unsigned int port;   /* 0: a unix socket, and host is its path */
	unsigned int weight; /* 1 and up */
};

struct ketama;

/* Find the kind with this name: ketama, libketama, twemproxy, magent or modula.
   Returns false if there is none. */
bool ketama_kind(const char *name, enum ketama_kind *kind);

const char *ketama_kind_name(enum ketama_kind kind);

/* Build a ring over n > 0 servers.  Returns NULL when out of memory. */
struct ketama *ketama_new(enum ketama_kind kind,
    const struct ketama_server *servers, size_t n);

/* ring may be NULL. */
void ketama_free(struct ketama *ring);

/* The hash of a key.  It is the same for all rings of one kind. */
uint32_t ketama_hash(enum ketama_kind kind, const char *key, size_t length);

/* Put the hashes of n keys into hashes[]; keys[i] has lengths[i] bytes.  This
   costs less than n calls of ketama_hash(). */
void ketama_hashes(enum ketama_kind kind, const char *const *keys,
    const size_t *lengths, size_t n, uint32_t *hashes);

/* The index in servers[] of the owner of a hash. */
size_t ketama_find(const struct ketama *ring, uint32_t hash);

/*
 * The same without one server: the index of the first owner, at the hash or
 * behind it, that is not excluded.  If excluded is no index, this is
 * ketama_find().  Returns the number of servers, which is no index, if there is
 * no other server.
 */
size_t ketama_find_other(const struct ketama *ring, uint32_t hash,
    size_t excluded);

/* The last hash behind this one up to which all have the same owner, and the
   same other one without any server. */
uint32_t ketama_arc_end(const struct ketama *ring, uint32_t hash);

#endif
