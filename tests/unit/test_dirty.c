/* The set of dirty keys: what it holds, and when it becomes all keys. */

#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <uthash.h>

#include "mirror/dirty.h"
#include "unit.h"

/* A sanitizer needs all addresses that there are. */
#if defined(__SANITIZE_ADDRESS__)
#define CAN_LIMIT_MEMORY false
#elif defined(__has_feature)
#define CAN_LIMIT_MEMORY (!__has_feature(address_sanitizer))
#else
#define CAN_LIMIT_MEMORY true
#endif

enum {
	KEY_MAX = 250,
	MANY = 5000,
	KEYS_MAX = 1000000,
	BYTES_MAX = 64 << 20,
	/* Keys that somebody has chosen, and the bits of uthash's own hash in
	   which they are alike; then keys of others. */
	CHOSEN = 2000,
	ALIKE = (1 << 12) - 1,
	OTHERS = 60000,
};

static struct dirty *
make_dirty(void)
{
	struct dirty *dirty = dirty_new();

	unit_need(dirty != NULL, "dirty_new");
	check(dirty_count(dirty) == 0 && !dirty_is_all(dirty));
	return dirty;
}

/* The i-th key; its number can be read from it.  Every length comes. */
static size_t
make_key(char *key, uint32_t i)
{
	size_t length = sizeof(i) + i % (KEY_MAX - sizeof(i) + 1);

	memset(key, (int)(i % 255), length);
	memcpy(key, &i, sizeof(i));
	return length;
}

static void
add(struct dirty *dirty, uint32_t i, bool base64)
{
	char key[KEY_MAX];
	size_t length = make_key(key, i);

	dirty_add(dirty, key, length, base64);
}

static void
check_nothing_to_take(struct dirty *dirty)
{
	char key[KEY_MAX];
	size_t length;
	bool base64;

	check(!dirty_pop(dirty, key, &length, &base64));
	check(dirty_count(dirty) == 0);
}

/* Take a key that make_key() has made, and that was not taken yet. */
static void
take_one(struct dirty *dirty, bool seen[MANY][2])
{
	char want[KEY_MAX], *key = calloc(1, KEY_MAX);
	size_t length = 0;
	bool base64 = false;
	uint32_t i;

	unit_need(key != NULL, "calloc");
	check(dirty_pop(dirty, key, &length, &base64));
	memcpy(&i, key, sizeof(i));
	check_case(i < MANY && length == make_key(want, i) &&
		memcmp(key, want, length) == 0,
	    "no key of ours: %u", i);
	if (i < MANY) {
		check_case(!seen[i][base64], "key %u twice", i);
		seen[i][base64] = true;
	}
	free(key);
}

static void
test_key_that_is_removed_does_not_come_out(void)
{
	struct dirty *dirty = make_dirty();
	char key[KEY_MAX];
	size_t length = make_key(key, 1);

	dirty_remove(dirty, key, length, false);
	add(dirty, 1, false);
	add(dirty, 1, true);
	add(dirty, 2, false);
	dirty_remove(dirty, key, length, false);
	dirty_remove(dirty, key, length, false);
	check(dirty_count(dirty) == 2);
	check(!dirty_has(dirty, key, length, false));
	check(dirty_has(dirty, key, length, true));
	check(dirty_remove(dirty, key, length, true));
	check(!dirty_remove(dirty, key, length, true));
	check(dirty_add(dirty, key, length, true));
	check(!dirty_add(dirty, key, length, true));
	check(dirty_remove(dirty, key, length, true));
	length = make_key(key, 2);
	dirty_remove(dirty, key, length, false);
	check_nothing_to_take(dirty);
	dirty_add_all(dirty);
	check(!dirty_remove(dirty, key, length, false));
	check(!dirty_add(dirty, key, length, false));
	check(dirty_is_all(dirty) && dirty_has(dirty, key, length, false));
	dirty_free(dirty);
}

/* Every key comes out once, however often it was put in; the same bytes with
   and without base64 are two keys. */
static void
test_dirty_key_added_often_comes_out_once(void)
{
	static bool seen[MANY][2];
	struct dirty *dirty = make_dirty();
	uint32_t i, round;

	for (round = 0; round < 3; round++)
		for (i = 0; i < MANY; i++)
			add(dirty, i, i % 2 == 1);
	check(dirty_count(dirty) == MANY);
	for (i = 0; i < MANY; i++)
		add(dirty, i, true);
	check(dirty_count(dirty) == MANY + MANY / 2);
	for (i = 0; i < MANY + MANY / 2; i++) {
		check(dirty_count(dirty) == MANY + MANY / 2 - i);
		take_one(dirty, seen);
	}
	for (i = 0; i < MANY; i++)
		check_case(seen[i][1] && seen[i][0] == (i % 2 == 0),
		    "key %u is missing", i);
	check_nothing_to_take(dirty);
	check(!dirty_is_all(dirty));
	dirty_free(dirty);
	dirty_free(NULL);
}

/* A key that was taken can be added again; keys that are the start of others
   are others. */
static void
test_dirty_key_taken_out_can_be_added_again(void)
{
	struct dirty *dirty = make_dirty();
	char key[KEY_MAX];
	size_t length = 0;
	bool base64 = true;
	int i;

	for (i = 0; i < 3; i++) {
		dirty_add(dirty, "a b\r\n\0c", 7, i == 1);
		check(dirty_pop(dirty, key, &length, &base64));
		check(length == 7 && memcmp(key, "a b\r\n\0c", 7) == 0);
		check(base64 == (i == 1));
		check_nothing_to_take(dirty);
	}
	dirty_add(dirty, "aa", 1, false);
	dirty_add(dirty, "aa", 2, false);
	dirty_add(dirty, "ab", 1, false);
	dirty_add(dirty, "ta", 2, false);
	dirty_add(dirty, "ba", 2, false);
	dirty_add(dirty, "a", 1, true);
	check(dirty_count(dirty) == 5);
	dirty_free(dirty);
}

static void
test_dirty_set_of_all_keys_gives_none_until_cleared(void)
{
	struct dirty *dirty = make_dirty();
	int i;

	for (i = 0; i < 2; i++) {
		add(dirty, 1, false);
		dirty_add_all(dirty);
		check(dirty_is_all(dirty));
		check_nothing_to_take(dirty);
		add(dirty, 2, false);
		check(dirty_is_all(dirty));
		check_nothing_to_take(dirty);
		dirty_add_all(dirty);
		check(dirty_is_all(dirty));
		dirty_clear(dirty);
		check(!dirty_is_all(dirty));
		check_nothing_to_take(dirty);
		add(dirty, 3, false);
		add(dirty, 4, false);
		check(dirty_count(dirty) == 2);
		dirty_clear(dirty);
		check(!dirty_is_all(dirty));
		check_nothing_to_take(dirty);
	}
	dirty_add_all(dirty);
	dirty_free(dirty);
}

/*
 * Keys of this length until they are all keys.  Returns how many were held
 * before.  Each is added twice: what is known already costs nothing.
 */
static uint32_t
fill(struct dirty *dirty, size_t length)
{
	char key[KEY_MAX];
	uint32_t i;

	memset(key, 'k', sizeof(key));
	for (i = 0; i <= KEYS_MAX; i++) {
		memcpy(key, &i, sizeof(i));
		dirty_add(dirty, key, length, false);
		if (dirty_is_all(dirty))
			break;
		if (i % 4 == 0)
			dirty_add(dirty, key, length, false);
	}
	check(dirty_is_all(dirty));
	check_nothing_to_take(dirty);
	return i;
}

/* Not more than a million keys, or 64 MB; then it can begin again. */
static void
test_dirty_set_over_its_bound_becomes_all_keys(void)
{
	struct dirty *dirty = make_dirty();
	uint32_t n = fill(dirty, 12);

	check_case(n >= KEYS_MAX / 2 && n <= KEYS_MAX, "%u keys", n);
	dirty_add_all(dirty);
	dirty_clear(dirty);
	check(!dirty_is_all(dirty));
	n = fill(dirty, KEY_MAX);
	check_case(n >= BYTES_MAX / (KEY_MAX + 120) && n <= BYTES_MAX / KEY_MAX,
	    "%u keys of 250 bytes", n);
	dirty_clear(dirty);
	for (n = 0; n < MANY; n++)
		add(dirty, n, false);
	check(!dirty_is_all(dirty) && dirty_count(dirty) == MANY);
	dirty_free(dirty);
}

/* What is taken makes room. */
static void
test_bound_of_dirty_set_counts_only_keys_that_are_held(void)
{
	struct dirty *dirty = make_dirty();
	char key[KEY_MAX];
	size_t length;
	bool base64;
	uint32_t i, n = 2 * (BYTES_MAX / KEY_MAX);

	memset(key, 'k', sizeof(key));
	for (i = 0; i < n; i++) {
		memcpy(key, &i, sizeof(i));
		dirty_add(dirty, key, sizeof(key), false);
		if (i % 8 != 0)
			check(dirty_pop(dirty, key, &length, &base64));
	}
	check(!dirty_is_all(dirty));
	check(dirty_count(dirty) == (n + 7) / 8);
	dirty_free(dirty);
}

/* Bytes of addresses that are in use. */
static size_t
used_memory(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	size_t pages = 0;

	unit_need(file != NULL && fscanf(file, "%zu", &pages) == 1, "statm");
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* In a process that may use so much more memory.  Returns whether a key was
   lost when there was no more: they are all keys then. */
static bool
run_out_of_memory(size_t more)
{
	struct rlimit limit = { .rlim_cur = used_memory() + more,
		.rlim_max = RLIM_INFINITY };
	struct dirty *dirty = dirty_new();
	bool lost = false;
	uint32_t i;

	unit_need(dirty != NULL && setrlimit(RLIMIT_AS, &limit) == 0,
	    "setrlimit");
	for (i = 0; i < KEYS_MAX / 10 && !dirty_is_all(dirty); i++) {
		add(dirty, i, false);
		lost |= !dirty_is_all(dirty) && dirty_count(dirty) != i + 1;
	}
	if (!dirty_is_all(dirty) || dirty_count(dirty) != 0)
		return true;
	/* The memory is there again. */
	dirty_clear(dirty);
	for (i = 0; i < MANY / 10; i++)
		add(dirty, i, false);
	if (dirty_is_all(dirty) || dirty_count(dirty) != MANY / 10)
		return true;
	dirty_free(dirty);
	return lost;
}

/* It may be a key or the table for which there is no memory. */
static void
test_dirty_set_without_memory_becomes_all_keys(void)
{
	size_t more;
	int status;
	pid_t pid;

	fflush(stdout);
	for (more = 300 << 10; more < 5 << 20; more += 60 << 10) {
		pid = fork();
		unit_need(pid != -1, "fork");
		if (pid == 0)
			_exit(run_out_of_memory(more));
		unit_need(waitpid(pid, &status, 0) == pid, "waitpid");
		check_case(status == 0, "%zu bytes more: status %#x", more,
		    (unsigned int)status);
	}
}

/* A key of which uthash's own hash ends in the bits of `ending`; its number is
   *i or more, and *i becomes the next. */
static void
add_chosen(struct dirty *dirty, uint32_t *i, unsigned int ending)
{
	char wire[1 + sizeof(*i)] = "t";
	unsigned int hash;

	do {
		memcpy(wire + 1, i, sizeof(*i));
		HASH_JEN(wire, sizeof(wire), hash);
		++*i;
	} while ((hash & ALIKE) != ending);
	dirty_add(dirty, wire + 1, sizeof(*i), false);
}

/* The processor time of OTHERS keys, behind CHOSEN keys that are alike, or that
   are not. */
static double
time_of_others(bool alike)
{
	struct dirty *dirty = make_dirty();
	uint32_t next = 0, i;
	clock_t began;

	for (i = 0; i < CHOSEN; i++)
		add_chosen(dirty, &next, alike ? 0 : i & ALIKE);
	check(dirty_count(dirty) == CHOSEN);
	began = clock();
	for (i = 0; i < OTHERS; i++)
		add(dirty, UINT32_MAX - i, true);
	began = clock() - began;
	check(dirty_count(dirty) == CHOSEN + OTHERS);
	dirty_free(dirty);
	return (double)began / CLOCKS_PER_SEC;
}

/* Clients choose keys.  With a hash that they know, those that are alike make
   each later key some twenty times as dear. */
static void
test_keys_chosen_to_be_alike_make_others_no_dearer(void)
{
	double usual = time_of_others(false), after = time_of_others(true);

	check_case(after < 4 * usual + 0.02, "%.3f s, usually %.3f s", after,
	    usual);
}

int
main(void)
{
	/* First, while little memory is in use. */
	if (CAN_LIMIT_MEMORY)
		RUN(test_dirty_set_without_memory_becomes_all_keys);
	RUN(test_key_that_is_removed_does_not_come_out);
	RUN(test_dirty_key_added_often_comes_out_once);
	RUN(test_dirty_key_taken_out_can_be_added_again);
	RUN(test_dirty_set_of_all_keys_gives_none_until_cleared);
	RUN(test_dirty_set_over_its_bound_becomes_all_keys);
	RUN(test_bound_of_dirty_set_counts_only_keys_that_are_held);
	RUN(test_keys_chosen_to_be_alike_make_others_no_dearer);
	return unit_end();
}
