/*
 * What a copy says to both servers of its key, for each answer of the
 * authority, and what is dirty when one of them fails.  The servers are played
 * by the test.
 */

#include "mirror/copy.h"
#include "mirror/marks.h"
#include "played.h"
#include "server/server.h"

enum { NONE = -1 };

static char dirty[64];
static int authority = A;
static unsigned int failures, marked;
/* The authority is to fail of that, and not the mirror. */
static bool is_other_key;

struct peer *
pair_authority(const struct pair *pair)
{
	(void)pair;
	return authority == NONE ? NULL : &peers[authority];
}

struct marks *
pairs_marks(const struct pairs *pairs)
{
	(void)pairs;
	return NULL;
}

void
marks_set(struct marks *marks, const struct proto_request *r, const char *bytes,
    bool is_marked)
{
	(void)marks;
	check(is_marked && bytes[r->key.at] != '\0');
	marked++;
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer->state == PEER_UP;
}

int64_t
peer_exptime(const struct peer *peer, int64_t seconds)
{
	check(peer == &peers[M]);
	return seconds < 0 ? 0 : seconds;
}

bool
peer_add_dirty(struct peer *peer, const char *key, size_t length, bool base64)
{
	size_t n = strlen(dirty);

	snprintf(dirty + n, sizeof(dirty) - n, "%c:%.*s%s ",
	    "AM"[number_of(peer)], (int)length, key, base64 ? ":b" : "");
	return true;
}

void
pairs_lose_effect(const struct pairs *pairs, struct peer *peer, const char *key,
    size_t length, bool base64)
{
	(void)pairs;
	check(!peer_is_mirror(peer));
	peer_add_dirty(peer, key, length, base64);
}

void
server_fail(struct server *server, const char *why)
{
	(void)server;
	check_bytes(why, strlen(why),
	    is_other_key ? "sent the value of another key" :
			   "refuses a delete");
	failures++;
}

struct block *
answer_reference(const struct answer *answer, const char *at, size_t n,
    size_t *offset)
{
	(void)answer;
	(void)at;
	(void)n;
	(void)offset;
	return NULL;
}

static enum copy_end ended; /* COPY_UNDER_WAY: it has not */

static void
on_test_ended(struct copy *copy, enum copy_end end)
{
	check(ended == COPY_UNDER_WAY && end != COPY_UNDER_WAY);
	check(copy->owed == 0);
	ended = end;
}

static void
begin_case(unsigned int minor, unsigned int patch)
{
	begin_played();
	dirty[0] = '\0';
	ended = COPY_UNDER_WAY;
	authority = A;
	set_version(M, minor, patch);
}

/* Begin a copy; its mg is taken out of said. */
static void
begin_copy(struct copy *copy, const char *key, bool base64)
{
	char want[100];

	memset(copy, 0, sizeof(*copy));
	copy->ended = on_test_ended;
	copy->length = strlen(key);
	memcpy(copy->key, key, copy->length);
	copy->base64 = base64;
	check(copy_begin(copy, NULL, &peers[M]) == COPY_UNDER_WAY);
	if (base64)
		snprintf(want, sizeof(want), "A:mg %s b f t v c u O%u\r\n", key,
		    copy->opaque);
	else
		snprintf(want, sizeof(want), "A:mg %s k f t v c u\r\n", key);
	check_bytes(said, strlen(said), want);
	said[0] = '\0';
}

/* Answer the read of a copy; if its key is in base64, with its number. */
static void
reply_to_read(const struct copy *copy, const char *answer)
{
	const char *end = strstr(answer, "\r\n");
	char whole[100];

	if (!copy->base64 || strncmp(answer, "VA ", 3) != 0) {
		reply(A, answer);
		return;
	}
	snprintf(whole, sizeof(whole), "%.*s O%u%s", (int)(end - answer),
	    answer, copy->opaque, end);
	reply(A, whole);
}

/* What is said when the read of a key is answered so. */
static const struct {
	unsigned int minor, patch; /* of the mirror */
	const char *key;           /* "=" at its end: in base64 */
	const char *answer;
	const char *says;
} says[] = {
	{ 6, 18, "k", "EN\r\n", "" },
	{ 6, 18, "k", "SERVER_ERROR no\r\n", "" },
	{ 6, 18, "k", "VA 1 kk f5 t60 c9\r\nx\r\n", "M:add k 5 60 1\r\nx\r\n" },
	{ 6, 18, "k", "VA 0 kk f0 t-1 c9\r\n\r\n", "M:add k 0 0 0\r\n\r\n" },
	{ 6, 18, "k", "VA 1 kk f0 t0 c9\r\nx\r\n", "" },
	{ 4, 24, "k", "VA 1 kk f5 t60 c9\r\nx\r\n", "M:add k 5 60 1\r\nx\r\n" },
	/* keys */
	{ 6, 18, "AAEgDQo=", "VA 1 f5 t60 c9\r\nx\r\n",
	    "M:ms AAEgDQo= 1 b ME F5 T60\r\nx\r\n" },
	{ 6, 9, "AAEgDQo=", "VA 1 f5 t60 c9\r\nx\r\n", "" },
	{ 6, 18, "k", "VA 1 kaw== b f5 t60 c9\r\nx\r\n",
	    "M:ms aw== 1 b ME F5 T60\r\nx\r\n" },
	{ 6, 9, "k", "VA 1 kaw== b f5 t60 c9\r\nx\r\n",
	    "M:add k 5 60 1\r\nx\r\n" },
	/* stale items: won by the read, and by a client before it */
	{ 6, 18, "k", "VA 1 kk f5 t60 c9 X W\r\nx\r\n",
	    "A:md k I C9\r\nM:add k 5 60 1\r\nx\r\nM:md k I\r\n" },
	{ 6, 18, "k", "VA 1 kk f5 t60 c9 W X\r\nx\r\n",
	    "A:md k I C9\r\nM:add k 5 60 1\r\nx\r\nM:md k I\r\n" },
	{ 6, 18, "k", "VA 1 kk f5 t60 c9 Z X\r\nx\r\n",
	    "M:add k 5 60 1\r\nx\r\nM:md k I\r\nM:mg k u\r\n" },
	{ 6, 18, "AAEgDQo=", "VA 0 f0 t-1 c9 X Z\r\n\r\n",
	    "M:ms AAEgDQo= 0 b ME F0 T0\r\n\r\nM:md AAEgDQo= b I\r\n"
	    "M:mg AAEgDQo= b u\r\n" },
	{ 4, 24, "k", "VA 1 kk f5 t60 c9 X W\r\nx\r\n", "A:md k I C9\r\n" },
	{ 5, 22, "k", "VA 1 kk f5 t60 c9 X Z\r\nx\r\n", "" },
	/* made by N */
	{ 6, 18, "k", "VA 0 kk f0 t60 c9 Z\r\n\r\n", "M:mg k N60 u\r\n" },
	{ 6, 18, "k", "VA 0 kk f0 t-1 c9 Z\r\n\r\n", "M:mg k N0 u\r\n" },
	{ 6, 18, "AAEgDQo=", "VA 0 f0 t60 c9 Z\r\n\r\n",
	    "M:mg AAEgDQo= b N60 u\r\n" },
	{ 4, 24, "k", "VA 0 kk f0 t60 c9 Z\r\n\r\n", "" },
	/* won by R */
	{ 6, 18, "k", "VA 1 kk f0 t60 c9 Z\r\nx\r\n",
	    "M:add k 0 60 1\r\nx\r\nM:mg k R120 u\r\n" },
	{ 6, 18, "k", "VA 0 kk f1 t60 c9 Z\r\n\r\n",
	    "M:add k 1 60 0\r\n\r\nM:mg k R120 u\r\n" },
	{ 6, 18, "k", "VA 1 kk f0 t-1 c9 Z\r\nx\r\n",
	    "M:add k 0 60 1\r\nx\r\nM:mg k R120 T0 u\r\n" },
	{ 6, 18, "AAEgDQo=", "VA 1 f0 t-1 c9 Z\r\nx\r\n",
	    "M:ms AAEgDQo= 1 b ME F0 T60\r\nx\r\n"
	    "M:mg AAEgDQo= b R120 T0 u\r\n" },
	{ 4, 24, "k", "VA 1 kk f0 t-1 c9 Z\r\nx\r\n",
	    "M:add k 0 0 1\r\nx\r\n" },
	{ 4, 24, "k", "VA 1 kk f0 t60 c9 Z\r\nx\r\n",
	    "M:add k 0 60 1\r\nx\r\n" },
};

static void
test_each_item_is_written_as_it_is(void)
{
	struct copy copy;
	size_t i;

	for (i = 0; i < COUNT(says); i++) {
		begin_case(says[i].minor, says[i].patch);
		begin_copy(&copy, says[i].key,
		    says[i].key[strlen(says[i].key) - 1] == '=');
		reply_to_read(&copy, says[i].answer);
		check_case(strcmp(said, says[i].says) == 0, "%s: %s",
		    says[i].answer, said);
		check((ended == COPY_UNDER_WAY) == (call_count > 0));
	}
}

static void
test_token_is_given_back_with_the_same_cas_where_that_can_be_said(void)
{
	struct copy copy;

	begin_case(4, 24);
	set_version(A, 6, 27);
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	check_bytes(said, strlen(said), "A:md k I C9 E9\r\n");
	reply(A, "HD\r\n");
	check(ended == COPY_REFUSED && dirty[0] == '\0');
}

/* Before 1.6.13 md takes no two cas tokens for equal. */
static void
test_token_is_given_back_at_any_rate_where_cas_is_not_compared(void)
{
	struct copy copy;

	begin_case(4, 24);
	set_version(A, 6, 12);
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	check_bytes(said, strlen(said), "A:md k I\r\n");
	reply(A, "OK\r\n");
	check(ended == COPY_REFUSED);
}

static void
test_copy_ends_when_all_is_answered(void)
{
	struct copy copy;

	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	reply(M, "STORED\r\n");
	reply(M, "HD\r\n");
	check(ended == COPY_UNDER_WAY && call_count == 1);
	reply(A, "EX\r\n");
	check(ended == COPY_ADDED && dirty[0] == '\0');
	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X Z\r\nx\r\n");
	reply(M, "NOT_STORED\r\n");
	reply(M, "HD\r\n");
	reply(M, "HD X W\r\n");
	check(ended == COPY_OVERTAKEN && call_count == 0);
}

static void
test_authority_that_sends_another_key_fails(void)
{
	static const struct {
		const char *key, *answer;
	} others[] = {
		{ "k", "VA 1 kl f5 t60 c9\r\nx\r\n" },
		{ "k", "VA 1 kkk f5 t60 c9\r\nx\r\n" },
		{ "k", "VA 1 kbA== b f5 t60 c9\r\nx\r\n" },
		/* Without b this is no base64, but the key itself. */
		{ "k", "VA 1 kaw== f5 t60 c9\r\nx\r\n" },
		{ "k", "VA 1 k f5 t60 c9\r\nx\r\n" },
		{ "k", "VA 1 f5 t60 c9\r\nx\r\n" },
		{ "k", "VA 1 f5 t60 c9 O1\r\nx\r\n" },
		{ "AAEgDQo=", "VA 1 f5 t60 c9\r\nx\r\n" },
		{ "AAEgDQo=", "VA 1 f5 t60 c9 O0\r\nx\r\n" },
	};
	struct copy copy;
	char want[20];
	size_t i;

	is_other_key = true;
	for (i = 0; i < COUNT(others); i++) {
		begin_case(6, 18);
		begin_copy(&copy, others[i].key, others[i].key[0] == 'A');
		reply(A, others[i].answer);
		check(ended == COPY_FAILED && said[0] == '\0');
		check(failures == 1);
		failures = 0;
		/* It may have won a stale item. */
		snprintf(want, sizeof(want), "A:%s ", others[i].key);
		check_bytes(lost, strlen(lost), want);
	}
	is_other_key = false;
}

static void
test_what_the_mirror_has_is_replaced(void)
{
	struct copy copy;

	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	copy.replaces = true;
	reply(A, "VA 1 kk f5 t60 c9\r\nx\r\n");
	check_bytes(said, strlen(said),
	    "M:delete k\r\nM:add k 5 60 1\r\nx\r\n");
	reply(M, "NOT_FOUND\r\n");
	reply(M, "STORED\r\n");
	check(ended == COPY_ADDED && dirty[0] == '\0' && failures == 0);
	check_bytes(acquitted, strlen(acquitted), "k");
	begin_case(6, 18);
	begin_copy(&copy, "AAEgDQo=", true);
	copy.replaces = true;
	reply(A, "EN\r\n");
	check_bytes(said, strlen(said), "M:md AAEgDQo= b\r\n");
	reply(M, "HD\r\n");
	check(ended == COPY_GONE);
}

static void
test_mirror_that_refuses_the_delete_fails(void)
{
	struct copy copy;

	begin_case(6, 18);
	begin_copy(&copy, "AAEgDQo=", true);
	copy.replaces = true;
	reply_to_read(&copy, "VA 1 f5 t60 c9\r\nx\r\n");
	check_bytes(said, strlen(said),
	    "M:md AAEgDQo= b\r\nM:ms AAEgDQo= 1 b ME F5 T60\r\nx\r\n");
	reply(M, "SERVER_ERROR no\r\n");
	check_bytes(dirty, strlen(dirty), "M:AAEgDQo=:b ");
	check(failures == 1 && ended == COPY_UNDER_WAY);
	peers[M].state = PEER_DOWN;
	reply(M, NULL);
	check(ended == COPY_GONE);
	failures = 0;
}

static void
test_mirror_that_fails_in_the_middle_is_dirty(void)
{
	struct copy copy;

	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X Z\r\nx\r\n");
	reply(M, "STORED\r\n");
	peers[M].state = PEER_DOWN;
	calls[0].call->is_suspect = true;
	reply(M, NULL);
	check_bytes(dirty, strlen(dirty), "M:k ");
	check_bytes(blamed, strlen(blamed), "k");
	reply(M, NULL);
	check(ended == COPY_ADDED && call_count == 0);
}

static void
test_mirror_that_fails_before_the_read_is_answered_gets_nothing(void)
{
	struct copy copy;

	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	peers[M].state = PEER_DOWN;
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	check_bytes(said, strlen(said), "A:md k I C9\r\n");
	reply(A, "HD\r\n");
	check(ended == COPY_GONE);
}

static void
test_authority_that_fails_may_have_its_token_out(void)
{
	struct copy copy;

	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	authority = M;
	reply(A, NULL);
	check_bytes(lost, strlen(lost), "A:k ");
	check(LIST_EMPTY(&peers[A].giving_back) && dirty[0] == '\0');
	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	calls[0].call->was_sent = true;
	reply(A, NULL);
	check(ended == COPY_FAILED && dirty[0] == '\0');
	check_bytes(lost, strlen(lost), "A:k ");
	begin_case(6, 18);
	begin_copy(&copy, "k", false);
	reply(A, NULL);
	check(ended == COPY_FAILED && lost[0] == '\0');
}

/* The token is out because of the first one only. */
static void
test_two_copies_of_a_key_take_no_token_from_each_other(void)
{
	struct copy one, other, third;

	begin_case(6, 18);
	begin_copy(&one, "k", false);
	begin_copy(&other, "k", false);
	begin_copy(&third, "l", false);
	reply(A, "VA 1 kk f5 t60 c9 X W\r\nx\r\n");
	said[0] = '\0';
	reply(A, "VA 1 kk f5 t60 c9 X Z\r\nx\r\n");
	check_bytes(said, strlen(said), "M:add k 5 60 1\r\nx\r\nM:md k I\r\n");
	said[0] = '\0';
	reply(A, "VA 1 kl f5 t60 c8 X Z\r\nx\r\n");
	check_bytes(said, strlen(said),
	    "M:add l 5 60 1\r\nx\r\nM:md l I\r\nM:mg l u\r\n");
}

/* Nobody has won it if that was a copy of another magent; otherwise it is won
   once more. */
static void
test_stale_item_can_be_won_there_while_another_magent_serves(void)
{
	struct copy copy;

	begin_case(6, 18);
	are_shared = true;
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f5 t60 c9 X Z\r\nx\r\n");
	check_bytes(said, strlen(said), "M:add k 5 60 1\r\nx\r\nM:md k I\r\n");
	/* A copy does not win what is not stale. */
	begin_case(6, 18);
	are_shared = true;
	begin_copy(&copy, "k", false);
	reply(A, "VA 1 kk f0 t60 c9 Z\r\nx\r\n");
	check_bytes(said, strlen(said),
	    "M:add k 0 60 1\r\nx\r\nM:mg k R120 u\r\n");
}

static void
test_text_in_base64_is_plain_and_other_keys_need_who_knows_it(void)
{
	struct copy copy = { .ended = on_test_ended, .base64 = true };

	begin_case(6, 18);
	copy.length = 8;
	memcpy(copy.key, "aGVsbG8=", copy.length);
	check(copy_begin(&copy, NULL, NULL) == COPY_UNDER_WAY);
	check_bytes(said, strlen(said), "A:mg hello k f t v c u\r\n");
	memset(&copy, 0, sizeof(copy));
	begin_case(6, 18);
	set_version(A, 6, 9);
	copy.ended = on_test_ended;
	copy.base64 = true;
	copy.length = 8;
	memcpy(copy.key, "AAEgDQo=", copy.length);
	check(copy_begin(&copy, NULL, NULL) == COPY_GONE);
	check(call_count == 0);
}

static void
test_what_cannot_be_copied_is_not_begun(void)
{
	struct copy copy = { .ended = on_test_ended, .key = "k", .length = 1 };

	begin_case(6, 18);
	check(copy_begin(&copy, NULL, &peers[A]) == COPY_NOBODY);
	authority = M;
	check(copy_begin(&copy, NULL, &peers[M]) == COPY_NOBODY);
	authority = NONE;
	check(copy_begin(&copy, NULL, NULL) == COPY_NOBODY);
	authority = A;
	peers[M].state = PEER_DOWN;
	check(copy_begin(&copy, NULL, NULL) == COPY_NOBODY);
	begin_case(6, 18);
	set_version(A, 5, 18);
	check(copy_begin(&copy, NULL, NULL) == COPY_UNABLE);
	check(!copy_can_read(&peers[A]) && copy_can_read(&peers[M]));
	is_to_blame = true;
	check(copy_begin(&copy, NULL, NULL) == COPY_REFUSED);
	is_to_blame = false;
	check(call_count == 0);
}

int
main(void)
{
	RUN(test_each_item_is_written_as_it_is);
	RUN(test_token_is_given_back_with_the_same_cas_where_that_can_be_said);
	RUN(test_token_is_given_back_at_any_rate_where_cas_is_not_compared);
	RUN(test_copy_ends_when_all_is_answered);
	RUN(test_authority_that_sends_another_key_fails);
	RUN(test_what_the_mirror_has_is_replaced);
	RUN(test_mirror_that_refuses_the_delete_fails);
	RUN(test_mirror_that_fails_in_the_middle_is_dirty);
	RUN(test_mirror_that_fails_before_the_read_is_answered_gets_nothing);
	RUN(test_authority_that_fails_may_have_its_token_out);
	RUN(test_two_copies_of_a_key_take_no_token_from_each_other);
	RUN(test_stale_item_can_be_won_there_while_another_magent_serves);
	RUN(test_text_in_base64_is_plain_and_other_keys_need_who_knows_it);
	RUN(test_what_cannot_be_copied_is_not_begun);
	return unit_end();
}
