/*
 * SipHash-2-4, with the names of its paper: four words are the state, each word
 * of input is mixed in by two rounds, and four rounds finish.
 */

#include "siphash.h"

#include <assert.h>

/* Rounds for each word of input, and at the end. */
enum {
	WORD_ROUNDS = 2,
	END_ROUNDS = 4,
};

struct state {
	uint64_t v0, v1, v2, v3;
};

/* The n bytes at `from`, at most 8, as a little-endian number. */
static uint64_t
load(const unsigned char *from, size_t n)
{
	uint64_t word = 0;
	size_t i;

	assert(n <= sizeof(word));
	for (i = 0; i < n; i++)
		word |= (uint64_t)from[i] << 8 * i;
	return word;
}

static uint64_t
rotate(uint64_t word, unsigned int bits)
{
	return word << bits | word >> (64 - bits);
}

/* SipRound of the paper. */
static void
mix(struct state *s, int rounds)
{
	while (rounds-- > 0) {
		s->v0 += s->v1;
		s->v2 += s->v3;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v1;
		s->v0 += s->v3;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 = rotate(s->v2, 32);
	}
}

static void
take_word(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	mix(s, WORD_ROUNDS);
	s->v0 ^= word;
}

uint64_t
siphash(const unsigned char key[SIPHASH_KEY], const void *data, size_t n)
{
	const unsigned char *from = data;
	uint64_t k0 = load(key, 8), k1 = load(key + 8, 8);
	/* The constants are "somepseudorandomlygeneratedbytes". */
	struct state s = {
		.v0 = k0 ^ 0x736f6d6570736575,
		.v1 = k1 ^ 0x646f72616e646f6d,
		.v2 = k0 ^ 0x6c7967656e657261,
		.v3 = k1 ^ 0x7465646279746573,
	};
	size_t left;

	for (left = n; left >= 8; left -= 8, from += 8)
		take_word(&s, load(from, 8));
	/* The last word has the length in its highest byte. */
	take_word(&s, load(from, left) | (uint64_t)n << 56);
	s.v2 ^= 0xff;
	mix(&s, END_ROUNDS);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
