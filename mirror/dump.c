/*
 * List the keys of a server that is up.
 *
 *   dump_new() -> timer -> begins(), fence -> connect, stats -> metadump
 *                  ^                                |             |
 *                  |                                v             v
 *                  '--- BUSY, or the try fails -----+------ key() -> ended()
 *
 * A dump has a connection of its own, which overtakes what is queued on the
 * links of the server.  An effect that is queued there was sent before the
 * returned server became a mirror, so nothing but the dump tells of its key.
 * That is why each try waits for a fence.
 *
 * Nothing that the server says is believed to have an end: it says in stats how
 * many items it has, and a list that is much longer, or takes much longer, than
 * these need is given up.
 *
 * Invariant: a dump has a fence, or its timer runs.  While there is neither
 * connection nor fence, the timer begins the next try or ends the dump.  While
 * there is a connection, it ends a silent try.  A try begins from the start, so
 * keys that came in an earlier one come again.
 */

#include "mirror/dump.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "conn.h"
#include "log.h"
#include "mirror/fence.h"
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
	/* A dump ends when the server has been busy for this time. */
	BUSY_MAX_MS = 300000,
	/* A list may have twice as many lines as the server has items, and
	   these besides. */
	LINES_SPARE = 200000,
	/* The least time that a list may take. */
	LIST_MS = 30000,
	/* The least number of items that it may take a millisecond for. */
	ITEMS_PER_MS = 10,
	/* The longest time that a list may take, whatever the server says. */
	LIST_MAX_MS = 600000,
};

struct dump {
	struct conn_loop *loop;             /* borrowed */
	struct peer *from;                  /* borrowed */
	const struct dump_handler *handler; /* borrowed */
	void *owner;
	struct fence *fence; /* owned until it has passed; then NULL */
	struct conn *conn;   /* owned; NULL: between two tries */
	struct event *timer; /* owned */
	/* Tries that have failed. */
	unsigned int tries;
	/* Why the last try has failed, as it was logged; NULL: none has. */
	const char *why;
	/* When the server first said BUSY; 0: it has not since it last began to
	   list.  All times are monotonic milliseconds. */
	int64_t busy_ms;

	/* Of the present try: */

	/* The metadump was sent, behind the answer to stats. */
	bool is_asked;
	/* How many items the server has. */
	uint64_t items;
	/* Lines of the list so far. */
	uint64_t lines;
	/* When the metadump was sent. */
	int64_t began_ms;
};

static void
set_dump_timer(struct dump *dump, int ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000,
		.tv_usec = ms % 1000 * 1000,
	};

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

/* Another try follows after a pause. */
static void
pause_dump(struct dump *dump, const char *why)
{
	if (dump->why == NULL || strcmp(dump->why, why) != 0)
		log_info("s %s: no list of its keys: %s", peer_name(dump->from),
		    why);
	dump->why = why;
	disconnect(dump);
	set_dump_timer(dump, RETRY_PAUSE_MS);
}

/* This try has failed. */
static void
retry_dump(struct dump *dump, const char *why)
{
	assert(dump->tries < TRIES_MAX);
	dump->tries++;
	pause_dump(dump, why);
}

/* Somebody else lists the keys of the server, which is no failure.  That may
   take its time. */
static void
wait_while_busy(struct dump *dump)
{
	int64_t now = conn_loop_now(dump->loop);

	if (dump->busy_ms == 0)
		dump->busy_ms = now;
	if (now - dump->busy_ms < BUSY_MAX_MS)
		pause_dump(dump, "it is busy");
	else
		end_dump(dump, DUMP_UNABLE);
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

/* Whether the answer is longer, or takes longer, than it can if the server is
   what it says.  If so, the dump has ended. */
static bool
ends_endless(struct dump *dump)
{
	int64_t took = conn_loop_now(dump->loop) - dump->began_ms;
	uint64_t items = dump->is_asked ? dump->items : 0;
	uint64_t may_take = LIST_MS + items / ITEMS_PER_MS;

	if (may_take > LIST_MAX_MS)
		may_take = LIST_MAX_MS;
	if (dump->lines / 2 <= items + LINES_SPARE / 2 &&
	    took <= (int64_t)may_take)
		return false;
	log_warning("s %s: the list of its keys does not end",
	    peer_name(dump->from));
	end_dump(dump, DUMP_UNABLE);
	return true;
}

/* Read a line of the list.  Returns false if the dump, or this try, has ended
   with it.  The dump may be freed then. */
static bool
read_dump_line(struct dump *dump, const char *line, size_t n)
{
	dump->lines++;
	if (n >= 4 && memcmp(line, "key=", 4) == 0) {
		dump->busy_ms = 0;
		if (read_dump_key(dump, line, n))
			return true;
		end_dump(dump, DUMP_STOPPED);
	} else if (n == 2 && memcmp(line, "OK", 2) == 0) {
		return true;
	} else if (n == 3 && memcmp(line, "END", 3) == 0) {
		end_dump(dump, DUMP_WHOLE);
	} else if (n >= 4 && memcmp(line, "BUSY", 4) == 0) {
		wait_while_busy(dump);
	} else {
		/* ERROR: the server has no such command, or refuses it. */
		end_dump(dump, DUMP_UNABLE);
	}
	return false;
}

/* The answer to stats is over: ask for the list. */
static void
ask_for_list(struct dump *dump)
{
	/* The list of the hash table is complete.  The lists of the LRU may
	   lack keys that move in them meanwhile. */
	const char *line = abilities_has(&dump->from->abilities,
			       ABILITY_METADUMP_HASH) ?
	    "lru_crawler metadump hash\r\n" :
	    "lru_crawler metadump all\r\n";

	assert(!dump->is_asked);
	dump->is_asked = true;
	dump->lines = 0;
	dump->began_ms = conn_loop_now(dump->loop);
	conn_write(dump->conn, line, strlen(line));
}

/* Read a line of the answer to stats. */
static void
read_stats_line(struct dump *dump, const char *line, size_t n)
{
	static const char items[] = "STAT curr_items ";

	dump->lines++;
	if (n >= sizeof(items) - 1 &&
	    memcmp(line, items, sizeof(items) - 1) == 0)
		dump->items = proto_number(line + sizeof(items) - 1,
		    n - (sizeof(items) - 1));
	else if (n < 5 || memcmp(line, "STAT ", 5) != 0)
		ask_for_list(dump);
}

/* Read a line of whatever was asked for.  Returns as read_dump_line(). */
static bool
read_line(struct dump *dump, const char *line, size_t n)
{
	if (ends_endless(dump))
		return false;
	if (n > 0 && line[n - 1] == '\r')
		n--;
	if (dump->is_asked)
		return read_dump_line(dump, line, n);
	read_stats_line(dump, line, n);
	return true;
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
		if (!read_line(dump, bytes + used, length))
			return n;
		used += length + 1;
	}
	if (ends_endless(dump))
		return n;
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
connect_dump(struct dump *dump)
{
	static const char line[] = "stats\r\n";
	int fd;

	assert(dump->conn == NULL && peer_is_trusted(dump->from));
	dump->is_asked = false;
	dump->items = dump->lines = 0;
	dump->began_ms = conn_loop_now(dump->loop);
	dump->conn = conn_new(dump->loop, CONN_FLUSHED_FIRST, &handler, dump);
	fd = dump->conn == NULL ? -1 : server_dial(dump->from->server);
	if (fd == -1 || !conn_attach(dump->conn, fd)) {
		if (fd != -1)
			close(fd);
		retry_dump(dump, "no connection");
		return;
	}
	conn_write(dump->conn, line, sizeof(line) - 1);
	set_dump_timer(dump, SILENCE_MS);
}

static void
on_fence_passed(void *owner, bool was_reached)
{
	struct dump *dump = owner;

	assert(dump->conn == NULL && dump->fence != NULL);
	dump->fence = NULL;
	if (was_reached && dump->from->state == PEER_UP)
		connect_dump(dump);
	else
		set_dump_timer(dump, 0);
}

static void
try_dump(struct dump *dump)
{
	dump->handler->begins(dump->owner);
	dump->fence = fence_new(dump->from, on_fence_passed, dump);
	if (dump->fence == NULL)
		retry_dump(dump, "no memory");
}

static void
on_dump_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dump *dump = arg;

	(void)fd;
	(void)what;
	assert(dump->fence == NULL);
	if (!peer_is_trusted(dump->from))
		end_dump(dump, DUMP_LOST);
	else if (dump->conn != NULL)
		retry_dump(dump, "it fell silent");
	else if (dump->from->state == PEER_STARTING)
		set_dump_timer(dump, RETRY_PAUSE_MS);
	else if (dump->tries < TRIES_MAX &&
	    abilities_has(&dump->from->abilities, ABILITY_META_READ))
		try_dump(dump);
	else
		end_dump(dump, DUMP_UNABLE);
}

struct dump *
dump_new(struct conn_loop *loop, struct peer *from,
    const struct dump_handler *dump_handler, void *owner)
{
	struct dump *dump = calloc(1, sizeof(*dump));

	if (dump == NULL)
		return NULL;
	assert(dump_handler->begins != NULL && dump_handler->key != NULL &&
	    dump_handler->ended != NULL);
	dump->loop = loop;
	dump->from = from;
	dump->handler = dump_handler;
	dump->owner = owner;
	dump->timer = event_new(conn_loop_base(loop), -1, 0, on_dump_timer,
	    dump);
	if (dump->timer == NULL) {
		free(dump);
		return NULL;
	}
	set_dump_timer(dump, 0);
	return dump;
}
