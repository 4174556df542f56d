/*
 * Move the bytes of nonblocking sockets.
 *
 *   socket -> scratch, or the block in -> input()
 *   conn_write() -> outbuf -> one write per turn -> socket
 *
 * Invariant: a conn with a socket and queued output is on the pending list of
 * its rank, or waits for its socket to become writable, never both.  A conn
 * that may be read has a readable event; what it keeps is offered first.
 *
 * Most input is used up at once: it is read to a scratch area that all conns
 * share, so an idle conn holds no buffer.  What input() leaves is kept in a
 * block that belongs to the conn.
 */

#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "block.h"
#include "clock.h"
#include "hot_assert.h"
#include "outbuf.h"
#include "pool.h"

enum {
	SCRATCH = 64 << 10, /* bytes of a read without a block */
	READ_MIN = 4096,    /* least room for a read to a block */
	VECTOR_MAX = 64,    /* most pieces of a write */
	/* The clock that measures is read again after so many reads of a turn:
	   that costs each of them next to nothing. */
	CLOCK_READS = 16,
	SPARSE = 8, /* kept bytes are moved if they fill less of a block */
	RANKS = 2,
};

static_assert(CONN_FLUSHED_FIRST == 0 && CONN_FLUSHED_LAST == RANKS - 1,
    "a rank is an index of the pending lists");
static_assert(CONN_LOW < CONN_HIGH, "a backlog is not high and low at once");
static_assert(BLOCK_SMALL + READ_MIN <= SCRATCH,
    "the scratch area has room behind what is put before a read");

TAILQ_HEAD(conn_list, conn);

/*
 * Where input comes from:
 *
 *	                readable event   on the offers list
 *	READS                yes                -
 *	OFFERED              yes               yes    kept bytes go first
 *	PAUSED                -                 -
 *	ENDED                 -                 -     CONN_EOF was reported
 *	ENDED_OFFERED         -                yes
 *	ENDED_PAUSED          -                 -
 */
enum input {
	INPUT_READS,
	INPUT_OFFERED,
	INPUT_PAUSED,
	INPUT_ENDED,
	INPUT_ENDED_OFFERED,
	INPUT_ENDED_PAUSED,
};

enum output {
	OUTPUT_IDLE,    /* there is nothing to do, or no socket */
	OUTPUT_PENDING, /* on the pending list: flushed in this turn */
	OUTPUT_BLOCKED, /* waits for the socket to become writable */
};

enum life {
	LIFE_OPEN,
	LIFE_FINISHING, /* conn_finish() was called; the end is not sent */
	LIFE_FINISHED,  /* ended(CONN_FINISHED) was called */
	LIFE_FAILED,    /* ended(CONN_FAILED) was called */
	LIFE_CLOSED,    /* on the list of the dead */
};

struct conn {
	struct conn_loop *loop;
	int fd; /* -1: none yet, or closed */
	enum conn_rank rank;
	const struct conn_handler *handler;
	void *owner;
	struct event readable, writable;
	TAILQ_ENTRY(conn) pending_entry; /* of the pending list, or the dead */
	TAILQ_ENTRY(conn) offer_entry;
	uint64_t offer_turn; /* loop->turn when it was put on the offers */
	enum input input;
	enum output output;
	enum life life;
	bool was_blocked;      /* it was, until the next flush */
	uint64_t blocked_at;   /* conn_sent() then; valid if was_blocked */
	bool backlog_was_high; /* it was, and has not been low since */
	int error;             /* 0, or why it has failed or is about to fail */

	struct block *in;  /* owned; NULL: no input is kept */
	size_t start, end; /* the input that is kept in the block */
	/* So many bytes of the input are thrown away: the first of them is
	   behind discard_behind bytes that are kept. */
	uint64_t discard;
	size_t discard_behind;
	size_t wanted;      /* bytes of the message being read; 0: unknown */
	bool wants_at_once; /* room for all of them */

	struct outbuf out;
	uint64_t received;
};

struct conn_loop {
	struct event_base *base;
	struct conn_list pending[RANKS];
	struct conn_list offers;
	struct conn_list dead;
	uint64_t turn;
	int64_t now;        /* -1: not read in this turn */
	int64_t now_us;     /* -1: to be read when it is asked for */
	unsigned int reads; /* of sockets, since now_us was read */
	/* See conn_loop_set_late(). */
	int64_t deadline_us;
	bool (*late)(void *owner);
	void *late_owner; /* borrowed */
	char scratch[SCRATCH];
};

static struct pool conns = POOL_APART(struct conn);

struct conn_loop *
conn_loop_new(struct event_base *base)
{
	struct conn_loop *loop = malloc(sizeof(*loop));
	int i;

	if (loop == NULL)
		return NULL;
	loop->base = base;
	for (i = 0; i < RANKS; i++)
		TAILQ_INIT(&loop->pending[i]);
	TAILQ_INIT(&loop->offers);
	TAILQ_INIT(&loop->dead);
	loop->turn = 0;
	loop->now = loop->now_us = -1;
	loop->reads = 0;
	loop->deadline_us = INT64_MAX;
	loop->late = NULL;
	return loop;
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	if (loop->now == -1)
		loop->now = conn_loop_us(loop) / 1000;
	return loop->now;
}

int64_t
conn_loop_us(struct conn_loop *loop)
{
	if (loop->now_us == -1) {
		loop->now_us = clock_us();
		loop->reads = 0;
	}
	return loop->now_us;
}

void
conn_loop_set_late(struct conn_loop *loop, bool (*late)(void *owner),
    void *owner)
{
	loop->late = late;
	loop->late_owner = owner;
}

void
conn_loop_set_deadline(struct conn_loop *loop, int64_t ms)
{
	loop->deadline_us = ms * 1000;
}

struct event_base *
conn_loop_base(struct conn_loop *loop)
{
	return loop->base;
}

static void
on_no_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	assert(false);
}

/* libevent keeps the room that its timers have needed. */
bool
conn_loop_reserve_timers(struct conn_loop *loop, size_t n)
{
	static const struct timeval hour = { .tv_sec = 3600 };
	struct event **timers = calloc(n, sizeof(*timers));
	bool is_good = timers != NULL;
	size_t i;

	for (i = 0; is_good && i < n; i++) {
		timers[i] = event_new(loop->base, -1, 0, on_no_timer, NULL);
		is_good = timers[i] != NULL && event_add(timers[i], &hour) == 0;
	}
	while (i-- > 0)
		if (timers[i] != NULL)
			event_free(timers[i]);
	free(timers);
	return is_good;
}

/* Schedule a flush at the end of this turn. */
static void
schedule_flush(struct conn *conn)
{
	assert(conn->life != LIFE_CLOSED);
	if (conn->output != OUTPUT_IDLE)
		return;
	conn->output = OUTPUT_PENDING;
	TAILQ_INSERT_TAIL(&conn->loop->pending[conn->rank], conn,
	    pending_entry);
}

/* Report a failure, once. */
static void
fail(struct conn *conn, int error)
{
	assert(error != 0 && conn->life != LIFE_CLOSED);
	conn->error = error;
	if (conn->life == LIFE_FAILED)
		return;
	conn->life = LIFE_FAILED;
	conn->handler->ended(conn->owner, CONN_FAILED);
}

/* Out of memory inside a conn_ function: fail at the end of the turn. */
static void
fail_later(struct conn *conn)
{
	conn->error = ENOMEM;
	if (conn->output == OUTPUT_BLOCKED) {
		event_del(&conn->writable);
		conn->output = OUTPUT_IDLE;
	}
	schedule_flush(conn);
}

static bool
is_paused(const struct conn *conn)
{
	return conn->input == INPUT_PAUSED || conn->input == INPUT_ENDED_PAUSED;
}

static bool
is_offered(const struct conn *conn)
{
	return conn->input == INPUT_OFFERED ||
	    conn->input == INPUT_ENDED_OFFERED;
}

static bool
has_ended(const struct conn *conn)
{
	return conn->input >= INPUT_ENDED;
}

/*
 * Input
 */

/* The size of a block for a message of which n bytes have arrived: twice that
   while it is small, and not much more when it is large. */
static size_t
roomy(size_t n)
{
	if (n <= SCRATCH)
		return 2 * n;
	return n + (n / 4 > SCRATCH ? n / 4 : SCRATCH);
}

/* The size of a block for the n bytes that input() has left.  Few of them are
   copied to the scratch area before the next read, so they need no room for
   more, and an unfinished command of few bytes takes little memory. */
static size_t
size_kept(const struct conn *conn, size_t n)
{
	size_t room = roomy(n);

	if (n <= BLOCK_SMALL)
		return n;
	if (conn->wanted > n && (conn->wants_at_once || conn->wanted < room))
		return conn->wanted;
	return room;
}

/* The size of a block that grows, with n bytes in it.  It may have more than
   the room that is wanted at once: if several messages are kept, one after the
   other, it does not grow for each of them. */
static size_t
size_grown(const struct conn *conn, size_t n)
{
	size_t room = roomy(n) + READ_MIN;

	if (conn->wanted <= n)
		return room;
	if (conn->wants_at_once)
		return conn->wanted > room ? conn->wanted : room;
	return conn->wanted < room ? conn->wanted : room;
}

/* How many bytes the n bytes that input() has left, n > 0, are to fill. */
static size_t
bytes_to_fill(const struct conn *conn, size_t n)
{
	return conn->wants_at_once && conn->wanted > n ? conn->wanted : n;
}

/* Keep the n bytes that input() has left: in place, if nobody else refers to
   their block and they are to fill a good part of it, or else as a copy. */
static void
keep_input(struct conn *conn, const char *rest, size_t n)
{
	struct block *block;

	if (n > 0 && conn->in != NULL && conn->in->references == 1 &&
	    bytes_to_fill(conn, n) > conn->in->size / SPARSE) {
		assert(rest + n == conn->in->bytes + conn->end);
		conn->start = (size_t)(rest - conn->in->bytes);
		return;
	}
	block = NULL;
	if (n > 0) {
		block = block_fit(size_kept(conn, n));
		if (block == NULL)
			fail_later(conn);
		else
			memcpy(block->bytes, rest, n);
	}
	block_release(conn->in);
	conn->in = block;
	conn->start = 0;
	conn->end = n;
}

/* Put conn, which has kept input, on the list of offers. */
static void
schedule_offer(struct conn *conn)
{
	assert(!is_paused(conn) && !is_offered(conn));
	conn->input = has_ended(conn) ? INPUT_ENDED_OFFERED : INPUT_OFFERED;
	conn->offer_turn = conn->loop->turn;
	TAILQ_INSERT_TAIL(&conn->loop->offers, conn, offer_entry);
}

/* Cut what is to be discarded out of the n bytes that input() has left.
   Returns how many are left then. */
static size_t
cut(struct conn *conn, char *rest, size_t n)
{
	char *from = rest + conn->discard_behind;
	size_t here = n - conn->discard_behind;

	assert(conn->discard_behind <= n);
	if (here > conn->discard)
		here = (size_t)conn->discard;
	memmove(from, from + here, n - conn->discard_behind - here);
	conn->discard -= here;
	if (conn->in != NULL)
		conn->end -= here;
	return n - here;
}

static void
offer(struct conn *conn, char *bytes, size_t n)
{
	size_t used, left;

	hot_assert(n > 0 && !is_paused(conn) && conn->life != LIFE_CLOSED);
	conn->wanted = 0;
	used = conn->handler->input(conn->owner, bytes, n);
	assert(used <= n);
	if (conn->life == LIFE_CLOSED)
		return;
	/* The usual: all is done with, and nothing was kept before. */
	if (used == n && conn->in == NULL && conn->discard == 0)
		return;
	left = n - used;
	if (conn->discard > 0) {
		left = cut(conn, bytes + used, left);
		if (left > conn->discard_behind && !is_paused(conn))
			schedule_offer(conn);
	}
	keep_input(conn, bytes + used, left);
}

/* Make room in the block for a read: move what it holds to its start, or grow
   it towards what is wanted.  Returns false when out of memory. */
static bool
make_room(struct conn *conn)
{
	size_t held = conn->end - conn->start;
	size_t size = conn->in->size;
	struct block *grown;

	hot_assert(conn->start <= conn->end && conn->end <= size);
	if (size - conn->end >= READ_MIN ||
	    (conn->end < size && conn->wanted == size - conn->start))
		return true;
	if (conn->start > 0) {
		memmove(conn->in->bytes, conn->in->bytes + conn->start, held);
		conn->start = 0;
		conn->end = held;
	}
	if (size - held >= READ_MIN || (size > held && conn->wanted == size))
		return true;
	grown = block_grow(conn->in, size_grown(conn, held));
	if (grown == NULL)
		return false;
	conn->in = grown;
	return true;
}

static void
read_ended(struct conn *conn, ssize_t n)
{
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	event_del(&conn->readable);
	if (n == -1) {
		fail(conn, errno);
		return;
	}
	conn->input = INPUT_ENDED;
	conn->handler->ended(conn->owner, CONN_EOF);
}

/* Whether to go on reading to the scratch area: what was kept is few bytes to
   copy there, and no large message is expected. */
static bool
reads_to_scratch(const struct conn *conn)
{
	return conn->in == NULL ||
	    (conn->end - conn->start <= BLOCK_SMALL &&
		conn->wanted <= SCRATCH / 4);
}

static ssize_t
read_to_scratch(struct conn *conn)
{
	size_t kept = conn_input_bytes(conn);
	char *scratch = conn->loop->scratch;
	ssize_t n = recv(conn->fd, scratch + kept, SCRATCH - kept, 0);

	if (n <= 0)
		return n;
	conn->received += (uint64_t)n;
	if (kept > 0)
		memcpy(scratch, conn->in->bytes + conn->start, kept);
	block_release(conn->in);
	conn->in = NULL;
	offer(conn, scratch, kept + (size_t)n);
	return n;
}

static ssize_t
read_to_block(struct conn *conn)
{
	ssize_t n;

	if (!make_room(conn)) {
		errno = ENOMEM;
		return -1;
	}
	/* A read without room would look like the end of the input. */
	assert(conn->end < conn->in->size);
	n = recv(conn->fd, conn->in->bytes + conn->end,
	    conn->in->size - conn->end, 0);
	if (n <= 0)
		return n;
	conn->received += (uint64_t)n;
	conn->end += (size_t)n;
	offer(conn, conn->in->bytes + conn->start, conn->end - conn->start);
	return n;
}

static ssize_t
read_and_discard(struct conn *conn)
{
	size_t most = conn->discard < SCRATCH ? (size_t)conn->discard : SCRATCH;
	ssize_t n = recv(conn->fd, conn->loop->scratch, most, 0);

	if (n > 0) {
		conn->received += (uint64_t)n;
		conn->discard -= (uint64_t)n;
	}
	return n;
}

static ssize_t
read_some(struct conn *conn)
{
	if (conn->discard > 0)
		return read_and_discard(conn);
	if (reads_to_scratch(conn))
		return read_to_scratch(conn);
	return read_to_block(conn);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;
	ssize_t n;

	(void)what;
	assert(fd == conn->fd);
	hot_assert(conn->input == INPUT_READS || conn->input == INPUT_OFFERED);
	/* What was kept is offered first, also before an end is reported. */
	if (conn->input == INPUT_OFFERED)
		return;
	if (++conn->loop->reads == CLOCK_READS)
		conn->loop->now_us = -1;
	n = read_some(conn);
	if (n <= 0)
		read_ended(conn, n);
}

void
conn_want(struct conn *conn, size_t n, bool at_once)
{
	assert(n > 0 && conn->life != LIFE_CLOSED);
	conn->wanted = n;
	conn->wants_at_once = at_once;
}

void
conn_discard(struct conn *conn, size_t behind, uint64_t n)
{
	assert(n > 0 && conn->discard == 0 && conn->life != LIFE_CLOSED);
	conn->discard_behind = behind;
	conn->discard = n;
}

struct block *
conn_reference(struct conn *conn, const char *at, size_t n, size_t *offset)
{
	if (conn->in != NULL && n >= BLOCK_REFERENCE_MIN) {
		assert(at >= conn->in->bytes &&
		    at + n <= conn->in->bytes + conn->in->size);
		*offset = (size_t)(at - conn->in->bytes);
		return block_reference(conn->in);
	}
	*offset = 0;
	return block_copy(at, n);
}

static void
remove_offer(struct conn *conn)
{
	assert(is_offered(conn));
	TAILQ_REMOVE(&conn->loop->offers, conn, offer_entry);
	conn->input = has_ended(conn) ? INPUT_ENDED : INPUT_READS;
}

void
conn_pause(struct conn *conn)
{
	assert(conn->fd != -1);
	if (is_paused(conn))
		return;
	if (is_offered(conn))
		remove_offer(conn);
	if (has_ended(conn)) {
		conn->input = INPUT_ENDED_PAUSED;
		return;
	}
	event_del(&conn->readable);
	conn->input = INPUT_PAUSED;
}

bool
conn_is_paused(const struct conn *conn)
{
	return is_paused(conn);
}

void
conn_resume(struct conn *conn)
{
	if (!is_paused(conn))
		return;
	assert(conn->fd != -1);
	conn->input = has_ended(conn) ? INPUT_ENDED : INPUT_READS;
	if (!has_ended(conn) && event_add(&conn->readable, NULL) == -1)
		fail_later(conn);
	if (conn->in != NULL)
		schedule_offer(conn);
}

const char *
conn_input(const struct conn *conn)
{
	return conn->in == NULL ? NULL : conn->in->bytes + conn->start;
}

bool
conn_give_input(struct conn *conn, const char *bytes, size_t n)
{
	assert(conn->in == NULL && n > 0 && conn->fd != -1);
	conn->in = block_copy(bytes, n);
	if (conn->in == NULL)
		return false;
	conn->start = 0;
	conn->end = n;
	schedule_offer(conn);
	return true;
}

int
conn_socket(const struct conn *conn)
{
	return conn->fd;
}

void
conn_offer_kept(struct conn *conn)
{
	if (conn->in != NULL && !is_paused(conn) && !is_offered(conn))
		schedule_offer(conn);
}

/*
 * Output
 */

/* Something was queued, or could not be.  If other output was queued before it,
   which is usual, the conn is pending or blocked already. */
static inline void
note_written(struct conn *conn, bool is_queued, bool was_empty)
{
	if (!is_queued)
		fail_later(conn);
	else if (was_empty)
		schedule_flush(conn);
	if (conn_backlog(conn) > CONN_HIGH)
		conn->backlog_was_high = true;
	hot_assert(conn->output != OUTPUT_IDLE || conn->fd == -1);
}

/* The long way of conn_write(). */
static __attribute__((noinline)) void
write_long_way(struct conn *conn, const char *bytes, size_t n)
{
	bool was_empty = outbuf_is_empty(&conn->out);

	if (conn->error == 0 && n > 0)
		note_written(conn, outbuf_write(&conn->out, bytes, n),
		    was_empty);
}

void
conn_write(struct conn *conn, const char *bytes, size_t n)
{
	hot_assert(conn->life == LIFE_OPEN || conn->life == LIFE_FAILED);
	if (conn->error != 0 || !outbuf_append(&conn->out, bytes, n))
		write_long_way(conn, bytes, n);
	else if (conn_backlog(conn) > CONN_HIGH)
		conn->backlog_was_high = true;
}

bool
conn_unwrite(struct conn *conn, size_t n)
{
	return conn->error == 0 && outbuf_unwrite(&conn->out, n);
}

void
conn_write_block(struct conn *conn, struct block *block, const char *bytes,
    size_t n)
{
	bool was_empty = outbuf_is_empty(&conn->out);

	hot_assert(conn->life == LIFE_OPEN || conn->life == LIFE_FAILED);
	if (block == NULL)
		conn_write(conn, bytes, n);
	else if (conn->error == 0 && n > 0)
		note_written(conn,
		    outbuf_write_block(&conn->out, block, bytes, n), was_empty);
}

static ssize_t
send_some(struct conn *conn)
{
	struct iovec vector[VECTOR_MAX];
	struct msghdr message = { .msg_iov = vector };
	unsigned int pieces = outbuf_peek(&conn->out, vector, VECTOR_MAX);

	hot_assert(conn->fd != -1 && pieces > 0);
	if (pieces == 1)
		return send(conn->fd, vector[0].iov_base, vector[0].iov_len,
		    MSG_NOSIGNAL);
	message.msg_iovlen = pieces;
	return sendmsg(conn->fd, &message, MSG_NOSIGNAL);
}

/* Whether sending has failed with an error that says nothing of the input: what
   has arrived before the remote went is still read, and then its end. */
static bool
is_input_left(const struct conn *conn, int error)
{
	return (error == EPIPE || error == ECONNRESET) && !is_paused(conn) &&
	    !has_ended(conn);
}

static void
await_writable(struct conn *conn)
{
	conn->output = OUTPUT_BLOCKED;
	if (conn->handler->blocked != NULL)
		conn->handler->blocked(conn->owner);
}

/* Send until the queue is empty, the socket is full or the conn has failed. */
static void
write_out(struct conn *conn)
{
	ssize_t n;

	while (!outbuf_is_empty(&conn->out)) {
		n = send_some(conn);
		if (n >= 0) {
			outbuf_drop(&conn->out, (size_t)n);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && !is_input_left(conn, errno))
			fail(conn, errno);
		else if (event_add(&conn->writable, NULL) == -1)
			fail(conn, ENOMEM);
		else
			await_writable(conn);
		return;
	}
}

/* Send the end behind the last output.  To a remote that has ended, a close
   sends it as well. */
static void
finish_output(struct conn *conn)
{
	assert(conn->life == LIFE_FINISHING && outbuf_is_empty(&conn->out));
	conn->life = LIFE_FINISHED;
	if (!has_ended(conn))
		shutdown(conn->fd, SHUT_WR);
	conn->handler->ended(conn->owner, CONN_FINISHED);
}

static void
report_unblocked(struct conn *conn)
{
	conn->was_blocked = false;
	if (conn->handler->unblocked != NULL)
		conn->handler->unblocked(conn->owner, conn->blocked_at);
}

static void
flush(struct conn *conn)
{
	if (conn->error != 0) {
		fail(conn, conn->error);
		return;
	}
	if (conn->fd == -1)
		return;
	write_out(conn);
	if (conn->error != 0 || conn->life == LIFE_CLOSED)
		return;
	if (conn->was_blocked)
		report_unblocked(conn);
	hot_assert(conn->output != OUTPUT_IDLE || conn_backlog(conn) == 0);
	if (conn->backlog_was_high && conn_backlog(conn) < CONN_LOW) {
		conn->backlog_was_high = false;
		if (conn->handler->drained != NULL)
			conn->handler->drained(conn->owner);
	}
	if (conn->life == LIFE_FINISHING && outbuf_is_empty(&conn->out))
		finish_output(conn);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)what;
	assert(fd == conn->fd && conn->output == OUTPUT_BLOCKED);
	conn->output = OUTPUT_IDLE;
	conn->was_blocked = true;
	conn->blocked_at = conn_sent(conn);
	schedule_flush(conn);
}

void
conn_finish(struct conn *conn)
{
	assert(conn->life != LIFE_CLOSED);
	if (conn->life != LIFE_OPEN)
		return;
	conn->life = LIFE_FINISHING;
	schedule_flush(conn);
}

void
conn_copy_output(const struct conn *conn, char *bytes)
{
	outbuf_copy(&conn->out, bytes);
}

size_t
conn_backlog(const struct conn *conn)
{
	hot_assert(conn->out.queued >= conn->out.sent);
	return (size_t)(conn->out.queued - conn->out.sent);
}

uint64_t
conn_queued(const struct conn *conn)
{
	return conn->out.queued;
}

uint64_t
conn_sent(const struct conn *conn)
{
	return conn->out.sent;
}

uint64_t
conn_received(const struct conn *conn)
{
	return conn->received;
}

size_t
conn_input_bytes(const struct conn *conn)
{
	return conn->in == NULL ? 0 : conn->end - conn->start;
}

size_t
conn_input_memory(const struct conn *conn)
{
	return conn->in == NULL ? 0 : conn->in->size;
}

/* Write an IP address and its port to name; leave name if it is none. */
static void
write_name(const struct sockaddr_storage *address, socklen_t length, char *name)
{
	char host[INET6_ADDRSTRLEN], port[8];
	bool v6 = address->ss_family == AF_INET6;

	if (address->ss_family != AF_INET && !v6)
		return;
	if (getnameinfo((const struct sockaddr *)address, length, host,
		sizeof(host), port, sizeof(port),
		NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	snprintf(name, CONN_NAME_MAX, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

void
conn_remote_name(const struct conn *conn, char *name)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	strcpy(name, "unix");
	if (conn->fd != -1 &&
	    getpeername(conn->fd, (struct sockaddr *)&address, &length) == 0)
		write_name(&address, length, name);
}

void
conn_local_name(const struct conn *conn, char *name)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	strcpy(name, "unix");
	if (conn->fd != -1 &&
	    getsockname(conn->fd, (struct sockaddr *)&address, &length) == 0)
		write_name(&address, length, name);
}

int
conn_error(const struct conn *conn)
{
	return conn->error;
}

/*
 * Life
 */

struct conn *
conn_new(struct conn_loop *loop, enum conn_rank rank,
    const struct conn_handler *handler, void *owner)
{
	struct conn *conn = pool_take(&conns);

	assert(rank <= CONN_FLUSHED_LAST);
	assert(handler->input != NULL && handler->ended != NULL);
	if (conn == NULL)
		return NULL;
	memset(conn, 0, sizeof(*conn));
	conn->loop = loop;
	conn->fd = -1;
	conn->rank = rank;
	conn->handler = handler;
	conn->owner = owner;
	outbuf_init(&conn->out);
	return conn;
}

int
conn_take_socket(struct conn *conn)
{
	int fd = conn->fd;

	if (fd == -1)
		return -1;
	event_del(&conn->readable);
	event_del(&conn->writable);
	conn->fd = -1;
	if (conn->output == OUTPUT_BLOCKED)
		conn->output = OUTPUT_IDLE;
	return fd;
}

static void
detach(struct conn *conn)
{
	int fd = conn_take_socket(conn);

	if (fd != -1)
		close(fd);
}

bool
conn_attach(struct conn *conn, int fd)
{
	struct event_base *base = conn->loop->base;

	assert(fd != -1 && conn->out.sent == 0);
	assert(conn->life != LIFE_CLOSED && conn->in == NULL);
	assert(!is_paused(conn) && !is_offered(conn));
	detach(conn);
	event_assign(&conn->readable, base, fd, EV_READ | EV_PERSIST,
	    on_readable, conn);
	event_assign(&conn->writable, base, fd, EV_WRITE, on_writable, conn);
	if (event_add(&conn->readable, NULL) == -1)
		return false;
	conn->input = INPUT_READS;
	conn->fd = fd;
	conn->error = 0;
	if (conn->life == LIFE_FAILED)
		conn->life = LIFE_OPEN;
	if (!outbuf_is_empty(&conn->out) || conn->life == LIFE_FINISHING)
		schedule_flush(conn);
	return true;
}

void
conn_close(struct conn *conn, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	assert(conn->life != LIFE_CLOSED);
	if (reset && conn->fd != -1)
		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger,
		    sizeof(linger));
	detach(conn);
	conn->life = LIFE_CLOSED;
	if (conn->output == OUTPUT_PENDING)
		TAILQ_REMOVE(&conn->loop->pending[conn->rank], conn,
		    pending_entry);
	conn->output = OUTPUT_IDLE;
	if (is_offered(conn))
		remove_offer(conn);
	outbuf_clear(&conn->out);
	TAILQ_INSERT_TAIL(&conn->loop->dead, conn, pending_entry);
}

/*
 * The loop
 */

static bool
is_work_left(const struct conn_loop *loop)
{
	return !TAILQ_EMPTY(&loop->offers) ||
	    !TAILQ_EMPTY(&loop->pending[CONN_FLUSHED_FIRST]) ||
	    !TAILQ_EMPTY(&loop->pending[CONN_FLUSHED_LAST]);
}

/* Offer input that was kept.  A conn that gets on the list meanwhile waits for
   the next turn, so that none keeps the loop to itself. */
static void
offer_kept(struct conn_loop *loop)
{
	struct conn *conn;

	loop->turn++;
	while ((conn = TAILQ_FIRST(&loop->offers)) != NULL &&
	    conn->offer_turn != loop->turn) {
		remove_offer(conn);
		if (conn->in != NULL)
			offer(conn, conn->in->bytes + conn->start,
			    conn->end - conn->start);
	}
}

/* What is queued for them is not to be sent. */
static void
fail_pending(struct conn_loop *loop, enum conn_rank rank)
{
	struct conn *conn;

	TAILQ_FOREACH(conn, &loop->pending[rank], pending_entry)
		if (conn->error == 0)
			conn->error = ECANCELED;
}

/* The time is looked at before each send: this process may have been stopped
   at any moment since the turn began. */
static void
look_at_time(struct conn_loop *loop)
{
	if (loop->late == NULL || clock_us() < loop->deadline_us)
		return;
	loop->deadline_us = INT64_MAX;
	loop->now = loop->now_us = -1;
	if (loop->late(loop->late_owner))
		fail_pending(loop, CONN_FLUSHED_LAST);
}

static void
flush_pending(struct conn_loop *loop, enum conn_rank rank)
{
	struct conn_list *pending = &loop->pending[rank];
	struct conn *conn;

	while (!TAILQ_EMPTY(pending)) {
		if (rank == CONN_FLUSHED_FIRST)
			look_at_time(loop);
		conn = TAILQ_FIRST(pending);
		if (conn == NULL)
			break;
		hot_assert(conn->output == OUTPUT_PENDING);
		TAILQ_REMOVE(pending, conn, pending_entry);
		conn->output = OUTPUT_IDLE;
		flush(conn);
	}
}

static void
free_dead(struct conn_loop *loop)
{
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&loop->dead)) != NULL) {
		assert(conn->life == LIFE_CLOSED && conn->fd == -1);
		TAILQ_REMOVE(&loop->dead, conn, pending_entry);
		block_release(conn->in);
		pool_give(&conns, conn);
	}
}

void
conn_loop_turn(struct conn_loop *loop)
{
	loop->now = loop->now_us = -1;
	event_base_loop(loop->base,
	    EVLOOP_ONCE | (is_work_left(loop) ? EVLOOP_NONBLOCK : 0));
	offer_kept(loop);
	flush_pending(loop, CONN_FLUSHED_FIRST);
	flush_pending(loop, CONN_FLUSHED_LAST);
	free_dead(loop);
}

void
conn_loop_free(struct conn_loop *loop)
{
	assert(!is_work_left(loop));
	free_dead(loop);
	free(loop);
}
