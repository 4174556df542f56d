/*
 * Connections that have ended for us, but on which a server may still carry out
 * what it was sent.
 *
 *   zombies_add(): FIN -> replies, which are thrown away -> end: it is over
 *
 * A server that was stopped carries out what lies in its sockets when it goes
 * on, even after our RST, and would overwrite newer writes.  So they are not
 * reset; but for those of a host that cannot be reached.  What they hold would
 * come as soon as it can be, even if this process is stopped by then, and
 * another magent may have brought the server further.
 *
 * Invariant: a zombie has a socket whose sending side is closed, and whose end
 * has not come.
 */

#include "server/zombie.h"

#include <assert.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

enum {
	/* A host that is reached has acknowledged by then, also a packet that
	   was lost once. */
	CUT_OFF_MS = 200,
	/* TCP_FIN_WAIT2 of netinet/tcp.h, whose struct tcp_info is too old to
	   have the window. */
	STATE_FIN_WAIT2 = 5,
};

struct zombie {
	LIST_ENTRY(zombie) entry;
	struct zombies *all; /* borrowed */
	int fd;              /* owned */
	/* Owned: there are bytes, or the end. */
	struct event *readable;
};

struct zombies {
	struct event_base *base; /* borrowed */
	LIST_HEAD(, zombie) list;
	size_t count;
};

static void
close_with_reset(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void
remove_zombie(struct zombie *zombie)
{
	assert(zombie->all->count > 0);
	zombie->all->count--;
	LIST_REMOVE(zombie, entry);
	event_free(zombie->readable);
	close_with_reset(zombie->fd);
	free(zombie);
}

/* Throw replies away, so that the server can go on. */
static void
on_zombie_readable(evutil_socket_t fd, short what, void *arg)
{
	struct zombie *zombie = arg;
	char bytes[16 << 10];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	(void)what;
	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
		remove_zombie(zombie);
}

/* Whether the host has room for all that was sent, and has not got it: nothing
   can leave, or what has left is not acknowledged. */
static bool
is_cut_off(int fd)
{
	struct tcp_info info = { .tcpi_state = 0 };
	socklen_t length = sizeof(info);
	uint64_t waiting;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == -1)
		return false;
	waiting = (uint64_t)info.tcpi_unacked * info.tcpi_snd_mss +
	    info.tcpi_notsent_bytes;
	return waiting > 0 && waiting <= info.tcpi_snd_wnd &&
	    (info.tcpi_unacked == 0 || info.tcpi_last_ack_recv >= CUT_OFF_MS);
}

void
zombies_add(struct zombies *zombies, int fd)
{
	struct zombie *zombie = is_cut_off(fd) ?
	    NULL :
	    calloc(1, sizeof(*zombie));

	if (zombie != NULL)
		zombie->readable = event_new(zombies->base, fd,
		    EV_READ | EV_PERSIST, on_zombie_readable, zombie);
	/* If it is not connected any more, it is over. */
	if (zombie == NULL || zombie->readable == NULL ||
	    event_add(zombie->readable, NULL) == -1 ||
	    shutdown(fd, SHUT_WR) == -1) {
		if (zombie != NULL && zombie->readable != NULL)
			event_free(zombie->readable);
		free(zombie);
		close_with_reset(fd);
		return;
	}
	zombie->all = zombies;
	zombie->fd = fd;
	zombies->count++;
	LIST_INSERT_HEAD(&zombies->list, zombie, entry);
}

size_t
zombies_count(const struct zombies *zombies)
{
	return zombies->count;
}

int
zombies_fd(const struct zombies *zombies, size_t i)
{
	const struct zombie *zombie = LIST_FIRST(&zombies->list);

	assert(i < zombies->count);
	while (i-- > 0)
		zombie = LIST_NEXT(zombie, entry);
	return zombie->fd;
}

/*
 * Whether bytes that were sent, or our end, lie in the network, or could not
 * even leave: they were repeated, and nothing was heard for ms.  A full socket
 * of a server that hangs is something else: its host answers, and takes
 * nothing.  It may owe the answer to one probe at this moment.
 */
static bool
is_unheard(const struct zombie *zombie, unsigned int ms)
{
	struct tcp_info info = { .tcpi_state = 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(zombie->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == -1)
		return false;
	return info.tcpi_state != STATE_FIN_WAIT2 &&
	    (info.tcpi_retransmits > 0 || info.tcpi_probes > 1) &&
	    info.tcpi_last_ack_recv >= ms;
}

void
zombies_reset_unheard(struct zombies *zombies, unsigned int ms)
{
	struct zombie *zombie, *next;

	for (zombie = LIST_FIRST(&zombies->list); zombie != NULL;
	     zombie = next) {
		next = LIST_NEXT(zombie, entry);
		if (is_unheard(zombie, ms))
			remove_zombie(zombie);
	}
}

void
zombies_reset(struct zombies *zombies)
{
	while (!LIST_EMPTY(&zombies->list))
		remove_zombie(LIST_FIRST(&zombies->list));
	assert(zombies->count == 0);
}

struct zombies *
zombies_new(struct event_base *base)
{
	struct zombies *zombies = calloc(1, sizeof(*zombies));

	if (zombies == NULL)
		return NULL;
	zombies->base = base;
	LIST_INIT(&zombies->list);
	return zombies;
}

void
zombies_free(struct zombies *zombies)
{
	if (zombies == NULL)
		return;
	zombies_reset(zombies);
	free(zombies);
}
