/*
 * Read the words and numbers of the line of a request.
 *
 * Invariant: a number is good exactly when the C library reads it for memcached
 * 1.6.18, and has the same value.
 */

#include "proto_scan.h"

#include <assert.h>
#include <string.h>

const char proto_error_unknown[] = "ERROR";
const char proto_error_format[] = "CLIENT_ERROR bad command line format";

static const char error_large[] = "SERVER_ERROR object too large for cache";

bool
line_token_is(const struct line *line, unsigned i, const char *word)
{
	size_t length = strlen(word);

	assert(i < line->count);
	return line->token[i].length == length &&
	    memcmp(line->bytes + line->token[i].at, word, length) == 0;
}

static bool
is_blank(char c)
{
	return c == '\t' || c == '\v' || c == '\f';
}

/*
 * Read a number with what the C library allows around it: white space and a
 * sign before it, and, after more white space, anything.
 */
static bool
read_loosely(const char *text, size_t length, uint64_t *magnitude,
    bool *negative)
{
	size_t i = 0, start;

	while (i < length && is_blank(text[i]))
		i++;
	*negative = i < length && text[i] == '-';
	if (i < length && (text[i] == '-' || text[i] == '+'))
		i++;
	start = i;
	while (i < length && !is_blank(text[i]))
		i++;
	return read_digits(text + start, i - start, magnitude);
}

bool
line_read_unsigned(const struct line *line, unsigned i, uint64_t *number)
{
	const char *text = line->bytes + line->token[i].at;
	size_t length = line->token[i].length;
	bool negative;

	assert(i < line->count);
	if (read_digits(text, length, number))
		return true;
	if (!read_loosely(text, length, number, &negative))
		return false;
	if (negative)
		*number = -*number;
	return !negative || *number <= INT64_MAX;
}

bool
line_read_signed(const struct line *line, unsigned i, int64_t *number)
{
	const char *text = line->bytes + line->token[i].at;
	size_t length = line->token[i].length;
	bool negative = false;
	uint64_t magnitude;

	assert(i < line->count);
	if (!read_digits(text, length, &magnitude) &&
	    !read_loosely(text, length, &magnitude, &negative))
		return false;
	if (magnitude > (uint64_t)INT64_MAX + negative)
		return false;
	*number = (int64_t)(negative ? -magnitude : magnitude);
	return true;
}

bool
line_read_length(const struct line *line, unsigned i, uint32_t *length)
{
	int64_t number;

	if (!line_read_signed(line, i, &number) || number < 0 ||
	    number > DATA_MAX)
		return false;
	*length = (uint32_t)number;
	return true;
}

void
line_set_data(const struct line *line, uint32_t length, size_t value_max,
    struct proto_request *r)
{
	assert(length <= DATA_MAX && r->swallow == 0);
	assert(r->length > line->end && r->data.length == 0);
	if (line->has_nul_or_cr)
		r->error = proto_error_format;
	if (r->error == NULL && length > value_max) {
		r->error = error_large;
		r->too_large = true;
	}
	if (r->error != NULL) {
		r->swallow = (uint64_t)length + 2;
		return;
	}
	r->data.at = (uint32_t)r->length;
	r->data.length = length;
}
