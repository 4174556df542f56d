/*
 * List the keys of a server that is up.
 *
 *   dump_new() -> timer -> begins(), fence -> connect, stats -> metadump
 *                  ^                                |             |
 *                  |                                v             v
 *                  '--- busy, or the try fails -----+------ key() -> ended()
 *
 * A dump has a connection of its own, which overtakes what is queued on the
 * links of the server.  An effect that is queued there was sent before the
 * returned server became a mirror, so nothing but the dump tells of its key.
 * That is why each try waits for a fence.  A server that is being invalidated
 * gets no effects.
 *
 * memcached lists its keys for one reader at a time.  If that one does not
 * read, each further metadump blocks a thread of the server for as long, and
 * 1.6.18 hangs for good when the reader then goes away.  So the server is not
 * asked while it says that its crawler runs.  If somebody else asks between its
 * answer and our question, the question is not repeated: peer->lists keeps a
 * connection on which nothing has come, whatever becomes of the dump, and there
 * is no other one until the server goes on.  Nor is there while another dump of
 * ours waits for the first line of its list.
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
#include "server/zombie.h"

enum {
	/* A try is given up when nothing has come for this time. */
	SILENCE_MS = 2000,
	/* A connection on which the server has not begun is given up when its
	   host has not heard that we have, for this time. */
	UNHEARD_MS = 1200,
	/* Between two tries. */
	RETRY_PAUSE_MS = 500,
	/* A dump ends when this number of tries have failed. */
	TRIES_MAX = 20,
	/* While the server is busy, this is logged so often. */
	BUSY_TELL_MS = 300000,
	/* If the server has more connections, it is not asked about them. */
	CONNS_MAX = 5000,
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

/* What the server was asked last. */
enum question {
	ASKED_STATS,
	ASKED_CONNS,
	ASKED_LIST,
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
	/* When it was logged that the server is busy; 0: it was not since the
	   server last listed a key.  All times are monotonic milliseconds. */
	int64_t busy_ms;

	/* Of the present try: */

	enum question question;
	/* How many items and connections the server has. */
	uint64_t items, conns;
	/* Its crawler runs. */
	bool is_crawling;
	/* The other end of the connection that its stats speak of, and of the
	   one that a list is written to; may be empty. */
	char address[64], reader[64];
	/* Lines of the answer so far. */
	uint64_t lines;
	/* When the question was sent, or the list began. */
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

/* Whether the server was asked for the list, and has not begun: then a thread
   of it may be blocked. */
static bool
is_unanswered(const struct dump *dump)
{
	return dump->from->list_asker == dump;
}

/* The same, by whomever of us. */
static bool
owes_list(const struct peer *from)
{
	return from->list_asker != NULL ||
	    (from->lists != NULL && zombies_count(from->lists) > 0);
}

static void
disconnect(struct dump *dump)
{
	if (is_unanswered(dump))
		dump->from->list_asker = NULL;
	if (dump->conn != NULL)
		conn_close(dump->conn, true);
	dump->conn = NULL;
}

/* If the server has not begun, keep the connection until it goes on.  Its list
   is thrown away then. */
static void
leave_question(struct dump *dump)
{
	struct peer *from = dump->from;
	int fd;

	if (!is_unanswered(dump))
		return;
	if (from->lists == NULL)
		from->lists = zombies_new(conn_loop_base(dump->loop));
	fd = from->lists == NULL ? -1 : conn_take_socket(dump->conn);
	if (fd != -1)
		zombies_add(from->lists, fd);
}

void
dump_free(struct dump *dump)
{
	leave_question(dump);
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
tell_busy(struct dump *dump)
{
	int64_t now = conn_loop_now(dump->loop);

	if (dump->busy_ms != 0 && now - dump->busy_ms < BUSY_TELL_MS)
		return;
	dump->busy_ms = now;
	if (dump->reader[0] == '\0')
		log_info("s %s: no list of its keys: %s", peer_name(dump->from),
		    "it is busy");
	else
		log_warning(
		    "s %s: no list of its keys: it is busy with one for %s",
		    peer_name(dump->from), dump->reader);
}

static void
wait_while_busy(struct dump *dump)
{
	tell_busy(dump);
	dump->tries = 0;
	leave_question(dump);
	disconnect(dump);
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

/* Whether the answer is longer, or takes longer, than it can if the server is
   what it says.  If so, the dump has ended. */
static bool
ends_endless(struct dump *dump)
{
	int64_t took = conn_loop_now(dump->loop) - dump->began_ms;
	uint64_t items = dump->question == ASKED_LIST ? dump->items : 0;
	uint64_t may_take = LIST_MS + items / ITEMS_PER_MS;

	if (may_take > LIST_MAX_MS)
		may_take = LIST_MAX_MS;
	if (dump->lines / 2 <= items + LINES_SPARE / 2 &&
	    took <= (int64_t)may_take)
		return false;
	log_warning("s %s: the list of its keys does not end",
	    peer_name(dump->from));
	end_dump(dump, DUMP_FAILED);
	return true;
}

/* Read a line of the list.  Returns false if the dump, or this try, has ended
   with it.  The dump may be freed then. */
static bool
read_dump_line(struct dump *dump, const char *line, size_t n)
{
	if (dump->lines++ == 0) {
		dump->from->list_asker = NULL;
		dump->began_ms = conn_loop_now(dump->loop);
	}
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

static void
ask(struct dump *dump, enum question question, const char *line)
{
	assert(dump->conn != NULL);
	dump->question = question;
	dump->lines = 0;
	dump->began_ms = conn_loop_now(dump->loop);
	conn_write(dump->conn, line, strlen(line));
}

static void
ask_for_list(struct dump *dump)
{
	assert(!owes_list(dump->from));
	dump->from->list_asker = dump;
	/* The list of the hash table is complete.  The lists of the LRU may
	   lack keys that move in them meanwhile. */
	ask(dump, ASKED_LIST,
	    abilities_has(&dump->from->abilities, ABILITY_METADUMP_HASH) ?
		"lru_crawler metadump hash\r\n" :
		"lru_crawler metadump all\r\n");
}

/* If the n bytes of a line begin with name, return the rest of them, and their
   number in *length.  Otherwise NULL. */
static const char *
value_of(const char *line, size_t n, const char *name, size_t *length)
{
	size_t prefix = strlen(name);

	if (n < prefix || memcmp(line, name, prefix) != 0)
		return NULL;
	*length = n - prefix;
	return line + prefix;
}

static bool
is_stat(const char *line, size_t n)
{
	return n >= 5 && memcmp(line, "STAT ", 5) == 0;
}

/* Read a line of the answer to stats.  Returns false if this try has ended. */
static bool
read_stats_line(struct dump *dump, const char *line, size_t n)
{
	const char *value;
	size_t length;

	dump->lines++;
	if ((value = value_of(line, n, "STAT curr_items ", &length)) != NULL)
		dump->items = proto_number(value, length);
	else if ((value = value_of(line, n, "STAT curr_connections ",
		      &length)) != NULL)
		dump->conns = proto_number(value, length);
	else if ((value = value_of(line, n, "STAT lru_crawler_running ",
		      &length)) != NULL)
		dump->is_crawling = proto_number(value, length) != 0;
	if (is_stat(line, n))
		return true;
	if (!dump->is_crawling && !owes_list(dump->from)) {
		ask_for_list(dump);
	} else if (dump->busy_ms == 0 && dump->conns <= CONNS_MAX) {
		ask(dump, ASKED_CONNS, "stats conns\r\n");
	} else {
		wait_while_busy(dump);
		return false;
	}
	return true;
}

static void
copy_address(char out[64], const char *bytes, size_t n)
{
	size_t i;

	if (n > 63)
		n = 63;
	for (i = 0; i < n; i++)
		out[i] = bytes[i] > ' ' && bytes[i] < 127 ? bytes[i] : '?';
	out[n] = '\0';
}

/* Read a line of the answer to stats conns: STAT 7:addr ADDRESS, and then STAT
   7:state STATE.  Returns false if this try has ended. */
static bool
read_conns_line(struct dump *dump, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n);
	size_t left = colon == NULL ? 0 : n - (size_t)(colon - line);
	const char *value;
	size_t length;

	dump->lines++;
	if (!is_stat(line, n)) {
		wait_while_busy(dump);
		return false;
	}
	value = left == 0 ? NULL : value_of(colon, left, ":addr ", &length);
	if (value != NULL)
		copy_address(dump->address, value, length);
	/* The state of a connection that a list is written to. */
	else if (left > 0 &&
	    value_of(colon, left, ":state conn_watch", &length) != NULL)
		memcpy(dump->reader, dump->address, sizeof(dump->reader));
	return true;
}

/* Read a line of whatever was asked for.  Returns as read_dump_line(). */
static bool
read_line(struct dump *dump, const char *line, size_t n)
{
	if (!is_unanswered(dump) && ends_endless(dump))
		return false;
	if (n > 0 && line[n - 1] == '\r')
		n--;
	switch (dump->question) {
	case ASKED_STATS:
		return read_stats_line(dump, line, n);
	case ASKED_CONNS:
		return read_conns_line(dump, line, n);
	case ASKED_LIST:
		break;
	}
	return read_dump_line(dump, line, n);
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
	if (!is_unanswered(dump) && ends_endless(dump))
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

static bool
may_be_listed(const struct peer *from)
{
	return peer_is_mirror(from) || from->state == PEER_INVALIDATE;
}

static void
connect_dump(struct dump *dump)
{
	int fd;

	assert(dump->conn == NULL && may_be_listed(dump->from));
	dump->items = dump->conns = 0;
	dump->is_crawling = false;
	dump->address[0] = dump->reader[0] = '\0';
	dump->conn = conn_new(dump->loop, CONN_FLUSHED_FIRST, &handler, dump);
	fd = dump->conn == NULL ? -1 : server_dial(dump->from->server);
	if (fd == -1 || !conn_attach(dump->conn, fd)) {
		if (fd != -1)
			close(fd);
		retry_dump(dump, "no connection");
		return;
	}
	ask(dump, ASKED_STATS, "stats\r\n");
	set_dump_timer(dump, SILENCE_MS);
}

static void
on_fence_passed(void *owner, bool was_reached)
{
	struct dump *dump = owner;

	assert(dump->conn == NULL && dump->fence != NULL);
	dump->fence = NULL;
	if (was_reached && peer_is_mirror(dump->from))
		connect_dump(dump);
	else
		set_dump_timer(dump, 0);
}

static void
try_dump(struct dump *dump)
{
	struct zombies *lists = dump->from->lists;

	if (lists != NULL)
		zombies_reset_unheard(lists, UNHEARD_MS);
	if (owes_list(dump->from)) {
		wait_while_busy(dump);
		return;
	}
	dump->handler->begins(dump->owner);
	if (dump->from->state == PEER_INVALIDATE) {
		/* It gets no effects, so none is queued. */
		connect_dump(dump);
		return;
	}
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
	if (!may_be_listed(dump->from))
		end_dump(dump, DUMP_LOST);
	else if (is_unanswered(dump))
		wait_while_busy(dump);
	else if (dump->conn != NULL)
		retry_dump(dump, "it fell silent");
	else if (dump->from->state == PEER_STARTING)
		set_dump_timer(dump, RETRY_PAUSE_MS);
	else if (!abilities_has(&dump->from->abilities, ABILITY_META_READ))
		end_dump(dump, DUMP_UNABLE);
	else if (dump->tries < TRIES_MAX)
		try_dump(dump);
	else
		end_dump(dump, DUMP_FAILED);
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
