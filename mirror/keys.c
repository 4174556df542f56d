/*
 * A long queue of keys in little memory.
 *
 *   first piece -> [ length base64 key | length base64 key ] -> last piece
 *    ^keys_pop()                                                keys_add()^
 *
 * Invariant: a piece holds whole entries, and at least one that was not popped.
 * An entry is a byte with the length, a byte that is 1 for base64, and the key.
 * Only the last piece is written, and only the first one is read.
 */

#include "mirror/keys.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "block.h"
#include "proto.h"

enum {
	/* Bytes of entries in a piece.  Each queue that is not empty has one,
	   and there may be a queue for each server. */
	PIECE = 4 << 10,
	/* Bytes of an entry before its key. */
	ENTRY_HEAD = 2,
};

static_assert(PROTO_KEY_MAX <= UCHAR_MAX, "the length of a key fits in a byte");

struct piece {
	STAILQ_ENTRY(piece) entry;
	/* Where in bytes the first entry that was not popped begins. */
	size_t start;
	/* Where in bytes the last entry ends. */
	size_t end;
	char bytes[PIECE];
};

struct keys {
	STAILQ_HEAD(, piece) pieces; /* owned */
	struct piece *last;          /* NULL: there is none */
	size_t count;                /* of the keys */
	size_t *held;                /* borrowed: bytes of all queues */
};

struct keys *
keys_new(size_t *held)
{
	struct keys *keys = calloc(1, sizeof(*keys));

	if (keys == NULL)
		return NULL;
	STAILQ_INIT(&keys->pieces);
	keys->held = held;
	return keys;
}

static void
drop_first(struct keys *keys)
{
	struct piece *piece = STAILQ_FIRST(&keys->pieces);

	assert(piece != NULL && *keys->held >= sizeof(*piece));
	STAILQ_REMOVE_HEAD(&keys->pieces, entry);
	if (STAILQ_EMPTY(&keys->pieces))
		keys->last = NULL;
	*keys->held -= sizeof(*piece);
	block_count(-(ptrdiff_t)sizeof(*piece));
	free(piece);
}

void
keys_free(struct keys *keys)
{
	if (keys == NULL)
		return;
	while (!STAILQ_EMPTY(&keys->pieces))
		drop_first(keys);
	free(keys);
}

bool
keys_add(struct keys *keys, const char *key, size_t length, bool base64)
{
	struct piece *piece = keys->last;

	assert(length > 0 && length <= PROTO_KEY_MAX);
	assert((piece == NULL) == (keys->count == 0));
	if (piece == NULL || PIECE - piece->end < length + ENTRY_HEAD) {
		piece = malloc(sizeof(*piece));
		if (piece == NULL)
			return false;
		piece->start = piece->end = 0;
		STAILQ_INSERT_TAIL(&keys->pieces, piece, entry);
		keys->last = piece;
		*keys->held += sizeof(*piece);
		block_count(sizeof(*piece));
	}
	piece->bytes[piece->end] = (char)length;
	piece->bytes[piece->end + 1] = base64;
	memcpy(piece->bytes + piece->end + ENTRY_HEAD, key, length);
	piece->end += length + ENTRY_HEAD;
	assert(piece->end <= PIECE);
	keys->count++;
	return true;
}

bool
keys_pop(struct keys *keys, char *key, size_t *length, bool *base64)
{
	struct piece *piece = STAILQ_FIRST(&keys->pieces);
	const char *entry;

	if (piece == NULL)
		return false;
	assert(piece->start < piece->end && keys->count > 0);
	entry = piece->bytes + piece->start;
	*length = (unsigned char)entry[0];
	*base64 = entry[1] != 0;
	memcpy(key, entry + ENTRY_HEAD, *length);
	piece->start += *length + ENTRY_HEAD;
	assert(*length > 0 && piece->start <= piece->end);
	keys->count--;
	if (piece->start == piece->end)
		drop_first(keys);
	return true;
}

size_t
keys_count(const struct keys *keys)
{
	return keys->count;
}
