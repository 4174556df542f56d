#ifndef BLOCK_H
#define BLOCK_H

/*
 * Counted pieces of memory: bytes that several owners refer to without a copy.
 * Pieces of the small size come from a pool, so that a small request does
 * without malloc() once the pool is filled; large ones are kept for a second.
 */

#include <stddef.h>
#include <stdint.h>

enum {
	BLOCK_SMALL = 4000, /* bytes in a block of the pool */
	/* From this size on, bytes are cheaper to refer to than to copy. */
	BLOCK_REFERENCE_MIN = 2048,
};

struct block {
	size_t size;             /* bytes in bytes[] */
	unsigned int references; /* 0: in the pool */
	struct block *next;      /* the next one in the pool */
	char bytes[];
};

/* Make a block with one reference and room for at least size bytes.  Returns
   NULL when out of memory. */
struct block *block_new(size_t size);

/* As block_new(), but with room for not much more, size > 0: for what may be
   kept for long. */
struct block *block_fit(size_t size);

/* As block_new(), with a copy of n bytes in it. */
struct block *block_copy(const char *bytes, size_t n);

/*
 * Make room for size bytes in a block that has one reference.  Returns the
 * block, which may have moved, or NULL when out of memory; then block is as it
 * was.
 */
struct block *block_grow(struct block *block, size_t size);

/* Add a reference.  Returns block. */
struct block *block_reference(struct block *block);

/* Take a reference away; the last one frees the block.  block may be NULL. */
void block_release(struct block *block);

/* The sum of the sizes of all blocks that have references, and of what was
   counted by block_count(), in bytes. */
size_t block_total(void);

/* Count n bytes that are held elsewhere, or, if n < 0, are so no longer. */
void block_count(ptrdiff_t n);

/* How many bytes were taken from the system since the start. */
uint64_t block_made(void);

/* The sum of the sizes of the blocks that are kept for later use, in bytes. */
size_t block_spare(void);

/* To be called once a second: free half of the small blocks that are kept, and
   the large ones that were not used for a second. */
void block_relax(void);

/* Free all that is kept for later use. */
void block_free_spare(void);

#endif
