/*
 * The words and numbers of a request's line, for proto.c and proto_meta.c.
 *
 * Numbers are read as the C library reads them for memcached 1.6.18.
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
 * A number as the C library reads it for memcached 1.6.18: white space may
 * precede it, and white space ends it, whatever follows.
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

/* Data of a command that has an error is thrown away, so that it is never read
   as commands. */
void
line_set_data(const struct line *line, uint32_t length, size_t value_max,
    struct proto_request *r)
{
	assert(length <= DATA_MAX);
	if (line->unclean)
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
