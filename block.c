/*
 * Counted pieces of memory.
 *
 * Invariant: a block without references is in the pool, if it has the small
 * size, or on the list of spare blocks, if it is large; total is the sum of the
 * sizes of all others, and of what others have counted.
 *
 * The spare blocks are the large ones that were released last.  One that is
 * released and taken again has its pages still; one that malloc() makes anew
 * gets each of them from the system, at the price of a page fault.
 */

#include "block.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hot_assert.h"

enum {
	POOL_MAX = 2048,      /* most blocks in the pool */
	POOL_KEEP = 256,      /* most that block_relax() leaves there */
	LARGE_MIN = 32 << 10, /* bytes of a large block, which may be spare */
	LARGE_MAX = 2 << 20,
	SPARE_MAX = 32,        /* most large blocks that are spare */
	SPARE_BYTES = 8 << 20, /* most bytes of all of them */
	SPARE_PART = 4,        /* one is larger by this part, at most */
};

static_assert(BLOCK_REFERENCE_MIN <= BLOCK_SMALL,
    "what is copied fits in a block of the pool");

static struct block *pool; /* owned; linked by next */
static size_t pooled;      /* blocks in the pool */
static size_t total;       /* bytes, as block_total() says */
static uint64_t made;      /* bytes, as block_made() says */

/* Large blocks without references, the one that was released last first. */
static struct {
	struct block *first; /* owned; linked by next */
	size_t count, bytes;
	size_t unused; /* the least count since block_relax() */
} spare;

static struct block *
take_pooled(void)
{
	struct block *block = pool;

	assert(pooled > 0 && block->references == 0);
	hot_assert(block->size == BLOCK_SMALL);
	pool = block->next;
	pooled--;
	return block;
}

static struct block *
make(size_t size)
{
	made += size;
	return malloc(sizeof(struct block) + size);
}

/* Take the block at *at from the list of spare ones. */
static struct block *
unlink_spare(struct block **at)
{
	struct block *block = *at;

	assert(block->references == 0 && block->size >= LARGE_MIN);
	assert(spare.count > 0 && spare.bytes >= block->size);
	*at = block->next;
	spare.count--;
	spare.bytes -= block->size;
	if (spare.count < spare.unused)
		spare.unused = spare.count;
	return block;
}

/* Take a spare block for size bytes.  Returns NULL if there is none. */
static struct block *
take_spare(size_t size)
{
	struct block **at;

	for (at = &spare.first; *at != NULL; at = &(*at)->next)
		if ((*at)->size >= size &&
		    (*at)->size - size <= size / SPARE_PART)
			return unlink_spare(at);
	return NULL;
}

/* Free the spare blocks behind the first n. */
static void
free_spare_blocks(size_t n)
{
	struct block **at = &spare.first;

	for (; n > 0 && *at != NULL; n--)
		at = &(*at)->next;
	while (*at != NULL)
		free(unlink_spare(at));
}

/* Make the large block, which has no references any more, a spare one, in
   place of those that were released first. */
static void
keep_spare(struct block *block)
{
	block->next = spare.first;
	spare.first = block;
	spare.count++;
	spare.bytes += block->size;
	while (spare.count > SPARE_MAX || spare.bytes > SPARE_BYTES)
		free_spare_blocks(spare.count - 1);
}

/* A new block, of which the size is set. */
static struct block *
get(size_t size)
{
	struct block *block = NULL;

	if (size == BLOCK_SMALL && pool != NULL)
		return take_pooled();
	if (size >= LARGE_MIN)
		block = take_spare(size);
	if (block == NULL) {
		block = make(size);
		if (block != NULL)
			block->size = size;
	}
	return block;
}

struct block *
block_fit(size_t size)
{
	struct block *block;

	assert(size > 0);
	block = get(size);
	if (block == NULL)
		return NULL;
	block->references = 1;
	block->next = NULL;
	total += block->size;
	return block;
}

struct block *
block_new(size_t size)
{
	return block_fit(size < BLOCK_SMALL ? BLOCK_SMALL : size);
}

struct block *
block_copy(const char *bytes, size_t n)
{
	struct block *block = block_new(n);

	if (block != NULL)
		memcpy(block->bytes, bytes, n);
	return block;
}

/* Put the few bytes of block to a large one. */
static struct block *
move(struct block *block, size_t size)
{
	struct block *grown = block_fit(size);

	if (grown == NULL)
		return NULL;
	memcpy(grown->bytes, block->bytes, block->size);
	block_release(block);
	return grown;
}

struct block *
block_grow(struct block *block, size_t size)
{
	struct block *grown;

	assert(block->references == 1);
	if (size <= block->size)
		return block;
	if (block->size < LARGE_MIN && size >= LARGE_MIN)
		return move(block, size);
	assert(total >= block->size);
	grown = realloc(block, sizeof(*block) + size);
	if (grown == NULL)
		return NULL;
	total += size - grown->size;
	made += size - grown->size;
	grown->size = size;
	return grown;
}

struct block *
block_reference(struct block *block)
{
	assert(block->references > 0);
	block->references++;
	return block;
}

void
block_release(struct block *block)
{
	if (block == NULL)
		return;
	assert(block->references > 0);
	if (--block->references > 0)
		return;
	assert(total >= block->size);
	total -= block->size;
	if (block->size == BLOCK_SMALL && pooled < POOL_MAX) {
		block->next = pool;
		pool = block;
		pooled++;
	} else if (block->size >= LARGE_MIN && block->size <= LARGE_MAX) {
		keep_spare(block);
	} else {
		free(block);
	}
}

size_t
block_total(void)
{
	return total;
}

void
block_count(ptrdiff_t n)
{
	assert(n > 0 || total >= (size_t)-n);
	total += (size_t)n;
	if (n > 0)
		made += (uint64_t)n;
}

uint64_t
block_made(void)
{
	return made;
}

/* Free the blocks of the pool but the first n. */
static void
trim_pool(size_t n)
{
	while (pooled > n)
		free(take_pooled());
}

void
block_relax(void)
{
	trim_pool(pooled / 2 < POOL_KEEP ? pooled / 2 : POOL_KEEP);
	assert(spare.unused <= spare.count);
	free_spare_blocks(spare.count - spare.unused);
	spare.unused = spare.count;
}

size_t
block_spare(void)
{
	return spare.bytes + pooled * BLOCK_SMALL;
}

void
block_free_spare(void)
{
	trim_pool(0);
	free_spare_blocks(0);
	assert(pooled == 0 && pool == NULL && spare.bytes == 0);
}
