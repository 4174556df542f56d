#ifndef PROTO_SCAN_H
#define PROTO_SCAN_H

/*
 * Walk over the bytes of a line: what proto.c, proto_meta.c and proto_reply.c
 * share; no other file includes this.  Positions are offsets.  Nothing at or
 * behind end is read, except by scan_number().  What most messages need is
 * inline.
 */

#include <assert.h>
#include <endian.h>
#include <limits.h>
#include <string.h>

#include "hot_assert.h"
#include "proto.h"

enum {
	TOKENS_MAX = 23,        /* memcached ignores the words behind these */
	SHORT_LINE = 96,        /* bytes; memchr() is faster for more */
	DATA_MAX = INT_MAX - 2, /* bytes of data; memcached takes no more */
};

/* Whether a word that is as long as the literal, or longer, begins with it. */
#define IS(word, literal) (memcmp((word), (literal), sizeof(literal) - 1) == 0)

/* The line of a request, taken apart.  Token 0 is the name of the command. */
struct line {
	const char *bytes;
	size_t at;          /* offset where the next token is searched */
	size_t end;         /* offset of the CR LF or LF behind the text */
	bool has_nul_or_cr; /* in the text */
	unsigned count;     /* tokens in token[] */
	struct proto_span token[TOKENS_MAX];
};

extern const char proto_error_unknown[], proto_error_format[];

/* Whether token number i is this word; i < line->count. */
bool line_token_is(const struct line *line, unsigned i, const char *word);

/* Read token number i as a number of 64 bits; i < line->count.  Returns false
   if it is none, or out of range. */
bool line_read_unsigned(const struct line *line, unsigned i, uint64_t *number);

/* The same for a number that may be negative. */
bool line_read_signed(const struct line *line, unsigned i, int64_t *number);

/* The same for a number of bytes of data, at most DATA_MAX. */
bool line_read_length(const struct line *line, unsigned i, uint32_t *length);

/* Note that length bytes of data follow the line.  If r has an error, or they
   are more than value_max, they are to be thrown away, so that they are not
   read as commands. */
void line_set_data(const struct line *line, uint32_t length, size_t value_max,
    struct proto_request *r);

/* Take a line of mg, md or ma apart, of which the first word was read. */
void meta_parse(struct line *line, struct proto_request *r);

/* The same for ms, with line_set_data(). */
void meta_parse_set(struct line *line, size_t value_max,
    struct proto_request *r);

/* The same for me. */
void meta_parse_debug(struct line *line, struct proto_request *r);

/* Whether no byte is below a space.  Looks at eight bytes at a time, if there
   are so many. */
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

/* The first byte in bytes[at .. end) that is a space or below one; end if there
   is none.  Looks at eight bytes at a time: the lowest mark that is set in each
   of them is right, whatever is carried on from there. */
static inline size_t
plain_end(const char *bytes, size_t at, size_t end)
{
	const uint64_t each = UINT64_MAX / 0xff;
	uint64_t word, low;

	for (; at + sizeof(word) <= end; at += sizeof(word)) {
		memcpy(&word, bytes + at, sizeof(word));
		word = le64toh(word);
		low = (word - each * (' ' + 1)) & ~word & each * 0x80;
		if (low != 0)
			return at + (size_t)__builtin_ctzll(low) / 8;
	}
	while (at < end && (unsigned char)bytes[at] > ' ')
		at++;
	return at;
}

/* Whether there is no NUL or CR in the text.  Most texts are short and plain,
   so this is tried first. */
static inline bool
is_clean(const char *bytes, size_t at, size_t end)
{
	assert(at <= end);
	bytes += at;
	end -= at;
	return (end <= SHORT_LINE && is_plain(bytes, end)) ||
	    (memchr(bytes, '\0', end) == NULL &&
		memchr(bytes, '\r', end) == NULL);
}

/* The end of the token at offset at, if it is a key: keys are long enough for
   memchr() to be fastest. */
static inline size_t
key_end(const char *bytes, size_t at, size_t end)
{
	const char *space = memchr(bytes + at, ' ', end - at);

	assert(at <= end);
	return space != NULL ? (size_t)(space - bytes) : end;
}

/* The end of the token at offset at, if it is none: other tokens are short. */
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
	hot_assert(at <= end && end <= UINT32_MAX);
	span->at = (uint32_t)at;
	span->length = (uint32_t)(end - at);
}

/* Read a text of digits and nothing else.  Returns false if it is none, or not
   below 2^64. */
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

/* Take the line behind its first word apart.  Tokens after TOKENS_MAX are
   ignored. */
static inline void
split(struct line *line)
{
	const char *bytes = line->bytes;
	size_t at = line->at, end = line->end, start;
	unsigned count = line->count;

	assert(at <= end && count <= 1);
	while ((start = skip_spaces(bytes, at, end)) < end) {
		at = count == 1 ? key_end(bytes, start, end) :
				  token_end(bytes, start, end);
		if (count < TOKENS_MAX)
			set_span(&line->token[count++], start, at);
	}
	line->count = count;
}

/* Take the second token for the key.  Returns false if it is too long. */
static inline bool
read_key(const struct line *line, struct proto_request *r)
{
	assert(line->count > 1);
	r->key = line->token[1];
	return r->key.length <= PROTO_KEY_MAX;
}

/* Read the digits behind the space at *at, which is moved behind them.  Returns
   false if there are none or more than ten.  The text must have a byte behind
   it that is no digit: the line end. */
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
