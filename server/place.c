/*
 * Where a server is to be found.
 *
 * Invariant: at most one lookup is under way; its result waits in fresh until
 * nobody is in the middle of the current places.
 */

#include "server/place.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/dns.h>
#include <event2/util.h>

#include "log.h"
#include "server/address.h"

enum { PLACES_MAX = 8 }; /* addresses of a name that are tried */

struct place {
	struct sockaddr_storage address;
	socklen_t length;
};

struct list {
	struct place places[PLACES_MAX];
	size_t count;
};

struct places {
	const struct address *address;
	struct evdns_base *dns; /* NULL: no lookup is needed */
	void (*found)(void *owner);
	void *owner;
	struct list current, fresh;
	size_t next; /* of current, to be tried */
	struct evdns_getaddrinfo_request *lookup;
};

static void
add(struct list *list, const struct sockaddr *address, socklen_t length)
{
	struct place *place;

	if (list->count == PLACES_MAX || length > sizeof(place->address))
		return;
	place = &list->places[list->count++];
	memcpy(&place->address, address, length);
	place->length = length;
}

/*
 * Connecting
 */

bool
places_rewind(struct places *places)
{
	places->next = 0;
	if (places->fresh.count > 0) {
		places->current = places->fresh;
		places->fresh.count = 0;
	}
	return places->current.count > 0;
}

static int
connect_to(const struct place *place)
{
	const struct sockaddr *to = (const struct sockaddr *)&place->address;
	int one = 1;
	int fd, saved;

	fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd == -1)
		return -1;
	if (to->sa_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, to, place->length) == -1 && errno != EINPROGRESS) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

int
places_connect_next(struct places *places)
{
	int fd = -1;

	errno = 0;
	while (fd == -1 && places->next < places->current.count)
		fd = connect_to(&places->current.places[places->next++]);
	return fd;
}

int
places_connect_again(const struct places *places)
{
	assert(places->next > 0);
	return connect_to(&places->current.places[places->next - 1]);
}

/*
 * Looking up
 */

static void
on_lookup(int error, struct evutil_addrinfo *found, void *arg)
{
	struct places *places = arg;
	struct evutil_addrinfo *i;

	if (error == EVUTIL_EAI_CANCEL)
		return; /* places is gone */
	places->lookup = NULL;
	if (error != 0) {
		log_warning("s %s: %s", places->address->name,
		    evutil_gai_strerror(error));
		return;
	}
	places->fresh.count = 0;
	for (i = found; i != NULL; i = i->ai_next)
		add(&places->fresh, i->ai_addr, (socklen_t)i->ai_addrlen);
	evutil_freeaddrinfo(found);
	if (places->current.count == 0 && places_rewind(places))
		places->found(places->owner);
}

void
places_look_up(struct places *places)
{
	struct evutil_addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	char port[16];

	assert(places->address->port != 0 || places->dns == NULL);
	if (places->dns == NULL || places->lookup != NULL)
		return;
	snprintf(port, sizeof(port), "%u", places->address->port);
	places->lookup = evdns_getaddrinfo(places->dns, places->address->host,
	    port, &hints, on_lookup, places);
}

/* The place of a socket path or a numeric host: it needs no lookup.  Returns
   false when out of memory. */
static bool
find_place(struct places *places)
{
	struct evutil_addrinfo hints = {
		.ai_flags = EVUTIL_AI_NUMERICHOST,
		.ai_socktype = SOCK_STREAM,
	};
	const struct address *address = places->address;
	struct sockaddr_un path = { .sun_family = AF_UNIX };
	struct evutil_addrinfo *found;
	char port[16];
	int error;

	if (address->port == 0) {
		assert(strlen(address->host) < sizeof(path.sun_path));
		memcpy(path.sun_path, address->host, strlen(address->host));
		add(&places->current, (struct sockaddr *)&path, sizeof(path));
		places->dns = NULL;
		return true;
	}
	snprintf(port, sizeof(port), "%u", address->port);
	error = evutil_getaddrinfo(address->host, port, &hints, &found);
	if (error != 0)
		return error != EVUTIL_EAI_MEMORY;
	add(&places->current, found->ai_addr, (socklen_t)found->ai_addrlen);
	evutil_freeaddrinfo(found);
	places->dns = NULL;
	return true;
}

/*
 * Life
 */

struct places *
places_new(struct evdns_base *dns, const struct address *address,
    void (*found)(void *owner), void *owner)
{
	struct places *places = calloc(1, sizeof(*places));

	if (places == NULL)
		return NULL;
	places->address = address;
	places->dns = dns;
	places->found = found;
	places->owner = owner;
	if (find_place(places))
		return places;
	places_free(places);
	return NULL;
}

void
places_free(struct places *places)
{
	if (places == NULL)
		return;
	if (places->lookup != NULL)
		evdns_getaddrinfo_cancel(places->lookup);
	free(places);
}
