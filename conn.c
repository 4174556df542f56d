/*
 * Move the bytes of nonblocking sockets.
 *
 * Invariant: a conn with queued output is on the dirty list of its rank, or
 * waits for its socket to become writable, never both.
 *
 *   socket -> scratch or in (a block) -> input()      what input() leaves stays
 *   conn_write() -> segments -> one writev per turn   in a block of the conn's
 *
 * Most input is done with at once: it is read to a scratch area that all conns
 * share, so an idle conn holds no buffer.
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
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "block.h"

enum {
	SCRATCH = 64 << 10,   /* bytes of a read without a block */
	READ_MIN = 4096,      /* room for a read to a block */
	REFERENCE_MIN = 2048, /* bytes that are cheaper to refer to */
	VECTOR_MAX = 64,      /* pieces of a write */
	RANKS = 2,
};

/* A run of output bytes. */
struct segment {
	STAILQ_ENTRY(segment) entry;
	struct block *block; /* a reference of its own */
	size_t at, length;
	bool open; /* the block is filled by conn_write() */
};

STAILQ_HEAD(segment_list, segment);
TAILQ_HEAD(conn_list, conn);

struct conn {
	struct conn_loop *loop;
	int fd; /* -1: none yet, or closed */
	enum conn_rank rank;
	const struct conn_handler *handler;
	void *owner;
	struct event readable, writable;
	TAILQ_ENTRY(conn) dirty_entry; /* output to flush; or dead */
	TAILQ_ENTRY(conn) offer_entry; /* input to offer again */
	uint64_t offer_turn;           /* when it was put on that list */
	bool dirty, offered, paused, blocked, eof, high, closed;
	bool finishing, finished; /* see conn_finish() */
	bool failed;              /* that was told */
	int error;

	struct block *in; /* input kept: in->bytes[start .. end) */
	size_t start, end;
	size_t wanted; /* length of the message that is read */

	struct segment_list out;
	struct segment *last; /* of out; NULL if out is empty */
	uint64_t queued, sent, received;
};

struct conn_loop {
	struct event_base *base;
	struct conn_list dirty[RANKS];
	struct conn_list offers;
	struct conn_list dead;
	struct segment_list spare; /* segments to use again */
	uint64_t turn;
	int64_t now; /* -1: not read in this turn */
	char scratch[SCRATCH];
};

struct conn_loop *
conn_loop_new(struct event_base *base)
{
	struct conn_loop *loop = malloc(sizeof(*loop));
	int i;

	if (loop == NULL)
		return NULL;
	loop->base = base;
	for (i = 0; i < RANKS; i++)
		TAILQ_INIT(&loop->dirty[i]);
	TAILQ_INIT(&loop->offers);
	TAILQ_INIT(&loop->dead);
	STAILQ_INIT(&loop->spare);
	loop->turn = 0;
	loop->now = -1;
	return loop;
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	struct timespec now;

	if (loop->now == -1) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		loop->now = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	}
	return loop->now;
}

struct event_base *
conn_loop_base(struct conn_loop *loop)
{
	return loop->base;
}

/* Have the output of conn looked at in this turn. */
static void
make_dirty(struct conn *conn)
{
	assert(!conn->closed);
	if (conn->dirty || conn->blocked)
		return;
	conn->dirty = true;
	TAILQ_INSERT_TAIL(&conn->loop->dirty[conn->rank], conn, dirty_entry);
}

static void
fail(struct conn *conn, int error)
{
	conn->error = error;
	if (conn->failed)
		return;
	conn->failed = true;
	conn->handler->ended(conn->owner, CONN_FAILED);
}

/* Out of memory inside a conn_ function: fail at the end of the turn. */
static void
fail_later(struct conn *conn)
{
	conn->error = ENOMEM;
	if (conn->blocked) {
		event_del(&conn->writable);
		conn->blocked = false;
	}
	make_dirty(conn);
}

/*
 * Input
 */

/* The size of a block for a message of which n bytes are here: twice that while
   it is small, and not much more when it is large. */
static size_t
roomy(size_t n)
{
	if (n <= SCRATCH)
		return 2 * n;
	return n + (n / 4 > SCRATCH ? n / 4 : SCRATCH);
}

/* Keep what input() left: its copy, or in place in a block of our own. */
static void
keep_rest(struct conn *conn, const char *rest, size_t n)
{
	struct block *block;
	size_t room = roomy(n);

	if (conn->in != NULL && n > 0 && conn->in->references == 1) {
		conn->start = (size_t)(rest - conn->in->bytes);
		return;
	}
	block = NULL;
	if (n > 0) {
		if (conn->wanted > n && conn->wanted < room)
			room = conn->wanted;
		block = block_new(room);
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

static void
offer(struct conn *conn, const char *bytes, size_t n)
{
	size_t used;

	assert(n > 0 && !conn->paused && !conn->closed);
	conn->wanted = 0;
	used = conn->handler->input(conn->owner, bytes, n);
	assert(used <= n);
	if (!conn->closed)
		keep_rest(conn, bytes + used, n - used);
}

/* Room in the block for a read: move, or grow towards what is wanted. */
static bool
make_room(struct conn *conn)
{
	size_t held = conn->end - conn->start;
	size_t size = conn->in->size;
	struct block *grown;

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
	size = roomy(held) + READ_MIN;
	if (conn->wanted > held && conn->wanted < size)
		size = conn->wanted;
	grown = block_grow(conn->in, size);
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
	conn->eof = true;
	conn->handler->ended(conn->owner, CONN_EOF);
}

/* Whether the scratch area is the place to go on reading: what was kept is
   quickly put before it, and there is room for much. */
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
	n = recv(conn->fd, conn->in->bytes + conn->end,
	    conn->in->size - conn->end, 0);
	if (n <= 0)
		return n;
	conn->received += (uint64_t)n;
	conn->end += (size_t)n;
	offer(conn, conn->in->bytes + conn->start, conn->end - conn->start);
	return n;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;
	ssize_t n;

	(void)what;
	assert(fd == conn->fd && !conn->paused && !conn->eof);
	/* What was kept back comes first, before an end, too. */
	if (conn->offered)
		return;
	n = reads_to_scratch(conn) ? read_to_scratch(conn) :
				     read_to_block(conn);
	if (n <= 0)
		read_ended(conn, n);
}

void
conn_want(struct conn *conn, size_t n)
{
	conn->wanted = n;
}

struct block *
conn_reference(struct conn *conn, const char *at, size_t n, size_t *offset)
{
	if (conn->in != NULL && n >= REFERENCE_MIN) {
		assert(at >= conn->in->bytes &&
		    at + n <= conn->in->bytes + conn->in->size);
		*offset = (size_t)(at - conn->in->bytes);
		return block_reference(conn->in);
	}
	*offset = 0;
	return block_copy(at, n);
}

void
conn_pause(struct conn *conn)
{
	assert(conn->fd != -1);
	if (conn->paused)
		return;
	conn->paused = true;
	if (!conn->eof)
		event_del(&conn->readable);
	if (conn->offered) {
		conn->offered = false;
		TAILQ_REMOVE(&conn->loop->offers, conn, offer_entry);
	}
}

void
conn_resume(struct conn *conn)
{
	if (!conn->paused)
		return;
	conn->paused = false;
	if (!conn->eof && event_add(&conn->readable, NULL) == -1)
		fail_later(conn);
	if (conn->in != NULL) {
		conn->offered = true;
		conn->offer_turn = conn->loop->turn;
		TAILQ_INSERT_TAIL(&conn->loop->offers, conn, offer_entry);
	}
}

/*
 * Output
 */

static struct segment *
segment_new(struct conn *conn, struct block *block)
{
	struct conn_loop *loop = conn->loop;
	struct segment *segment = STAILQ_FIRST(&loop->spare);

	if (segment != NULL)
		STAILQ_REMOVE_HEAD(&loop->spare, entry);
	else
		segment = malloc(sizeof(*segment));
	if (segment == NULL)
		return NULL;
	segment->block = block;
	segment->at = 0;
	segment->length = 0;
	segment->open = false;
	STAILQ_INSERT_TAIL(&conn->out, segment, entry);
	conn->last = segment;
	return segment;
}

static void
segment_drop(struct conn *conn)
{
	struct segment *segment = STAILQ_FIRST(&conn->out);

	assert(segment != NULL);
	STAILQ_REMOVE_HEAD(&conn->out, entry);
	if (STAILQ_EMPTY(&conn->out))
		conn->last = NULL;
	block_release(segment->block);
	STAILQ_INSERT_HEAD(&conn->loop->spare, segment, entry);
}

static void
count_queued(struct conn *conn, size_t n)
{
	conn->queued += n;
	if (conn->queued - conn->sent > CONN_HIGH)
		conn->high = true;
}

/* A new last segment, for n or more bytes that are copied. */
static struct segment *
segment_open(struct conn *conn, size_t n)
{
	struct segment *segment;
	struct block *block = block_new(n);

	if (block == NULL)
		return NULL;
	segment = segment_new(conn, block);
	if (segment == NULL)
		block_release(block);
	else
		segment->open = true;
	return segment;
}

/* Queue bytes that do not fit behind those that are queued. */
static __attribute__((noinline)) void
write_apart(struct conn *conn, const char *bytes, size_t n)
{
	struct segment *segment;

	if (conn->error != 0 || n == 0)
		return;
	segment = segment_open(conn, n);
	if (segment == NULL) {
		fail_later(conn);
		return;
	}
	memcpy(segment->block->bytes, bytes, n);
	segment->length = n;
	count_queued(conn, n);
	make_dirty(conn);
}

/* Behind other output, which is the usual, the conn is dirty already. */
void
conn_write(struct conn *conn, const char *bytes, size_t n)
{
	struct segment *segment = conn->last;

	assert(!conn->closed && !conn->finishing && !conn->finished);
	if (segment == NULL || !segment->open || conn->error != 0 ||
	    n > segment->block->size - segment->at - segment->length) {
		write_apart(conn, bytes, n);
		return;
	}
	memcpy(segment->block->bytes + segment->at + segment->length, bytes, n);
	segment->length += n;
	count_queued(conn, n);
}

bool
conn_unwrite(struct conn *conn, size_t n)
{
	struct segment *segment = conn->last;

	if (conn->error != 0 || segment == NULL || !segment->open ||
	    segment->length <= n)
		return false;
	segment->length -= n;
	conn->queued -= n;
	return true;
}

void
conn_write_block(struct conn *conn, struct block *block, const char *bytes,
    size_t n)
{
	struct segment *segment;

	if (block == NULL || n < REFERENCE_MIN) {
		conn_write(conn, bytes, n);
		return;
	}
	assert(bytes >= block->bytes &&
	    bytes + n <= block->bytes + block->size);
	if (conn->error != 0)
		return;
	segment = segment_new(conn, block);
	if (segment == NULL) {
		fail_later(conn);
		return;
	}
	block_reference(block);
	segment->at = (size_t)(bytes - block->bytes);
	segment->length = n;
	count_queued(conn, n);
	make_dirty(conn);
}

static ssize_t
send_segments(struct conn *conn)
{
	struct iovec vector[VECTOR_MAX];
	struct msghdr message = { .msg_iov = vector };
	struct segment *segment = STAILQ_FIRST(&conn->out);

	assert(conn->fd != -1 && segment->length > 0);
	if (STAILQ_NEXT(segment, entry) == NULL)
		return send(conn->fd, segment->block->bytes + segment->at,
		    segment->length, MSG_NOSIGNAL);
	while (segment != NULL && message.msg_iovlen < VECTOR_MAX) {
		vector[message.msg_iovlen].iov_base = segment->block->bytes +
		    segment->at;
		vector[message.msg_iovlen++].iov_len = segment->length;
		segment = STAILQ_NEXT(segment, entry);
	}
	return sendmsg(conn->fd, &message, MSG_NOSIGNAL);
}

static void
drop_sent(struct conn *conn, size_t n)
{
	struct segment *segment;

	conn->sent += n;
	while ((segment = STAILQ_FIRST(&conn->out)) != NULL) {
		if (n < segment->length) {
			segment->at += n;
			segment->length -= n;
			return;
		}
		n -= segment->length;
		segment_drop(conn);
	}
	assert(n == 0);
}

/* Write until the queue is empty, the socket is full or the conn has failed. */
static void
write_out(struct conn *conn)
{
	ssize_t n;

	while (!STAILQ_EMPTY(&conn->out)) {
		n = send_segments(conn);
		if (n >= 0) {
			drop_sent(conn, (size_t)n);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			fail(conn, errno);
		else if (event_add(&conn->writable, NULL) == -1)
			fail(conn, ENOMEM);
		else
			conn->blocked = true;
		return;
	}
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
	if (conn->closed || conn->error != 0)
		return;
	if (conn->high && conn_backlog(conn) < CONN_LOW) {
		conn->high = false;
		if (conn->handler->drained != NULL)
			conn->handler->drained(conn->owner);
	}
	if (conn->finishing && !conn->closed && STAILQ_EMPTY(&conn->out)) {
		conn->finishing = false;
		conn->finished = true;
		shutdown(conn->fd, SHUT_WR);
		conn->handler->ended(conn->owner, CONN_FINISHED);
	}
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	conn->blocked = false;
	make_dirty(conn);
}

void
conn_finish(struct conn *conn)
{
	if (conn->finished)
		return;
	conn->finishing = true;
	make_dirty(conn);
}

size_t
conn_backlog(const struct conn *conn)
{
	return (size_t)(conn->queued - conn->sent);
}

uint64_t
conn_queued(const struct conn *conn)
{
	return conn->queued;
}

uint64_t
conn_sent(const struct conn *conn)
{
	return conn->sent;
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

unsigned int
conn_local_port(const struct conn *conn)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (conn->fd == -1 ||
	    getsockname(conn->fd, (struct sockaddr *)&address, &length) == -1)
		return 0;
	if (address.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&address)->sin_port);
	if (address.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
	return 0;
}

void
conn_remote_name(const struct conn *conn, char *name)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[INET6_ADDRSTRLEN], port[8];
	bool v6;

	strcpy(name, "unix");
	if (conn->fd == -1 ||
	    getpeername(conn->fd, (struct sockaddr *)&address, &length) == -1 ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host),
		port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	v6 = address.ss_family == AF_INET6;
	if (address.ss_family == AF_INET || v6)
		snprintf(name, CONN_NAME_MAX, v6 ? "[%s]:%s" : "%s:%s", host,
		    port);
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
	struct conn *conn = calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	conn->loop = loop;
	conn->fd = -1;
	conn->rank = rank;
	conn->handler = handler;
	conn->owner = owner;
	STAILQ_INIT(&conn->out);
	return conn;
}

static void
detach(struct conn *conn)
{
	if (conn->fd == -1)
		return;
	event_del(&conn->readable);
	event_del(&conn->writable);
	close(conn->fd);
	conn->fd = -1;
	conn->blocked = false;
}

bool
conn_attach(struct conn *conn, int fd)
{
	struct event_base *base = conn->loop->base;

	assert(fd != -1 && conn->sent == 0 && !conn->closed && !conn->paused);
	detach(conn);
	event_assign(&conn->readable, base, fd, EV_READ | EV_PERSIST,
	    on_readable, conn);
	event_assign(&conn->writable, base, fd, EV_WRITE, on_writable, conn);
	if (event_add(&conn->readable, NULL) == -1)
		return false;
	conn->fd = fd;
	conn->error = 0;
	conn->failed = false;
	if (!STAILQ_EMPTY(&conn->out) || conn->finishing)
		make_dirty(conn);
	return true;
}

void
conn_close(struct conn *conn, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	assert(!conn->closed);
	if (reset && conn->fd != -1)
		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger,
		    sizeof(linger));
	detach(conn);
	conn->closed = true;
	if (conn->dirty)
		TAILQ_REMOVE(&conn->loop->dirty[conn->rank], conn, dirty_entry);
	if (conn->offered)
		TAILQ_REMOVE(&conn->loop->offers, conn, offer_entry);
	while (!STAILQ_EMPTY(&conn->out))
		segment_drop(conn);
	TAILQ_INSERT_TAIL(&conn->loop->dead, conn, dirty_entry);
}

/*
 * The loop
 */

static bool
work_left(const struct conn_loop *loop)
{
	return !TAILQ_EMPTY(&loop->offers) ||
	    !TAILQ_EMPTY(&loop->dirty[CONN_FLUSHED_FIRST]) ||
	    !TAILQ_EMPTY(&loop->dirty[CONN_FLUSHED_LAST]);
}

/* Offer what was kept back; what is put on the list meanwhile waits for the
   next turn, so that nobody keeps the loop to himself. */
static void
offer_all(struct conn_loop *loop)
{
	struct conn *conn;

	loop->turn++;
	while ((conn = TAILQ_FIRST(&loop->offers)) != NULL &&
	    conn->offer_turn != loop->turn) {
		TAILQ_REMOVE(&loop->offers, conn, offer_entry);
		conn->offered = false;
		if (conn->in != NULL)
			offer(conn, conn->in->bytes + conn->start,
			    conn->end - conn->start);
	}
}

static void
flush_all(struct conn_loop *loop, enum conn_rank rank)
{
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&loop->dirty[rank])) != NULL) {
		TAILQ_REMOVE(&loop->dirty[rank], conn, dirty_entry);
		conn->dirty = false;
		flush(conn);
	}
}

static void
free_dead(struct conn_loop *loop)
{
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&loop->dead)) != NULL) {
		TAILQ_REMOVE(&loop->dead, conn, dirty_entry);
		block_release(conn->in);
		free(conn);
	}
}

void
conn_loop_turn(struct conn_loop *loop)
{
	loop->now = -1;
	event_base_loop(loop->base,
	    EVLOOP_ONCE | (work_left(loop) ? EVLOOP_NONBLOCK : 0));
	offer_all(loop);
	flush_all(loop, CONN_FLUSHED_FIRST);
	flush_all(loop, CONN_FLUSHED_LAST);
	free_dead(loop);
}

void
conn_loop_free(struct conn_loop *loop)
{
	struct segment *segment;

	free_dead(loop);
	while ((segment = STAILQ_FIRST(&loop->spare)) != NULL) {
		STAILQ_REMOVE_HEAD(&loop->spare, entry);
		free(segment);
	}
	free(loop);
}
