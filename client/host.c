/*
 * Tell names that somebody else may have made for this machine.
 */

#include "client/host.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	/* Bytes of a name, with its end. */
	NAME_MAX_BYTES = 256,
};

static bool
is_below(const char *name, const char *suffix)
{
	size_t length = strlen(name), n = strlen(suffix);

	return length > n && strcasecmp(name + length - n, suffix) == 0;
}

static bool
is_of_this_machine(const char *name)
{
	char own[NAME_MAX_BYTES] = "";

	return gethostname(own, sizeof(own) - 1) == 0 &&
	    strcasecmp(name, own) == 0;
}

bool
host_is_ours(const char *host)
{
	char name[NAME_MAX_BYTES];
	struct in_addr address;
	size_t length;

	if (host == NULL || *host == '\0' || *host == '[')
		return true;
	length = strlen(host);
	/* A name may end with the dot of the root. */
	length -= host[length - 1] == '.';
	if (length >= sizeof(name))
		return false;
	memcpy(name, host, length);
	name[length] = '\0';
	return strchr(name, '.') == NULL ||
	    inet_pton(AF_INET, name, &address) == 1 ||
	    is_below(name, ".localhost") || is_of_this_machine(name);
}

bool
host_is_alone(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address = { .any.sa_family = AF_UNSPEC };
	socklen_t length = sizeof(address);

	if (getsockname(fd, &address.any, &length) != 0)
		return false;
	if (address.any.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&address.v6.sin6_addr);
	return address.any.sa_family == AF_INET &&
	    ntohl(address.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}
