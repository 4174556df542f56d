/*
 * Read where a server is from what the command line says.
 *
 * Invariant: a name depends on what the address means, not on how it was
 * written (case, a port left out, zeros of an IPv6 address).  So a server that
 * was given twice has one name.  The host stays as it was written, because the
 * points of a ring are made of it.
 */

#include "server/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { HOST_MAX = 253 }; /* bytes of a domain name */

static_assert(ADDRESS_PATH_MAX ==
	sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1,
    "a path and its NUL fill sun_path");

/* Read a decimal number from 1 to max, made of digits only. */
static bool
parse_number(const char *text, unsigned long max, unsigned int *number)
{
	unsigned long n;
	char *end;

	assert(max <= UINT_MAX);
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || n < 1 || n > max)
		return false;
	*number = (unsigned int)n;
	return true;
}

static const char *
parse_weight(struct address *address, const char *text)
{
	if (!parse_number(text, ADDRESS_WEIGHT_MAX, &address->weight))
		return "the weight must be a number from 1 to 65535";
	return NULL;
}

/* Read port[:weight].  text may be NULL: there is no port. */
static const char *
parse_port(struct address *address, char *text)
{
	char *weight;

	address->port = ADDRESS_PORT;
	if (text == NULL)
		return NULL;
	weight = strchr(text, ':');
	if (weight != NULL)
		*weight++ = '\0';
	if (!parse_number(text, 65535, &address->port))
		return "the port must be a number from 1 to 65535";
	return weight == NULL ? NULL : parse_weight(address, weight);
}

static const char *
parse_unix(struct address *address, char *path)
{
	const char *c, *problem = NULL;
	char *weight;

	weight = strrchr(path, ':');
	if (weight != NULL) {
		*weight++ = '\0';
		problem = parse_weight(address, weight);
	}
	if (problem != NULL)
		return problem;
	if (path[0] != '/')
		return "the path of a unix socket must start with /";
	if (strlen(path) > ADDRESS_PATH_MAX)
		return "the path of a unix socket has more than 107 bytes";
	for (c = path; *c != '\0'; c++)
		if (!isgraph((unsigned char)*c))
			return "the path has a space or a byte that does "
			       "not print";
	address->host = strdup(path);
	if (asprintf(&address->name, "unix:%s", path) == -1)
		address->name = NULL;
	return NULL;
}

/*
 * Write the canonical form of an IPv6 address to out, with its zone (%eth0) if
 * it has one.  Returns false if host is no IPv6 address.
 */
static bool
canonical_v6(const char *host, char *out, size_t size)
{
	char plain[INET6_ADDRSTRLEN];
	struct in6_addr binary;
	size_t length = strcspn(host, "%"), used;
	const char *zone = host + length;

	assert(size >= INET6_ADDRSTRLEN + IF_NAMESIZE + 1);
	if (length >= sizeof(plain))
		return false;
	memcpy(plain, host, length);
	plain[length] = '\0';
	if (inet_pton(AF_INET6, plain, &binary) != 1 ||
	    inet_ntop(AF_INET6, &binary, out, (socklen_t)size) == NULL)
		return false;
	if (*zone == '\0')
		return true;
	used = strlen(out);
	assert(size - used > IF_NAMESIZE);
	if (zone[1] == '\0' || strlen(zone) > IF_NAMESIZE)
		return false;
	strcpy(out + used, zone);
	for (zone++; *zone != '\0'; zone++)
		if (!isalnum((unsigned char)*zone) &&
		    strchr("._-", *zone) == NULL)
			return false;
	return true;
}

/* Read [v6][:port[:weight]].  Returns as address_parse(). */
static const char *
parse_v6(struct address *address, char *text)
{
	char canonical[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
	const char *problem;
	char *end = strchr(text, ']');

	assert(text[0] == '[');
	if (end == NULL)
		return "the ] is missing";
	*end++ = '\0';
	if (!canonical_v6(text + 1, canonical, sizeof(canonical)))
		return "there is no IPv6 address in the brackets";
	if (*end != '\0' && *end != ':')
		return "only a port and a weight can follow the ]";
	problem = parse_port(address, *end == ':' ? end + 1 : NULL);
	if (problem != NULL)
		return problem;
	address->host = strdup(text + 1);
	if (asprintf(&address->name, "[%s]:%u", canonical, address->port) == -1)
		address->name = NULL;
	return NULL;
}

/* What is wrong with a host name or IPv4 address, or NULL. */
static const char *
check_host(const char *host)
{
	struct in_addr binary;
	const char *c;

	if (host[0] == '\0')
		return "the host is empty";
	if (strlen(host) > HOST_MAX)
		return "the host name has more than 253 bytes";
	for (c = host; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && strchr("._-", *c) == NULL)
			return "a host name has letters, digits, dots, "
			       "hyphens and underscores only";
	if (strspn(host, "0123456789.") == strlen(host) &&
	    inet_pton(AF_INET, host, &binary) != 1)
		return "this is neither an IPv4 address nor a host name";
	return NULL;
}

/* Read host[:port[:weight]].  Returns as address_parse(). */
static const char *
parse_host(struct address *address, char *text)
{
	char canonical[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], *port, *c;
	const char *problem;

	if (canonical_v6(text, canonical, sizeof(canonical)))
		return "an IPv6 address needs brackets: [address]:port";
	port = strchr(text, ':');
	if (port != NULL)
		*port++ = '\0';
	problem = check_host(text);
	if (problem == NULL)
		problem = parse_port(address, port);
	if (problem != NULL)
		return problem;
	address->host = strdup(text);
	for (c = text; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	if (asprintf(&address->name, "%s:%u", text, address->port) == -1)
		address->name = NULL;
	return NULL;
}

const char *
address_parse(struct address *address, const char *text)
{
	const char *problem;
	char *copy;

	assert(address != NULL && text != NULL);
	memset(address, 0, sizeof(*address));
	address->weight = 1;
	copy = strdup(text);
	if (copy == NULL)
		return "out of memory";
	if (strncmp(copy, "unix:", 5) == 0)
		problem = parse_unix(address, copy + 5);
	else if (copy[0] == '[')
		problem = parse_v6(address, copy);
	else
		problem = parse_host(address, copy);
	free(copy);
	if (problem == NULL && (address->host == NULL || address->name == NULL))
		problem = "out of memory";
	if (problem != NULL)
		address_free(address);
	assert(problem != NULL || address->weight > 0);
	assert(problem != NULL ||
	    (address->port == 0) == (address->host[0] == '/'));
	return problem;
}

void
address_free(struct address *address)
{
	free(address->name);
	free(address->host);
	address->name = NULL;
	address->host = NULL;
}
