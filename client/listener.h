#ifndef LISTENER_H
#define LISTENER_H

/* Accept clients from one listening socket, and pause when that fails. */

struct clients;
struct event_base;
struct listener;
struct stats;

/*
 * Accept clients from fd, one of sockets_fd(); fd, clients and stats are
 * borrowed.  stats counts the pauses.  Of the descriptors that the process may
 * have, kept ones are left for servers, or half of them if these are fewer.
 * Returns NULL when out of memory.
 */
struct listener *listener_new(struct event_base *base, int fd,
    unsigned int kept, struct clients *clients, struct stats *stats);

/* Accept those who wait, because the socket is to be closed. */
void listener_empty(struct listener *listener);

/* Accept nothing more; clients that were accepted stay.  NULL is fine. */
void listener_free(struct listener *listener);

#endif
