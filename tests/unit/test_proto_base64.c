/* Keys in base64: when that is needed, and what the encoder writes against
   RFC 4648.  The decoder is tested with the parser, in test_proto.c. */

#include "proto.h"
#include "unit.h"

enum { KEY_MAX = 250 };

/* What a key on a line may not hold: space, NUL, CR and LF. */
static void
test_key_with_space_nul_cr_or_lf_needs_base64(void)
{
	char key[KEY_MAX];
	int byte;

	for (byte = 0; byte < 256; byte++) {
		memset(key, 'k', sizeof(key));
		check(!proto_base64_is_needed(key, sizeof(key)));
		key[0] = (char)byte;
		check_case(proto_base64_is_needed(key, 1) ==
			(strchr(" \r\n", byte) != NULL),
		    "byte %d alone", byte);
		check_case(proto_base64_is_needed(key, sizeof(key)) ==
			(strchr(" \r\n", byte) != NULL),
		    "byte %d first", byte);
		key[0] = 'k';
		key[249] = (char)byte;
		check_case(proto_base64_is_needed(key, sizeof(key)) ==
			(strchr(" \r\n", byte) != NULL),
		    "byte %d last", byte);
		/* Behind the end it does not matter. */
		check(!proto_base64_is_needed(key, sizeof(key) - 1));
	}
}

static void
check_base64(const char *key, size_t length, const char *want)
{
	char *copy = malloc(length), *out = malloc(PROTO_BASE64_MAX);
	size_t n;

	unit_need(copy != NULL && out != NULL, "malloc");
	memcpy(copy, key, length);
	n = proto_base64_encode(copy, length, out);
	check_bytes(out, n, want);
	free(copy);
	free(out);
}

static void
test_key_of_any_bytes_is_encoded_as_base64(void)
{
	char key[KEY_MAX], out[PROTO_BASE64_MAX];
	size_t i;

	check_base64("f", 1, "Zg==");
	check_base64("fo", 2, "Zm8=");
	check_base64("foo", 3, "Zm9v");
	check_base64("foob", 4, "Zm9vYg==");
	check_base64("fooba", 5, "Zm9vYmE=");
	check_base64("foobar", 6, "Zm9vYmFy");
	check_base64("\0", 1, "AA==");
	check_base64("\0\0\0", 3, "AAAA");
	check_base64("\xff", 1, "/w==");
	check_base64("\xff\xff\xff", 3, "////");
	check_base64("\xfb\xff\xbf", 3, "+/+/");
	check_base64("a b\r\n", 5, "YSBiDQo=");
	check_base64(
	    "\x00\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f"
	    "\x41\x14\x93\x51\x55\x97\x61\x96\x9b\x71\xd7\x9f"
	    "\x82\x18\xa3\x92\x59\xa7\xa2\x9a\xab\xb2\xdb\xaf"
	    "\xc3\x1c\xb3\xd3\x5d\xb7\xe3\x9e\xbb\xf3\xdf\xbf",
	    48,
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	    "0123456789+/");
	memset(key, 0, sizeof(key));
	for (i = 1; i <= sizeof(key); i++)
		check_case(proto_base64_encode(key, i, out) == (i + 2) / 3 * 4,
		    "length of %zu bytes", i);
}

int
main(void)
{
	RUN(test_key_with_space_nul_cr_or_lf_needs_base64);
	RUN(test_key_of_any_bytes_is_encoded_as_base64);
	return unit_end();
}
