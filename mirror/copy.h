#ifndef COPY_H
#define COPY_H

/*
 * Copy one key from its authority to the mirror, with all that memcached knows
 * of the item: value, flags, time to live, whether it is stale, and whether a
 * client was told to set it anew.
 *
 * A copy reads its key through the FIFO of the authority, and writes it through
 * the FIFO of the mirror, where effects go, too.  What it writes is behind the
 * effects of all writes that came before the read, and ahead of the effects of
 * all others.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mirror/gate.h"
#include "mirror/giveback.h"
#include "proto.h"
#include "server/link.h"

struct pairs;
struct peer;

/* How far a copy is, or how it has ended. */
enum copy_end {
	COPY_UNDER_WAY,
	/* The mirror has it now. */
	COPY_ADDED,
	/* The mirror did not take it: a live write was there first, or there
	   was no room. */
	COPY_OVERTAKEN,
	/* The authority has it no longer; or the mirror has failed. */
	COPY_GONE,
	/* The authority said SERVER_ERROR, the mirror knows no such items, or
	   servers fail of the key. */
	COPY_REFUSED,
	/* The authority has no mg. */
	COPY_UNABLE,
	/* There is no authority, or no mirror. */
	COPY_NOBODY,
	/* The authority has failed before it was read. */
	COPY_FAILED,
};

/* At first all of it is zero but for what the owner sets. */
struct copy {
	/* It has ended; called once, from the loop.  It may begin again in
	   here, or be freed.  Set by the owner. */
	void (*ended)(struct copy *copy, enum copy_end end);
	/* As on a command line, in base64 if base64 is set: 1 to 250 bytes.
	   Set by the owner. */
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;
	/* What the mirror has of the key is deleted first, also if the
	   authority lacks it.  Otherwise the mirror keeps that.  Set by the
	   owner. */
	bool replaces;

	/* Of copy.c: */

	struct pairs *pairs;
	struct peer *authority, *to; /* borrowed */
	uint32_t hash;               /* of the key */
	uint32_t opaque;             /* of its mg: see item.h */
	/* Calls that have no answer. */
	unsigned int owed;
	enum copy_end end;
	/* The mg. */
	struct call source;
	/* What it has won. */
	struct giveback back;
	/* Holds the key while its mg has no reply. */
	struct gate_key held;
	/* For the mirror: the delete of what it has; the item, that it is
	   stale, that its token is out. */
	struct call drop, add, mark, take;
	/* The item is known as one whose key was in base64. */
	bool is_binary;
};

/*
 * Begin to copy the key, while no gate holds it.  to: the mirror that it is
 * for; NULL: whichever it has.  A key that needs no base64 becomes plain in
 * here.  Returns COPY_UNDER_WAY; or why nothing was begun: COPY_GONE,
 * COPY_REFUSED, COPY_UNABLE or COPY_NOBODY.  Then ended() is not called.
 */
enum copy_end copy_begin(struct copy *copy, struct pairs *pairs,
    const struct peer *to);

/* Whether a key can be read from peer with its time to live, as far as is
   known. */
bool copy_can_read(const struct peer *peer);

#endif
