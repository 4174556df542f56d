/*
 * Counted pieces of memory.
 *
 * Invariant: a block is in the pool exactly when it has no references; the
 * pool holds blocks of the small size only; total is the sum of the sizes of
 * all others, and of what others have counted.
 */

#include "block.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hot_assert.h"

enum { POOL_MAX = 2048 }; /* most blocks in the pool */

static_assert(BLOCK_REFERENCE_MIN <= BLOCK_SMALL,
    "what is copied fits in a block of the pool");

static struct block *pool; /* owned; linked by next */
static size_t pooled;      /* blocks in the pool */
static size_t total;       /* bytes, as block_total() says */
static uint64_t made;      /* bytes, as block_made() says */

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

struct block *
block_fit(size_t size)
{
	struct block *block;

	assert(size > 0);
	if (size == BLOCK_SMALL && pool != NULL)
		block = take_pooled();
	else
		block = make(size);
	if (block == NULL)
		return NULL;
	block->size = size;
	block->references = 1;
	block->next = NULL;
	total += size;
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

struct block *
block_grow(struct block *block, size_t size)
{
	struct block *grown;

	assert(block->references == 1);
	if (size <= block->size)
		return block;
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
	if (block->size != BLOCK_SMALL || pooled == POOL_MAX) {
		free(block);
		return;
	}
	block->next = pool;
	pool = block;
	pooled++;
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

void
block_pool_trim(size_t keep)
{
	while (pooled > keep / BLOCK_SMALL)
		free(take_pooled());
}

void
block_pool_free(void)
{
	block_pool_trim(0);
	assert(pooled == 0 && pool == NULL);
}
