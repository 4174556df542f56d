/*
 * Load for measurements: closed-loop clients that get (and set) keys.
 *
 * load PORT CLIENTS REQUESTS [get|set|mix|multi:N|pipe:N [filled]]
 *
 * First it sets the keys, unless they are filled.
 * Each client sends its next request when its last reply is whole.  Keys of
 * 20 bytes, values of 100 bytes.  Prints requests, seconds and requests/s;
 * exits with 1 if a reply is not what was expected.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 10000, VALUE = 100, BUFFER = 64 << 10, EVENTS = 512 };

enum mode { GET, SET, MIX, MULTI, PIPE };

struct client {
	int fd;
	size_t expected, received;
};

static enum mode mode;
static unsigned int depth = 1;
static bool filled; /* the keys are set already */
static unsigned int seed = 1;
static char value[VALUE + 3];

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned int
next_key(void)
{
	seed = seed * 1103515245 + 12345;
	return seed / 65536 % KEYS;
}

static size_t
put_set(char *to)
{
	return (size_t)sprintf(to, "set key:%016u 0 0 %d\r\n%s", next_key(),
	    VALUE, value);
}

static size_t
hit_size(void)
{
	return strlen("VALUE key:0000000000000000 0 100\r\n") + VALUE + 2;
}

/* Send the next request; work out how long its reply is. */
static void
next_request(struct client *client)
{
	static char buffer[BUFFER];
	size_t n = 0;
	unsigned int i;

	client->received = 0;
	if (mode == SET || (mode == MIX && next_key() % 10 == 0)) {
		n = put_set(buffer);
		client->expected = strlen("STORED\r\n");
	} else if (mode == MULTI) {
		n = (size_t)sprintf(buffer, "get");
		for (i = 0; i < depth; i++)
			n += (size_t)sprintf(buffer + n, " key:%016u",
			    next_key());
		n += (size_t)sprintf(buffer + n, "\r\n");
		client->expected = depth * hit_size() + strlen("END\r\n");
	} else {
		for (i = 0; i < depth; i++)
			n += (size_t)sprintf(buffer + n, "get key:%016u\r\n",
			    next_key());
		client->expected = depth * (hit_size() + strlen("END\r\n"));
	}
	if (write(client->fd, buffer, n) != (ssize_t)n)
		die("write");
}

/* Returns whether the reply is whole. */
static bool
read_reply(struct client *client)
{
	static char buffer[BUFFER];
	ssize_t n = read(client->fd, buffer, sizeof(buffer));

	if (n <= 0)
		die("read");
	client->received += (size_t)n;
	if (client->received > client->expected) {
		fprintf(stderr, "load: reply too long\n");
		exit(1);
	}
	if (client->received < client->expected)
		return false;
	if (memcmp(buffer + n - 2, "\r\n", 2) != 0) {
		fprintf(stderr, "load: reply without end\n");
		exit(1);
	}
	return true;
}

static int
connect_to(unsigned int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	if (fd == -1 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == -1)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* Set every key, so that each get is a hit. */
static void
fill(unsigned int port)
{
	char buffer[256], reply[9];
	int fd = connect_to(port);
	size_t n, at;
	ssize_t got;
	int i;

	for (i = 0; i < KEYS; i++) {
		n = (size_t)sprintf(buffer, "set key:%016d 0 0 %d\r\n%s", i,
		    VALUE, value);
		if (write(fd, buffer, n) != (ssize_t)n)
			die("write");
		for (at = 0; at < 8; at += (size_t)got) {
			got = read(fd, reply + at, 8 - at);
			if (got <= 0)
				die("read");
		}
	}
	close(fd);
}

static void
run(struct client *clients, int epoll, long requests, int count)
{
	struct epoll_event events[EVENTS];
	struct client *client;
	long sent = count, done = 0;
	int i, n;

	for (i = 0; i < count; i++)
		next_request(&clients[i]);
	while (done < requests) {
		n = epoll_wait(epoll, events, EVENTS, -1);
		for (i = 0; i < n; i++) {
			client = events[i].data.ptr;
			if (!read_reply(client))
				continue;
			done++;
			if (sent < requests) {
				next_request(client);
				sent++;
			}
		}
	}
}

static void
set_mode(const char *name)
{
	const char *colon = strchr(name, ':');

	mode = *name == 'g'             ? GET :
	    *name == 's'                ? SET :
	    strncmp(name, "mi", 2) == 0 ? MIX :
	    *name == 'p'                ? PIPE :
					  MULTI;
	if (colon != NULL)
		depth = (unsigned int)atoi(colon + 1);
}

int
main(int argc, char *argv[])
{
	struct timespec begin, end;
	struct client *clients;
	unsigned int port;
	int count, epoll, i;
	long requests;
	double seconds;

	if (argc < 4) {
		fprintf(stderr,
		    "usage: load PORT CLIENTS REQUESTS "
		    "[MODE [filled]]\n");
		return 2;
	}
	port = (unsigned int)atoi(argv[1]);
	count = atoi(argv[2]);
	requests = atol(argv[3]);
	if (argc > 4)
		set_mode(argv[4]);
	filled = argc > 5;
	memset(value, 'v', VALUE);
	memcpy(value + VALUE, "\r\n", 2);
	if (requests < count)
		requests = count;
	if (!filled)
		fill(port);
	clients = calloc((size_t)count, sizeof(*clients));
	epoll = epoll_create1(0);
	for (i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN };

		clients[i].fd = connect_to(port);
		event.data.ptr = &clients[i];
		epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	run(clients, epoll, requests, count);
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = (double)(end.tv_sec - begin.tv_sec) +
	    (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	printf("%ld requests %.3f s %.0f requests/s\n", requests, seconds,
	    (double)requests / seconds);
	free(clients);
	return 0;
}
