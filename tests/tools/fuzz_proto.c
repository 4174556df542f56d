/*
 * A libFuzzer target for the parser: requests, or replies with -DFUZZ_REPLY,
 * the first byte being the kind of reply that is expected.  scripts/fuzz runs
 * it.
 *
 * Besides what the sanitizers see, every input must keep the promises of
 * proto.h, and to give the same result in whichever pieces it arrives.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto.h"

enum {
	VALUE_MAX = 300,
	CUTS = 64,
};

#define MUST(promise) \
	do { \
		if (!(promise)) \
			broken(#promise, __LINE__); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
broken(const char *promise, int line)
{
	fprintf(stderr, "line %d: broken: %s\n", line, promise);
	abort();
}

static bool
is_inside(struct proto_span span, size_t length)
{
	return (size_t)span.at + span.length <= length;
}

static bool
is_same_span(struct proto_span a, struct proto_span b)
{
	return a.at == b.at && a.length == b.length;
}

/* Nothing that ends a token or a line. */
static void
check_token(const char *bytes, struct proto_span token)
{
	size_t i;

	MUST(token.length > 0);
	for (i = token.at; i < token.at + token.length; i++)
		MUST(bytes[i] != ' ' && bytes[i] != '\0' && bytes[i] != '\r' &&
		    bytes[i] != '\n');
}

#ifndef FUZZ_REPLY

/* A whole message or a part of one, as the parser reports it. */
struct result {
	enum proto_status status;
	struct proto_request r;
};

static bool
is_same(const struct result *a, const struct result *b)
{
	const struct proto_request *x = &a->r, *y = &b->r;

	if (a->status != b->status || a->status != PROTO_OK)
		return a->status == b->status;
	return x->command == y->command && x->length == y->length &&
	    x->swallow == y->swallow && x->error == y->error &&
	    x->too_large == y->too_large && x->noreply == y->noreply &&
	    x->quiet == y->quiet && x->base64 == y->base64 &&
	    x->key_count == y->key_count && is_same_span(x->key, y->key) &&
	    is_same_span(x->keys, y->keys) && is_same_span(x->data, y->data) &&
	    is_same_span(x->meta, y->meta) && x->flags == y->flags &&
	    x->exptime == y->exptime && x->has_exptime == y->has_exptime &&
	    x->cas == y->cas && x->has_cas == y->has_cas &&
	    x->delta == y->delta && x->mode == y->mode &&
	    x->has_ttl == y->has_ttl && x->has_value == y->has_value &&
	    x->has_vivify == y->has_vivify &&
	    x->has_invalidate == y->has_invalidate &&
	    is_same_span(x->argument, y->argument);
}

static void
parse(struct result *result, const char *bytes, size_t n, int expect)
{
	(void)expect;
	memset(result, 0x5a, sizeof(*result));
	result->status = proto_request(bytes, n, VALUE_MAX, &result->r);
}

static bool
has_data(const struct proto_request *r)
{
	return (r->command >= PROTO_SET && r->command <= PROTO_CAS) ||
	    r->command == PROTO_MS;
}

static void
check_error(const struct proto_request *r)
{
	MUST(strncmp(r->error, "ERROR", 5) == 0 ||
	    strncmp(r->error, "CLIENT_ERROR ", 13) == 0 ||
	    strncmp(r->error, "SERVER_ERROR ", 13) == 0);
	MUST(r->swallow == 0 || (has_data(r) && r->swallow >= 2));
	MUST(!r->too_large ||
	    (r->swallow > VALUE_MAX + 2 && r->key.length > 0 &&
		r->key.length <= PROTO_KEY_MAX));
}

static void
check_keys(const char *bytes, const struct proto_request *r)
{
	size_t at = r->keys.at, end = r->keys.at + r->keys.length;
	struct proto_span key;
	unsigned count = 0;

	while (proto_token(bytes, end, &at, &key)) {
		if (count++ == 0)
			MUST(is_same_span(key, r->key));
		MUST(key.length <= PROTO_KEY_MAX);
		check_token(bytes, key);
	}
	MUST(at == end);
	MUST(count == r->key_count && count > 0);
}

static void
check_meta(const char *bytes, const struct proto_request *r)
{
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	char key[PROTO_KEY_MAX];
	struct proto_span token;
	unsigned count = 0;

	while (proto_token(bytes, end, &at, &token)) {
		check_token(bytes, token);
		count++;
	}
	MUST(count <= 18 || r->command == PROTO_ME);
	MUST((count > 0) == (r->meta.length > 0));
	if (r->base64)
		MUST(proto_base64_decode(bytes + r->key.at, r->key.length,
			 key) > 0);
}

/* What is written again in its plainest form must mean the same. */
static void
check_again(const char *bytes, const struct proto_request *r)
{
	char line[PROTO_KEY_MAX + VALUE_MAX + 200];
	struct proto_request again;
	int n;

	n = snprintf(line, sizeof(line), "cas %.*s %lu %ld %lu %llu\r\n",
	    (int)r->key.length, bytes + r->key.at, (unsigned long)r->flags,
	    (long)r->exptime, (unsigned long)r->data.length,
	    (unsigned long long)r->cas);
	MUST(n > 0 && (size_t)n + r->data.length + 2 <= sizeof(line));
	memcpy(line + n, bytes + r->data.at, r->data.length + 2);
	MUST(proto_request(line, (size_t)n + r->data.length + 2, VALUE_MAX,
		 &again) == PROTO_OK);
	MUST(again.error == NULL && again.flags == r->flags &&
	    again.exptime == r->exptime && again.cas == r->cas &&
	    again.data.length == r->data.length &&
	    again.key.length == r->key.length);
}

static void
check_good(const char *bytes, const struct proto_request *r)
{
	MUST(r->command != PROTO_REFUSED && r->swallow == 0 && !r->too_large);
	if (r->command <= PROTO_ME && r->command != PROTO_MN) {
		check_token(bytes, r->key);
		MUST(r->key.length <= PROTO_KEY_MAX);
	}
	if (r->command <= PROTO_GATS)
		check_keys(bytes, r);
	if (r->command >= PROTO_MG && r->command <= PROTO_ME)
		check_meta(bytes, r);
	if (!has_data(r))
		return;
	MUST(r->data.length <= VALUE_MAX);
	MUST(r->length == (size_t)r->data.at + r->data.length + 2);
	MUST(memcmp(bytes + r->length - 2, "\r\n", 2) == 0);
	if (r->command != PROTO_MS)
		check_again(bytes, r);
}

static void
check(const char *bytes, size_t n, const struct result *result)
{
	const struct proto_request *r = &result->r;

	if (result->status == PROTO_MORE)
		MUST(r->length == 0 || r->length > n);
	if (result->status == PROTO_MORE && r->length != 0)
		MUST(has_data(r) && r->error == NULL);
	if (result->status == PROTO_TOO_LONG)
		MUST(n > PROTO_LINE_MAX);
	if (result->status != PROTO_OK)
		return;
	MUST(r->length > 0 && r->length <= n);
	MUST(is_inside(r->key, r->length) && is_inside(r->keys, r->length) &&
	    is_inside(r->data, r->length) && is_inside(r->meta, r->length) &&
	    is_inside(r->argument, r->length));
	if (r->error != NULL)
		check_error(r);
	else
		check_good(bytes, r);
}

#else

struct result {
	enum proto_status status;
	struct proto_reply r;
};

static bool
is_same(const struct result *a, const struct result *b)
{
	const struct proto_reply *x = &a->r, *y = &b->r;

	if (a->status != b->status ||
	    (a->status != PROTO_OK && a->status != PROTO_LARGE))
		return a->status == b->status;
	return x->result == y->result && x->length == y->length &&
	    is_same_span(x->key, y->key) && is_same_span(x->data, y->data) &&
	    is_same_span(x->cas, y->cas) && is_same_span(x->meta, y->meta) &&
	    x->number == y->number;
}

static void
parse(struct result *result, const char *bytes, size_t n, int expect)
{
	memset(result, 0x5a, sizeof(*result));
	result->status = proto_reply(bytes, n, (enum proto_expect)expect,
	    VALUE_MAX, &result->r);
}

static void
check_digits(const char *bytes, struct proto_span digits)
{
	size_t i;

	MUST(digits.length > 0 && digits.length <= 20);
	for (i = digits.at; i < digits.at + digits.length; i++)
		MUST(bytes[i] >= '0' && bytes[i] <= '9');
}

static void
check(const char *bytes, size_t n, const struct result *result)
{
	const struct proto_reply *r = &result->r;

	if (result->status == PROTO_MORE)
		MUST(r->length == 0 ||
		    (r->length > n &&
			r->length <= PROTO_LINE_MAX + VALUE_MAX + 3));
	if (result->status == PROTO_TOO_LONG)
		MUST(n > PROTO_LINE_MAX);
	if (result->status == PROTO_LARGE)
		MUST(r->data.length > VALUE_MAX && r->data.at <= n &&
		    r->length == (size_t)r->data.at + r->data.length + 2);
	if (result->status != PROTO_OK)
		return;
	MUST(r->length > 2 && r->length <= n);
	MUST(memcmp(bytes + r->length - 2, "\r\n", 2) == 0);
	MUST(is_inside(r->key, r->length) && is_inside(r->data, r->length) &&
	    is_inside(r->cas, r->length) && is_inside(r->meta, r->length));
	if (r->result == PROTO_VALUE || r->result == PROTO_STAT)
		check_token(bytes, r->key);
	if (r->result == PROTO_VALUE)
		MUST(r->key.length <= PROTO_KEY_MAX);
	if (r->result == PROTO_VALUE || r->result == PROTO_META_VALUE)
		MUST(r->data.length <= VALUE_MAX &&
		    r->length == (size_t)r->data.at + r->data.length + 2);
	if (r->cas.at != 0)
		check_digits(bytes, r->cas);
}

#endif

/* The result for the first n bytes, in memory of just that size. */
static void
parse_cut(struct result *result, const char *bytes, size_t n, int expect)
{
	char *copy = malloc(n > 0 ? n : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, bytes, n);
	parse(result, copy, n, expect);
	check(copy, n, result);
	free(copy);
}

/*
 * In pieces: more is needed until there is a result, which then stays; a
 * length that was told is the one at which it comes.
 */
static void
check_cuts(const char *bytes, size_t n, int expect)
{
	struct result whole, cut;
	size_t i, told = 0;

	parse_cut(&whole, bytes, n, expect);
	for (i = 0; i < n; i += n / CUTS + 1) {
		parse_cut(&cut, bytes, i, expect);
		if (cut.status != PROTO_MORE) {
			MUST(is_same(&cut, &whole));
			continue;
		}
		MUST(whole.status != PROTO_OK || whole.r.length > i);
		MUST(told == 0 || cut.r.length == told);
		told = cut.r.length;
	}
	if (told != 0 && whole.status == PROTO_OK)
		MUST(whole.r.length == told);
	if (told != 0 && n >= told)
		MUST(whole.status != PROTO_MORE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	int expect = -1;

#ifdef FUZZ_REPLY
	if (n == 0)
		return 0;
	expect = bytes[0] % (PROTO_EXPECT_STATS + 1);
	bytes++;
	n--;
#endif
	check_cuts((const char *)bytes, n, expect);
	return 0;
}
