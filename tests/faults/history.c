/*
 * Load that leaves a history: many clients on few keys, for checker.py.
 *
 * history -p PORT -o PREFIX [-c CLIENTS] [-k HOT KEYS] [-K COLD KEYS]
 *     [-r OPERATIONS/S] [-s SEED] [-C CONTROL PORT] [-l LIMIT MS] [-t SECONDS]
 *     [-n NAME] [-B] [-x PERCENT]
 *
 * The keys begin with NAME; -B leaves out what memcached 1.4 has not; so many
 * PERCENT of the operations go to the hot keys, which come first.
 * Each client has one request under way; it may be of several operations: a
 * get of many keys, or a noreply write and the get behind it.  Values never
 * repeat.  Operations are written to PREFIX.0, PREFIX.1 and so on in the order
 * in which they returned, as checker.py says, and PREFIX.end at the end, which
 * comes when stdin closes, on SIGTERM or after SECONDS.  stdout has a line of
 * numbers each second, stderr what no memcached would have said.
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
#include <time.h>
#include <unistd.h>

enum {
	WORD = 3000, /* bytes of a state as it is written down */
	OPS = 8,     /* of one request */
	HELD = 4,    /* cas tokens that a client remembers */
	INPUT = 256 << 10,
	PIECE = 20000, /* operations in a file */
	CROWD = 50,    /* operations until a key has a pause */
	EVENTS = 256,
	GIVE_UP_MS = 10000, /* without an answer so long: closed */
	RETRY_MS = 20,      /* to connect */
	BUCKET_MS = 10,     /* of the noise */
	BUCKETS = 4096,
	SLOW_US = 50000, /* from here on noise is distinguished */
	SLOWS = 4096,
	STEPS = 16, /* of the histogram, per doubling */
	BARS = 40 * STEPS,
};

enum kind {
	GET,
	GETS,
	GAT,
	MG,
	SET,
	MS,
	ADD,
	REPLACE,
	APPEND,
	PREPEND,
	CAS,
	INCR,
	DECR,
	DELETE,
	MD,
	TOUCH,
	KINDS,
};

static const char *const names[KINDS] = {
	"get",
	"gets",
	"gat",
	"mg",
	"set",
	"ms",
	"add",
	"replace",
	"append",
	"prepend",
	"cas",
	"incr",
	"decr",
	"delete",
	"md",
	"touch",
};

/* How often, on keys that hold text or a number. */
static int text_weights[KINDS] = {
	22,
	8,
	4,
	4,
	12,
	4,
	8,
	5,
	5,
	4,
	8,
	0,
	0,
	8,
	2,
	5,
};
static int number_weights[KINDS] = {
	14,
	6,
	3,
	3,
	4,
	0,
	5,
	0,
	0,
	0,
	6,
	20,
	10,
	4,
	0,
	4,
};

struct key {
	char name[251];
	bool number;
	int index, generation;
	int in_flight;
	int crowd;   /* operations since it was quiet */
	int unknown; /* operations that were not answered */
	size_t size; /* of its value, as last heard of */
};

struct op {
	enum kind kind;
	struct key *key;
	bool noreply;
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

static struct sockaddr_in address, control_address;
static const char *prefix, *name = "";
static int client_count = 48, hot = 24, cold = 200, hot_share = 90;
static double rate = 12000;
static int64_t limit_us = 300000;
static uint64_t seed = 1;

static struct key *keys;
static struct client *clients;
static int epoll;
static volatile sig_atomic_t ended;

static FILE *piece;
static int piece_number;
static long piece_length;

static int control = -1;
static int64_t control_since; /* asked then; 0: not waiting */
static int64_t noise[BUCKETS], noise_at[BUCKETS];
static struct slow slows[SLOWS];
static int slow_count;

static uint64_t total, errors, closed, hung, late, cas_stored, cas_refused;
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

static void
record(const struct client *client, int i, int64_t end)
{
	const struct op *op = &client->ops[i];
	char path[4096];

	if (piece == NULL) {
		piece_path(path, sizeof(path), ".part");
		piece = fopen(path, "w");
		if (piece == NULL)
			die(path);
		piece_length = 0;
	}
	op->key->in_flight--;
	if (op->key->in_flight == 0)
		op->key->crowd = 0;
	op->key->unknown += op->result[0] == '?';
	fprintf(piece, "%s %d %s %s %s %" PRId64 " %" PRId64 " %s %d\n",
	    op->key->name, client->number, names[op->kind], or_dash(op->a),
	    or_dash(op->b), client->call + i, end, op->result,
	    op->key->in_flight == 0);
	total++;
	if (++piece_length == PIECE)
		piece_end();
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
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	if (fd == -1)
		die("socket");
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
}

static struct key *
pick_any_key(void)
{
	return &keys[cold == 0 || below(100) < hot_share ? below(hot) :
							   hot + below(cold)];
}

static struct key *
pick_key(void)
{
	struct key *key = pick_any_key();
	int tries;

	/* The checker needs moments at which a key is quiet. */
	for (tries = 0; key->crowd > CROWD && tries < 20; tries++)
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
	key->in_flight++;
	key->crowd++;
	return op;
}

static void
add_storage(struct op *op, uint64_t token)
{
	static char raw[16 << 10];
	char written[WORD];
	unsigned int flags = (unsigned int)below(4) *
	    (unsigned int)below(1 << 30);
	bool joins = op->kind == APPEND || op->kind == PREPEND;
	size_t n = make_value(op->key, raw, written, !joins);

	if (joins)
		strcpy(op->a, written);
	else
		snprintf(op->a, sizeof(op->a), "%u:%.*s", flags, 100, written);
	if (op->kind == MS)
		add("ms %s %zu F%u T%s", op->key->name, n, flags,
		    pick_exptime());
	else
		add("%s %s %u %s %zu", names[op->kind], op->key->name, flags,
		    pick_exptime(), n);
	if (op->kind == CAS)
		add(" %" PRIu64, token);
	add("%s\r\n%.*s\r\n", op->noreply ? " noreply" : "", (int)n, raw);
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
		add("%s %s %s%s\r\n", names[op->kind], key, op->a, tail);
		break;
	case DELETE:
		add("delete %s%s\r\n", key, tail);
		break;
	case TOUCH:
		add("touch %s %s%s\r\n", key, pick_exptime(), tail);
		break;
	case MD:
		add("md %s\r\n", key);
		break;
	case MG:
		add("mg %s v f\r\n", key);
		break;
	default:
		assert(op->kind >= SET && op->kind != CAS);
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
	int more = kind != GETS && below(3) == 0 ? 1 + below(OPS - 1) : 0;

	if (kind == GAT)
		add("gat %s %s", pick_exptime(), key->name);
	else
		add("%s %s", names[kind], key->name);
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

static void
add_cas(struct client *client, struct held *held)
{
	struct op *op = new_op(client, CAS, held->key);

	strcpy(op->b, held->state);
	add_storage(op, held->token);
	if (below(3) > 0)
		held->key = NULL;
}

static enum kind
pick_kind(const struct key *key)
{
	const int *weights = key->number ? number_weights : text_weights;
	int i, n, sum = 0;

	for (i = 0; i < KINDS; i++)
		sum += weights[i];
	n = below(sum);
	for (i = 0; n >= weights[i]; i++)
		n -= weights[i];
	if ((i == APPEND || i == PREPEND) && key->size > 300)
		i = SET;
	return (enum kind)i;
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
		add_cas(client, held);
	else if (kind <= GAT)
		add_get(client, kind, key);
	else if (kind != MG && kind != MS && kind != MD && below(7) == 0)
		add_noreply(client, kind, key);
	else
		add_command(new_op(client, kind, key));
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

static void
keep_token(struct client *client, const struct op *op, uint64_t token)
{
	struct held *held;

	client->fresh = below(HELD);
	held = &client->held[client->fresh];
	held->key = op->key;
	held->generation = op->key->generation;
	held->token = token;
	strcpy(held->state, op->result);
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
	if (fields != 3 + (client->ops[*i].kind == GETS) || bytes > INPUT / 2)
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
		keep_token(client, &client->ops[*i], token);
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

static enum verdict
take_meta_value(struct text *text, struct op *op, const char *line, size_t n)
{
	char head[64];
	unsigned long flags;
	size_t bytes;

	if (is_word(line, n, "EN")) {
		strcpy(op->result, "-");
		return DONE;
	}
	snprintf(head, sizeof(head), "%.*s", (int)n, line);
	if (sscanf(head, "VA %zu f%lu", &bytes, &flags) != 2 ||
	    bytes > INPUT / 2)
		return NONSENSE;
	return take_data(text, op, flags, bytes);
}

/* What each may be answered with, and how that is written down. */
static const struct {
	const char *words, *result;
	unsigned int kinds;
} lines[] = {
	{ "STORED", "ok",
	    1 << SET | 1 << ADD | 1 << REPLACE | 1 << APPEND | 1 << PREPEND |
		1 << CAS },
	{ "HD", "ok", 1 << MS | 1 << MD },
	{ "NF", "none", 1 << MD },
	{ "NOT_STORED", "no",
	    1 << ADD | 1 << REPLACE | 1 << APPEND | 1 << PREPEND },
	{ "EXISTS", "exists", 1 << CAS },
	{ "NOT_FOUND", "none",
	    1 << CAS | 1 << INCR | 1 << DECR | 1 << DELETE | 1 << TOUCH },
	{ "DELETED", "ok", 1 << DELETE },
	{ "TOUCHED", "ok", 1 << TOUCH },
};

static enum verdict
take_line(struct text *text, struct op *op)
{
	const char *line;
	size_t n, i;

	line = next_line(text, &n);
	if (line == NULL)
		return MORE;
	if (is_error(line, n))
		return ERROR;
	if (op->kind == MG)
		return take_meta_value(text, op, line, n);
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (!(lines[i].kinds >> op->kind & 1) ||
		    !is_word(line, n, lines[i].words))
			continue;
		strcpy(op->result, lines[i].result);
		return DONE;
	}
	if ((op->kind != INCR && op->kind != DECR) || n == 0 || n > 20 ||
	    strspn(line, "0123456789") != n)
		return NONSENSE;
	memcpy(op->result, line, n);
	op->result[n] = '\0';
	return DONE;
}

static enum verdict
take_reply(struct client *client)
{
	struct text text = { client->input, client->input + client->length };
	int i = client->ops[0].noreply;
	enum verdict verdict;

	if (i == 1)
		strcpy(client->ops[0].result, "~");
	if (client->ops[i].kind <= GAT)
		verdict = take_values(client, &text, i);
	else
		verdict = take_line(&text, &client->ops[i]);
	if (verdict == DONE && text.at != text.end)
		verdict = NONSENSE; /* more than was asked for */
	return verdict;
}

/*
 * Clients
 */

static void
complain(const struct client *client, const char *what)
{
	size_t n = client->length < 100 ? client->length : 100;
	size_t i;

	fprintf(stderr, "%s %.6f client %d, since %.6f, %s %s: ", what,
	    (double)now_ns() / 1e9, client->number, (double)client->call / 1e9,
	    names[client->ops[client->count - 1].kind],
	    client->ops[client->count - 1].key->name);
	for (i = 0; i < n; i++)
		fputc(client->input[i] < ' ' || client->input[i] > '~' ?
			'|' :
			client->input[i],
		    stderr);
	fputc('\n', stderr);
}

/* The request is over. */
static void
finish(struct client *client, int64_t end)
{
	double pause = (double)client_count / rate * 1e9;
	struct op *op = &client->ops[0];
	int i;

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

static void
reconnect(struct client *client)
{
	if (client->fd != -1)
		close(client->fd);
	client->fd = connect_to(&address, client);
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
	make_request(client);
	client->busy = true;
	client->length = 0;
	client->call = now_ns();
	send_all(client->fd, out.bytes, out.length);
}

/* The clients that have waited far too long. */
static void
look_after(int64_t now)
{
	int i;

	for (i = 0; i < client_count; i++) {
		if (!clients[i].busy ||
		    now - clients[i].call < GIVE_UP_MS * (int64_t)1000000)
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
	       " cas_refused=%" PRIu64 " mark_s=%.3f mark_requests=%" PRIu64
	       " mark_p99_us=%" PRId64 " mark_worst_us=%" PRId64 "\n",
	    what, total, errors, closed, hung, late, worst, worst_quiet,
	    noise_worst, quantile(bars, 0.5), quantile(bars, 0.99), cas_stored,
	    cas_refused, seconds, mark_ops, quantile(mark_bars, 0.99),
	    mark_worst);
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

static bool
speak_all(int64_t now)
{
	bool busy = false;
	int i;

	for (i = 0; i < client_count; i++) {
		if (!clients[i].busy && !ended && now >= clients[i].next) {
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
		now = now_ns();
		if (until != 0 && now >= until)
			ended = 1;
		if (control_since == 0 && now - asked >= 1000000) {
			asked = now;
			ask_control();
		}
		if (now - told < 1000000000)
			continue;
		told = now;
		look_after(now);
		say("status");
	}
	while (control_since != 0)
		wait_for_events(1);
}

static void
set_up(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	int i;

	epoll = epoll_create1(0);
	keys = calloc((size_t)(hot + cold), sizeof(*keys));
	clients = calloc((size_t)client_count, sizeof(*clients));
	if (keys == NULL || clients == NULL)
		die("memory");
	for (i = 0; i < hot + cold; i++) {
		keys[i].index = i;
		keys[i].number = i % 3 == 2;
		name_key(&keys[i]);
	}
	for (i = 0; i < client_count; i++) {
		clients[i].number = i;
		clients[i].fresh = -1;
		clients[i].input = malloc(INPUT);
		clients[i].fd = connect_to(&address, &clients[i]);
		if (clients[i].input == NULL || clients[i].fd == -1)
			die("connect");
	}
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

static void
set_address(struct sockaddr_in *to, const char *port)
{
	to->sin_family = AF_INET;
	to->sin_port = htons((uint16_t)atoi(port));
	to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static void
be_basic(void)
{
	static const enum kind later[] = { GAT, MG, MS, MD };
	size_t i;

	for (i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		text_weights[later[i]] = number_weights[later[i]] = 0;
}

static double
read_options(int argc, char *argv[])
{
	double seconds = 0;
	int option;

	while ((option = getopt(argc, argv, "p:o:c:k:K:r:s:C:l:t:n:Bx:")) !=
	    -1) {
		switch (option) {
		case 'p':
			set_address(&address, optarg);
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
		case 'n':
			name = optarg;
			break;
		case 'B':
			be_basic();
			break;
		case 'x':
			hot_share = atoi(optarg);
			break;
		default:
			exit(2);
		}
	}
	if (prefix == NULL || address.sin_port == 0 || client_count < 1 ||
	    hot < 1 || cold < 0 || rate <= 0) {
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
