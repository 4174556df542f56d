/*
 * md5.c against RFC 1321 and the file md5 of the vectors.
 *
 * test_md5 [DIRECTORY]: the vectors are in DIRECTORY, or in tests/unit/vectors.
 */

#include <stdint.h>

#include "md5.h"
#include "unit.h"

static const char *directory = "tests/unit/vectors";

/* Does data, n bytes, have the digest that is hex in both functions? */
static void
check_digest(const void *data, size_t n, const char *hex)
{
	unsigned char digest[16];
	char got[33];
	uint32_t word;
	int i;

	md5(data, n, digest);
	for (i = 0; i < 16; i++)
		snprintf(got + 2 * i, 3, "%02x", digest[i]);
	check_case(strcmp(got, hex) == 0, "md5 of %zu bytes: %s", n, got);
	word = (uint32_t)digest[0] | (uint32_t)digest[1] << 8 |
	    (uint32_t)digest[2] << 16 | (uint32_t)digest[3] << 24;
	check_case(md5_word(data, n) == word, "md5_word of %zu bytes", n);
}

static void
test_md5_of_the_rfc_suite_is_as_printed(void)
{
	static const struct {
		const char *text, *hex;
	} suite[] = { { "", "d41d8cd98f00b204e9800998ecf8427e" },
		{ "a", "0cc175b9c0f1b6a831c399e269772661" },
		{ "abc", "900150983cd24fb0d6963f7d28e17f72" },
		{ "message digest", "f96b697d7cb7938d525a2f31aaf161d0" },
		{ "abcdefghijklmnopqrstuvwxyz",
		    "c3fcd3d76192e4007dfb496cca67e13b" },
		{ "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		  "0123456789",
		    "d174ab98d277d9f5a5611c2c9f419d9f" },
		{ "1234567890123456789012345678901234567890"
		  "1234567890123456789012345678901234567890",
		    "57edf4a22be3c955ac49da2e2107b67a" } };
	size_t i;

	for (i = 0; i < COUNT(suite); i++)
		check_digest(suite[i].text, strlen(suite[i].text),
		    suite[i].hex);
}

/* The bytes that the head of the vector file describes, in exactly n bytes of
   the heap, so that a read past them is seen. */
static unsigned char *
make_data(size_t n)
{
	unsigned char *data = malloc(n > 0 ? n : 1);
	size_t i;

	if (data == NULL)
		exit(1);
	for (i = 0; i < n; i++)
		data[i] = (unsigned char)(i * 167 + n * 13 + 5);
	return data;
}

static void
test_md5_of_each_length_equals_its_vector(void)
{
	char path[4096], line[128], hex[33];
	unsigned char *data;
	size_t n, digests = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/md5", directory);
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "%zu %32s", &n, hex) != 2)
			continue;
		data = make_data(n);
		check_digest(data, n, hex);
		free(data);
		digests++;
	}
	if (file != NULL)
		fclose(file);
	check_case(digests >= 200, "%s: %zu digests", path, digests);
}

/* The digest must not depend on where the data is. */
static void
test_md5_of_unaligned_bytes_is_the_same(void)
{
	unsigned char buffer[8 + 80], digest[16], other[16];
	size_t n, shift, i;

	for (n = 0; n <= 80; n++)
		for (shift = 0; shift < 8; shift++) {
			memset(buffer, 0xa5, sizeof(buffer));
			for (i = 0; i < n; i++)
				buffer[shift + i] = (unsigned char)(i ^ n);
			md5(buffer + shift, n, shift == 0 ? digest : other);
			check_case(shift == 0 ||
				memcmp(digest, other, sizeof(digest)) == 0,
			    "%zu bytes at %zu", n, shift);
		}
}

/* Groups of all sizes, of strings of mixed lengths, each in exactly as many
   bytes of the heap. */
static void
check_words(size_t shortest, size_t longest)
{
	enum { MOST = 9 };
	char *data[MOST];
	size_t n[MOST], count, i;
	uint32_t words[MOST];

	for (i = 0; i < MOST; i++) {
		n[i] = shortest + i * 5 % (longest - shortest + 1);
		data[i] = (char *)make_data(n[i]);
	}
	for (count = 0; count <= MOST; count++) {
		memset(words, 0, sizeof(words));
		md5_words((const char *const *)data, n, count, words);
		for (i = 0; i < MOST; i++)
			check_case(words[i] ==
				(i < count ? md5_word(data[i], n[i]) : 0),
			    "md5_words, %zu of %zu: %zu bytes", i, count, n[i]);
	}
	for (i = 0; i < MOST; i++)
		free(data[i]);
}

static void
test_md5_words_of_any_group_equal_md5_word_of_each(void)
{
	check_words(0, 31);   /* one block, short */
	check_words(20, 55);  /* one block */
	check_words(28, 36);  /* short and long ones of one block */
	check_words(40, 130); /* one block and more */
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		directory = argv[1];
	RUN(test_md5_of_the_rfc_suite_is_as_printed);
	RUN(test_md5_of_each_length_equals_its_vector);
	RUN(test_md5_of_unaligned_bytes_is_the_same);
	RUN(test_md5_words_of_any_group_equal_md5_word_of_each);
	return unit_end();
}
