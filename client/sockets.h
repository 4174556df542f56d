#ifndef SOCKETS_H
#define SOCKETS_H

/*
 * The listening sockets: bind them, with the rights of root if need be, and
 * close them at the end.  What accepts from them is in listener.c.
 */

#include <stdbool.h>
#include <stddef.h>

struct sockets;

/* No sockets yet.  Returns NULL when out of memory. */
struct sockets *sockets_new(void);

/*
 * Listen on the port at all addresses of host, a name or an address; NULL: at
 * all addresses of this machine, IPv4 and IPv6.  IPv6 may be missing on this
 * machine if there is another address.  One that is listened on already is left
 * out.  Returns false after one line in the log.
 */
bool sockets_bind_tcp(struct sockets *sockets, const char *host,
    unsigned int port);

/*
 * Listen on the unix socket at path (borrowed), which every local user may use.
 * A file of a socket that nobody listens on is replaced.  Returns false after
 * one line in the log.
 */
bool sockets_bind_unix(struct sockets *sockets, const char *path);

/* How many sockets systemd has passed to this process: these are the
   descriptors from 3 on.  To be called once: the environment does not tell it
   any more. */
unsigned int sockets_passed(void);

/* Take n of these.  Returns false after one line in the log if one of them is
   no stream socket that listens. */
bool sockets_take_passed(struct sockets *sockets, unsigned int n);

size_t sockets_count(const struct sockets *sockets);

/* The descriptor of the i-th socket, which stays that of sockets. */
int sockets_fd(const struct sockets *sockets, size_t i);

/* Close them all, and remove the file of the unix socket if it is still that
   of ours.  NULL is fine. */
void sockets_free(struct sockets *sockets);

#endif
