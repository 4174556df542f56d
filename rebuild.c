/*
 * Copy to a server that has returned what it lacks.
 *
 *   metadump of a survivor -> keys -> mg (authority) -> add (returned server)
 *   dirty keys --------------^        at most COPIES_MAX at a time
 *
 * Invariant: a key that has been found and is not yet answered for by the
 * returned server is in keys or in one copy, so that rebuild_stop() knows all
 * that is missing.
 *
 * A dump is read as fast as it comes, on a connection of its own: a reader who
 * stalls blocks a thread of the survivor.  If the keys do not fit in memory,
 * the dump is given up and repeated in slices.
 */

#include "rebuild.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "block.h"
#include "conn.h"
#include "gate.h"
#include "keys.h"
#include "log.h"
#include "pair.h"
#include "proto.h"
#include "server.h"

enum {
	COPIES_MAX = 64,	/* in flight */
	COPIES_PER_MS = 50,	/* so that the clients hardly notice */
	COPIES_BURST = 200,	/* at once, after a pause */
	DUMP_SILENCE_MS = 2000,	/* then it is given up */
	DUMP_PAUSE_MS = 500,	/* before it is tried again */
	DUMP_TRIES = 20,	/* per survivor */
	SLICES_MAX = 4096,
	RELATIVE_MAX = 60 * 60 * 24 * 30,	/* seconds: a longer TTL is
						   given as a time */
	LINE_MAX = PROTO_KEY_MAX * 4 / 3 + 128
};

struct copy {
	struct call call;
	struct rebuild *rebuild;
	struct peer *asked;		/* the authority when it was asked */
	uint32_t hash;
	struct copy *next_idle;
	bool busy;
	bool base64;
	size_t length;
	char key[PROTO_KEY_MAX];	/* as on a command line */
};

/* Reading the keys of a survivor. */
struct dump {
	struct conn *conn;		/* NULL: between two tries, or over */
	size_t index;			/* of the survivor among the peers */
	unsigned int tries;
	uint64_t slice, slices;
	bool overflowed;
	bool over;			/* no survivor is left */
};

struct rebuild {
	struct conn_loop *loop;
	struct pairs *pairs;
	struct peer *to;
	const struct rebuild_news *news;
	void *owner;
	size_t memory;
	bool all;
	bool started;
	bool stopped;
	bool unreadable;
	struct keys *keys;
	struct copy copies[COPIES_MAX];
	struct copy *idle;
	unsigned int busy;
	struct waiter waiter;
	struct dump dump;
	struct event *timer;
	struct event *pace;		/* until more copies may begin */
	int64_t paced_ms;		/* at this time ... */
	int64_t allowed;		/* ... so many more might begin */
	int64_t began_ms;
	uint64_t copied, overtaken, gone;
};

static void pump(struct rebuild *rebuild);
static void start_dump(struct rebuild *rebuild);

/*
 * Ending
 */

static void
rebuild_free(struct rebuild *rebuild)
{
	assert(rebuild->busy == 0);
	if (rebuild->dump.conn != NULL)
		conn_close(rebuild->dump.conn, true);
	gate_wait_cancel(pairs_gate(rebuild->pairs), &rebuild->waiter);
	if (rebuild->timer != NULL)
		event_free(rebuild->timer);
	if (rebuild->pace != NULL)
		event_free(rebuild->pace);
	keys_free(rebuild->keys);
	free(rebuild);
}

/* Tell how it ended; then the rebuild ends, too. */
static void
end(struct rebuild *rebuild, void (*handler)(void *owner))
{
	rebuild->stopped = true;
	handler(rebuild->owner);
	if (rebuild->busy == 0)
		rebuild_free(rebuild);
}

void
rebuild_stop(struct rebuild *rebuild)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;
	int i;

	rebuild->stopped = true;
	/* If it lacked anything, everything will be copied again anyway. */
	while (!rebuild->all &&
	    keys_take(rebuild->keys, key, &length, &base64))
		peer_add_dirty(rebuild->to, key, length, base64);
	/* These may still be added when it wakes. */
	for (i = 0; i < COPIES_MAX; i++)
		if (rebuild->copies[i].busy)
			peer_add_dirty(rebuild->to, rebuild->copies[i].key,
			    rebuild->copies[i].length,
			    rebuild->copies[i].base64);
	if (rebuild->dump.conn != NULL)
		conn_close(rebuild->dump.conn, true);
	rebuild->dump.conn = NULL;
	event_del(rebuild->timer);
	event_del(rebuild->pace);
	if (rebuild->busy == 0)
		rebuild_free(rebuild);
}

/*
 * Copies
 */

static void
release(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;

	copy->busy = false;
	copy->next_idle = rebuild->idle;
	rebuild->idle = copy;
	rebuild->busy--;
}

/* A copy is dealt with: go on, or end if that was all. */
static void
finish(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;

	release(copy);
	if (!rebuild->stopped)
		pump(rebuild);
	else if (rebuild->busy == 0)
		rebuild_free(rebuild);
}

static void
on_added(struct call *call, const struct answer *answer)
{
	struct copy *copy = (struct copy *)call;
	struct rebuild *rebuild = copy->rebuild;
	struct peer *to = rebuild->to;

	/* Without an answer rebuild_stop() has run. */
	assert(answer != NULL || rebuild->stopped);
	if (answer != NULL && (answer->last.result == PROTO_STORED ||
	    answer->last.result == PROTO_META_HD))
		rebuild->copied++;
	else if (answer != NULL)
		rebuild->overtaken++;
	finish(copy);
	peer_told(to);
}

/* What an mg says of an item besides its value. */
struct item {
	uint64_t flags;
	int64_t ttl;			/* -1: for ever */
	bool binary;
	struct proto_span key;		/* as it is echoed */
};

/* A TTL; -1 stands for no end. */
static int64_t
parse_ttl(const char *bytes, size_t n)
{
	if (n > 0 && bytes[0] == '-')
		return -1;
	return (int64_t)proto_number(bytes, n);
}

static struct item
parse_item(const char *bytes, const struct proto_span *meta)
{
	struct item item = { .ttl = -1 };
	struct proto_span token;
	size_t at = meta->at;

	while (proto_token(bytes, meta->at + meta->length, &at, &token)) {
		if (bytes[token.at] == 'f')
			item.flags = proto_number(bytes + token.at + 1,
			    token.length - 1);
		else if (bytes[token.at] == 't')
			item.ttl = parse_ttl(bytes + token.at + 1,
			    token.length - 1);
		else if (bytes[token.at] == 'b')
			item.binary = true;
		else if (bytes[token.at] == 'k')
			item.key = (struct proto_span){ token.at + 1,
			    token.length - 1 };
	}
	return item;
}

/* The exptime that stands for a TTL; times are those of the returned server. */
static int64_t
exptime(const struct rebuild *rebuild, int64_t ttl)
{
	if (ttl < 0)
		return 0;
	if (ttl <= RELATIVE_MAX)
		return ttl;
	return ttl + (int64_t)time(NULL) + rebuild->to->clock_ahead;
}

static void
add(struct copy *copy, const struct answer *answer, const struct item *item)
{
	const struct proto_span *data = &answer->last.data;
	struct rebuild *rebuild = copy->rebuild;
	long long expires = exptime(rebuild, item->ttl);
	const char *bytes = answer->bytes + data->at;
	struct block *block = NULL;
	char line[LINE_MAX];
	size_t offset;
	int n;

	if (item->binary)
		n = snprintf(line, sizeof(line), "ms %.*s %u b ME F%llu "
		    "T%lld\r\n", (int)item->key.length,
		    answer->bytes + item->key.at, data->length,
		    (unsigned long long)item->flags, expires);
	else
		n = snprintf(line, sizeof(line), "add %.*s %llu %lld %u\r\n",
		    (int)copy->length, copy->key,
		    (unsigned long long)item->flags, expires, data->length);
	assert(n > 0 && (size_t)n < sizeof(line));
	if (data->length >= BLOCK_SMALL) {
		block = answer_keep(answer, bytes, data->length + 2, &offset);
		if (block != NULL)
			bytes = block->bytes + offset;
	}
	copy->call.expect = item->binary ? PROTO_EXPECT_META_SET :
	    PROTO_EXPECT_STORED;
	copy->call.done = on_added;
	peer_tell(rebuild->to, copy->hash, &copy->call, line, (size_t)n,
	    bytes, data->length + 2, block);
	block_release(block);
}

static void
on_read(struct call *call, const struct answer *answer)
{
	struct copy *copy = (struct copy *)call;
	struct rebuild *rebuild = copy->rebuild;
	struct peer *asked = copy->asked;
	struct item item = { .ttl = 0 };

	if (answer != NULL && answer->last.result == PROTO_META_VALUE)
		item = parse_item(answer->bytes, &answer->last.meta);
	if (rebuild->stopped) {
		finish(copy);
	} else if (answer == NULL) {
		/* Ask again, who is the authority then. */
		if (!rebuild_add(rebuild, copy->key, copy->length,
		    copy->base64))
			rebuild->gone++;
		finish(copy);
	} else if (item.ttl != 0) {
		add(copy, answer, &item);
	} else {
		rebuild->gone++;
		finish(copy);
	}
	peer_told(asked);
}

/* Read the key of a copy from its authority, if that is another server. */
static bool
read_key(struct copy *copy)
{
	struct rebuild *rebuild = copy->rebuild;
	struct pair pair = pairs_find_wire(rebuild->pairs, copy->key,
	    copy->length, copy->base64);
	char line[LINE_MAX];
	int n;

	copy->asked = pair_authority(&pair);
	copy->hash = pair.hash;
	if (copy->asked == NULL || copy->asked == rebuild->to)
		return false;
	n = snprintf(line, sizeof(line), "mg %.*s%s k f t v\r\n",
	    (int)copy->length, copy->key, copy->base64 ? " b" : "");
	assert(n > 0 && (size_t)n < sizeof(line));
	copy->call.expect = PROTO_EXPECT_META_GET;
	copy->call.done = on_read;
	copy->call.element = NULL;
	peer_tell(copy->asked, pair.hash, &copy->call, line, (size_t)n, NULL,
	    0, NULL);
	return true;
}

/* Whether all has been found and copied. */
static bool
is_complete(const struct rebuild *rebuild)
{
	return rebuild->started && rebuild->dump.over &&
	    rebuild->busy == 0 && keys_count(rebuild->keys) == 0;
}

/* Whether another copy may begin now; if not, it is seen to that they go on a
   little later. */
static bool
is_in_pace(struct rebuild *rebuild)
{
	struct timeval soon = { .tv_usec = 1000 };
	int64_t now = conn_loop_now(rebuild->loop);

	rebuild->allowed += (now - rebuild->paced_ms) * COPIES_PER_MS;
	rebuild->paced_ms = now;
	if (rebuild->allowed > COPIES_BURST)
		rebuild->allowed = COPIES_BURST;
	if (rebuild->allowed > 0) {
		rebuild->allowed--;
		return true;
	}
	event_add(rebuild->pace, &soon);
	return false;
}

static void
start_copies(struct rebuild *rebuild)
{
	struct copy *copy;

	while ((copy = rebuild->idle) != NULL &&
	    keys_count(rebuild->keys) > 0 && is_in_pace(rebuild)) {
		keys_take(rebuild->keys, copy->key, &copy->length,
		    &copy->base64);
		rebuild->idle = copy->next_idle;
		copy->busy = true;
		rebuild->busy++;
		if (!read_key(copy)) {
			rebuild->gone++;
			release(copy);
		}
	}
}

/* Keep the copies going. */
static void
pump(struct rebuild *rebuild)
{
	struct gate *gate = pairs_gate(rebuild->pairs);

	if (!rebuild->started || rebuild->stopped)
		return;
	if (gate_is_closed(gate)) {
		if (!rebuild->waiter.waiting)
			gate_wait(gate, &rebuild->waiter);
		return;
	}
	start_copies(rebuild);
	if (rebuild->dump.overflowed && keys_count(rebuild->keys) == 0)
		start_dump(rebuild);
	/* The end is told from the loop, not from inside some call. */
	if (is_complete(rebuild))
		event_active(rebuild->timer, EV_TIMEOUT, 0);
}

static void
on_pace(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pump(arg);
}

static void
on_wake(struct waiter *waiter)
{
	pump((struct rebuild *)((char *)waiter -
	    offsetof(struct rebuild, waiter)));
}

/*
 * Dumps
 */

static void
set_timer(struct rebuild *rebuild, int ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000
	};

	event_add(rebuild->timer, &wait);
}

static struct peer *
survivor(const struct rebuild *rebuild)
{
	return pairs_peer(rebuild->pairs, rebuild->dump.index);
}

/* Whether peer holds keys that the returned server should hold, too. */
static bool
is_survivor(const struct rebuild *rebuild, const struct peer *peer)
{
	const struct peer *to = rebuild->to;

	return peer != to && peer_is_believed(peer) &&
	    ((to->primary && peer->backup) || (to->backup && peer->primary));
}

static void
close_dump(struct rebuild *rebuild)
{
	if (rebuild->dump.conn != NULL)
		conn_close(rebuild->dump.conn, true);
	rebuild->dump.conn = NULL;
}

/* On to the next survivor, from the index-th peer on. */
static void
next_survivor(struct rebuild *rebuild, size_t index)
{
	struct dump *dump = &rebuild->dump;
	size_t n = pairs_peer_count(rebuild->pairs);

	while (index < n &&
	    !is_survivor(rebuild, pairs_peer(rebuild->pairs, index)))
		index++;
	*dump = (struct dump){ .index = index, .slices = 1,
	    .over = index == n };
	if (dump->over)
		pump(rebuild);
	else
		start_dump(rebuild);
}

/* A dump is whole: take the next slice, or the next survivor. */
static void
end_dump(struct rebuild *rebuild)
{
	struct dump *dump = &rebuild->dump;

	close_dump(rebuild);
	event_del(rebuild->timer);
	if (++dump->slice < dump->slices)
		start_dump(rebuild);
	else
		next_survivor(rebuild, dump->index + 1);
}

/* A survivor cannot be read at all. */
static void
give_up(struct rebuild *rebuild)
{
	close_dump(rebuild);
	rebuild->unreadable = true;
	/* This is told from the loop, too. */
	event_active(rebuild->timer, EV_TIMEOUT, 0);
}

/* The dump broke off, or did not begin. */
static void
retry_dump(struct rebuild *rebuild, const char *why)
{
	struct dump *dump = &rebuild->dump;

	log_info("s %s: no list of keys from %s: %s",
	    peer_name(rebuild->to), peer_name(survivor(rebuild)), why);
	close_dump(rebuild);
	if (!is_survivor(rebuild, survivor(rebuild)))
		next_survivor(rebuild, dump->index + 1);
	else if (++dump->tries < DUMP_TRIES)
		set_timer(rebuild, DUMP_PAUSE_MS);
	else
		give_up(rebuild);
}

/* Too many keys for the memory: go on in slices once these are copied. */
static void
overflow(struct rebuild *rebuild)
{
	struct dump *dump = &rebuild->dump;

	close_dump(rebuild);
	event_del(rebuild->timer);
	dump->overflowed = true;
	if (dump->slices < SLICES_MAX) {
		dump->slices *= 4;
		dump->slice *= 4;
	}
	pump(rebuild);
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo the %xx in n bytes; out has room for PROTO_KEY_MAX.  Returns the length,
   or 0 if that is no key. */
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
		if (n - i < 3 || hex(bytes[i + 1]) < 0 ||
		    hex(bytes[i + 2]) < 0)
			return 0;
		out[length++] = (char)(hex(bytes[i + 1]) * 16 +
		    hex(bytes[i + 2]));
		i += 2;
	}
	return length;
}

/* Whether the key is in the slice that is being copied. */
static bool
is_in_slice(const struct dump *dump, const char *key, size_t length)
{
	uint32_t hash = 2166136261u;
	size_t i;

	if (dump->slices == 1)
		return true;
	for (i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)key[i]) * 16777619u;
	return (hash >> 8) % dump->slices == dump->slice;
}

static bool
is_pair_of(const struct pair *pair, const struct peer *one,
    const struct peer *other)
{
	return (pair->primary == one && pair->backup == other) ||
	    (pair->primary == other && pair->backup == one);
}

/* A key of the survivor's.  Returns false when out of memory. */
static bool
take_key(struct rebuild *rebuild, const char *bytes, size_t n)
{
	const struct peer *from = survivor(rebuild);
	char key[PROTO_KEY_MAX], encoded[KEYS_BASE64_MAX];
	size_t length = decode_key(bytes, n, key);
	struct pair pair;

	if (length == 0 || !is_in_slice(&rebuild->dump, key, length))
		return true;
	pair = pairs_find(rebuild->pairs, key, length);
	if (!is_pair_of(&pair, from, rebuild->to))
		return true;
	if (!keys_need_base64(key, length))
		return rebuild_add(rebuild, key, length, false);
	length = keys_base64(key, length, encoded);
	return length > PROTO_KEY_MAX ||
	    rebuild_add(rebuild, encoded, length, true);
}

/*
 * A line of the dump.  Returns false if the dump has ended by it.
 */
static bool
take_line(struct rebuild *rebuild, const char *line, size_t n)
{
	const char *end;

	if (n > 0 && line[n - 1] == '\r')
		n--;
	if (n >= 4 && memcmp(line, "key=", 4) == 0) {
		end = memchr(line, ' ', n);
		if (take_key(rebuild, line + 4,
		    (end == NULL ? n : (size_t)(end - line)) - 4) &&
		    keys_bytes(rebuild->keys) <= rebuild->memory)
			return true;
		overflow(rebuild);
	} else if (n == 3 && memcmp(line, "END", 3) == 0) {
		end_dump(rebuild);
	} else if (n == 2 && memcmp(line, "OK", 2) == 0) {
		return true;
	} else if (n >= 4 && memcmp(line, "BUSY", 4) == 0) {
		retry_dump(rebuild, "it is busy");
	} else {
		/* ERROR: it knows no such command, or may not do it. */
		give_up(rebuild);
	}
	return false;
}

static size_t
on_dump(void *owner, const char *bytes, size_t n)
{
	struct rebuild *rebuild = owner;
	size_t used = 0;
	const char *lf;
	size_t length;

	while ((lf = memchr(bytes + used, '\n', n - used)) != NULL) {
		length = (size_t)(lf - bytes) - used;
		if (!take_line(rebuild, bytes + used, length))
			return n;
		used += length + 1;
	}
	if (n - used > PROTO_LINE_MAX) {
		retry_dump(rebuild, "it talks nonsense");
		return n;
	}
	set_timer(rebuild, DUMP_SILENCE_MS);
	pump(rebuild);
	return used;
}

static void
on_drained(void *owner)
{
	(void)owner;
}

static void
on_ended(void *owner, enum conn_end end)
{
	struct rebuild *rebuild = owner;

	retry_dump(rebuild, end == CONN_EOF ? "it closed the connection" :
	    strerror(conn_error(rebuild->dump.conn)));
}

static const struct conn_handler dump_handler = {
	.input = on_dump, .drained = on_drained, .ended = on_ended
};

/* Ask the survivor for its keys. */
static void
start_dump(struct rebuild *rebuild)
{
	struct dump *dump = &rebuild->dump;
	const struct peer *from = survivor(rebuild);
	const char *line = "lru_crawler metadump hash\r\n";
	int fd;

	dump->overflowed = false;
	if (!is_survivor(rebuild, from)) {
		next_survivor(rebuild, dump->index + 1);
		return;
	}
	if (!identity_is_since(&from->identity, 1, 6, 0)) {
		give_up(rebuild);
		return;
	}
	if (!identity_is_since(&from->identity, 1, 6, 9))
		line = "lru_crawler metadump all\r\n";
	dump->conn = conn_new(rebuild->loop, CONN_FIRST, &dump_handler,
	    rebuild);
	fd = dump->conn == NULL ? -1 : server_dial(from->server);
	if (fd == -1 || !conn_attach(dump->conn, fd)) {
		if (fd != -1)
			close(fd);
		retry_dump(rebuild, "no connection");
		return;
	}
	conn_write(dump->conn, line, strlen(line));
	set_timer(rebuild, DUMP_SILENCE_MS);
}

/* The time of a pause or a silence is over; or there is an end to tell. */
static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct rebuild *rebuild = arg;

	(void)fd;
	(void)what;
	if (rebuild->unreadable)
		end(rebuild, rebuild->news->impossible);
	else if (is_complete(rebuild))
		end(rebuild, rebuild->news->done);
	else if (rebuild->dump.conn != NULL)
		retry_dump(rebuild, "it fell silent");
	else if (!rebuild->dump.over && !rebuild->dump.overflowed)
		start_dump(rebuild);
}

/*
 * Life
 */

struct rebuild *
rebuild_new(struct conn_loop *loop, struct pairs *pairs, struct peer *to,
    size_t memory, const struct rebuild_news *news, void *owner)
{
	struct rebuild *rebuild = calloc(1, sizeof(*rebuild));
	int i;

	if (rebuild == NULL)
		return NULL;
	rebuild->loop = loop;
	rebuild->pairs = pairs;
	rebuild->to = to;
	rebuild->memory = memory;
	rebuild->news = news;
	rebuild->owner = owner;
	rebuild->waiter.wake = on_wake;
	for (i = 0; i < COPIES_MAX; i++) {
		rebuild->copies[i].rebuild = rebuild;
		rebuild->copies[i].next_idle = rebuild->idle;
		rebuild->idle = &rebuild->copies[i];
	}
	rebuild->keys = keys_new();
	rebuild->timer = event_new(conn_loop_base(loop), -1, 0, on_timer,
	    rebuild);
	rebuild->pace = event_new(conn_loop_base(loop), -1, 0, on_pace,
	    rebuild);
	if (rebuild->keys == NULL || rebuild->timer == NULL ||
	    rebuild->pace == NULL) {
		rebuild_free(rebuild);
		return NULL;
	}
	return rebuild;
}

bool
rebuild_add(struct rebuild *rebuild, const char *key, size_t length,
    bool base64)
{
	return keys_add(rebuild->keys, key, length, base64);
}

void
rebuild_start(struct rebuild *rebuild, bool all)
{
	rebuild->all = all;
	rebuild->started = true;
	rebuild->began_ms = conn_loop_now(rebuild->loop);
	rebuild->paced_ms = rebuild->began_ms;
	rebuild->dump.over = !all;
	if (all)
		next_survivor(rebuild, 0);
	else
		pump(rebuild);
}

struct rebuild_progress
rebuild_progress(const struct rebuild *rebuild)
{
	int64_t ms = conn_loop_now(rebuild->loop) - rebuild->began_ms;
	struct rebuild_progress progress = {
		.copied = rebuild->copied, .overtaken = rebuild->overtaken,
		.gone = rebuild->gone, .searching = !rebuild->dump.over,
		.left = keys_count(rebuild->keys) + rebuild->busy
	};

	if (rebuild->started && ms > 0)
		progress.per_second = (rebuild->copied + rebuild->overtaken +
		    rebuild->gone) * 1000 / (uint64_t)ms;
	return progress;
}
