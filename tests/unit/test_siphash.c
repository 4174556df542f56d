/* siphash.c against the vectors of the paper and of its authors. */

#include <inttypes.h>

#include "siphash.h"
#include "unit.h"

/* The hash of the bytes 0, 1, ..., n - 1 with the key 0, 1, ..., 15. */
static uint64_t
hash_of_counted_bytes(size_t n)
{
	unsigned char key[SIPHASH_KEY], data[64];
	size_t i;

	for (i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)i;
	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)i;
	return siphash(key, data, n);
}

static void
test_hash_is_that_of_the_authors(void)
{
	static const struct {
		size_t n;
		uint64_t hash;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31 },
		{ 1, 0x74f839c593dc67fd },
		{ 7, 0xab0200f58b01d137 },
		{ 8, 0x93f5f5799a932462 },
		{ 15, 0xa129ca6149be45e5 }, /* the one in the paper */
		{ 63, 0x958a324ceb064572 },
	};
	uint64_t hash;
	size_t i;

	for (i = 0; i < COUNT(vectors); i++) {
		hash = hash_of_counted_bytes(vectors[i].n);
		check_case(hash == vectors[i].hash,
		    "hash of %zu bytes: %" PRIx64, vectors[i].n, hash);
	}
}

static void
test_each_bit_of_key_and_data_changes_the_hash(void)
{
	unsigned char key[SIPHASH_KEY] = { 0 }, data[20] = { 0 };
	uint64_t hash = siphash(key, data, sizeof(data));
	size_t i;

	for (i = 0; i < 8 * sizeof(key); i++) {
		key[i / 8] ^= (unsigned char)(1 << i % 8);
		check(siphash(key, data, sizeof(data)) != hash);
		key[i / 8] ^= (unsigned char)(1 << i % 8);
	}
	for (i = 0; i < 8 * sizeof(data); i++) {
		data[i / 8] ^= (unsigned char)(1 << i % 8);
		check(siphash(key, data, sizeof(data)) != hash);
		data[i / 8] ^= (unsigned char)(1 << i % 8);
	}
	check(siphash(key, data, sizeof(data)) == hash);
	check(siphash(key, data, sizeof(data) - 1) != hash);
}

int
main(void)
{
	RUN(test_hash_is_that_of_the_authors);
	RUN(test_each_bit_of_key_and_data_changes_the_hash);
	return unit_end();
}
