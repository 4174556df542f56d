/*
 * Write and read keys in base64, as the meta commands do for keys that have a
 * space, a NUL or a line end.
 *
 * Invariant: what is decoded and encoded again is the same text.
 */

#include <assert.h>
#include <string.h>

#include "proto.h"

static_assert((PROTO_KEY_MAX + 2) / 3 * 4 <= PROTO_BASE64_MAX,
    "each key fits in the room for a key in base64");

/* The six bits that c stands for; -1: none. */
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

/* The 24 bits of four characters, of which the last pad ones count as 0; -1: a
   character stands for no bits. */
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

/* Other spellings than that of an encoder are refused, because servers echo the
   key in that one. */
size_t
proto_base64_decode(const char *bytes, size_t n, char *out)
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

bool
proto_base64_is_needed(const char *key, size_t length)
{
	return memchr(key, ' ', length) != NULL ||
	    memchr(key, '\0', length) != NULL ||
	    memchr(key, '\r', length) != NULL ||
	    memchr(key, '\n', length) != NULL;
}

size_t
proto_base64_encode(const char *key, size_t length, char *out)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned int group;
	size_t n = 0;
	size_t i, have;

	assert(length <= PROTO_KEY_MAX);
	for (i = 0; i < length; i += 3) {
		have = length - i < 3 ? length - i : 3;
		group = (unsigned int)(unsigned char)key[i] << 16;
		if (have > 1)
			group |= (unsigned int)(unsigned char)key[i + 1] << 8;
		if (have > 2)
			group |= (unsigned char)key[i + 2];
		out[n++] = digits[group >> 18];
		out[n++] = digits[group >> 12 & 63];
		out[n++] = have > 1 ? digits[group >> 6 & 63] : '=';
		out[n++] = have > 2 ? digits[group & 63] : '=';
	}
	return n;
}

/* The last of the characters that the prefix is in base64 has some bits of the
   byte behind the prefix. */
bool
proto_key_is_reserved(const char *key, size_t length, bool base64)
{
	static const char encoded[] = "bWFnZW50O";

	if (!base64)
		return length >= sizeof(PROTO_RESERVED) - 1 &&
		    memcmp(key, PROTO_RESERVED, sizeof(PROTO_RESERVED) - 1) ==
		    0;
	return length >= sizeof(encoded) &&
	    memcmp(key, encoded, sizeof(encoded) - 1) == 0 &&
	    key[sizeof(encoded) - 1] >= 'g' && key[sizeof(encoded) - 1] <= 'v';
}
