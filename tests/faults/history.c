/*
 * Load that leaves a history: many clients on few keys, for checker.py.
 *
 * history -p [ADDRESS:]PORT [-p ...] -o PREFIX [-c CLIENTS] [-k HOT KEYS]
 *     [-K COLD KEYS] [-r OPERATIONS/S] [-s SEED] [-C [ADDRESS:]PORT]
 *     [-l LIMIT MS] [-t SECONDS] [-g MS]
 *     [-n NAME] [-B] [-M] [-A] [-x PERCENT] [-f SECONDS] [-D]
 *
 * The keys begin with NAME; so many PERCENT of the operations go to the hot
 * keys, which come first.  -B leaves out what memcached 1.4 has not.  -M leaves
 * out most meta commands, so that no value is ever stale and nobody is told to
 * set one, and also q and base64.  -A leaves out noreply: an error would not be
 * seen.
 * The clients are spread over the ports, four at most.  -g is for an address
 * that moves: a client that has no answer for so long, or no connection, tries
 * with another connection.
 * Each client has one request under way; it may be of several operations: a
 * get of many keys, or a noreply write and the get behind it.  Values never
 * repeat.  Operations are written to PREFIX.0, PREFIX.1 and so on in the order
 * in which they returned, as checker.py says, and PREFIX.end at the end, which
 * comes when stdin closes, on SIGTERM or after SECONDS.  stdout has a line of
 * numbers each second, stderr what no memcached would have said.
 *
 * A third of the load are meta commands that mark an item as stale, or as one
 * that a client was told to set, or that use a token: this client is told, and
 * does.  Some have q, with an mn behind them, and some a key in base64.
 *
 * With -f one more client sends flush_all every SECONDS or so, and with -D half
 * of them are to happen after one or two seconds.  On stdin "f" has it begin,
 * "F" end, and "m" prints the numbers since the last "m".  "PORTp" has all
 * clients turn to that port at once: they close their connections, whatever is
 * under way there.
 *
 * The control is a memcached without faults that is asked all the time: what
 * it takes to answer is the noise of this machine.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
	WORD = 3000, /* bytes of a state as it is written down */
	OPS = 8,     /* of one request */
	HELD = 4,    /* cas tokens that a client remembers */
	INPUT = 256 << 10,
	PIECE = 20000, /* operations in a file */
	CROWD = 50,    /* operations until a key has a pause */
	WIDTH = 8,     /* operations of a key at a time */
	PORTS = 4,
	JOINS = 6, /* of CROWD, those that join a value to another */
	EVENTS = 256,
	RETRY_MS = 20,  /* to connect */
	BUCKET_MS = 10, /* of the noise */
	BUCKETS = 4096,
	SLOW_US = 50000, /* from here on noise is distinguished */
	SLOWS = 4096,
	STEPS = 16, /* of the histogram, per doubling */
	BARS = 40 * STEPS,
};

/* Those of a value come first, and then those with a value. */
enum kind {
	GET,
	GETS,
	GAT,
	GATS,
	MG,
	MG_MAKE,
	MG_RENEW,
	SET,
	ADD,
	REPLACE,
	APPEND,
	PREPEND,
	CAS,
	MS,
	MS_ADD,
	MS_REPLACE,
	MS_APPEND,
	MS_PREPEND,
	MS_APPEND_MAKE,
	MS_PREPEND_MAKE,
	MS_STALE,
	INCR,
	DECR,
	DELETE,
	TOUCH,
	MA,
	MA_DECR,
	MA_MAKE,
	MD,
	MD_STALE,
	FLUSH,
	KINDS,
};

#define ONE(kind) ((uint64_t)1 << (kind))
#define FROM_TO(first, last) (ONE((last) + 1) - ONE(first))

/* How often each kind is drawn: on keys that hold text or a number, and there
   for a token that was read. */
enum draw { TEXT, NUMBER, TEXT_TOKEN, NUMBER_TOKEN, DRAWS };

/* Behind the key of a meta command are its words.  -B leaves nothing but
   OLDEST, and -M nothing that is NEW. */
static struct {
	const char *name, *words;
	int weights[DRAWS];
	enum { OLDEST, OLD, NEW } since;
} kinds[KINDS] = {
	[GET] = { "get", NULL, { 22, 14, 0, 0 }, OLDEST },
	[GETS] = { "gets", NULL, { 8, 6, 0, 0 }, OLDEST },
	[GAT] = { "gat", NULL, { 4, 3, 0, 0 }, OLD },
	[GATS] = { "gats", NULL, { 3, 3, 0, 0 }, NEW },
	[MG] = { "mg", "", { 8, 6, 0, 0 }, OLD },
	[MG_MAKE] = { "mg:N", "", { 7, 0, 0, 0 }, NEW },
	[MG_RENEW] = { "mg:R", " R2000000", { 3, 4, 0, 0 }, NEW },
	[SET] = { "set", NULL, { 12, 4, 0, 0 }, OLDEST },
	[ADD] = { "add", NULL, { 8, 5, 0, 0 }, OLDEST },
	[REPLACE] = { "replace", NULL, { 5, 0, 0, 0 }, OLDEST },
	[APPEND] = { "append", NULL, { 5, 0, 0, 0 }, OLDEST },
	[PREPEND] = { "prepend", NULL, { 4, 0, 0, 0 }, OLDEST },
	[CAS] = { "cas", NULL, { 8, 6, 6, 6 }, OLDEST },
	[MS] = { "ms", "", { 4, 2, 5, 3 }, OLD },
	[MS_ADD] = { "ms:E", " ME", { 3, 2, 0, 0 }, NEW },
	[MS_REPLACE] = { "ms:R", " MR", { 2, 2, 1, 1 }, NEW },
	[MS_APPEND] = { "ms:A", " MA", { 3, 0, 1, 0 }, NEW },
	[MS_PREPEND] = { "ms:P", " MP", { 2, 0, 1, 0 }, NEW },
	[MS_APPEND_MAKE] = { "ms:AN", " MA N0", { 1, 0, 0, 0 }, NEW },
	[MS_PREPEND_MAKE] = { "ms:PN", " MP N90000", { 1, 0, 0, 0 }, NEW },
	[MS_STALE] = { "ms:I", " I", { 0, 0, 4, 3 }, NEW },
	[INCR] = { "incr", NULL, { 0, 20, 0, 0 }, OLDEST },
	[DECR] = { "decr", NULL, { 0, 10, 0, 0 }, OLDEST },
	[DELETE] = { "delete", NULL, { 8, 4, 0, 0 }, OLDEST },
	[TOUCH] = { "touch", NULL, { 5, 4, 0, 0 }, OLDEST },
	[MA] = { "ma", "", { 0, 6, 0, 2 }, NEW },
	[MA_DECR] = { "ma:D", " MD", { 0, 3, 0, 1 }, NEW },
	[MA_MAKE] = { "ma:N", "", { 0, 6, 0, 0 }, NEW },
	[MD] = { "md", "", { 2, 2, 1, 1 }, OLD },
	[MD_STALE] = { "md:I", " I", { 6, 4, 1, 1 }, NEW },
	[FLUSH] = { "flush", NULL, { 0, 0, 0, 0 }, NEW },
};

struct key {
	char name[251];
	bool number;
	bool used; /* by an operation, under its present name */
	int index, generation;
	int in_flight;
	int crowd;   /* operations since it was quiet */
	int joins;   /* of these, those that join a value to another */
	int unknown; /* operations that were not answered */
	size_t size; /* of its value, as last heard of */
};

struct op {
	enum kind kind;
	struct key *key;
	bool noreply; /* noreply, or q */
	char a[WORD], b[WORD], result[WORD];
};

struct held {
	struct key *key;
	int generation;
	uint64_t token;
	char state[WORD];
};

struct client {
	int fd, number;
	bool busy;
	int64_t call, next;
	struct op ops[OPS];
	int count;
	struct held held[HELD];
	int fresh; /* the last one of held, or -1 */
	char *input;
	size_t length;
};

struct slow {
	int64_t call, end;
};

/* Client N is at N % port_count. */
static struct sockaddr_in addresses[PORTS], control_address;
static int port_count;
static const char *prefix, *name = "";
static int client_count = 48, flushers, hot = 24, cold = 200, hot_share = 90;
static double rate = 12000;
static int64_t limit_us = 300000;
static int give_up_ms = 10000; /* without an answer, or a connection */
static uint64_t seed = 1;

static struct key *keys;
static struct client *clients;
static int epoll;
static volatile sig_atomic_t ended;
static int number_read; /* from stdin */
static int next_port;   /* to turn to, or 0 */

/* A flush_all whose time has not passed yet, if call is not 0.  It is over at
   end, if that is not 0. */
static struct {
	int64_t call, end;
	int delay;
} flush;
static double flush_seconds;
static bool flushing, delayed_flushes;
/* Meta commands may have q and b; others may have noreply. */
static bool all_flags = true, with_noreply = true;

static FILE *piece;
static int piece_number;
static long piece_length;

static int control = -1;
static int64_t control_since; /* asked then; 0: not waiting */
static int64_t noise[BUCKETS], noise_at[BUCKETS];
static struct slow slows[SLOWS];
static int slow_count;

static uint64_t total, flushes, errors, closed, hung, late, cas_stored,
    cas_refused;
static int64_t worst, worst_quiet, noise_worst;
static uint64_t bars[BARS], mark_bars[BARS], mark_ops, unique;
static int64_t mark_worst, mark_since;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
}

static uint64_t
draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1du >> 16;
}

static int
below(int n)
{
	return (int)(draw() % (uint64_t)n);
}

/*
 * The history
 */

static void
piece_path(char *path, size_t size, const char *end)
{
	snprintf(path, size, "%s.%d%s", prefix, piece_number, end);
}

static void
piece_end(void)
{
	char from[4096], to[4096];

	if (piece == NULL)
		return;
	if (fclose(piece) != 0)
		die("history");
	piece = NULL;
	piece_path(from, sizeof(from), ".part");
	piece_path(to, sizeof(to), "");
	if (rename(from, to) == -1)
		die(to);
	piece_number++;
}

static const char *
or_dash(const char *word)
{
	return *word == '\0' ? "-" : word;
}

/* Begin a piece, if there is none. */
static void
piece_begin(void)
{
	char path[4096];

	if (piece != NULL)
		return;
	piece_path(path, sizeof(path), ".part");
	piece = fopen(path, "w");
	if (piece == NULL)
		die(path);
	piece_length = 0;
}

static void
record_line(const struct key *key, int client, const char *op, const char *a,
    const char *b, int64_t call, int64_t end, const char *result)
{
	piece_begin();
	fprintf(piece, "%s %d %s %s %s %" PRId64 " %" PRId64 " %s %d\n",
	    key->name, client, op, or_dash(a), or_dash(b), call, end, result,
	    key->in_flight == 0);
	total++;
	if (++piece_length == PIECE)
		piece_end();
}

static void
record(const struct client *client, int i, int64_t end)
{
	const struct op *op = &client->ops[i];

	op->key->in_flight--;
	if (op->key->in_flight == 0)
		op->key->crowd = op->key->joins = 0;
	op->key->unknown += op->result[0] == '?';
	record_line(op->key, client->number, kinds[op->kind].name, op->a, op->b,
	    client->call + i, end, op->result);
}

/* A flush_all may happen to a key from now on, or has happened. */
static void
record_flush(const struct key *key, int64_t end)
{
	record_line(key, client_count, kinds[FLUSH].name, "", "", flush.call,
	    end, end == 0 ? "?" : "ok");
}

static void
flush_begin(int64_t now)
{
	int i;

	flush.call = now;
	flush.end = 0;
	for (i = 0; i < hot + cold; i++)
		if (keys[i].used)
			record_flush(&keys[i], 0);
}

/* It has happened, or nobody knows whether it will. */
static void
flush_finish(bool happened, int64_t now)
{
	int i;

	for (i = 0; i < hot + cold; i++) {
		if (!keys[i].used)
			continue;
		keys[i].unknown += !happened;
		if (happened)
			record_flush(&keys[i], now);
	}
	flush.call = 0;
	flushes += happened;
}

/*
 * Time
 */

static int
bar_of(int64_t us)
{
	int doubling = 0;
	int bar;

	while (us >> doubling >= 2 * STEPS)
		doubling++;
	bar = doubling * STEPS + (int)(us >> doubling);
	return bar < BARS ? bar : BARS - 1;
}

static int64_t
quantile(const uint64_t *from, double part)
{
	uint64_t sum = 0, seen = 0;
	int i, doubling;

	for (i = 0; i < BARS; i++)
		sum += from[i];
	for (i = 0; i < BARS; i++) {
		seen += from[i];
		if ((double)seen >= part * (double)sum)
			break;
	}
	doubling = i < 2 * STEPS ? 0 : i / STEPS - 1;
	return (int64_t)(i - doubling * STEPS) << doubling;
}

static int64_t
noise_of(const struct slow *slow)
{
	int64_t i, most = 0;

	for (i = slow->call / 1000000 / BUCKET_MS;
	     i <= slow->end / 1000000 / BUCKET_MS; i++)
		if (noise_at[i % BUCKETS] == i && noise[i % BUCKETS] > most)
			most = noise[i % BUCKETS];
	return most;
}

/* The noise is known up to now: distinguish it from what was slow. */
static void
judge(void)
{
	int64_t us;
	int i;

	for (i = 0; i < slow_count; i++) {
		us = (slows[i].end - slows[i].call) / 1000 -
		    noise_of(&slows[i]);
		if (us > worst_quiet)
			worst_quiet = us;
		if (us > limit_us) {
			late++;
			fprintf(stderr, "LATE %.6f %.6f: %" PRId64 " us\n",
			    (double)slows[i].call / 1e9,
			    (double)slows[i].end / 1e9, us);
		}
	}
	slow_count = 0;
}

static void
measure(int64_t call, int64_t end)
{
	int64_t us = (end - call) / 1000;

	bars[bar_of(us)]++;
	mark_bars[bar_of(us)]++;
	mark_ops++;
	if (us > worst)
		worst = us;
	if (us > mark_worst)
		mark_worst = us;
	if (us > SLOW_US && slow_count < SLOWS) {
		slows[slow_count].call = call;
		slows[slow_count++].end = end;
	}
}

/*
 * Connections
 */

static int
connect_to(const struct sockaddr_in *to, void *data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = data };
	struct timeval limit = { give_up_ms / 1000, give_up_ms % 1000 * 1000 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	if (fd == -1)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) == -1) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	return fd;
}

static void
send_all(int fd, const char *bytes, size_t n)
{
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	ssize_t sent;

	while (n > 0) {
		sent = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent == -1 && errno == EAGAIN) {
			poll(&wait, 1, 100);
			continue;
		}
		if (sent == -1)
			return; /* the read will show it */
		bytes += sent;
		n -= (size_t)sent;
	}
}

static void
ask_control(void)
{
	if (control == -1)
		return;
	control_since = now_ns();
	send_all(control, "mn\r\n", 4);
}

static void
hear_control(void)
{
	char reply[16];
	int64_t now, us, i;

	if (read(control, reply, sizeof(reply)) <= 0)
		die("control");
	now = now_ns();
	us = (now - control_since) / 1000;
	if (us > noise_worst)
		noise_worst = us;
	for (i = control_since / 1000000 / BUCKET_MS;
	     i <= now / 1000000 / BUCKET_MS; i++) {
		if (noise_at[i % BUCKETS] != i || noise[i % BUCKETS] < us)
			noise[i % BUCKETS] = us;
		noise_at[i % BUCKETS] = i;
	}
	control_since = 0;
	judge();
}

/*
 * Requests
 */

struct request {
	char bytes[64 << 10];
	size_t length;
};

static struct request out;

/* Append to the request. */
static void add(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
add(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	out.length += (size_t)vsnprintf(out.bytes + out.length,
	    sizeof(out.bytes) - out.length, format, arguments);
	va_end(arguments);
	assert(out.length < sizeof(out.bytes));
}

static void
name_key(struct key *key)
{
	/* What a metadump writes with % and what is long, too. */
	static const char *const odd[] = {
		"",
		"",
		"%41",
		"/+&=",
		"\xc3\xa9",
		"~\"'\\",
		"\x7f\x01",
		"%",
	};
	int n;

	n = snprintf(key->name, sizeof(key->name), "%s%c%d.%d%s", name,
	    key->number ? 'n' : 't', key->index, key->generation,
	    odd[key->index % 8]);
	if (key->index % 13 == 5) {
		memset(key->name + n, 'L', 250 - (size_t)n);
		key->name[250] = '\0';
	}
	key->unknown = 0;
	key->used = false;
}

static struct key *
pick_any_key(void)
{
	return &keys[cold == 0 || below(100) < hot_share ? below(hot) :
							   hot + below(cold)];
}

static bool
is_crowded(const struct key *key)
{
	return key->crowd > CROWD || key->in_flight >= WIDTH;
}

static struct key *
pick_key(void)
{
	struct key *key = pick_any_key();
	int tries;

	/* The checker needs moments at which a key is quiet, and tries all
	   orders of what is under way. */
	for (tries = 0; is_crowded(key) && tries < 20; tries++)
		key = pick_any_key();

	if (key->unknown > 4 && key->in_flight == 0) {
		key->generation++;
		name_key(key);
	}
	return key;
}

static const char *
pick_exptime(void)
{
	static char absolute[32];

	switch (below(4)) {
	case 0:
		return "0";
	case 1:
		return "2592000";
	case 2:
		return "90000";
	default:
		snprintf(absolute, sizeof(absolute), "%lld",
		    (long long)time(NULL) + 60 * 86400);
		return absolute;
	}
}

/* A value that there has never been, and how it is written down.  Runs of
   dots fill it up: ".(7)" is seven of them. */
static size_t
make_value(const struct key *key, char *raw, char *written, bool may_be_long)
{
	int dots = 0;
	int n;

	if (key->number) {
		n = sprintf(raw, "%" PRIu64, draw() % ((uint64_t)1 << 40));
		strcpy(written, raw);
		return (size_t)n;
	}
	n = sprintf(raw, "u%" PRIx64, ++unique);
	strcpy(written, raw);
	if (may_be_long && below(10) == 0)
		dots = 1 + below(below(3) == 0 ? 8000 : 200);
	if (dots > 0)
		sprintf(written + n, ".(%d)", dots);
	memset(raw + n, '.', (size_t)dots);
	return (size_t)(n + dots);
}

static struct op *
new_op(struct client *client, enum kind kind, struct key *key)
{
	struct op *op = &client->ops[client->count++];

	assert(client->count <= OPS);
	op->kind = kind;
	op->key = key;
	op->noreply = false;
	op->a[0] = op->b[0] = op->result[0] = '\0';
	if (!key->used) {
		key->used = true;
		if (flush.call != 0)
			record_flush(key, 0);
	}
	key->in_flight++;
	key->crowd++;
	return op;
}

static bool
is_meta(enum kind kind)
{
	return kinds[kind].words != NULL;
}

static bool
is_one_of(enum kind kind, uint64_t set)
{
	return set >> kind & 1;
}

/* They join a value to what is there; making ones store it if nothing is. */
static const uint64_t joining = FROM_TO(APPEND, PREPEND) |
    FROM_TO(MS_APPEND, MS_PREPEND_MAKE);
static const uint64_t making = FROM_TO(MS_APPEND_MAKE, MS_PREPEND_MAKE);
static const uint64_t with_token = ONE(GETS) | ONE(GATS);

/* The name of a key in base64. */
static const char *
in_base64(const struct key *key)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static char text[400];
	size_t i, j, n = strlen(key->name);
	size_t at = 0;
	uint32_t bits;

	for (i = 0; i < n; i += 3) {
		bits = 0;
		for (j = i; j < i + 3; j++)
			bits = bits << 8 |
			    (j < n ? (unsigned char)key->name[j] : 0);
		for (j = 0; j < 4; j++)
			text[at++] = i + j > n ?
			    '=' :
			    digits[bits >> (18 - 6 * j) & 63];
	}
	text[at] = '\0';
	return text;
}

/* Decide on a value, and write it down. */
static size_t
draw_value(struct op *op, char *raw, unsigned int *flags)
{
	bool joins = is_one_of(op->kind, joining);
	char written[WORD];
	size_t n = make_value(op->key, raw, written, !joins);

	*flags = (unsigned int)below(4) * (unsigned int)below(1 << 30);
	if (joins && !is_one_of(op->kind, making))
		strcpy(op->a, written);
	else
		snprintf(op->a, sizeof(op->a), "%u:%.*s", *flags, 100, written);
	return n;
}

static void
add_storage(struct op *op, uint64_t token)
{
	static char raw[16 << 10];
	unsigned int flags;
	size_t n = draw_value(op, raw, &flags);

	add("%s %s %u %s %zu", kinds[op->kind].name, op->key->name, flags,
	    pick_exptime(), n);
	if (op->kind == CAS)
		add(" %" PRIu64, token);
	add("%s\r\n%.*s\r\n", op->noreply ? " noreply" : "", (int)n, raw);
}

/* What is behind the key, its b and the length of data. */
static void
add_meta_flags(struct op *op)
{
	uint64_t by = 1 + draw() % ((uint64_t)1 << 20);
	uint64_t first = draw() % ((uint64_t)1 << 40);

	add("%s", kinds[op->kind].words);
	switch (op->kind) {
	case MG:
	case MG_RENEW:
		add(" v f%s", below(2) == 0 ? " c" : "");
		break;
	case MG_MAKE:
		add(" v f c N%s", pick_exptime());
		break;
	case MA_MAKE:
		add(" v D%" PRIu64 " J%" PRIu64 " N%s", by, first,
		    pick_exptime());
		sprintf(op->a, "%" PRIu64 ",%" PRIu64, by, first);
		break;
	case MA:
	case MA_DECR:
		add(" v D%" PRIu64, by);
		sprintf(op->a, "%" PRIu64, by);
		break;
	default:
		break;
	}
	if (op->kind != MD && below(3) == 0)
		add(" T%s", pick_exptime());
}

/* A meta command, with a token if that is not 0. */
static void
add_meta(struct op *op, uint64_t token)
{
	static char raw[16 << 10];
	bool stores = is_one_of(op->kind, FROM_TO(MS, MS_STALE));
	bool base64 = all_flags && strlen(op->key->name) < 180 && below(8) == 0;
	unsigned int flags = 0;
	size_t n = 0;

	add("%.2s %s", kinds[op->kind].name,
	    base64 ? in_base64(op->key) : op->key->name);
	if (stores) {
		n = draw_value(op, raw, &flags);
		add(" %zu F%u", n, flags);
	}
	add("%s", base64 ? " b" : "");
	add_meta_flags(op);
	if (token != 0)
		add(" C%" PRIu64, token);
	add("%s\r\n", op->noreply ? " q" : "");
	if (stores)
		add("%.*s\r\n", (int)n, raw);
	if (op->noreply)
		add("mn\r\n");
}

static void
add_command(struct op *op)
{
	const char *tail = op->noreply ? " noreply" : "";
	const char *key = op->key->name;

	switch (op->kind) {
	case INCR:
	case DECR:
		snprintf(op->a, sizeof(op->a), "%" PRIu64,
		    1 + draw() % ((uint64_t)1 << (op->kind == INCR ? 32 : 20)));
		add("%s %s %s%s\r\n", kinds[op->kind].name, key, op->a, tail);
		break;
	case DELETE:
		add("delete %s%s\r\n", key, tail);
		break;
	case TOUCH:
		add("touch %s %s%s\r\n", key, pick_exptime(), tail);
		break;
	default:
		assert(op->kind != CAS && op->kind != MS_STALE);
		if (is_meta(op->kind))
			add_meta(op, 0);
		else
			add_storage(op, 0);
		break;
	}
}

static bool
has_key(const struct client *client, const struct key *key)
{
	int i;

	for (i = 0; i < client->count; i++)
		if (client->ops[i].key == key)
			return true;
	return false;
}

/* Several keys in a third of the cases. */
static void
add_get(struct client *client, enum kind kind, struct key *key)
{
	bool one = kind == GETS || kind == GATS;
	int more = !one && below(3) == 0 ? 1 + below(OPS - 1) : 0;

	add("%s", kinds[kind].name);
	if (kind == GAT || kind == GATS)
		add(" %s", pick_exptime());
	add(" %s", key->name);
	new_op(client, kind, key);
	while (more-- > 0) {
		key = pick_key();
		if (has_key(client, key))
			continue;
		new_op(client, kind, key);
		add(" %s", key->name);
	}
	add("\r\n");
}

static struct held *
pick_held(struct client *client)
{
	struct held *held = &client->held[below(HELD)];

	if (client->fresh >= 0)
		held = &client->held[client->fresh];
	client->fresh = -1;
	return held->key == NULL || held->generation != held->key->generation ?
	    NULL :
	    held;
}

static enum kind
draw_kind(enum draw draw)
{
	int n, sum = 0;
	int i;

	for (i = 0; i < KINDS; i++)
		sum += kinds[i].weights[draw];
	n = below(sum);
	for (i = 0; n >= kinds[i].weights[draw]; i++)
		n -= kinds[i].weights[draw];
	return (enum kind)i;
}

/* That kind, or another one if it would join too much for the checker. */
static enum kind
fit_kind(struct key *key, enum kind kind, enum kind otherwise)
{
	if (!is_one_of(kind, joining))
		return kind;
	if (key->size > 300 || key->joins >= JOINS)
		return otherwise;
	key->joins++;
	return kind;
}

static enum kind
pick_kind(struct key *key)
{
	return fit_kind(key, draw_kind(key->number ? NUMBER : TEXT), SET);
}

/* Use the token of a version: most are of the one that is there. */
static void
add_with_token(struct client *client, struct held *held)
{
	enum draw draw = held->key->number ? NUMBER_TOKEN : TEXT_TOKEN;
	enum kind kind = fit_kind(held->key, draw_kind(draw), MS);
	struct op *op = new_op(client, kind, held->key);
	uint64_t token = held->token;

	strcpy(op->b, held->state);
	if (kind == CAS) {
		add_storage(op, token);
	} else {
		if (below(30) == 0) {
			token += 1 << 30;
			strcpy(op->b, "+");
		}
		op->noreply = all_flags && below(7) == 0;
		add_meta(op, token);
	}
	if (below(3) > 0)
		held->key = NULL;
}

/* A write that is silent, and a get that is not. */
static void
add_noreply(struct client *client, enum kind kind, struct key *key)
{
	struct op *op = new_op(client, kind, key);

	op->noreply = true;
	add_command(op);
	new_op(client, GET, key);
	add("get %s\r\n", key->name);
}

static void
add_one(struct client *client, enum kind kind, struct key *key)
{
	struct op *op = new_op(client, kind, key);

	op->noreply = is_meta(kind) && all_flags && below(7) == 0;
	add_command(op);
}

static void
make_request(struct client *client)
{
	struct key *key = pick_key();
	enum kind kind = pick_kind(key);
	struct held *held = NULL;

	out.length = 0;
	client->count = 0;
	if (kind == CAS || (client->fresh >= 0 && below(3) > 0)) {
		held = pick_held(client);
		if (held == NULL)
			kind = GETS;
	}
	if (held != NULL)
		add_with_token(client, held);
	else if (kind <= GATS)
		add_get(client, kind, key);
	else if (with_noreply && !is_meta(kind) && below(7) == 0)
		add_noreply(client, kind, key);
	else
		add_one(client, kind, key);
}

static bool
is_flusher(const struct client *client)
{
	return client->number == client_count;
}

static void
make_flush(void)
{
	flush.delay = delayed_flushes && below(2) == 0 ? 1 + below(2) : 0;
	out.length = 0;
	if (flush.delay > 0)
		add("flush_all %d\r\n", flush.delay);
	else
		add("flush_all\r\n");
}

/*
 * Replies
 */

enum verdict { MORE, DONE, ERROR, NONSENSE };

struct text {
	const char *at, *end;
};

/* The next line, without its end; NULL: it has not all come. */
static const char *
next_line(struct text *text, size_t *length)
{
	const char *line = text->at;
	const char *end = memchr(line, '\n', (size_t)(text->end - line));

	if (end == NULL)
		return NULL;
	text->at = end + 1;
	*length = (size_t)(end - line);
	if (*length > 0 && end[-1] == '\r')
		--*length;
	return line;
}

static bool
is_word(const char *line, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(line, word, n) == 0;
}

/* Write down a value that was read. */
static bool
write_state(struct op *op, unsigned long flags, const char *data, size_t n)
{
	int at = sprintf(op->result, "%lu:", flags);
	size_t i, run;

	if (op->key->number)
		while (n > 1 && data[n - 1] == ' ')
			n--; /* memcached pads a number that got shorter */
	for (i = 0; i < n && at < WORD - 20; i += run) {
		run = 1;
		if (data[i] <= ' ' || data[i] > '~')
			return false;
		if (data[i] != '.') {
			op->result[at++] = data[i];
			continue;
		}
		while (i + run < n && data[i + run] == '.')
			run++;
		at += sprintf(op->result + at, ".(%zu)", run);
	}
	op->result[at] = '\0';
	op->key->size = (size_t)at;
	return i == n;
}

/* Take the data of a value. */
static enum verdict
take_data(struct text *text, struct op *op, unsigned long flags, size_t bytes)
{
	if ((size_t)(text->end - text->at) < bytes + 2)
		return MORE;
	if (memcmp(text->at + bytes, "\r\n", 2) != 0 ||
	    !write_state(op, flags, text->at, bytes))
		return NONSENSE;
	text->at += bytes + 2;
	return DONE;
}

/* Remember the token of what was read: version is how it is written down. */
static void
keep_token(struct client *client, const struct op *op, uint64_t token,
    const char *mark)
{
	struct held *held;

	client->fresh = below(HELD);
	held = &client->held[client->fresh];
	held->key = op->key;
	held->generation = op->key->generation;
	held->token = token;
	snprintf(held->state, sizeof(held->state), "%.*s%s",
	    (int)strcspn(op->result, "/"), op->result, mark);
}

/* One VALUE; *i is the operation that it may answer, at the earliest. */
static enum verdict
take_value(struct client *client, struct text *text, const char *line, size_t n,
    int *i)
{
	char head[512], key[260];
	unsigned long flags;
	size_t bytes;
	uint64_t token = 0;
	enum verdict verdict;
	int fields;

	snprintf(head, sizeof(head), "%.*s", (int)n, line);
	fields = sscanf(head, "VALUE %259s %lu %zu %" SCNu64, key, &flags,
	    &bytes, &token);
	if (fields != 3 + is_one_of(client->ops[*i].kind, with_token) ||
	    bytes > INPUT / 2)
		return NONSENSE;
	while (*i < client->count &&
	    strcmp(client->ops[*i].key->name, key) != 0)
		strcpy(client->ops[(*i)++].result, "-");
	if (*i == client->count)
		return NONSENSE;
	verdict = take_data(text, &client->ops[*i], flags, bytes);
	if (verdict != DONE)
		return verdict;
	if (fields == 4)
		keep_token(client, &client->ops[*i], token, "/?");
	++*i;
	return DONE;
}

static bool
is_error(const char *line, size_t n)
{
	return is_word(line, n, "ERROR") ||
	    (n > 13 && memcmp(line, "CLIENT_ERROR ", 13) == 0) ||
	    (n > 13 && memcmp(line, "SERVER_ERROR ", 13) == 0);
}

static enum verdict
take_values(struct client *client, struct text *text, int i)
{
	enum verdict verdict;
	const char *line;
	size_t n;

	for (;;) {
		line = next_line(text, &n);
		if (line == NULL)
			return MORE;
		if (is_word(line, n, "END"))
			break;
		if (is_error(line, n))
			return ERROR;
		if (i == client->count)
			return NONSENSE;
		verdict = take_value(client, text, line, n, &i);
		if (verdict != DONE)
			return verdict;
	}
	while (i < client->count)
		strcpy(client->ops[i++].result, "-");
	return DONE;
}

/* Take the next word of a line, up to end; false: none is left. */
static bool
next_word(const char **line, const char *end, const char **word, size_t *n)
{
	while (*line < end && **line == ' ')
		++*line;
	*word = *line;
	while (*line < end && **line != ' ')
		++*line;
	*n = (size_t)(*line - *word);
	return *n > 0;
}

struct meta {
	unsigned long flags;
	uint64_t token;
	bool stale, won, lost; /* X, W, Z */
};

/* What is behind VA and the length. */
static bool
read_meta(const char *line, const char *end, struct meta *meta)
{
	const char *word;
	size_t n;

	memset(meta, 0, sizeof(*meta));
	while (next_word(&line, end, &word, &n)) {
		if (*word == 'f' && n > 1)
			meta->flags = strtoul(word + 1, NULL, 10);
		else if (*word == 'c' && n > 1)
			meta->token = strtoull(word + 1, NULL, 10);
		else if (is_word(word, n, "X"))
			meta->stale = true;
		else if (is_word(word, n, "W"))
			meta->won = true;
		else if (is_word(word, n, "Z"))
			meta->lost = true;
		else
			return false;
	}
	return true;
}

/* The value of an mg, with its marks and perhaps a token. */
static enum verdict
take_meta_item(struct client *client, struct text *text, struct op *op,
    size_t bytes, const struct meta *meta)
{
	enum verdict verdict = take_data(text, op, meta->flags, bytes);

	if (verdict != DONE)
		return verdict;
	if (meta->stale || meta->won || meta->lost)
		sprintf(op->result + strlen(op->result), "/%s%s%s",
		    meta->stale ? "X" : "", meta->won ? "W" : "",
		    meta->lost ? "Z" : "");
	if (meta->token != 0)
		keep_token(client, op, meta->token, meta->stale ? "/x" : "");
	return DONE;
}

/* The number of an ma. */
static enum verdict
take_meta_number(struct text *text, struct op *op, size_t bytes)
{
	enum verdict verdict = take_data(text, op, 0, bytes);

	if (verdict == DONE)
		memmove(op->result, op->result + 2, strlen(op->result + 1));
	return verdict;
}

static enum verdict
take_meta_value(struct client *client, struct text *text, struct op *op,
    const char *line, size_t n)
{
	const char *end = line + n;
	const char *word;
	struct meta meta;
	size_t bytes, length;

	if (!next_word(&line, end, &word, &length) ||
	    !is_word(word, length, "VA") ||
	    !next_word(&line, end, &word, &length) ||
	    strspn(word, "0123456789") != length)
		return NONSENSE;
	bytes = strtoul(word, NULL, 10);
	if (bytes > INPUT / 2 || !read_meta(line, end, &meta))
		return NONSENSE;
	if (is_one_of(op->kind, FROM_TO(MA, MA_MAKE)))
		return take_meta_number(text, op, bytes);
	return take_meta_item(client, text, op, bytes, &meta);
}

/* What each may be answered with, and how that is written down. */
static const struct {
	const char *words, *result;
	uint64_t kinds;
} lines[] = {
	{ "STORED", "ok", FROM_TO(SET, CAS) },
	{ "HD", "ok", FROM_TO(MS, MS_STALE) | FROM_TO(MD, MD_STALE) },
	{ "EN", "-", FROM_TO(MG, MG_RENEW) },
	{ "NS", "no", FROM_TO(MS, MS_STALE) },
	{ "EX", "exists", FROM_TO(MS, MS_STALE) | FROM_TO(MA, MD_STALE) },
	{ "NF", "none", FROM_TO(MS, MS_STALE) | FROM_TO(MA, MD_STALE) },
	{ "NOT_STORED", "no", FROM_TO(ADD, PREPEND) },
	{ "EXISTS", "exists", ONE(CAS) },
	{ "NOT_FOUND", "none",
	    ONE(CAS) | ONE(INCR) | ONE(DECR) | ONE(DELETE) | ONE(TOUCH) },
	{ "DELETED", "ok", ONE(DELETE) },
	{ "TOUCHED", "ok", ONE(TOUCH) },
	{ "OK", "ok", ONE(FLUSH) },
};

/* The reply to anything but get and the like, as it is written down. */
static enum verdict
take_line(struct client *client, struct text *text, struct op *op)
{
	const char *line;
	size_t n, i;

	line = next_line(text, &n);
	if (line == NULL)
		return MORE;
	if (is_error(line, n))
		return ERROR;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (!is_one_of(op->kind, lines[i].kinds) ||
		    !is_word(line, n, lines[i].words))
			continue;
		strcpy(op->result, lines[i].result);
		return DONE;
	}
	if (is_meta(op->kind))
		return take_meta_value(client, text, op, line, n);
	if ((op->kind != INCR && op->kind != DECR) || n == 0 || n > 20 ||
	    strspn(line, "0123456789") != n)
		return NONSENSE;
	memcpy(op->result, line, n);
	op->result[n] = '\0';
	return DONE;
}

/* What it means that a meta command with q has no reply. */
static const char *
silence(enum kind kind)
{
	if (is_one_of(kind, FROM_TO(MG, MG_RENEW)))
		return "-";
	return is_one_of(kind, FROM_TO(MA, MA_MAKE)) ? "~" : "ok";
}

/* A meta command with q, and the mn behind it. */
static enum verdict
take_quiet(struct client *client, struct text *text, struct op *op)
{
	struct text before = *text;
	enum verdict verdict = DONE;
	const char *line;
	size_t n;

	line = next_line(text, &n);
	if (line != NULL && is_word(line, n, "MN")) {
		strcpy(op->result, silence(op->kind));
		return DONE;
	}
	*text = before;
	verdict = take_line(client, text, op);
	if (verdict == MORE || verdict == NONSENSE)
		return verdict;
	line = next_line(text, &n);
	if (line == NULL)
		return MORE;
	return is_word(line, n, "MN") ? verdict : NONSENSE;
}

static enum verdict
take_reply(struct client *client)
{
	struct text text = { client->input, client->input + client->length };
	struct op *op = &client->ops[0];
	enum verdict verdict;

	if (op->noreply && !is_meta(op->kind))
		strcpy((op++)->result, "~");
	if (op->kind <= GATS)
		verdict = take_values(client, &text, (int)(op - client->ops));
	else if (op->noreply)
		verdict = take_quiet(client, &text, op);
	else
		verdict = take_line(client, &text, op);
	if (verdict == DONE && text.at != text.end)
		verdict = NONSENSE; /* more than was asked for */
	return verdict;
}

/*
 * Clients
 */

static void
print_input(const struct client *client, size_t from, size_t to)
{
	for (; from < to; from++)
		fputc(client->input[from] < ' ' || client->input[from] > '~' ?
			'|' :
			client->input[from],
		    stderr);
}

/* With the begin and the end of the reply: an error may stand behind values. */
static void
complain(const struct client *client, const char *what)
{
	size_t n = client->length, shown = 80;

	fprintf(stderr, "%s %.6f client %d, since %.6f, %s %s: ", what,
	    (double)now_ns() / 1e9, client->number, (double)client->call / 1e9,
	    kinds[client->ops[client->count - 1].kind].name,
	    is_flusher(client) ? "" : client->ops[client->count - 1].key->name);
	print_input(client, 0, n < shown ? n : shown);
	if (n > 2 * shown)
		fputs(" ... ", stderr);
	if (n > shown)
		print_input(client, n < 2 * shown ? shown : n - shown, n);
	fputc('\n', stderr);
}

/* A flush_all was answered: it has happened, or will until two seconds after
   its time. */
static void
finish_flush(struct client *client, int64_t end)
{
	bool done = strcmp(client->ops[0].result, "ok") == 0;

	if (done && flush.delay > 0)
		flush.end = end + (flush.delay + 2) * 1000000000LL;
	else
		flush_finish(done, end);
	client->next = end +
	    (int64_t)(flush_seconds * 1e6 * (500 + below(1000)));
	client->busy = false;
	client->length = 0;
}

/* The request is over. */
static void
finish(struct client *client, int64_t end)
{
	double pause = (double)client_count / rate * 1e9;
	struct op *op = &client->ops[0];
	int i;

	if (is_flusher(client)) {
		finish_flush(client, end);
		return;
	}
	if (op->kind == CAS && strcmp(op->result, "ok") == 0)
		cas_stored++;
	if (op->kind == CAS && strcmp(op->result, "exists") == 0)
		cas_refused++;
	for (i = 0; i < client->count; i++)
		record(client, i, end);
	client->next = client->call +
	    (int64_t)(pause * 2 * (double)below(1000) / 1000);
	/* Some operations are asked for together. */
	client->next += (int64_t)(pause * (client->count - 1));
	client->busy = false;
	client->length = 0;
}

/* Nobody knows what became of the request. */
static void
lose(struct client *client)
{
	int i;

	for (i = 0; i < client->count; i++)
		strcpy(client->ops[i].result, "?");
	client->fresh = -1;
	finish(client, now_ns());
}

static const struct sockaddr_in *
address_of(const struct client *client)
{
	return &addresses[client->number % port_count];
}

static void
reconnect(struct client *client)
{
	if (client->fd != -1)
		close(client->fd);
	client->fd = connect_to(address_of(client), client);
	client->next = now_ns() + RETRY_MS * (int64_t)1000000;
}

static void
hear(struct client *client)
{
	ssize_t n = read(client->fd, client->input + client->length,
	    INPUT - client->length);
	int64_t end = now_ns();
	enum verdict verdict;

	if (n > 0)
		client->length += (size_t)n;
	if (n <= 0 || !client->busy) {
		complain(client, n <= 0 ? "CLOSED" : "NONSENSE");
		closed += n <= 0;
		errors += n > 0;
		if (client->busy)
			lose(client);
		reconnect(client);
		return;
	}
	verdict = take_reply(client);
	if (verdict == MORE)
		return;
	measure(client->call, end);
	if (verdict == DONE) {
		finish(client, end);
		return;
	}
	errors++;
	complain(client, verdict == ERROR ? "ERROR" : "NONSENSE");
	lose(client);
	if (verdict == NONSENSE)
		reconnect(client);
}

static void
speak(struct client *client)
{
	if (is_flusher(client))
		make_flush();
	else
		make_request(client);
	client->busy = true;
	client->length = 0;
	client->call = now_ns();
	if (is_flusher(client))
		flush_begin(client->call);
	send_all(client->fd, out.bytes, out.length);
}

/* Have all clients turn to that port.  Not while events are dealt with: one of
   a connection that was closed would be taken for one of the next. */
static void
turn_to(int port)
{
	int i;

	addresses[0].sin_port = htons((uint16_t)port);
	port_count = 1;
	for (i = 0; i < client_count + flushers; i++) {
		if (clients[i].busy)
			lose(&clients[i]);
		reconnect(&clients[i]);
	}
}

/* The clients that have waited far too long. */
static void
look_after(int64_t now)
{
	int i;

	for (i = 0; i < client_count + flushers; i++) {
		if (!clients[i].busy ||
		    now - clients[i].call < give_up_ms * (int64_t)1000000)
			continue;
		hung++;
		complain(&clients[i], "HUNG");
		measure(clients[i].call, now);
		lose(&clients[i]);
		reconnect(&clients[i]);
	}
}

/*
 * The run
 */

static void
say(const char *what)
{
	int64_t now = now_ns();
	double seconds = (double)(now - mark_since) / 1e9;

	printf("%s ops=%" PRIu64 " errors=%" PRIu64 " closed=%" PRIu64
	       " hung=%" PRIu64 " late=%" PRIu64 " worst_us=%" PRId64
	       " worst_quiet_us=%" PRId64 " noise_us=%" PRId64
	       " p50_us=%" PRId64 " p99_us=%" PRId64 " cas_stored=%" PRIu64
	       " cas_refused=%" PRIu64 " flushes=%" PRIu64
	       " flushing=%d mark_s=%.3f mark_requests=%" PRIu64
	       " mark_p99_us=%" PRId64 " mark_worst_us=%" PRId64 "\n",
	    what, total, errors, closed, hung, late, worst, worst_quiet,
	    noise_worst, quantile(bars, 0.5), quantile(bars, 0.99), cas_stored,
	    cas_refused, flushes, flushing || flush.call != 0, seconds,
	    mark_ops, quantile(mark_bars, 0.99), mark_worst);
	fflush(stdout);
}

static void
mark(void)
{
	say("mark");
	memset(mark_bars, 0, sizeof(mark_bars));
	mark_ops = 0;
	mark_worst = 0;
	mark_since = now_ns();
}

static void
hear_stdin(void)
{
	char word;

	if (read(STDIN_FILENO, &word, 1) <= 0)
		ended = 1;
	else if (word == 'm')
		mark();
	else if (word == 'f' || word == 'F')
		flushing = word == 'f';
	else if (word >= '0' && word <= '9')
		number_read = number_read * 10 + word - '0';
	else if (word == 'p') {
		next_port = number_read;
		number_read = 0;
	}
}

static void
wait_for_events(int timeout)
{
	struct epoll_event events[EVENTS];
	int i, n;

	n = epoll_wait(epoll, events, EVENTS, timeout);
	for (i = 0; i < n; i++) {
		if (events[i].data.ptr == &control)
			hear_control();
		else if (events[i].data.ptr == NULL)
			hear_stdin();
		else
			hear(events[i].data.ptr);
	}
}

/* Whether this client has something to say. */
static bool
is_due(const struct client *client, int64_t now)
{
	if (client->busy || ended || now < client->next)
		return false;
	return !is_flusher(client) || (flushing && flush.call == 0);
}

static bool
speak_all(int64_t now)
{
	bool busy = false;
	int i;

	for (i = 0; i < client_count + flushers; i++) {
		if (is_due(&clients[i], now)) {
			if (clients[i].fd == -1)
				reconnect(&clients[i]);
			else
				speak(&clients[i]);
		}
		busy |= clients[i].busy;
	}
	return busy;
}

static void
run(int64_t until)
{
	int64_t told = now_ns(), asked = 0, now = told;

	mark_since = now;
	while (speak_all(now) || !ended) {
		wait_for_events(1);
		if (next_port != 0)
			turn_to(next_port);
		next_port = 0;
		now = now_ns();
		if (until != 0 && now >= until)
			ended = 1;
		if (flush.call != 0 && flush.end != 0 && now >= flush.end)
			flush_finish(true, now);
		if (control_since == 0 && now - asked >= 1000000) {
			asked = now;
			ask_control();
		}
		look_after(now);
		if (now - told < 1000000000)
			continue;
		told = now;
		say("status");
	}
	while (control_since != 0)
		wait_for_events(1);
}

static void
set_up_client(struct client *client, int number)
{
	client->number = number;
	client->fresh = -1;
	client->input = malloc(INPUT);
	client->fd = connect_to(address_of(client), client);
	if (client->input == NULL || client->fd == -1)
		die("connect");
	if (!is_flusher(client))
		return;
	client->count = 1;
	client->ops[0].kind = FLUSH;
	client->next = now_ns() + (int64_t)(flush_seconds * 1e9);
}

static void
set_up(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	int i;

	epoll = epoll_create1(0);
	keys = calloc((size_t)(hot + cold), sizeof(*keys));
	clients = calloc((size_t)(client_count + flushers), sizeof(*clients));
	if (keys == NULL || clients == NULL)
		die("memory");
	for (i = 0; i < hot + cold; i++) {
		keys[i].index = i;
		keys[i].number = i % 3 == 2;
		name_key(&keys[i]);
	}
	for (i = 0; i < client_count + flushers; i++)
		set_up_client(&clients[i], i);
	if (control_address.sin_port != 0) {
		control = connect_to(&control_address, &control);
		if (control == -1)
			die("control");
	}
	epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
}

static void
on_signal(int number)
{
	(void)number;
	ended = 1;
}

/* A port of this host, or "address:port". */
static void
set_address(struct sockaddr_in *to, const char *text)
{
	const char *colon = strrchr(text, ':');
	char address[INET_ADDRSTRLEN] = "127.0.0.1";

	if (colon != NULL)
		snprintf(address, sizeof(address), "%.*s", (int)(colon - text),
		    text);
	to->sin_family = AF_INET;
	to->sin_port = htons((uint16_t)atoi(colon ? colon + 1 : text));
	if (inet_pton(AF_INET, address, &to->sin_addr) != 1)
		exit(2);
}

/* Leave out what is newer. */
static void
leave_out(int since)
{
	int i;

	all_flags = false;
	for (i = 0; i < KINDS; i++) {
		if ((int)kinds[i].since > since)
			kinds[i].weights[TEXT] = kinds[i].weights[NUMBER] = 0;
		if (i != CAS)
			kinds[i].weights[TEXT_TOKEN] =
			    kinds[i].weights[NUMBER_TOKEN] = 0;
	}
}

static double
read_options(int argc, char *argv[])
{
	double seconds = 0;
	int option;

	while ((option = getopt(argc, argv,
		    "p:o:c:k:K:r:s:C:l:t:g:n:ABMx:f:D")) != -1) {
		switch (option) {
		case 'p':
			if (port_count == PORTS)
				exit(2);
			set_address(&addresses[port_count++], optarg);
			break;
		case 'o':
			prefix = optarg;
			break;
		case 'c':
			client_count = atoi(optarg);
			break;
		case 'k':
			hot = atoi(optarg);
			break;
		case 'K':
			cold = atoi(optarg);
			break;
		case 'r':
			rate = atof(optarg);
			break;
		case 's':
			seed += strtoull(optarg, NULL, 10) * 7919;
			break;
		case 'C':
			set_address(&control_address, optarg);
			break;
		case 'l':
			limit_us = atoi(optarg) * (int64_t)1000;
			break;
		case 't':
			seconds = atof(optarg);
			break;
		case 'g':
			give_up_ms = atoi(optarg);
			break;
		case 'n':
			name = optarg;
			break;
		case 'A':
			with_noreply = false;
			break;
		case 'B':
			leave_out(OLDEST);
			break;
		case 'M':
			leave_out(OLD);
			break;
		case 'f':
			flush_seconds = atof(optarg);
			flushers = 1;
			flushing = true;
			break;
		case 'D':
			delayed_flushes = true;
			break;
		case 'x':
			hot_share = atoi(optarg);
			break;
		default:
			exit(2);
		}
	}
	if (prefix == NULL || port_count == 0 || client_count < 1 || hot < 1 ||
	    cold < 0 || rate <= 0 || flush_seconds < 0) {
		fprintf(stderr, "usage: history -p PORT -o PREFIX ...\n");
		exit(2);
	}
	return seconds;
}

int
main(int argc, char *argv[])
{
	double seconds = read_options(argc, argv);
	char path[4096];
	FILE *end;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on_signal);
	set_up();
	run(seconds == 0 ? 0 : now_ns() + (int64_t)(seconds * 1e9));
	piece_end();
	snprintf(path, sizeof(path), "%s.end", prefix);
	end = fopen(path, "w");
	if (end == NULL)
		die(path);
	fclose(end);
	say("end");
	return errors + closed + hung > 0;
}
