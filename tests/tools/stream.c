/*
 * A stream is a row of pieces: lines, keys and values.
 *
 * The lines are made once.  The value of a key is a part of one long text, and
 * begins one byte later than that of the key before.
 */

#include "tests/tools/stream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 64 };

enum step { BEGIN, SET_VALUE, KEY, VALUE, VALUE_END, LINE_END };

/* The lines that begin a set, and its value in an answer. */
static struct key {
	char set[LINE], value[LINE];
} * keys;

static unsigned int key_count;
static size_t set_bytes, key_bytes, line_bytes;

static char *text;
static size_t text_bytes; /* of each value */

static void *
allocate(size_t n, size_t size)
{
	void *memory = calloc(n, size);

	if (memory == NULL) {
		perror("load: memory");
		exit(1);
	}
	return memory;
}

static unsigned int
draw(unsigned int *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 16 | *seed << 16;
}

void
stream_make_keys(unsigned int count, size_t bytes)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
	unsigned int i, seed = 1;
	size_t at;

	key_count = count;
	text_bytes = bytes;
	keys = allocate(count, sizeof(*keys));
	for (i = 0; i < count; i++) {
		set_bytes = (size_t)snprintf(keys[i].set, LINE,
		    "set key:%016u 0 0 %zu\r\n", i, bytes);
		line_bytes = (size_t)snprintf(keys[i].value, LINE,
		    "VALUE key:%016u 0 %zu\r\n", i, bytes);
	}
	key_bytes = strlen(" key:0000000000000000");
	text = allocate(count + bytes, 1);
	for (at = 0; at < count + bytes; at++)
		text[at] = letters[draw(&seed) % 64];
}

void
stream_begin(struct stream *stream, const struct mixture *mixture,
    unsigned int seed)
{
	assert(mixture->keys_of_get > 0);
	memset(stream, 0, sizeof(*stream));
	stream->mixture = mixture;
	stream->seed = seed;
	stream->step = BEGIN;
}

static void
take_key(struct stream *stream)
{
	stream->key = draw(&stream->seed) % key_count;
}

/* Begin another request; returns whether it is a set. */
static bool
take_request(struct stream *stream)
{
	if (stream->mixture->in_order) {
		stream->key = stream->seed++ % key_count;
		return true;
	}
	stream->keys = stream->mixture->keys_of_get;
	if (draw(&stream->seed) % 100 >= stream->mixture->percent)
		return false;
	take_key(stream);
	return true;
}

static void
put(struct stream *stream, const char *bytes, size_t n, enum step next)
{
	stream->at = bytes;
	stream->left = n;
	stream->step = (int)next;
}

static void
next_of_request(struct stream *stream)
{
	switch ((enum step)stream->step) {
	case BEGIN:
		if (take_request(stream))
			put(stream, keys[stream->key].set, set_bytes,
			    SET_VALUE);
		else
			put(stream, "get", 3, KEY);
		return;
	case SET_VALUE:
		put(stream, text + stream->key, text_bytes, LINE_END);
		return;
	case KEY:
		take_key(stream);
		/* The line of a set has the key, and a space before it. */
		put(stream, keys[stream->key].set + strlen("set"), key_bytes,
		    --stream->keys > 0 ? KEY : LINE_END);
		return;
	default:
		put(stream, "\r\n", 2, BEGIN);
	}
}

static void
next_of_answer(struct stream *stream)
{
	switch ((enum step)stream->step) {
	case BEGIN:
		if (take_request(stream)) {
			put(stream, "STORED\r\n", 8, BEGIN);
			return;
		}
		/* FALLTHROUGH */
	case KEY:
		take_key(stream);
		put(stream, keys[stream->key].value, line_bytes, VALUE);
		return;
	case VALUE:
		put(stream, text + stream->key, text_bytes, VALUE_END);
		return;
	case VALUE_END:
		put(stream, "\r\n", 2, --stream->keys > 0 ? KEY : LINE_END);
		return;
	default:
		put(stream, "END\r\n", 5, BEGIN);
	}
}

/* What is left of the piece, up to n bytes. */
static const char *
what_is_left(const struct stream *stream, size_t *n)
{
	if (*n > stream->left)
		*n = stream->left;
	return stream->at;
}

const char *
stream_request(struct stream *stream, size_t *n)
{
	if (stream->left == 0)
		next_of_request(stream);
	return what_is_left(stream, n);
}

const char *
stream_answer(struct stream *stream, size_t *n)
{
	if (stream->left == 0)
		next_of_answer(stream);
	return what_is_left(stream, n);
}

bool
stream_pass(struct stream *stream, size_t n)
{
	assert(n <= stream->left);
	stream->at += n;
	stream->left -= n;
	if (stream->left > 0 || stream->step != BEGIN)
		return false;
	stream->whole++;
	return true;
}
