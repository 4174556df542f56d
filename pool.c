/*
 * Pieces of memory of one size.
 *
 * Invariant: each pool that has pieces is on the list of pools.  The bytes of
 * all pieces are counted in block_total(), or apart.
 *
 * free() leaves memory with malloc(), and much of it with the process, because
 * pages between pieces that live on are not given back.  malloc_trim() does
 * that, but it takes long, and what is needed again soon has to be fetched
 * again.  So it is called only when the process has become larger than what it
 * holds, compared with the last time, and when less memory than half of that
 * was asked for within the last second.
 *
 * A spare piece lies anywhere, and its page with it.  So half of them are freed
 * each second: what is busy makes some anew, which costs it little, and what
 * rests keeps none.
 */

#include "pool.h"

#include <assert.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block.h"

enum {
	/* Most bytes of spare pieces that each pool keeps. */
	KEEP = 256 << 10,
	/* Bytes that malloc() may keep while the process is busy: while it asks
	   for so many in a second; and while it rests. */
	BUSY = 64 << 10,
	KEEP_BUSY = 2 << 20,
	KEEP_RESTING = 128 << 10,
};

static struct pool *pools; /* the list, linked by next */
static size_t apart;       /* bytes of pieces that are counted apart */
static size_t least_excess = SIZE_MAX; /* the least that was seen, bytes */
static uint64_t made_before;           /* block_made() a second ago */

static void
count(const struct pool *pool, ptrdiff_t bytes)
{
	if (pool->is_apart)
		apart += (size_t)bytes;
	else
		block_count(bytes);
}

void *
pool_make(struct pool *pool)
{
	void *piece = malloc(pool->size);

	assert(pool->size >= sizeof(struct pool_piece));
	if (piece == NULL)
		return NULL;
	if (pool->pieces++ == 0) {
		pool->next = pools;
		pools = pool;
	}
	count(pool, (ptrdiff_t)pool->size);
	return piece;
}

/* Free the spare pieces but the first n. */
static void
free_spare(struct pool *pool, size_t n)
{
	struct pool_piece **at = &pool->spare, *piece;

	for (; n > 0 && *at != NULL; n--)
		at = &(*at)->next;
	while ((piece = *at) != NULL) {
		assert(pool->pieces > 0);
		*at = piece->next;
		free(piece);
		pool->pieces--;
		count(pool, -(ptrdiff_t)pool->size);
	}
}

static size_t
count_spare(const struct pool *pool)
{
	const struct pool_piece *piece;
	size_t n = 0;

	for (piece = pool->spare; piece != NULL; piece = piece->next)
		n++;
	return n;
}

/* Free the spare pieces of all pools but the first ones of each: as many as one
   of part, and no more bytes than keep. */
static void
trim_to(size_t keep, size_t part)
{
	struct pool **next = &pools;
	struct pool *pool;
	size_t most, some;

	while ((pool = *next) != NULL) {
		most = keep / pool->size;
		some = count_spare(pool) / part;
		free_spare(pool, some < most ? some : most);
		if (pool->pieces == 0)
			*next = pool->next;
		else
			next = &pool->next;
	}
}

void
pool_trim(size_t keep)
{
	trim_to(keep, 1);
}

size_t
pool_in_use(const struct pool *pool)
{
	return pool->pieces - count_spare(pool);
}

/* Bytes of the process that are in memory; 0: not known. */
static size_t
resident(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (statm == NULL)
		return 0;
	if (fscanf(statm, "%*u %lu", &pages) != 1)
		pages = 0;
	fclose(statm);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Bytes of the process beyond those that are counted, or kept for later. */
static size_t
excess(void)
{
	size_t bytes = resident();
	size_t held = block_total() + block_spare() + apart;

	return bytes > held ? bytes - held : 0;
}

/* Whether so many bytes that are free are not needed again at once. */
static bool
are_left(size_t bytes)
{
	uint64_t made = block_made();
	uint64_t lately = made - made_before;

	made_before = made;
	return lately < bytes / 2 &&
	    bytes >= (lately < BUSY ? KEEP_RESTING : KEEP_BUSY);
}

void
pool_relax(void)
{
	size_t now;

	trim_to(KEEP, 2);
	block_relax();
	now = excess();
	if (now == 0)
		return;
	if (now < least_excess)
		least_excess = now;
	if (!are_left(now - least_excess))
		return;
	malloc_trim(0);
	least_excess = excess();
}
