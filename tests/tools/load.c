/*
 * Load for measurements: clients that get and set keys, and check each answer.
 *
 * load -p PORT [OPTION ...]
 *	-c CLIENTS	that ask (1)
 *	-i CLIENTS	that only stay connected (0)
 *	-n REQUESTS	of all clients together (1), or instead
 *	-t SECONDS	for which they ask
 *	-s PERCENT	of the requests that are sets (0); the others are gets
 *	-k KEYS		of each get (1)
 *	-d DEPTH	requests that a client sends at once (1)
 *	-v BYTES	of each value (100)
 *	-K KEYS		that there are (10000)
 *	-r RATE		requests per second (as fast as they are answered)
 *	-C		a connection of its own for each request
 *	-f		the keys are set already
 *	-w		say "ready", wait for a line of stdin, run, print the
 *			result, and wait for another line
 *
 * First the keys are set, and every client gets an answer to one request.  Then
 * the clock starts.
 *
 * Without a rate a client sends its next requests when the last ones are
 * answered.  With a rate, requests are due at fixed times.  One that finds no
 * idle client waits for one, and its latency counts from when it was due.
 *
 * Prints the number of requests, seconds, requests per second, and the latency
 * in microseconds, each behind its name.  Exits with 1 if an answer is wrong or
 * missing, or a connection ends.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/tools/stream.h"

enum {
	BUFFER = 256 << 10,
	EVENTS = 512,
	ADDRESSES = 64, /* of clients, so that ports do not run out */
	AT_ONCE = 64,   /* keys that are set at once at the beginning */
	PATIENCE = 30,  /* seconds until an answer is missing */
	SHOWN = 60,     /* bytes of a wrong answer */
	FINE = 7,       /* 2^7 steps of the histogram until time doubles */
};

#define SECOND INT64_C(1000000000)

/* When clients send. */
struct pace {
	int64_t requests, time; /* of these two one ends it; the other is -1 */
	double rate;            /* 0: as fast as possible */
	unsigned int depth;
};

/* What the command line asks for. */
struct plan {
	unsigned int port, clients, idle, keys;
	size_t value;
	struct mixture mixture;
	struct pace pace;
	bool reconnect, filled, waits;
};

struct client {
	int fd;
	bool blocked; /* waits until it can send */
	struct stream asked, answered;
	int64_t wanted; /* requests in all until now */
	int64_t since;  /* when the last of them were due */
};

static struct client *clients;

/* The first clients, as many as ask, wait here for their turn. */
static struct client **idle;
static unsigned int asking, first_idle, idle_count;

static unsigned int port;
static bool reconnect; /* for each request */
static int epoll;

/* This run: its beginning, and the requests that were sent and answered. */
static struct pace pace;
static int64_t begun, started, finished;
static uint64_t histogram[64 << FINE];

static void
die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static void *
allocate(size_t n, size_t size)
{
	void *memory = calloc(n + 1, size);

	if (memory == NULL)
		die("memory");
	return memory;
}

/* Go on by n bytes, or to the end of what is wanted; copies them, unless to is
 * NULL.  Returns how many there were. */
static size_t
take(struct client *client, char *to, size_t n)
{
	struct stream *asked = &client->asked;
	const char *from;
	size_t taken = 0, some;

	while (taken < n && asked->whole < client->wanted) {
		some = n - taken;
		from = stream_request(asked, &some);
		if (to != NULL)
			memcpy(to + taken, from, some);
		stream_pass(asked, some);
		taken += some;
	}
	return taken;
}

static void
watch(struct client *client, int operation, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = client };

	if (epoll_ctl(epoll, operation, client->fd, &event) == -1)
		die("epoll_ctl");
}

static void
set_blocked(struct client *client, bool blocked)
{
	if (blocked != client->blocked)
		watch(client, EPOLL_CTL_MOD,
		    blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
	client->blocked = blocked;
}

/* Send as much as the socket takes of what is wanted. */
static void
send_wanted(struct client *client)
{
	static char buffer[BUFFER];
	struct stream before;
	size_t n;
	ssize_t sent;

	do {
		before = client->asked;
		n = take(client, buffer, sizeof(buffer));
		sent = send(client->fd, buffer, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent == -1 && errno != EAGAIN)
			die("send");
		if (sent < (ssize_t)n) {
			client->asked = before;
			take(client, NULL, sent == -1 ? 0 : (size_t)sent);
			set_blocked(client, true);
			return;
		}
	} while (client->asked.whole < client->wanted);
	set_blocked(client, false);
}

static void
connect_client(struct client *client)
{
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0x7f010101 +
		    (unsigned int)(client - clients) % ADDRESSES),
	};
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int one = 1;

	client->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (client->fd == -1)
		die("socket");
	setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one,
	    sizeof(one));
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(client->fd, (struct sockaddr *)&from, sizeof(from)) == -1)
		die("bind");
	if (connect(client->fd, (struct sockaddr *)&to, sizeof(to)) == -1)
		die("connect");
	watch(client, EPOLL_CTL_ADD, EPOLLIN);
	client->blocked = false;
}

/* The bucket of a time: exact when it is short, then to a part in 2^FINE. */
static size_t
bucket_of(int64_t time)
{
	int shift = 63 - FINE - __builtin_clzll((uint64_t)time | 1 << FINE);

	return ((size_t)shift << FINE) + (size_t)(time >> shift);
}

static int64_t
time_of(size_t bucket)
{
	size_t octave = bucket >> FINE;

	if (octave <= 1)
		return (int64_t)bucket;
	return (int64_t)((bucket & ((1 << FINE) - 1)) + (1 << FINE))
	    << (octave - 1);
}

/* The time, in microseconds, within which this part of the requests was
 * answered. */
static double
percentile(double part)
{
	double left = part * (double)finished;
	size_t i;

	for (i = 0; i + 1 < sizeof(histogram) / sizeof(histogram[0]); i++) {
		left -= (double)histogram[i];
		if (histogram[i] > 0 && left <= 0)
			break;
	}
	return (double)time_of(i) / 1e3;
}

static void
become_idle(struct client *client)
{
	idle[(first_idle + idle_count++) % asking] = client;
}

static struct client *
take_idle(void)
{
	struct client *client = idle[first_idle];

	first_idle = (first_idle + 1) % asking;
	idle_count--;
	return client;
}

/* When the next request is due; INT64_MAX if there is none. */
static int64_t
next_due(int64_t time)
{
	int64_t due = time;

	if (pace.rate > 0)
		due = begun + (int64_t)((double)started / pace.rate * SECOND);
	if (pace.time >= 0 ? due >= begun + pace.time :
			     started >= pace.requests)
		return INT64_MAX;
	return due;
}

/* Let idle clients send what is due. */
static void
start_due(int64_t time)
{
	struct client *client;
	int64_t n, due;

	while (idle_count > 0 && (due = next_due(time)) <= time) {
		client = take_idle();
		n = pace.depth;
		if (pace.time < 0 && n > pace.requests - started)
			n = pace.requests - started;
		started += n;
		client->wanted += n;
		client->since = due;
		if (reconnect)
			connect_client(client);
		send_wanted(client);
	}
}

static void
show(const char *what, const char *bytes, size_t n)
{
	size_t i;

	fprintf(stderr, "%s \"", what);
	for (i = 0; i < n && i < SHOWN; i++) {
		if (bytes[i] >= ' ' && bytes[i] <= '~')
			fputc(bytes[i], stderr);
		else
			fprintf(stderr, "\\x%02x", (unsigned char)bytes[i]);
	}
	fprintf(stderr, "\"");
}

/* End because these bytes are not what was expected. */
static void
fail(const char *expected, size_t length, const char *received, size_t n)
{
	fprintf(stderr, "load: wrong answer:");
	show(" expected", expected, length);
	show(", received", received, n);
	fprintf(stderr, "\n");
	exit(1);
}

/* Compare what has arrived with the answers that are expected. */
static void
take_answers(struct client *client, const char *bytes, size_t n, int64_t time)
{
	struct stream *answered = &client->answered;
	const char *expected;
	size_t some;

	for (; n > 0; bytes += some, n -= some) {
		if (answered->whole == client->wanted)
			fail("", 0, bytes, n);
		some = n;
		expected = stream_answer(answered, &some);
		if (memcmp(expected, bytes, some) != 0)
			fail(expected, answered->left, bytes, n);
		if (stream_pass(answered, some)) {
			finished++;
			histogram[bucket_of(time - client->since)]++;
		}
	}
}

static void
on_input(struct client *client)
{
	static char buffer[BUFFER];
	ssize_t n = recv(client->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	int64_t time = now();

	if (n == -1 && errno == EAGAIN)
		return;
	if (n == -1)
		die("recv");
	if (n == 0) {
		fprintf(stderr, "load: a connection was closed\n");
		exit(1);
	}
	take_answers(client, buffer, (size_t)n, time);
	if (client->answered.whole < client->wanted)
		return;
	if (reconnect)
		close(client->fd);
	become_idle(client);
	start_due(time);
}

/* Wait for events, or for the time when an idle client is to send. */
static void
turn(void)
{
	struct epoll_event events[EVENTS];
	struct timespec left = { .tv_sec = PATIENCE };
	int64_t time = now();
	int64_t due = next_due(time);
	bool is_next = idle_count > 0 && due != INT64_MAX;
	int i, n;

	if (is_next) {
		left.tv_sec = due > time ? (due - time) / SECOND : 0;
		left.tv_nsec = due > time ? (due - time) % SECOND : 0;
	}
	n = epoll_pwait2(epoll, events, EVENTS, &left, NULL);
	if (n == -1 && errno != EINTR)
		die("epoll_pwait2");
	if (n == 0 && !is_next) {
		fprintf(stderr, "load: no answer for %d seconds\n", PATIENCE);
		exit(1);
	}
	for (i = 0; i < n; i++) {
		if (events[i].events & EPOLLOUT)
			send_wanted(events[i].data.ptr);
		if (events[i].events & ~(uint32_t)EPOLLOUT)
			on_input(events[i].data.ptr);
	}
	start_due(now());
}

/* Let clients ask at this pace, until all is answered. */
static void
run(struct pace wanted)
{
	memset(histogram, 0, sizeof(histogram));
	started = finished = 0;
	pace = wanted;
	begun = now();
	start_due(begun);
	while (finished < started || next_due(now()) != INT64_MAX)
		turn();
}

/* So many of the clients ask from now on; each of them is idle. */
static void
let_ask(unsigned int n)
{
	unsigned int i;

	asking = n;
	first_idle = idle_count = 0;
	for (i = 0; i < n; i++)
		become_idle(&clients[i]);
}

static void
open_clients(unsigned int n, const struct mixture *mixture)
{
	unsigned int i;

	clients = allocate(n, sizeof(*clients));
	idle = allocate(n, sizeof(struct client *));
	epoll = epoll_create1(0);
	for (i = 0; i < n; i++) {
		stream_begin(&clients[i].asked, mixture, i);
		stream_begin(&clients[i].answered, mixture, i);
		if (!reconnect)
			connect_client(&clients[i]);
	}
	let_ask(n);
}

static void
close_clients(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n && !reconnect; i++)
		close(clients[i].fd);
	close(epoll);
	free(clients);
	free(idle);
}

/* Set every key, so that each get is a hit. */
static void
fill(unsigned int keys)
{
	struct mixture each_once = { .keys_of_get = 1, .in_order = true };

	open_clients(1, &each_once);
	run((struct pace){ .requests = keys, .time = -1, .depth = AT_ONCE });
	close_clients(1);
}

/* Have one request of each client answered, so that all are connected. */
static void
greet(unsigned int n)
{
	run((struct pace){ .requests = n, .time = -1, .depth = 1 });
}

static void
print_result(void)
{
	double seconds = (double)(now() - begun) / SECOND;

	printf(
	    "requests %lld seconds %.4f rate %.1f p50 %.1f p99 %.1f "
	    "p999 %.1f max %.1f\n",
	    (long long)finished, seconds, (double)finished / seconds,
	    percentile(0.5), percentile(0.99), percentile(0.999),
	    percentile(1));
	fflush(stdout);
}

static void
wait_for_line(void)
{
	int c;

	do
		c = getchar();
	while (c != '\n' && c != EOF);
}

static void
usage(void)
{
	fprintf(stderr,
	    "usage: load -p PORT [-c CLIENTS] [-i CLIENTS] "
	    "[-n REQUESTS | -t SECONDS]\n"
	    "    [-s PERCENT] [-k KEYS] [-d DEPTH] [-v BYTES] [-K KEYS] "
	    "[-r RATE] [-Cfw]\n");
	exit(2);
}

static void
take_option(struct plan *plan, int option, const char *argument)
{
	double number = argument == NULL ? 0 : atof(argument);

	switch (option) {
	case 'p':
		plan->port = (unsigned int)number;
		break;
	case 'c':
		plan->clients = (unsigned int)number;
		break;
	case 'i':
		plan->idle = (unsigned int)number;
		break;
	case 'n':
		plan->pace.requests = (int64_t)number;
		break;
	case 't':
		plan->pace.time = (int64_t)(number * SECOND);
		break;
	case 's':
		plan->mixture.percent = (unsigned int)number;
		break;
	case 'k':
		plan->mixture.keys_of_get = (unsigned int)number;
		break;
	case 'd':
		plan->pace.depth = (unsigned int)number;
		break;
	case 'v':
		plan->value = (size_t)number;
		break;
	case 'K':
		plan->keys = (unsigned int)number;
		break;
	case 'r':
		plan->pace.rate = number;
		break;
	case 'C':
		plan->reconnect = true;
		break;
	case 'f':
		plan->filled = true;
		break;
	case 'w':
		plan->waits = true;
		break;
	default:
		usage();
	}
}

static void
prepare_process(void)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	/* A request that is due is not sent up to 50 microseconds late. */
	prctl(PR_SET_TIMERSLACK, 1);
}

static struct plan
plan_of(int argc, char *argv[])
{
	struct plan plan = {
		.clients = 1,
		.keys = 10000,
		.value = 100,
		.mixture = { .keys_of_get = 1 },
		.pace = { .requests = 1, .time = -1, .depth = 1 },
	};
	int option;

	while ((option = getopt(argc, argv, "p:c:i:n:t:s:k:d:v:K:r:Cfw")) != -1)
		take_option(&plan, option, optarg);
	if (optind < argc || plan.port == 0 || plan.clients == 0 ||
	    plan.keys == 0 || plan.mixture.keys_of_get == 0 ||
	    plan.pace.depth == 0)
		usage();
	return plan;
}

int
main(int argc, char *argv[])
{
	struct plan plan = plan_of(argc, argv);
	unsigned int all = plan.clients + plan.idle;

	prepare_process();
	port = plan.port;
	stream_make_keys(plan.keys, plan.value);
	if (!plan.filled)
		fill(plan.keys);
	reconnect = plan.reconnect;
	open_clients(all, &plan.mixture);
	greet(all);
	let_ask(plan.clients);
	if (plan.waits) {
		puts("ready");
		fflush(stdout);
		wait_for_line();
	}
	run(plan.pace);
	print_result();
	if (plan.waits)
		wait_for_line();
	close_clients(all);
	return 0;
}
