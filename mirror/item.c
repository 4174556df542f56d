/*
 * What memcached says of an item besides its value.
 *
 * Invariant: with the flag u the read is no hit, and each server that has mg in
 * this form knows it.  The reply has to tell that it is the one to this read:
 * by the key (flag k); or by a number (flag O), if the key can be written in
 * base64 only, because some servers write such a key as it is.
 */

#include "mirror/item.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto.h"
#include "server/link.h"

static_assert(ITEM_LINE_MAX >= PROTO_BASE64_MAX + 128, "a key has room");

int
item_write_read(char *line, const char *key, size_t length, bool base64,
    uint32_t *opaque)
{
	static uint32_t last_opaque;
	char number[24] = "";
	int n;

	*opaque = ++last_opaque;
	if (base64)
		snprintf(number, sizeof(number), " O%" PRIu32, *opaque);
	n = snprintf(line, ITEM_LINE_MAX, "mg %.*s%s f t v c u%s\r\n",
	    (int)length, key, base64 ? " b" : " k", number);
	assert(n > 0 && n < ITEM_LINE_MAX);
	return n;
}

/* The seconds of a flag t; -1 if the item does not expire. */
static int64_t
parse_ttl(const char *bytes, size_t n)
{
	if (n > 0 && bytes[0] == '-')
		return -1;
	return (int64_t)proto_number(bytes, n);
}

/* What of a reply tells whose item it is. */
struct echo {
	/* The number, or the key, as it is or in base64, is that of the read.
	 */
	bool has_number, has_key, has_encoded_key;
};

/* A flag k: servers may write the key of an item in base64 that was set so. */
static void
parse_key(struct echo *echo, const char *said, size_t n, const char *key,
    size_t length)
{
	char decoded[PROTO_KEY_MAX];

	echo->has_key = n == length && memcmp(said, key, n) == 0;
	echo->has_encoded_key = n <= PROTO_BASE64_MAX &&
	    proto_base64_decode(said, n, decoded) == length &&
	    memcmp(decoded, key, length) == 0;
}

/* A flag but for k and O. */
static void
parse_item_flag(struct item *item, const char *flag, size_t n)
{
	switch (flag[0]) {
	case 'f':
		item->flags = proto_number(flag + 1, n - 1);
		break;
	case 't':
		item->ttl = parse_ttl(flag + 1, n - 1);
		break;
	case 'c':
		item->cas = proto_number(flag + 1, n - 1);
		break;
	case 'b':
		item->is_binary = true;
		break;
	case 'X':
		item->is_stale = true;
		break;
	case 'W':
		item->is_won = true;
		break;
	case 'Z':
		item->is_awaited = true;
		break;
	}
}

struct item
item_parse(const struct answer *answer, const char *key, size_t length,
    bool base64, uint32_t opaque)
{
	const struct proto_span *meta = &answer->last.meta;
	struct item item = { .ttl = -1, .is_binary = base64 };
	struct echo echo = { .has_number = false };
	struct proto_span token;
	const char *flag;
	size_t at = meta->at;

	assert(answer->last.result == PROTO_META_VALUE);
	while (proto_token(answer->bytes, meta->at + meta->length, &at,
	    &token)) {
		flag = answer->bytes + token.at;
		if (flag[0] == 'k')
			parse_key(&echo, flag + 1, token.length - 1, key,
			    length);
		else if (flag[0] == 'O')
			echo.has_number = proto_number(flag + 1,
					      token.length - 1) == opaque;
		else
			parse_item_flag(&item, flag, token.length);
	}
	item.is_own = base64 ?
	    echo.has_number :
	    echo.has_key || (echo.has_encoded_key && item.is_binary);
	item.is_placeholder = item.is_awaited && !item.is_stale &&
	    answer->last.data.length == 0 && item.flags == 0;
	return item;
}
