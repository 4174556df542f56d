#ifndef OUTBUF_H
#define OUTBUF_H

/*
 * A queue of output bytes.  It is made of segments: each is a copy of bytes
 * that were written, or a reference to bytes of a block.  Knows no socket: the
 * owner drops the bytes that it has sent.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>

struct block;
struct iovec;
/* A run of bytes in one block.  Defined here for outbuf_append() alone. */
struct outbuf_segment {
	STAILQ_ENTRY(outbuf_segment) entry;
	struct block *block; /* a reference of its own */
	char *bytes;         /* the first of length bytes, in the block */
	size_t length;
	size_t room; /* bytes that may be appended; 0 if others use the block */
	bool is_ours; /* the bytes were copied: no one else uses the block */
};

/* Embedded in its owner, which reads the two counters and nothing else. */
struct outbuf {
	STAILQ_HEAD(, outbuf_segment) segments;
	struct outbuf_segment *last; /* NULL: the queue is empty */
	uint64_t queued;             /* bytes queued since outbuf_init() */
	uint64_t sent;               /* bytes dropped since outbuf_init() */
};

/* Make an empty queue.  It needs outbuf_clear() at its end. */
void outbuf_init(struct outbuf *out);

/* Remove all that is queued, and count it as never queued. */
void outbuf_clear(struct outbuf *out);

/* Queue a copy of n bytes behind those that are queued, if they fit there: the
   short way of outbuf_write(), which nearly all output takes. */
static inline bool
outbuf_append(struct outbuf *out, const char *bytes, size_t n)
{
	struct outbuf_segment *segment = out->last;

	if (segment == NULL || n > segment->room)
		return false;
	memcpy(segment->bytes + segment->length, bytes, n);
	segment->length += n;
	segment->room -= n;
	out->queued += n;
	return true;
}

/* Queue a copy of n bytes, n > 0.  Returns false when out of memory; then
   nothing was queued. */
bool outbuf_write(struct outbuf *out, const char *bytes, size_t n);

/* Queue the n bytes at bytes, which lie in block, n > 0.  They are copied if
   they are fewer than BLOCK_REFERENCE_MIN; otherwise the queue takes a
   reference to block of its own.  Returns as outbuf_write(). */
bool outbuf_write_block(struct outbuf *out, struct block *block,
    const char *bytes, size_t n);

/* Take back the last n bytes that were queued.  Returns false, and does
   nothing, if some of them were dropped or were not copied, or if there would
   be nothing left in their segment. */
bool outbuf_unwrite(struct outbuf *out, size_t n);

bool outbuf_is_empty(const struct outbuf *out);

/* Put the first segments of the queue, at most max > 0 of them, into vector[].
   Returns how many it has put there.  They are valid until the queue is
   changed. */
unsigned int outbuf_peek(const struct outbuf *out, struct iovec *vector,
    unsigned int max);

/* Copy all that is queued to bytes, which have room for that. */
void outbuf_copy(const struct outbuf *out, char *bytes);

/* Remove the first n bytes of the queue, which must have as many. */
void outbuf_drop(struct outbuf *out, size_t n);

#endif
