/*
 * Ask another magent how it is.
 *
 * Invariant: whatever is waited for, the time for all of it is the same.
 */

#include "health.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "server/address.h"

enum {
	/* Bytes of an answer that are read. */
	ANSWER_MAX = 64 << 10,
};

struct question {
	const struct address *address; /* borrowed */
	unsigned int ms;
	int64_t deadline; /* by the monotonic clock, in milliseconds */
	int fd;           /* -1: none */
	char answer[ANSWER_MAX + 1];
	size_t length;
};

/* Say how it is, and return the exit status. */
static int
end_with(const struct question *question, int status, const char *what)
{
	printf("magent: %s: %s\n", question->address->name, what);
	return status;
}

static int
end_late(const struct question *question)
{
	char what[64];

	snprintf(what, sizeof(what), "no answer within %u ms", question->ms);
	return end_with(question, EXIT_FAILURE, what);
}

/* Wait until the socket is ready for these events of poll().  Returns false if
   the time is over. */
static bool
wait_for(const struct question *question, short events)
{
	struct pollfd wanted = { .fd = question->fd, .events = events };
	int64_t left = question->deadline - clock_ms();

	assert(question->fd != -1);
	return left > 0 && poll(&wanted, 1, (int)left) == 1;
}

/*
 * Connecting
 */

/* Returns whether there is a connection; if not, errno says why. */
static bool
dial(struct question *question, const struct sockaddr *to, socklen_t size)
{
	socklen_t length = sizeof(errno);
	int error = 0;

	question->fd = socket(to->sa_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (question->fd == -1)
		return false;
	if (connect(question->fd, to, size) == 0)
		return true;
	if (errno == EINPROGRESS && !wait_for(question, POLLOUT))
		error = ETIMEDOUT;
	else if (errno != EINPROGRESS ||
	    getsockopt(question->fd, SOL_SOCKET, SO_ERROR, &error, &length) ==
		-1)
		error = errno;
	if (error == 0)
		return true;
	close(question->fd);
	question->fd = -1;
	errno = error;
	return false;
}

static bool
connect_to_path(struct question *question)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = question->address->host;

	assert(strlen(path) < sizeof(to.sun_path));
	memcpy(to.sun_path, path, strlen(path));
	return dial(question, (const struct sockaddr *)&to, sizeof(to));
}

/* Try each address of a name.  Returns NULL, or why there is no connection. */
static const char *
connect_to_name(struct question *question)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found, *one;
	char port[8];
	int error;

	snprintf(port, sizeof(port), "%u", question->address->port);
	error = getaddrinfo(question->address->host, port, &hints, &found);
	if (error != 0)
		return gai_strerror(error);
	question->deadline = clock_ms() + question->ms;
	for (one = found; one != NULL; one = one->ai_next)
		if (dial(question, one->ai_addr, one->ai_addrlen))
			break;
	error = errno;
	freeaddrinfo(found);
	return one == NULL ? strerror(error) : NULL;
}

/*
 * Asking
 */

/* One that has too many clients does not read it, and says so: the answer tells
   whether it was sent. */
static void
ask_how_it_is(const struct question *question)
{
	static const char line[] = "version\r\nstats\r\nquit\r\n";
	ssize_t n;

	n = send(question->fd, line, sizeof(line) - 1, MSG_NOSIGNAL);
	(void)n;
}

/* Read until the other side closes.  Returns false if it is late. */
static bool
read_to_end(struct question *question)
{
	ssize_t n = 1;

	while (n > 0 && question->length < ANSWER_MAX) {
		if (!wait_for(question, POLLIN))
			return false;
		n = read(question->fd, question->answer + question->length,
		    ANSWER_MAX - question->length);
		if (n > 0)
			question->length += (size_t)n;
		else if (n == -1 && (errno == EAGAIN || errno == EINTR))
			n = 1;
	}
	return true;
}

static int
judge_answer(const struct question *question)
{
	static const char full[] = "ERROR Too many open connections";
	static const char name[] = "\r\nSTAT uncovered_pairs ";
	const char *answer = question->answer;
	char what[96];
	const char *found;
	unsigned long uncovered;

	if (strncmp(answer, full, sizeof(full) - 1) == 0)
		return end_with(question, EXIT_FAILURE,
		    "it has too many clients");
	if (strncmp(answer, "VERSION ", 8) != 0)
		return end_with(question, EXIT_FAILURE,
		    question->length == 0 ? "the connection broke" :
					    "this is no magent: no version");
	if (strstr(answer, "\r\nSTAT stopping 1\r\n") != NULL)
		return end_with(question, EXIT_FAILURE, "it is about to end");
	found = strstr(answer, name);
	if (found == NULL)
		return end_with(question, EXIT_FAILURE,
		    "this is no magent: its stats have no uncovered_pairs");
	uncovered = strtoul(found + sizeof(name) - 1, NULL, 10);
	if (uncovered == 0)
		return end_with(question, EXIT_SUCCESS,
		    "every key has a server that is up");
	snprintf(what, sizeof(what),
	    "no server is up for the keys of %lu pairs of servers", uncovered);
	return end_with(question, EXIT_FAILURE, what);
}

int
health_check(const struct address *address, unsigned int ms)
{
	struct question question = { .address = address, .ms = ms, .fd = -1 };
	const char *problem = NULL;
	bool is_late;

	question.deadline = clock_ms() + ms;
	if (address->port != 0)
		problem = connect_to_name(&question);
	else if (!connect_to_path(&question))
		problem = strerror(errno);
	if (problem != NULL)
		return end_with(&question, EXIT_FAILURE, problem);
	ask_how_it_is(&question);
	is_late = !read_to_end(&question);
	close(question.fd);
	return is_late ? end_late(&question) : judge_answer(&question);
}
