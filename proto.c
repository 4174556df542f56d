/*
 * Say what the next request in some bytes is.  The classic commands are taken
 * apart here, the meta commands in proto_meta.c.
 *
 * Invariant: a result depends on the arguments alone.  Nothing at or behind
 * bytes + n is read, and every span lies inside the message.  An error has the
 * line that memcached 1.6.18 gives it; tests/behaviour/exceptions.md lists
 * where it has not, and why.
 */

#include "proto.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "hot_assert.h"
#include "proto_scan.h"

enum {
	/* Most spaces before a get whose line is long. */
	LEADING_SPACES_MAX = 100,
};

static_assert(PROTO_LINE_MAX < PROTO_GET_LINE_MAX &&
	LEADING_SPACES_MAX + sizeof("gats ") <= PROTO_LINE_MAX,
    "the start of a get whose line is long is within the shorter limit");
static_assert((uint64_t)PROTO_LINE_MAX + 1 + DATA_MAX <= UINT32_MAX,
    "a span reaches the end of the data");

static const char error_delete[] =
    "CLIENT_ERROR bad command line format.  "
    "Usage: delete <key> [noreply]";
/* That of stats with too few words. */
static const char error_line[] = "CLIENT_ERROR bad command line";
static const char error_reserved[] =
    "CLIENT_ERROR keys that begin with magent: are reserved";
static const char error_exptime[] = "CLIENT_ERROR invalid exptime argument";
static const char error_delta[] = "CLIENT_ERROR invalid numeric delta argument";
static const char error_data[] = "CLIENT_ERROR bad data chunk";
static const char error_refused[] = "CLIENT_ERROR command not allowed";
static const char error_shutdown[] = "ERROR: shutdown not enabled";

bool
proto_token(const char *bytes, size_t end, size_t *at, struct proto_span *token)
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

static inline bool
is_noreply(const struct line *line)
{
	const struct proto_span *last = &line->token[line->count - 1];

	assert(line->count > 0);
	return last->length == sizeof("noreply") - 1 &&
	    IS(line->bytes + last->at, "noreply");
}

/* Read an exptime, and cut it to 32 bits as memcached 1.6.18 does. */
static bool
read_exptime(const struct line *line, unsigned i, struct proto_request *r)
{
	int64_t number;

	if (!line_read_signed(line, i, &number))
		return false;
	r->exptime = (int32_t)(uint32_t)(uint64_t)number;
	return true;
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
			r->error = proto_error_format;
		else if (bytes[start] == PROTO_RESERVED[0] &&
		    proto_key_is_reserved(bytes + start, at - start, false))
			r->error = error_reserved;
		set_span(&r->keys, r->key.at, at);
	}
	hot_assert((count == 0) == (r->keys.length == 0));
	r->key_count = count;
	if (count == 0)
		r->error = proto_error_unknown;
}

/* Read the exptime, which is before the keys.  Returns false if there is an
   error; then nobody needs the keys. */
static bool
parse_gat(struct line *line, struct proto_request *r)
{
	size_t start = skip_spaces(line->bytes, line->at, line->end);

	assert(line->count == 1);
	r->error = proto_error_unknown;
	if (start == line->end)
		return false;
	line->at = token_end(line->bytes, start, line->end);
	set_span(&line->token[line->count++], start, line->at);
	r->error = read_exptime(line, 1, r) ? NULL : error_exptime;
	return r->error == NULL;
}

/*
 * Read a storage command as nearly all are written: with single spaces and
 * small plain numbers.  Returns false if this one is not; then it must be read
 * token by token.
 */
static inline bool
scan_storage(const struct line *line, uint32_t *length, struct proto_request *r)
{
	const char *bytes = line->bytes;
	size_t key = line->at + 1, stop, at;
	uint64_t flags, exptime, n;

	if (key >= line->end)
		return false;
	at = stop = key_end(bytes, key, line->end);
	if (at - key - 1 >= PROTO_KEY_MAX || !scan_number(bytes, &at, &flags) ||
	    !scan_number(bytes, &at, &exptime) || !scan_number(bytes, &at, &n))
		return false;
	r->noreply = line->end - at == sizeof(" noreply") - 1 &&
	    IS(bytes + at, " noreply");
	if ((at != line->end && !r->noreply) || flags > UINT32_MAX ||
	    exptime > INT32_MAX || n > DATA_MAX)
		return false;
	set_span(&r->key, key, stop);
	set_span(&r->words, key, at);
	r->flags = (uint32_t)flags;
	r->exptime = (int32_t)exptime;
	*length = (uint32_t)n;
	return true;
}

/* Take the line apart, and look whether its last word is noreply.  Returns
   false, and sets the error, if there are less than least words, or more than
   most. */
static bool
split_into(struct line *line, unsigned least, unsigned most,
    struct proto_request *r)
{
	assert(least > 0 && least <= most && most < TOKENS_MAX);
	split(line);
	if (line->count < least || line->count > most) {
		r->error = proto_error_unknown;
		return false;
	}
	r->noreply = is_noreply(line);
	return true;
}

static void
parse_storage(struct line *line, size_t value_max, struct proto_request *r)
{
	bool is_cas = r->command == PROTO_CAS;
	unsigned want = is_cas ? 6 : 5;
	uint32_t length;
	uint64_t flags;

	if (!is_cas && scan_storage(line, &length, r)) {
		line_set_data(line, length, value_max, r);
		return;
	}
	if (!split_into(line, want, want + 1, r))
		return;
	if (!read_key(line, r) || !line_read_unsigned(line, 2, &flags) ||
	    !read_exptime(line, 3, r) ||
	    (is_cas && !line_read_unsigned(line, 5, &r->cas)))
		r->error = proto_error_format;
	else
		r->flags = (uint32_t)flags;
	if (line_read_length(line, 4, &length))
		line_set_data(line, length, value_max, r);
	else
		r->error = proto_error_format;
}

static void
parse_arithmetic(struct line *line, struct proto_request *r)
{
	if (!split_into(line, 3, 4, r))
		return;
	if (!read_key(line, r))
		r->error = proto_error_format;
	else if (!line_read_unsigned(line, 2, &r->delta))
		r->error = error_delta;
}

static void
parse_touch(struct line *line, struct proto_request *r)
{
	if (!split_into(line, 3, 4, r))
		return;
	if (!read_key(line, r))
		r->error = proto_error_format;
	else if (!read_exptime(line, 2, r))
		r->error = error_exptime;
}

/* These are good: delete KEY, delete KEY 0, and both with noreply. */
static void
parse_delete(struct line *line, struct proto_request *r)
{
	bool is_zero;

	if (!split_into(line, 2, 4, r))
		return;
	if (!read_key(line, r))
		r->error = proto_error_format;
	if (line->count == 2) {
		r->noreply = false; /* a last word that is noreply is the key */
		return;
	}
	is_zero = line_token_is(line, 2, "0");
	if (line->count == 3 ? !is_zero && !r->noreply :
			       !is_zero || !r->noreply)
		r->error = error_delete;
}

static void
parse_flush_all(struct line *line, struct proto_request *r)
{
	if (!split_into(line, 1, 3, r))
		return;
	r->has_exptime = line->count != (r->noreply ? 2 : 1);
	if (r->has_exptime && !read_exptime(line, 1, r))
		r->error = error_exptime;
}

static void
parse_verbosity(struct line *line, struct proto_request *r)
{
	uint64_t level;

	if (!split_into(line, 2, 3, r))
		return;
	if (!line_read_unsigned(line, 1, &level))
		r->error = proto_error_format;
}

/* Only stats route is about a key. */
static void
parse_stats(struct line *line, struct proto_request *r)
{
	split(line);
	if (line->count == 1)
		return;
	r->argument = line->token[1];
	if (!line_token_is(line, 1, "route"))
		return;
	if (line->count != 3)
		r->error = error_line;
	else if (line->token[2].length > PROTO_KEY_MAX)
		r->error = proto_error_format;
	else
		r->key = line->token[2];
}

/*
 * Find the error for a command that is not served.  Returns false if memcached
 * would close the connection, because the client speaks HTTP.
 */
static bool
parse_other(struct line *line, struct proto_request *r)
{
	static const char *const refused[] = {
		"cache_memlimit",
		"lru",
		"lru_crawler",
		"slabs",
	};
	const struct proto_span *last;
	size_t i;

	split(line);
	r->error = proto_error_unknown;
	if (line->count == 0)
		return true;
	if (line_token_is(line, 0, "shutdown"))
		r->error = error_shutdown;
	if (line_token_is(line, 0, "watch") ||
	    line_token_is(line, 0, "refresh_certs"))
		r->error = error_refused;
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (line->count > 1 && line_token_is(line, 0, refused[i]))
			r->error = error_refused;
	}
	r->noreply = r->error == error_refused && is_noreply(line);
	last = &line->token[line->count - 1];
	return r->error != proto_error_unknown || line->token[0].length < 3 ||
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
		    IS(word, "append")    ? PROTO_APPEND :
					    PROTO_REFUSED;
	if (length == 7)
		return IS(word, "replace") ? PROTO_REPLACE :
		    IS(word, "prepend")    ? PROTO_PREPEND :
		    IS(word, "version")    ? PROTO_VERSION :
					     PROTO_REFUSED;
	if (length == 9)
		return IS(word, "flush_all") ? PROTO_FLUSH_ALL :
		    IS(word, "verbosity")    ? PROTO_VERBOSITY :
					       PROTO_REFUSED;
	return PROTO_REFUSED;
}

/* The word bget is an old name of get. */
static enum proto_command
find_command(const char *word, size_t length)
{
	switch (length) {
	case 2:
		return word[0] == 'm' ? find_meta(word[1]) : PROTO_REFUSED;
	case 3:
		return IS(word, "get") ? PROTO_GET :
		    IS(word, "set")    ? PROTO_SET :
		    IS(word, "add")    ? PROTO_ADD :
		    IS(word, "cas")    ? PROTO_CAS :
		    IS(word, "gat")    ? PROTO_GAT :
					 PROTO_REFUSED;
	case 4:
		return IS(word, "gets") ? PROTO_GETS :
		    IS(word, "incr")    ? PROTO_INCR :
		    IS(word, "decr")    ? PROTO_DECR :
		    IS(word, "gats")    ? PROTO_GATS :
		    IS(word, "quit")    ? PROTO_QUIT :
		    IS(word, "bget")    ? PROTO_GET :
					  PROTO_REFUSED;
	case 5:
		return IS(word, "touch") ? PROTO_TOUCH :
		    IS(word, "stats")    ? PROTO_STATS :
					   PROTO_REFUSED;
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
	if (line->end < 4 ||
	    (!IS(line->bytes, "get ") && !IS(line->bytes, "set "))) {
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
		meta_parse(line, r);
		return true;
	case PROTO_MS:
		meta_parse_set(line, value_max, r);
		return true;
	case PROTO_ME:
		meta_parse_debug(line, r);
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

/* Whether the line begins like one that may be longer than PROTO_LINE_MAX. */
static bool
is_long_get(const char *bytes, size_t n)
{
	size_t at = 0;

	assert(n > PROTO_LINE_MAX);
	while (at < LEADING_SPACES_MAX && bytes[at] == ' ')
		at++;
	bytes += at;
	return IS(bytes, "get ") || IS(bytes, "gets ") || IS(bytes, "gat ") ||
	    IS(bytes, "gats ");
}

/*
 * Find the LF of the line at the start of n bytes.  A limit counts the bytes
 * before the LF, so it does not matter in which pieces they arrive.  In a long
 * line the bytes that were tried before are passed over; in any other one that
 * would save nothing.
 */
static enum proto_status
find_line(const char *bytes, size_t n, size_t tried, const char **lf)
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
	if (done < tried && tried <= n)
		done = tried < PROTO_GET_LINE_MAX ? tried : PROTO_GET_LINE_MAX;
	*lf = memchr(bytes + done, '\n',
	    (n > PROTO_GET_LINE_MAX ? PROTO_GET_LINE_MAX + 1 : n) - done);
	if (*lf != NULL)
		return PROTO_OK;
	return n > PROTO_GET_LINE_MAX ? PROTO_TOO_LONG : PROTO_MORE;
}

/* The line is good: look whether its data has arrived, and ends in CRLF. */
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

/* Whether the one key of a command belongs to proxies. */
static inline bool
has_reserved_key(const char *bytes, const struct proto_request *r)
{
	const char *key = bytes + r->key.at;

	return r->key.length > 0 && r->command > PROTO_GATS &&
	    (key[0] == PROTO_RESERVED[0] || r->base64) &&
	    (r->error == NULL || r->too_large) &&
	    proto_key_is_reserved(key, r->key.length, r->base64);
}

/* Clients may neither read nor write such a key.  Its data is thrown away. */
static void
refuse_reserved_key(struct proto_request *r)
{
	r->error = error_reserved;
	r->too_large = false;
	if (r->data.at == 0)
		return;
	r->swallow = (uint64_t)r->data.length + 2;
	r->data = (struct proto_span){ 0, 0 };
}

enum proto_status
proto_request(const char *bytes, size_t n, size_t value_max,
    struct proto_request *r)
{
	return proto_request_again(bytes, n, 0, value_max, r);
}

enum proto_status
proto_request_again(const char *bytes, size_t n, size_t tried, size_t value_max,
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
	status = find_line(bytes, n, tried, &lf);
	if (status != PROTO_OK)
		return status;
	hot_assert(lf >= bytes && lf < bytes + n);
	line.bytes = bytes;
	line.end = (size_t)(lf - bytes);
	r->length = line.end + 1;
	if (line.end > 0 && lf[-1] == '\r')
		line.end--;
	line.has_nul_or_cr = !is_clean(bytes, 0, line.end);
	if (!parse_line(&line, value_max, r))
		return PROTO_BAD;
	if (line.has_nul_or_cr)
		r->error = proto_error_format;
	else if (has_reserved_key(bytes, r))
		refuse_reserved_key(r);
	if (r->error == NULL && r->data.at != 0)
		return finish_data(bytes, n, r);
	return PROTO_OK;
}
