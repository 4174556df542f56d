#ifndef PROTO_SCAN_H
#define PROTO_SCAN_H

/*
 * How proto.c, proto_meta.c and proto_reply.c walk over the bytes of a line;
 * nobody else includes this.  Positions are offsets, nothing at or behind end
 * is read but by scan_number(), and what most messages need is inline.
 */

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "proto.h"

enum {
	TOKENS_MAX = 23,        /* memcached looks at no more */
	SHORT_LINE = 96,        /* memchr() is faster above */
	DATA_MAX = INT_MAX - 2, /* bytes; memcached takes no more */
};

/* Does the word, which is no shorter, begin with the literal? */
#define IS(word, literal) (memcmp((word), (literal), sizeof(literal) - 1) == 0)

/* The line of a request, taken apart.  Token 0 is the command's name. */
struct line {
	const char *bytes;
	size_t at;      /* what is before has been looked at */
	size_t end;     /* of the text, without its line end */
	bool unclean;   /* there is a NUL or CR in it */
	unsigned count; /* of the tokens below */
	struct proto_span token[TOKENS_MAX];
};

extern const char proto_error_unknown[], proto_error_format[];

/* Whether the i-th token, which must be there, is this word. */
bool line_token_is(const struct line *line, unsigned i, const char *word);

/* Read the i-th token, which must be there, as a number.  Each returns false
   if it is none, or out of range. */
bool line_read_unsigned(const struct line *line, unsigned i, uint64_t *number);
bool line_read_signed(const struct line *line, unsigned i, int64_t *number);
bool line_read_length(const struct line *line, unsigned i, uint32_t *length);

/* So much data follows the line.  If r has an error, or the data is too large,
   it is thrown away, so that it is never read as commands. */
void line_set_data(const struct line *line, uint32_t length, size_t value_max,
    struct proto_request *r);

/* proto_meta.c: mg, md and ma; ms; me.  Only the command's name was read. */
void meta_parse(struct line *line, struct proto_request *r);
void meta_parse_set(struct line *line, size_t value_max,
    struct proto_request *r);
void meta_parse_debug(struct line *line, struct proto_request *r);

/* Is no byte of these below a space?  Eight at a time, if there are as many. */
static inline bool
is_plain(const char *bytes, size_t n)
{
	const uint64_t each = UINT64_MAX / 0xff;
	uint64_t word, low = 0;
	size_t i;

	if (n < sizeof(word)) {
		for (i = 0; i < n && (unsigned char)bytes[i] >= ' '; i++)
			;
		return i == n;
	}
	for (i = 0; i + sizeof(word) < n; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		low |= (word - each * ' ') & ~word;
	}
	memcpy(&word, bytes + n - sizeof(word), sizeof(word));
	low |= (word - each * ' ') & ~word;
	return (low & each * 0x80) == 0;
}

/* No text of a line may have a NUL or CR in it; most are short and plain. */
static inline bool
is_clean(const char *bytes, size_t at, size_t end)
{
	bytes += at;
	end -= at;
	return (end <= SHORT_LINE && is_plain(bytes, end)) ||
	    (memchr(bytes, '\0', end) == NULL &&
		memchr(bytes, '\r', end) == NULL);
}

/* A key is long enough for memchr() to be the fastest. */
static inline size_t
key_end(const char *bytes, size_t at, size_t end)
{
	const char *space = memchr(bytes + at, ' ', end - at);

	return space != NULL ? (size_t)(space - bytes) : end;
}

/* Most other tokens have a few bytes only. */
static inline size_t
token_end(const char *bytes, size_t at, size_t end)
{
	while (at < end && bytes[at] != ' ')
		at++;
	return at;
}

static inline size_t
skip_spaces(const char *bytes, size_t at, size_t end)
{
	while (at < end && bytes[at] == ' ')
		at++;
	return at;
}

static inline void
set_span(struct proto_span *span, size_t at, size_t end)
{
	span->at = (uint32_t)at;
	span->length = (uint32_t)(end - at);
}

/* Digits and nothing else, below 2^64. */
static inline bool
read_digits(const char *text, size_t length, uint64_t *number)
{
	uint64_t value = 0;
	unsigned digit;
	size_t i;

	for (i = 0; i < length; i++) {
		digit = (unsigned char)text[i] - (unsigned)'0';
		if (digit > 9 ||
		    (i > 18 &&
			(__builtin_mul_overflow(value, 10, &value) ||
			    __builtin_add_overflow(value, digit, &value))))
			return false;
		if (i <= 18)
			value = value * 10 + digit;
	}
	*number = value;
	return length > 0;
}

/* Take the line behind its first word apart; not more than TOKENS_MAX. */
static inline void
split(struct line *line)
{
	const char *bytes = line->bytes;
	size_t at = line->at, end = line->end, start;
	unsigned count = line->count;

	while ((start = skip_spaces(bytes, at, end)) < end) {
		at = count == 1 ? key_end(bytes, start, end) :
				  token_end(bytes, start, end);
		if (count < TOKENS_MAX)
			set_span(&line->token[count++], start, at);
	}
	line->count = count;
}

/* The second token is the key; returns false if it is too long for one. */
static inline bool
read_key(const struct line *line, struct proto_request *r)
{
	assert(line->count > 1);
	r->key = line->token[1];
	return r->key.length <= PROTO_KEY_MAX;
}

/* The digits behind the space at *at, which is moved behind them; at most ten,
   so that nothing overflows.  Needs a byte behind them: the line end. */
static inline bool
scan_number(const char *bytes, size_t *at, uint64_t *number)
{
	size_t start = *at + 1, i = start;
	uint64_t value = 0;
	unsigned digit;

	if (bytes[*at] != ' ')
		return false;
	while ((digit = (unsigned char)bytes[i] - (unsigned)'0') <= 9) {
		value = value * 10 + digit;
		i++;
	}
	*at = i;
	*number = value;
	return i > start && i - start <= 10;
}

#endif
