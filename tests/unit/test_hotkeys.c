/*
 * Which keys are found to be asked for most.  The clock is played by the test.
 */

#include <stdio.h>
#include <string.h>

#include "client/hotkeys.h"
#include "conn.h"
#include "unit.h"

static int64_t now = 1000;

int64_t
conn_loop_now(struct conn_loop *loop)
{
	(void)loop;
	return now;
}

/* Ask for a key; its hash is a bad one. */
static void
ask(struct hotkeys *hotkeys, unsigned int number)
{
	char key[16];
	int n = snprintf(key, sizeof(key), "k%u", number);

	hotkeys_note(hotkeys, number % 7, key, (size_t)n);
}

static bool
is_key(const struct hotkey *hotkey, const char *key)
{
	return hotkey->length == strlen(key) &&
	    memcmp(hotkey->key, key, hotkey->length) == 0;
}

static void
test_nothing_is_known_at_first(void)
{
	struct hotkeys *hotkeys = hotkeys_new(NULL);
	struct hotkey list[HOTKEYS_LISTED];
	unsigned int samples;

	check(hotkeys_list(hotkeys, list, &samples) == 0 && samples == 0);
	hotkeys_free(hotkeys);
}

/* Among a million others, most of which come once. */
static void
test_hot_keys_are_found_among_many(void)
{
	struct hotkeys *hotkeys = hotkeys_new(NULL);
	struct hotkey list[HOTKEYS_LISTED];
	unsigned int i, samples;
	size_t n;

	for (i = 0; i < 200000; i++) {
		ask(hotkeys, i % 10 < 2 ? 1 : i + 100);
		ask(hotkeys, i % 10 == 5 ? 2 : i + 1000000);
	}
	n = hotkeys_list(hotkeys, list, &samples);
	check(n >= 2 && samples > 20000 && samples < 30000);
	check(is_key(&list[0], "k1") && is_key(&list[1], "k2"));
	check(list[0].samples > samples / 12 && list[0].samples < samples / 8);
	check(list[1].samples > samples / 25 && list[1].samples < samples / 15);
	hotkeys_free(hotkeys);
}

/* Every 16th key is hot, and would be hit each time, or never. */
static void
test_what_repeats_itself_is_seen_as_often_as_it_comes(void)
{
	struct hotkeys *hotkeys = hotkeys_new(NULL);
	struct hotkey list[HOTKEYS_LISTED];
	unsigned int i, samples;

	for (i = 0; i < 320000; i++)
		ask(hotkeys, i % 16);
	check(hotkeys_list(hotkeys, list, &samples) == 16);
	check(list[0].samples < samples / 12 &&
	    list[15].samples > samples / 21);
	check(list[0].doubtful == 0);
	hotkeys_free(hotkeys);
}

static void
test_what_was_asked_for_long_ago_is_forgotten(void)
{
	struct hotkeys *hotkeys = hotkeys_new(NULL);
	struct hotkey list[HOTKEYS_LISTED];
	unsigned int i, samples, before;

	for (i = 0; i < 16000; i++)
		ask(hotkeys, 1);
	check(hotkeys_list(hotkeys, list, &before) == 1 && before > 800);
	now += 10000;
	check(hotkeys_list(hotkeys, list, &samples) == 1);
	check(samples == before / 2 && list[0].samples == samples);
	now += 20000;
	for (i = 0; i < 16000; i++)
		ask(hotkeys, 2);
	check(hotkeys_list(hotkeys, list, &samples) == 2);
	check(is_key(&list[0], "k2") && list[1].samples == before / 8);
	now += 3600000;
	check(hotkeys_list(hotkeys, list, &samples) == 0 && samples == 0);
	hotkeys_free(hotkeys);
}

int
main(void)
{
	RUN(test_nothing_is_known_at_first);
	RUN(test_hot_keys_are_found_among_many);
	RUN(test_what_repeats_itself_is_seen_as_often_as_it_comes);
	RUN(test_what_was_asked_for_long_ago_is_forgotten);
	return unit_end();
}
