/*
 * The memcacheds of the script.
 *
 * Invariant: what a server is sent is a request in its canonical form, on which
 * all memcacheds agree; anything else is a finding.
 */

#include "servers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "model.h"
#include "proto.h"

enum { CONNS_MAX = 24, VALUE_LIMIT = 64 << 20 };

struct server_conn {
	int end; /* -1: free */
	bool is_mute;
	bool owes_list; /* it is mute since it was asked for one */
	int64_t last_s; /* second of its last command */
};

struct server {
	struct model model;
	struct server_conn conns[CONNS_MAX];
	bool is_dead, hangs;
	enum world_accept how;
	enum lie lie;
	unsigned int pid, connections;
	int64_t started;
	int64_t flushed_s; /* second of its last flush_all */
};

static struct server servers[SERVERS_MAX];
static unsigned int count;
static unsigned int pids = 100;
static const char *version;
static bool told_twice;
static enum server_option option;

void
servers_begin(unsigned int n, enum server_option with, unsigned int age)
{
	static const char *const old[] = { "1.4.5", "1.4.15", "1.5.6",
		"1.6.9" };
	unsigned int i, j;

	assert(n <= SERVERS_MAX);
	count = n;
	told_twice = false;
	option = with;
	version = option == OPTION_OLD ?
	    old[age % (sizeof(old) / sizeof(old[0]))] :
	    "1.6.19";
	for (i = 0; i < n; i++) {
		servers[i] = (struct server){
			.pid = pids++,
			.started = world_seconds() - 100,
			.model.makes_by_append = true,
		};
		for (j = 0; j < CONNS_MAX; j++)
			servers[i].conns[j].end = -1;
	}
}

static void
conn_end(struct server_conn *conn, bool reset)
{
	world_close(conn->end, reset);
	conn->end = -1;
}

void
servers_end(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		servers_drop(i, false);
		model_clear(&servers[i].model);
	}
}

enum world_accept
servers_connected(unsigned int number, int end)
{
	struct server *server = &servers[number];
	unsigned int j;

	if (number >= count)
		finding("the daemon connects to nobody's port");
	if (server->is_dead)
		return WORLD_REFUSES;
	if (server->how != WORLD_ACCEPTS)
		return server->how;
	for (j = 0; j < CONNS_MAX && server->conns[j].end != -1; j++)
		;
	if (j == CONNS_MAX)
		return WORLD_REFUSES;
	server->conns[j] = (struct server_conn){
		.end = end,
		.last_s = world_seconds(),
	};
	server->connections++;
	return WORLD_ACCEPTS;
}

/*
 * Answers
 */

static void
say_stats(const struct server *server, struct bytes *out)
{
	const struct model *model = &server->model;
	int64_t now = world_seconds();

	bytes_print(out,
	    "STAT pid %u\r\nSTAT uptime %lld\r\nSTAT time %lld\r\n",
	    server->pid, (long long)(now - server->started), (long long)now);
	bytes_print(out, "STAT version %s\r\nSTAT total_connections %u\r\n",
	    version, server->connections);
	bytes_print(out, "STAT cmd_get %llu\r\nSTAT cmd_set %llu\r\n",
	    (unsigned long long)model->gets, (unsigned long long)model->sets);
	bytes_print(out, "STAT total_items %llu\r\nSTAT curr_items %zu\r\n",
	    (unsigned long long)model->total, model->count);
	bytes_print(out, "STAT evictions 0\r\nEND\r\n");
}

static void
say_conns(const struct server *server, struct bytes *out)
{
	const struct server_conn *conn;
	int j;

	for (j = 0; j < CONNS_MAX; j++) {
		conn = &server->conns[j];
		if (conn->end == -1)
			continue;
		bytes_print(out, "STAT %d:addr tcp:127.0.0.1:%u\r\n", j + 30,
		    world_port_of(conn->end));
		bytes_print(out, "STAT %d:secs_since_last_cmd %lld\r\n", j + 30,
		    (long long)(world_seconds() - conn->last_s));
	}
	bytes_print(out, "END\r\n");
}

static bool
is_argument(const struct proto_request *r, const char *bytes, const char *text)
{
	return r->argument.length == strlen(text) &&
	    memcmp(bytes + r->argument.at, text, strlen(text)) == 0;
}

static bool
refuses_flush(const struct server *server)
{
	return option == OPTION_F && (server - servers) % 2 == 0;
}

static void
say_settings(const struct server *server, struct bytes *out)
{
	bytes_print(out,
	    "STAT item_size_max 1048576\r\n"
	    "STAT memory_file (null)\r\n"
	    "STAT cas_enabled %s\r\nSTAT flush_enabled %s\r\nEND\r\n",
	    option == OPTION_C ? "no" : "yes",
	    refuses_flush(server) ? "no" : "yes");
}

static void
say_about_itself(const struct server *server, const struct proto_request *r,
    const char *bytes, struct bytes *out)
{
	if (is_argument(r, bytes, "conns"))
		say_conns(server, out);
	else if (is_argument(r, bytes, "settings"))
		say_settings(server, out);
	else
		say_stats(server, out);
}

bool
servers_are_old(void)
{
	return option == OPTION_OLD;
}

/* Whether an old server has a command of a client. */
static bool
is_known_to_old(enum proto_command command)
{
	/* A rebuild reads by mg. */
	if (command >= PROTO_MG && command <= PROTO_ME)
		return command == PROTO_MG && strcmp(version, "1.6.9") == 0;
	if (command == PROTO_GAT || command == PROTO_GATS)
		return strcmp(version, "1.5.6") >= 0;
	return command != PROTO_TOUCH || strcmp(version, "1.4.5") != 0;
}

/* What is refused from clients, magent itself may ask. */
static void
administer(struct server *server, const char *bytes, size_t n,
    struct bytes *out)
{
	static const char command[] = "lru_crawler metadump ";

	if (n < sizeof(command) - 1 ||
	    memcmp(bytes, command, sizeof(command) - 1) != 0)
		finding("a server is sent: %.*s", (int)n, bytes);
	if (strcmp(version, "1.5") < 0) {
		bytes_print(out, "ERROR\r\n");
		return;
	}
	model_dump(&server->model, world_seconds(), out);
	bytes_print(out, "END\r\n");
}

static void
flush_server(struct server *server, const struct proto_request *r,
    const char *bytes, struct bytes *out)
{
	if (r->has_exptime)
		finding("a server is sent a flush_all with a time");
	if (refuses_flush(server)) {
		bytes_print(out, "CLIENT_ERROR flush_all not allowed\r\n");
		return;
	}
	server->flushed_s = world_seconds();
	model_execute(&server->model, r, bytes, world_seconds(), out);
}

static void
execute(struct server *server, const struct proto_request *r, const char *bytes,
    struct bytes *out)
{
	if (r->command == PROTO_REFUSED) {
		administer(server, bytes, r->length, out);
		return;
	}
	if (r->error != NULL || r->noreply || r->quiet ||
	    (servers_are_old() && !is_known_to_old(r->command)))
		finding("a server is sent: %.*s", (int)r->length, bytes);
	if (r->command == PROTO_VERSION)
		bytes_print(out, "VERSION %s\r\n", version);
	else if (r->command == PROTO_STATS)
		say_about_itself(server, r, bytes, out);
	else if (r->command == PROTO_FLUSH_ALL)
		flush_server(server, r, bytes, out);
	else
		model_execute(&server->model, r, bytes, world_seconds(), out);
	if (option == OPTION_C && server->flushed_s == world_seconds())
		model_clear(&server->model);
}

/*
 * Lies
 */

static void
say_large(struct bytes *out)
{
	enum { SIZE = 3 << 20 };
	static char value[SIZE + 1];

	bytes_print(out, "VALUE k0 0 %d\r\n", (int)SIZE);
	bytes_add(out, value, SIZE);
	bytes_print(out, "\r\nEND\r\n");
}

static void
say_long(struct bytes *out)
{
	static char line[3000];

	memset(line, 'x', sizeof(line));
	bytes_add(out, line, sizeof(line));
}

/* The answer, which may be changed, as a lie of this kind. */
static void
tell_lie(struct server_conn *conn, enum lie lie, struct bytes *out)
{
	static const char *const texts[LIES] = {
		[LIE_GARBAGE] = "VALUE k\001 x\r\n",
		[LIE_OTHER] = "VALUE zz 0 4\r\n[zz.\r\nEND\r\n",
		[LIE_ERROR] = "ERROR\r\n",
		[LIE_CLIENT_ERROR] = "CLIENT_ERROR of a server\r\n",
		[LIE_SERVER_ERROR] = "SERVER_ERROR of a server\r\n",
		[LIE_BUSY] = "BUSY currently processing crawler request\r\n",
	};
	size_t n = out->length;

	if (texts[lie] != NULL) {
		out->length = 0;
		bytes_print(out, "%s", texts[lie]);
	} else if (lie == LIE_HALF) {
		out->length = n / 2;
		conn->is_mute = true;
	} else if (lie == LIE_SILENCE) {
		out->length = 0;
		conn->is_mute = true;
	} else if (lie == LIE_CRAWLING && n > 10 &&
	    memcmp(out->at, "STAT ", 5) == 0) {
		out->length -= strlen("END\r\n");
		bytes_print(out, "STAT lru_crawler_running 1\r\nEND\r\n");
	} else if (lie == LIE_LONG || lie == LIE_LARGE) {
		out->length = 0;
		(lie == LIE_LONG ? say_long : say_large)(out);
	}
}

/* Up to the end of the first line. */
static void
trace_line(const char *word, const char *bytes, size_t n)
{
	const char *end = memchr(bytes, '\r', n);

	fprintf(stderr, "%s %.*s", word,
	    (int)(end == NULL ? n : (size_t)(end - bytes)), bytes);
}

static void
trace(const struct server *server, const struct proto_request *r,
    const char *bytes, const struct bytes *out)
{
	fprintf(stderr, "server %d:", (int)(server - servers));
	trace_line("", bytes, r->length);
	trace_line(" ->", out->at, out->length);
	fprintf(stderr, "\n");
}

/* Each further question blocks a thread of a memcached. */
static void
expect_no_list_owed(const struct server *server)
{
	const struct server_conn *conn;
	int j;

	for (j = 0; j < CONNS_MAX; j++) {
		conn = &server->conns[j];
		if (conn->end != -1 && conn->owes_list &&
		    !world_is_closed(conn->end))
			finding("a server that owes a list is asked for one");
	}
}

/* Write to where from is: both are as long. */
static void
rename_all(char *bytes, size_t n, const char *from, const char *to)
{
	size_t length = strlen(from);
	char *at = bytes;

	assert(strlen(to) == length);
	while (n > 0 &&
	    (at = memmem(at, (size_t)(bytes + n - at), from, length)) != NULL)
		memcpy(at, to, length);
}

static void
answer(struct server *server, struct server_conn *conn,
    const struct proto_request *r, const char *bytes)
{
	struct bytes out = { .at = NULL };
	enum lie lie = server->lie;

	server->lie = LIE_NONE;
	if (r->command == PROTO_REFUSED)
		expect_no_list_owed(server);
	execute(server, r, bytes, &out);
	rename_all(out.at, out.length, "Magent:", "magent:");
	rename_all(out.at, out.length, "Magent%3A", "magent%3A");
	if (world_is_loud)
		trace(server, r, bytes, &out);
	if (conn->is_mute)
		out.length = 0;
	else
		tell_lie(conn, lie, &out);
	conn->owes_list |= conn->is_mute && r->command == PROTO_REFUSED;
	if (out.length > 0)
		world_send(conn->end, out.at, out.length);
	if (out.length > 0 && lie == LIE_TWICE) {
		world_send(conn->end, out.at, out.length);
		told_twice = true;
	}
	bytes_free(&out);
	conn->last_s = world_seconds();
	if (lie == LIE_CLOSE || lie == LIE_RESET)
		conn_end(conn, lie == LIE_RESET);
}

/*
 * Serving
 */

/* The parser is that of clients, and they may not use the keys of stamps.  So
   these keys have another name here. */
static void
rename_own_keys(const char *bytes, size_t n)
{
	const char *end = n == 0 ? NULL : memchr(bytes, '\n', n);

	if (end != NULL)
		rename_all((char *)(uintptr_t)bytes, (size_t)(end - bytes),
		    " magent:", " Magent:");
}

static bool
serve_one(struct server *server, struct server_conn *conn)
{
	struct proto_request r;
	/* Half a command makes room for more in the socket. */
	bool has_news = world_has_news(conn->end);
	size_t n;
	const char *bytes = world_received(conn->end, &n);

	if (n == 0 && world_has_ended(conn->end)) {
		conn_end(conn, false);
		return true;
	}
	if (n == 0)
		return false;
	rename_own_keys(bytes, n);
	switch (proto_request(bytes, n, VALUE_LIMIT, &r)) {
	case PROTO_OK:
		answer(server, conn, &r, bytes);
		if (conn->end != -1)
			world_drop(conn->end, r.length);
		return true;
	case PROTO_MORE:
		return has_news;
	default:
		finding("a server is sent %zu bytes that are no request", n);
	}
}

/* Half a command behind which the end came. */
static bool
close_if_ended(struct server_conn *conn)
{
	if (conn->end == -1 || !world_sends_no_more(conn->end))
		return false;
	conn_end(conn, false);
	return true;
}

static bool
serve(struct server *server, unsigned int commands)
{
	struct server_conn *conn;
	bool done = false;
	unsigned int i, j;

	for (j = 0; j < CONNS_MAX; j++) {
		conn = &server->conns[j];
		for (i = 0;
		     i < commands && conn->end != -1 && serve_one(server, conn);
		     i++)
			done = true;
		if (i < commands)
			done |= close_if_ended(conn);
	}
	return done;
}

bool
servers_serve(unsigned int commands)
{
	bool done = false;
	unsigned int i;

	for (i = 0; i < count; i++)
		if (!servers[i].is_dead && !servers[i].hangs)
			done |= serve(&servers[i], commands);
	return done;
}

/*
 * Faults
 */

void
servers_drop(unsigned int i, bool reset)
{
	int j;

	for (j = 0; j < CONNS_MAX; j++)
		if (servers[i].conns[j].end != -1)
			conn_end(&servers[i].conns[j], reset);
}

void
servers_kill(unsigned int i)
{
	struct server *server = &servers[i];

	servers_drop(i, false);
	model_clear(&server->model);
	server->model = (struct model){ .makes_by_append = true };
	server->is_dead = true;
	server->hangs = false;
	server->connections = 0;
}

void
servers_start(unsigned int i)
{
	if (!servers[i].is_dead)
		return;
	servers[i].is_dead = false;
	servers[i].pid = pids++;
	servers[i].started = world_seconds();
}

void
servers_hang(unsigned int i, bool hangs)
{
	servers[i].hangs = hangs;
}

void
servers_accept(unsigned int i, enum world_accept how)
{
	servers[i].how = how;
}

void
servers_lie(unsigned int i, enum lie lie)
{
	servers[i].lie = lie;
}

bool
servers_are_well(unsigned int i)
{
	return !servers[i].is_dead && !servers[i].hangs &&
	    servers[i].how == WORLD_ACCEPTS;
}

const struct model *
servers_model(unsigned int i)
{
	return &servers[i].model;
}

bool
servers_told_twice(void)
{
	return told_twice;
}

static void
close_mute_conns(struct server *server)
{
	int j;

	for (j = 0; j < CONNS_MAX; j++)
		if (server->conns[j].end != -1 && server->conns[j].is_mute)
			conn_end(&server->conns[j], false);
}

void
servers_heal(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		close_mute_conns(&servers[i]);
		servers_start(i);
		servers[i].hangs = false;
		servers[i].how = WORLD_ACCEPTS;
		servers[i].lie = LIE_NONE;
	}
}
