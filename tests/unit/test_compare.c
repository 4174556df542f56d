/*
 * What a comparison says to both servers of its key, in which order, and what
 * it comes to.  The servers are played by the test.
 */

#include "conn.h"
#include "mirror/behind.h"
#include "mirror/blame.h"
#include "mirror/compare.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/tokens.h"
#include "server/server.h"
#include "unit.h"

enum { A, M, PEERS, CALLS_MAX = 8 };

static struct peer peers[PEERS];
static struct {
	struct call *call;
	int peer;
} calls[CALLS_MAX];
static size_t call_count;
static char said[1000], blamed[64], acquitted[64], lost[64];
static unsigned int held, failures;
static bool is_to_blame, is_behind;
static enum compare_end ended; /* COMPARE_UNDER_WAY: it has not */
static const unsigned char hash_key[SIPHASH_KEY] = "a key of a hash";

static char
name_of(const struct peer *peer)
{
	return peer == &peers[M] ? 'M' : 'A';
}

struct pair
pairs_find_wire(const struct pairs *pairs, const char *key, size_t length,
    bool base64)
{
	(void)pairs;
	(void)key;
	(void)length;
	(void)base64;
	return (struct pair){ .primary = &peers[A], .backup = &peers[M] };
}

struct peer *
pair_authority(const struct pair *pair)
{
	return pair->primary;
}

struct peer *
pair_partner(const struct pair *pair, const struct peer *peer)
{
	return peer == pair->primary ? pair->backup : pair->primary;
}

enum behind
behind_of(const struct peer *peer, const struct peer *other)
{
	check(peer != other);
	return is_behind && peer == &peers[M] ? BEHIND_KEYS : BEHIND_NOT;
}

struct gate *
pairs_gate(struct pairs *of)
{
	(void)of;
	return NULL;
}

void
gate_hold_key(struct gate *gate, struct gate_key *key)
{
	(void)gate;
	check(key->length > 0);
	held++;
}

void
gate_release_key(struct gate *gate, struct gate_key *key)
{
	(void)gate;
	check(key->length > 0 && held > 0);
	held--;
}

struct blame *
pairs_blame(const struct pairs *pairs)
{
	(void)pairs;
	return NULL;
}

void
blame_key(struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	(void)blame;
	check(what == BLAME_COPY);
	snprintf(blamed, sizeof(blamed), "%.*s", (int)length, key);
}

void
blame_acquit(struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	(void)blame;
	check(what == BLAME_COPY);
	snprintf(acquitted, sizeof(acquitted), "%.*s", (int)length, key);
}

bool
blame_is_clear(const struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	(void)blame;
	(void)key;
	check(what == BLAME_COPY && length > 0);
	return is_to_blame;
}

void
tokens_lost(struct peer *peer, const char *key, size_t length, bool base64)
{
	size_t n = strlen(lost);

	(void)base64;
	snprintf(lost + n, sizeof(lost) - n, "%c:%.*s ", name_of(peer),
	    (int)length, key);
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
note_call(struct peer *peer, struct call *call)
{
	check(call_count < CALLS_MAX);
	calls[call_count].call = call;
	calls[call_count++].peer = peer == &peers[M] ? M : A;
}

void
peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	size_t n = strlen(said);

	(void)hash;
	check(data == NULL && length == 0 && block == NULL);
	snprintf(said + n, sizeof(said) - n, "%c:%.*s", name_of(peer),
	    (int)line_length, line);
	note_call(peer, call);
}

/* The oldest call of a server is answered, or is not: text is NULL. */
static void
reply(int peer, const char *text)
{
	struct answer answer = { .bytes = text };
	struct call *call;
	size_t i = 0;

	while (i < call_count && calls[i].peer != peer)
		i++;
	check(i < call_count);
	call = calls[i].call;
	memmove(&calls[i], &calls[i + 1], (--call_count - i) * sizeof(*calls));
	said[0] = '\0';
	if (text == NULL) {
		call->done(call, NULL);
		return;
	}
	answer.length = strlen(text);
	check(proto_reply(text, answer.length, call->expect, 1 << 20,
		  &answer.last) == PROTO_OK);
	call->done(call, &answer);
}

static void
on_test_compared(struct compare *compare, enum compare_end end)
{
	check(ended == COMPARE_UNDER_WAY && end != COMPARE_UNDER_WAY);
	check(compare->owed == 0 && held == 0);
	ended = end;
}

static void
set_version(int peer, unsigned int minor, unsigned int patch)
{
	peers[peer].identity.version[1] = minor;
	peers[peer].identity.version[2] = patch;
	peers[peer].abilities = abilities_of(&peers[peer].identity);
}

static void
begin_case(struct compare *compare, const char *key, bool base64)
{
	int i;

	call_count = held = 0;
	said[0] = blamed[0] = acquitted[0] = lost[0] = '\0';
	ended = COMPARE_UNDER_WAY;
	for (i = 0; i < PEERS; i++) {
		peers[i].state = PEER_UP;
		peers[i].identity = (struct identity){ .known = true };
		peers[i].identity.version[0] = 1;
		set_version(i, 6, 18);
		LIST_INIT(&peers[i].giving_back);
	}
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
