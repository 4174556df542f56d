#ifndef ITEM_H
#define ITEM_H

/* What memcached says of an item besides its value, in its reply to mg. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct answer;

enum {
	/* Bytes of a command about an item, with its key in base64. */
	ITEM_LINE_MAX = 340 + 128,
};

struct item {
	/* It is the one of the key that was asked for, in the reply to this
	   read. */
	bool is_own;
	/* The client's flags. */
	uint64_t flags;
	/* Seconds to live; -1: it does not expire; 0: it has just expired. */
	int64_t ttl;
	/* Its key was set in base64 (flag b). */
	bool is_binary;
	/* It was invalidated (flag X). */
	bool is_stale;
	/* This read has won the right to set it anew (flag W). */
	bool is_won;
	/* Another client was told to set it anew (flag Z): its token is out. */
	bool is_awaited;
	/* It was made by an mg with N for who sets it, and holds nothing. */
	bool is_placeholder;
	/* Its cas token; 0: the server gives none. */
	uint64_t cas;
};

/*
 * Write the mg that asks for all of that, and for the value, to line, which has
 * room for ITEM_LINE_MAX bytes.  Returns its length, and sets *opaque to a
 * number by which the reply to this read is known.  The read is no hit, and
 * moves no item in the LRU.  It wins an item that is stale: see giveback.h.
 */
int item_write_read(char *line, const char *key, size_t length, bool base64,
    uint32_t *opaque);

/* What the answer, which is VA, says to that read. */
struct item item_parse(const struct answer *answer, const char *key,
    size_t length, bool base64, uint32_t opaque);

#endif
