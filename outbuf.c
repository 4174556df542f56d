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
#include <string.h>
#include <sys/uio.h>

#include "block.h"
#include "hot_assert.h"
#include "pool.h"

static struct pool segments = POOL(struct outbuf_segment);

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
	struct outbuf_segment *segment;

	hot_assert(block->references > 0);
	hot_assert(out->last == NULL || out->last->length > 0);
	segment = pool_take(&segments);
	if (segment == NULL)
		return NULL;
	segment->block = block;
	segment->bytes = block->bytes;
	segment->length = 0;
	segment->room = 0;
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
	pool_give(&segments, segment);
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
static bool
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
	segment->room = block->size - n;
	out->queued += n;
	return true;
}

bool
outbuf_write(struct outbuf *out, const char *bytes, size_t n)
{
	assert(n > 0);
	return outbuf_append(out, bytes, n) || write_apart(out, bytes, n);
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
	segment->bytes = block->bytes + (bytes - block->bytes);
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
	segment->room += n;
	out->queued -= n;
	hot_assert(out->queued > out->sent);
	return true;
}

bool
outbuf_is_empty(const struct outbuf *out)
{
	hot_assert((out->last == NULL) == (out->queued == out->sent));
	return out->last == NULL;
}

unsigned int
outbuf_peek(const struct outbuf *out, struct iovec *vector, unsigned int max)
{
	const struct outbuf_segment *segment;
	unsigned int n = 0;

	assert(max > 0);
	STAILQ_FOREACH(segment, &out->segments, entry) {
		if (n == max)
			break;
		hot_assert(segment->length > 0);
		vector[n].iov_base = segment->bytes;
		vector[n++].iov_len = segment->length;
	}
	return n;
}

void
outbuf_copy(const struct outbuf *out, char *bytes)
{
	const struct outbuf_segment *segment;

	STAILQ_FOREACH(segment, &out->segments, entry) {
		memcpy(bytes, segment->bytes, segment->length);
		bytes += segment->length;
	}
}

void
outbuf_drop(struct outbuf *out, size_t n)
{
	struct outbuf_segment *segment;

	out->sent += n;
	hot_assert(out->sent <= out->queued);
	while ((segment = STAILQ_FIRST(&out->segments)) != NULL) {
		if (n < segment->length) {
			segment->bytes += n;
			segment->length -= n;
			return;
		}
		n -= segment->length;
		drop_segment(out);
	}
	assert(n == 0);
}
