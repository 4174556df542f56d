/*
 * The listening sockets.
 *
 * Invariant: the file of a unix socket is removed only while its socket listens
 * and the file is known to be its own.  Nobody replaces the file of a socket
 * that listens, so no successor's file is ever removed.
 */

#include "client/sockets.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "carry.h"
#include "log.h"

enum {
	BACKLOG = 1024,
	/* Of the descriptors that systemd passes. */
	FIRST_PASSED = 3,
	PASSED_MAX = 1000,
	/* Tries to lock a directory, and the pause between two of them. */
	LOCK_TRIES = 50,
	LOCK_PAUSE_US = 20000,
};

struct bound {
	int fd;
	struct sockaddr_storage address;
	socklen_t length;
	/* Of the file of a unix socket; both 0: there is none, or it is not
	   ours. */
	dev_t device;
	ino_t inode;
	bool is_passed; /* systemd has made it */
	bool is_taken;  /* over from a program before */
	bool is_asked;  /* for, since then */
};

struct sockets {
	enum sockets_use use;
	struct bound *bound; /* owned, as are its descriptors */
	size_t count;
};

/* What the log, and the lines of a carry, call them. */
static const struct {
	const char *option, *line;
} uses[] = {
	[SOCKETS_FOR_CLIENTS] = { "-l", "socket" },
	[SOCKETS_FOR_METRICS] = { "--metrics", "metrics" },
	[SOCKETS_FOR_STATS] = { "--stats-port", "stats-port" },
};

struct sockets *
sockets_new(enum sockets_use use)
{
	struct sockets *sockets = calloc(1, sizeof(*sockets));

	if (sockets != NULL)
		sockets->use = use;
	return sockets;
}

/* Take fd, or close it when out of memory. */
static bool
keep_socket(struct sockets *sockets, int fd, const struct sockaddr *address,
    socklen_t length)
{
	struct bound *longer = realloc(sockets->bound,
	    (sockets->count + 1) * sizeof(*sockets->bound));
	struct bound *bound;

	assert(fd != -1 && length <= sizeof(bound->address));
	if (longer == NULL) {
		close(fd);
		errno = ENOMEM;
		return false;
	}
	sockets->bound = longer;
	bound = &longer[sockets->count++];
	memset(bound, 0, sizeof(*bound));
	bound->fd = fd;
	bound->length = length;
	memcpy(&bound->address, address, length);
	return true;
}

/* may_come: this machine need not have the address.  Returns a descriptor, or
   -1 and errno. */
static int
listen_on(const struct sockaddr *address, socklen_t length, bool may_come)
{
	int one = 1, saved;
	int fd = socket(address->sa_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	/* It is for IPv6, too. */
	if (may_come)
		setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	if (bind(fd, address, length) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/*
 * TCP
 */

/* Whether this is listened on already: then it is asked for. */
static bool
is_bound(struct sockets *sockets, const struct addrinfo *info)
{
	struct bound *bound;
	size_t i;

	for (i = 0; i < sockets->count; i++) {
		bound = &sockets->bound[i];
		if (bound->length == info->ai_addrlen &&
		    memcmp(&bound->address, info->ai_addr, bound->length) ==
			0) {
			bound->is_asked = true;
			return true;
		}
	}
	return false;
}

/* Whether bind failed because this machine has no IPv6, or not on that
   interface. */
static bool
lacks_ipv6(const struct addrinfo *info)
{
	return info->ai_family == AF_INET6 &&
	    (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL);
}

static void
log_bind_error(const struct sockets *sockets, const char *said,
    const struct addrinfo *info, unsigned int port)
{
	char host[INET6_ADDRSTRLEN] = "?";
	int error = errno;

	getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof(host), NULL,
	    0, NI_NUMERICHOST);
	log_error("%s%s%s%scannot listen on %s port %u: %s",
	    said == NULL ? "" : uses[sockets->use].option,
	    said == NULL ? "" : " ", said == NULL ? "" : said,
	    said == NULL ? "" : ": ", host, port, strerror(error));
}

/* Listen on each address of the list.  said: what the option said, or NULL.
   Returns false after a line in the log. */
static bool
bind_all(struct sockets *sockets, const char *said, const struct addrinfo *list,
    unsigned int port, bool may_come)
{
	const struct addrinfo *info, *without = NULL;
	bool is_any_bound = false;
	int fd, error = 0;

	for (info = list; info != NULL; info = info->ai_next) {
		if (is_bound(sockets, info)) {
			is_any_bound = true;
			continue;
		}
		fd = listen_on(info->ai_addr, info->ai_addrlen,
		    may_come && said != NULL);
		if (fd == -1 && lacks_ipv6(info)) {
			without = info;
			error = errno;
			continue;
		}
		if (fd == -1 ||
		    !keep_socket(sockets, fd, info->ai_addr,
			info->ai_addrlen)) {
			log_bind_error(sockets, said, info, port);
			return false;
		}
		is_any_bound = true;
	}
	if (is_any_bound || without == NULL)
		return is_any_bound;
	errno = error;
	log_bind_error(sockets, said, without, port);
	return false;
}

bool
sockets_bind_tcp(struct sockets *sockets, const char *host, unsigned int port,
    bool may_come)
{
	struct addrinfo hints = {
		.ai_flags = AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *list;
	char service[16];
	bool is_bound_to_all;
	int error;

	assert(port > 0 && port <= 65535);
	snprintf(service, sizeof(service), "%u", port);
	error = getaddrinfo(host, service, &hints, &list);
	if (error != 0) {
		log_error("%s %s: cannot listen: %s", uses[sockets->use].option,
		    host == NULL ? "(all)" : host, gai_strerror(error));
		return false;
	}
	is_bound_to_all = bind_all(sockets, host, list, port, may_come);
	freeaddrinfo(list);
	return is_bound_to_all;
}

/*
 * Unix
 */

/* Whether address is that of a socket file that nobody listens on. */
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

/* Lock the directory that path is in: of two magents that start at the same
   time one replaces a stale file, and the other finds it in use.  Returns a
   descriptor that holds the lock, or -1. */
static int
lock_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *directory;
	int fd, i;

	assert(slash != NULL);
	directory = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (directory == NULL)
		return -1;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(directory);
	/* Others may lock the directory too, and shall not keep us for long. */
	for (i = 0; fd != -1 && i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			break;
		usleep(LOCK_PAUSE_US);
	}
	return fd;
}

/* Every local user may use the socket, as every local user may use the port;
   unless it is private.  It is made with that mode: a later chmod() could hit
   another file. */
static int
listen_on_path(const struct sockaddr_un *address, bool is_private)
{
	mode_t mask = umask(is_private ? 0177 : 0);
	int fd = listen_on((const struct sockaddr *)address, sizeof(*address),
	    false);

	umask(mask);
	return fd;
}

static bool
bind_path(struct sockets *sockets, const struct sockaddr_un *address,
    bool is_private)
{
	struct bound *bound;
	struct stat status;
	int fd;

	if (is_stale(address))
		unlink(address->sun_path);
	fd = listen_on_path(address, is_private);
	if (fd == -1 ||
	    !keep_socket(sockets, fd, (const struct sockaddr *)address,
		sizeof(*address)))
		return false;
	if (lstat(address->sun_path, &status) == -1 ||
	    !S_ISSOCK(status.st_mode))
		return true; /* somebody has replaced it: it is not ours */
	bound = &sockets->bound[sockets->count - 1];
	bound->device = status.st_dev;
	bound->inode = status.st_ino;
	return true;
}

/* The path of a unix socket; NULL: it is another one, or has none. */
static const char *
path_of(const struct bound *bound)
{
	const struct sockaddr_un *address =
	    (const struct sockaddr_un *)&bound->address;

	return address->sun_family == AF_UNIX &&
		bound->length > offsetof(struct sockaddr_un, sun_path) &&
		address->sun_path[0] != '\0' ?
	    address->sun_path :
	    NULL;
}

/* Whether its file is there, and is still its own.  The socket listens, so the
   number of its inode is not used again. */
static bool
has_file(const struct bound *bound)
{
	const char *path = path_of(bound);
	struct stat status;

	return path != NULL && lstat(path, &status) == 0 &&
	    status.st_dev == bound->device && status.st_ino == bound->inode;
}

/* The socket that listens there already; NULL: there is none. */
static struct bound *
find_path(struct sockets *sockets, const char *path)
{
	struct bound *bound;
	size_t i;

	for (i = 0; i < sockets->count; i++) {
		bound = &sockets->bound[i];
		if (has_file(bound) && strcmp(path_of(bound), path) == 0)
			return bound;
	}
	return NULL;
}

/* Whether the file of a socket is for its owner alone. */
static bool
is_private_file(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && (status.st_mode & 077) == 0;
}

bool
sockets_bind_unix(struct sockets *sockets, const char *path, bool is_private)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct bound *there = find_path(sockets, path);
	bool is_path_bound;
	int error, lock;

	if (there != NULL && is_private && !is_private_file(path)) {
		log_error("cannot listen on %s: others may use it", path);
		return false;
	}
	if (there != NULL) {
		there->is_asked = true;
		return true;
	}
	lock = lock_directory(path);
	assert(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	is_path_bound = bind_path(sockets, &address, is_private);
	error = errno;
	if (lock != -1)
		close(lock);
	if (!is_path_bound)
		log_error("cannot listen on %s: %s", path, strerror(error));
	return is_path_bound;
}

/*
 * From systemd: see sd_listen_fds(3)
 */

/* The number in a variable of the environment; 0: it has none. */
static unsigned long
number_in(const char *variable)
{
	const char *text = getenv(variable);

	return text == NULL ? 0 : strtoul(text, NULL, 10);
}

static int
socket_option(int fd, int option)
{
	socklen_t length = sizeof(int);
	int value = -1;

	if (getsockopt(fd, SOL_SOCKET, option, &value, &length) == -1)
		return -1;
	return value;
}

/* A socket of a magent before has the file that is there. */
static void
note_stored(struct bound *bound)
{
	const char *path = path_of(bound);
	struct stat status;

	bound->is_taken = true;
	if (path == NULL || lstat(path, &status) == -1)
		return;
	bound->device = status.st_dev;
	bound->inode = status.st_ino;
}

static bool
take_passed(struct sockets *sockets, int fd, bool is_stored)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t length = sizeof(address);
	struct bound *bound;

	if (socket_option(fd, SO_TYPE) != SOCK_STREAM ||
	    socket_option(fd, SO_ACCEPTCONN) != 1 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) == -1) {
		log_error(
		    "$LISTEN_FDS: descriptor %d is no stream socket that "
		    "listens",
		    fd);
		return false;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (!keep_socket(sockets, fd, (const struct sockaddr *)&address,
		length)) {
		log_error("$LISTEN_FDS: out of memory");
		return false;
	}
	bound = &sockets->bound[sockets->count - 1];
	if (is_stored)
		note_stored(bound);
	else
		bound->is_passed = true;
	return true;
}

unsigned int
sockets_passed(void)
{
	unsigned long n = number_in("LISTEN_FDS");

	if (number_in("LISTEN_PID") != (unsigned long)getpid())
		n = 0;
	/* They are not for programs that this one starts. */
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	return n < PASSED_MAX ? (unsigned int)n : PASSED_MAX;
}

bool
sockets_take_passed(struct sockets *sockets, unsigned int n)
{
	/* There is a colon between two names. */
	const char *given = getenv("LISTEN_FDNAMES"), *name;
	char *names = given == NULL ? NULL : strdup(given), *rest = names;
	bool is_good = true;
	unsigned int i;

	for (i = 0; is_good && i < n; i++) {
		name = strsep(&rest, ":");
		is_good = take_passed(sockets, FIRST_PASSED + (int)i,
		    name != NULL && strcmp(name, SOCKETS_STORED) == 0);
	}
	free(names);
	unsetenv("LISTEN_FDNAMES");
	return is_good;
}

bool
sockets_are_passed(const struct sockets *sockets)
{
	size_t i;

	for (i = 0; i < sockets->count; i++)
		if (sockets->bound[i].is_passed)
			return true;
	return false;
}

/*
 * From one program to the next one
 */

/* The numbers of a line. */
enum {
	SOCKET_FD,
	SOCKET_DEVICE,
	SOCKET_INODE,
	SOCKET_IS_PASSED,
	SOCKET_NUMBERS,
};

static void
carry_socket(const struct bound *bound, const char *name, struct carry *carry)
{
	uint64_t numbers[SOCKET_NUMBERS] = {
		[SOCKET_FD] = carry_descriptor(carry, bound->fd),
		[SOCKET_DEVICE] = bound->device,
		[SOCKET_INODE] = bound->inode,
		[SOCKET_IS_PASSED] = bound->is_passed,
	};

	carry_add(carry, name, numbers, SOCKET_NUMBERS,
	    (const char *)&bound->address, bound->length);
}

void
sockets_carry(const struct sockets *sockets, struct carry *carry)
{
	size_t i;

	for (i = 0; i < sockets->count; i++)
		carry_socket(&sockets->bound[i], uses[sockets->use].line,
		    carry);
}

static bool
take_carried_socket(struct sockets *sockets, const struct carry_line *line)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	int fd = (int)line->numbers[SOCKET_FD];
	struct bound *bound;

	memcpy(&address, line->bytes, line->length);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (!keep_socket(sockets, fd, (const struct sockaddr *)&address,
		(socklen_t)line->length)) {
		log_error("cannot listen: out of memory");
		return false;
	}
	bound = &sockets->bound[sockets->count - 1];
	bound->device = line->numbers[SOCKET_DEVICE];
	bound->inode = line->numbers[SOCKET_INODE];
	bound->is_passed = line->numbers[SOCKET_IS_PASSED];
	bound->is_taken = true;
	return true;
}

bool
sockets_take(struct sockets *sockets, struct carry *carry)
{
	struct carry_line line;

	carry_rewind(carry);
	while (carry_next(carry, &line))
		if (carry_is(&line, uses[sockets->use].line) &&
		    line.bytes != NULL &&
		    line.length <= sizeof(struct sockaddr_storage) &&
		    !take_carried_socket(sockets, &line))
			return false;
	return true;
}

/* Close it, and remove its file. */
static void
close_bound(const struct bound *bound)
{
	if (has_file(bound))
		unlink(path_of(bound));
	close(bound->fd);
}

bool
sockets_is_unasked(const struct sockets *sockets, size_t i)
{
	const struct bound *bound = &sockets->bound[i];

	assert(i < sockets->count);
	return bound->is_taken && !bound->is_asked && !bound->is_passed;
}

void
sockets_drop_unasked(struct sockets *sockets)
{
	struct bound *bound = sockets->bound;
	size_t i, kept = 0;

	for (i = 0; i < sockets->count; i++)
		if (sockets_is_unasked(sockets, i))
			close_bound(&bound[i]);
		else
			bound[kept++] = bound[i];
	sockets->count = kept;
}

void
sockets_leave_taken(struct sockets *sockets)
{
	struct bound *bound = sockets->bound;
	size_t i, kept = 0;

	for (i = 0; i < sockets->count; i++)
		if (!bound[i].is_taken)
			bound[kept++] = bound[i];
	sockets->count = kept;
}

/*
 * Life
 */

size_t
sockets_count(const struct sockets *sockets)
{
	return sockets->count;
}

int
sockets_fd(const struct sockets *sockets, size_t i)
{
	assert(i < sockets->count);
	return sockets->bound[i].fd;
}

void
sockets_free(struct sockets *sockets)
{
	size_t i;

	if (sockets == NULL)
		return;
	for (i = 0; i < sockets->count; i++)
		close_bound(&sockets->bound[i]);
	free(sockets->bound);
	free(sockets);
}
