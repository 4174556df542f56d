/*
 * Memory apart from that of malloc(), for what libevent allocates.
 *
 *	[ size | bytes ... ][ size | bytes ... ] ... unused ]     a chunk
 *
 * Invariant: each piece is behind its size.  A small piece is in a chunk, which
 * is never freed, and is in use or on the list of spare ones of its size.  A
 * large one is from malloc().
 */

#include "lasting.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

enum {
	/* The size of a piece is a multiple of this. */
	STEP = 16,
	/* Bytes of the largest piece that is small. */
	SMALL_MAX = 512,
	/* Bytes of a chunk. */
	CHUNK = 64 << 10,
};

struct piece {
	_Alignas(max_align_t) size_t size; /* of bytes[] */
	_Alignas(max_align_t) char bytes[];
};

static_assert(sizeof(struct piece) % STEP == 0, "pieces are aligned");

static char *unused;                      /* the rest of the last chunk */
static size_t unused_size;                /* bytes */
static void *spare[SMALL_MAX / STEP + 1]; /* each begins with the next one */

static struct piece *
piece_of(void *bytes)
{
	return (struct piece *)(void *)((char *)bytes -
	    offsetof(struct piece, bytes));
}

/* Cut a piece from a chunk. */
static struct piece *
cut_piece(size_t size)
{
	size_t whole = sizeof(struct piece) + size;
	struct piece *piece;

	if (unused_size < whole) {
		unused = malloc(CHUNK);
		unused_size = unused == NULL ? 0 : CHUNK;
		if (unused == NULL)
			return NULL;
	}
	piece = (struct piece *)(void *)unused;
	unused += whole;
	unused_size -= whole;
	return piece;
}

static void *
lasting_malloc(size_t size)
{
	struct piece *piece;
	void **first;

	if (size > SMALL_MAX) {
		piece = malloc(sizeof(*piece) + size);
	} else {
		size = size == 0 ? STEP : (size + STEP - 1) / STEP * STEP;
		first = spare[size / STEP];
		if (first != NULL) {
			spare[size / STEP] = *first;
			return first;
		}
		piece = cut_piece(size);
	}
	if (piece == NULL)
		return NULL;
	piece->size = size;
	return piece->bytes;
}

static void
lasting_free(void *bytes)
{
	struct piece *piece;

	if (bytes == NULL)
		return;
	piece = piece_of(bytes);
	if (piece->size > SMALL_MAX) {
		free(piece);
		return;
	}
	assert(piece->size > 0 && piece->size % STEP == 0);
	*(void **)bytes = spare[piece->size / STEP];
	spare[piece->size / STEP] = bytes;
}

static void *
lasting_realloc(void *bytes, size_t size)
{
	size_t had = bytes == NULL ? 0 : piece_of(bytes)->size;
	void *grown;

	if (size > 0 && size <= had)
		return bytes;
	grown = size == 0 ? NULL : lasting_malloc(size);
	if (grown == NULL && size > 0)
		return NULL;
	if (grown != NULL && had > 0)
		memcpy(grown, bytes, had);
	lasting_free(bytes);
	return grown;
}

void
lasting_install(void)
{
	event_set_mem_functions(lasting_malloc, lasting_realloc, lasting_free);
}
