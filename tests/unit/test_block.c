/* Blocks: room, references, the pool, and what is counted of them. */

#include <malloc.h>
#include <stdint.h>

#include "block.h"
#include "unit.h"

enum { LARGE = 1 << 20, MANY = 3000 };

/* More than malloc() gives on any system. */
static volatile size_t impossible = PTRDIFF_MAX;

const char *__asan_default_options(void);

/* Let malloc() fail as it does without a sanitizer. */
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void
test_new_block_of_any_size_is_writable_and_counted(void)
{
	static const size_t sizes[] = {
		0,
		1,
		BLOCK_SMALL - 1,
		BLOCK_SMALL,
		BLOCK_SMALL + 1,
		5000,
		64 << 10,
		LARGE,
	};
	struct block *block;
	size_t i, most;

	for (i = 0; i < COUNT(sizes); i++) {
		most = sizes[i] < BLOCK_SMALL ? BLOCK_SMALL : sizes[i] + 64;
		block = block_new(sizes[i]);
		unit_need(block != NULL, "block_new");
		check_case(block->size >= sizes[i] && block->size <= most,
		    "%zu bytes for %zu", block->size, sizes[i]);
		check(block->references == 1);
		check(block_total() == block->size);
		/* All of it is there: a sanitizer would see a fault. */
		memset(block->bytes, 0xa5, block->size);
		block_release(block);
		check(block_total() == 0);
	}
}

static void
test_copied_block_holds_the_bytes(void)
{
	static char bytes[LARGE];
	static const size_t sizes[] = { 0, 1, 7, BLOCK_SMALL, LARGE };
	struct block *block;
	size_t i;

	for (i = 0; i < LARGE; i++)
		bytes[i] = (char)(i * 31 + i / 251);
	for (i = 0; i < COUNT(sizes); i++) {
		block = block_copy(bytes, sizes[i]);
		unit_need(block != NULL, "block_copy");
		check(block->size >= sizes[i] && block->references == 1);
		check_case(memcmp(block->bytes, bytes, sizes[i]) == 0,
		    "copy of %zu bytes", sizes[i]);
		block_release(block);
	}
}

/* It is freed with the last reference, and not before. */
static void
test_block_is_freed_with_its_last_reference(void)
{
	struct block *block = block_copy("value", 6);
	struct block *other = block_new(1);
	unsigned int i;

	unit_need(block != NULL && other != NULL, "block_new");
	for (i = 0; i < 5; i++)
		check(block_reference(block) == block);
	check(block->references == 6 && other->references == 1);
	check(block_total() == block->size + other->size);
	for (i = 5; i > 0; i--) {
		block_release(block);
		check(block->references == i);
		check(strcmp(block->bytes, "value") == 0);
		check(block_total() == block->size + other->size);
	}
	block_release(block);
	check(block_total() == other->size);
	block_release(other);
	block_release(NULL);
	check(block_total() == 0);
}

static void
test_grown_block_keeps_its_bytes(void)
{
	struct block *block = block_copy("abc", 3), *same;
	size_t size, n;

	unit_need(block != NULL, "block_copy");
	same = block_grow(block, 1);
	check(same == block);
	same = block_grow(block, block->size);
	check(same == block);
	for (n = 3, size = block->size + 1; size < LARGE; size *= 3) {
		block = block_grow(block, size);
		unit_need(block != NULL, "block_grow");
		check(block->size >= size && block->references == 1);
		check(block_total() == block->size);
		check_case(n == 3 ?
			memcmp(block->bytes, "abc", 3) == 0 :
			block->bytes[0] == 'x' && block->bytes[n - 1] == 'x',
		    "grown to %zu bytes", size);
		n = block->size;
		memset(block->bytes, 'x', n);
	}
	block_release(block);
	check(block_total() == 0);
}

/* Without memory nothing changes. */
static void
test_block_calls_without_memory_change_nothing(void)
{
	struct block *block = block_copy("abc", 4);
	size_t size;

	unit_need(block != NULL, "block_copy");
	size = block->size;
	check(block_new(impossible) == NULL);
	check(block_copy("", impossible) == NULL);
	check(block_grow(block, impossible) == NULL);
	check(block->size == size && block->references == 1);
	check(strcmp(block->bytes, "abc") == 0);
	check(block_total() == size);
	block_release(block);
	check(block_total() == 0);
}

static bool
is_among(struct block *const *blocks, size_t n, const struct block *block)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (blocks[i] == block)
			return true;
	return false;
}

/* Small blocks that were released are used again, and do not count; no block
   is given out twice. */
static void
test_released_small_blocks_are_reused_and_not_counted(void)
{
	struct block *first[8], *second[8], *large;
	size_t i;

	block_free_spare();
	for (i = 0; i < 8; i++)
		first[i] = block_new(i * 500);
	for (i = 0; i < 8; i++)
		block_release(first[i]);
	check(block_total() == 0);
	large = block_new(BLOCK_SMALL + 1);
	check(!is_among(first, 8, large));
	for (i = 0; i < 8; i++) {
		second[i] = block_new(BLOCK_SMALL - i);
		check(is_among(first, 8, second[i]));
		check(!is_among(second, i, second[i]));
		check(second[i]->references == 1);
		check(second[i]->size >= BLOCK_SMALL - i);
	}
	for (i = 0; i < 8; i++)
		block_release(second[i]);
	block_release(large);
	check(block_total() == 0);
}

/* A block that has left the small size does not come back as a small one. */
static void
test_block_grown_to_large_does_not_return_as_small_one(void)
{
	struct block *block = block_new(1);

	unit_need(block != NULL, "block_new");
	block = block_grow(block, LARGE);
	unit_need(block != NULL, "block_grow");
	block_release(block);
	block = block_new(1);
	unit_need(block != NULL, "block_new");
	check(block->size < LARGE && block_total() == block->size);
	check(malloc_usable_size(block) < LARGE);
	memset(block->bytes, 0xa5, block->size);
	block_release(block);
}

/* More than the pool takes: a sanitizer would see a leak. */
static void
test_pool_given_more_than_it_takes_frees_the_others(void)
{
	static struct block *blocks[MANY];
	size_t i, total = 0;

	for (i = 0; i < MANY; i++) {
		blocks[i] = block_new(1);
		unit_need(blocks[i] != NULL, "block_new");
		total += blocks[i]->size;
	}
	check(block_total() == total);
	for (i = 0; i < MANY; i++)
		block_release(blocks[i]);
	check(block_total() == 0);
	block_free_spare();
	block_free_spare();
	blocks[0] = block_new(1);
	check(blocks[0] != NULL && blocks[0]->references == 1);
	block_release(blocks[0]);
	block_free_spare();
}

/* What is released is given out again for as much, or a little less. */
static void
test_large_block_that_was_released_is_used_again(void)
{
	struct block *block = block_new(LARGE), *other;
	uint64_t made;

	unit_need(block != NULL, "block_new");
	block_release(block);
	check(block_total() == 0 && block_spare() == LARGE);
	made = block_made();
	other = block_fit(LARGE - LARGE / 8);
	check(other == block && other->size == LARGE);
	check(block_made() == made && block_spare() == 0);
	check(block_total() == LARGE && block->references == 1);
	/* Not for much less, and not for more. */
	block_release(block);
	other = block_new(LARGE / 2);
	check(other != block && other->size == LARGE / 2);
	block_release(other);
	other = block_new(LARGE + 1);
	check(other != block && other->size == LARGE + 1);
	block_release(other);
	/* A small one that becomes large takes it as well. */
	other = block_copy("abc", 4);
	unit_need(other != NULL, "block_copy");
	other = block_grow(other, LARGE);
	check(other->size >= LARGE && strcmp(other->bytes, "abc") == 0);
	block_release(other);
	check(block_made() - made == LARGE / 2 + LARGE + 1 + BLOCK_SMALL);
	block_free_spare();
	check(block_total() == 0 && block_spare() == 0);
}

/* However much is released, little is kept, and that which is not used for a
   second is not kept any longer. */
static void
test_spare_blocks_are_bounded_and_freed_when_unused(void)
{
	static struct block *blocks[MANY];
	size_t size, i;

	block_free_spare();
	block_relax();
	for (size = 32 << 10; size <= LARGE; size *= 2) {
		for (i = 0; i < MANY / 10; i++) {
			blocks[i] = block_new(size);
			unit_need(blocks[i] != NULL, "block_new");
		}
		for (i = 0; i < MANY / 10; i++)
			block_release(blocks[i]);
		check(block_spare() >= size);
		check_case(block_spare() <= 8 << 20, "%zu bytes",
		    block_spare());
	}
	/* The first second ends in which they were made. */
	block_relax();
	check(block_spare() > 0);
	/* One is used, again and again. */
	for (i = 0; i < 100; i++)
		block_release(block_new(LARGE));
	block_relax();
	check_case(block_spare() == LARGE, "%zu bytes", block_spare());
	block_relax();
	check(block_spare() == 0);
}

int
main(void)
{
	RUN(test_new_block_of_any_size_is_writable_and_counted);
	RUN(test_copied_block_holds_the_bytes);
	RUN(test_block_is_freed_with_its_last_reference);
	RUN(test_grown_block_keeps_its_bytes);
	RUN(test_block_calls_without_memory_change_nothing);
	RUN(test_released_small_blocks_are_reused_and_not_counted);
	RUN(test_block_grown_to_large_does_not_return_as_small_one);
	RUN(test_pool_given_more_than_it_takes_frees_the_others);
	RUN(test_large_block_that_was_released_is_used_again);
	RUN(test_spare_blocks_are_bounded_and_freed_when_unused);
	return unit_end();
}
