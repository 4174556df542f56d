/*
 * What a client of load sends, and what it is to be answered.
 *
 * Both follow from a seed.  So a stream of requests and one of answers that
 * begin with the same seed belong together, and no list of what was asked is
 * needed to check an answer.
 */

#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kinds of requests in a stream. */
struct mixture {
	unsigned int percent;     /* of the requests that are sets, not gets */
	unsigned int keys_of_get; /* at least 1 */
	bool in_order;            /* sets only, of one key after the other */
};

struct stream {
	const struct mixture
	    *mixture; /* borrowed as long as the stream lives */
	unsigned int seed;
	unsigned int key;  /* the one that this piece is about */
	unsigned int keys; /* of this get that are to come, with this one */
	int step;          /* what the next piece is */
	const char *at;    /* what is left of this piece */
	size_t left;
	int64_t whole; /* requests, or answers, that are behind */
};

/* Make so many keys, whose values have so many bytes; each value is another.
 * To be called once, before a stream is used. */
void stream_make_keys(unsigned int keys, size_t bytes);

void stream_begin(struct stream *stream, const struct mixture *mixture,
    unsigned int seed);

/* What comes next in a stream of requests, or in one of answers: up to *n
 * bytes, and at least one.  Sets *n to how many there are. */
const char *stream_request(struct stream *stream, size_t *n);
const char *stream_answer(struct stream *stream, size_t *n);

/* Go on by n bytes, at most those that the last call has returned.  Returns
 * whether a request, or an answer, ends here. */
bool stream_pass(struct stream *stream, size_t n);

#endif
