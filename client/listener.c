/*
 * Bind listening sockets, and accept clients from them.
 *
 * Invariant: a listener waits for connections, or for the end of its pause,
 * never both.
 */

#include "client/listener.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "client/clients.h"
#include "client/stats.h"
#include "log.h"

enum {
	/* Connections that the kernel keeps until we accept them. */
	BACKLOG = 1024,
	/* Clients that are accepted at a time; then others have their turn. */
	ACCEPT_MAX = 64,
	/* How long nothing is accepted when there is no descriptor left. */
	PAUSE_MS = 100,
	/* Seconds of silence before a client is asked for a sign of life. */
	KEEPALIVE_IDLE = 60,
	/* Seconds between two such questions. */
	KEEPALIVE_INTERVAL = 10,
	/* Questions without an answer before the connection has failed. */
	KEEPALIVE_COUNT = 3,
};

struct listener {
	int fd;                  /* owned */
	struct clients *clients; /* borrowed */
	struct stats *stats;     /* borrowed */
	struct event *readable;  /* owned; added unless there is a pause */
	struct event *pause;     /* owned; added during a pause: its end */
};

/*
 * Binding
 */

/* A socket that listens on info.  Returns -1 and errno if there is none. */
static int
bind_to(const struct addrinfo *info)
{
	int one = 1;
	int fd = socket(info->ai_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, info->ai_protocol);

	if (fd == -1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, info->ai_addr, info->ai_addrlen) == -1 ||
	    listen(fd, BACKLOG) == -1) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

int
listener_bind_tcp(const char *host, unsigned int port)
{
	struct addrinfo hints = {
		.ai_flags = AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *info;
	char service[16];
	int error, fd;

	assert(host != NULL && port > 0 && port <= UINT16_MAX);
	snprintf(service, sizeof(service), "%u", port);
	error = getaddrinfo(host, service, &hints, &info);
	if (error != 0) {
		log_error("-l %s: %s", host, gai_strerror(error));
		return -1;
	}
	fd = bind_to(info);
	freeaddrinfo(info);
	if (fd == -1)
		log_error("cannot listen on %s port %u: %s", host, port,
		    strerror(errno));
	return fd;
}

/* Whether there is a socket file at this address that nobody listens on. */
static bool
is_stale(const struct sockaddr_un *address)
{
	struct stat status;
	bool stale;
	int fd;

	if (lstat(address->sun_path, &status) == -1 ||
	    !S_ISSOCK(status.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return false;
	stale = connect(fd, (const struct sockaddr *)address,
		    sizeof(*address)) == -1 &&
	    errno == ECONNREFUSED;
	close(fd);
	return stale;
}

int
listener_bind_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct addrinfo info = {
		.ai_family = AF_UNIX,
		.ai_addr = (struct sockaddr *)&address,
		.ai_addrlen = sizeof(address),
	};
	int fd;

	assert(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	if (is_stale(&address))
		unlink(path);
	fd = bind_to(&info);
	/* Every user may connect, as to a port. */
	if (fd == -1 || chmod(path, 0777) == -1) {
		log_error("cannot listen on %s: %s", path, strerror(errno));
		if (fd != -1)
			close(fd);
		return -1;
	}
	return fd;
}

/*
 * Accepting
 */

/* Accept nothing for a while: the cause may be over then. */
static void
pause_listener(struct listener *listener, const char *why)
{
	struct timeval wait = { .tv_usec = PAUSE_MS * 1000 };

	assert(!event_pending(listener->pause, EV_TIMEOUT, NULL));
	log_warning("cannot accept clients: %s", why);
	event_del(listener->readable);
	event_add(listener->pause, &wait);
	listener->stats->listen_disabled++;
	listener->stats->accepting = false;
}

static void
on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;

	(void)fd;
	(void)what;
	assert(!event_pending(listener->readable, EV_READ, NULL));
	listener->stats->listen_disabled_us += PAUSE_MS * 1000;
	listener->stats->accepting = true;
	event_add(listener->readable, NULL);
}

/* Send at once, and notice when the host of a client is gone. */
static void
set_options(int fd)
{
	int one = 1, idle = KEEPALIVE_IDLE;
	int interval = KEEPALIVE_INTERVAL, count = KEEPALIVE_COUNT;

	/* On a unix socket these fail, and are not needed. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;
	int client;
	int i;

	(void)what;
	assert(fd == listener->fd);
	for (i = 0; i < ACCEPT_MAX; i++) {
		client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client == -1)
			break;
		set_options(client);
		clients_accept(listener->clients, client);
	}
	if (client == -1 && errno != EAGAIN && errno != EINTR &&
	    errno != ECONNABORTED)
		pause_listener(listener, strerror(errno));
}

struct listener *
listener_new(struct event_base *base, int fd, struct clients *clients,
    struct stats *stats)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	assert(fd != -1 && clients != NULL && stats != NULL);
	if (listener == NULL)
		return NULL;
	listener->fd = fd;
	listener->clients = clients;
	listener->stats = stats;
	listener->readable = event_new(base, fd, EV_READ | EV_PERSIST,
	    on_acceptable, listener);
	listener->pause = event_new(base, -1, 0, on_pause_over, listener);
	if (listener->readable == NULL || listener->pause == NULL ||
	    event_add(listener->readable, NULL) == -1) {
		listener_free(listener);
		return NULL;
	}
	stats->accepting = true;
	return listener;
}

void
listener_free(struct listener *listener)
{
	if (listener == NULL)
		return;
	if (listener->readable != NULL)
		event_free(listener->readable);
	if (listener->pause != NULL)
		event_free(listener->pause);
	close(listener->fd);
	free(listener);
}
