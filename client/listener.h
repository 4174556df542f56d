#ifndef LISTENER_H
#define LISTENER_H

/* Listening sockets: bind them, accept from them, pause when that fails. */

#include <stddef.h>

struct clients;
struct event_base;
struct listener;
struct stats;

/*
 * Bind and listen.  Returns the descriptor, or -1 after one line in the log.
 * A stale socket file (nobody listens on it) is replaced.
 */
int listener_bind_tcp(const char *host, unsigned int port);
int listener_bind_unix(const char *path);

/*
 * Accept for clients on fd, which is the listener's from now on.  stats counts
 * the times it had to pause.  Returns NULL when out of memory.
 */
struct listener *listener_new(struct event_base *base, int fd,
    struct clients *clients, struct stats *stats);

void listener_free(struct listener *listener); /* NULL is fine */

#endif
