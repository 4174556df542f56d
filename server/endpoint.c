/*
 * Look up the endpoints of a server, and connect to them.
 *
 * Invariant: at most one lookup is under way.  Its result waits in fresh, and
 * the current endpoints stay as they are, until the next rewind.
 */

#include "server/endpoint.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/util.h>

#include "log.h"
#include "server/address.h"
#include "server/resolver.h"

enum { ENDPOINTS_MAX = 8 }; /* addresses of a name that are tried */

struct endpoint {
	struct sockaddr_storage address;
	socklen_t length;
};

struct endpoint_list {
	struct endpoint endpoints[ENDPOINTS_MAX];
	size_t count;
};

struct endpoints {
	const struct address *address; /* borrowed */
	struct resolver *resolver;     /* borrowed; NULL: no lookup is needed */
	void (*found)(void *owner);
	void *owner;
	struct endpoint_list current;
	struct endpoint_list fresh; /* empty: there is no newer result */
	/* The index in current at which a round of tries begins, and how many
	   were tried in this round. */
	size_t first, tried;
	struct lookup *lookup;      /* NULL: none is under way */
	struct log_trouble trouble; /* why nothing is found */
};

static void
add_endpoint(struct endpoint_list *list, const struct sockaddr *address,
    socklen_t length)
{
	struct endpoint *endpoint;

	assert(list->count <= ENDPOINTS_MAX);
	if (list->count == ENDPOINTS_MAX || length > sizeof(endpoint->address))
		return;
	endpoint = &list->endpoints[list->count++];
	memcpy(&endpoint->address, address, length);
	endpoint->length = length;
}

/*
 * Connecting
 */

static bool
is_same_list(const struct endpoint_list *one, const struct endpoint_list *other)
{
	size_t i;

	if (one->count != other->count)
		return false;
	for (i = 0; i < one->count; i++)
		if (one->endpoints[i].length != other->endpoints[i].length ||
		    memcmp(&one->endpoints[i].address,
			&other->endpoints[i].address,
			one->endpoints[i].length) != 0)
			return false;
	return true;
}

bool
endpoints_rewind(struct endpoints *endpoints)
{
	endpoints->tried = 0;
	if (endpoints->fresh.count > 0) {
		if (!is_same_list(&endpoints->current, &endpoints->fresh))
			endpoints->first = 0;
		endpoints->current = endpoints->fresh;
		endpoints->fresh.count = 0;
	}
	return endpoints->current.count > 0;
}

void
endpoints_skip(struct endpoints *endpoints)
{
	if (endpoints->current.count > 0)
		endpoints->first = (endpoints->first + endpoints->tried) %
		    endpoints->current.count;
	endpoints->tried = 0;
}

/* The endpoint that is tried after n others. */
static const struct endpoint *
endpoint_after(const struct endpoints *endpoints, size_t n)
{
	assert(n < endpoints->current.count);
	return &endpoints->current.endpoints[(endpoints->first + n) %
	    endpoints->current.count];
}

/* If this process is killed, what was not sent is not to be sent by the kernel,
   perhaps seconds later, when a network is back: another magent may have
   brought the server further by then.  All other ends of a connection come by
   themselves: the server has closed it, or it is reset. */
static void
forget_at_death(int fd)
{
	const struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

socklen_t
endpoints_known(const struct endpoints *endpoints,
    struct sockaddr_storage *address)
{
	const struct endpoint *endpoint;

	if (endpoints->resolver == NULL || endpoints->current.count == 0)
		return 0;
	endpoint = endpoint_after(endpoints,
	    endpoints->tried > 0 ? endpoints->tried - 1 : 0);
	*address = endpoint->address;
	return endpoint->length;
}

void
endpoints_give(struct endpoints *endpoints, const void *address,
    socklen_t length)
{
	if (endpoints->resolver != NULL)
		add_endpoint(&endpoints->fresh, address, length);
}

static int
connect_to(const struct endpoint *endpoint)
{
	const struct sockaddr *to = (const struct sockaddr *)&endpoint->address;
	int one = 1;
	int fd, saved;

	fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd == -1)
		return -1;
	forget_at_death(fd);
	if (to->sa_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, to, endpoint->length) == -1 && errno != EINPROGRESS) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

int
endpoints_connect_next(struct endpoints *endpoints)
{
	int fd = -1;

	assert(endpoints->tried <= endpoints->current.count);
	errno = 0;
	while (fd == -1 && endpoints->tried < endpoints->current.count)
		fd = connect_to(endpoint_after(endpoints, endpoints->tried++));
	return fd;
}

int
endpoints_connect_again(const struct endpoints *endpoints)
{
	assert(endpoints->tried > 0);
	return connect_to(endpoint_after(endpoints, endpoints->tried - 1));
}

/*
 * Looking up
 */

/* errno: of EAI_SYSTEM. */
static void
log_lookup_failure(struct endpoints *endpoints, int error)
{
	const char *why = gai_strerror(error);

	if (log_is_due(&endpoints->trouble, why))
		log_warning("s %s: %s", endpoints->address->name, why);
}

static void
on_lookup(void *owner, int error, const struct addrinfo *list)
{
	struct endpoints *endpoints = owner;
	const struct addrinfo *i;

	assert(endpoints->lookup != NULL);
	endpoints->lookup = NULL;
	if (error != 0) {
		log_lookup_failure(endpoints, error);
		return;
	}
	log_trouble_over(&endpoints->trouble);
	endpoints->fresh.count = 0;
	for (i = list; i != NULL; i = i->ai_next)
		add_endpoint(&endpoints->fresh, i->ai_addr, i->ai_addrlen);
	if (endpoints->current.count == 0 && endpoints_rewind(endpoints))
		endpoints->found(endpoints->owner);
}

void
endpoints_look_up(struct endpoints *endpoints)
{
	assert(endpoints->address->port != 0 || endpoints->resolver == NULL);
	if (endpoints->resolver == NULL || endpoints->lookup != NULL)
		return;
	endpoints->lookup = resolver_look_up(endpoints->resolver,
	    endpoints->address->host, endpoints->address->port, on_lookup,
	    endpoints);
	if (endpoints->lookup == NULL)
		log_warning("s %s: cannot look the name up: no memory",
		    endpoints->address->name);
}

/* Find the endpoint of a socket path or a numeric host, which needs no lookup.
   Returns false when out of memory. */
static bool
find_literal(struct endpoints *endpoints)
{
	struct evutil_addrinfo hints = {
		.ai_flags = EVUTIL_AI_NUMERICHOST,
		.ai_socktype = SOCK_STREAM,
	};
	const struct address *address = endpoints->address;
	struct sockaddr_un path = { .sun_family = AF_UNIX };
	struct evutil_addrinfo *found;
	char port[16];
	int error;

	assert(endpoints->current.count == 0);
	if (address->port == 0) {
		assert(strlen(address->host) < sizeof(path.sun_path));
		memcpy(path.sun_path, address->host, strlen(address->host));
		add_endpoint(&endpoints->current, (struct sockaddr *)&path,
		    sizeof(path));
		endpoints->resolver = NULL;
		return true;
	}
	snprintf(port, sizeof(port), "%u", address->port);
	error = evutil_getaddrinfo(address->host, port, &hints, &found);
	if (error != 0)
		return error != EVUTIL_EAI_MEMORY;
	add_endpoint(&endpoints->current, found->ai_addr,
	    (socklen_t)found->ai_addrlen);
	evutil_freeaddrinfo(found);
	endpoints->resolver = NULL;
	return true;
}

/*
 * Life
 */

struct endpoints *
endpoints_new(struct resolver *resolver, const struct address *address,
    void (*found)(void *owner), void *owner)
{
	struct endpoints *endpoints = calloc(1, sizeof(*endpoints));

	assert(address->host != NULL && found != NULL);
	if (endpoints == NULL)
		return NULL;
	endpoints->address = address;
	endpoints->resolver = resolver;
	endpoints->found = found;
	endpoints->owner = owner;
	if (find_literal(endpoints))
		return endpoints;
	endpoints_free(endpoints);
	return NULL;
}

void
endpoints_free(struct endpoints *endpoints)
{
	if (endpoints == NULL)
		return;
	if (endpoints->lookup != NULL)
		lookup_cancel(endpoints->lookup);
	free(endpoints);
}
