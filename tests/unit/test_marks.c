/*
 * Which keys may be marked.
 */

#include <stdio.h>
#include <string.h>

#include "mirror/marks.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/link.h"
#include "unit.h"

static struct marks *marks;

/* The mns that a peer got. */
static unsigned int noops;

void
peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	check(peer->state == PEER_UP && hash == 77);
	check(call->expect == PROTO_EXPECT_META_NOOP);
	check_bytes(line, line_length, "mn\r\n");
	check(data == NULL && length == 0 && block == NULL);
	noops++;
	call->done(call, NULL);
}

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

/* How many of n keys are remembered, when all of them are marked. */
static int
remembered(int n)
{
	char key[20];
	int i, found = 0;

	for (i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key:%d", i);
		set(key, false, true);
	}
	for (i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key:%d", i);
		found += has(key, false);
		set(key, false, false);
		check(!has(key, false));
	}
	return found;
}

static void
test_keys_do_not_push_each_other_out(void)
{
	check(remembered(300) == 300);
	check(remembered(1000) > 970);
	check(remembered(20000) >= 3900);
	check(remembered(300) == 300);
}

static void
test_key_that_was_marked_last_is_remembered_longest(void)
{
	const struct proto_request r = request("old", false);
	char key[20];
	int i;

	set("old", false, true);
	marks_doubt(marks, &r, "old");
	for (i = 0; has("old", false); i++) {
		check(i < 40000 && marks_are_doubtful(marks, &r, "old"));
		snprintf(key, sizeof(key), "key:%d", i);
		set(key, false, true);
		check(has(key, false));
	}
	check(i > 500);
}

static void
test_count_is_in_doubt_until_the_item_is_marked_anew(void)
{
	const struct proto_request r = request("k", false);

	marks_doubt(marks, &r, "k");
	check(!marks_are_doubtful(marks, &r, "k") && !has("k", false));
	set("k", false, true);
	check(!marks_are_doubtful(marks, &r, "k"));
	marks_doubt(marks, &r, "k");
	marks_doubt(marks, &r, "k");
	check(marks_are_doubtful(marks, &r, "k") && has("k", false));
	set("k", false, true);
	check(!marks_are_doubtful(marks, &r, "k") && has("k", false));
	marks_doubt(marks, &r, "k");
	set("k", false, false);
	check(!marks_are_doubtful(marks, &r, "k") && !has("k", false));
}

static void
test_marked_item_is_counted_behind_an_mn(void)
{
	static const enum proto_command counting[] = { PROTO_INCR, PROTO_DECR,
		PROTO_MA };
	struct peer peer = { .state = PEER_UP };
	struct proto_request r = request("k", false);
	size_t i;

	peer.identity.known = true;
	memcpy(peer.identity.version, (unsigned int[]){ 1, 6, 0 },
	    sizeof(peer.identity.version));
	peer.abilities = abilities_of(&peer.identity);
	for (i = 0; i < COUNT(counting); i++) {
		r.command = counting[i];
		marks_keep(marks, &peer, 77, &r, "k");
		check(noops == i);
		set("k", false, true);
		marks_keep(marks, &peer, 77, &r, "k");
		check(noops == i + 1);
		set("k", false, false);
	}
	set("k", false, true);
	r.command = PROTO_TOUCH;
	marks_keep(marks, &peer, 77, &r, "k");
	r.command = PROTO_INCR;
	/* It has no mn. */
	peer.identity.version[1] = 4;
	peer.abilities = abilities_of(&peer.identity);
	marks_keep(marks, &peer, 77, &r, "k");
	check(noops == COUNT(counting));
	set("k", false, false);
}

int
main(void)
{
	marks = marks_new();
	check(marks != NULL);
	RUN(test_key_is_marked_until_it_is_not);
	RUN(test_key_is_the_same_in_base64);
	RUN(test_keys_do_not_push_each_other_out);
	RUN(test_key_that_was_marked_last_is_remembered_longest);
	marks_free(marks);
	marks = marks_new();
	check(marks != NULL);
	RUN(test_count_is_in_doubt_until_the_item_is_marked_anew);
	RUN(test_marked_item_is_counted_behind_an_mn);
	marks_free(marks);
	return unit_end();
}
