#ifndef BLOCK_H
#define BLOCK_H

/*
 * Counted pieces of memory: bytes that several owners refer to without a copy.
 * Pieces of the small size come from a pool, so that the path of a small
 * request never calls malloc.
 */

#include <stddef.h>

enum {
	BLOCK_SMALL = 4000, /* bytes in a block of the pool */
	/* So many bytes are cheaper to refer to than to copy. */
	BLOCK_REFERENCE_MIN = 2048,
};

struct block {
	size_t size; /* of bytes[] */
	unsigned int references;
	struct block *next; /* in the pool */
	char bytes[];
};

/* A block with one reference and room for size bytes or a little more.
   Returns NULL when out of memory. */
struct block *block_new(size_t size);

/* As block_new(), with a copy of n bytes in it. */
struct block *block_copy(const char *bytes, size_t n);

/*
 * Make room for size bytes in a block that has one reference.  Returns the
 * block, which may have moved, or NULL when out of memory; then the old one
 * stays as it is.
 */
struct block *block_grow(struct block *block, size_t size);

struct block *block_reference(struct block *block);
void block_release(struct block *block); /* NULL is fine */

/* Bytes in all blocks that are in use: what the memory limit is about. */
size_t block_total(void);

/* Give the pool back to the system. */
void block_pool_free(void);

#endif
