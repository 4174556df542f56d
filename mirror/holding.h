#ifndef HOLDING_H
#define HOLDING_H

/*
 * What a server holds of a key, as far as two servers can be compared by it:
 * little, whatever the size of the value.  Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "siphash.h"

struct item;

struct holding {
	/* The server has the key; if not, nothing else is set but read_ms. */
	bool is_there;
	/* The value is digits, and spaces behind them. */
	bool is_number;
	/* Of the value; of a number without those spaces. */
	uint64_t hash;
	size_t length;
	/* Of the client. */
	uint64_t flags;
	/* Seconds to live; -1: it does not expire. */
	int64_t ttl;
	/* It was invalidated.  A client was told to set it anew. */
	bool is_stale, is_awaited;
	/* 0: the server gives none, or our read has changed it. */
	uint64_t cas;
	/* When it was read: milliseconds of the monotonic clock. */
	int64_t read_ms;
};

/* What mg has said of an item whose value has n bytes.  key is of the hash. */
struct holding holding_of(const struct item *item, const char *value, size_t n,
    const unsigned char key[SIPHASH_KEY]);

/* In which way the mirror of a key holds something else than the authority, in
   words for the log; NULL: they hold the same. */
const char *holdings_difference(const struct holding *at_authority,
    const struct holding *at_mirror);

/* Of two that differ: whether it is in that alone which memcached may lose by
   itself. */
bool holdings_have_drifted(const struct holding *at_authority,
    const struct holding *at_mirror);

/* Whether nobody has written the key at this server between the two reads. */
bool holding_is_unchanged(const struct holding *before,
    const struct holding *after);

#endif
