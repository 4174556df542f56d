#ifndef POOL_H
#define POOL_H

/*
 * Pieces of memory of one size, which are kept for later use when they are
 * not needed.  All pieces, spare ones as well, count in block_total(): so no
 * work is needed to count those in use.  Whoever finds that too much is held
 * frees the spare ones.
 */

#include <stdbool.h>
#include <stddef.h>

/* A piece that is spare. */
struct pool_piece {
	struct pool_piece *next;
};

/* Static, with POOL() as its value; it is on the list of all pools from its
   first piece on. */
struct pool {
	/* Bytes of a piece. */
	size_t size;
	/* See POOL_APART(). */
	bool is_apart;
	/* Owned; the one that was given last, first. */
	struct pool_piece *spare;
	/* The next one on the list. */
	struct pool *next;
	/* In use or spare. */
	size_t pieces;
};

/* A pool for pieces of this type. */
#define POOL(type) \
	{ \
		.size = sizeof(type) \
	}

/* The same, but not counted in block_total(): what is limited otherwise. */
#define POOL_APART(type) \
	{ \
		.size = sizeof(type), .is_apart = true \
	}

/* The long way of pool_take(): make a new piece. */
void *pool_make(struct pool *pool);

/* Pieces that are in use; the spare ones are counted for that. */
size_t pool_in_use(const struct pool *pool);

/* Take a piece, whose bytes are not set.  Returns NULL when out of memory. */
static inline void *
pool_take(struct pool *pool)
{
	struct pool_piece *piece = pool->spare;

	if (piece == NULL)
		return pool_make(pool);
	pool->spare = piece->next;
	return piece;
}

/* Give back a piece of this pool. */
static inline void
pool_give(struct pool *pool, void *memory)
{
	struct pool_piece *piece = memory;

	piece->next = pool->spare;
	pool->spare = piece;
}

/* Free the spare pieces of all pools but the first keep bytes of each. */
void pool_trim(size_t keep);

/*
 * To be called once a second: free a part of what the pools, and that of the
 * blocks, keep, and give the system back what malloc() keeps after a busy
 * moment.
 */
void pool_relax(void);

#endif
