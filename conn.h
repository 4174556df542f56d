#ifndef CONN_H
#define CONN_H

/*
 * Move the bytes of nonblocking sockets: input is offered to an owner, output
 * is queued and written once per loop turn.  Knows no memcached.
 *
 * A loop turn, in this order:
 *
 *   1. the events that are ready
 *   2. the input that was kept back by a pause
 *   3. the output of all conns of rank CONN_FLUSHED_FIRST
 *   4. the output of all conns of rank CONN_FLUSHED_LAST
 *   5. the memory of closed conns is freed
 *
 * Handlers are called by conn_loop_turn() only, never from inside another
 * function of this header.  Each of them may close its conn, but for
 * unblocked().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;
struct conn;
struct conn_loop;
struct event_base;

enum {
	/* A backlog of more bytes than this is high. */
	CONN_HIGH = 256 << 10,
	/* A backlog that was high is low again under this many bytes. */
	CONN_LOW = 64 << 10,
	/* Bytes of conn_remote_name() and conn_local_name(), with the NUL. */
	CONN_NAME_MAX = 64,
};

/* When the output of a conn is sent within a turn.  Output that an owner queues
   for one conn of each rank leaves in this order, while both sockets have
   room. */
enum conn_rank { CONN_FLUSHED_FIRST, CONN_FLUSHED_LAST };

enum conn_end {
	/* The remote sends no more.  Output is still sent; or, if none was
	   sent, conn_attach() may be called. */
	CONN_EOF,
	/* All output was sent after conn_finish(), and the end as well; or, if
	   the remote has ended before, conn_close() sends that. */
	CONN_FINISHED,
	/* The socket is dead, or memory ran out: see conn_error().  ended()
	   closes the conn, or gives it another socket with conn_attach(). */
	CONN_FAILED,
};

struct conn_handler {
	/*
	 * n bytes have arrived, n > 0.  Returns how many of them the owner has
	 * finished with.  The others are offered again, with what follows them,
	 * when more bytes have arrived or after conn_resume().
	 */
	size_t (*input)(void *owner, const char *bytes, size_t n);
	/* A backlog that was high is low again.  May be NULL. */
	void (*drained)(void *owner);
	/* The socket was full, and has taken output again: conn_sent() was
	   sent_before until now.  May be NULL. */
	void (*unblocked)(void *owner, uint64_t sent_before);
	/* The socket takes no more output for now.  May be NULL. */
	void (*blocked)(void *owner);
	/* Each end is reported once at most; CONN_FAILED once for each socket
	   that the conn gets. */
	void (*ended)(void *owner, enum conn_end end);
};

/* Make the lists of a loop on base, which is borrowed.  Returns NULL when out
   of memory. */
struct conn_loop *conn_loop_new(struct event_base *base);

/* All conns of the loop must be closed. */
void conn_loop_free(struct conn_loop *loop);

/* Run one turn.  It waits for events if no other work is left. */
void conn_loop_turn(struct conn_loop *loop);

/* Milliseconds of the monotonic clock, read once per turn at most. */
int64_t conn_loop_now(struct conn_loop *loop);

/* Microseconds of the same clock, to measure how long something takes: in a
   turn with much input they are read more often. */
int64_t conn_loop_us(struct conn_loop *loop);

/*
 * Have late() called with owner in a turn that is not over at the time that
 * conn_loop_set_deadline() says, in milliseconds of the same clock: just before
 * something is sent for a conn of rank CONN_FLUSHED_FIRST.  It may close such
 * conns.  If it returns true, what is queued for those of rank
 * CONN_FLUSHED_LAST is not sent: they fail, with ECANCELED.  Then there is no
 * deadline any more.  owner is borrowed.
 */
void conn_loop_set_late(struct conn_loop *loop, bool (*late)(void *owner),
    void *owner);
void conn_loop_set_deadline(struct conn_loop *loop, int64_t ms);

struct event_base *conn_loop_base(struct conn_loop *loop);

/* Have room for n timers at a time: event_add() of one of them cannot fail from
   here on.  Returns false when out of memory. */
bool conn_loop_reserve_timers(struct conn_loop *loop, size_t n);

/* Make a conn without a socket; its output is queued until it gets one.
   handler and owner are borrowed.  Returns NULL when out of memory. */
struct conn *conn_new(struct conn_loop *loop, enum conn_rank rank,
    const struct conn_handler *handler, void *owner);

/*
 * Give conn the socket fd, connected or still connecting, which it owns from
 * now on.  An earlier socket, which may have failed or ended, is closed;
 * nothing may have been sent on it, and no input of it may be kept.
 * Returns false when out of memory; then fd is still the caller's.
 */
bool conn_attach(struct conn *conn, int fd);

/* Close at once.  No handler is called any more.  The memory of conn is valid
   until the end of the turn.  reset: send RST, not FIN. */
void conn_close(struct conn *conn, bool reset);

/* Send the end after the queued output, and then call ended(CONN_FINISHED).
   Nothing may be written after this call. */
void conn_finish(struct conn *conn);

/* Offer no more input, and read none.  conn must have a socket. */
void conn_pause(struct conn *conn);

/* Offer input again, and first what was kept, but not from inside this call.
   Not to be called from inside input(). */
void conn_resume(struct conn *conn);

bool conn_is_paused(const struct conn *conn);

/* Offer what is kept once more, though nothing has come, but not from inside
   this call.  Nothing happens if nothing is kept, or if conn is paused. */
void conn_offer_kept(struct conn *conn);

/* In input(): the first message that input() is going to leave has n bytes in
   all.  The next read makes room for all of it if at_once is said, or else only
   for about as much as has come. */
void conn_want(struct conn *conn, size_t n, bool at_once);

/*
 * In input(), which returns after this: throw away n bytes of input, the first
 * of them behind as many bytes of what input() leaves.  They need not have
 * arrived.  The rest is offered as if they had not been there.
 */
void conn_discard(struct conn *conn, size_t behind, uint64_t n);

/*
 * In input(): refer to a block that holds the n offered bytes from at on.  They
 * begin at *offset of the block.  Many bytes that are in a block already are
 * not copied.  The caller releases the block.  Returns NULL when out of memory.
 */
struct block *conn_reference(struct conn *conn, const char *at, size_t n,
    size_t *offset);

/* Queue a copy of n bytes.  When out of memory, nothing more is queued, and
   ended(CONN_FAILED) is called at the end of the turn. */
void conn_write(struct conn *conn, const char *bytes, size_t n);

/* Queue n bytes that are in block: a reference to them if they are many, a copy
   if they are few.  block may be NULL: then they are copied.  Fails like
   conn_write(). */
void conn_write_block(struct conn *conn, struct block *block, const char *bytes,
    size_t n);

/* Take back the last n bytes that were queued.  Returns false, and does
   nothing, if some of them are sent, if they were not copied, or if there would
   be nothing left in their piece of the queue. */
bool conn_unwrite(struct conn *conn, size_t n);

/* Bytes of output that are queued and not sent. */
size_t conn_backlog(const struct conn *conn);

/* Bytes of output that were queued since conn_new(), sent or not. */
uint64_t conn_queued(const struct conn *conn);

/* Bytes of output that were sent since conn_new(). */
uint64_t conn_sent(const struct conn *conn);

/* Bytes of input that have arrived since conn_new(). */
uint64_t conn_received(const struct conn *conn);

/* Bytes of input that are kept, because their message is not whole, or because
   input is paused. */
size_t conn_input_bytes(const struct conn *conn);

/* Bytes of the block that the kept input is in; 0 if there is none. */
size_t conn_input_memory(const struct conn *conn);

/* The input that is kept, of conn_input_bytes(); valid until the loop turns. */
const char *conn_input(const struct conn *conn);

/* Copy the backlog to bytes, which have room for conn_backlog(). */
void conn_copy_output(const struct conn *conn, char *bytes);

/* As if n bytes had arrived on conn, which keeps nothing: they are offered in
   the next turn.  Returns false when out of memory. */
bool conn_give_input(struct conn *conn, const char *bytes, size_t n);

/* The socket, which stays that of conn; -1: it has none. */
int conn_socket(const struct conn *conn);

/* Take the socket out of conn, which is closed next: it may still be read from
   and half-closed.  The caller owns it.  Returns -1 if there is none. */
int conn_take_socket(struct conn *conn);

/* Write ADDRESS:PORT of the remote to name, which has room for CONN_NAME_MAX
   bytes.  It is "unix" if this is no TCP connection. */
void conn_remote_name(const struct conn *conn, char *name);

/* The same for the address and port of this side. */
void conn_local_name(const struct conn *conn, char *name);

/* The errno of CONN_FAILED; 0 if conn has not failed. */
int conn_error(const struct conn *conn);

#endif
