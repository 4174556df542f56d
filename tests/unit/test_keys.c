/* The queue of keys against its contract. */

#include "mirror/keys.h"
#include "unit.h"

enum { KEY_MAX = 250, MANY = 20000 };

/* Bytes that the keys of all queues take. */
static size_t held;

/* The i-th key of a test: some bytes, 1 to 250 of them. */
static size_t
make_key(char *key, size_t i)
{
	size_t length = 1 + i * 7 % KEY_MAX;
	size_t j;

	for (j = 0; j < length; j++)
		key[j] = (char)(i * 13 + j * (i % 5));
	return length;
}

static bool
is_base64(size_t i)
{
	return i % 3 == 1;
}

static size_t
add(struct keys *keys, size_t i)
{
	char key[KEY_MAX];
	size_t length = make_key(key, i);

	check(keys_add(keys, key, length, is_base64(i)));
	return length;
}

/* The next one taken must be the i-th; in a buffer of 250 bytes, so that a
   sanitizer sees a longer one. */
static void
take(struct keys *keys, size_t i)
{
	char want[KEY_MAX], *key = malloc(KEY_MAX);
	size_t n = make_key(want, i), length = 0;
	bool base64 = !is_base64(i);

	unit_need(key != NULL, "malloc");
	check(keys_pop(keys, key, &length, &base64));
	check_case(length == n && memcmp(key, want, n) == 0 &&
		base64 == is_base64(i),
	    "key %zu", i);
	free(key);
}

static void
check_empty(struct keys *keys)
{
	char key[KEY_MAX] = "as it was";
	size_t length = 17;
	bool base64 = true;

	check(!keys_pop(keys, key, &length, &base64));
	check(keys_count(keys) == 0 && held == 0);
	check(strcmp(key, "as it was") == 0 && length == 17 && base64);
}

/* First in, first out; and little memory. */
static void
test_queued_keys_come_out_in_order_with_little_memory(void)
{
	struct keys *keys = keys_new(&held);
	size_t i, sum = 0;

	unit_need(keys != NULL, "keys_new");
	check_empty(keys);
	for (i = 0; i < MANY; i++) {
		check(keys_count(keys) == i);
		sum += add(keys, i);
	}
	check(keys_count(keys) == MANY);
	check(held >= sum);
	check(held < sum + sum / 20 + (128 << 10));
	for (i = 0; i < MANY; i++) {
		check(keys_count(keys) == MANY - i);
		take(keys, i);
		if (i == MANY / 2)
			check(held < sum / 2 + sum / 20 + (256 << 10));
	}
	check_empty(keys);
	keys_free(keys);
	keys_free(NULL);
}

/* Adding and taking in turns: nothing piles up, and a queue that was emptied
   goes on. */
static void
test_queue_used_in_turns_does_not_pile_up(void)
{
	struct keys *keys = keys_new(&held);
	size_t added = 0, taken = 0, i;

	unit_need(keys != NULL, "keys_new");
	while (taken < MANY) {
		for (i = 0; i < 1 + taken % 11; i++)
			add(keys, added++);
		check(held <= 256 << 10);
		for (i = taken % 4 == 0 ? 0 : 2; taken < added - i;)
			take(keys, taken++);
		check(keys_count(keys) == added - taken);
	}
	while (taken < added)
		take(keys, taken++);
	check_empty(keys);
	keys_free(keys);
}

/* The longest keys, at every position of a piece's end. */
static void
test_longest_keys_at_any_end_of_a_piece_come_out_whole(void)
{
	struct keys *keys;
	char key[KEY_MAX];
	size_t first, i, length;
	bool base64;

	for (first = 1; first <= KEY_MAX; first++) {
		keys = keys_new(&held);
		unit_need(keys != NULL, "keys_new");
		memset(key, 'f', sizeof(key));
		check(keys_add(keys, key, first, true));
		memset(key, '\xff', sizeof(key));
		for (i = 0; i < 600; i++)
			check(keys_add(keys, key, sizeof(key), false));
		check(keys_pop(keys, key, &length, &base64));
		check(length == first && base64 && key[first - 1] == 'f');
		for (i = 0; i < 600; i++)
			check(keys_pop(keys, key, &length, &base64) &&
			    length == sizeof(key) && !base64 &&
			    key[0] == '\xff' && key[249] == '\xff');
		check_empty(keys);
		keys_free(keys);
	}
}

/* A queue is freed with what is in it: a sanitizer would see a leak. */
static void
test_queue_freed_with_keys_in_it_leaks_nothing(void)
{
	struct keys *keys = keys_new(&held);
	size_t i;

	unit_need(keys != NULL, "keys_new");
	for (i = 0; i < 2000; i++)
		add(keys, i);
	for (i = 0; i < 700; i++)
		take(keys, i);
	keys_free(keys);
}

/* What several queues take is counted together. */
static void
test_memory_of_several_queues_is_one_sum(void)
{
	struct keys *one = keys_new(&held), *other = keys_new(&held);
	size_t i, before;

	unit_need(one != NULL && other != NULL, "keys_new");
	for (i = 0; i < 1000; i++)
		add(one, i);
	before = held;
	for (i = 0; i < 1000; i++)
		add(other, i);
	check(before > 0 && held == 2 * before);
	keys_free(one);
	check(held == before);
	keys_free(other);
	check(held == 0);
}

int
main(void)
{
	RUN(test_queued_keys_come_out_in_order_with_little_memory);
	RUN(test_queue_used_in_turns_does_not_pile_up);
	RUN(test_longest_keys_at_any_end_of_a_piece_come_out_whole);
	RUN(test_memory_of_several_queues_is_one_sum);
	RUN(test_queue_freed_with_keys_in_it_leaks_nothing);
	return unit_end();
}
