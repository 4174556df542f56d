#ifndef SOCKETS_H
#define SOCKETS_H

/*
 * The listening sockets: bind them, with the rights of root if need be, and
 * close them at the end.  What accepts from them is in listener.c.
 */

#include <stdbool.h>
#include <stddef.h>

struct carry;
struct sockets;

enum sockets_use {
	SOCKETS_FOR_CLIENTS,
	SOCKETS_FOR_METRICS,
	SOCKETS_FOR_STATS,
};

/* No sockets yet.  Returns NULL when out of memory. */
struct sockets *sockets_new(enum sockets_use use);

/*
 * Listen on the port at all addresses of host, a name or an address; NULL: at
 * all addresses of this machine, IPv4 and IPv6.  IPv6 may be missing on this
 * machine if there is another address.  One that is listened on already is left
 * out.  may_come: an address that this machine has not is listened on all the
 * same.  Returns false after one line in the log.
 */
bool sockets_bind_tcp(struct sockets *sockets, const char *host,
    unsigned int port, bool may_come);

/*
 * Listen on the unix socket at path, which every local user may use; or, if it
 * is private, this user and root alone.  A file of a socket that nobody listens
 * on is replaced.  Returns false after one line in the log.
 */
bool sockets_bind_unix(struct sockets *sockets, const char *path,
    bool is_private);

/* What systemd calls those that it keeps for magent: see daemon_store(). */
#define SOCKETS_STORED "magent"

/* How many sockets systemd has passed to this process: these are the
   descriptors from 3 on.  To be called once: the environment does not tell it
   any more. */
unsigned int sockets_passed(void);

/* Take n of these.  One that systemd has kept since a magent before has ended
   is as one of sockets_take().  Returns false after one line in the log if one
   of them is no stream socket that listens. */
bool sockets_take_passed(struct sockets *sockets, unsigned int n);

/* Whether some of them were made by systemd: then no others are asked for. */
bool sockets_are_passed(const struct sockets *sockets);

/* Write them all to carry. */
void sockets_carry(const struct sockets *sockets, struct carry *carry);

/*
 * Take over those of a carry.  One that is asked for afterwards, by
 * sockets_bind_tcp() or sockets_bind_unix(), is the one that is there.  Returns
 * false after one line in the log.
 */
bool sockets_take(struct sockets *sockets, struct carry *carry);

/* Whether the i-th socket was taken over and not asked for since. */
bool sockets_is_unasked(const struct sockets *sockets, size_t i);

/* Close all of these; or leave out all that were taken over, as if they were
   not there. */
void sockets_drop_unasked(struct sockets *sockets);
void sockets_leave_taken(struct sockets *sockets);

size_t sockets_count(const struct sockets *sockets);

/* The descriptor of the i-th socket, which stays that of sockets. */
int sockets_fd(const struct sockets *sockets, size_t i);

/* Close them all, and remove the file of the unix socket if it is still that
   of ours.  NULL is fine. */
void sockets_free(struct sockets *sockets);

#endif
