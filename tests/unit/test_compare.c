/*
 * What a comparison says to both servers of its key, in which order, and what
 * it comes to.  The servers are played by the test.
 */

#include "conn.h"
#include "mirror/behind.h"
#include "mirror/compare.h"
#include "played.h"
#include "server/server.h"

static unsigned int failures;
static bool is_behind;
static enum compare_end ended; /* COMPARE_UNDER_WAY: it has not */
static const unsigned char hash_key[SIPHASH_KEY] = "a key of a hash";

struct peer *
pair_authority(const struct pair *pair)
{
	return pair->primary;
}

enum behind
behind_of(const struct peer *peer, const struct peer *other)
{
	check(peer != other);
	return is_behind && peer == &peers[M] ? BEHIND_KEYS : BEHIND_NOT;
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	(void)loop;
	return 1000;
}

void
server_fail(struct server *server, const char *why)
{
	(void)server;
	check_bytes(why, strlen(why), "sent the value of another key");
	failures++;
}

static void
on_test_compared(struct compare *compare, enum compare_end end)
{
	check(ended == COMPARE_UNDER_WAY && end != COMPARE_UNDER_WAY);
	check(compare->owed == 0 && held == 0);
	ended = end;
}

static void
begin_case(struct compare *compare, const char *key, bool base64)
{
	begin_played();
	ended = COMPARE_UNDER_WAY;
	memset(compare, 0, sizeof(*compare));
	compare->ended = on_test_compared;
	compare->hash_key = hash_key;
	compare->length = strlen(key);
	compare->base64 = base64;
	memcpy(compare->key, key, compare->length);
}

/* Begin to read k; its mg is taken out of said. */
static void
begin_read(struct compare *compare)
{
	check(compare_begin(compare, false) == COMPARE_UNDER_WAY);
	check_bytes(said, strlen(said), "A:mg k k f t v c u\r\n");
	check(held == 1);
}

static void
test_mirror_is_read_in_the_answer_of_the_authority(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	check_bytes(said, strlen(said), "M:mg k k f t v c u\r\n");
	/* Nobody waits for a mirror, unless the item is stale. */
	check(held == 0 && ended == COMPARE_UNDER_WAY);
	reply(M, "VA 1 kk f5 t59 c7\r\nx\r\n");
	check(ended == COMPARE_SAME && call_count == 0);
	check(compare.bytes > 0);
}

static const struct {
	const char *authority, *mirror;
	enum compare_end end;
} ends[] = {
	{ "EN\r\n", "EN\r\n", COMPARE_SAME },
	{ "VA 1 kk f5 t-1 c9\r\nx\r\n", "VA 1 kk f5 t-1 c8\r\nx\r\n",
	    COMPARE_SAME },
	{ "VA 1 kk f5 t-1 c9\r\nx\r\n", "VA 1 kk f5 t-1 c9\r\ny\r\n",
	    COMPARE_OTHERWISE },
	{ "VA 1 kk f5 t-1 c9\r\nx\r\n", "VA 1 kk f6 t-1 c9\r\nx\r\n",
	    COMPARE_OTHERWISE },
	{ "VA 1 kk f5 t-1 c9\r\nx\r\n", "VA 1 kk f5 t10 c9\r\nx\r\n",
	    COMPARE_OTHERWISE },
	{ "VA 1 kk f5 t-1 c9\r\nx\r\n", "EN\r\n", COMPARE_OTHERWISE },
	{ "VA 1 kk f5 t3 c9\r\nx\r\n", "EN\r\n", COMPARE_SAME },
	{ "EN\r\n", "VA 1 kk f5 t-1 c9\r\nx\r\n", COMPARE_OTHERWISE },
	{ "VA 1 kk f5 t-1 c9 Z\r\nx\r\n", "VA 1 kk f5 t-1 c9\r\nx\r\n",
	    COMPARE_OTHERWISE },
	{ "VA 1 kk f5 t-1 c9\r\nx\r\n", "SERVER_ERROR no\r\n", COMPARE_LOST },
};

static void
test_each_pair_of_answers_has_its_end(void)
{
	struct compare compare;
	size_t i;

	for (i = 0; i < COUNT(ends); i++) {
		begin_case(&compare, "k", false);
		begin_read(&compare);
		reply(A, ends[i].authority);
		reply(M, ends[i].mirror);
		check_case(ended == ends[i].end, "%zu: %d", i, (int)ended);
	}
	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "SERVER_ERROR no\r\n");
	check(ended == COMPARE_LOST && call_count == 0);
}

static void
test_what_both_reads_have_won_is_given_back(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	check_bytes(said, strlen(said),
	    "A:md k I C9\r\nM:mg k k f t v c u\r\n");
	check(held == 1);
	reply(A, "EX\r\n");
	check(ended == COMPARE_UNDER_WAY && held == 1);
	reply(M, "VA 1 kk f5 t60 c7 X W\r\nx\r\n");
	check_bytes(said, strlen(said), "M:md k I C7\r\n");
	check(held == 0 && ended == COMPARE_UNDER_WAY);
	reply(M, "HD\r\n");
	check(ended == COMPARE_SAME && LIST_EMPTY(&peers[A].giving_back));
	check(LIST_EMPTY(&peers[M].giving_back));
}

/* Its token is out because of another read of ours. */
static void
test_token_that_is_being_given_back_is_not_out(void)
{
	struct compare one, other;

	begin_case(&one, "k", false);
	begin_case(&other, "k", false);
	check(compare_begin(&one, false) == COMPARE_UNDER_WAY);
	check(compare_begin(&other, false) == COMPARE_UNDER_WAY);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	reply(A, "VA 1 kk f5 t60 c9 X Z\r\nx\r\n");
	check(!one.at_authority.is_awaited && !other.at_authority.is_awaited);
}

/* Before 1.6.13 the mirror cannot give back what a read of it may win. */
static void
test_mirror_is_not_read_where_nothing_can_be_given_back(void)
{
	static const struct {
		const char *authority;
		bool is_read;
	} cases[] = {
		{ "VA 1 kk f5 t60 c9 X Z\r\nx\r\n", false },
		{ "VA 1 kk f5 t60 c9 X W\r\nx\r\n", false },
		{ "VA 1 kk f5 t60 c9 Z\r\nx\r\n", false },
		{ "VA 1 kk f5 t60 c9\r\n7\r\n", false },
		{ "VA 1 kk f5 t60 c9\r\nx\r\n", true },
	};
	struct compare compare;
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		begin_case(&compare, "k", false);
		set_version(M, 6, 12);
		begin_read(&compare);
		reply(A, cases[i].authority);
		check_case((strstr(said, "M:mg") != NULL) == cases[i].is_read,
		    "%zu: %s", i, said);
		check(held == 0);
	}
	/* None of the two has marks. */
	begin_case(&compare, "k", false);
	set_version(A, 6, 9);
	set_version(M, 6, 9);
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9\r\n7\r\n");
	check_bytes(said, strlen(said), "M:mg k k f t v c u\r\n");
}

static void
test_servers_without_mg_are_not_compared(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	set_version(A, 5, 6);
	check(compare_begin(&compare, false) == COMPARE_LOST);
	begin_case(&compare, "k", false);
	set_version(M, 4, 15);
	check(compare_begin(&compare, true) == COMPARE_LOST);
	begin_case(&compare, "AAEgDQo=", true);
	set_version(M, 6, 9);
	check(compare_begin(&compare, false) == COMPARE_SAME);
	check(call_count == 0);
}

static void
test_mirror_may_lack_what_it_cannot_hold(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	peers[M].identity.item_size_max = 100;
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	reply(M, "EN\r\n");
	check(ended == COMPARE_SAME);
	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	reply(M, "EN\r\n");
	check(ended == COMPARE_OTHERWISE);
}

static void
test_glance_asks_the_authority_alone(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	check(compare_begin(&compare, true) == COMPARE_UNDER_WAY);
	check_bytes(said, strlen(said), "A:me k\r\n");
	check(held == 0);
	reply(A, "ME k exp=-1 la=0 cas=1 fetch=no cls=1 size=65\r\n");
	check(ended == COMPARE_SAME && call_count == 0);
	/* Servers may fail of the value all the same. */
	check(acquitted[0] == '\0');
	begin_case(&compare, "k", false);
	check(compare_begin(&compare, true) == COMPARE_UNDER_WAY);
	reply(A, "EN\r\n");
	check(ended == COMPARE_OTHERWISE && !compare.at_authority.is_there);
	begin_case(&compare, "AAEgDQo=", true);
	check(compare_begin(&compare, true) == COMPARE_UNDER_WAY);
	check(strncmp(said, "A:mg AAEgDQo= b f t v c u O", 27) == 0);
	reply(A, "EN\r\n");
	reply(M, "EN\r\n");
	check(ended == COMPARE_SAME);
}

static void
test_server_that_fails_ends_the_comparison(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	begin_read(&compare);
	calls[0].call->was_sent = calls[0].call->is_suspect = true;
	reply(A, NULL);
	check(ended == COMPARE_LOST && call_count == 0);
	check_bytes(lost, strlen(lost), "A:k ");
	check_bytes(blamed, strlen(blamed), "k");
	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	calls[0].call->was_sent = true;
	reply(M, NULL);
	check(ended == COMPARE_LOST && blamed[0] == '\0');
	check_bytes(lost, strlen(lost), "M:k ");
}

/* The answer to a read of a key in base64. */
static void
reply_with_number(int peer, const struct compare *compare)
{
	char answer[64];

	snprintf(answer, sizeof(answer), "VA 1 f5 t60 c9 O%u\r\nx\r\n",
	    compare->opaque);
	reply(peer, answer);
}

static void
test_server_that_sends_another_key_fails(void)
{
	struct compare compare;
	char answer[64];

	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "VA 1 kl f5 t60 c9 X W\r\nx\r\n");
	check(ended == COMPARE_LOST && call_count == 0 && failures == 1);
	check_bytes(lost, strlen(lost), "A:k ");
	begin_case(&compare, "k", false);
	begin_read(&compare);
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	reply(M, "VA 1 f5 t60 c9\r\nx\r\n");
	check(ended == COMPARE_LOST && failures == 2);
	check_bytes(lost, strlen(lost), "M:k ");
	/* A key in base64 is not said by each server; its number is. */
	begin_case(&compare, "AAEgDQo=", true);
	check(compare_begin(&compare, false) == COMPARE_UNDER_WAY);
	reply(A, "VA 1 f5 t60 c9\r\nx\r\n");
	check(ended == COMPARE_LOST && failures == 3);
	begin_case(&compare, "AAEgDQo=", true);
	check(compare_begin(&compare, false) == COMPARE_UNDER_WAY);
	reply_with_number(A, &compare);
	check(failures == 3);
	reply_with_number(M, &compare);
	check(ended == COMPARE_SAME && failures == 3);
	/* That of the read before is no answer to this one. */
	begin_case(&compare, "AAEgDQo=", true);
	check(compare_begin(&compare, false) == COMPARE_UNDER_WAY);
	reply_with_number(A, &compare);
	compare.opaque++;
	snprintf(answer, sizeof(answer), "VA 1 f5 t60 c9 O%u\r\nx\r\n",
	    compare.opaque - 1);
	reply(M, answer);
	check(ended == COMPARE_LOST && failures == 4);
}

static void
test_servers_that_are_not_equal_are_not_compared(void)
{
	struct compare compare;

	begin_case(&compare, "k", false);
	peers[M].state = PEER_REBUILD;
	check(compare_begin(&compare, false) == COMPARE_LOST);
	peers[M].state = PEER_UP;
	is_behind = true;
	check(compare_begin(&compare, false) == COMPARE_LOST);
	is_behind = false;
	is_to_blame = true;
	check(compare_begin(&compare, false) == COMPARE_LOST);
	is_to_blame = false;
	begin_read(&compare);
	is_behind = true;
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	check(ended == COMPARE_LOST && call_count == 0);
	is_behind = false;
}

int
main(void)
{
	RUN(test_mirror_is_read_in_the_answer_of_the_authority);
	RUN(test_each_pair_of_answers_has_its_end);
	RUN(test_what_both_reads_have_won_is_given_back);
	RUN(test_token_that_is_being_given_back_is_not_out);
	RUN(test_mirror_is_not_read_where_nothing_can_be_given_back);
	RUN(test_servers_without_mg_are_not_compared);
	RUN(test_mirror_may_lack_what_it_cannot_hold);
	RUN(test_glance_asks_the_authority_alone);
	RUN(test_server_that_fails_ends_the_comparison);
	RUN(test_server_that_sends_another_key_fails);
	RUN(test_servers_that_are_not_equal_are_not_compared);
	return unit_end();
}
