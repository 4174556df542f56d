/*
 * Faults of the system, for LD_PRELOAD.
 *
 * INJECT names a file of four 64-bit numbers, which whoever runs the program
 * changes while it runs:
 *	0  counts down with each allocation; the one that makes it 0 fails
 *	1  not 0: all allocations fail
 *	2  not 0: calls on sockets are interrupted, refused for now, or do a few
 *	   bytes only; every third goes as asked
 *	3  not 0: recv() that reads this number, in digits, stops the process,
 *	   and makes it 0
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { EARLY = 4096, FEW = 7 };

struct page {
	int64_t countdown;
	int64_t no_memory;
	int64_t sockets;
	int64_t stop;
};

static struct page none;
static struct page *page = &none;
static unsigned int turn;

static __attribute__((constructor)) void
open_page(void)
{
	const char *path = getenv("INJECT");
	int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
	void *mapped;

	if (fd == -1)
		return;
	mapped = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED,
	    fd, 0);
	close(fd);
	if (mapped != MAP_FAILED)
		page = mapped;
}

/* The function that would be called without us. */
#define NEXT(name) ((__typeof__(&name))next(#name))

static void *
next(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (function == NULL)
		abort();
	return function;
}

/*
 * Memory
 */

static bool
lacks_memory(void)
{
	if (page->no_memory == 0 &&
	    (page->countdown == 0 || --page->countdown > 0))
		return false;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	static __typeof__(&malloc) real;

	if (real == NULL)
		real = NEXT(malloc);
	return lacks_memory() ? NULL : real(size);
}

void *
calloc(size_t n, size_t size)
{
	/* dlsym() itself may ask for a little. */
	static _Alignas(16) char early[EARLY];
	static size_t used;
	static bool resolving;
	static __typeof__(&calloc) real;

	if (real == NULL && resolving) {
		used += (n * size + 15) / 16 * 16;
		return used > sizeof(early) ?
		    NULL :
		    early + used - (n * size + 15) / 16 * 16;
	}
	if (real == NULL) {
		resolving = true;
		real = NEXT(calloc);
	}
	return lacks_memory() ? NULL : real(n, size);
}

void *
realloc(void *old, size_t size)
{
	static __typeof__(&realloc) real;

	if (real == NULL)
		real = NEXT(realloc);
	return lacks_memory() ? NULL : real(old, size);
}

/*
 * Users: the C library's look-ups crash without memory
 */

struct passwd *
getpwnam(const char *name)
{
	static char root[] = "root";
	static struct passwd entry = { .pw_name = root };

	return strcmp(name, root) == 0 ? &entry : NULL;
}

int
initgroups(const char *user, gid_t group)
{
	(void)user;
	(void)group;
	return 0;
}

/*
 * Sockets
 */

/* Whether the call is not to be made now; otherwise *most, which may be NULL,
   is how many bytes it may do. */
static bool
disturb(size_t *most)
{
	if (page->sockets == 0)
		return false;
	switch (turn++ % 6) {
	case 0:
		errno = EINTR;
		return true;
	case 3:
		errno = EAGAIN;
		return true;
	case 1:
	case 4:
		if (most != NULL && *most > FEW)
			*most = 1 + turn % FEW;
		return false;
	default:
		return false;
	}
}

static void
stop_at_number(const void *bytes, ssize_t n)
{
	char number[24];
	int length = snprintf(number, sizeof(number), "%" PRId64, page->stop);

	if (n < length ||
	    memmem(bytes, (size_t)n, number, (size_t)length) == NULL)
		return;
	page->stop = 0;
	raise(SIGSTOP);
}

ssize_t
recv(int fd, void *buffer, size_t n, int flags)
{
	ssize_t got = disturb(&n) ? -1 : NEXT(recv)(fd, buffer, n, flags);

	if (page->stop != 0)
		stop_at_number(buffer, got);
	return got;
}

ssize_t
send(int fd, const void *buffer, size_t n, int flags)
{
	return disturb(&n) ? -1 : NEXT(send)(fd, buffer, n, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	size_t n = message->msg_iov[0].iov_len, most = n;

	if (disturb(&most))
		return -1;
	if (most < n)
		return NEXT(send)(fd, message->msg_iov[0].iov_base, most,
		    flags);
	return NEXT(sendmsg)(fd, message, flags);
}

int
accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	if (page->sockets != 0 && turn++ % 4 == 0) {
		errno = turn % 8 == 1 ? EINTR : ECONNABORTED;
		return -1;
	}
	return NEXT(accept4)(fd, address, length, flags);
}
