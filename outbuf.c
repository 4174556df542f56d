/*
 * A queue of output bytes.
 *
 *   outbuf_write() -> [ last | ... | first ] -> outbuf_peek(), outbuf_drop()
 *
 * Invariant: no segment is empty, only the last one takes more bytes, and
 * queued - sent is the sum of their lengths.
 */

#include "outbuf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "block.h"

struct outbuf_segment {
	STAILQ_ENTRY(outbuf_segment) entry;
	struct block *block; /* the segment has a reference */
	size_t at;           /* offset in the block of the first byte */
	size_t length;       /* bytes, at least 1 */
	bool is_ours;        /* nobody else has a reference to the block */
};

static STAILQ_HEAD(,
    outbuf_segment) spare_segments = STAILQ_HEAD_INITIALIZER(spare_segments);

void
outbuf_init(struct outbuf *out)
{
	STAILQ_INIT(&out->segments);
	out->last = NULL;
	out->queued = out->sent = 0;
}

/* Append a segment for block; its reference comes from the caller, as do at,
   length and is_ours.  Returns NULL when out of memory. */
static struct outbuf_segment *
append_segment(struct outbuf *out, struct block *block)
{
	struct outbuf_segment *segment = STAILQ_FIRST(&spare_segments);

	assert(block->references > 0);
	assert(out->last == NULL || out->last->length > 0);
	if (segment != NULL)
		STAILQ_REMOVE_HEAD(&spare_segments, entry);
	else
		segment = malloc(sizeof(*segment));
	if (segment == NULL)
		return NULL;
	segment->block = block;
	segment->at = 0;
	segment->length = 0;
	segment->is_ours = false;
	STAILQ_INSERT_TAIL(&out->segments, segment, entry);
	out->last = segment;
	return segment;
}

static void
drop_segment(struct outbuf *out)
{
	struct outbuf_segment *segment = STAILQ_FIRST(&out->segments);

	assert(segment != NULL);
	STAILQ_REMOVE_HEAD(&out->segments, entry);
	if (STAILQ_EMPTY(&out->segments))
		out->last = NULL;
	block_release(segment->block);
	STAILQ_INSERT_HEAD(&spare_segments, segment, entry);
}

void
outbuf_clear(struct outbuf *out)
{
	while (!STAILQ_EMPTY(&out->segments))
		drop_segment(out);
	assert(out->last == NULL && out->queued >= out->sent);
	out->queued = out->sent;
}

/* Queue bytes in a new segment: they do not fit in the last one. */
static __attribute__((noinline)) bool
write_apart(struct outbuf *out, const char *bytes, size_t n)
{
	struct block *block = block_copy(bytes, n);
	struct outbuf_segment *segment;

	if (block == NULL)
		return false;
	segment = append_segment(out, block);
	if (segment == NULL) {
		block_release(block);
		return false;
	}
	segment->is_ours = true;
	segment->length = n;
	out->queued += n;
	return true;
}

bool
outbuf_write(struct outbuf *out, const char *bytes, size_t n)
{
	struct outbuf_segment *segment = out->last;

	assert(n > 0);
	if (segment == NULL || !segment->is_ours ||
	    n > segment->block->size - segment->at - segment->length)
		return write_apart(out, bytes, n);
	assert(segment->block->references == 1);
	memcpy(segment->block->bytes + segment->at + segment->length, bytes, n);
	segment->length += n;
	out->queued += n;
	return true;
}

bool
outbuf_write_block(struct outbuf *out, struct block *block, const char *bytes,
    size_t n)
{
	struct outbuf_segment *segment;

	assert(bytes >= block->bytes &&
	    bytes + n <= block->bytes + block->size);
	if (n < BLOCK_REFERENCE_MIN)
		return outbuf_write(out, bytes, n);
	segment = append_segment(out, block);
	if (segment == NULL)
		return false;
	block_reference(block);
	segment->at = (size_t)(bytes - block->bytes);
	segment->length = n;
	out->queued += n;
	return true;
}

bool
outbuf_unwrite(struct outbuf *out, size_t n)
{
	struct outbuf_segment *segment = out->last;

	assert(n > 0);
	if (segment == NULL || !segment->is_ours || segment->length <= n)
		return false;
	segment->length -= n;
	out->queued -= n;
	assert(out->queued > out->sent);
	return true;
}

bool
outbuf_is_empty(const struct outbuf *out)
{
	return out->last == NULL;
}

unsigned int
outbuf_peek(const struct outbuf *out, struct iovec *vector, unsigned int max)
{
	const struct outbuf_segment *segment;
	unsigned int n = 0;

	assert(max > 0);
	STAILQ_FOREACH(segment, &out->segments, entry)
	{
		if (n == max)
			break;
		assert(segment->length > 0);
		vector[n].iov_base = segment->block->bytes + segment->at;
		vector[n++].iov_len = segment->length;
	}
	return n;
}

void
outbuf_drop(struct outbuf *out, size_t n)
{
	struct outbuf_segment *segment;

	out->sent += n;
	assert(out->sent <= out->queued);
	while ((segment = STAILQ_FIRST(&out->segments)) != NULL) {
		if (n < segment->length) {
			segment->at += n;
			segment->length -= n;
			return;
		}
		n -= segment->length;
		drop_segment(out);
	}
	assert(n == 0 && out->queued == out->sent);
}

void
outbuf_pool_free(void)
{
	struct outbuf_segment *segment;

	while ((segment = STAILQ_FIRST(&spare_segments)) != NULL) {
		STAILQ_REMOVE_HEAD(&spare_segments, entry);
		free(segment);
	}
}
