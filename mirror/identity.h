#ifndef IDENTITY_H
#define IDENTITY_H

/* What is known of one incarnation of a memcached, and whether two of these
   are the same incarnation. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity {
	/* The server has answered all questions: the other fields are set. */
	bool known;
	/* Major, minor, patch; 9999 stands for more.  All 0: no version. */
	unsigned int version[3];
	uint64_t pid;
	/* Seconds since 1970 by the clock of the server, when it answered. */
	uint64_t time;
	/* Seconds since its start, when it answered. */
	uint64_t uptime;
	/* Counters, which only grow, but for a "stats reset". */
	uint64_t connections, gets, sets, items;
	/* Items that are in it, when it answered. */
	uint64_t stored;
	/* Threads that carry out commands; 0: not known. */
	uint64_t threads;
	/* The TCP port that it listens on; 0: none, or not known. */
	uint64_t port;
	/* The largest item in bytes; 0: not known. */
	uint64_t item_size_max;
	/* It keeps its items over a restart. */
	bool restartable;
	/* It refuses flush_all (-F). */
	bool refuses_flush;
	/* It has no cas uniques (-C): after a flush_all it also drops what it
	   is given later in the same second. */
	bool has_no_cas;
};

/* Take up the n bytes of text behind the word VERSION.  What cannot be read as
   a number counts as 0. */
void identity_version(struct identity *identity, const char *text, size_t n);

/* Take up a line of stats, or of stats settings: a name of n bytes and a value
   of length bytes.  Names that are of no use are ignored. */
void identity_stat(struct identity *identity, const char *name, size_t n,
    const char *value, size_t length);

enum identity_change {
	IDENTITY_SAME,   /* the same incarnation */
	IDENTITY_NEW,    /* another incarnation */
	IDENTITY_UNSURE, /* either is possible */
};

/* Compare what was known of a server with what it says now.  now is known,
   unless before is not; then the result is IDENTITY_UNSURE. */
enum identity_change identity_compare(const struct identity *before,
    const struct identity *now);

/* Whether two servers may be one process: pid, start, version and port are
   known and the same.  Two containers may say the same, too. */
bool identity_may_be_one(const struct identity *one,
    const struct identity *other);

/*
 * 15 bits made of pid, start and role, which is 0 to 3.  They differ for most
 * incarnations, and are the same for every magent that knows this one.
 */
uint64_t identity_tag(const struct identity *identity, unsigned int role);

/* Whether the server has at least this version. */
bool identity_is_since(const struct identity *identity, unsigned int major,
    unsigned int minor, unsigned int patch);

#endif
