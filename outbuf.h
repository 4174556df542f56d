#ifndef OUTBUF_H
#define OUTBUF_H

/*
 * A queue of output bytes, in segments that are copied to it or refer to a
 * block.  Knows no socket: conn.c takes the bytes off when they are sent.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct block;
struct iovec;
struct outbuf_segment;

/* Embedded in its owner, which reads the two counters and nothing else. */
struct outbuf {
	STAILQ_HEAD(, outbuf_segment) segments;
	struct outbuf_segment *last; /* NULL: the queue is empty */
	uint64_t queued;             /* bytes that were ever queued */
	uint64_t sent;               /* bytes of them that were taken off */
};

void outbuf_init(struct outbuf *out);

/* Drop all that is queued, as if it had never been. */
void outbuf_clear(struct outbuf *out);

/* Queue a copy of n bytes, n > 0.  Returns false when out of memory; then
   nothing was queued. */
bool outbuf_write(struct outbuf *out, const char *bytes, size_t n);

/* Queue the n bytes at bytes, which lie in block: they are copied if they are
   few, and referred to if they are many.  Returns as outbuf_write(). */
bool outbuf_write_block(struct outbuf *out, struct block *block,
    const char *bytes, size_t n);

/* Take back the last n bytes that were queued.  Returns false, and does
   nothing, if some of them are sent, or were not copied, or if there would be
   nothing left in their segment. */
bool outbuf_unwrite(struct outbuf *out, size_t n);

bool outbuf_is_empty(const struct outbuf *out);

/* Put the first pieces of the queue, at most max of them, into vector[].
   Returns how many there are. */
unsigned int outbuf_peek(const struct outbuf *out, struct iovec *vector,
    unsigned int max);

/* The first n bytes of the queue have been sent. */
void outbuf_drop(struct outbuf *out, size_t n);

/* Give unused memory back to the system. */
void outbuf_pool_free(void);

#endif
