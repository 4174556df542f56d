#ifndef COMPARE_H
#define COMPARE_H

/*
 * Compare what the two servers of a key hold at one moment: read it at its
 * authority, and then at its mirror.
 *
 * The mirror is asked in the done() of the first read, through the FIFO that
 * effects go through, too.  So what it answers is behind the effects of all
 * writes that the authority has carried out before its read, and ahead of those
 * of all others: two copies that are equal are found equal, however fast the
 * key is written through this magent.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mirror/gate.h"
#include "mirror/giveback.h"
#include "mirror/holding.h"
#include "proto.h"
#include "server/link.h"

struct conn_loop;
struct pair;
struct pairs;
struct peer;

enum compare_end {
	COMPARE_UNDER_WAY,
	/* Both hold the same; or the glance has found the key. */
	COMPARE_SAME,
	/* They do not; or the glance has not found the key. */
	COMPARE_OTHERWISE,
	/* The key was not compared: one of the servers is away, lacks what the
	   other one holds, or says an error to this key; or servers fail of
	   it. */
	COMPARE_LOST,
};

/* At first all of it is zero but for what the owner sets. */
struct compare {
	/* It has ended; called once, from the loop.  It may begin again in
	   here, or be freed.  Set by the owner. */
	void (*ended)(struct compare *compare, enum compare_end end);
	/* Set by the owner; borrowed. */
	struct conn_loop *loop;
	struct pairs *pairs;
	const unsigned char *hash_key; /* SIPHASH_KEY bytes */
	/* As on a command line, in base64 only if it cannot be plain: 1 to 250
	   bytes.  Set by the owner. */
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;

	/* Of compare.c: */

	struct peer *authority, *mirror; /* borrowed */
	uint32_t hash;                   /* of the key */
	uint32_t opaque;                 /* of the last read: see item.h */
	/* What they hold, when it has ended with OTHERWISE. */
	struct holding at_authority, at_mirror;
	/* In words for the log, or NULL. */
	const char *difference;
	/* Bytes of values that were read. */
	size_t bytes;
	/* Calls that have no answer. */
	unsigned int owed;
	enum compare_end end;
	/* To the one and then to the other. */
	struct call call;
	struct giveback back, back_at_mirror;
	/* Holds the key for commands that may win or count the item: until the
	   authority has answered; if it is stale or a number, until the mirror
	   has. */
	struct gate_key held;
	bool is_held;
};

/*
 * Begin, while no gate holds the key.  is_glance: only ask whether the
 * authority has it, which wins nothing and needs no value; where that is not
 * possible, the key is compared.  Returns COMPARE_UNDER_WAY; or why nothing was
 * begun: COMPARE_SAME if one of the servers cannot have such a key, or
 * COMPARE_LOST.  Then ended() is not called.
 */
enum compare_end compare_begin(struct compare *compare, bool is_glance);

#endif
