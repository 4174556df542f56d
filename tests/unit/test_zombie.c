/* Connections that have ended for us: what the other side sees, and when they
   are over. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "server/zombie.h"
#include "unit.h"

static struct event_base *base;
static struct zombies *zombies;

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* Two ends of a connection over TCP. */
static void
open_pair(int *ours, int *theirs)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	*ours = socket(AF_INET, SOCK_STREAM, 0);
	unit_need(bind(listener, (struct sockaddr *)&address, length) == 0 &&
		listen(listener, 1) == 0 &&
		getsockname(listener, (struct sockaddr *)&address, &length) ==
		    0 &&
		connect(*ours, (struct sockaddr *)&address, length) == 0,
	    "connect");
	*theirs = accept(listener, NULL, NULL);
	unit_need(*theirs != -1, "accept");
	close(listener);
}

/* The other side gets what was sent, and then the end; its replies are thrown
   away; it is over when the other side has ended. */
static void
test_zombie_is_over_when_the_other_side_ends(void)
{
	static char bytes[1 << 20];
	size_t sent = 0;
	int ours, theirs;
	ssize_t n;

	open_pair(&ours, &theirs);
	check(send(ours, "set", 3, 0) == 3);
	zombies_add(zombies, ours);
	check(zombies_count(zombies) == 1);
	check(recv(theirs, bytes, 3, MSG_WAITALL) == 3);
	check(recv(theirs, bytes, 1, 0) == 0);
	/* More than fits in a socket. */
	while (sent < 8 * sizeof(bytes)) {
		n = send(theirs, bytes, sizeof(bytes), MSG_DONTWAIT);
		check(n > 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		turn();
	}
	zombies_reset_unheard(zombies, 0);
	check(zombies_count(zombies) == 1);
	close(theirs);
	while (zombies_count(zombies) > 0)
		turn();
}

/* A server that has gone has nothing to carry out. */
static void
test_zombie_is_over_when_the_other_side_resets(void)
{
	struct linger linger = { .l_onoff = 1 };
	int ours, theirs;

	open_pair(&ours, &theirs);
	zombies_add(zombies, ours);
	setsockopt(theirs, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(theirs);
	while (zombies_count(zombies) > 0)
		turn();
	/* And one that had gone before. */
	open_pair(&ours, &theirs);
	setsockopt(theirs, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(theirs);
	zombies_add(zombies, ours);
	while (zombies_count(zombies) > 0)
		turn();
}

static void
test_zombies_that_are_reset_are_reset(void)
{
	int ours[2], theirs[2], i;
	char byte;

	for (i = 0; i < 2; i++) {
		open_pair(&ours[i], &theirs[i]);
		zombies_add(zombies, ours[i]);
	}
	check(zombies_count(zombies) == 2);
	zombies_reset(zombies);
	check(zombies_count(zombies) == 0);
	for (i = 0; i < 2; i++) {
		/* The end came first. */
		check(recv(theirs[i], &byte, 1, 0) == 0 || errno == ECONNRESET);
		check(send(theirs[i], "x", 1, MSG_NOSIGNAL) == -1);
		close(theirs[i]);
	}
}

static void
test_zombie_of_a_unix_socket_is_one_as_well(void)
{
	int ends[2];

	unit_need(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
	zombies_add(zombies, ends[0]);
	zombies_reset_unheard(zombies, 0);
	turn();
	check(zombies_count(zombies) == 1);
	close(ends[1]);
	while (zombies_count(zombies) > 0)
		turn();
}

int
main(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	zombies = zombies_new(base);
	unit_need(zombies != NULL, "zombies_new");
	RUN(test_zombie_is_over_when_the_other_side_ends);
	RUN(test_zombie_is_over_when_the_other_side_resets);
	RUN(test_zombies_that_are_reset_are_reset);
	RUN(test_zombie_of_a_unix_socket_is_one_as_well);
	zombies_free(zombies);
	zombies_free(NULL);
	event_base_free(base);
	return unit_end();
}
