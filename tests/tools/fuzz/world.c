/*
 * Time, memory and sockets of the daemon.
 *
 * Invariant: sockets come in pairs, the daemon's end and the far end; each
 * points to the other until one of them is closed.
 */

#include "world.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "loop.h"

enum {
	SOCKETS = 512,
	FIRST_FD = 10000, /* of the daemon: no descriptor of this process */
	EPOCH = 1700000000,
	PORTS = 30000, /* of the daemon's ends */
};

enum kind { KIND_FREE, KIND_FRESH, KIND_LISTENER, KIND_STREAM };

struct end {
	enum kind kind;
	struct end *other; /* NULL: closed, or not connected */
	bool is_daemons;
	bool is_unix;
	bool is_connecting; /* and nobody answers */
	bool has_shut;      /* it sends no more */
	bool is_ended;      /* the other sends no more */
	bool is_reset;      /* by the other */
	bool resets;        /* SO_LINGER with 0 */
	int error;          /* of the connect */
	unsigned int port;  /* of the daemon's end */
	struct bytes in;
	size_t seen; /* bytes of in that the far end has read */
	/* The next of those that wait for accept(). */
	struct end *next;
};

struct world_knobs world_knobs;
bool world_is_loud;

static struct {
	int64_t now; /* never goes back, also not between two worlds */
	unsigned int inside;
	unsigned int ports;
	struct end ends[SOCKETS];
	struct end *listener;
	struct end *arrived; /* waits for accept() */
	world_connected *connected;
} world = { .now = 1000000 };

void
finding(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "finding: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	abort();
}

void
world_enter(void)
{
	world.inside++;
}

void
world_leave(void)
{
	assert(world.inside > 0);
	world.inside--;
}

/*
 * Time
 */

int64_t
world_now(void)
{
	return world.now;
}

int64_t
world_seconds(void)
{
	return EPOCH + world.now / 1000;
}

void
world_advance(int64_t ms)
{
	world.now += ms;
}

int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
time_t __real_time(time_t *);
time_t __wrap_time(time_t *);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	if (world.inside == 0)
		return __real_clock_gettime(clock, now);
	now->tv_sec = world.now / 1000 + (clock == CLOCK_REALTIME ? EPOCH : 0);
	now->tv_nsec = world.now % 1000 * 1000000;
	return 0;
}

time_t
__wrap_time(time_t *now)
{
	if (world.inside == 0)
		return __real_time(now);
	assert(now == NULL);
	return world_seconds();
}

/*
 * Memory
 */

bool
world_lacks_memory(void)
{
	if (world.inside == 0 ||
	    (!world_knobs.no_memory &&
		(world_knobs.countdown == 0 || --world_knobs.countdown > 0)))
		return false;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t);
void *__wrap_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__wrap_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_realloc(void *, size_t);

void *
__wrap_malloc(size_t size)
{
	return world_lacks_memory() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return world_lacks_memory() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
	return world_lacks_memory() ? NULL : __real_realloc(old, size);
}

/*
 * The log
 */

int __real_poll(struct pollfd *, nfds_t, int);
int __wrap_getrlimit(int, struct rlimit *);
int __wrap_poll(struct pollfd *, nfds_t, int);
ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);

/* Descriptors here have numbers that say nothing. */
int
__wrap_getrlimit(int resource, struct rlimit *limit)
{
	(void)resource;
	limit->rlim_cur = limit->rlim_max = RLIM_INFINITY;
	return 0;
}

int
__wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	if (world.inside == 0)
		return __real_poll(fds, n, timeout);
	/* late.c asks several servers: none answers in time. */
	if (timeout > 0)
		return 0;
	fds->revents = fds->events;
	return 1;
}

ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
	if (world.inside == 0 || world_is_loud)
		return __real_write(fd, bytes, n);
	return (ssize_t)n;
}

/*
 * Ends
 */

static struct end *
end_new(enum kind kind, bool is_daemons)
{
	size_t i;

	for (i = 0; i < SOCKETS; i++)
		if (world.ends[i].kind == KIND_FREE) {
			world.ends[i] = (struct end){
				.kind = kind,
				.is_daemons = is_daemons,
			};
			return &world.ends[i];
		}
	return NULL;
}

static struct end *
end_of(int number)
{
	assert(number >= 0 && number < SOCKETS);
	assert(world.ends[number].kind != KIND_FREE);
	return &world.ends[number];
}

static int
number_of(const struct end *end)
{
	return (int)(end - world.ends);
}

/* The end of a descriptor that the daemon uses. */
static struct end *
daemons(int fd)
{
	if (fd < FIRST_FD || fd >= FIRST_FD + SOCKETS ||
	    world.ends[fd - FIRST_FD].kind == KIND_FREE ||
	    !world.ends[fd - FIRST_FD].is_daemons)
		finding("the daemon uses the descriptor %d, which is closed",
		    fd);
	return &world.ends[fd - FIRST_FD];
}

static void
end_close(struct end *end, bool reset)
{
	struct end *other = end->other;

	if (other != NULL) {
		other->is_ended = true;
		other->is_reset |= reset || end->in.length > 0;
		/* What a reset overtakes does not arrive at the daemon. */
		if (other->is_reset && other->is_daemons)
			bytes_free(&other->in);
		other->other = NULL;
	}
	bytes_free(&end->in);
	end->kind = KIND_FREE;
}

static void
pair_up(struct end *end, struct end *far)
{
	end->kind = KIND_STREAM;
	end->other = far;
	far->other = end;
	end->port = far->port = 1024 + world.ports++ % PORTS;
	far->is_unix = end->is_unix;
}

static size_t
room_at(const struct end *end)
{
	size_t held = end->in.length - end->seen;

	assert(end->seen <= end->in.length);
	if (world_knobs.narrow == 0)
		return 1 << 20;
	return held < world_knobs.room ? world_knobs.room - held : 0;
}

bool
world_is_ready(int fd, bool to_write)
{
	const struct end *end = daemons(fd);

	if (end->kind == KIND_LISTENER)
		return !to_write && world.arrived != NULL;
	if (end->error != 0 || end->is_reset)
		return true;
	if (end->is_connecting || end->kind != KIND_STREAM)
		return false;
	if (to_write)
		return end->other == NULL || room_at(end->other) > 0;
	return end->in.length > 0 || end->is_ended;
}

/*
 * The far ends
 */

/* The connection is there before the accept(). */
int
world_connect(void)
{
	struct end *far, *end, **last;

	if (world.listener == NULL)
		return -1;
	far = end_new(KIND_STREAM, false);
	end = end_new(KIND_STREAM, true);
	assert(far != NULL && end != NULL);
	pair_up(end, far);
	for (last = &world.arrived; *last != NULL; last = &(*last)->next)
		;
	*last = end;
	return number_of(far);
}

void
world_send(int number, const char *bytes, size_t n)
{
	struct end *far = end_of(number);

	if (far->other != NULL && !far->has_shut)
		bytes_add(&far->other->in, bytes, n);
}

void
world_shut(int number)
{
	struct end *far = end_of(number);

	far->has_shut = true;
	if (far->other != NULL)
		far->other->is_ended = true;
}

void
world_close(int number, bool reset)
{
	end_close(end_of(number), reset);
}

const char *
world_received(int number, size_t *n)
{
	*n = end_of(number)->seen = end_of(number)->in.length;
	return *n > 0 ? end_of(number)->in.at : "";
}

bool
world_has_news(int number)
{
	return end_of(number)->seen < end_of(number)->in.length;
}

void
world_drop(int number, size_t n)
{
	bytes_drop(&end_of(number)->in, n);
	end_of(number)->seen -= n;
}

bool
world_has_ended(int number)
{
	return end_of(number)->is_ended && end_of(number)->in.length == 0;
}

bool
world_is_closed(int number)
{
	return end_of(number)->other == NULL;
}

bool
world_sends_no_more(int number)
{
	return end_of(number)->is_ended;
}

unsigned int
world_port_of(int number)
{
	return end_of(number)->port;
}

void
world_refuse_silent(void)
{
	int i;

	for (i = 0; i < SOCKETS; i++)
		if (world.ends[i].kind == KIND_STREAM &&
		    world.ends[i].is_connecting)
			world.ends[i].error = ECONNREFUSED;
}

void
world_begin(world_connected *connected)
{
	world.connected = connected;
	world_knobs = (struct world_knobs){
		.room = 1 << 20,
		.piece = 1 << 20,
	};
}

void
world_end(void)
{
	int i;

	assert(world.inside == 0);
	for (i = 0; i < SOCKETS; i++)
		if (world.ends[i].kind != KIND_FREE)
			finding("an end of %s is left open",
			    world.ends[i].is_daemons ? "the daemon" :
						       "the script");
	world.arrived = NULL;
	world.listener = NULL;
}

/*
 * What the daemon calls
 */

int __wrap_socket(int, int, int);
int __wrap_bind(int, const struct sockaddr *, socklen_t);
int __wrap_listen(int, int);
int __wrap_accept4(int, struct sockaddr *, socklen_t *, int);
int __wrap_connect(int, const struct sockaddr *, socklen_t);
ssize_t __wrap_recv(int, void *, size_t, int);
ssize_t __wrap_send(int, const void *, size_t, int);
ssize_t __wrap_sendmsg(int, const struct msghdr *, int);
int __wrap_setsockopt(int, int, int, const void *, socklen_t);
int __wrap_getsockopt(int, int, int, void *, socklen_t *);
int __wrap_getsockname(int, struct sockaddr *, socklen_t *);
int __wrap_getpeername(int, struct sockaddr *, socklen_t *);
int __wrap_shutdown(int, int);
int __real_close(int);
int __wrap_close(int);

static int
fails_with(int error)
{
	errno = error;
	return -1;
}

/* Whether a signal comes before the call has done anything. */
static bool
is_interrupted(void)
{
	if (world_knobs.signals == 0)
		return false;
	world_knobs.signals--;
	errno = EINTR;
	return true;
}

int
__wrap_socket(int family, int type, int protocol)
{
	struct end *end;

	(void)protocol;
	assert((type & SOCK_NONBLOCK) && (type & SOCK_CLOEXEC));
	end = world_knobs.no_files ? NULL : end_new(KIND_FRESH, true);
	if (end == NULL)
		return fails_with(EMFILE);
	end->is_unix = family == AF_UNIX;
	return FIRST_FD + number_of(end);
}

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	(void)address;
	(void)length;
	assert(daemons(fd)->kind == KIND_FRESH);
	return 0;
}

int
__wrap_listen(int fd, int backlog)
{
	(void)backlog;
	world.listener = daemons(fd);
	world.listener->kind = KIND_LISTENER;
	return 0;
}

int
__wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	struct end *end = world.arrived;

	assert(address == NULL && length == NULL && flags != 0);
	assert(daemons(fd)->kind == KIND_LISTENER);
	if (is_interrupted())
		return -1;
	if (end == NULL)
		return fails_with(EAGAIN);
	if (world_knobs.no_files)
		return fails_with(EMFILE);
	world.arrived = end->next;
	return FIRST_FD + number_of(end);
}

static unsigned int
server_at(const struct sockaddr *address)
{
	if (address->sa_family == AF_UNIX)
		return (unsigned int)(((const struct sockaddr_un *)address)
					  ->sun_path[1] -
		    '0');
	assert(address->sa_family == AF_INET);
	return ntohs(((const struct sockaddr_in *)address)->sin_port) -
	    WORLD_PORT;
}

/* Connections of a unix socket are there, or refused, at once. */
int
__wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	struct end *end = daemons(fd), *far;
	enum world_accept answer;

	(void)length;
	assert(end->kind == KIND_FRESH);
	far = end_new(KIND_STREAM, false);
	if (far == NULL)
		return fails_with(EAGAIN);
	pair_up(end, far);
	answer = world.connected(server_at(address), number_of(far));
	if (answer == WORLD_ACCEPTS)
		return end->is_unix ? 0 : fails_with(EINPROGRESS);
	end_close(far, false);
	end->is_ended = false;
	if (end->is_unix)
		return fails_with(answer == WORLD_REFUSES ? ECONNREFUSED :
							    EAGAIN);
	if (answer == WORLD_REFUSES)
		end->error = ECONNREFUSED;
	end->is_connecting = true;
	return fails_with(EINPROGRESS);
}

static int
pending_error(struct end *end)
{
	int error = end->error;

	if (error == 0 && end->is_reset)
		error = ECONNRESET;
	end->error = 0;
	return error;
}

/* Large values would take all day. */
static void
use_narrow(void)
{
	if (world_knobs.narrow > 0)
		world_knobs.narrow--;
}

ssize_t
__wrap_recv(int fd, void *to, size_t n, int flags)
{
	struct end *end = daemons(fd);
	int error;

	(void)flags;
	assert(n > 0);
	if (is_interrupted())
		return -1;
	error = pending_error(end);
	if (error != 0)
		return fails_with(error);
	if (end->in.length == 0)
		return end->is_ended ? 0 : fails_with(EAGAIN);
	if (n > end->in.length)
		n = end->in.length;
	if (n > world_knobs.piece && world_knobs.narrow > 0)
		n = world_knobs.piece;
	use_narrow();
	memcpy(to, end->in.at, n);
	bytes_drop(&end->in, n);
	return (ssize_t)n;
}

ssize_t
__wrap_send(int fd, const void *from, size_t n, int flags)
{
	struct end *end = daemons(fd);
	size_t room;
	int error;

	assert(flags & MSG_NOSIGNAL);
	if (end->has_shut)
		finding("the daemon sends behind its end");
	if (is_interrupted())
		return -1;
	error = pending_error(end);
	if (error != 0)
		return fails_with(error);
	if (end->is_connecting)
		return fails_with(EAGAIN);
	if (end->other == NULL)
		return fails_with(EPIPE);
	room = room_at(end->other);
	if (room == 0)
		return fails_with(EAGAIN);
	use_narrow();
	if (n > room)
		n = room;
	/* This memory is not the daemon's. */
	world_leave();
	bytes_add(&end->other->in, from, n);
	world_enter();
	return (ssize_t)n;
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t sent = 0, n;
	size_t i;

	for (i = 0; i < message->msg_iovlen; i++) {
		n = __wrap_send(fd, message->msg_iov[i].iov_base,
		    message->msg_iov[i].iov_len, flags);
		if (n == -1)
			return sent > 0 ? sent : -1;
		sent += n;
		if ((size_t)n < message->msg_iov[i].iov_len)
			break;
	}
	return sent;
}

int
__wrap_setsockopt(int fd, int level, int option, const void *value,
    socklen_t length)
{
	struct end *end = daemons(fd);

	(void)length;
	if (level == SOL_SOCKET && option == SO_LINGER)
		end->resets = ((const struct linger *)value)->l_onoff != 0;
	return 0;
}

static uint8_t
tcp_state(const struct end *end)
{
	if (end->is_connecting)
		return TCP_SYN_SENT;
	if (end->is_reset || end->error != 0)
		return TCP_CLOSE;
	if (end->has_shut)
		return end->is_ended ? TCP_TIME_WAIT : TCP_FIN_WAIT2;
	return end->is_ended ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
}

int
__wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	struct end *end = daemons(fd);
	struct tcp_info info = { .tcpi_state = 0 };

	if (level == SOL_SOCKET && option == SO_ERROR) {
		*(int *)value = pending_error(end);
		return 0;
	}
	if (level != IPPROTO_TCP || option != TCP_INFO || end->is_unix)
		return fails_with(ENOPROTOOPT);
	info.tcpi_state = tcp_state(end);
	if (*length > sizeof(info))
		*length = sizeof(info);
	memcpy(value, &info, *length);
	return 0;
}

static int
put_name(const struct end *end, unsigned int port, struct sockaddr *address,
    socklen_t *length)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};

	if (end->is_unix)
		in.sin_family = AF_UNIX;
	assert(*length >= sizeof(in));
	memcpy(address, &in, sizeof(in));
	*length = sizeof(in);
	return 0;
}

int
__wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
	return put_name(daemons(fd), daemons(fd)->port, address, length);
}

int
__wrap_getpeername(int fd, struct sockaddr *address, socklen_t *length)
{
	if (daemons(fd)->other == NULL)
		return fails_with(ENOTCONN);
	return put_name(daemons(fd), WORLD_PORT, address, length);
}

int
__wrap_shutdown(int fd, int how)
{
	struct end *end = daemons(fd);

	assert(how == SHUT_WR);
	if (end->other == NULL)
		return fails_with(ENOTCONN);
	end->has_shut = true;
	end->other->is_ended = true;
	return 0;
}

/* Those that were not accepted are reset. */
static void
close_arrived(void)
{
	struct end *end;

	world.listener = NULL;
	while ((end = world.arrived) != NULL) {
		world.arrived = end->next;
		end_close(end, true);
	}
}

int
__wrap_close(int fd)
{
	struct end *end;

	if (world.inside == 0)
		return __real_close(fd);
	end = daemons(fd);
	if (loop_watches(fd))
		finding("the daemon closes a descriptor that it waits for");
	if (end == world.listener)
		close_arrived();
	end_close(end, end->resets);
	return 0;
}
