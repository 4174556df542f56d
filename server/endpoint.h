#ifndef ENDPOINT_H
#define ENDPOINT_H

/*
 * The endpoints of a server: the socket addresses that its host stands for, and
 * connections to them.
 */

#include <stdbool.h>
#include <sys/socket.h>

struct address;
struct resolver;
struct endpoints;

/*
 * The endpoints of address.  Both pointers are borrowed; resolver may be NULL
 * if the host is numeric or the path of a socket.  found() is called once, when
 * the first endpoints of a host name are known, perhaps from inside
 * endpoints_look_up().  It is not called if no name needs to be looked up.
 * Returns NULL when out of memory.
 */
struct endpoints *endpoints_new(struct resolver *resolver,
    const struct address *address, void (*found)(void *owner), void *owner);

/* A lookup is given up.  endpoints may be NULL. */
void endpoints_free(struct endpoints *endpoints);

/* Begin to look the host up, unless it needs none or one is under way.  What is
   found is used from the next endpoints_rewind() on. */
void endpoints_look_up(struct endpoints *endpoints);

/* Go back to the first endpoint.  Returns whether there is one. */
bool endpoints_rewind(struct endpoints *endpoints);

/* The endpoint that was tried last did not answer: the next round of tries
   begins with the one after it, as long as the endpoints are the same. */
void endpoints_skip(struct endpoints *endpoints);

/* Copy the endpoint that was tried last, or is the next one, to *address.
   Returns its length; 0: none is known, or none was looked up. */
socklen_t endpoints_known(const struct endpoints *endpoints,
    struct sockaddr_storage *address);

/* Begin with this one, and not with a lookup; unless none is needed. */
void endpoints_give(struct endpoints *endpoints, const void *address,
    socklen_t length);

/*
 * Connect to the next endpoint to which a connection can be begun.  Returns a
 * nonblocking descriptor, which may be still connecting and is the caller's; or
 * -1 and errno, which is 0 if there was no next endpoint.
 */
int endpoints_connect_next(struct endpoints *endpoints);

/* The same to the last endpoint that endpoints_connect_next() has tried, since
   endpoints_rewind(). */
int endpoints_connect_again(const struct endpoints *endpoints);

#endif
