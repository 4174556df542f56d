/*
 * Which keys may be marked.
 */

#include <stdio.h>
#include <string.h>

#include "mirror/marks.h"
#include "proto.h"
#include "unit.h"

static struct marks *marks;

static struct proto_request
request(const char *key, bool base64)
{
	return (struct proto_request){
		.key = { 0, (uint32_t)strlen(key) },
		.base64 = base64,
	};
}

static void
set(const char *key, bool base64, bool is_marked)
{
	const struct proto_request r = request(key, base64);

	marks_set(marks, &r, key, is_marked);
}

static bool
has(const char *key, bool base64)
{
	const struct proto_request r = request(key, base64);

	return marks_has(marks, &r, key);
}

static void
test_key_is_marked_until_it_is_not(void)
{
	check(!has("k", false));
	set("k", false, false);
	set("k", false, true);
	set("k", false, true);
	check(has("k", false) && !has("kk", false));
	set("kk", false, false);
	check(has("k", false));
	set("k", false, false);
	check(!has("k", false));
}

static void
test_key_is_the_same_in_base64(void)
{
	set("aw==", true, true);
	check(has("k", false));
	set("k", false, false);
	check(!has("aw==", true));
	set("AAEgDQo=", true, true);
	check(has("AAEgDQo=", true) && !has("AAEgDQo=", false));
	set("AAEgDQo=", true, false);
}

static void
test_most_of_many_keys_are_remembered(void)
{
	char key[20];
	int i, found = 0;

	for (i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "key:%d", i);
		set(key, false, true);
	}
	for (i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "key:%d", i);
		found += has(key, false);
		set(key, false, false);
		check(!has(key, false));
	}
	check(found > 700);
}

int
main(void)
{
	marks = marks_new();
	check(marks != NULL);
	RUN(test_key_is_marked_until_it_is_not);
	RUN(test_key_is_the_same_in_base64);
	RUN(test_most_of_many_keys_are_remembered);
	marks_free(marks);
	return unit_end();
}
