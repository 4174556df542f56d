/* Pools: pieces are used again, counted, and given back. */

#include "block.h"
#include "pool.h"
#include "unit.h"

enum { MANY = 1000 };

struct small {
	char bytes[100];
};

struct large {
	char bytes[5000];
};

static struct pool smalls = POOL(struct small);
static struct pool larges = POOL(struct large);

static void *
take(struct pool *pool)
{
	void *piece = pool_take(pool);

	unit_need(piece != NULL, "pool_take");
	memset(piece, 0xa5, pool->size);
	return piece;
}

static void
test_pieces_are_used_again_and_counted_until_they_are_freed(void)
{
	void *one = take(&smalls), *other = take(&smalls);
	uint64_t made = block_made();

	check(block_total() == 2 * sizeof(struct small));
	pool_give(&smalls, one);
	check(block_total() == 2 * sizeof(struct small));
	check(take(&smalls) == one);
	check(block_made() == made);
	pool_give(&smalls, one);
	pool_trim(0);
	check(block_total() == sizeof(struct small));
	check(smalls.pieces == 1 && smalls.spare == NULL);
	pool_give(&smalls, other);
	pool_trim(0);
	check(block_total() == 0 && smalls.pieces == 0);
}

static void
test_trim_keeps_as_many_bytes_of_each_pool(void)
{
	void *pieces[MANY];
	size_t i;

	for (i = 0; i < MANY; i++)
		pieces[i] = take(i % 2 ? &smalls : &larges);
	for (i = 0; i < MANY; i++)
		pool_give(i % 2 ? &smalls : &larges, pieces[i]);
	pool_trim(20 * sizeof(struct large));
	check(larges.pieces == 20 && smalls.pieces == MANY / 2);
	pool_trim(sizeof(struct large) - 1);
	check(larges.pieces == 0 && smalls.pieces == 49);
	/* A pool that has been empty is counted again. */
	pieces[0] = take(&larges);
	pool_give(&larges, pieces[0]);
	pool_trim(0);
	pool_trim(0);
	check(block_total() == 0 && larges.pieces == 0 && smalls.pieces == 0);
}

static void
test_relax_leaves_little_of_pools_and_blocks(void)
{
	static void *pieces[MANY];
	static struct block *blocks[MANY];
	size_t i;

	for (i = 0; i < MANY; i++) {
		pieces[i] = take(&larges);
		blocks[i] = block_new(0);
		unit_need(blocks[i] != NULL, "block_new");
	}
	pool_relax();
	check(larges.pieces == MANY);
	for (i = 0; i < MANY; i++) {
		pool_give(&larges, pieces[i]);
		block_release(blocks[i]);
	}
	pool_relax();
	check(larges.pieces > 0 && larges.pieces * larges.size <= 256 << 10);
	pool_trim(0);
	check(block_total() == 0);
}

int
main(void)
{
	RUN(test_pieces_are_used_again_and_counted_until_they_are_freed);
	RUN(test_trim_keeps_as_many_bytes_of_each_pool);
	RUN(test_relax_leaves_little_of_pools_and_blocks);
	block_free_spare();
	return unit_end();
}
