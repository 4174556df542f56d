#ifndef PLACE_H
#define PLACE_H

/*
 * Where a server is to be found: the socket addresses that its host stands
 * for, and connections to them.
 */

#include <stdbool.h>

struct address;
struct resolver;
struct endpoints;

/*
 * resolver may be NULL if the host is numeric or the path of a socket.  found() is
 * called when a name has got its first addresses, from inside
 * endpoints_look_up() or later.  Returns NULL when out of memory.
 */
struct endpoints *endpoints_new(struct resolver *resolver,
    const struct address *address, void (*found)(void *owner), void *owner);
void endpoints_free(struct endpoints *endpoints); /* NULL is fine */

/* Look a name up (again).  The result is taken up by the next
   endpoints_rewind(). */
void endpoints_look_up(struct endpoints *endpoints);

/* Begin with the first place.  Returns whether there is one. */
bool endpoints_rewind(struct endpoints *endpoints);

/* The endpoint that was tried last did not answer: the next round of tries
   begins with the one after it. */
void endpoints_skip(struct endpoints *endpoints);

/*
 * Connect to the next place that takes it, or to the last one again.  Returns a
 * nonblocking descriptor that may still be connecting, or -1 and errno, which
 * is 0 if there is no next place.
 */
int endpoints_connect_next(struct endpoints *endpoints);
int endpoints_connect_again(const struct endpoints *endpoints);

#endif
