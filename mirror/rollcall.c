/*
 * Have each thread of a server answer.
 *
 * What another magent has sent to a server that was hung lies in a connection
 * of its own, which we do not know.  The thread that serves it reads it as soon
 * as it goes on, and ahead of what comes later.  memcached gives new
 * connections to its threads in turn, so there is one for each thread:
 *
 *   connect, ask all --> all have answered --> more was left ----> done()
 *                  ^                           than a thread  no
 *                  |                           does at once
 *                  |                                | yes
 *                  '--------------------------------'
 *
 * The server counts how often more is left.  The first answers say what it has
 * counted before, so there are two rounds at least.  Where another magent is
 * at work with the server all the time, there is always more.
 *
 * Invariant: a thread is asked while its conn is there, and owed counts those
 * that have not answered in this round.
 */

#include "mirror/rollcall.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conn.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

enum {
	/* A server that says more has connections for so many. */
	THREADS_MAX = 32,
	/* Once all have answered, what is left of before takes no longer. */
	ROUNDS_MS = 500,
};

struct asked {
	struct rollcall *rollcall; /* borrowed */
	struct conn *conn; /* owned; NULL: this thread is not asked any more */
	bool has_answered; /* in this round */
	bool is_cut; /* what comes is the rest of a line that is too long */
};

struct rollcall {
	struct conn_loop *loop; /* borrowed */
	void (*done)(void *owner);
	void *owner;
	unsigned int owed;
	/* When the first round was over: milliseconds of the monotonic clock;
	   0: it is not. */
	int64_t began_ms;
	uint64_t yields; /* what the server has said of them in this round */
	uint64_t yields_before;
	size_t count;
	struct asked asked[THREADS_MAX];
};

void
rollcall_free(struct rollcall *rollcall)
{
	size_t i;

	if (rollcall == NULL)
		return;
	for (i = 0; i < rollcall->count; i++)
		if (rollcall->asked[i].conn != NULL)
			conn_close(rollcall->asked[i].conn, false);
	free(rollcall);
}

static void
ask_round(struct rollcall *rollcall)
{
	static const char question[] = "stats\r\n";
	struct asked *asked;
	size_t i;

	assert(rollcall->owed == 0);
	rollcall->yields_before = rollcall->yields;
	rollcall->yields = 0;
	for (i = 0; i < rollcall->count; i++) {
		asked = &rollcall->asked[i];
		if (asked->conn == NULL)
			continue;
		asked->has_answered = asked->is_cut = false;
		rollcall->owed++;
		conn_write(asked->conn, question, sizeof(question) - 1);
	}
}

/* All have answered.  Returns whether there is to be another round. */
static bool
is_more_left(struct rollcall *rollcall)
{
	int64_t now = conn_loop_now(rollcall->loop);

	if (rollcall->began_ms == 0) {
		rollcall->began_ms = now;
		return true;
	}
	return rollcall->yields != rollcall->yields_before &&
	    now - rollcall->began_ms < ROUNDS_MS;
}

/* A thread has answered, or is not asked any more.  May free the roll call. */
static void
note_answer(struct asked *asked)
{
	struct rollcall *rollcall = asked->rollcall;

	assert(!asked->has_answered && rollcall->owed > 0);
	asked->has_answered = true;
	if (--rollcall->owed > 0)
		return;
	if (is_more_left(rollcall))
		ask_round(rollcall);
	if (rollcall->owed > 0)
		return;
	rollcall->done(rollcall->owner);
	rollcall_free(rollcall);
}

/* Take up a line of n bytes.  Returns whether it is the last one. */
static bool
read_stat(struct asked *asked, const char *line, size_t n)
{
	static const char name[] = "STAT conn_yields ";
	size_t length = sizeof(name) - 1;
	uint64_t yields;

	if (n > length && memcmp(line, name, length) == 0) {
		yields = proto_number(line + length, n - length);
		if (yields > asked->rollcall->yields)
			asked->rollcall->yields = yields;
	}
	return n < 5 || memcmp(line, "STAT ", 5) != 0;
}

static size_t
on_roll_input(void *owner, const char *bytes, size_t n)
{
	struct asked *asked = owner;
	const char *end;
	size_t at = 0;
	bool is_last;

	while ((end = memchr(bytes + at, '\n', n - at)) != NULL) {
		size_t length = (size_t)(end - bytes) - at;

		if (length > 0 && end[-1] == '\r')
			length--;
		is_last = !asked->is_cut &&
		    read_stat(asked, bytes + at, length);
		asked->is_cut = false;
		at = (size_t)(end - bytes) + 1;
		if (!is_last)
			continue;
		if (!asked->has_answered)
			note_answer(asked);
		/* The roll call may be over, and nothing was asked twice. */
		return n;
	}
	if (n - at <= PROTO_LINE_MAX)
		return at;
	asked->is_cut = true;
	return n;
}

static void
on_roll_ended(void *owner, enum conn_end how)
{
	struct asked *asked = owner;

	assert(asked->conn != NULL && how != CONN_FINISHED);
	(void)how;
	conn_close(asked->conn, true);
	asked->conn = NULL;
	if (!asked->has_answered)
		note_answer(asked);
}

static const struct conn_handler roll_handler = {
	.input = on_roll_input,
	.ended = on_roll_ended,
};

/* Returns false if there is no further connection. */
static bool
connect_thread(struct rollcall *rollcall, struct conn_loop *loop,
    struct server *server)
{
	struct asked *asked = &rollcall->asked[rollcall->count];
	int fd = server_dial(server);

	if (fd == -1)
		return false;
	asked->rollcall = rollcall;
	asked->conn = conn_new(loop, CONN_FLUSHED_FIRST, &roll_handler, asked);
	if (asked->conn != NULL && conn_attach(asked->conn, fd)) {
		rollcall->count++;
		return true;
	}
	if (asked->conn != NULL)
		conn_close(asked->conn, false);
	close(fd);
	return false;
}

struct rollcall *
rollcall_new(struct conn_loop *loop, const struct peer *peer,
    void (*done)(void *owner), void *owner)
{
	uint64_t threads = peer->identity.threads;
	struct rollcall *rollcall = calloc(1, sizeof(*rollcall));

	if (rollcall == NULL)
		return NULL;
	rollcall->done = done;
	rollcall->owner = owner;
	rollcall->loop = loop;
	while (rollcall->count < threads && rollcall->count < THREADS_MAX)
		if (!connect_thread(rollcall, loop, peer->server))
			break;
	if (rollcall->count == 0) {
		free(rollcall);
		return NULL;
	}
	ask_round(rollcall);
	return rollcall;
}
