#ifndef CONN_H
#define CONN_H

/*
 * Move the bytes of nonblocking sockets: input is offered to an owner, output
 * is queued and written once per loop turn.  Knows no memcached.
 *
 * A loop turn: the events that are ready, then input that was kept back, then
 * the output of all conns of rank CONN_FLUSHED_FIRST, then of the others, then the
 * memory of closed conns.  Handlers run from the loop only, never from inside
 * a conn_ function.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;
struct conn;
struct conn_loop;
struct event_base;

enum {
	CONN_HIGH = 256 << 10, /* a backlog over this is high, in bytes */
	CONN_LOW = 64 << 10,   /* drained() is called when it is under this */
	CONN_NAME_MAX = 64,    /* bytes of conn_remote_name() */
};

enum conn_rank { CONN_FLUSHED_FIRST, CONN_FLUSHED_LAST };

enum conn_end {
	CONN_EOF,      /* the peer sends no more; output goes on */
	CONN_FINISHED, /* all output was sent after conn_finish() */
	CONN_FAILED,   /* dead: conn_error() says why; in ended(),
				   conn_close() it or conn_attach() another
				   socket */
};

struct conn_handler {
	/*
	 * n bytes have arrived.  Returns how many of them are done with; the
	 * rest is offered again, with what follows it.  May conn_close().
	 */
	size_t (*input)(void *owner, const char *bytes, size_t n);
	/* A backlog that was high is low again.  May be NULL. */
	void (*drained)(void *owner);
	/* See enum conn_end; each comes once at most, CONN_FAILED once for
	   each socket. */
	void (*ended)(void *owner, enum conn_end end);
};

/* The lists of a loop on base.  Returns NULL when out of memory. */
struct conn_loop *conn_loop_new(struct event_base *base);
void conn_loop_free(struct conn_loop *loop); /* after all its conns */

/* One turn; waits for events if there is nothing left to do. */
void conn_loop_turn(struct conn_loop *loop);

/* Milliseconds of the monotonic clock, read once per turn at most. */
int64_t conn_loop_now(struct conn_loop *loop);

struct event_base *conn_loop_base(struct conn_loop *loop);

/* A conn without a socket; output is queued until it gets one.  Returns NULL
   when out of memory. */
struct conn *conn_new(struct conn_loop *loop, enum conn_rank rank,
    const struct conn_handler *handler, void *owner);

/*
 * Give conn the socket fd, connected or still connecting, which it owns from
 * now on; in place of one that never connected, if there was one.  Returns
 * false when out of memory; then fd is still the caller's.
 */
bool conn_attach(struct conn *conn, int fd);

/* Close at once; no handler is called any more.  reset: send RST, not FIN. */
void conn_close(struct conn *conn, bool reset);

/* After the queued output no more is sent; then ended(CONN_FINISHED).  Nothing
   may be written after this. */
void conn_finish(struct conn *conn);

/* Stop and start the offering of input; a conn that has a socket, and not a
   start from inside input(). */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);
bool conn_is_paused(const struct conn *conn);

/* In input(): the message being offered has n bytes in all. */
void conn_want(struct conn *conn, size_t n);

/*
 * In input(): a reference to a block with the n offered bytes from at on, which
 * begin at *offset of the block.  Messages that are larger than a read are not
 * copied.  Returns NULL when out of memory.
 */
struct block *conn_reference(struct conn *conn, const char *at, size_t n,
    size_t *offset);

/* Queue a copy of bytes.  Out of memory, the conn fails at the end of the
   turn; this holds for the next one, too. */
void conn_write(struct conn *conn, const char *bytes, size_t n);

/* Take the last n bytes that were queued back.  Returns false, and does
   nothing, if some are sent, were not copied, or have nothing before them. */
bool conn_unwrite(struct conn *conn, size_t n);

/* Queue n bytes that are in block: a reference if they are many.  block may be
   NULL: then they are copied. */
void conn_write_block(struct conn *conn, struct block *block, const char *bytes,
    size_t n);

/* Bytes queued and not yet sent; bytes queued, sent and received since
   conn_new(). */
size_t conn_backlog(const struct conn *conn);
uint64_t conn_queued(const struct conn *conn);
uint64_t conn_sent(const struct conn *conn);
uint64_t conn_received(const struct conn *conn);

/* Bytes of input that are kept, because their message is not whole, or input
   is paused; and of the memory that they take. */
size_t conn_input_bytes(const struct conn *conn);
size_t conn_input_memory(const struct conn *conn);

/* The port of this side of a TCP connection; 0 if it has none. */
unsigned int conn_local_port(const struct conn *conn);

/* Write ADDRESS:PORT of the other side, or of ours, to name, which has room for
   CONN_NAME_MAX bytes; "unix" if it is no TCP connection. */
void conn_remote_name(const struct conn *conn, char *name);
void conn_local_name(const struct conn *conn, char *name);

int conn_error(const struct conn *conn); /* errno of CONN_FAILED */

#endif
