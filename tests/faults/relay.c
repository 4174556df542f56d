/*
 * A relay before one server that breaks connections on command.
 *
 * relay LISTEN-PORT PORT
 *
 * Commands come on stdin, a line each; each is answered with a line when it
 * has taken effect:
 *
 *     rst N    pass N more bytes of replies, then end that connection with RST
 *     fin N    the same with FIN
 *     hold N   pass N more bytes of replies, then none; requests still pass
 *     stall    pass nothing
 *     pass     let everything pass again
 *     drop     end all connections with RST (the server was killed)
 *     slow MS  from now on each piece of requests passes so much later
 *
 * A connection that was cut has ended on the server's side first: whatever it
 * had been asked, it has done by then.  What a dead client had asked during a
 * stall is dropped.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 64 << 10 };

enum mode { PASS, RST, FIN, HOLD, STALL };

struct link {
	LIST_ENTRY(link) entry;
	int client, server;
	bool reset; /* it is to end with RST */
	bool cut;   /* by command, which waits for its end */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum mode mode;
static long left;    /* bytes of replies that may still pass */
static bool cutting; /* a connection is being ended */
static long delay;   /* of requests, ms */
static LIST_HEAD(, link) links = LIST_HEAD_INITIALIZER(links);
static struct sockaddr_in target;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static bool
send_all(int fd, const char *bytes, size_t n)
{
	ssize_t sent;

	while (n > 0) {
		sent = send(fd, bytes, n, MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		bytes += sent;
		n -= (size_t)sent;
	}
	return true;
}

static bool
is_alive(int fd)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
	    info.tcpi_state == TCP_ESTABLISHED;
}

static void
wait_delay(void)
{
	struct timespec time;

	pthread_mutex_lock(&lock);
	time.tv_sec = delay / 1000;
	time.tv_nsec = delay % 1000 * 1000000;
	pthread_mutex_unlock(&lock);
	nanosleep(&time, NULL);
}

static void *
pass_requests(void *arg)
{
	struct link *link = arg;
	char *bytes = malloc(BUFFER);
	bool waited, alive = true;
	ssize_t n;

	while (alive && (n = recv(link->client, bytes, BUFFER, 0)) > 0) {
		wait_delay();
		pthread_mutex_lock(&lock);
		for (waited = false; mode == STALL; waited = true)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
		alive = (!waited || is_alive(link->client)) &&
		    send_all(link->server, bytes, (size_t)n);
	}
	shutdown(link->server, SHUT_WR);
	free(bytes);
	return NULL;
}

/* How many of n bytes may pass; what is to happen then, PASS: go on. */
static size_t
gate(size_t n, enum mode *then)
{
	size_t may = n;

	pthread_mutex_lock(&lock);
	while (mode == STALL || (mode == HOLD && left == 0))
		pthread_cond_wait(&changed, &lock);
	*then = PASS;
	if (mode != PASS) {
		if ((size_t)left < n)
			may = (size_t)left;
		left -= (long)may;
		if (left == 0)
			*then = mode;
		if (left == 0 && mode != HOLD) {
			cutting = true;
			mode = PASS;
		}
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	return may;
}

/* Nothing more reaches the server; wait until it has ended, too. */
static void
end_server(struct link *link, char *bytes)
{
	shutdown(link->server, SHUT_WR);
	while (recv(link->server, bytes, BUFFER, 0) > 0)
		;
}

/* Pass n bytes on as the commands allow.  Returns whether to go on. */
static bool
pass_reply(struct link *link, char *bytes, size_t n, char *waste)
{
	enum mode then;
	size_t may;

	do {
		may = gate(n, &then);
		link->cut = then == RST || then == FIN;
		if (link->cut)
			shutdown(link->client, SHUT_RD);
		if (!send_all(link->client, bytes, may))
			return false;
		bytes += may;
		n -= may;
	} while (n > 0 && (then == PASS || then == HOLD));
	if (then == PASS || then == HOLD)
		return true;
	end_server(link, waste);
	if (then == RST)
		link->reset = true;
	else
		shutdown(link->client, SHUT_WR);
	return false;
}

static void
end_link(struct link *link)
{
	struct linger none = { .l_onoff = 1 };

	pthread_mutex_lock(&lock);
	LIST_REMOVE(link, entry);
	if (link->reset)
		setsockopt(link->client, SOL_SOCKET, SO_LINGER, &none,
		    sizeof(none));
	close(link->client);
	close(link->server);
	if (link->cut)
		cutting = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	free(link);
}

static void *
run_link(void *arg)
{
	struct link *link = arg;
	char *bytes = malloc(BUFFER), *waste = malloc(BUFFER);
	pthread_t requests;
	ssize_t n;

	if (bytes == NULL || waste == NULL ||
	    pthread_create(&requests, NULL, pass_requests, link) != 0)
		die("link");
	while ((n = recv(link->server, bytes, BUFFER, 0)) > 0)
		if (!pass_reply(link, bytes, (size_t)n, waste))
			break;
	if (n < 0)
		link->reset = true;
	shutdown(link->client, SHUT_RD);
	shutdown(link->server, SHUT_RDWR);
	pthread_join(requests, NULL);
	end_link(link);
	free(bytes);
	free(waste);
	return NULL;
}

static void
new_link(int client)
{
	struct linger none = { .l_onoff = 1 };
	struct link *link = calloc(1, sizeof(*link));
	pthread_t thread;
	int one = 1;

	if (link == NULL)
		die("link");
	link->client = client;
	link->server = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(link->server, (struct sockaddr *)&target, sizeof(target)) ==
	    -1) {
		setsockopt(client, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(client);
		close(link->server);
		free(link);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(link->server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pthread_mutex_lock(&lock);
	LIST_INSERT_HEAD(&links, link, entry);
	pthread_mutex_unlock(&lock);
	if (pthread_create(&thread, NULL, run_link, link) != 0)
		die("thread");
	pthread_detach(thread);
}

static void *
run_listener(void *arg)
{
	int *listener = arg;
	int client;

	while ((client = accept(*listener, NULL, NULL)) != -1)
		new_link(client);
	die("accept");
	return NULL;
}

/* End all connections, and wait until that has happened. */
static void
drop(void)
{
	struct link *link;

	LIST_FOREACH(link, &links, entry) {
		link->reset = true;
		shutdown(link->client, SHUT_RD);
		shutdown(link->server, SHUT_RDWR);
	}
}

static void
obey(const char *word, long number)
{
	static const char *const words[] = {
		[PASS] = "pass",
		[RST] = "rst",
		[FIN] = "fin",
		[HOLD] = "hold",
		[STALL] = "stall",
	};
	size_t i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0)
			mode = (enum mode)i;
	if (strcmp(word, "slow") == 0)
		delay = number;
	else
		left = number;
	if (strcmp(word, "drop") == 0)
		drop();
	pthread_cond_broadcast(&changed);
	/* A cut has taken effect when it has cut. */
	while (mode == RST || mode == FIN || cutting)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	puts(word);
	fflush(stdout);
}

static void
set_address(struct sockaddr_in *address, const char *port)
{
	address->sin_family = AF_INET;
	address->sin_port = htons((uint16_t)atoi(port));
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

int
main(int argc, char *argv[])
{
	struct sockaddr_in address = { 0 };
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	char line[80], word[16];
	pthread_t thread;
	int one = 1;
	long number;

	if (argc != 3) {
		fprintf(stderr, "usage: relay LISTEN-PORT PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	set_address(&address, argv[1]);
	set_address(&target, argv[2]);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) ==
		-1 ||
	    listen(listener, 64) == -1)
		die("listen");
	if (pthread_create(&thread, NULL, run_listener, &listener) != 0)
		die("thread");
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		number = 0;
		if (sscanf(line, "%15s %ld", word, &number) >= 1)
			obey(word, number);
	}
	return 0;
}
