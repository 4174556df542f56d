/*
 * Accept clients from one listening socket.
 *
 * The system gives the lowest number that is free to a new descriptor.  So the
 * number of a client says how many descriptors are left.  The last of them are
 * for servers that come back: without them all clients would get misses.
 *
 * Mostly they come one by one, so no call is spent on finding that there is no
 * other one.  If they come faster, more are accepted at a time.
 *
 * Invariant: a listener waits for connections, or for the end of its pause,
 * never both.  Each client has the options that its socket is listened on with,
 * or, if it has come before these were set, is given them.
 */

#include "client/listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "client/clients.h"
#include "client/stats.h"
#include "log.h"

enum {
	/* Clients that are accepted at a time; then others have their turn. */
	ACCEPT_MAX = 64,
	/* So often there must have been as many as were accepted, before more
	   are accepted at a time. */
	FULL_MAX = 4,
	/* So often, before a socket is closed: more do not wait. */
	EMPTY_MAX = 64,
	/* How long nothing is accepted when there is no descriptor left. */
	PAUSE_MS = 100,
	/* Seconds of silence before a client is asked for a sign of life. */
	KEEPALIVE_IDLE = 60,
	/* Seconds between two such questions. */
	KEEPALIVE_INTERVAL = 10,
	/* Questions without an answer before the connection has failed. */
	KEEPALIVE_COUNT = 3,
	/* Bytes that the system takes for a client ahead of what it sends.
	   More would wait in its memory instead of ours, and nobody would count
	   it. */
	UNSENT_MAX = 128 << 10,
};

struct listener {
	int fd;                     /* borrowed */
	unsigned int kept;          /* descriptors that are not for clients */
	struct clients *clients;    /* borrowed */
	struct stats *stats;        /* borrowed */
	struct event *readable;     /* owned; added unless there is a pause */
	struct event *pause;        /* owned; added during a pause: its end */
	struct log_trouble trouble; /* why it pauses */
	int at_a_time;              /* clients that are accepted, at most */
	int full;                   /* how often in a row they were as many */
	bool has_old; /* clients may wait from before its options were set */
	/* What file_limit() has read last, the second of that, and for which
	   descriptor. */
	rlim_t limit;
	time_t limit_read;
	int highest;
};

/* Accept nothing for a while: the cause may be over then. */
static void
pause_listener(struct listener *listener, const char *why)
{
	struct timeval wait = { .tv_usec = PAUSE_MS * 1000 };

	assert(!event_pending(listener->pause, EV_TIMEOUT, NULL));
	if (log_is_due(&listener->trouble, why))
		log_warning("cannot accept clients: %s", why);
	/* Without memory for the pause it tries again at once. */
	if (event_add(listener->pause, &wait) == -1)
		return;
	event_del(listener->readable);
	listener->stats->listen_disabled++;
	listener->stats->paused_listeners++;
}

/* The limit of descriptors.  It may be changed from outside at any time: so it
   is read each second, and when there are more than there were. */
static rlim_t
file_limit(struct listener *listener, int fd)
{
	time_t now = time(NULL);
	struct rlimit limit;

	if (now == listener->limit_read && fd <= listener->highest)
		return listener->limit;
	listener->limit_read = now;
	listener->highest = fd;
	listener->limit = RLIM_INFINITY;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		listener->limit = limit.rlim_cur;
	return listener->limit;
}

/* Whether fd is one of the descriptors that are not for clients. */
static bool
is_kept(struct listener *listener, int fd)
{
	rlim_t kept = listener->kept, limit = file_limit(listener, fd);

	assert(fd >= 0);
	if (kept > limit / 2)
		kept = limit / 2;
	return (rlim_t)fd >= limit - kept;
}

/* Whether there is a descriptor for one more client. */
static bool
has_descriptor(struct listener *listener)
{
	bool is_good;
	int fd;

	if (!is_kept(listener, INT_MAX))
		return true; /* there is no limit */
	fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	is_good = fd != -1 && !is_kept(listener, fd);
	if (fd != -1)
		close(fd);
	return is_good;
}

static void
on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;

	(void)fd;
	(void)what;
	assert(!event_pending(listener->readable, EV_READ, NULL));
	assert(listener->stats->paused_listeners > 0);
	listener->stats->listen_disabled_us += PAUSE_MS * 1000;
	listener->stats->paused_listeners--;
	if (!has_descriptor(listener))
		pause_listener(listener, strerror(EMFILE));
	else if (event_add(listener->readable, NULL) == -1)
		pause_listener(listener, "out of memory");
}

/* Send at once, but do not take more than that, and notice when the host of a
   client is gone. */
static void
set_options(int fd)
{
	int one = 1, idle = KEEPALIVE_IDLE;
	int interval = KEEPALIVE_INTERVAL, count = KEEPALIVE_COUNT;
	int unsent = UNSENT_MAX;

	/* On a unix socket these fail, and are not needed. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

/* There were as many as are accepted at a time; or fewer, and none waits. */
static void
note_how_many(struct listener *listener, bool is_full)
{
	if (!is_full) {
		listener->at_a_time = 1;
		listener->full = 0;
		listener->has_old = false;
	} else if (++listener->full > FULL_MAX &&
	    listener->at_a_time < ACCEPT_MAX) {
		listener->at_a_time *= 2;
	}
}

/* Returns whether more may wait. */
static bool
accept_some(struct listener *listener, int at_a_time)
{
	int client = -1;
	int i;

	for (i = 0; i < at_a_time; i++) {
		client = accept4(listener->fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client == -1)
			break;
		if (listener->has_old)
			set_options(client);
		clients_accept(listener->clients, client);
		if (is_kept(listener, client)) {
			pause_listener(listener, strerror(EMFILE));
			return false;
		}
	}
	if (client != -1 || errno == EAGAIN)
		note_how_many(listener, client != -1);
	else if (errno != EINTR && errno != ECONNABORTED)
		pause_listener(listener, strerror(errno));
	return client != -1;
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;

	(void)what;
	assert(fd == listener->fd);
	(void)fd;
	accept_some(listener, listener->at_a_time);
}

void
listener_empty(struct listener *listener)
{
	int i;

	/* Others may come all the time. */
	for (i = 0; i < EMPTY_MAX && accept_some(listener, ACCEPT_MAX); i++)
		;
}

struct listener *
listener_new(struct event_base *base, int fd, unsigned int kept,
    struct clients *clients, struct stats *stats)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	assert(fd != -1 && clients != NULL && stats != NULL);
	if (listener == NULL)
		return NULL;
	listener->fd = fd;
	listener->kept = kept;
	listener->clients = clients;
	listener->stats = stats;
	/* Until one finds that none waits. */
	listener->at_a_time = ACCEPT_MAX;
	listener->has_old = true;
	set_options(fd);
	listener->readable = event_new(base, fd, EV_READ | EV_PERSIST,
	    on_acceptable, listener);
	listener->pause = event_new(base, -1, 0, on_pause_over, listener);
	if (listener->readable == NULL || listener->pause == NULL ||
	    event_add(listener->readable, NULL) == -1) {
		listener_free(listener);
		return NULL;
	}
	return listener;
}

void
listener_free(struct listener *listener)
{
	if (listener == NULL)
		return;
	if (listener->pause != NULL &&
	    event_pending(listener->pause, EV_TIMEOUT, NULL))
		listener->stats->paused_listeners--;
	if (listener->readable != NULL)
		event_free(listener->readable);
	if (listener->pause != NULL)
		event_free(listener->pause);
	free(listener);
}
