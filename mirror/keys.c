/*
 * A long queue of keys in little memory.
 *
 * Invariant: a piece holds whole entries, of a length, a byte that tells
 * base64, and the key; only the last piece is written, only the first is read.
 */

#include "mirror/keys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum { PIECE = 64 << 10 };

struct piece {
	STAILQ_ENTRY(piece) entry;
	size_t start, end;
	char bytes[PIECE];
};

struct keys {
	STAILQ_HEAD(, piece) pieces;
	struct piece *last;
	size_t count, piece_count;
};

struct keys *
keys_new(void)
{
	struct keys *keys = calloc(1, sizeof(*keys));

	if (keys != NULL)
		STAILQ_INIT(&keys->pieces);
	return keys;
}

static void
drop_first(struct keys *keys)
{
	struct piece *piece = STAILQ_FIRST(&keys->pieces);

	assert(piece != NULL && keys->piece_count > 0);
	STAILQ_REMOVE_HEAD(&keys->pieces, entry);
	if (STAILQ_EMPTY(&keys->pieces))
		keys->last = NULL;
	keys->piece_count--;
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

	assert(length > 0 && length < 256);
	if (piece == NULL || PIECE - piece->end < length + 2) {
		piece = malloc(sizeof(*piece));
		if (piece == NULL)
			return false;
		piece->start = piece->end = 0;
		STAILQ_INSERT_TAIL(&keys->pieces, piece, entry);
		keys->last = piece;
		keys->piece_count++;
	}
	piece->bytes[piece->end] = (char)length;
	piece->bytes[piece->end + 1] = base64;
	memcpy(piece->bytes + piece->end + 2, key, length);
	piece->end += length + 2;
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
	memcpy(key, entry + 2, *length);
	piece->start += *length + 2;
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

size_t
keys_bytes(const struct keys *keys)
{
	return keys->piece_count * sizeof(struct piece);
}
