/*
 * List the keys of a server that is up.
 *
 *   dump_new() -> fence -> timer -> connect, metadump -> key() ... -> ended()
 *                           ^       |
 *                           '-------' the try fails: no connection, no reply,
 *                                     or BUSY
 *
 * A dump has a connection of its own, which overtakes what is queued on the
 * links of the server.  An effect that is queued there was sent before the
 * returned server became a mirror, so nothing but the dump tells of its key.
 * That is why the first try waits for a fence.
 *
 * Invariant: a dump has a fence, or its timer runs.  While there is no
 * connection, the timer begins the next try or ends the dump.  While there is
 * one, it ends a silent try.  A try begins from the start, so keys that came in
 * an earlier one come again.
 */

#include "mirror/dump.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "conn.h"
#include "log.h"
#include "mirror/fence.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

enum {
	/* A try is given up when nothing has come for this time. */
	SILENCE_MS = 2000,
	/* Between two tries. */
	RETRY_PAUSE_MS = 500,
	/* A dump ends when this number of tries have failed. */
	TRIES_MAX = 20,
};

struct dump {
	struct conn_loop *loop;             /* borrowed */
	const struct peer *from;            /* borrowed */
	const struct dump_handler *handler; /* borrowed */
	void *owner;
	struct fence *fence; /* owned until it has passed; then NULL */
	struct conn *conn;   /* owned; NULL: between two tries */
	unsigned int tries;  /* that have failed */
	struct event *timer; /* owned */
};

static void
set_dump_timer(struct dump *dump, int ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000,
		.tv_usec = ms % 1000 * 1000,
	};

	assert(ms > 0);
	event_add(dump->timer, &wait);
}

static void
disconnect(struct dump *dump)
{
	if (dump->conn != NULL)
		conn_close(dump->conn, true);
	dump->conn = NULL;
}

void
dump_free(struct dump *dump)
{
	disconnect(dump);
	if (dump->fence != NULL)
		fence_cancel(dump->fence);
	if (dump->timer != NULL)
		event_free(dump->timer);
	free(dump);
}

/* Frees the dump. */
static void
end_dump(struct dump *dump, enum dump_end how)
{
	assert(dump->timer != NULL);
	disconnect(dump);
	event_del(dump->timer);
	dump->handler->ended(dump->owner, how);
	dump_free(dump);
}

/* This try has failed.  Another one follows after a pause. */
static void
retry_dump(struct dump *dump, const char *why)
{
	assert(dump->tries < TRIES_MAX);
	log_info("s %s: no list of its keys: %s", peer_name(dump->from), why);
	disconnect(dump);
	dump->tries++;
	set_dump_timer(dump, RETRY_PAUSE_MS);
}

/*
 * Lines
 */

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode the %xx in n bytes of a key to out, which has room for PROTO_KEY_MAX
   bytes.  Returns its length, or 0 if it is not a key. */
static size_t
decode_key(const char *bytes, size_t n, char *out)
{
	size_t length = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (length == PROTO_KEY_MAX)
			return 0;
		if (bytes[i] != '%') {
			out[length++] = bytes[i];
			continue;
		}
		if (n - i < 3 || hex_value(bytes[i + 1]) < 0 ||
		    hex_value(bytes[i + 2]) < 0)
			return 0;
		out[length++] = (char)(hex_value(bytes[i + 1]) * 16 +
		    hex_value(bytes[i + 2]));
		i += 2;
	}
	return length;
}

/* Read a line: key=KEY exp=...  Returns false if the handler stops. */
static bool
read_dump_key(struct dump *dump, const char *line, size_t n)
{
	const char *end = memchr(line, ' ', n);
	char key[PROTO_KEY_MAX];
	size_t length;

	assert(n >= 4);
	length = decode_key(line + 4,
	    (end == NULL ? n : (size_t)(end - line)) - 4, key);
	return length == 0 || dump->handler->key(dump->owner, key, length);
}

/* Returns false if the dump, or this try, has ended with this line.  The dump
   may be freed then. */
static bool
read_dump_line(struct dump *dump, const char *line, size_t n)
{
	if (n > 0 && line[n - 1] == '\r')
		n--;
	if (n >= 4 && memcmp(line, "key=", 4) == 0) {
		if (read_dump_key(dump, line, n))
			return true;
		end_dump(dump, DUMP_STOPPED);
	} else if (n == 2 && memcmp(line, "OK", 2) == 0) {
		return true;
	} else if (n == 3 && memcmp(line, "END", 3) == 0) {
		end_dump(dump, DUMP_WHOLE);
	} else if (n >= 4 && memcmp(line, "BUSY", 4) == 0) {
		retry_dump(dump, "it is busy");
	} else {
		/* ERROR: the server has no such command, or refuses it. */
		end_dump(dump, DUMP_UNABLE);
	}
	return false;
}

static size_t
on_dump_input(void *owner, const char *bytes, size_t n)
{
	struct dump *dump = owner;
	size_t used = 0;
	const char *lf;
	size_t length;

	assert(dump->conn != NULL);
	set_dump_timer(dump, SILENCE_MS);
	while ((lf = memchr(bytes + used, '\n', n - used)) != NULL) {
		length = (size_t)(lf - bytes) - used;
		if (!read_dump_line(dump, bytes + used, length))
			return n;
		used += length + 1;
	}
	if (n - used <= PROTO_LINE_MAX)
		return used;
	retry_dump(dump, "it sends a line without end");
	return n;
}

static void
on_dump_ended(void *owner, enum conn_end how)
{
	struct dump *dump = owner;

	assert(dump->conn != NULL);
	retry_dump(dump,
	    how == CONN_EOF ? "it closed the connection" :
			      strerror(conn_error(dump->conn)));
}

static const struct conn_handler handler = {
	.input = on_dump_input,
	.ended = on_dump_ended,
};

/*
 * Tries
 */

static void
try_dump(struct dump *dump)
{
	/* The list of the hash table is complete.  The lists of the LRU may
	   lack keys that move in them meanwhile. */
	const char *line = identity_is_since(&dump->from->identity, 1, 6, 9) ?
	    "lru_crawler metadump hash\r\n" :
	    "lru_crawler metadump all\r\n";
	int fd;

	assert(dump->conn == NULL && peer_is_trusted(dump->from));
	dump->conn = conn_new(dump->loop, CONN_FLUSHED_FIRST, &handler, dump);
	fd = dump->conn == NULL ? -1 : server_dial(dump->from->server);
	if (fd == -1 || !conn_attach(dump->conn, fd)) {
		if (fd != -1)
			close(fd);
		retry_dump(dump, "no connection");
		return;
	}
	conn_write(dump->conn, line, strlen(line));
	set_dump_timer(dump, SILENCE_MS);
}

static void
on_dump_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dump *dump = arg;

	(void)fd;
	(void)what;
	if (!peer_is_trusted(dump->from))
		end_dump(dump, DUMP_LOST);
	else if (dump->conn != NULL)
		retry_dump(dump, "it fell silent");
	else if (dump->from->state == PEER_STARTING)
		set_dump_timer(dump, RETRY_PAUSE_MS);
	else if (dump->tries < TRIES_MAX &&
	    identity_is_since(&dump->from->identity, 1, 6, 0))
		try_dump(dump);
	else
		end_dump(dump, DUMP_UNABLE);
}

/* If the server has failed, the timer finds that out. */
static void
on_fence_passed(void *owner, bool was_reached)
{
	struct dump *dump = owner;

	assert(was_reached || !peer_is_trusted(dump->from));
	dump->fence = NULL;
	event_active(dump->timer, EV_TIMEOUT, 0);
}

struct dump *
dump_new(struct conn_loop *loop, struct peer *from,
    const struct dump_handler *dump_handler, void *owner)
{
	struct dump *dump = calloc(1, sizeof(*dump));

	if (dump == NULL)
		return NULL;
	assert(dump_handler->key != NULL && dump_handler->ended != NULL);
	dump->loop = loop;
	dump->from = from;
	dump->handler = dump_handler;
	dump->owner = owner;
	dump->timer = event_new(conn_loop_base(loop), -1, 0, on_dump_timer,
	    dump);
	dump->fence = fence_new(from, on_fence_passed, dump);
	if (dump->timer == NULL || dump->fence == NULL) {
		dump_free(dump);
		return NULL;
	}
	return dump;
}
