/*
 * Conns over pairs of sockets: the test is the owner of one end and, with plain
 * system calls, the peer at the other.
 *
 * Nothing here depends on time: what the peer has written is there in the next
 * turn of the loop, and where that is not so a turn is taken until it is.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "block.h"
#include "conn.h"
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
	TURNS_MAX = 100000, /* until something must have happened */
	DATA = 3 << 20,     /* bytes of data[] */
};

struct end;
typedef size_t (*input_function)(struct end *, const char *, size_t);

/* One end: a conn with its owner, and the socket of its peer. */
enum want { WANT_NOT_SAID, WANT_IN_STEPS, WANT_AT_ONCE };

struct end {
	struct conn *conn;
	int peer;
	input_function input; /* takes all if NULL */
	void (*drained)(struct end *);
	void (*ended)(struct end *, enum conn_end);
	char events[64];         /* a letter for each ended(), drained() */
	int error;               /* of the last one that failed */
	size_t received;         /* bytes that input() has taken */
	unsigned long discarded; /* asked for in this message */
	size_t want;             /* the length of the message that is read, */
	enum want says_want;     /* with conn_want() */
	size_t enough;           /* bytes to begin with */
	struct block *kept[2];
	size_t kept_at[2];
	struct end *other;
};

static struct event_base *base;
static struct conn_loop *loop;
static char data[DATA];     /* no two parts of it are alike */
static char *sink;          /* DATA bytes: what a peer has read */
static char offers[4096];   /* what input() was given: "one|two|" */
static bool in_turn;        /* handlers may be called */
static struct event *timer; /* ends a turn in which nothing happens */
static bool waited;         /* it has */

const char *__asan_default_options(void);

/* Let malloc() fail as it does without a sanitizer. */
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* One turn, which may wait so long for events.  Returns whether it did. */
static bool
turn_within(int ms)
{
	struct timeval wait = { .tv_sec = ms / 1000,
		.tv_usec = ms % 1000 * 1000 };

	waited = false;
	unit_need(event_add(timer, &wait) == 0, "event_add");
	in_turn = true;
	conn_loop_turn(loop);
	in_turn = false;
	event_del(timer);
	return waited;
}

/* A turn in which something happens. */
static void
turn(void)
{
	check(!turn_within(5000));
}

/* Turns in which there may be nothing to do. */
static void
turns(int n)
{
	while (n-- > 0)
		turn_within(0);
}

/*
 * Owners
 */

static void
note(struct end *end, char letter)
{
	size_t n = strlen(end->events);

	unit_need(n + 1 < sizeof(end->events), "note");
	end->events[n] = letter;
	end->events[n + 1] = '\0';
	check(in_turn);
}

static size_t
on_input(void *owner, const char *bytes, size_t n)
{
	struct end *end = owner;
	size_t used;

	check(in_turn);
	check(n > 0);
	used = end->input == NULL ? n : end->input(end, bytes, n);
	end->received += used;
	return used;
}

static void
on_drained(void *owner)
{
	struct end *end = owner;

	note(end, 'd');
	if (end->drained != NULL)
		end->drained(end);
}

static void
on_ended(void *owner, enum conn_end what)
{
	struct end *end = owner;

	note(end, what == CONN_EOF ? 'e' : what == CONN_FINISHED ? 'f' : 'x');
	if (what == CONN_FAILED)
		end->error = conn_error(end->conn);
	if (end->ended != NULL)
		end->ended(end, what);
}

static const struct conn_handler handler = {
	.input = on_input,
	.drained = on_drained,
	.ended = on_ended,
};

/*
 * Ends
 */

static void
set_nonblocking(int fd)
{
	unit_need(fcntl(fd, F_SETFL, O_NONBLOCK) != -1, "fcntl");
}

static void
make_pair(int type, int pair[2])
{
	unit_need(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		      pair) == 0,
	    "socketpair");
}

static struct end
detached_end(void)
{
	struct end end = { .peer = -1 };

	offers[0] = '\0';
	return end;
}

/* An end is where it is: it is the owner. */
static void
open_conn(struct end *end, enum conn_rank rank)
{
	end->conn = conn_new(loop, rank, &handler, end);
	unit_need(end->conn != NULL, "conn_new");
}

static void
attach(struct end *end, int type)
{
	int pair[2];

	make_pair(type, pair);
	end->peer = pair[1];
	unit_need(conn_attach(end->conn, pair[0]), "conn_attach");
}

static void
open_end(struct end *end, input_function input)
{
	*end = detached_end();
	end->input = input;
	open_conn(end, CONN_FLUSHED_FIRST);
	attach(end, SOCK_STREAM);
}

static void
close_end(struct end *end)
{
	if (end->conn != NULL)
		conn_close(end->conn, false);
	if (end->peer != -1)
		close(end->peer);
	end->conn = NULL;
	turns(1);
	check(held_bytes() == 0);
}

static void
say_bytes(struct end *end, const char *bytes, size_t n)
{
	check(write(end->peer, bytes, n) == (ssize_t)n);
}

/* The peer writes this, and it is read. */
static void
say(struct end *end, const char *text)
{
	say_bytes(end, text, strlen(text));
	turn();
}

/* The peer reads what is there, n bytes at most; -1 is "nothing", 0 the end. */
static ssize_t
hear_some(struct end *end, char *to, size_t n)
{
	ssize_t got = recv(end->peer, to, n, MSG_DONTWAIT);

	unit_need(got != -1 || errno == EAGAIN || errno == ECONNRESET, "recv");
	return got;
}

/* What the peer reads in one piece is this. */
static void
check_heard(struct end *end, const char *want)
{
	char text[256];
	ssize_t n = hear_some(end, text, sizeof(text));

	check_bytes(text, n < 0 ? 0 : (size_t)n, want);
}

/* The peer reads no more: the conn is closed, maybe before it has read all. */
static void
check_closed(struct end *end)
{
	errno = 0;
	check(hear_some(end, sink, 1) == 0 || errno == ECONNRESET);
}

static void
check_silence(struct end *end)
{
	check(hear_some(end, sink, 1) == -1);
}

/* The peer reads n bytes, in pieces of some size, and turns; they have to be
   those at want. */
static void
hear(struct end *end, const char *want, size_t n, size_t piece)
{
	size_t have = 0;
	ssize_t got;
	int i;

	for (i = 0; i < TURNS_MAX && have < n; i++) {
		got = hear_some(end, sink + have,
		    n - have < piece ? n - have : piece);
		if (got > 0)
			have += (size_t)got;
		else
			turns(1);
	}
	check_case(have == n && memcmp(sink, want, n) == 0,
	    "%zu of %zu bytes heard", have, n);
}

#define check_events(end, want) \
	do { \
		check_bytes((end)->events, strlen((end)->events), want); \
		(end)->events[0] = '\0'; \
	} while (0)

#define check_offers(want) \
	do { \
		check_bytes(offers, strlen(offers), want); \
		offers[0] = '\0'; \
	} while (0)

/*
 * Input
 */

static void
note_offer(const char *bytes, size_t n)
{
	size_t length = strlen(offers);

	unit_need(length + n + 2 < sizeof(offers), "offers");
	memcpy(offers + length, bytes, n);
	memcpy(offers + length + n, "|", 2);
}

/* Takes the lines that are whole. */
static size_t
take_lines(struct end *end, const char *bytes, size_t n)
{
	const char *last = memrchr(bytes, '\n', n);

	(void)end;
	note_offer(bytes, n);
	return last == NULL ? 0 : (size_t)(last - bytes) + 1;
}

/* What was left is offered again with what follows, and not before. */
static void
test_input_left_over_is_offered_again_with_what_follows(void)
{
	struct end end;

	open_end(&end, take_lines);
	say(&end, "one\n");
	check_offers("one\n|");
	say(&end, "tw");
	check_offers("tw|");
	turns(2);
	check_offers("");
	say(&end, "o");
	say(&end, "\nthree\nfo");
	say(&end, "ur");
	say(&end, "\n");
	check_offers("two|two\nthree\nfo|four|four\n|");
	say(&end, "a\nb\nc");
	say(&end, "\n");
	say(&end, "d\n");
	check_offers("a\nb\nc|c\n|d\n|");
	check(conn_received(end.conn) == 27 && end.received == 27);
	check_events(&end, "");
	close_end(&end);
}

/* Waits for a message of end->want bytes, and says how long it will be. */
static size_t
take_message(struct end *end, const char *bytes, size_t n)
{
	check_case(memcmp(bytes, data + end->received, n) == 0,
	    "input after %zu bytes", end->received);
	if (n >= end->want)
		return end->want;
	conn_want(end->conn, end->want, false);
	return 0;
}

/* A large message in pieces of this size; what is held is bounded by what has
   come, not by what is wanted. */
static void
feed(struct end *end, size_t length, size_t piece)
{
	size_t at, n;

	for (at = 0; at < length; at += n) {
		n = length - at < piece ? length - at : piece;
		say_bytes(end, data + at, n);
		turn();
		check_case(held_bytes() <= 2 * (at + n) + 2 * BLOCK_SMALL,
		    "%zu bytes for %zu", held_bytes(), at + n);
	}
	turns(20);
}

static void
test_input_of_wanted_message_takes_memory_as_it_comes(void)
{
	static const size_t pieces[] = { 1, 100, 4096, 5000, 65536, 100000 };
	struct end end;
	size_t i, length;

	for (i = 0; i < COUNT(pieces); i++) {
		open_end(&end, take_message);
		length = pieces[i] == 1 ? 9000 : 400000;
		end.want = length;
		feed(&end, length, pieces[i]);
		check(end.received == length && held_bytes() == 0);
		close_end(&end);
	}
	/* Nobody gets a gigabyte for saying so. */
	open_end(&end, take_message);
	end.want = 1 << 30;
	feed(&end, 600000, 30000);
	check(end.received == 0);
	close_end(&end);
}

/* Keeps the bytes of a message but the first and the last, in two parts. */
static size_t
keep_message(struct end *end, const char *bytes, size_t n)
{
	size_t half = end->want / 2;

	if (n < end->want) {
		if (end->says_want != WANT_NOT_SAID)
			conn_want(end->conn, end->want,
			    end->says_want == WANT_AT_ONCE);
		return 0;
	}
	end->kept[0] = conn_reference(end->conn, bytes + 1, half - 1,
	    &end->kept_at[0]);
	end->kept[1] = conn_reference(end->conn, bytes + half,
	    end->want - half - 1, &end->kept_at[1]);
	unit_need(end->kept[0] != NULL && end->kept[1] != NULL, "conn_keep");
	end->input = take_message;
	return end->want;
}

static void
check_kept(struct end *end, size_t n)
{
	check(memcmp(end->kept[0]->bytes + end->kept_at[0], data + 1,
		  n / 2 - 1) == 0);
	check(memcmp(end->kept[1]->bytes + end->kept_at[1], data + n / 2,
		  n - n / 2 - 1) == 0);
}

static void
release_kept(struct end *end)
{
	block_release(end->kept[0]);
	block_release(end->kept[1]);
	turns(1);
	check(held_bytes() == 0);
}

/*
 * A message of n bytes that comes in pieces is kept, with more behind it in
 * the same piece.  What is kept, and what follows, stay what they are while
 * more comes, and after the conn is closed.
 */
static void
keep(size_t n, size_t piece, enum want says_want, bool is_reference)
{
	struct end end;
	size_t at, rest = piece / 2;

	open_end(&end, keep_message);
	end.want = n;
	end.says_want = says_want;
	for (at = 0; at < n + rest; at += piece) {
		say_bytes(&end, data + at,
		    n + rest - at < piece ? n + rest - at : piece);
		turn();
	}
	unit_need(end.kept[1] != NULL, "message");
	check_kept(&end, n);
	check_case((end.kept[0] == end.kept[1]) == is_reference,
	    "message of %zu bytes in pieces of %zu", n, piece);
	check(end.received == n);
	end.want = n + rest;
	say_bytes(&end, data + n + rest, n);
	turns(5);
	check_case(end.received == 2 * n + rest, "what follows: %zu",
	    end.received);
	check_kept(&end, n);
	close(end.peer);
	conn_close(end.conn, false);
	turns(1);
	check_kept(&end, n);
	release_kept(&end);
}

static void
test_kept_message_outlives_its_conn(void)
{
	enum want says_want;

	for (says_want = WANT_NOT_SAID; says_want <= WANT_AT_ONCE;
	     says_want++) {
		keep(100, 60, says_want, false);
		keep(3000, 1000, says_want, false);
		keep(40000, 100, says_want, true);
		keep(40000, 30000, says_want, true);
		keep(60000, 59999, says_want, true);
		/* What was read in one go must be copied. */
		keep(100, 120, says_want, false);
		keep(60000, 64000, says_want, false);
	}
}

/* Takes 100 bytes when that many are there, then a message that it keeps. */
static size_t
take_and_keep(struct end *end, const char *bytes, size_t n)
{
	if (n < end->enough)
		return 0;
	end->input = keep_message;
	check(memcmp(bytes, data, 100) == 0);
	return 100;
}

/* A message that is kept need not be the first in its block. */
static void
test_kept_message_may_be_second_in_its_block(void)
{
	struct end end;
	size_t at, enough;

	for (enough = 5000; enough < 30000; enough += 1000) {
		open_end(&end, take_and_keep);
		end.want = 30000;
		end.enough = enough;
		for (at = 0; at < 40000; at += 1000) {
			say_bytes(&end, data + at, 1000);
			turn();
		}
		unit_need(end.kept[1] != NULL, "message");
		check(end.kept[0] == end.kept[1]);
		check(memcmp(end.kept[0]->bytes + end.kept_at[0], data + 101,
			  14999) == 0);
		check(memcmp(end.kept[1]->bytes + end.kept_at[1], data + 15100,
			  14999) == 0);
		check(end.received == 30100);
		block_release(end.kept[0]);
		block_release(end.kept[1]);
		close_end(&end);
	}
}

/* Memory of a conn that keeps a large message is not held twice. */
static void
test_kept_large_message_is_not_held_twice(void)
{
	struct end end;

	open_end(&end, keep_message);
	end.want = 1 << 20;
	end.says_want = WANT_IN_STEPS;
	feed(&end, 1 << 20, 60000);
	unit_need(end.kept[0] != NULL, "message");
	check(end.kept[0] == end.kept[1]);
	check(end.kept[0]->references == 2);
	check(held_bytes() == end.kept[0]->size);
	check(held_bytes() < (1 << 20) + (128 << 10));
	check_kept(&end, 1 << 20);
	release_kept(&end);
	close_end(&end);
}

/* Room for all of a large message is made once, also if little of it came at
   first, and what is read to it is not moved. */
static void
test_room_that_is_wanted_at_once_is_made_once(void)
{
	static const size_t firsts[] = { 1, 100, BLOCK_SMALL, 30000, 64000 };
	struct end end;
	uint64_t made;
	size_t i, at, n;

	for (i = 0; i < COUNT(firsts); i++) {
		open_end(&end, keep_message);
		end.want = 500000;
		end.says_want = WANT_AT_ONCE;
		say_bytes(&end, data, firsts[i]);
		turn();
		made = block_made();
		for (at = firsts[i]; at < 500000; at += n) {
			n = 500000 - at < 60000 ? 500000 - at : 60000;
			say_bytes(&end, data + at, n);
			turn();
		}
		unit_need(end.kept[0] != NULL, "message");
		check(end.kept[0]->size >= 500000);
		check(end.kept[0]->size <= 500000 + 500000 / 4);
		check_case(block_made() - made <= end.kept[0]->size,
		    "%lu bytes were made",
		    (unsigned long)(block_made() - made));
		check_kept(&end, 500000);
		release_kept(&end);
		close_end(&end);
	}
}

/* Messages that are kept one behind the other, as the values of a long reply,
   have their memory moved a few times only. */
static void
test_room_grows_by_a_part_for_many_messages(void)
{
	enum { MESSAGE = 10000, MESSAGES = 50 };
	struct end end;
	uint64_t made = block_made();
	size_t i;

	open_end(&end, keep_message);
	end.says_want = WANT_AT_ONCE;
	for (i = 1; i <= MESSAGES; i++) {
		/* Each one is announced when the one before is there. */
		end.want = i * MESSAGE + 1;
		say_bytes(&end, data + (i - 1) * MESSAGE, MESSAGE);
		turn();
	}
	check(end.received == 0 &&
	    conn_input_bytes(end.conn) == MESSAGES * MESSAGE);
	check(conn_input_memory(end.conn) <= 2 * MESSAGES * MESSAGE);
	check_case(block_made() - made <= 4 * MESSAGES * MESSAGE,
	    "%lu bytes were made", (unsigned long)(block_made() - made));
	close_end(&end);
}

/*
 * A message is a letter, a count, a colon, so many bytes to be thrown away, and
 * "!".  What the handler sees of it in the end is all but those bytes.
 */
static size_t
take_and_discard(struct end *end, const char *bytes, size_t n)
{
	const char *colon;
	unsigned long count;
	size_t used = 0;

	while ((colon = memchr(bytes + used, ':', n - used)) != NULL) {
		count = strtoul(bytes + used + 1, NULL, 10);
		if (end->discarded < count) {
			end->discarded = count;
			conn_discard(end->conn,
			    (size_t)(colon + 1 - bytes) - used, count);
			break;
		}
		if (colon + 1 == bytes + n)
			break;
		check(colon[1] == '!');
		note_offer(bytes + used, (size_t)(colon + 2 - bytes) - used);
		end->discarded = 0;
		used = (size_t)(colon + 2 - bytes);
	}
	return used;
}

/* In whatever pieces they come, and whatever is in them. */
static void
test_discarded_bytes_are_not_offered_and_those_around_them_are(void)
{
	static const size_t pieces[] = { 1, 3, 7, 4096, 5000, 60000 };
	static const unsigned long counts[] = { 1, 2, 10, 5000, 70000, 200000 };
	static char message[2 * DATA];
	struct end end;
	size_t i, j, at, length, n;
	char want[64];

	for (i = 0; i < COUNT(pieces) * COUNT(counts); i++) {
		unsigned long count = counts[i % COUNT(counts)];

		open_end(&end, take_and_discard);
		length = 0;
		for (j = 0; j < 3; j++) {
			length += (size_t)sprintf(message + length,
			    "x%lu:", count);
			memset(message + length, j == 1 ? ':' : '!', count);
			length += count;
			message[length++] = '!';
		}
		for (at = 0; at < length; at += n) {
			n = pieces[i / COUNT(counts)];
			if (pieces[i / COUNT(counts)] < 10 && at > 20 &&
			    length - at > 4000)
				n = 4000;
			if (n > length - at)
				n = length - at;
			say_bytes(&end, message + at, n);
			turns(3);
		}
		turns(3);
		snprintf(want, sizeof(want), "x%lu:!|x%lu:!|x%lu:!|", count,
		    count, count);
		check_offers(want);
		check(conn_received(end.conn) == length);
		check(conn_input_bytes(end.conn) == 0);
		close_end(&end);
	}
}

/* Takes a line and lets the conn pause. */
static size_t
take_line_and_pause(struct end *end, const char *bytes, size_t n)
{
	const char *first = memchr(bytes, '\n', n);

	note_offer(bytes, n);
	if (first == NULL)
		return 0;
	conn_pause(end->conn);
	conn_pause(end->conn);
	return (size_t)(first - bytes) + 1;
}

/* While it is paused nothing comes; then everything in order, the end last. */
static void
test_paused_conn_offers_nothing_then_all_with_end_last(void)
{
	struct end end;

	open_end(&end, take_line_and_pause);
	say_bytes(&end, "one\ntwo\nth", 10);
	turn();
	check_offers("one\ntwo\nth|");
	say_bytes(&end, "ree\nfour", 8);
	shutdown(end.peer, SHUT_WR);
	turns(3);
	check_offers("");
	check_events(&end, "");
	conn_resume(end.conn);
	conn_resume(end.conn);
	check_offers("");
	turn();
	check_offers("two\nth|");
	turns(3);
	check_offers("");
	check_events(&end, "");
	conn_resume(end.conn);
	turn();
	check_events(&end, "");
	check_offers("th|");
	turn();
	check_offers("three\nfour|");
	conn_resume(end.conn);
	turn();
	check_offers("four|");
	turns(3);
	check_offers("");
	check_events(&end, "e");
	check(conn_received(end.conn) == 18);
	close_end(&end);
}

/* From outside; with nothing kept; and taken back before the loop sees it. */
static void
test_pause_from_outside_input_holds_and_can_be_undone(void)
{
	struct end end;

	open_end(&end, take_lines);
	conn_pause(end.conn);
	say_bytes(&end, "one\ntwo", 7);
	turns(3);
	check_offers("");
	check(conn_received(end.conn) == 0);
	conn_resume(end.conn);
	conn_pause(end.conn);
	turns(2);
	check_offers("");
	conn_resume(end.conn);
	turn();
	check_offers("one\ntwo|");
	conn_pause(end.conn);
	conn_resume(end.conn);
	turn();
	check_offers("two|");
	conn_pause(end.conn);
	conn_resume(end.conn);
	conn_pause(end.conn);
	turns(3);
	check_offers("");
	conn_resume(end.conn);
	turn();
	check_offers("two|");
	say(&end, "\n");
	check_offers("two\n|");
	close_end(&end);
}

static size_t
take_one_and_wait(struct end *end, const char *bytes, size_t n)
{
	note_offer(bytes, n);
	if (n > 1) {
		conn_pause(end->conn);
		conn_resume(end->conn);
	}
	return 1;
}

/* A conn resumed inside input() gets more input in the next turn, so that the
   others have theirs. */
static void
test_resume_inside_input_takes_effect_in_the_next_turn(void)
{
	struct end one, two;

	open_end(&one, take_lines);
	say(&one, "abc");
	open_end(&two, take_lines);
	say(&two, "xyz");
	check_offers("xyz|");
	one.input = two.input = take_one_and_wait;
	conn_pause(one.conn);
	conn_resume(one.conn);
	conn_pause(two.conn);
	conn_resume(two.conn);
	turn();
	check_offers("abc|xyz|");
	turn();
	check_offers("bc|yz|");
	turn();
	check_offers("c|z|");
	turns(2);
	check_offers("");
	close(two.peer);
	conn_close(two.conn, false);
	close_end(&one);
}

/* After its end a conn still writes, and what was kept is not offered. */
static void
test_conn_after_peers_end_still_writes(void)
{
	struct end end;

	open_end(&end, take_lines);
	say(&end, "one\ntw");
	check_offers("one\ntw|");
	shutdown(end.peer, SHUT_WR);
	turn();
	check_events(&end, "e");
	turns(3);
	check_events(&end, "");
	check_offers("");
	conn_write(end.conn, "answer", 6);
	turn();
	check_heard(&end, "answer");
	conn_pause(end.conn);
	conn_resume(end.conn);
	turns(3);
	check_offers("tw|");
	check_events(&end, "");
	close_end(&end);
}

/*
 * Output
 */

/* All that is written in a turn goes out in one piece, and not before. */
static void
test_writes_of_one_turn_go_out_in_one_piece(void)
{
	struct end end = detached_end();
	struct block *block = block_copy(data, 8000);

	unit_need(block != NULL, "block_copy");
	open_conn(&end, CONN_FLUSHED_FIRST);
	attach(&end, SOCK_SEQPACKET);
	conn_write(end.conn, "one ", 4);
	conn_write(end.conn, "", 0);
	conn_write_block(end.conn, NULL, "two ", 4);
	conn_write_block(end.conn, block, block->bytes + 1, 3);
	conn_write_block(end.conn, block, block->bytes, 0);
	check_silence(&end);
	check(conn_backlog(end.conn) == 11 && conn_queued(end.conn) == 11);
	check(conn_sent(end.conn) == 0);
	turn();
	check(hear_some(&end, sink, DATA) == 11);
	check(memcmp(sink, "one two ", 8) == 0);
	check(memcmp(sink + 8, data + 1, 3) == 0);
	check_silence(&end);
	check(conn_backlog(end.conn) == 0 && conn_sent(end.conn) == 11);
	conn_write(end.conn, "<", 1);
	conn_write_block(end.conn, block, block->bytes, 5000);
	conn_write(end.conn, ">", 1);
	turn();
	check(hear_some(&end, sink, DATA) == 5002);
	check(sink[0] == '<' && sink[5001] == '>');
	check(memcmp(sink + 1, data, 5000) == 0);
	check(memcmp(block->bytes, data, 8000) == 0);
	check(conn_queued(end.conn) == 5013 && conn_sent(end.conn) == 5013);
	block_release(block);
	close_end(&end);
}

/* A block that is queued is referred to until it is sent, and its bytes are not
   copied if they are many. */
static void
test_large_written_block_is_referenced_and_not_copied(void)
{
	struct block *block = block_copy(data, 300000);
	struct end end;

	unit_need(block != NULL, "block_copy");
	open_end(&end, NULL);
	conn_write_block(end.conn, block, block->bytes, 200000);
	conn_write_block(end.conn, block, block->bytes + 200000, 100000);
	check(block->references == 3);
	check(held_bytes() >= block->size &&
	    held_bytes() < block->size + BLOCK_SMALL);
	conn_write_block(end.conn, block, block->bytes, 10);
	check(block->references == 3);
	memset(block->bytes, 'x', 10); /* the copy is one */
	memcpy(block->bytes, data, 10);
	hear(&end, data, 300000, 50000);
	hear(&end, data, 10, 10);
	check(block->references == 1);
	conn_write_block(end.conn, block, block->bytes, 100000);
	block_release(block);
	hear(&end, data, 100000, 7777);
	conn_write(end.conn, data, 200000);
	conn_write_block(end.conn, NULL, data, 200000);
	hear(&end, data, 200000, DATA);
	hear(&end, data, 200000, DATA);
	close_end(&end);
}

/* What was written last can be taken back, but for what was sent, referred to
   or would leave nothing. */
static void
test_last_write_unsent_can_be_taken_back(void)
{
	struct block *block = block_copy(data, 8000);
	struct end end = detached_end();

	unit_need(block != NULL, "block_copy");
	open_conn(&end, CONN_FLUSHED_FIRST);
	attach(&end, SOCK_SEQPACKET);
	check(!conn_unwrite(end.conn, 2));
	conn_write(end.conn, "get a\r\n", 7);
	check(!conn_unwrite(end.conn, 7) && !conn_unwrite(end.conn, 8));
	check(conn_unwrite(end.conn, 2) && conn_queued(end.conn) == 5);
	conn_write(end.conn, " b\r\n", 4);
	check(conn_backlog(end.conn) == 9 && conn_queued(end.conn) == 9);
	turn();
	check(hear_some(&end, sink, DATA) == 9);
	check(memcmp(sink, "get a b\r\n", 9) == 0);
	check(!conn_unwrite(end.conn, 2) && conn_queued(end.conn) == 9);
	conn_write(end.conn, "x", 1);
	conn_write_block(end.conn, block, block->bytes, 5000);
	check(!conn_unwrite(end.conn, 2));
	conn_write(end.conn, "yz", 2);
	check(!conn_unwrite(end.conn, 2) && conn_unwrite(end.conn, 1));
	turn();
	check(hear_some(&end, sink, DATA) == 5002);
	check(sink[0] == 'x' && sink[5001] == 'y');
	check(memcmp(sink + 1, data, 5000) == 0);
	block_release(block);
	close_end(&end);
}

static void
make_small(struct end *end, int bytes)
{
	int pair[2];

	make_pair(SOCK_STREAM, pair);
	unit_need(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes,
		      sizeof(bytes)) == 0,
	    "setsockopt");
	end->peer = pair[1];
	unit_need(conn_attach(end->conn, pair[0]), "conn_attach");
}

/* Hundreds of pieces of all kinds and sizes, in order, through a socket that
   takes a little at a time, while more is written. */
static void
test_writes_of_all_sizes_arrive_in_order_through_slow_socket(void)
{
	static const size_t sizes[] = {
		1,
		2000,
		30,
		9000,
		2047,
		2048,
		4000,
		1,
		1,
		70000,
		4001,
		12,
	};
	struct block *block = block_copy(data, DATA);
	struct end end = detached_end();
	size_t at = 0, heard = 0, n, i;

	unit_need(block != NULL, "block_copy");
	open_conn(&end, CONN_FLUSHED_FIRST);
	make_small(&end, 4096);
	for (i = 0; at < 2000000; i++) {
		n = sizes[i % COUNT(sizes)];
		if (i % 5 == 1 || i % 3 == 0)
			conn_write_block(end.conn, block, block->bytes + at, n);
		else
			conn_write(end.conn, data + at, n);
		at += n;
		check(conn_queued(end.conn) == at);
		if (i % 7 == 0)
			turns(1);
		if (i % 11 == 0) {
			n = at - heard < 3001 ? at - heard : 3001;
			hear(&end, data + heard, n, 1000);
			heard += n;
		}
		check(conn_sent(end.conn) + conn_backlog(end.conn) == at);
		check(conn_sent(end.conn) >= heard);
	}
	hear(&end, data + heard, at - heard, 60000);
	check(conn_backlog(end.conn) == 0 && conn_sent(end.conn) == at);
	check(block->references == 1);
	block_release(block);
	close_end(&end);
}

/* Reads a little at a time.  Until drained() comes the backlog is not low, and
   then it is. */
static void
drain(struct end *end)
{
	int i;

	turns(1);
	for (i = 0; i < TURNS_MAX && end->events[0] == '\0'; i++) {
		check(conn_backlog(end->conn) >= CONN_LOW);
		check(hear_some(end, sink, 3000) > 0);
		turns(1);
	}
	check(conn_backlog(end->conn) < CONN_LOW);
	check_events(end, "d");
	while (conn_backlog(end->conn) > 0) {
		check(hear_some(end, sink, 60000) > 0);
		turns(1);
	}
	check_events(end, "");
}

static void
test_backlog_over_high_mark_is_reported_when_drained(void)
{
	struct end end = detached_end();

	open_conn(&end, CONN_FLUSHED_FIRST);
	make_small(&end, 4096);
	conn_write(end.conn, data, CONN_HIGH);
	hear(&end, data, CONN_HIGH, 60000);
	check_events(&end, "");
	conn_write(end.conn, data, CONN_HIGH);
	conn_write(end.conn, data, 1);
	drain(&end);
	/* Again, in many pieces, of which some go out meanwhile. */
	turns(1);
	while (conn_backlog(end.conn) <= CONN_HIGH) {
		conn_write(end.conn, data, 10000);
		turns(1);
	}
	check_events(&end, "");
	drain(&end);
	close_end(&end);
}

static void
write_more(struct end *end)
{
	end->drained = NULL;
	conn_write(end->conn, data, CONN_HIGH + 1);
	conn_write(end->conn, ".", 1);
}

/* More may be written in drained(); that is then drained in its turn. */
static void
test_write_inside_drained_is_drained_in_its_turn(void)
{
	struct end end;

	open_end(&end, NULL);
	end.drained = write_more;
	conn_write(end.conn, data, CONN_HIGH + 1);
	hear(&end, data, CONN_HIGH + 1, 50000);
	check_events(&end, "d");
	check(conn_backlog(end.conn) > 0);
	hear(&end, data, CONN_HIGH + 1, 50000);
	check_heard(&end, ".");
	turns(1);
	check_events(&end, "d");
	close_end(&end);
}

/* Without a socket output is queued, also over a high mark. */
static void
test_conn_without_socket_queues_its_output(void)
{
	struct end end = detached_end();

	open_conn(&end, CONN_FLUSHED_LAST);
	turns(2);
	conn_write(end.conn, "one ", 4);
	conn_write(end.conn, data, CONN_HIGH);
	turns(2);
	check(conn_backlog(end.conn) == CONN_HIGH + 4);
	check(conn_sent(end.conn) == 0 && conn_take_socket(end.conn) == -1);
	check_events(&end, "");
	attach(&end, SOCK_STREAM);
	check_silence(&end);
	turn();
	hear(&end, "one ", 4, 4);
	hear(&end, data, CONN_HIGH, DATA);
	turns(1);
	check_events(&end, "d");
	conn_write(end.conn, "two", 3);
	turn();
	check_heard(&end, "two");
	close_end(&end);
	/* One that never gets a socket. */
	open_conn(&end, CONN_FLUSHED_FIRST);
	conn_write(end.conn, data, 10000);
	end.peer = -1;
	turns(1);
	close_end(&end);
}

/* Two conns write to one socket: the peer sees which was first. */
static void
test_output_of_first_rank_is_sent_before_second(void)
{
	struct end first = detached_end(), second = detached_end();
	struct end third = detached_end();
	int pair[2];

	make_pair(SOCK_STREAM, pair);
	open_conn(&second, CONN_FLUSHED_LAST);
	open_conn(&first, CONN_FLUSHED_FIRST);
	open_conn(&third, CONN_FLUSHED_FIRST);
	unit_need(conn_attach(second.conn, pair[0]) &&
		conn_attach(first.conn, dup(pair[0])) &&
		conn_attach(third.conn, dup(pair[0])),
	    "conn_attach");
	first.peer = pair[1];
	conn_write(second.conn, "5", 1);
	conn_write(first.conn, "1", 1);
	conn_write(third.conn, "3", 1);
	conn_write(second.conn, "6", 1);
	conn_write(first.conn, "2", 1);
	conn_write(third.conn, "4", 1);
	turn();
	check_heard(&first, "123456");
	conn_write(second.conn, "3", 1);
	conn_write(third.conn, "1", 1);
	conn_write(first.conn, "2", 1);
	turn();
	check_heard(&first, "123");
	conn_close(second.conn, false);
	conn_close(third.conn, false);
	close_end(&first);
}

static size_t
write_to_other(struct end *end, const char *bytes, size_t n)
{
	conn_write(end->conn, "2", 1);
	conn_write(end->other->conn, bytes, n);
	return n;
}

/* A turn: input, also what was kept back, before all output; the first rank
   before the second. */
static void
test_input_of_a_turn_comes_before_all_output(void)
{
	struct end first = detached_end(), second = detached_end();
	int pair[2];

	make_pair(SOCK_STREAM, pair);
	open_conn(&second, CONN_FLUSHED_LAST);
	open_conn(&first, CONN_FLUSHED_FIRST);
	unit_need(conn_attach(second.conn, pair[0]) &&
		conn_attach(first.conn, dup(pair[0])),
	    "conn_attach");
	conn_pause(first.conn);
	first.peer = second.peer = pair[1];
	second.input = write_to_other;
	second.other = &first;
	say(&second, "1");
	check_heard(&second, "12");
	second.input = take_lines;
	say(&second, "1");
	second.input = write_to_other;
	conn_pause(second.conn);
	conn_resume(second.conn);
	turn();
	check_heard(&second, "12");
	conn_close(first.conn, false);
	close_end(&second);
}

/*
 * The end
 */

/* All that was written is sent, then the end; input goes on. */
static void
test_finish_sends_all_output_then_the_end(void)
{
	struct end end = detached_end();

	open_conn(&end, CONN_FLUSHED_FIRST);
	make_small(&end, 4096);
	end.input = take_lines;
	conn_write(end.conn, data, 100000);
	conn_finish(end.conn);
	turns(2);
	check_events(&end, "");
	hear(&end, data, 100000, 5000);
	turns(1);
	check(hear_some(&end, sink, 1) == 0);
	check_events(&end, "f");
	say(&end, "more\n");
	check_offers("more\n|");
	shutdown(end.peer, SHUT_WR);
	turns(3);
	check_events(&end, "e");
	close_end(&end);
	/* With nothing to be sent: soon. */
	open_end(&end, NULL);
	conn_finish(end.conn);
	check_events(&end, "");
	turn();
	check_events(&end, "f");
	check(hear_some(&end, sink, 1) == 0);
	turns(2);
	check_events(&end, "");
	close_end(&end);
}

/* A finish that is asked for before there is a socket. */
static void
test_finish_without_socket_waits_for_one(void)
{
	struct end end = detached_end();

	open_conn(&end, CONN_FLUSHED_FIRST);
	conn_write(end.conn, "last", 4);
	conn_finish(end.conn);
	turns(1);
	check_events(&end, "");
	attach(&end, SOCK_STREAM);
	turn();
	check_heard(&end, "last");
	check(hear_some(&end, sink, 1) == 0);
	check_events(&end, "f");
	close_end(&end);
}

static size_t
close_in_input(struct end *end, const char *bytes, size_t n)
{
	struct end *other = end->other;

	note_offer(bytes, n);
	conn_close(end->conn, false);
	end->conn = NULL;
	if (other != NULL && other->conn != NULL) {
		conn_close(other->conn, false);
		other->conn = NULL;
	}
	return n - 1;
}

/* In input(), with bytes left and others to come, of itself and of another that
   also has input, output and an end to come: no handler is called after it. */
static void
test_close_inside_input_calls_no_handler_after_it(void)
{
	struct end one, two;

	open_end(&one, close_in_input);
	open_end(&two, close_in_input);
	one.other = &two;
	two.other = &one;
	conn_write(one.conn, data, 10000);
	conn_write(two.conn, data, 10000);
	conn_finish(one.conn);
	conn_finish(two.conn);
	say_bytes(&one, "abc", 3);
	say_bytes(&two, "abc", 3);
	shutdown(one.peer, SHUT_WR);
	shutdown(two.peer, SHUT_WR);
	turn();
	check_offers("abc|");
	check_closed(&one);
	check_closed(&two);
	turns(3);
	check_offers("");
	check_events(&one, "");
	check_events(&two, "");
	close_end(&one);
	close_end(&two);
}

/* The same for input that was kept back. */
static void
test_close_inside_input_kept_back_calls_no_handler_after(void)
{
	struct end one, two;

	open_end(&one, take_lines);
	say(&one, "abc");
	open_end(&two, take_lines);
	say(&two, "xyz");
	check_offers("xyz|");
	one.input = two.input = close_in_input;
	one.other = &two;
	two.other = &one;
	conn_pause(one.conn);
	conn_pause(two.conn);
	conn_resume(two.conn);
	conn_resume(one.conn);
	turns(3);
	check_offers("xyz|");
	check_closed(&one);
	check_closed(&two);
	close(two.peer);
	close_end(&one);
}

static void
close_at_end(struct end *end, enum conn_end what)
{
	(void)what;
	conn_close(end->conn, true);
	end->conn = NULL;
}

static void
close_when_drained(struct end *end)
{
	conn_close(end->conn, false);
	end->conn = NULL;
}

static void
test_close_inside_ended_and_drained_calls_no_other_handler(void)
{
	struct end end;

	open_end(&end, NULL);
	end.ended = close_at_end;
	conn_write(end.conn, "lost", 4);
	conn_finish(end.conn);
	shutdown(end.peer, SHUT_WR);
	turns(2);
	check_events(&end, "e");
	close_end(&end);

	open_end(&end, NULL);
	end.ended = close_at_end;
	conn_write(end.conn, "last", 4);
	conn_finish(end.conn);
	turns(2);
	check_heard(&end, "last");
	check_events(&end, "f");
	close_end(&end);

	open_end(&end, NULL);
	end.drained = close_when_drained;
	conn_write(end.conn, data, CONN_HIGH + 1);
	hear(&end, data, CONN_HIGH + 1 - CONN_LOW, DATA);
	turns(2);
	check_events(&end, "d");
	close_end(&end);
}

/* A peer that goes away: an end; what is written then fails, and what is
   written after that is of no interest. */
static void
test_write_to_peer_that_left_fails_once(void)
{
	struct end end;

	open_end(&end, NULL);
	close(end.peer);
	end.peer = -1;
	turns(1);
	check_events(&end, "e");
	check(conn_error(end.conn) == 0);
	end.ended = close_at_end;
	conn_write(end.conn, "one", 3);
	turns(2);
	check_events(&end, "x");
	check(end.error == EPIPE);
	close_end(&end);
	/* It goes away with something unread. */
	open_end(&end, take_lines);
	conn_write(end.conn, "one", 3);
	turn();
	say(&end, "a");
	check_offers("a|");
	end.ended = close_at_end;
	close(end.peer);
	end.peer = -1;
	turns(2);
	check_events(&end, "x");
	check(end.error == ECONNRESET);
	check_offers("");
	close_end(&end);
}

/* A conn that runs out of memory fails, but not in the call. */
static void
test_write_without_memory_fails_the_conn_after_the_call(void)
{
	static volatile size_t impossible = PTRDIFF_MAX;
	struct end end;

	open_end(&end, NULL);
	end.ended = close_at_end;
	conn_write(end.conn, "one", 3);
	conn_write(end.conn, data, impossible);
	check(conn_queued(end.conn) == 3);
	conn_write(end.conn, "two", 3);
	check_events(&end, "");
	turns(2);
	check_events(&end, "x");
	check(end.error == ENOMEM);
	close_end(&end);
}

/*
 * TCP
 */

static int
listen_tcp(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unit_need(fd != -1 &&
		bind(fd, (struct sockaddr *)address, sizeof(*address)) == 0 &&
		getsockname(fd, (struct sockaddr *)address, &length) == 0,
	    "bind");
	return fd;
}

/* A socket that connects there. */
static int
dial(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	unit_need(fd != -1 &&
		(connect(fd, (const struct sockaddr *)address,
		     sizeof(*address)) == 0 ||
		    errno == EINPROGRESS),
	    "connect");
	return fd;
}

static void
open_tcp(struct end *end)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address);

	unit_need(listen(listener, 1) == 0, "listen");
	*end = detached_end();
	open_conn(end, CONN_FLUSHED_FIRST);
	conn_write(end->conn, "hello", 5);
	unit_need(conn_attach(end->conn, dial(&address)), "conn_attach");
	end->peer = accept(listener, NULL, NULL);
	unit_need(end->peer != -1, "accept");
	set_nonblocking(end->peer);
	close(listener);
}

static void
test_conn_over_tcp_connects_and_ends_as_it_is_told(void)
{
	struct end end;
	int i;

	for (i = 0; i < 2; i++) {
		open_tcp(&end);
		hear(&end, "hello", 5, 5);
		conn_close(end.conn, i == 1);
		end.conn = NULL;
		errno = 0;
		check(recv(end.peer, sink, 1, 0) == -i);
		check(errno == (i == 1 ? ECONNRESET : 0));
		close_end(&end);
	}
}

static int places_left;

/* Refused: try the next address, which is good if it is the last. */
static void
try_next(struct end *end, enum conn_end what)
{
	struct sockaddr_in address;
	int fd;

	check(what == CONN_FAILED && end->error == ECONNREFUSED);
	check(conn_sent(end->conn) == 0);
	if (--places_left == 0) {
		attach(end, SOCK_STREAM);
		return;
	}
	fd = listen_tcp(&address);
	unit_need(conn_attach(end->conn, dial(&address)), "conn_attach");
	close(fd);
}

/* A second socket after the first did not connect gets what was queued, and
   what is written in between; CONN_FAILED comes once for each. */
static void
test_second_socket_after_failed_connect_gets_the_output(void)
{
	struct end end = detached_end();
	struct sockaddr_in address;
	int fd = listen_tcp(&address);
	int i;

	open_conn(&end, CONN_FLUSHED_FIRST);
	end.ended = try_next;
	end.input = take_lines;
	places_left = 3;
	conn_write(end.conn, "one ", 4);
	conn_write(end.conn, data, CONN_HIGH);
	unit_need(conn_attach(end.conn, dial(&address)), "conn_attach");
	for (i = 0; i < TURNS_MAX && places_left > 0; i++)
		turn();
	close(fd);
	check(strncmp(end.events, "xxx", 3) == 0);
	check(conn_error(end.conn) == 0);
	conn_write(end.conn, "two", 3);
	hear(&end, "one ", 4, 4);
	hear(&end, data, CONN_HIGH, DATA);
	turns(2);
	check_heard(&end, "two");
	check_events(&end, "xxxd");
	say(&end, "three\n");
	check_offers("three\n|");
	close_end(&end);
}

/*
 * The loop
 */

static int64_t now_in_input[2];

static size_t
note_now(struct end *end, const char *bytes, size_t n)
{
	(void)bytes;
	now_in_input[end->want] = conn_loop_now(loop);
	return n;
}

/* One time in a turn, which does not go back. */
static void
test_time_of_loop_is_one_in_a_turn_and_never_goes_back(void)
{
	struct end one, two;
	int64_t before;
	int i;

	open_end(&one, note_now);
	open_end(&two, note_now);
	two.want = 1;
	before = conn_loop_now(loop);
	check(before > 0 && conn_loop_now(loop) == before);
	say_bytes(&one, "x", 1);
	say_bytes(&two, "x", 1);
	turn();
	check(now_in_input[0] >= before);
	check(now_in_input[0] == now_in_input[1]);
	check(conn_loop_now(loop) == now_in_input[0]);
	for (i = 0; i < TURNS_MAX && conn_loop_now(loop) <= before + 1; i++)
		turns(1);
	check(conn_loop_now(loop) > before + 1);
	close(two.peer);
	conn_close(two.conn, false);
	close_end(&one);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

/* A turn with nothing to do waits for an event; with something, it does not. */
static void
test_turn_with_nothing_to_do_waits_for_an_event(void)
{
	struct end end;

	check(conn_loop_base(loop) == base);
	open_end(&end, NULL);
	conn_write(end.conn, "x", 1);
	check(!turn_within(5000));
	check_heard(&end, "x");
	check(turn_within(20));
	check(turn_within(20));
	close_end(&end);
}

/* All output goes out in one go, also what was over the high mark: the owner
   is called for both. */
static void
test_finish_over_high_mark_reports_drained_and_finished(void)
{
	struct end end;

	open_end(&end, NULL);
	conn_write(end.conn, data, CONN_HIGH + 100000);
	conn_finish(end.conn);
	hear(&end, data, CONN_HIGH + 100000, DATA);
	turns(3);
	check_events(&end, "df");
	check_closed(&end);
	close_end(&end);
}

/* A finish with nothing queued, before there is a socket. */
static void
test_finish_without_socket_and_output_ends_when_attached(void)
{
	struct end end = detached_end();

	open_conn(&end, CONN_FLUSHED_FIRST);
	conn_finish(end.conn);
	turns(1);
	attach(&end, SOCK_STREAM);
	turns(2);
	check_events(&end, "f");
	check_closed(&end);
	close_end(&end);
}

/* An owner whose ended() was called for a failure, and that acts on it
   later. */
static void
test_failure_is_reported_once_to_owner_that_acts_later(void)
{
	struct end end;

	open_end(&end, NULL);
	conn_write(end.conn, "one", 3);
	turn();
	close(end.peer);
	end.peer = -1;
	conn_write(end.conn, "two", 3);
	turns(5);
	check_events(&end, "x");
	close_end(&end);
}

/* CONN_FINISHED comes once, however often it is asked for. */
static void
test_finish_asked_for_twice_is_reported_once(void)
{
	struct end end;

	open_end(&end, NULL);
	conn_finish(end.conn);
	turns(2);
	conn_finish(end.conn);
	turns(2);
	check_events(&end, "f");
	close_end(&end);
}

static void
attach_again_at_end(struct end *end, enum conn_end what)
{
	check(what == CONN_EOF);
	end->ended = NULL;
	attach(end, SOCK_STREAM);
}

/* As where a front accepts and closes before anything was sent to it. */
static void
test_socket_that_ends_unsent_may_be_replaced_in_ended(void)
{
	struct end end = detached_end();

	open_conn(&end, CONN_FLUSHED_FIRST);
	attach(&end, SOCK_STREAM);
	end.ended = attach_again_at_end;
	end.input = take_lines;
	close(end.peer);
	turns(2);
	check_events(&end, "e");
	say(&end, "one\n");
	check_offers("one\n|");
	conn_write(end.conn, "two", 3);
	turn();
	check_heard(&end, "two");
	close_end(&end);
}

static struct end *closed_late; /* on_late() closes it */
static unsigned int late;       /* how often that was called */

static bool
on_late(void *owner)
{
	const bool *forgets = owner;

	late++;
	if (*forgets) {
		conn_close(closed_late->conn, false);
		closed_late->conn = NULL;
	}
	return *forgets;
}

/* Two conns of the first rank, and one of the second, have something to send
   when the time is over. */
static void
end_late(bool forgets)
{
	struct end first, other, last = detached_end();

	open_end(&first, NULL);
	open_end(&other, NULL);
	open_conn(&last, CONN_FLUSHED_LAST);
	attach(&last, SOCK_STREAM);
	conn_write(first.conn, "one", 3);
	conn_write(other.conn, "two", 3);
	conn_write(last.conn, "three", 5);
	closed_late = &first;
	late = 0;
	conn_loop_set_late(loop, on_late, &forgets);
	conn_loop_set_deadline(loop, conn_loop_now(loop) - 1);
	turns(2);
	check(late == 1);
	check_heard(&first, forgets ? "" : "one");
	check_heard(&other, "two");
	check_heard(&last, forgets ? "" : "three");
	check_events(&last, forgets ? "x" : "");
	check(!forgets || last.error == ECANCELED);
	close_end(&last);
	close_end(&other);
	if (!forgets)
		close_end(&first);
	else
		close(first.peer);
	conn_loop_set_late(loop, NULL, NULL);
}

static void
test_turn_that_ends_late_asks_before_it_sends(void)
{
	end_late(false);
	end_late(true);
}

/* Nothing is asked in time, nor if nothing is to be sent first. */
static void
test_turn_that_ends_in_time_asks_nobody(void)
{
	bool forgets = true;
	struct end first, last = detached_end();

	open_end(&first, NULL);
	open_conn(&last, CONN_FLUSHED_LAST);
	attach(&last, SOCK_STREAM);
	late = 0;
	conn_loop_set_late(loop, on_late, &forgets);
	conn_loop_set_deadline(loop, conn_loop_now(loop) + 60000);
	conn_write(first.conn, "one", 3);
	turns(1);
	conn_loop_set_deadline(loop, 0);
	conn_write(last.conn, "two", 3);
	turns(1);
	check(late == 0);
	check_heard(&first, "one");
	check_heard(&last, "two");
	close_end(&first);
	close_end(&last);
	conn_loop_set_late(loop, NULL, NULL);
}

static void
test_reserved_timers_are_none_that_run(void)
{
	int before = event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED);

	check(conn_loop_reserve_timers(loop, 1));
	check(conn_loop_reserve_timers(loop, 1000));
	check(before ==
	    event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED));
}

int
main(void)
{
	size_t i;

	for (i = 0; i < DATA; i++)
		data[i] = (char)((i * 2654435761u) >> 13 ^ i >> 8);
	sink = malloc(DATA);
	base = event_base_new();
	unit_need(sink != NULL && base != NULL, "event_base_new");
	timer = event_new(base, -1, 0, on_timer, &waited);
	loop = conn_loop_new(base);
	unit_need(timer != NULL && loop != NULL, "conn_loop_new");
	RUN(test_turn_that_ends_late_asks_before_it_sends);
	RUN(test_turn_that_ends_in_time_asks_nobody);
	RUN(test_reserved_timers_are_none_that_run);
	RUN(test_input_left_over_is_offered_again_with_what_follows);
	RUN(test_input_of_wanted_message_takes_memory_as_it_comes);
	RUN(test_kept_message_outlives_its_conn);
	RUN(test_kept_message_may_be_second_in_its_block);
	RUN(test_kept_large_message_is_not_held_twice);
	RUN(test_room_that_is_wanted_at_once_is_made_once);
	RUN(test_room_grows_by_a_part_for_many_messages);
	RUN(test_discarded_bytes_are_not_offered_and_those_around_them_are);
	RUN(test_paused_conn_offers_nothing_then_all_with_end_last);
	RUN(test_pause_from_outside_input_holds_and_can_be_undone);
	RUN(test_resume_inside_input_takes_effect_in_the_next_turn);
	RUN(test_conn_after_peers_end_still_writes);
	RUN(test_writes_of_one_turn_go_out_in_one_piece);
	RUN(test_large_written_block_is_referenced_and_not_copied);
	RUN(test_last_write_unsent_can_be_taken_back);
	RUN(test_writes_of_all_sizes_arrive_in_order_through_slow_socket);
	RUN(test_backlog_over_high_mark_is_reported_when_drained);
	RUN(test_write_inside_drained_is_drained_in_its_turn);
	RUN(test_conn_without_socket_queues_its_output);
	RUN(test_output_of_first_rank_is_sent_before_second);
	RUN(test_input_of_a_turn_comes_before_all_output);
	RUN(test_finish_sends_all_output_then_the_end);
	RUN(test_finish_without_socket_waits_for_one);
	RUN(test_close_inside_input_calls_no_handler_after_it);
	RUN(test_close_inside_input_kept_back_calls_no_handler_after);
	RUN(test_close_inside_ended_and_drained_calls_no_other_handler);
	RUN(test_write_to_peer_that_left_fails_once);
	RUN(test_write_without_memory_fails_the_conn_after_the_call);
	RUN(test_conn_over_tcp_connects_and_ends_as_it_is_told);
	RUN(test_second_socket_after_failed_connect_gets_the_output);
	RUN(test_time_of_loop_is_one_in_a_turn_and_never_goes_back);
	RUN(test_turn_with_nothing_to_do_waits_for_an_event);
	RUN(test_finish_over_high_mark_reports_drained_and_finished);
	RUN(test_finish_without_socket_and_output_ends_when_attached);
	RUN(test_failure_is_reported_once_to_owner_that_acts_later);
	RUN(test_finish_asked_for_twice_is_reported_once);
	RUN(test_socket_that_ends_unsent_may_be_replaced_in_ended);
	conn_loop_free(loop);
	event_free(timer);
	event_base_free(base);
	block_free_spare();
	free(sink);
	return unit_end();
}
