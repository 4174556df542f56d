/*
 * One connection to a memcached.
 *
 * Invariant: each call that was submitted is in the FIFO of its link until its
 * done() is called, and replies arrive in the order of this FIFO.  A closed
 * link has no calls.
 *
 *   link_submit() -> [ last | ... | first ] -> done()
 *
 * The bytes that arrive next are the reply to the first call.
 *
 * memcached sends the reply to each get in a separate write, which costs both
 * sides a system call.  So gets of one key that follow each other in the FIFO
 * become one command, unless they were sent already: a get takes back the line
 * end of the command before it, and adds its key.
 *
 *   [ get c | set x | get b | get a ] is sent as: get a b, set x, get c
 *
 * Each VALUE of a shared reply goes to the call that asked for its key.  Calls
 * before that one have missed, and so have those that are left when END comes.
 * The last call of the command is answered when END has come.
 *
 * Conns of links are CONN_FLUSHED_FIRST: in each turn, the output for servers
 * is sent before the output for clients.  So when a client reads the reply to a
 * write, the kernel has been given the command that makes the mirror equal.  It
 * delivers that command even if this process is killed now, unless it resets
 * the connection because of replies that were not read.
 *
 * If the socket of the mirror is full, the command waits in the output of its
 * link, and the client does not wait for it.  The order still holds then: what
 * is submitted later follows the command, and if the link fails, the owner of
 * the call learns that it has no answer.  Only if this process is killed before
 * the socket has taken the command, the mirror misses the write.
 *
 * A server is as old as its oldest call without an answer.  That a server sends
 * something from time to time proves little: with many calls in the FIFO each
 * of them would wait for long.  On the other hand a server with much to do is
 * no dead one.  So the clock of a link, which measures ages, stands still while
 * the server works at a fair rate: FAIR_BYTES of input, or FAIR_BYTES /
 * REPLY_BYTES replies, earn a millisecond for which it does so.  It never goes
 * back, and AHEAD_MS are the most that can be earned ahead: however much a
 * server has done, its silence is noticed that much later at most.  While the
 * first call is not sent, its bytes that the socket takes count as well, so a
 * large value may take long to send.  Lines of stats do not count, because they
 * may come without end.
 *
 * done() and failed() may close the link and open it again.  A function that
 * goes on after calling them compares link->conn with what it was before.  This
 * is sound, because conn_close() does not free a conn before the end of the
 * turn, so a new one has another address.
 */

#include "server/link.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block.h"
#include "conn.h"
#include "histogram.h"
#include "hot_assert.h"
#include "log.h"

enum {
	END_LENGTH = sizeof("END\r\n") - 1,
	/* Bytes in a millisecond that are a fair rate: 4 MiB in a second. */
	FAIR_BYTES = 4096,
	/* A reply counts as so many bytes more than it has. */
	REPLY_BYTES = 256,
	/* For so many milliseconds the clock may stand still after the work
	   that has earned them. */
	AHEAD_MS = 50,
	/* The most bytes of a reply to stats.  A connection takes about 200
	   bytes in the reply to stats conns. */
	STATS_MAX = 32 << 20,
	QUOTED_MAX = 64, /* bytes of a strange reply that are logged */
};

static_assert(sizeof("gets ") + PROTO_KEY_MAX + 2 < PROTO_LINE_MAX,
    "a get of one key fits in a line");

struct link {
	struct conn_loop *loop;        /* borrowed */
	size_t value_max;              /* bytes */
	struct histogram *reply_times; /* borrowed */
	const struct link_handler *handler;
	void *owner;
	struct conn *conn;      /* owned; NULL: closed */
	bool is_attached;       /* it has a socket */
	struct call_list calls; /* the FIFO: without an answer, oldest first */
	size_t waiting;         /* calls in the FIFO */
	/* Bytes of the reply to the first call that were read and not used
	   up: elements that element() has seen. */
	size_t scanned;
	/* The first call asked for a value that was too large and is thrown
	   away.  Only the END of its command is still to come. */
	bool first_is_large;
	/* Bytes of lines of stats that the first call has got. */
	size_t stats_bytes;
	/* The clock, and the time at which it was counted: milliseconds. */
	int64_t clock_ms, counted_ms;
	/* Milliseconds for which it is to stand still from then on. */
	int64_t ahead_ms;
	/* Bytes that were turned into such milliseconds. */
	uint64_t counted;
	/* What counts besides the bytes that have arrived, in bytes. */
	uint64_t earned;
	/* The last call, if it is of link_get(), or NULL. */
	const struct call *last_get;
	uint64_t last_get_at; /* conn_queued() ahead of its command */
};

struct block *
answer_reference(const struct answer *answer, const char *at, size_t n,
    size_t *offset)
{
	return conn_reference(answer->conn, at, n, offset);
}

/*
 * Age
 */

/* Bring the clock forward to the time now, but for what was earned. */
static __attribute__((noinline)) void
count_time(struct link *link, int64_t now)
{
	/* It is negative while lines of stats come. */
	int64_t done = (int64_t)(conn_received(link->conn) + link->earned -
	    link->counted);
	int64_t elapsed = now - link->counted_ms;
	int64_t stands;

	assert(elapsed > 0 && link->ahead_ms <= AHEAD_MS);
	if (done >= FAIR_BYTES) {
		link->ahead_ms += done / FAIR_BYTES;
		link->counted += (uint64_t)(done / FAIR_BYTES * FAIR_BYTES);
	}
	if (link->ahead_ms > AHEAD_MS)
		link->ahead_ms = AHEAD_MS;
	stands = link->ahead_ms < elapsed ? link->ahead_ms : elapsed;
	link->clock_ms += elapsed - stands;
	link->ahead_ms -= stands;
	link->counted_ms = now;
}

/* The time by which the link measures ages, in milliseconds. */
static inline int64_t
link_clock(struct link *link)
{
	int64_t now = conn_loop_now(link->loop);

	if (now != link->counted_ms)
		count_time(link, now);
	return link->clock_ms;
}

int64_t
link_age(struct link *link)
{
	const struct call *first = TAILQ_FIRST(&link->calls);
	int64_t age;

	if (first == NULL)
		return -1;
	age = link_clock(link) - first->since;
	return age > 0 ? age : 0;
}

void
link_excuse(struct link *link, int64_t ms)
{
	assert(ms > 0);
	if (link->conn != NULL)
		link->clock_ms = link_clock(link) - ms;
}

/* The socket was full, and now it takes output again.  Calls that are wholly
   sent only now have not waited for a reply until now. */
static void
on_link_unblocked(void *owner, uint64_t sent_before)
{
	struct link *link = owner;
	const struct call *first = TAILQ_FIRST(&link->calls);
	uint64_t sent = conn_sent(link->conn);
	struct call *call;

	assert(sent >= sent_before);
	if (first != NULL && first->end > sent_before)
		link->earned += sent - sent_before;
	TAILQ_FOREACH_REVERSE(call, &link->calls, call_list, entry) {
		if (call->end <= sent_before)
			break;
		if (call->end <= sent)
			call->since = link_clock(link);
	}
}

/*
 * Replies
 */

static void
report_failure(struct link *link, const char *why)
{
	link->handler->failed(link->owner, why);
}

const char *
link_failure_quoting(const char *why, const char *bytes, size_t n)
{
	static char text[64 + 4 * QUOTED_MAX];
	char quoted[4 * QUOTED_MAX + 1];
	const char *end = memchr(bytes, '\n', n);

	if (end != NULL)
		n = (size_t)(end - bytes);
	if (n > 0 && bytes[n - 1] == '\r')
		n--;
	log_escape(bytes, n < QUOTED_MAX ? n : QUOTED_MAX, quoted,
	    sizeof(quoted));
	snprintf(text, sizeof(text), "%s: it says \"%s\"", why, quoted);
	return text;
}

/* The server has said what no memcached says to this.  A reply to anything but
   version may have values of clients in it: they are not for the log. */
static void
report_nonsense(struct link *link, enum proto_expect expect, const char *bytes,
    size_t n)
{
	report_failure(link,
	    expect == PROTO_EXPECT_VERSION ?
		link_failure_quoting("is no memcached", bytes, n) :
		"sent an impossible reply");
}

/* Whether enough of the call was sent for such a reply.  An error may come
   while the data is still being sent, all other replies only after it. */
static bool
was_asked(const struct link *link, const struct call *call,
    enum proto_result result)
{
	uint64_t sent = conn_sent(link->conn);

	hot_assert(call->begin <= call->end);
	if (result == PROTO_SERVER_ERROR || result == PROTO_CLIENT_ERROR)
		return sent > call->begin;
	return sent >= call->end;
}

/* Take the first call from the FIFO, and call its done(). */
static void
finish_call(struct link *link, const struct answer *answer)
{
	struct call *call = TAILQ_FIRST(&link->calls);

	assert(link->waiting > 0);
	TAILQ_REMOVE(&link->calls, call, entry);
	link->waiting--;
	link->scanned = 0;
	link->first_is_large = false;
	if (link->last_get == call)
		link->last_get = NULL;
	link->earned += REPLY_BYTES;
	histogram_add(link->reply_times,
	    (uint32_t)conn_loop_us(link->loop) - call->asked_us);
	call->done(call, answer);
}

enum element_status {
	ELEMENT_NONE,  /* more bytes are needed, or the link has failed */
	ELEMENT_WHOLE, /* it is there */
	ELEMENT_LARGE, /* a value that is too large: see discard_value() */
};

/* There is no whole element at bytes; status says why.  Behind a VALUE at least
   an END is expected. */
static __attribute__((noinline)) enum element_status
await_element(struct link *link, const char *bytes, size_t n,
    enum proto_expect expect, enum proto_status status,
    const struct proto_reply *element)
{
	switch (status) {
	case PROTO_LARGE:
		return ELEMENT_LARGE;
	case PROTO_MORE:
		if (element->length > 0)
			conn_want(link->conn,
			    link->scanned + element->length +
				(element->result == PROTO_VALUE ? END_LENGTH :
								  0),
			    true);
		return ELEMENT_NONE;
	default:
		report_nonsense(link, expect, bytes, n);
		return ELEMENT_NONE;
	}
}

/* Read the element at bytes. */
static inline enum element_status
read_element(struct link *link, const char *bytes, size_t n,
    enum proto_expect expect, struct proto_reply *element)
{
	enum proto_status status = proto_reply(bytes, n, expect,
	    link->value_max, element);

	if (status == PROTO_OK)
		return ELEMENT_WHOLE;
	return await_element(link, bytes, n, expect, status, element);
}

/*
 * The server holds a value that is larger than we take.  That is no failure of
 * the server: the value is thrown away as it comes, and is an error for whoever
 * asked for it.  It lies behind what was scanned of the first call's reply.
 * Nothing more may be read of this input.  Returns false if the link fails.
 */
static bool
discard_value(struct link *link, const struct call *call,
    const struct proto_reply *value)
{
	if (!was_asked(link, call, value->result)) {
		report_failure(link, "sent an impossible reply");
		return false;
	}
	conn_discard(link->conn, link->scanned, value->length);
	return true;
}

void
link_answer(struct link *link, const char *text)
{
	const struct answer error = {
		.bytes = text,
		.length = strlen(text),
		.conn = link->conn,
		.last = {
			.result = PROTO_SERVER_ERROR,
			.length = strlen(text),
		},
	};

	finish_call(link, &error);
}

/* The first call asked for a value that was thrown away. */
static void
finish_with_large(struct link *link)
{
	link_answer(link, "SERVER_ERROR object too large for cache\r\n");
}

/* Give the element of the first call's reply, which begins at offset at of
   bytes, to its owner.  Returns false if the link fails. */
static bool
pass_element(struct link *link, struct call *call,
    const struct proto_reply *element, const char *bytes, size_t at)
{
	if (call->element == NULL || call->element(call, element, bytes, at))
		return true;
	report_failure(link, "sent what was not asked for");
	return false;
}

/* The reply to the first call has a value that is too large, or that is not to
   be kept; result says which. */
static void
skip_value(struct link *link, struct call *call, struct proto_reply *value,
    enum proto_result result, const char *bytes)
{
	if (!discard_value(link, call, value))
		return;
	if (value->result == PROTO_META_VALUE) {
		finish_with_large(link);
		return;
	}
	value->result = result;
	pass_element(link, call, value, bytes, link->scanned);
}

/* The first call has got a line of stats.  Nobody needs it any more, so it is
   used up at once.  Returns as read_reply(). */
static size_t
use_up_stat(struct link *link, size_t length)
{
	assert(link->scanned == length);
	link->scanned = 0;
	link->earned -= length;
	link->stats_bytes += length;
	if (link->stats_bytes <= STATS_MAX)
		return length;
	report_failure(link, "sends statistics without end");
	return 0;
}

/* Whether the element is a VALUE, of which the line has come at least, that is
   not to be kept. */
static bool
is_for_later(const struct link *link, struct call *call,
    const struct proto_reply *element)
{
	return link->scanned + element->length > LINK_KEPT &&
	    element->result == PROTO_VALUE && element->length > 0 &&
	    call->element != NULL && call->keeps != NULL &&
	    !call->keeps(call, link->scanned, element->length);
}

/* Go on to read the reply to the first call, which begins at bytes.  Returns
   how many bytes are used up; 0: more are needed, or the link has failed. */
static size_t
read_reply(struct link *link, const char *bytes, size_t n)
{
	struct call *call = TAILQ_FIRST(&link->calls);
	struct answer answer = { .bytes = bytes, .conn = link->conn };
	struct proto_reply *last = &answer.last;
	enum element_status status;

	assert(call->key == NULL && !call->shares_command);
	for (;;) {
		assert(link->scanned <= n);
		answer.last_at = link->scanned;
		status = read_element(link, bytes + link->scanned,
		    n - link->scanned, call->expect, last);
		if (status == ELEMENT_LARGE) {
			skip_value(link, call, last, PROTO_LARGE_VALUE, bytes);
			return 0;
		}
		if (link->conn == answer.conn &&
		    is_for_later(link, call, last)) {
			skip_value(link, call, last, PROTO_LATER_VALUE, bytes);
			return 0;
		}
		if (status != ELEMENT_WHOLE)
			return 0;
		if (!was_asked(link, call, last->result)) {
			report_failure(link, "sent an impossible reply");
			return 0;
		}
		link->scanned += last->length;
		if (last->result != PROTO_VALUE && last->result != PROTO_STAT)
			break;
		if (!pass_element(link, call, last, bytes, answer.last_at))
			return 0;
		if (last->result == PROTO_STAT)
			return use_up_stat(link, last->length);
	}
	link->stats_bytes = 0;
	answer.length = link->scanned;
	finish_call(link, &answer);
	return answer.length;
}

/*
 * Replies to gets of one key
 */

/* The next call, if it shares the command of this one; else NULL. */
static struct call *
next_sharing(const struct call *call)
{
	struct call *next = TAILQ_NEXT(call, entry);

	return next != NULL && next->shares_command ? next : NULL;
}

/* Whether the call asked for this VALUE. */
static bool
is_for(const struct call *call, const struct answer *value)
{
	const struct proto_span *key = &value->last.key;

	hot_assert(call->key != NULL);
	return call->key_length == key->length &&
	    memcmp(call->key, value->bytes + key->at, key->length) == 0;
}

/* Read the END behind a value that was thrown away. */
static size_t
read_end_of_large(struct link *link, const struct proto_reply *end)
{
	if (end->result != PROTO_END) {
		report_failure(link, "sent an impossible reply");
		return 0;
	}
	finish_with_large(link);
	return end->length;
}

/* The last call of a command has a value that is too large. */
static void
skip_last(struct link *link, const struct answer *value)
{
	const struct call *call = TAILQ_FIRST(&link->calls);

	if (link->first_is_large || !is_for(call, value))
		report_failure(link, "sent what was not asked for");
	else
		link->first_is_large = discard_value(link, call, &value->last);
}

/* Read the reply to the last call of a command, which may be its only one: a
   VALUE and END, or END.  Returns as read_reply(). */
static size_t
read_last(struct link *link, const char *bytes, size_t n)
{
	const struct call *call = TAILQ_FIRST(&link->calls);
	struct answer answer = { .bytes = bytes, .conn = link->conn };
	struct proto_reply end = { .length = 0 };
	enum element_status status = read_element(link, bytes, n, call->expect,
	    &answer.last);

	assert(status != ELEMENT_WHOLE || link->scanned == 0);
	if (status == ELEMENT_LARGE)
		skip_last(link, &answer);
	if (status != ELEMENT_WHOLE)
		return 0;
	if (link->first_is_large)
		return read_end_of_large(link, &answer.last);
	answer.length = answer.last.length;
	if (answer.last.result == PROTO_VALUE) {
		if (!is_for(call, &answer)) {
			report_failure(link, "sent what was not asked for");
			return 0;
		}
		status = read_element(link, bytes + answer.length,
		    n - answer.length, call->expect, &end);
		if (status == ELEMENT_NONE)
			return 0;
	}
	if (!was_asked(link, call, answer.last.result) ||
	    status == ELEMENT_LARGE ||
	    (end.length > 0 && end.result != PROTO_END)) {
		report_failure(link, "sent an impossible reply");
		return 0;
	}
	finish_call(link, &answer);
	return answer.length + end.length;
}

/*
 * Find the first call of the shared command that asked for the key of a VALUE.
 * The calls before that one have missed, and are answered.  Returns that call,
 * which is the first one then, or NULL if the link has failed.
 */
static struct call *
match_value(struct link *link, const struct answer *value)
{
	const struct answer miss = {
		.bytes = "END\r\n",
		.length = END_LENGTH,
		.conn = link->conn,
		.last = { .result = PROTO_END, .length = END_LENGTH },
	};
	const struct conn *conn = link->conn;
	struct call *call = TAILQ_FIRST(&link->calls);

	while (call != NULL && !is_for(call, value))
		call = next_sharing(call);
	if (call == NULL || !was_asked(link, call, PROTO_VALUE)) {
		report_failure(link, "sent what was not asked for");
		return NULL;
	}
	while (link->conn == conn && TAILQ_FIRST(&link->calls) != call)
		finish_call(link, &miss);
	return link->conn == conn ? call : NULL;
}

/* Give a VALUE to the call of the shared command that it is for.  Returns as
   read_reply(). */
static size_t
share_value(struct link *link, const struct answer *value, size_t n)
{
	const struct call *call = match_value(link, value);

	if (call == NULL)
		return 0;
	if (next_sharing(call) == NULL)
		return read_last(link, value->bytes, n);
	finish_call(link, value);
	return value->length;
}

/* A call of the shared command has a value that is too large. */
static void
skip_shared(struct link *link, const struct answer *value)
{
	const struct call *call = match_value(link, value);

	if (call == NULL || !discard_value(link, call, &value->last))
		return;
	if (next_sharing(call) == NULL)
		link->first_is_large = true;
	else
		finish_with_large(link);
}

/* Answer all calls that are left of the shared command with END or an error. */
static void
end_shared(struct link *link, const struct answer *end)
{
	const struct conn *conn = link->conn;
	const struct call *call;
	bool more = true;

	while (more && link->conn == conn) {
		call = TAILQ_FIRST(&link->calls);
		assert(call != NULL);
		more = next_sharing(call) != NULL;
		if (!was_asked(link, call, end->last.result)) {
			report_failure(link, "sent an impossible reply");
			return;
		}
		finish_call(link, end);
	}
}

/* Read an element of the reply to a shared command, of which more than one call
   is left.  Returns as read_reply(). */
static size_t
read_shared(struct link *link, const char *bytes, size_t n)
{
	struct answer answer = { .bytes = bytes, .conn = link->conn };
	enum element_status status;

	hot_assert(link->scanned == 0 && !link->first_is_large);
	status = read_element(link, bytes, n, TAILQ_FIRST(&link->calls)->expect,
	    &answer.last);
	if (status == ELEMENT_LARGE)
		skip_shared(link, &answer);
	if (status != ELEMENT_WHOLE)
		return 0;
	answer.length = answer.last.length;
	if (answer.last.result == PROTO_VALUE)
		return share_value(link, &answer, n);
	end_shared(link, &answer);
	return answer.length;
}

/*
 * The connection
 */

static size_t
on_link_input(void *owner, const char *bytes, size_t n)
{
	struct link *link = owner;
	const struct conn *conn = link->conn;
	const struct call *call;
	size_t used = 0, length;

	link_clock(
	    link); /* what has come is counted now, not with later silence */
	link->handler->heard(link->owner);
	while (link->conn == conn && used < n) {
		call = TAILQ_FIRST(&link->calls);
		if (call == NULL) {
			report_failure(link, "spoke without being asked");
			break;
		}
		if (call->key == NULL)
			length = read_reply(link, bytes + used, n - used);
		else if (next_sharing(call) == NULL)
			length = read_last(link, bytes + used, n - used);
		else
			length = read_shared(link, bytes + used, n - used);
		if (length == 0)
			break;
		used += length;
	}
	return used;
}

static void
on_link_ended(void *owner, enum conn_end end)
{
	struct link *link = owner;

	report_failure(link,
	    end == CONN_EOF ? "closed the connection" :
			      strerror(conn_error(link->conn)));
}

static const struct conn_handler link_conn_handler = {
	.input = on_link_input,
	.unblocked = on_link_unblocked,
	.ended = on_link_ended,
};

bool
link_open(struct link *link)
{
	assert(link->conn == NULL && link->waiting == 0);
	link->conn = conn_new(link->loop, CONN_FLUSHED_FIRST,
	    &link_conn_handler, link);
	link->counted_ms = conn_loop_now(link->loop);
	return link->conn != NULL;
}

bool
link_attach(struct link *link, int fd)
{
	assert(link->conn != NULL);
	if (fd == -1)
		return false;
	link->is_attached = conn_attach(link->conn, fd);
	if (link->is_attached)
		return true;
	close(fd);
	errno = ENOMEM;
	return false;
}

/* Note for each call what may have become of it: see struct call. */
static void
mark_calls(struct link *link)
{
	uint64_t sent = conn_sent(link->conn);
	bool is_oldest = true;
	struct call *call;

	TAILQ_FOREACH(call, &link->calls, entry) {
		is_oldest &= call == TAILQ_FIRST(&link->calls) ||
		    call->shares_command;
		call->was_sent = call->begin < sent;
		call->is_suspect = is_oldest && call->was_sent;
	}
}

void
link_close(struct link *link, struct call_list *calls)
{
	assert(link->conn != NULL || link->waiting == 0);
	if (link->conn != NULL) {
		mark_calls(link);
		conn_close(link->conn, true);
	}
	link->conn = NULL;
	link->is_attached = false;
	link->waiting = 0;
	link->scanned = 0;
	link->first_is_large = false;
	link->stats_bytes = 0;
	link->earned = link->counted = 0;
	link->ahead_ms = 0;
	link->last_get = NULL;
	TAILQ_CONCAT(calls, &link->calls, entry);
}

bool
link_is_attached(const struct link *link)
{
	return link->is_attached;
}

bool
link_has_sent(const struct link *link)
{
	return link->conn != NULL && conn_sent(link->conn) > 0;
}

int
link_take_socket(struct link *link)
{
	return link_has_sent(link) ? conn_take_socket(link->conn) : -1;
}

/*
 * Calls
 */

uint64_t
link_queued(const struct link *link)
{
	return link->conn == NULL ? 0 : conn_queued(link->conn);
}

bool
link_is_idle(const struct link *link)
{
	return TAILQ_EMPTY(&link->calls);
}

size_t
link_waiting(const struct link *link)
{
	return link->waiting;
}

/* Append a call to the FIFO.  Its bytes are sent in this turn, if the socket
   has room: see on_link_unblocked(). */
static void
append(struct link *link, struct call *call)
{
	hot_assert(call->done != NULL);
	call->end = conn_queued(link->conn);
	call->since = link_clock(link);
	call->asked_us = (uint32_t)conn_loop_us(link->loop);
	TAILQ_INSERT_TAIL(&link->calls, call, entry);
	link->waiting++;
}

void
link_submit(struct link *link, struct call *call, const char *line,
    size_t line_length, const char *data, size_t length, struct block *block)
{
	assert(link->conn != NULL && (length == 0 || data != NULL));
	assert(line_length > 2 && line[line_length - 1] == '\n');
	call->key = NULL;
	call->shares_command = false;
	call->begin = conn_queued(link->conn);
	conn_write(link->conn, line, line_length);
	if (length > 0)
		conn_write_block(link->conn, block, data, length);
	append(link, call);
	link->last_get = NULL;
}

/* Take back the line end of the last command, so that call shares it.  Returns
   false, and does nothing, if it cannot be shared. */
static bool
try_join(struct link *link, const struct call *call)
{
	hot_assert(link->last_get == NULL ||
	    TAILQ_NEXT(link->last_get, entry) == NULL);
	return link->last_get != NULL &&
	    link->last_get->expect == call->expect &&
	    conn_queued(link->conn) + call->key_length - link->last_get_at <
	    PROTO_LINE_MAX &&
	    conn_unwrite(link->conn, 2);
}

void
link_get(struct link *link, struct call *call, const char *key, size_t length)
{
	bool has_cas = call->expect == PROTO_EXPECT_VALUES_CAS;
	char text[sizeof("gets ") + PROTO_KEY_MAX + 2];
	char *to = text;

	hot_assert(link->conn != NULL && length > 0 && length <= PROTO_KEY_MAX);
	hot_assert(has_cas || call->expect == PROTO_EXPECT_VALUES);
	call->key = key;
	call->key_length = length;
	call->shares_command = try_join(link, call);
	call->begin = conn_queued(link->conn);
	if (!call->shares_command) {
		link->last_get_at = call->begin;
		to = mempcpy(to, "gets", has_cas ? 4 : 3);
	}
	*to++ = ' ';
	to = mempcpy(to, key, length);
	to = mempcpy(to, "\r\n", 2);
	conn_write(link->conn, text, (size_t)(to - text));
	append(link, call);
	link->last_get = call;
}

/*
 * Life
 */

struct link *
link_new(struct conn_loop *loop, size_t value_max,
    struct histogram *reply_times, const struct link_handler *handler,
    void *owner)
{
	struct link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return NULL;
	link->loop = loop;
	link->value_max = value_max;
	link->reply_times = reply_times;
	link->handler = handler;
	link->owner = owner;
	TAILQ_INIT(&link->calls);
	return link;
}

void
link_free(struct link *link)
{
	assert(link == NULL || (link->conn == NULL && link->waiting == 0));
	free(link);
}
