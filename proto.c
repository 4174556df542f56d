/*
 * Say what the next message in these bytes is, a request or a reply.
 *
 * A result depends on the arguments alone.  Nothing at or behind bytes + n is
 * read, every span lies inside the message, and what is called an error here
 * has the line that memcached 1.6.18 gives it (tests/exceptions.md says where
 * not, and why).
 */

#include "proto.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

enum {
	TOKENS_MAX = 23,	/* memcached looks at no more */
	META_TOKENS_MAX = 19,	/* command, key and flags of a meta command */
	OPAQUE_MAX = 32,	/* with its O */
	LEADING_SPACES_MAX = 100, /* before a get that is a long line */
	DIGITS_MAX = 20,	/* of a number below 2^64 */
	SHORT_LINE = 96,	/* memchr() is faster above */
	DATA_MAX = INT_MAX - 2
};

#define IS(word, literal) \
	(memcmp((word), (literal), sizeof(literal) - 1) == 0)

static const char error_unknown[] = "ERROR";
static const char error_format[] = "CLIENT_ERROR bad command line format";
static const char error_delete[] = "CLIENT_ERROR bad command line format.  "
    "Usage: delete <key> [noreply]";
static const char error_exptime[] = "CLIENT_ERROR invalid exptime argument";
static const char error_delta[] =
    "CLIENT_ERROR invalid numeric delta argument";
static const char error_data[] = "CLIENT_ERROR bad data chunk";
static const char error_large[] = "SERVER_ERROR object too large for cache";
static const char error_refused[] = "CLIENT_ERROR command not allowed";
static const char error_shutdown[] = "ERROR: shutdown not enabled";
static const char error_flags[] = "CLIENT_ERROR invalid or duplicate flag";
static const char error_flag[] = "CLIENT_ERROR invalid flag";
static const char error_twice[] = "CLIENT_ERROR duplicate flag";
static const char error_token[] =
    "CLIENT_ERROR bad token in command line format";
static const char error_base64[] = "CLIENT_ERROR error decoding key";
static const char error_opaque[] = "CLIENT_ERROR opaque token too long";

/* The line of a request, taken apart. */
struct line {
	const char *bytes;
	size_t at;		/* what is before has been looked at */
	size_t end;		/* of the text, without its line end */
	bool unclean;		/* there is a NUL or CR in it */
	unsigned count;		/* of the tokens below */
	struct proto_span token[TOKENS_MAX];
};

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

bool
proto_token(const char *bytes, size_t end, size_t *at,
    struct proto_span *token)
{
	size_t start;

	assert(*at <= end);
	start = skip_spaces(bytes, *at, end);
	if (start == end)
		return false;
	*at = key_end(bytes, start, end);
	set_span(token, start, *at);
	return true;
}

/*
 * Take the line behind its first word apart; tokens over the maximum are left
 * out.
 */
static void
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

static bool
token_is(const struct line *line, unsigned i, const char *word)
{
	size_t length = strlen(word);

	assert(i < line->count);
	return line->token[i].length == length &&
	    memcmp(line->bytes + line->token[i].at, word, length) == 0;
}

static inline bool
is_noreply(const struct line *line)
{
	const struct proto_span *last = &line->token[line->count - 1];

	assert(line->count > 0);
	return last->length == sizeof("noreply") - 1 &&
	    IS(line->bytes + last->at, "noreply");
}

/* Digits and nothing else, below 2^64. */
static bool
read_digits(const char *text, size_t length, uint64_t *number)
{
	uint64_t value = 0;
	unsigned digit;
	size_t i;

	for (i = 0; i < length; i++) {
		digit = (unsigned char)text[i] - (unsigned)'0';
		if (digit > 9 || (i > 18 &&
		    (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, digit, &value))))
			return false;
		if (i <= 18)
			value = value * 10 + digit;
	}
	*number = value;
	return length > 0;
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

static bool
read_unsigned(const struct line *line, unsigned i, uint64_t *number)
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

static bool
read_signed(const struct line *line, unsigned i, int64_t *number)
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

/* An exptime, cut to 32 bits like memcached 1.6.18 does. */
static bool
read_exptime(const struct line *line, unsigned i, struct proto_request *r)
{
	int64_t number;

	if (!read_signed(line, i, &number))
		return false;
	r->exptime = (int32_t)(uint32_t)(uint64_t)number;
	return true;
}

static bool
read_data_length(const struct line *line, unsigned i, uint32_t *length)
{
	int64_t number;

	if (!read_signed(line, i, &number) || number < 0 || number > DATA_MAX)
		return false;
	*length = (uint32_t)number;
	return true;
}

static bool
read_key(const struct line *line, struct proto_request *r)
{
	assert(line->count > 1);
	r->key = line->token[1];
	return r->key.length <= PROTO_KEY_MAX;
}

static void
parse_keys(struct line *line, struct proto_request *r)
{
	const char *bytes = line->bytes;
	size_t at = line->at, end = line->end, start;
	unsigned count = 0;

	while ((start = skip_spaces(bytes, at, end)) < end) {
		at = key_end(bytes, start, end);
		if (count++ == 0)
			set_span(&r->key, start, at);
		if (at - start > PROTO_KEY_MAX)
			r->error = error_format;
		set_span(&r->keys, r->key.at, at);
	}
	r->key_count = count;
	if (count == 0)
		r->error = error_unknown;
}

/* Returns false if there is an error, so that the keys do not matter. */
static bool
parse_gat(struct line *line, struct proto_request *r)
{
	size_t start = skip_spaces(line->bytes, line->at, line->end);

	r->error = error_unknown;
	if (start == line->end)
		return false;
	line->at = token_end(line->bytes, start, line->end);
	set_span(&line->token[line->count++], start, line->at);
	r->error = read_exptime(line, 1, r) ? NULL : error_exptime;
	return r->error == NULL;
}

/*
 * The length of the data is known.  Data of a command that has an error is
 * thrown away, so that it is never read as commands.
 */
static void
set_data(const struct line *line, uint32_t length, size_t value_max,
    struct proto_request *r)
{
	assert(length <= DATA_MAX);
	if (line->unclean)
		r->error = error_format;
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

/* The digits behind the space at *at, which is moved behind them; at most ten,
   so that nothing overflows.  A line has a byte that is no digit behind it. */
static inline bool
take_number(const char *bytes, size_t *at, uint64_t *number)
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

/*
 * The way in which nearly all storage commands are written: single spaces,
 * small plain numbers.  Returns false if this one is not, and has to be looked
 * at token by token.
 */
static inline bool
take_storage(const struct line *line, uint32_t *length,
    struct proto_request *r)
{
	const char *bytes = line->bytes;
	size_t key = line->at + 1, stop, at;
	uint64_t flags, exptime, n;

	if (key >= line->end)
		return false;
	at = stop = key_end(bytes, key, line->end);
	if (at - key - 1 >= PROTO_KEY_MAX || !take_number(bytes, &at, &flags) ||
	    !take_number(bytes, &at, &exptime) || !take_number(bytes, &at, &n))
		return false;
	r->noreply = line->end - at == sizeof(" noreply") - 1 &&
	    IS(bytes + at, " noreply");
	if ((at != line->end && !r->noreply) || flags > UINT32_MAX ||
	    exptime > INT32_MAX || n > DATA_MAX)
		return false;
	set_span(&r->key, key, stop);
	r->flags = (uint32_t)flags;
	r->exptime = (int32_t)exptime;
	*length = (uint32_t)n;
	return true;
}

static void
parse_storage(struct line *line, size_t value_max, struct proto_request *r)
{
	bool is_cas = r->command == PROTO_CAS;
	unsigned want = is_cas ? 6 : 5;
	uint32_t length;
	uint64_t flags;

	if (!is_cas && take_storage(line, &length, r)) {
		set_data(line, length, value_max, r);
		return;
	}
	split(line);
	if (line->count != want && line->count != want + 1) {
		r->error = error_unknown;
		return;
	}
	r->noreply = is_noreply(line);
	if (!read_key(line, r) || !read_unsigned(line, 2, &flags) ||
	    !read_exptime(line, 3, r) ||
	    (is_cas && !read_unsigned(line, 5, &r->cas)))
		r->error = error_format;
	else
		r->flags = (uint32_t)flags;
	if (read_data_length(line, 4, &length))
		set_data(line, length, value_max, r);
	else
		r->error = error_format;
}

static void
parse_arithmetic(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count != 3 && line->count != 4) {
		r->error = error_unknown;
		return;
	}
	r->noreply = is_noreply(line);
	if (!read_key(line, r))
		r->error = error_format;
	else if (!read_unsigned(line, 2, &r->delta))
		r->error = error_delta;
}

static void
parse_touch(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count != 3 && line->count != 4) {
		r->error = error_unknown;
		return;
	}
	r->noreply = is_noreply(line);
	if (!read_key(line, r))
		r->error = error_format;
	else if (!read_exptime(line, 2, r))
		r->error = error_exptime;
}

/* delete key, delete key 0, both with or without noreply. */
static void
parse_delete(struct line *line, struct proto_request *r)
{
	bool is_zero;

	split(line);
	if (line->count < 2 || line->count > 4) {
		r->error = error_unknown;
		return;
	}
	if (!read_key(line, r))
		r->error = error_format;
	if (line->count == 2)
		return;
	is_zero = token_is(line, 2, "0");
	r->noreply = is_noreply(line);
	if (line->count == 3 ? !is_zero && !r->noreply :
	    !is_zero || !r->noreply)
		r->error = error_delete;
}

static void
parse_flush_all(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count > 3) {
		r->error = error_unknown;
		return;
	}
	r->noreply = is_noreply(line);
	r->has_exptime = line->count != (r->noreply ? 2 : 1);
	if (r->has_exptime && !read_exptime(line, 1, r))
		r->error = error_exptime;
}

static void
parse_verbosity(struct line *line, struct proto_request *r)
{
	uint64_t level;

	split(line);
	if (line->count != 2 && line->count != 3) {
		r->error = error_unknown;
		return;
	}
	r->noreply = is_noreply(line);
	if (!read_unsigned(line, 1, &level))
		r->error = error_format;
}

static void
parse_stats(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count > 1)
		r->argument = line->token[1];
}

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The bits of four characters, of which the last pad are not there, or -1. */
static int
base64_group(const char *bytes, int pad)
{
	int i, value, group = 0;

	assert(pad >= 0 && pad <= 2);
	for (i = 0; i < 4; i++) {
		value = i < 4 - pad ? base64_value(bytes[i]) : 0;
		if (value == -1)
			return -1;
		group = group << 6 | value;
	}
	return group;
}

/* Only the one spelling that an encoder gives: servers echo that one. */
size_t
proto_base64(const char *bytes, size_t n, char *out)
{
	size_t i, length = 0;
	int group, pad = 0;

	assert(bytes != NULL || n == 0);
	if (n == 0 || n % 4 != 0 || n / 4 * 3 > PROTO_KEY_MAX)
		return 0;
	for (i = 0; i < n; i += 4) {
		if (i + 4 == n && bytes[n - 1] == '=')
			pad = bytes[n - 2] == '=' ? 2 : 1;
		group = base64_group(bytes + i, pad);
		if (group == -1 || (group & ((1 << 8 * pad) - 1)) != 0)
			return 0;
		out[length++] = (char)(group >> 16);
		out[length++] = (char)(group >> 8);
		out[length++] = (char)group;
	}
	assert(length <= PROTO_KEY_MAX);
	return length - (size_t)pad;
}

static bool
is_base64(const struct line *line)
{
	char key[PROTO_KEY_MAX];

	return proto_base64(line->bytes + line->token[1].at,
	    line->token[1].length, key) > 0;
}

/* Digits, of which a signed number may have a minus before, in 32 bits. */
static bool
read_seconds(const char *text, size_t length, int32_t *seconds)
{
	size_t minus = length > 0 && text[0] == '-';
	uint64_t number;

	if (!read_digits(text + minus, length - minus, &number) ||
	    number > (uint64_t)INT32_MAX + minus)
		return false;
	*seconds = (int32_t)(minus ? -(int64_t)number : (int64_t)number);
	return true;
}

/* Seconds for N, R or T. */
static const char *
read_time(const char *text, size_t length, const char *error, bool *has,
    int32_t *seconds)
{
	*has = true;
	return read_seconds(text, length, seconds) ? error : error_token;
}

static const char *
read_client_flags(const char *text, size_t length, const char *error,
    struct proto_request *r)
{
	uint64_t number;

	if (!read_digits(text, length, &number) || number > UINT32_MAX)
		return error != NULL ? error : error_format;
	r->flags = (uint32_t)number;
	return error;
}

/*
 * One flag and its argument.  Returns the error or NULL.  An argument goes to
 * the servers as it stands, so it has to mean the same to all of them.
 */
static const char *
read_flag(const struct line *line, const struct proto_span *token,
    const char *error, struct proto_request *r)
{
	const char *text = line->bytes + token->at + 1;
	size_t length = token->length - 1;
	uint64_t number;
	int32_t ignored;

	assert(token->length > 0);
	switch (text[-1]) {
	case 'C':
		r->has_cas = true;
		return read_digits(text, length, &r->cas) ? error : error_token;
	case 'D':
		return read_digits(text, length, &r->delta) ? error :
		    "CLIENT_ERROR invalid numeric delta value";
	case 'F':
		return read_client_flags(text, length, error, r);
	case 'I':
		r->has_invalidate = true;
		return error;
	case 'J':
		return read_digits(text, length, &number) ? error :
		    "CLIENT_ERROR invalid numeric initial value";
	case 'M':
		r->mode = text[0];
		return length == 1 ? error :
		    "CLIENT_ERROR incorrect length for M token";
	case 'N':
		return read_time(text, length, error, &r->has_vivify,
		    &ignored);
	case 'R':
		return read_time(text, length, error, &r->has_recache,
		    &ignored);
	case 'T':
		return read_time(text, length, error, &r->has_ttl,
		    &r->exptime);
	case 'b':
		r->base64 = true;
		return is_base64(line) ? error : error_base64;
	case 'c':
		r->has_return_cas = true;
		return error;
	case 'q':
		r->quiet = true;
		return error;
	case 'v':
		r->has_value = true;
		return error;
	case 'L':
	case 'O':
	case 'P':
	case 'f':
	case 'h':
	case 'k':
	case 'l':
	case 's':
	case 't':
	case 'u':
		return error;
	default:
		return error_flag;
	}
}

/*
 * Check the flags from the first-th token on.  Returns the error or NULL: as
 * in memcached the last bad argument is told, but a wrong flag ends it.
 */
static const char *
read_flags(const struct line *line, unsigned first, struct proto_request *r)
{
	const struct proto_span *token;
	const char *error = NULL;
	uint64_t seen[2] = { 0, 0 }, bit;
	unsigned char flag;
	unsigned i;

	assert(line->count <= META_TOKENS_MAX);
	for (i = first; i < line->count && error != error_flag; i++) {
		token = &line->token[i];
		flag = (unsigned char)line->bytes[token->at];
		bit = UINT64_C(1) << flag % 64;
		if (flag >= 127 || (seen[flag / 64] & bit) != 0)
			return error_twice;
		seen[flag / 64] |= bit;
		error = read_flag(line, token, error, r);
	}
	return error;
}

/* Put the mode into its one spelling.  Returns false if there is none such. */
static bool
check_mode(struct proto_request *r)
{
	if (r->command == PROTO_MS) {
		if (r->mode == '\0')
			r->mode = 'S';
		return memchr("EAPRS", r->mode, 5) != NULL;
	}
	if (r->command != PROTO_MA)
		return true;
	if (r->mode == '\0' || r->mode == '+')
		r->mode = 'I';
	else if (r->mode == '-')
		r->mode = 'D';
	return r->mode == 'I' || r->mode == 'D';
}

static bool
check_opaque(const struct line *line, unsigned first)
{
	unsigned i;

	for (i = first; i < line->count; i++) {
		if (line->bytes[line->token[i].at] == 'O' &&
		    line->token[i].length > OPAQUE_MAX)
			return false;
	}
	return true;
}

static void
set_meta(const struct line *line, unsigned first, struct proto_request *r)
{
	const struct proto_span *last;

	if (first >= line->count)
		return;
	last = &line->token[line->count - 1];
	r->meta.at = line->token[first].at;
	assert(last->at >= r->meta.at);
	r->meta.length = last->at + last->length - r->meta.at;
}

static const char *
check_meta(const struct line *line, unsigned first, struct proto_request *r)
{
	const char *error;

	assert(line->count >= 2 && first >= 2);
	if (!read_key(line, r))
		return error_format;
	if (line->count < first)
		return error_format;
	if (line->count > META_TOKENS_MAX)
		return r->command == PROTO_MG ?
		    "CLIENT_ERROR options flags are too long" :
		    "CLIENT_ERROR options flags too long";
	error = read_flags(line, first, r);
	if (error != NULL)
		return r->command == PROTO_MD || r->command == PROTO_MA ?
		    error_flags : error;
	if (!check_mode(r))
		return r->command == PROTO_MS ?
		    "CLIENT_ERROR invalid mode for ms M token" :
		    "CLIENT_ERROR invalid mode for ma M token";
	return check_opaque(line, first) ? NULL : error_opaque;
}

static void
parse_meta(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count < 2) {
		r->error = error_unknown;
		return;
	}
	r->delta = 1;
	set_meta(line, 2, r);
	r->error = check_meta(line, 2, r);
}

static void
parse_meta_set(struct line *line, size_t value_max, struct proto_request *r)
{
	uint32_t length;

	split(line);
	if (line->count < 2) {
		r->error = error_unknown;
		return;
	}
	set_meta(line, 3, r);
	r->error = check_meta(line, 3, r);
	if (line->count < 3)
		return;
	if (read_data_length(line, 2, &length))
		set_data(line, length, value_max, r);
	else if (line->count <= META_TOKENS_MAX)
		r->error = error_format;
}

/* me looks for one flag in one place, and at nothing else. */
static void
parse_meta_debug(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count < 2 || !read_key(line, r)) {
		r->error = error_format;
		return;
	}
	set_meta(line, 2, r);
	r->base64 = line->count > 2 && token_is(line, 2, "b");
	if (r->base64 && !is_base64(line))
		r->error = error_format;
}

/*
 * No command that is served.  Returns false if memcached would close: somebody
 * speaks HTTP.
 */
static bool
parse_other(struct line *line, struct proto_request *r)
{
	static const char *const refused[] = {
		"cache_memlimit", "lru", "lru_crawler", "slabs"
	};
	const struct proto_span *last;
	size_t i;

	split(line);
	r->error = error_unknown;
	if (line->count == 0)
		return true;
	if (token_is(line, 0, "shutdown"))
		r->error = error_shutdown;
	if (token_is(line, 0, "watch") || token_is(line, 0, "refresh_certs"))
		r->error = error_refused;
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (line->count > 1 && token_is(line, 0, refused[i]))
			r->error = error_refused;
	}
	r->noreply = r->error == error_refused && is_noreply(line);
	last = &line->token[line->count - 1];
	return r->error != error_unknown || line->token[0].length < 3 ||
	    last->length < 5 || !IS(line->bytes + last->at, "HTTP/") ||
	    memchr("acdgist", line->bytes[line->token[0].at], 7) != NULL;
}

static enum proto_command
find_meta(char c)
{
	switch (c) {
	case 'g':
		return PROTO_MG;
	case 's':
		return PROTO_MS;
	case 'd':
		return PROTO_MD;
	case 'a':
		return PROTO_MA;
	case 'n':
		return PROTO_MN;
	case 'e':
		return PROTO_ME;
	default:
		return PROTO_REFUSED;
	}
}

static enum proto_command
find_long(const char *word, size_t length)
{
	if (length == 6)
		return IS(word, "delete") ? PROTO_DELETE :
		    IS(word, "append") ? PROTO_APPEND : PROTO_REFUSED;
	if (length == 7)
		return IS(word, "replace") ? PROTO_REPLACE :
		    IS(word, "prepend") ? PROTO_PREPEND :
		    IS(word, "version") ? PROTO_VERSION : PROTO_REFUSED;
	if (length == 9)
		return IS(word, "flush_all") ? PROTO_FLUSH_ALL :
		    IS(word, "verbosity") ? PROTO_VERBOSITY : PROTO_REFUSED;
	return PROTO_REFUSED;
}

/* bget is get's old name. */
static enum proto_command
find_command(const char *word, size_t length)
{
	switch (length) {
	case 2:
		return word[0] == 'm' ? find_meta(word[1]) : PROTO_REFUSED;
	case 3:
		return IS(word, "get") ? PROTO_GET :
		    IS(word, "set") ? PROTO_SET :
		    IS(word, "add") ? PROTO_ADD :
		    IS(word, "cas") ? PROTO_CAS :
		    IS(word, "gat") ? PROTO_GAT : PROTO_REFUSED;
	case 4:
		return IS(word, "gets") ? PROTO_GETS :
		    IS(word, "incr") ? PROTO_INCR :
		    IS(word, "decr") ? PROTO_DECR :
		    IS(word, "gats") ? PROTO_GATS :
		    IS(word, "quit") ? PROTO_QUIT :
		    IS(word, "bget") ? PROTO_GET : PROTO_REFUSED;
	case 5:
		return IS(word, "touch") ? PROTO_TOUCH :
		    IS(word, "stats") ? PROTO_STATS : PROTO_REFUSED;
	default:
		return find_long(word, length);
	}
}

/* Returns false if this cannot be a request. */
static bool
parse_line(struct line *line, size_t value_max, struct proto_request *r)
{
	size_t start = 0;

	line->at = 3;
	if (line->end < 4 || (!IS(line->bytes, "get ") &&
	    !IS(line->bytes, "set "))) {
		start = skip_spaces(line->bytes, 0, line->end);
		line->at = token_end(line->bytes, start, line->end);
	}
	line->count = line->at > start;
	set_span(&line->token[0], start, line->at);
	r->command = find_command(line->bytes + start, line->at - start);
	switch (r->command) {
	case PROTO_GAT:
	case PROTO_GATS:
		if (!parse_gat(line, r))
			return true;
		/* FALLTHROUGH */
	case PROTO_GET:
	case PROTO_GETS:
		parse_keys(line, r);
		return true;
	case PROTO_SET:
	case PROTO_ADD:
	case PROTO_REPLACE:
	case PROTO_APPEND:
	case PROTO_PREPEND:
	case PROTO_CAS:
		parse_storage(line, value_max, r);
		return true;
	case PROTO_INCR:
	case PROTO_DECR:
		parse_arithmetic(line, r);
		return true;
	case PROTO_TOUCH:
		parse_touch(line, r);
		return true;
	case PROTO_DELETE:
		parse_delete(line, r);
		return true;
	case PROTO_MG:
	case PROTO_MD:
	case PROTO_MA:
		parse_meta(line, r);
		return true;
	case PROTO_MS:
		parse_meta_set(line, value_max, r);
		return true;
	case PROTO_ME:
		parse_meta_debug(line, r);
		return true;
	case PROTO_FLUSH_ALL:
		parse_flush_all(line, r);
		return true;
	case PROTO_VERBOSITY:
		parse_verbosity(line, r);
		return true;
	case PROTO_STATS:
		parse_stats(line, r);
		return true;
	case PROTO_MN:
	case PROTO_VERSION:
	case PROTO_QUIT:
		split(line);
		return true;
	case PROTO_REFUSED:
		return parse_other(line, r);
	}
	assert(false);
	return false;
}

/* Does a line that is longer than others may be begin like a get? */
static bool
is_long_get(const char *bytes, size_t n)
{
	size_t at = 0;

	assert(n > PROTO_LINE_MAX);
	while (at < LEADING_SPACES_MAX && bytes[at] == ' ')
		at++;
	bytes += at;
	return IS(bytes, "get ") || IS(bytes, "gets ") ||
	    IS(bytes, "gat ") || IS(bytes, "gats ");
}

/*
 * Find the line at the start of n bytes.  A limit counts the bytes before the
 * LF, so that it does not matter in which pieces they arrive.
 */
static enum proto_status
find_line(const char *bytes, size_t n, const char **lf)
{
	size_t done = n;

	if (done > PROTO_LINE_MAX + 1)
		done = PROTO_LINE_MAX + 1;
	*lf = memchr(bytes, '\n', done);
	if (*lf != NULL)
		return PROTO_OK;
	if (n <= PROTO_LINE_MAX)
		return PROTO_MORE;
	if (!is_long_get(bytes, n))
		return PROTO_TOO_LONG;
	*lf = memchr(bytes + done, '\n',
	    (n > PROTO_GET_LINE_MAX ? PROTO_GET_LINE_MAX + 1 : n) - done);
	if (*lf != NULL)
		return PROTO_OK;
	return n > PROTO_GET_LINE_MAX ? PROTO_TOO_LONG : PROTO_MORE;
}

/* The line is good; look for the data behind it. */
static enum proto_status
finish_data(const char *bytes, size_t n, struct proto_request *r)
{
	assert(r->data.at == r->length && r->error == NULL);
	r->length += (size_t)r->data.length + 2;
	if (n < r->length)
		return PROTO_MORE;
	if (bytes[r->length - 2] != '\r' || bytes[r->length - 1] != '\n')
		r->error = error_data;
	return PROTO_OK;
}

enum proto_status
proto_request(const char *bytes, size_t n, size_t value_max,
    struct proto_request *r)
{
	enum proto_status status;
	struct line line;
	const char *lf;

	*r = (struct proto_request){ .length = 0 };
	if (n == 0)
		return PROTO_MORE;
	assert(bytes != NULL);
	if ((bytes[0] & 0xfe) == 0x80)
		return PROTO_BAD;
	status = find_line(bytes, n, &lf);
	if (status != PROTO_OK)
		return status;
	line.bytes = bytes;
	line.end = (size_t)(lf - bytes);
	r->length = line.end + 1;
	if (line.end > 0 && lf[-1] == '\r')
		line.end--;
	line.unclean = !is_clean(bytes, 0, line.end);
	if (!parse_line(&line, value_max, r))
		return PROTO_BAD;
	if (line.unclean)
		r->error = error_format;
	if (r->error == NULL && r->data.at != 0)
		return finish_data(bytes, n, r);
	return PROTO_OK;
}

/* What may follow the word that a line of a reply begins with. */
enum form {
	FORM_BARE,		/* nothing */
	FORM_NUMBER,		/* there is no word but a number */
	FORM_TEXT,		/* nothing, or any text */
	FORM_VALUE,		/* key, flags, length, cas unique, data */
	FORM_STAT,		/* name and value */
	FORM_VERSION,		/* text */
	FORM_META,		/* flags */
	FORM_META_VALUE		/* length, flags, data */
};

struct word {
	const char *text;
	size_t length;
	enum proto_result result;
	enum form form;
};

#define WORD(text, result, form) { text, sizeof(text) - 1, result, form }
#define WORD_END { NULL, 0, PROTO_ERROR, FORM_BARE }

static const struct word words_error[] = {
	WORD("ERROR", PROTO_ERROR, FORM_TEXT),
	WORD("CLIENT_ERROR", PROTO_CLIENT_ERROR, FORM_TEXT),
	WORD("SERVER_ERROR", PROTO_SERVER_ERROR, FORM_TEXT),
	WORD_END
};

static const struct word words_values[] = {
	WORD("VALUE", PROTO_VALUE, FORM_VALUE),
	WORD("END", PROTO_END, FORM_BARE),
	WORD_END
};

static const struct word words_stored[] = {
	WORD("STORED", PROTO_STORED, FORM_BARE),
	WORD("NOT_STORED", PROTO_NOT_STORED, FORM_BARE),
	WORD("EXISTS", PROTO_EXISTS, FORM_BARE),
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END
};

static const struct word words_number[] = {
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END
};

static const struct word words_touched[] = {
	WORD("TOUCHED", PROTO_TOUCHED, FORM_BARE),
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END
};

static const struct word words_deleted[] = {
	WORD("DELETED", PROTO_DELETED, FORM_BARE),
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END
};

/* Before 1.6.10 what is HD now was OK. */
static const struct word words_meta_get[] = {
	WORD("VA", PROTO_META_VALUE, FORM_META_VALUE),
	WORD("EN", PROTO_META_EN, FORM_META),
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END
};

static const struct word words_meta_set[] = {
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("NS", PROTO_META_NS, FORM_META),
	WORD("EX", PROTO_META_EX, FORM_META),
	WORD("NF", PROTO_META_NF, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END
};

static const struct word words_meta_delete[] = {
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("NF", PROTO_META_NF, FORM_META),
	WORD("EX", PROTO_META_EX, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END
};

static const struct word words_meta_arithmetic[] = {
	WORD("VA", PROTO_META_VALUE, FORM_META_VALUE),
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("NF", PROTO_META_NF, FORM_META),
	WORD("NS", PROTO_META_NS, FORM_META),
	WORD("EX", PROTO_META_EX, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END
};

static const struct word words_meta_debug[] = {
	WORD("ME", PROTO_META_DEBUG, FORM_TEXT),
	WORD("EN", PROTO_META_EN, FORM_META),
	WORD_END
};

static const struct word words_ok[] = {
	WORD("OK", PROTO_OKAY, FORM_BARE),
	WORD_END
};

static const struct word words_version[] = {
	WORD("VERSION", PROTO_VERSION_LINE, FORM_VERSION),
	WORD_END
};

static const struct word words_stats[] = {
	WORD("STAT", PROTO_STAT, FORM_STAT),
	WORD("END", PROTO_END, FORM_BARE),
	WORD_END
};

static const struct word word_number = WORD("", PROTO_NUMBER, FORM_NUMBER);

static const struct word *const words[] = {
	[PROTO_EXPECT_VALUES] = words_values,
	[PROTO_EXPECT_VALUES_CAS] = words_values,
	[PROTO_EXPECT_STORED] = words_stored,
	[PROTO_EXPECT_NUMBER] = words_number,
	[PROTO_EXPECT_TOUCHED] = words_touched,
	[PROTO_EXPECT_DELETED] = words_deleted,
	[PROTO_EXPECT_META_GET] = words_meta_get,
	[PROTO_EXPECT_META_SET] = words_meta_set,
	[PROTO_EXPECT_META_DELETE] = words_meta_delete,
	[PROTO_EXPECT_META_ARITHMETIC] = words_meta_arithmetic,
	[PROTO_EXPECT_META_DEBUG] = words_meta_debug,
	[PROTO_EXPECT_OK] = words_ok,
	[PROTO_EXPECT_VERSION] = words_version,
	[PROTO_EXPECT_STATS] = words_stats
};

/* Is c what the line may have right behind this word? */
static bool
may_follow(const struct word *word, char c)
{
	if (word->form == FORM_BARE)
		return c == '\r';
	if (word->form == FORM_TEXT || word->form == FORM_META)
		return c == ' ' || c == '\r' ||
		    (c == ':' && word->result == PROTO_ERROR);
	return c == ' ';
}

/* The word of the list with which n bytes begin, or may begin once more of
   them are here. */
static const struct word *
find_word(const struct word *list, const char *bytes, size_t n)
{
	size_t length;

	assert(n > 0);
	for (; list->text != NULL; list++) {
		length = n < list->length ? n : list->length;
		if (bytes[0] == list->text[0] &&
		    memcmp(bytes, list->text, length) == 0 &&
		    (n == length || may_follow(list, bytes[length])))
			return list;
	}
	return NULL;
}

/*
 * The field behind the single space at *at, which is moved to the field's end.
 */
static bool
next_field(const char *bytes, size_t end, size_t *at, struct proto_span *field)
{
	size_t start = *at + 1;

	assert(*at <= end);
	if (*at >= end || bytes[*at] != ' ')
		return false;
	*at = key_end(bytes, start, end);
	set_span(field, start, *at);
	return field->length > 0;
}

/* A number that a server wrote has no zeros before it without end. */
static bool
read_number(const char *text, size_t length, uint64_t *number)
{
	return length <= DIGITS_MAX && read_digits(text, length, number);
}

static bool
next_number(const char *bytes, size_t end, size_t *at,
    struct proto_span *field, uint64_t *number)
{
	return next_field(bytes, end, at, field) &&
	    read_number(bytes + field->at, field->length, number);
}

/* Data of this length follows the line. */
static enum proto_status
finish_block(const char *bytes, size_t n, uint64_t length, size_t value_max,
    struct proto_reply *r)
{
	if (length > value_max || length > DATA_MAX)
		return PROTO_BAD;
	assert(r->length > 2 && r->length <= PROTO_LINE_MAX + 1);
	r->data.at = (uint32_t)r->length;
	r->data.length = (uint32_t)length;
	r->length += (size_t)length + 2;
	if (n >= r->length - 1 && bytes[r->length - 2] != '\r')
		return PROTO_BAD;
	if (n < r->length)
		return PROTO_MORE;
	return bytes[r->length - 1] == '\n' ? PROTO_OK : PROTO_BAD;
}

/* Client flags, which nobody needs as a number.  Old memcached wrote them as a
   signed one. */
static inline bool
skip_number(const char *bytes, size_t *at)
{
	size_t start = *at + 1;

	if (bytes[*at] != ' ')
		return false;
	start += bytes[start] == '-';
	*at = start;
	while ((unsigned char)bytes[*at] - (unsigned)'0' <= 9)
		++*at;
	return *at > start && *at - start <= DIGITS_MAX;
}

static enum proto_status
parse_value(const char *bytes, size_t n, size_t end, bool has_cas,
    size_t value_max, struct proto_reply *r)
{
	uint64_t number, length;
	size_t at = sizeof("VALUE") - 1;

	if (!next_field(bytes, end, &at, &r->key) ||
	    r->key.length > PROTO_KEY_MAX || !skip_number(bytes, &at) ||
	    !take_number(bytes, &at, &length))
		return PROTO_BAD;
	if (has_cas && !next_number(bytes, end, &at, &r->cas, &number))
		return PROTO_BAD;
	if (at != end)
		return PROTO_BAD;
	return finish_block(bytes, n, length, value_max, r);
}

static enum proto_status
parse_stat(const char *bytes, size_t end, struct proto_reply *r)
{
	size_t at = sizeof("STAT") - 1;

	if (!next_field(bytes, end, &at, &r->key))
		return PROTO_BAD;
	r->data.at = (uint32_t)(at < end ? at + 1 : at);
	r->data.length = (uint32_t)(end - r->data.at);
	return PROTO_OK;
}

static enum proto_status
parse_version(const char *bytes, size_t end, struct proto_reply *r)
{
	size_t at = sizeof("VERSION") - 1;

	if (!next_field(bytes, end, &at, &r->data))
		return PROTO_BAD;
	r->data.length = (uint32_t)(end - r->data.at);
	return PROTO_OK;
}

/* The flags of a meta reply, from the space or end at at on. */
static enum proto_status
parse_flags(const char *bytes, size_t at, size_t end, struct proto_reply *r)
{
	struct proto_span token;
	uint64_t number;

	assert(at == end || bytes[at] == ' ');
	if (at == end)
		return PROTO_OK;
	at++;
	r->meta.at = (uint32_t)at;
	r->meta.length = (uint32_t)(end - at);
	while (proto_token(bytes, end, &at, &token)) {
		if (bytes[token.at] != 'c')
			continue;
		r->cas.at = token.at + 1;
		r->cas.length = token.length - 1;
		if (!read_number(bytes + r->cas.at, r->cas.length, &number))
			return PROTO_BAD;
	}
	return PROTO_OK;
}

/* A number that decr left shorter than it was has spaces behind it. */
static bool
read_padded(const char *bytes, size_t at, size_t end, uint64_t *number)
{
	size_t stop = token_end(bytes, at, end);

	if (!read_number(bytes + at, stop - at, number))
		return false;
	while (stop < end && bytes[stop] == ' ')
		stop++;
	return stop == end;
}

static enum proto_status
parse_meta_value(const char *bytes, size_t n, size_t end,
    enum proto_expect expect, size_t value_max, struct proto_reply *r)
{
	enum proto_status status;
	struct proto_span field;
	size_t at = sizeof("VA") - 1;
	uint64_t length;

	if (!next_number(bytes, end, &at, &field, &length) ||
	    parse_flags(bytes, at, end, r) != PROTO_OK)
		return PROTO_BAD;
	status = finish_block(bytes, n, length, value_max, r);
	if (status == PROTO_OK && expect == PROTO_EXPECT_META_ARITHMETIC &&
	    !read_padded(bytes, r->data.at, r->data.at + r->data.length,
	    &r->number))
		return PROTO_BAD;
	return status;
}

/* The line without its end is bytes[0 .. end); it begins with the word. */
static enum proto_status
parse_reply(const char *bytes, size_t n, size_t end, const struct word *word,
    enum proto_expect expect, size_t value_max, struct proto_reply *r)
{
	assert(end >= word->length && end + 2 <= n);
	r->result = word->result;
	if (word->form == FORM_BARE)
		return end == word->length ? PROTO_OK : PROTO_BAD;
	if (!is_clean(bytes, word->length, end))
		return PROTO_BAD;
	switch (word->form) {
	case FORM_BARE:
	case FORM_NUMBER:
		return read_padded(bytes, 0, end, &r->number) ? PROTO_OK :
		    PROTO_BAD;
	case FORM_TEXT:
		return PROTO_OK;
	case FORM_VALUE:
		return parse_value(bytes, n, end,
		    expect == PROTO_EXPECT_VALUES_CAS, value_max, r);
	case FORM_STAT:
		return parse_stat(bytes, end, r);
	case FORM_VERSION:
		return parse_version(bytes, end, r);
	case FORM_META:
		return parse_flags(bytes, word->length, end, r);
	case FORM_META_VALUE:
		return parse_meta_value(bytes, n, end, expect, value_max, r);
	}
	assert(false);
	return PROTO_BAD;
}

/* What the reply begins with, if this request can have such a reply. */
static const struct word *
find_reply(const char *bytes, size_t n, enum proto_expect expect)
{
	const struct word *word;

	if (expect == PROTO_EXPECT_NUMBER && bytes[0] >= '0' &&
	    bytes[0] <= '9')
		return &word_number;
	word = find_word(words[expect], bytes, n);
	return word != NULL ? word : find_word(words_error, bytes, n);
}

/* At most 9 digits at *at, which is moved behind them, and the byte that has
   to follow. */
static inline bool
quick_number(const char *bytes, size_t n, size_t *at, char behind,
    uint32_t *number)
{
	size_t end = *at + 9 < n ? *at + 9 : n;
	size_t i = *at;

	*number = 0;
	while (i < end && (unsigned char)(bytes[i] - '0') <= 9)
		*number = *number * 10 + (uint32_t)(bytes[i++] - '0');
	if (i == *at || i == n || bytes[i] != behind)
		return false;
	*at = i + 1;
	return true;
}

/*
 * The two elements of nearly all replies to a get, the short way.  What it does
 * not take (false) is for the long way, even if it is only not whole yet.  A
 * key with a byte below a space is too: it may be no key, or even hold a line
 * end, and then the result would depend on how many bytes are here.
 */
static inline bool
quick_reply(const char *bytes, size_t n, size_t value_max,
    struct proto_reply *r)
{
	size_t at = sizeof("VALUE ") - 1;
	uint32_t flags, length;
	const char *space;

	if (n >= 5 && memcmp(bytes, "END\r\n", 5) == 0) {
		r->result = PROTO_END;
		r->length = 5;
		return true;
	}
	if (n < at || memcmp(bytes, "VALUE ", at) != 0)
		return false;
	space = memchr(bytes + at, ' ', n - at < PROTO_KEY_MAX + 1 ? n - at :
	    PROTO_KEY_MAX + 1);
	if (space == NULL)
		return false;
	r->key.at = (uint32_t)at;
	at = (size_t)(space - bytes) + 1;
	r->key.length = (uint32_t)at - 1 - r->key.at;
	if (r->key.length == 0 || !is_plain(bytes + r->key.at, r->key.length) ||
	    !quick_number(bytes, n, &at, ' ', &flags) ||
	    !quick_number(bytes, n, &at, '\r', &length) ||
	    length > value_max || n - at < (size_t)length + 3 ||
	    bytes[at] != '\n' || bytes[at + 1 + length] != '\r' ||
	    bytes[at + 2 + length] != '\n')
		return false;
	r->result = PROTO_VALUE;
	r->data.at = (uint32_t)at + 1;
	r->data.length = length;
	r->length = at + 3 + length;
	return true;
}

enum proto_status
proto_reply(const char *bytes, size_t n, enum proto_expect expect,
    size_t value_max, struct proto_reply *r)
{
	size_t look = n > PROTO_LINE_MAX ? PROTO_LINE_MAX + 1 : n;
	const struct word *word;
	const char *lf;

	assert(expect <= PROTO_EXPECT_STATS);
	*r = (struct proto_reply){ .length = 0 };
	if (n == 0)
		return PROTO_MORE;
	assert(bytes != NULL);
	if (expect == PROTO_EXPECT_VALUES &&
	    quick_reply(bytes, n, value_max, r))
		return PROTO_OK;
	*r = (struct proto_reply){ .length = 0 };
	word = find_reply(bytes, n, expect);
	if (word == NULL)
		return PROTO_BAD;
	lf = memchr(bytes, '\n', look);
	if (lf == NULL)
		return memchr(bytes, '\r', look - 1) != NULL ? PROTO_BAD :
		    n > PROTO_LINE_MAX ? PROTO_TOO_LONG : PROTO_MORE;
	if (lf - bytes < 2 || lf[-1] != '\r')
		return PROTO_BAD;
	r->length = (size_t)(lf - bytes) + 1;
	return parse_reply(bytes, n, r->length - 2, word, expect, value_max,
	    r);
}
