#ifndef ZOMBIE_H
#define ZOMBIE_H

/*
 * Connections that have ended for us, but on which a server may still carry out
 * what it was sent.  They are half-closed: our end follows what was sent, and
 * the server has carried that out when its own end comes back.
 */

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct zombies;

/* No connections.  Returns NULL when out of memory. */
struct zombies *zombies_new(struct event_base *base);

/* The connections are reset.  NULL is fine. */
void zombies_free(struct zombies *zombies);

/* Half-close the connected socket fd, which is owned from now on, and wait for
   the other end.  It is reset when out of memory, or if its host cannot be
   reached: then nothing more is carried out. */
void zombies_add(struct zombies *zombies, int fd);

/* How many connections have not ended on the other side. */
size_t zombies_count(const struct zombies *zombies);

/* The descriptor of the i-th of these, which stays theirs. */
int zombies_fd(const struct zombies *zombies, size_t i);

/* Reset those whose host has not heard of our end, and of which nothing was
   heard for the last ms either: there the network was broken, not the
   server. */
void zombies_reset_unheard(struct zombies *zombies, unsigned int ms);

/* Reset all: another incarnation of the server does not know them. */
void zombies_reset(struct zombies *zombies);

#endif
