/*
 * A link and, at the other end of a pair of sockets, a small model of a
 * memcached: each call gets the reply that belongs to it, whatever calls stand
 * around it, in whatever pieces the bytes come, and wherever it ends.  The age
 * of a link is measured by a clock that the tests set.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "block.h"
#include "conn.h"
#include "histogram.h"
#include "server/link.h"
#include "unit.h"

enum {
	KEYS = 8,
	CALLS = 64, /* under way at most */
	ROUNDS = 4000,
	BUFFER = 4 << 20,
	VALUE_MAX = 5000,
	VALUE_LIMIT = 3000, /* of the link: larger ones are errors */
};

enum kind { GET, GETS, SET, DELETE, MANY };

struct my_call {
	struct call call; /* first, so that one is the other */
	enum kind kind;
	int key;
	char key_text[8];
	unsigned int value;        /* what a get must find: its number, or 0 */
	bool was_there;            /* the key of a delete */
	unsigned int values[KEYS]; /* MANY */
	unsigned int seen;         /* MANY: VALUEs that came */
	unsigned int serial;
};

static struct event_base *base;
static struct conn_loop *loop;
static struct link *test_link;
static int peer = -1;
static char failed_why[80];
static unsigned int answered, returned; /* serial numbers that come next */

/* What a value is made of: its number and a length that follows from it. */
static size_t
value_text(unsigned int number, char *to)
{
	size_t n = number % 7 == 0 ? number % VALUE_MAX : number % 40;

	memset(to, 'a' + (int)(number % 26), n);
	return n;
}

/*
 * The model: what the server holds, and what it has read and not yet sent.
 */

static struct {
	unsigned int values[KEYS];
	char in[BUFFER], out[BUFFER];
	size_t in_length, out_length;
	unsigned int commands, sent;
} server;

/* What it will hold when all that was submitted is carried out. */
static unsigned int will_hold[KEYS];

static void
say(const char *text, size_t n)
{
	unit_need(server.out_length + n <= BUFFER, "say");
	memcpy(server.out + server.out_length, text, n);
	server.out_length += n;
}

static void
say_value(const char *key, bool with_cas)
{
	unsigned int number = server.values[key[1] - '0'];
	char head[80], value[VALUE_MAX];
	size_t n;

	if (number == 0)
		return;
	n = value_text(number, value);
	say(head,
	    (size_t)sprintf(head,
		with_cas ? "VALUE %.2s 0 %zu %u\r\n" : "VALUE %.2s 0 %zu\r\n",
		key, n, number));
	say(value, n);
	say("\r\n", 2);
}

/* Carry out the command in n bytes.  Returns its length, 0: it is not whole. */
static size_t
carry_out(const char *bytes, size_t n)
{
	const char *lf = memchr(bytes, '\n', n);
	size_t line, length, i;
	unsigned int number;
	char key;

	if (lf == NULL)
		return 0;
	line = (size_t)(lf - bytes) + 1;
	if (sscanf(bytes, "set k%c 0 %u %zu", &key, &number, &length) == 3) {
		if (n < line + length + 2)
			return 0;
		server.values[key - '0'] = number;
		say("STORED\r\n", 8);
		return line + length + 2;
	}
	if (sscanf(bytes, "delete k%c", &key) == 1) {
		if (server.values[key - '0'] == 0)
			say("NOT_FOUND\r\n", 11);
		else
			say("DELETED\r\n", 9);
		server.values[key - '0'] = 0;
		return line;
	}
	unit_need(memcmp(bytes, "get", 3) == 0, "a command that is known");
	for (i = 3; i < line; i++)
		if (bytes[i] == 'k')
			say_value(bytes + i, bytes[3] == 's');
	say("END\r\n", 5);
	return line;
}

/* Read what has come, and send as many bytes of the replies as that. */
static void
serve(size_t bytes)
{
	ssize_t n = recv(peer, server.in + server.in_length,
	    BUFFER - server.in_length, MSG_DONTWAIT);
	size_t used;

	if (n > 0)
		server.in_length += (size_t)n;
	while ((used = carry_out(server.in, server.in_length)) > 0) {
		server.in_length -= used;
		memmove(server.in, server.in + used, server.in_length);
		server.commands++;
	}
	if (bytes > server.out_length)
		bytes = server.out_length;
	n = bytes == 0 ?
	    0 :
	    send(peer, server.out, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n <= 0)
		return;
	server.out_length -= (size_t)n;
	memmove(server.out, server.out + n, server.out_length);
}

/*
 * The calls
 */

static void
check_value(const struct answer *answer, size_t at, unsigned int number)
{
	char value[VALUE_MAX];
	size_t n = value_text(number, value);

	check_case(answer->last.data.length == n &&
		memcmp(answer->bytes + at + answer->last.data.at, value, n) ==
		    0,
	    "the value with the number %u", number);
}

static void
check_get(const struct my_call *my, const struct answer *answer)
{
	const struct proto_reply *last = &answer->last;
	char value[VALUE_MAX];

	if (my->value == 0) {
		check(last->result == PROTO_END);
		check_bytes(answer->bytes, answer->length, "END\r\n");
		return;
	}
	if (value_text(my->value, value) > VALUE_LIMIT) {
		check(last->result == PROTO_SERVER_ERROR);
		check_bytes(answer->bytes, answer->length,
		    "SERVER_ERROR object too large for cache\r\n");
		return;
	}
	check(last->result == PROTO_VALUE);
	if (last->result != PROTO_VALUE)
		return;
	check(last->length == answer->length);
	check_bytes(answer->bytes + last->key.at, last->key.length,
	    my->key_text);
	check_value(answer, 0, my->value);
	check((last->cas.length > 0) == (my->kind == GETS));
}

static unsigned int
count_values(const unsigned int *values)
{
	unsigned int count = 0, i;

	for (i = 0; i < KEYS; i++)
		count += values[i] > 0;
	return count;
}

static void
on_done(struct call *call, const struct answer *answer)
{
	struct my_call *my = (struct my_call *)call;

	check_case(my->serial == answered, "%u, not %u", my->serial, answered);
	answered = my->serial + 1;
	returned = answered;
	switch (my->kind) {
	case GET:
	case GETS:
		check_get(my, answer);
		break;
	case SET:
		check(answer->last.result == PROTO_STORED);
		break;
	case DELETE:
		check(answer->last.result ==
		    (my->was_there ? PROTO_DELETED : PROTO_NOT_FOUND));
		break;
	case MANY:
		check(answer->last.result == PROTO_END);
		check(my->seen == count_values(my->values));
		break;
	}
	free(my);
}

static bool
on_value(struct call *call, const struct proto_reply *value, const char *bytes,
    size_t at)
{
	struct my_call *my = (struct my_call *)call;
	char text[VALUE_MAX];
	int key = bytes[at + value->key.at + 1] - '0';
	size_t n = value_text(my->values[key], text);

	check(my->values[key] > 0 && value->data.length == n);
	if (n > VALUE_LIMIT)
		check(value->result == PROTO_LARGE_VALUE);
	else
		check(value->result == PROTO_VALUE &&
		    memcmp(bytes + at + value->data.at, text, n) == 0);
	my->seen++;
	return true;
}

static struct my_call *
new_call(enum kind kind)
{
	static unsigned int serial;
	struct my_call *my = calloc(1, sizeof(*my));

	unit_need(my != NULL, "calloc");
	my->kind = kind;
	my->serial = serial++;
	my->key = (int)unit_random(KEYS);
	sprintf(my->key_text, "k%d", my->key);
	my->value = will_hold[my->key];
	my->call.done = on_done;
	return my;
}

static void
submit_set(struct my_call *my)
{
	char line[80], data[VALUE_MAX + 2];
	unsigned int number = 1 + unit_random(30000);
	size_t n = value_text(number, data);

	memcpy(data + n, "\r\n", 2);
	will_hold[my->key] = number;
	my->call.expect = PROTO_EXPECT_STORED;
	link_submit(test_link, &my->call, line,
	    (size_t)sprintf(line, "set %s 0 %u %zu\r\n", my->key_text, number,
		n),
	    data, n + 2, NULL);
}

static void
submit_many(struct my_call *my)
{
	static const char line[] = "get k0 k1 k2 k3 k4 k5 k6 k7\r\n";

	memcpy(my->values, will_hold, sizeof(my->values));
	my->call.expect = PROTO_EXPECT_VALUES;
	my->call.element = on_value;
	link_submit(test_link, &my->call, line, sizeof(line) - 1, NULL, 0,
	    NULL);
}

/* Submit something; mostly gets. */
static void
submit(void)
{
	static const enum kind kinds[] = {
		GET,
		GET,
		GET,
		GET,
		GET,
		GETS,
		GETS,
		GETS,
		SET,
		DELETE,
		MANY,
	};
	struct my_call *my = new_call(kinds[unit_random(COUNT(kinds))]);
	char line[80];

	switch (my->kind) {
	case GET:
	case GETS:
		my->call.expect = my->kind == GET ?
		    PROTO_EXPECT_VALUES :
		    PROTO_EXPECT_VALUES_CAS;
		link_get(test_link, &my->call, my->key_text,
		    strlen(my->key_text));
		break;
	case SET:
		submit_set(my);
		break;
	case DELETE:
		my->was_there = my->value > 0;
		will_hold[my->key] = 0;
		my->call.expect = PROTO_EXPECT_DELETED;
		link_submit(test_link, &my->call, line,
		    (size_t)sprintf(line, "delete %s\r\n", my->key_text), NULL,
		    0, NULL);
		break;
	case MANY:
		submit_many(my);
	}
}

/*
 * The link
 */

static void
on_heard(void *owner)
{
	(void)owner;
}

/* All calls without an answer come back, in their order. */
static void
on_failed(void *owner, const char *why)
{
	struct call_list calls = TAILQ_HEAD_INITIALIZER(calls);
	struct call *call;

	(void)owner;
	snprintf(failed_why, sizeof(failed_why), "%s", why);
	link_close(test_link, &calls);
	check(link_waiting(test_link) == 0 && link_is_idle(test_link));
	while ((call = TAILQ_FIRST(&calls)) != NULL) {
		check(((struct my_call *)call)->serial == returned);
		returned++;
		TAILQ_REMOVE(&calls, call, entry);
		free(call);
	}
	answered = returned;
}

static const struct link_handler handler = {
	.heard = on_heard,
	.failed = on_failed,
};

static void
connect_link(void)
{
	int pair[2];

	if (peer != -1)
		close(peer);
	unit_need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
	unit_need(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0, "fcntl");
	peer = pair[1];
	memset(&server, 0, sizeof(server));
	memset(will_hold, 0, sizeof(will_hold));
	failed_why[0] = '\0';
	unit_need(link_open(test_link), "link_open");
	unit_need(link_attach(test_link, pair[0]), "link_attach");
}

/* The monotonic clock of conn.c; -1: that of the system. */
static int64_t clock_ms = -1;
static struct histogram reply_times;

int
clock_gettime(clockid_t which, struct timespec *to)
{
	if (clock_ms == -1 || which != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, which, to);
	to->tv_sec = clock_ms / 1000;
	to->tv_nsec = clock_ms % 1000 * 1000000;
	return 0;
}

/* A turn of the loop, which does not wait. */
static void
turn(void)
{
	struct timeval now = { 0 };

	event_base_loopexit(base, &now);
	conn_loop_turn(loop);
}

static void
settle(void)
{
	int i;

	for (i = 0; i < 200 && link_waiting(test_link) > 0; i++) {
		turn();
		serve(BUFFER);
	}
	check(link_waiting(test_link) == 0);
}

/*
 * Tests
 */

/* Any calls, in any pieces. */
static void
test_calls_in_any_pieces_get_their_own_replies(void)
{
	unsigned int i, n;

	connect_link();
	for (i = 0; i < ROUNDS; i++) {
		for (n = unit_random(6); n > 0; n--)
			submit();
		if (unit_random(3) > 0)
			turn();
		if (unit_random(3) > 0)
			serve(unit_random(2) ? unit_random(20) :
					       unit_random(8000));
		if (link_waiting(test_link) > CALLS)
			settle();
	}
	settle();
	check_bytes(failed_why, strlen(failed_why), "");
}

/* It ends anywhere: nobody has a wrong answer, and nobody is forgotten. */
static void
test_calls_on_link_that_ends_anywhere_come_back_in_order(void)
{
	static const char *const ends[] = {
		"",
		"\r\n",
		"END\r\n",
		"STORED\r\n",
		"VALUE k1 0 1\r\nx\r\n",
		"VALUE kk 0 1\r\nx\r\nEND\r\n",
		"ERROR\r\n",
		"\0",
		"VALUE k1 0 ",
	};
	const char *end;
	unsigned int i, n;

	for (i = 0; i < ROUNDS; i++) {
		if (failed_why[0] != '\0' || i == 0) {
			on_failed(NULL, "");
			connect_link();
		}
		for (n = unit_random(30); n > 0; n--)
			submit();
		turn();
		serve(unit_random(3000));
		if (unit_random(3) == 0)
			turn();
		/* Behind a whole element it may be an answer; so not there. */
		if (server.out_length == 0 && link_waiting(test_link) > 0)
			continue;
		end = ends[unit_random(COUNT(ends))];
		if (link_waiting(test_link) == 0 && *end != '\0')
			send(peer, end, strlen(end), MSG_NOSIGNAL);
		shutdown(peer, SHUT_WR);
		for (n = 0; n < 50 && failed_why[0] == '\0'; n++)
			turn();
		check(failed_why[0] != '\0');
	}
	on_failed(NULL, "");
}

/* How many commands n gets make. */
static unsigned int
commands_for(unsigned int n)
{
	unsigned int before = server.commands;

	while (n-- > 0) {
		struct my_call *my = new_call(GET);

		my->call.expect = PROTO_EXPECT_VALUES;
		link_get(test_link, &my->call, my->key_text, 2);
	}
	settle();
	return server.commands - before;
}

static void
test_gets_in_a_row_share_one_command(void)
{
	connect_link();
	check(commands_for(1) == 1 && commands_for(2) == 1);
	/* "get" and " k1" for each: as many as go into 2048 bytes. */
	check(commands_for(681) == 1);
	check(commands_for(683) == 2);
	on_failed(NULL, "");
}

static void
ask(const char *key)
{
	struct my_call *my = new_call(GET);

	strcpy(my->key_text, key);
	my->call.expect = PROTO_EXPECT_VALUES;
	link_get(test_link, &my->call, my->key_text, 2);
}

/* A value is not taken for that of a later command. */
static void
test_value_for_a_later_command_fails_the_link(void)
{
	static const char value[] = "VALUE k3 0 1\r\nx\r\n";
	int i;

	connect_link();
	ask("k0");
	ask("k1");
	submit_set(new_call(SET));
	ask("k3");
	turn();
	unit_need(send(peer, value, sizeof(value) - 1, 0) > 0, "send");
	for (i = 0; i < 50 && failed_why[0] == '\0'; i++)
		turn();
	check_bytes(failed_why, strlen(failed_why),
	    "sent what was not asked for");
}

/*
 * Age
 */

static void
submit_delete(void)
{
	struct my_call *my = new_call(DELETE);
	char line[80];

	my->was_there = false;
	my->call.expect = PROTO_EXPECT_DELETED;
	link_submit(test_link, &my->call, line,
	    (size_t)sprintf(line, "delete k0\r\n"), NULL, 0, NULL);
}

/* A value that is not in the model: the caller answers. */
static void
submit_large(struct my_call *my, const char *data, size_t n)
{
	char line[80];

	my->call.expect = PROTO_EXPECT_STORED;
	link_submit(test_link, &my->call, line,
	    (size_t)sprintf(line, "set k0 0 0 %zu\r\n", n - 2), data, n, NULL);
}

static void
pass_ms(int64_t ms)
{
	clock_ms += ms;
	turn();
}

static void
begin_age(void)
{
	clock_ms = 1000;
	turn();
	connect_link();
	turn();
	check(link_age(test_link) == -1);
}

static void
end_age(void)
{
	on_failed(NULL, "");
	check(link_age(test_link) == -1);
	clock_ms = -1;
}

static void
say_to_link(const char *text)
{
	unit_need(send(peer, text, strlen(text), MSG_NOSIGNAL) ==
		(ssize_t)strlen(text),
	    "send");
	turn();
}

/* Replies to other calls do not make a call younger. */
static void
test_age_is_the_time_since_the_oldest_call_was_sent(void)
{
	begin_age();
	submit_delete();
	pass_ms(100);
	submit_delete();
	pass_ms(100);
	check(link_age(test_link) == 200);
	say_to_link("NOT_FOUND\r\n");
	check(link_age(test_link) == 100);
	pass_ms(70);
	say_to_link("NOT");
	check(link_age(test_link) == 170);
	link_excuse(test_link, 50);
	check(link_age(test_link) == 120);
	end_age();
}

/* A server that answers so many calls is not late: 16 of them are worth a
   millisecond. */
static void
test_replies_at_a_fair_rate_stop_the_clock(void)
{
	int i, j;

	begin_age();
	for (i = 0; i < 3201; i++)
		submit_delete();
	turn();
	for (i = 0; i < 200; i++) {
		clock_ms++;
		for (j = 0; j < 16; j++)
			say_to_link("NOT_FOUND\r\n");
	}
	check(link_waiting(test_link) == 1);
	check(link_age(test_link) <= 2);
	pass_ms(90);
	check(link_age(test_link) >= 80);
	end_age();
}

/* Whatever a server has done, it is found out soon when it falls silent: by the
   next turns of the loop, or when nobody looks before the end. */
static void
test_silence_after_much_work_is_noticed_soon(void)
{
	int i, turns;

	for (turns = 1; turns <= 100; turns *= 10) {
		begin_age();
		for (i = 0; i < 5001; i++)
			submit_delete();
		turn();
		/* In five milliseconds 300 more are earned. */
		for (i = 0; i < 5000; i++) {
			clock_ms += i % 1000 == 0;
			send(peer, "NOT_FOUND\r\n", 11, MSG_NOSIGNAL);
			if (i % 100 == 99)
				turn();
		}
		check(link_waiting(test_link) == 1);
		for (i = 0; i < turns; i++)
			pass_ms(300 / turns);
		check_case(link_age(test_link) >= 245 &&
			link_age(test_link) <= 305,
		    "%d turns: %lld", turns, (long long)link_age(test_link));
		end_age();
	}
}

/* A call waits from when its last byte was sent; and before that, while the
   server takes its bytes at a fair rate, it does not age. */
static void
test_large_value_ages_while_it_is_stuck_only(void)
{
	static char data[BUFFER];
	struct my_call *my = new_call(SET);
	int i;

	begin_age();
	memset(data, 'x', sizeof(data));
	submit_large(my, data, sizeof(data));
	turn();
	submit_delete();
	for (i = 0; recv(peer, server.in, 10000, MSG_DONTWAIT) > 0; i++)
		pass_ms(2);
	check(i > 200);
	check(link_age(test_link) < 100);
	pass_ms(100);
	check(link_age(test_link) >= 50 && link_age(test_link) < 200);
	pass_ms(100);
	check(link_age(test_link) >= 150 && link_age(test_link) < 300);
	say_to_link("STORED\r\n");
	/* The second call was sent with the end of the first. */
	check(link_age(test_link) >= 140 && link_age(test_link) < 300);
	end_age();

	begin_age();
	submit_large(new_call(SET), data, sizeof(data));
	turn();
	pass_ms(100);
	check(link_age(test_link) == 100);
	end_age();
}

static bool
take_stat(struct call *call, const struct proto_reply *element,
    const char *bytes, size_t at)
{
	(void)call;
	check(element->result == PROTO_STAT && bytes[at] == 'S');
	return true;
}

static void
submit_stats(void)
{
	struct my_call *my = new_call(DELETE);
	static const char line[] = "stats\r\n";

	my->call.expect = PROTO_EXPECT_STATS;
	my->call.element = take_stat;
	link_submit(test_link, &my->call, line, sizeof(line) - 1, NULL, 0,
	    NULL);
}

/* Lines of stats are no progress, whether they drip or come in a flood. */
static void
test_stats_without_end_fail_the_link(void)
{
	char flood[60000];
	unsigned long sent;
	size_t i;

	begin_age();
	submit_stats();
	for (i = 0; i < 100; i++) {
		pass_ms(10);
		say_to_link("STAT a 1\r\n");
	}
	check(link_age(test_link) == 1000);
	for (i = 0; i + 10 <= sizeof(flood); i += 10)
		memcpy(flood + i, "STAT a 1\r\n", 10);
	for (sent = 0; failed_why[0] == '\0' && sent < 64 << 20; sent += i) {
		unit_need(send(peer, flood, i, MSG_NOSIGNAL) == (ssize_t)i,
		    "send");
		turn();
	}
	check_bytes(failed_why, strlen(failed_why),
	    "sends statistics without end");
	end_age();
}

int
main(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	loop = conn_loop_new(base);
	unit_need(loop != NULL, "conn_loop_new");
	test_link = link_new(loop, VALUE_LIMIT, &reply_times, &handler, NULL);
	unit_need(test_link != NULL, "link_new");
	RUN(test_gets_in_a_row_share_one_command);
	RUN(test_value_for_a_later_command_fails_the_link);
	RUN(test_calls_in_any_pieces_get_their_own_replies);
	on_failed(NULL, "");
	RUN(test_calls_on_link_that_ends_anywhere_come_back_in_order);
	RUN(test_age_is_the_time_since_the_oldest_call_was_sent);
	RUN(test_replies_at_a_fair_rate_stop_the_clock);
	RUN(test_silence_after_much_work_is_noticed_soon);
	RUN(test_large_value_ages_while_it_is_stuck_only);
	RUN(test_stats_without_end_fail_the_link);
	close(peer);
	link_free(test_link);
	conn_loop_free(loop);
	event_base_free(base);
	block_free_spare();
	return unit_end();
}
