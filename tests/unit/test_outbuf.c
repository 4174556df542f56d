/* The queue of output: its bytes are those of a plain array beside it, whatever
   is written, taken back and sent; small pieces share a block. */

#include <stdint.h>
#include <sys/uio.h>

#include "block.h"
#include "outbuf.h"
#include "pool.h"
#include "unit.h"

/* What is held, without spare pieces. */
static size_t
held_bytes(void)
{
	pool_trim(0);
	return block_total();
}

enum {
	MODEL = 4 << 20,
	STEPS = 20000,
	PIECES = 8,
	LARGE = 3 * BLOCK_SMALL,
};

/* More than any system has. */
static const size_t impossible = PTRDIFF_MAX;

const char *__asan_default_options(void);

/* Let malloc() fail as it does without a sanitizer. */
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static char model[MODEL];
static size_t model_start, model_end;
static void
model_write(const char *bytes, size_t n)
{
	unit_need(model_end + n <= MODEL, "the model's room");
	memcpy(model + model_end, bytes, n);
	model_end += n;
}

/* All that is queued, piece by piece, is what the model holds. */
static void
check_contents(const struct outbuf *out)
{
	struct iovec vector[64];
	size_t at = model_start;
	unsigned int n, i;

	n = outbuf_peek(out, vector, 64);
	for (i = 0; i < n; i++) {
		check(vector[i].iov_len > 0);
		check(at + vector[i].iov_len <= model_end &&
		    memcmp(vector[i].iov_base, model + at, vector[i].iov_len) ==
			0);
		at += vector[i].iov_len;
	}
	check(n == 64 || at == model_end);
	check(outbuf_is_empty(out) == (model_start == model_end));
	check(out->queued - out->sent == model_end - model_start);
}

static void
write_some(struct outbuf *out, struct block *source)
{
	size_t n = 1 + unit_random(unit_random(4) == 0 ? LARGE : 300);
	size_t at = unit_random(source->size - n);

	if (unit_random(2) == 0)
		check(outbuf_write(out, source->bytes + at, n));
	else
		check(outbuf_write_block(out, source, source->bytes + at, n));
	model_write(source->bytes + at, n);
}

/* It may refuse, but not lie. */
static void
unwrite_some(struct outbuf *out)
{
	size_t n = 1 + unit_random(10);

	if (outbuf_unwrite(out, n))
		model_end -= n;
}

static void
send_some(struct outbuf *out)
{
	size_t n = unit_random(model_end - model_start + 1);

	outbuf_drop(out, n);
	model_start += n;
	if (model_start == model_end)
		model_start = model_end = 0;
}

static void
test_random_steps_leave_the_bytes_of_the_model(void)
{
	struct block *source = block_new(4 * LARGE);
	struct outbuf out;
	size_t i;

	unit_need(source != NULL, "block_new");
	for (i = 0; i < source->size; i++)
		source->bytes[i] = (char)(i * 7 ^ i >> 8);
	outbuf_init(&out);
	for (i = 0; i < STEPS; i++) {
		if (unit_random(3) > 0 && model_end < MODEL - LARGE)
			write_some(&out, source);
		else if (unit_random(2) == 0)
			unwrite_some(&out);
		else
			send_some(&out);
		check_contents(&out);
	}
	outbuf_clear(&out);
	check(outbuf_is_empty(&out) && out.queued == out.sent);
	check(source->references == 1);
	block_release(source);
	check(held_bytes() == 0);
}

static void
test_small_writes_share_one_piece(void)
{
	struct iovec vector[PIECES];
	struct outbuf out;
	int i;

	outbuf_init(&out);
	check(outbuf_peek(&out, vector, PIECES) == 0);
	for (i = 0; i < 100; i++)
		check(outbuf_write(&out, "0123456789", 10));
	check(outbuf_peek(&out, vector, PIECES) == 1);
	check(vector[0].iov_len == 1000);
	check(held_bytes() == BLOCK_SMALL + sizeof(struct outbuf_segment));
	outbuf_clear(&out);
}

static void
test_large_part_of_a_block_is_not_copied(void)
{
	struct block *block = block_new(LARGE);
	struct iovec vector[PIECES];
	struct outbuf out;

	unit_need(block != NULL, "block_new");
	memset(block->bytes, 'x', LARGE);
	outbuf_init(&out);
	check(outbuf_write_block(&out, block, block->bytes + 5,
	    BLOCK_REFERENCE_MIN - 1));
	check(block->references == 1);
	check(outbuf_write_block(&out, block, block->bytes + 5,
	    BLOCK_REFERENCE_MIN));
	check(block->references == 2);
	check(outbuf_peek(&out, vector, PIECES) == 2);
	check(vector[1].iov_base == block->bytes + 5);
	/* Nothing is put into a block that others refer to. */
	check(outbuf_write(&out, "y", 1));
	check(outbuf_peek(&out, vector, PIECES) == 3);
	outbuf_drop(&out, 2 * BLOCK_REFERENCE_MIN - 1);
	check(block->references == 1);
	outbuf_clear(&out);
	block_release(block);
}

static void
test_unwrite_of_more_than_a_piece_has_is_refused(void)
{
	struct outbuf out;

	outbuf_init(&out);
	check(!outbuf_unwrite(&out, 1));
	check(outbuf_write(&out, "abcd", 4));
	check(!outbuf_unwrite(&out, 4));
	outbuf_drop(&out, 2);
	check(!outbuf_unwrite(&out, 2));
	check(outbuf_unwrite(&out, 1));
	check(out.queued == 3 && out.sent == 2);
	outbuf_clear(&out);
}

static void
test_write_without_memory_queues_nothing(void)
{
	struct outbuf out;

	outbuf_init(&out);
	check(outbuf_write(&out, "abc", 3));
	check(!outbuf_write(&out, model, impossible));
	check(out.queued == 3);
	outbuf_clear(&out);
}

int
main(void)
{
	unit_seed();
	RUN(test_random_steps_leave_the_bytes_of_the_model);
	RUN(test_small_writes_share_one_piece);
	RUN(test_large_part_of_a_block_is_not_copied);
	RUN(test_unwrite_of_more_than_a_piece_has_is_refused);
	RUN(test_write_without_memory_queues_nothing);
	pool_trim(0);
	block_free_spare();
	return unit_end();
}
