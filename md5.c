/*
 * Compute the MD5 digest of RFC 1321.
 *
 * Invariant: md5_word() and md5_words() return the first word of what md5()
 * returns, for data of each length.
 *
 * The key of each request is hashed, so the time of one short block matters
 * most.  rounds() is compiled three times: for any block, and for the first
 * word of the digest of up to 55 and of up to 31 bytes.  These two know which
 * words of the block are 0, and leave out the steps that the first word does
 * not need.
 *
 * Each step needs the result of the step before it.  So many keys are hashed
 * four at a time, one in each lane of a vector; or eight, where the processor
 * has vectors as long.  Four lanes more than it has would cost more than they
 * gain.
 */

#include "md5.h"

#include <assert.h>
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
	BLOCK = 64,     /* bytes of a block of the RFC */
	LENGTH_AT = 56, /* offset of the length, 64 bits, in the last block */
	SHORT = 32,     /* bytes of a short message, with the mark */
	MARK = 0x80,    /* the byte behind the data */
	LANES_MAX = 8,
};

/* A word of each of four messages, or of eight. */
typedef uint32_t four __attribute__((vector_size(16)));
typedef uint32_t eight __attribute__((vector_size(32)));

#if defined(__x86_64__)
#define HAS_EIGHT 1
#define FOR_EIGHT __attribute__((target("avx2")))
#else
#define HAS_EIGHT 0
#endif

static_assert(SHORT % 8 == 0 && LENGTH_AT % 8 == 0 && SHORT < LENGTH_AT,
    "blocks are filled eight bytes at a time");
static_assert(LENGTH_AT + sizeof(uint64_t) == BLOCK,
    "the length is the end of the last block");

/* clang-format off */

/* F and G of the RFC, each written with one operation less; and I. */
#define F(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define G(b, c, d) ((c) ^ ((d) & ((b) ^ (c))))
#define I(b, c, d) ((c) ^ ((b) | ~(d)))

#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))

/* Word i of the block.  Behind size bytes, all but the length is 0. */
#define WORD(i)								\
	(4 * (i) < size ? words[i] : 4 * (i) == LENGTH_AT ? length : zero)

#define STEP(a, b, f, i, shift, sine) do {				\
	a += (f) + WORD((i) % 16) + UINT32_C(sine);			\
	a = ROTATE(a, shift) + b;					\
} while (0)

/* A step of the third round, in which H is b ^ c ^ d.  It shares an operation
   with the next step: before each of them, x is c ^ d in its own words. */
#define STEP3(a, b, d, i, shift, sine) do {				\
	x ^= b;								\
	STEP(a, b, x, i, shift, sine);					\
	x ^= d;								\
} while (0)

/* Steps i to i + 3 of each round, with their sines. */
#define ROUND1(i, k0, k1, k2, k3)					\
	STEP(a, b, F(b, c, d), i, 7, k0);				\
	STEP(d, a, F(a, b, c), i + 1, 12, k1);				\
	STEP(c, d, F(d, a, b), i + 2, 17, k2);				\
	STEP(b, c, F(c, d, a), i + 3, 22, k3)
#define ROUND2(i, k0, k1, k2, k3)					\
	STEP(a, b, G(b, c, d), 5 * (i) + 1, 5, k0);			\
	STEP(d, a, G(a, b, c), 5 * (i) + 6, 9, k1);			\
	STEP(c, d, G(d, a, b), 5 * (i) + 11, 14, k2);			\
	STEP(b, c, G(c, d, a), 5 * (i) + 16, 20, k3)
#define ROUND3(i, k0, k1, k2, k3)					\
	STEP3(a, b, d, 3 * (i) + 5, 4, k0);				\
	STEP3(d, a, c, 3 * (i) + 8, 11, k1);				\
	STEP3(c, d, b, 3 * (i) + 11, 16, k2);				\
	STEP3(b, c, a, 3 * (i) + 14, 23, k3)
#define ROUND4(i, k0, k1, k2, k3)					\
	STEP(a, b, I(b, c, d), 7 * (i), 6, k0);				\
	STEP(d, a, I(a, b, c), 7 * (i) + 7, 10, k1);			\
	STEP(c, d, I(d, a, b), 7 * (i) + 14, 15, k2);			\
	STEP(b, c, I(c, d, a), 7 * (i) + 21, 21, k3)

static const uint32_t initial_state[4] = {
	0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476,
};

static inline uint32_t
load_word(const unsigned char *bytes)
{
	uint32_t word;

	memcpy(&word, bytes, sizeof(word));
	return le32toh(word);
}

/*
 * Define a function that takes a block into state.  word is the type of a word:
 * of one message, or of several.  size and length are as in WORD(); size is a
 * constant in each place where the function is inlined.
 */
#define DEFINE_ROUNDS(name, word, target)				\
static inline target __attribute__((always_inline)) void		\
name(word state[4], const word *words, int size, word length)		\
{									\
	word a = state[0], b = state[1], c = state[2], d = state[3], x;	\
	const word zero = a ^ a;					\
									\
	ROUND1(0, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee);	\
	ROUND1(4, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501);	\
	ROUND1(8, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be);	\
	ROUND1(12, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821);	\
	ROUND2(0, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa);	\
	ROUND2(4, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8);	\
	ROUND2(8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed);	\
	ROUND2(12, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a);	\
	x = c ^ d;							\
	ROUND3(0, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c);	\
	ROUND3(4, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70);	\
	ROUND3(8, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05);	\
	ROUND3(12, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665);	\
	ROUND4(0, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039);	\
	ROUND4(4, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1);	\
	ROUND4(8, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1);	\
	ROUND4(12, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391);	\
	state[0] += a;							\
	state[1] += b;							\
	state[2] += c;							\
	state[3] += d;							\
}

DEFINE_ROUNDS(rounds, uint32_t, )
DEFINE_ROUNDS(rounds_of_four, four, )
#if HAS_EIGHT
DEFINE_ROUNDS(rounds_of_eight, eight, FOR_EIGHT)
#endif

/* clang-format on */

/* The last n % 8 bytes of data and the mark behind them, as a little-endian
   number. */
static inline uint64_t
last_bytes(const unsigned char *data, size_t n)
{
	uint64_t x = MARK;

	if (n >= 8) {
		memcpy(&x, data + n - 8, sizeof(x));
		x = le64toh(x) >> 8 | (uint64_t)MARK << 56;
		return x >> (8 * (~n % 8));
	}
	while (n > 0)
		x = x << 8 | data[--n];
	return x;
}

/* Fill a block with n < size bytes, the mark, and zeros up to size. */
static inline __attribute__((always_inline)) void
fill(unsigned char *block, size_t size, const unsigned char *data, size_t n)
{
	uint64_t last = htole64(last_bytes(data, n));
	size_t i;

	assert(n < size);
	memset(block, 0, size);
	for (i = 0; i + 8 <= n; i += 8)
		memcpy(block + i, data + i, 8);
	memcpy(block + i, &last, sizeof(last));
}

static inline __attribute__((always_inline)) void
load_words(uint32_t *words, const unsigned char *block, size_t size)
{
	size_t i;

	for (i = 0; i < size / 4; i++)
		words[i] = load_word(block + 4 * i);
}

/* The first word of the digest of n < size bytes. */
static inline __attribute__((always_inline)) uint32_t
word_within(int size, const unsigned char *data, size_t n)
{
	unsigned char block[LENGTH_AT];
	uint32_t state[4], words[LENGTH_AT / 4];

	memcpy(state, initial_state, sizeof(state));
	fill(block, (size_t)size, data, n);
	load_words(words, block, (size_t)size);
	rounds(state, words, size, (uint32_t)n * 8);
	return state[0];
}

/* clang-format off */

/*
 * Define a function that puts the first words of the digests of lanes messages
 * of n[i] < size bytes to result.  WORDS(at) are those of all blocks at an
 * offset, in the order of the messages.
 */
#define DEFINE_WORDS_WITHIN(name, vector, lanes, WORDS, rounds_of, target) \
static inline target __attribute__((always_inline)) void		\
name(int size, const unsigned char *const *data, const size_t *n,	\
    uint32_t *result)							\
{									\
	unsigned char block[lanes][LENGTH_AT];				\
	vector state[4], words[LENGTH_AT / 4], length;			\
	int i;								\
									\
	for (i = 0; i < 4; i++)						\
		state[i] = (vector){ 0 } + initial_state[i];		\
	for (i = 0; i < (lanes); i++) {					\
		fill(block[i], (size_t)size, data[i], n[i]);		\
		length[i] = (uint32_t)n[i] * 8;				\
	}								\
	for (i = 0; i < size / 4; i++)					\
		words[i] = (vector){ WORDS(4 * i) };			\
	rounds_of(state, words, size, length);				\
	memcpy(result, &state[0], sizeof(vector));			\
}									\
									\
static target void							\
name##_any(const unsigned char *const *data, const size_t *n,		\
    size_t longest, uint32_t *result)					\
{									\
	if (longest < SHORT)						\
		name(SHORT, data, n, result);				\
	else								\
		name(LENGTH_AT, data, n, result);			\
}

#define WORDS_OF_FOUR(at)						\
	load_word(block[0] + (at)), load_word(block[1] + (at)),		\
	load_word(block[2] + (at)), load_word(block[3] + (at))
#define WORDS_OF_EIGHT(at)						\
	WORDS_OF_FOUR(at),						\
	load_word(block[4] + (at)), load_word(block[5] + (at)),		\
	load_word(block[6] + (at)), load_word(block[7] + (at))

DEFINE_WORDS_WITHIN(four_words, four, 4, WORDS_OF_FOUR, rounds_of_four, )
#if HAS_EIGHT
DEFINE_WORDS_WITHIN(eight_words, eight, 8, WORDS_OF_EIGHT, rounds_of_eight,
    FOR_EIGHT)
#endif

/* clang-format on */

static void
whole_block(uint32_t state[4], const unsigned char *block)
{
	uint32_t words[BLOCK / 4];

	load_words(words, block, BLOCK);
	rounds(state, words, BLOCK, 0);
}

static void
digest_state(uint32_t state[4], const unsigned char *data, size_t n)
{
	uint64_t length = htole64((uint64_t)n * 8);
	unsigned char block[BLOCK];

	memcpy(state, initial_state, sizeof(initial_state));
	for (; n >= BLOCK; data += BLOCK, n -= BLOCK)
		whole_block(state, data);
	assert(n < BLOCK);
	fill(block, sizeof(block), data, n);
	if (n >= LENGTH_AT) {
		whole_block(state, block);
		memset(block, 0, sizeof(block));
	}
	memcpy(block + LENGTH_AT, &length, sizeof(length));
	whole_block(state, block);
}

uint32_t
md5_word(const void *data, size_t n)
{
	uint32_t state[4];

	if (n < SHORT)
		return word_within(SHORT, data, n);
	if (n < LENGTH_AT)
		return word_within(LENGTH_AT, data, n);
	digest_state(state, data, n);
	return state[0];
}

/* Whether the processor has vectors of eight words. */
static bool
has_eight(void)
{
#if HAS_EIGHT
	return __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

/* Hash lanes strings at once, all of less than LENGTH_AT bytes. */
static void
hash_lanes(unsigned int lanes, const unsigned char *const *data,
    const size_t *n, size_t longest, uint32_t *result)
{
#if HAS_EIGHT
	if (lanes == LANES_MAX) {
		eight_words_any(data, n, longest, result);
		return;
	}
#endif
	assert(lanes == 4);
	four_words_any(data, n, longest, result);
}

/* Do md5_words() for so many strings at most.  Lanes without a string repeat
   the first one. */
static void
fill_lanes(unsigned int lanes, const char *const *data, const size_t *n,
    size_t count, uint32_t *words)
{
	const unsigned char *lane_data[LANES_MAX];
	size_t lane_n[LANES_MAX], longest = 0, from, i;
	uint32_t result[LANES_MAX];

	assert(count > 0 && count <= lanes && lanes <= LANES_MAX);
	for (i = 0; i < lanes; i++) {
		from = i < count ? i : 0;
		lane_data[i] = (const unsigned char *)data[from];
		lane_n[i] = n[from];
		if (longest < lane_n[i])
			longest = lane_n[i];
	}
	if (count == 1 || longest >= LENGTH_AT) {
		for (i = 0; i < count; i++)
			words[i] = md5_word(data[i], n[i]);
		return;
	}
	hash_lanes(lanes, lane_data, lane_n, longest, result);
	memcpy(words, result, count * sizeof(words[0]));
}

void
md5_words(const char *const *data, const size_t *n, size_t count,
    uint32_t *words)
{
	unsigned int lanes;
	size_t i, many;

	for (i = 0; i < count; i += many) {
		lanes = count - i > 4 && has_eight() ? LANES_MAX : 4;
		many = count - i < lanes ? count - i : lanes;
		fill_lanes(lanes, data + i, n + i, many, words + i);
	}
}

void
md5(const void *data, size_t n, unsigned char digest[16])
{
	uint32_t state[4];
	int i;

	digest_state(state, data, n);
	for (i = 0; i < 4; i++)
		state[i] = htole32(state[i]);
	memcpy(digest, state, sizeof(state));
}
