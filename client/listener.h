#ifndef LISTENER_H
#define LISTENER_H

/* Accept clients from one listening socket, and pause when that fails. */

struct clients;
struct event_base;
struct listener;
struct stats;

/* Accept for clients on fd (borrowed).  stats counts the times it had to pause.
   Returns NULL when out of memory. */
struct listener *listener_new(struct event_base *base, int fd,
    struct clients *clients, struct stats *stats);

void listener_free(struct listener *listener); /* NULL is fine */

#endif
