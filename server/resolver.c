/*
 * Look names up in threads.
 *
 *   resolver_look_up() -> [ waiting ] -> getaddrinfo() -> [ done ] -> found()
 *       loop                             worker threads             loop
 *
 * Invariant: a lookup is in the list waiting, in the hands of one worker, or in
 * the list done.  What both sides see is in struct shared, under its lock; it
 * lives until the resolver and all workers are gone, whichever is last.
 */

#include "server/resolver.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

enum {
	/* So many names are looked up at the same time; the others wait. */
	WORKERS_MAX = 16,
	/* What the system's modules for names need; the default is 8 MB. */
	STACK_BYTES = 512 << 10,
	PORT_SIZE = 16,
};

STAILQ_HEAD(lookup_list, lookup);

struct lookup {
	STAILQ_ENTRY(lookup) entry;
	/* Of the loop alone; NULL: it was cancelled. */
	void (*found)(void *owner, int error, const struct addrinfo *list);
	void *owner;
	/* Of whoever holds the lookup. */
	struct addrinfo *list;
	int error;
	char port[PORT_SIZE];
	char host[];
};

struct shared {
	pthread_mutex_t lock;
	struct lookup_list waiting, done;
	unsigned int workers;
	bool is_closed; /* the resolver is gone */
	int event_fd;   /* readable: there is something in done */
};

struct resolver {
	struct shared *shared;
	struct event *readable;
};

static void
free_lookup(struct lookup *lookup)
{
	if (lookup->list != NULL)
		freeaddrinfo(lookup->list);
	free(lookup);
}

static void
free_lookups(struct lookup_list *list)
{
	struct lookup *lookup;

	while ((lookup = STAILQ_FIRST(list)) != NULL) {
		STAILQ_REMOVE_HEAD(list, entry);
		free_lookup(lookup);
	}
}

static void
free_shared(struct shared *shared)
{
	assert(shared->is_closed && shared->workers == 0);
	free_lookups(&shared->waiting);
	free_lookups(&shared->done);
	close(shared->event_fd);
	pthread_mutex_destroy(&shared->lock);
	free(shared);
}

/*
 * In a worker
 */

static void
resolve(struct lookup *lookup)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};

	lookup->error = getaddrinfo(lookup->host, lookup->port, &hints,
	    &lookup->list);
	if (lookup->error != 0)
		lookup->list = NULL;
}

/* Wake the loop.  The count of an eventfd never gets so high that it waits. */
static void
wake_loop(const struct shared *shared)
{
	uint64_t one = 1;

	if (write(shared->event_fd, &one, sizeof(one)) == -1)
		assert(errno == EAGAIN);
}

static void *
run_worker(void *arg)
{
	struct shared *shared = arg;
	struct lookup *lookup;
	bool is_last;

	pthread_mutex_lock(&shared->lock);
	while (!shared->is_closed &&
	    (lookup = STAILQ_FIRST(&shared->waiting)) != NULL) {
		STAILQ_REMOVE_HEAD(&shared->waiting, entry);
		pthread_mutex_unlock(&shared->lock);
		resolve(lookup);
		pthread_mutex_lock(&shared->lock);
		STAILQ_INSERT_TAIL(&shared->done, lookup, entry);
		wake_loop(shared);
	}
	assert(shared->workers > 0);
	shared->workers--;
	is_last = shared->is_closed && shared->workers == 0;
	pthread_mutex_unlock(&shared->lock);
	if (is_last)
		free_shared(shared);
	return NULL;
}

/*
 * In the loop
 */

static void
on_done(evutil_socket_t fd, short what, void *arg)
{
	struct shared *shared = ((struct resolver *)arg)->shared;
	struct lookup_list done = STAILQ_HEAD_INITIALIZER(done);
	struct lookup *lookup;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) == -1)
		assert(errno == EAGAIN);
	pthread_mutex_lock(&shared->lock);
	STAILQ_CONCAT(&done, &shared->done);
	pthread_mutex_unlock(&shared->lock);
	while ((lookup = STAILQ_FIRST(&done)) != NULL) {
		STAILQ_REMOVE_HEAD(&done, entry);
		if (lookup->found != NULL)
			lookup->found(lookup->owner, lookup->error,
			    lookup->list);
		free_lookup(lookup);
	}
}

/* A thread that no signal is delivered to. */
static bool
start_worker(struct shared *shared)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attributes, run_worker, shared);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return error == 0;
}

static struct lookup *
new_lookup(const char *host, unsigned int port,
    void (*found)(void *owner, int error, const struct addrinfo *list),
    void *owner)
{
	size_t size = strlen(host) + 1;
	struct lookup *lookup = calloc(1, sizeof(*lookup) + size);

	if (lookup == NULL)
		return NULL;
	lookup->found = found;
	lookup->owner = owner;
	memcpy(lookup->host, host, size);
	snprintf(lookup->port, sizeof(lookup->port), "%u", port);
	return lookup;
}

struct lookup *
resolver_look_up(struct resolver *resolver, const char *host, unsigned int port,
    void (*found)(void *owner, int error, const struct addrinfo *list),
    void *owner)
{
	struct shared *shared = resolver->shared;
	struct lookup *lookup = new_lookup(host, port, found, owner);
	bool is_served;

	if (lookup == NULL)
		return NULL;
	pthread_mutex_lock(&shared->lock);
	STAILQ_INSERT_TAIL(&shared->waiting, lookup, entry);
	if (shared->workers < WORKERS_MAX && start_worker(shared))
		shared->workers++;
	/* Without a worker of its own it waits for one of the others. */
	is_served = shared->workers > 0;
	if (!is_served)
		STAILQ_REMOVE(&shared->waiting, lookup, lookup, entry);
	pthread_mutex_unlock(&shared->lock);
	if (is_served)
		return lookup;
	free_lookup(lookup);
	return NULL;
}

void
lookup_cancel(struct lookup *lookup)
{
	lookup->found = NULL;
}

/*
 * Life
 */

static struct shared *
new_shared(void)
{
	struct shared *shared = calloc(1, sizeof(*shared));

	if (shared == NULL)
		return NULL;
	shared->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (shared->event_fd == -1) {
		free(shared);
		return NULL;
	}
	pthread_mutex_init(&shared->lock, NULL);
	STAILQ_INIT(&shared->waiting);
	STAILQ_INIT(&shared->done);
	return shared;
}

struct resolver *
resolver_new(struct event_base *base)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));

	if (resolver == NULL)
		return NULL;
	resolver->shared = new_shared();
	if (resolver->shared == NULL) {
		free(resolver);
		return NULL;
	}
	resolver->readable = event_new(base, resolver->shared->event_fd,
	    EV_READ | EV_PERSIST, on_done, resolver);
	if (resolver->readable == NULL ||
	    event_add(resolver->readable, NULL) == -1) {
		resolver_free(resolver);
		return NULL;
	}
	return resolver;
}

void
resolver_free(struct resolver *resolver)
{
	struct shared *shared;
	bool is_last;

	if (resolver == NULL)
		return;
	shared = resolver->shared;
	if (resolver->readable != NULL)
		event_free(resolver->readable);
	pthread_mutex_lock(&shared->lock);
	shared->is_closed = true;
	is_last = shared->workers == 0;
	pthread_mutex_unlock(&shared->lock);
	if (is_last)
		free_shared(shared);
	free(resolver);
}
