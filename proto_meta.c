/*
 * Take the lines of the meta commands mg, ms, md, ma and me apart.
 *
 * Invariant: if there is no error, every flag is known to memcached, was given
 * once only, and has an argument that means the same to every server.  me is an
 * exception: like memcached it takes any flags.
 */

#include <assert.h>
#include <string.h>

#include "proto.h"
#include "proto_scan.h"

enum {
	/* Key and flags: memcacheds up to 1.6.17 close the connection at a line
	   of more than 1024 bytes.  Only zeros before numbers get there. */
	META_BYTES_MAX = 960,
	META_TOKENS_MAX = 19, /* command, key and flags */
	OPAQUE_MAX = 32,      /* bytes of an opaque, with the O before it */
};

static_assert((int)META_TOKENS_MAX < (int)TOKENS_MAX,
    "split() shows if a line has more");

static const char error_flags[] = "CLIENT_ERROR invalid or duplicate flag";
static const char error_flag[] = "CLIENT_ERROR invalid flag";
static const char error_twice[] = "CLIENT_ERROR duplicate flag";
static const char error_token[] =
    "CLIENT_ERROR bad token in command line format";
static const char error_base64[] = "CLIENT_ERROR error decoding key";
static const char error_opaque[] = "CLIENT_ERROR opaque token too long";

static bool
is_base64(const struct line *line)
{
	char key[PROTO_KEY_MAX];

	return proto_base64_decode(line->bytes + line->token[1].at,
		   line->token[1].length, key) > 0;
}

/* Read seconds: digits, perhaps behind a minus, that fit in 32 bits. */
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

/* Read the seconds of N, R or T.  Returns the error; error is what there was
   before. */
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
		return error != NULL ? error : proto_error_format;
	r->flags = (uint32_t)number;
	return error;
}

/*
 * Read one flag and its argument.  Returns the error or NULL; error is that of
 * the flags before it.  An argument goes to the servers as it was written, so
 * it must mean the same to all of them.
 */
static const char *
read_flag(const struct line *line, const struct proto_span *token,
    const char *error, struct proto_request *r)
{
	const char *text = line->bytes + token->at + 1;
	size_t length = token->length - 1;
	uint64_t ignored;

	assert(token->length > 0);
	switch (text[-1]) {
	case 'C':
		/* A mg does not compare: it has always ignored C. */
		r->has_cas = r->command != PROTO_MG;
		return read_digits(text, length, &r->cas) ? error : error_token;
	case 'D':
		return read_digits(text, length, &r->delta) ?
		    error :
		    "CLIENT_ERROR invalid numeric delta value";
	case 'E':
		r->has_chosen_cas = true;
		return read_digits(text, length, &ignored) ?
		    error :
		    error_token;
	case 'F':
		return read_client_flags(text, length, error, r);
	case 'I':
		r->has_invalidate = true;
		return error;
	case 'J':
		return read_digits(text, length, &r->initial) ?
		    error :
		    "CLIENT_ERROR invalid numeric initial value";
	case 'M':
		r->mode = text[0];
		return length == 1 ?
		    error :
		    "CLIENT_ERROR incorrect length for M token";
	case 'N':
		return read_time(text, length, error, &r->has_vivify,
		    &r->vivify);
	case 'R':
		return read_time(text, length, error, &r->has_recache,
		    &r->recache);
	case 'T':
		return read_time(text, length, error, &r->has_ttl, &r->exptime);
	case 'b':
		r->base64 = true;
		return is_base64(line) ? error : error_base64;
	case 'q':
		r->quiet = true;
		return error;
	case 'v':
		r->has_value = true;
		return error;
	case 'x':
		r->removes_value = true;
		return r->command == PROTO_MD ? error : error_flag;
	case 'L':
	case 'O':
	case 'P':
	case 'c':
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
 * Check the flags, which begin with token number first.  Returns the error or
 * NULL.  As in memcached, the last bad argument is reported, but an unknown
 * flag ends the search.
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

/* Give the mode its canonical letter.  Returns false if there is no such
   mode. */
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

	assert(first >= 2 && r->meta.length == 0);
	if (first >= line->count)
		return;
	last = &line->token[line->count - 1];
	r->meta.at = line->token[first].at;
	assert(last->at >= r->meta.at);
	r->meta.length = last->at + last->length - r->meta.at;
}

/* md and ma have one error for all that is wrong with flags. */
static const char *
flags_error(const struct proto_request *r, const char *error)
{
	if (error != NULL && (r->command == PROTO_MD || r->command == PROTO_MA))
		return error_flags;
	return error;
}

/* The error of a line whose flags can be read, or NULL. */
static const char *
check_flags(const struct line *line, unsigned first, struct proto_request *r)
{
	if (!check_mode(r))
		return r->command == PROTO_MS ?
		    "CLIENT_ERROR invalid mode for ms M token" :
		    "CLIENT_ERROR invalid mode for ma M token";
	if (!check_opaque(line, first))
		return error_opaque;
	return r->key.length + r->meta.length <= META_BYTES_MAX ?
	    NULL :
	    "CLIENT_ERROR line too long";
}

static const char *
check_meta(const struct line *line, unsigned first, struct proto_request *r)
{
	const char *error;

	assert(line->count >= 2 && first >= 2);
	if (!read_key(line, r))
		return proto_error_format;
	if (line->count < first)
		return proto_error_format;
	if (line->count > META_TOKENS_MAX)
		return r->command == PROTO_MG ?
		    "CLIENT_ERROR options flags are too long" :
		    "CLIENT_ERROR options flags too long";
	error = flags_error(r, read_flags(line, first, r));
	if (error == NULL)
		error = check_flags(line, first, r);
	/* 1.6.18 looks at nothing behind a flag that it does not know. */
	if (error != NULL && (r->has_chosen_cas || r->removes_value))
		error = flags_error(r, error_flag);
	return error;
}

void
meta_parse(struct line *line, struct proto_request *r)
{
	assert(r->command == PROTO_MG || r->command == PROTO_MD ||
	    r->command == PROTO_MA);
	split(line);
	if (line->count < 2) {
		r->error = proto_error_unknown;
		return;
	}
	r->delta = 1;
	set_meta(line, 2, r);
	r->error = check_meta(line, 2, r);
}

void
meta_parse_set(struct line *line, size_t value_max, struct proto_request *r)
{
	uint32_t length;

	assert(r->command == PROTO_MS);
	split(line);
	if (line->count < 2) {
		r->error = proto_error_unknown;
		return;
	}
	set_meta(line, 3, r);
	r->error = check_meta(line, 3, r);
	if (line->count < 3)
		return;
	if (line_read_length(line, 2, &length))
		line_set_data(line, length, value_max, r);
	else if (line->count <= META_TOKENS_MAX)
		r->error = proto_error_format;
}

/* memcached looks only whether the first flag of me is b. */
void
meta_parse_debug(struct line *line, struct proto_request *r)
{
	assert(r->command == PROTO_ME);
	split(line);
	if (line->count < 2 || !read_key(line, r)) {
		r->error = proto_error_format;
		return;
	}
	set_meta(line, 2, r);
	r->base64 = line->count > 2 && line_token_is(line, 2, "b");
	if (r->base64 && !is_base64(line))
		r->error = proto_error_format;
}
