/*
 * For LD_PRELOAD: right after a unix socket is bound its file is replaced by a
 * link to the file that VICTIM names, as whoever owns the directory could do.
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int
bind(int fd, const struct sockaddr *address, socklen_t length)
{
	int (*next)(int, const struct sockaddr *,
	    socklen_t) = (__typeof__(next))dlsym(RTLD_NEXT, "bind");
	int result = next(fd, address, length);
	const char *path = ((const struct sockaddr_un *)address)->sun_path;

	if (result == 0 && address->sa_family == AF_UNIX &&
	    (unlink(path) == -1 || symlink(getenv("VICTIM"), path) == -1))
		perror(path);
	return result;
}
