#ifndef LISTENER_H
#define LISTENER_H

/* Bind listening sockets, accept clients from them, pause when that fails. */

#include <stddef.h>

struct clients;
struct event_base;
struct listener;
struct stats;

/* Listen on the first address of host, a name or an address, and port, 1 to
   65535.  Returns a nonblocking descriptor, or -1 after one line in the log. */
int listener_bind_tcp(const char *host, unsigned int port);

/* Listen on a socket file, of at most ADDRESS_PATH_MAX bytes, which every user
   may connect to.  A file that nobody listens on is replaced.  Returns as
   listener_bind_tcp(). */
int listener_bind_unix(const char *path);

/*
 * Accept clients from fd, a descriptor of one of the above, which is the
 * listener's from now on; clients and stats are borrowed.  stats counts the
 * pauses.  Returns NULL when out of memory; then fd may be closed or not, and
 * the process is to end.
 */
struct listener *listener_new(struct event_base *base, int fd,
    struct clients *clients, struct stats *stats);

/* Close the socket; clients that were accepted stay.  NULL is fine. */
void listener_free(struct listener *listener);

#endif
