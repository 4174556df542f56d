#ifndef RESOLVER_H
#define RESOLVER_H

/*
 * Look names up as getaddrinfo() does, with all that the system's resolver
 * knows (/etc/hosts, resolv.conf, search lists, nsswitch.conf), without holding
 * up the loop: in threads, of which nothing else of the program knows.
 */

struct addrinfo;
struct event_base;
struct lookup;
struct resolver;

/* Returns NULL when out of memory or descriptors. */
struct resolver *resolver_new(struct event_base *base);

/* After the last lookup has ended or was cancelled.  Threads that are still in
   getaddrinfo() end later.  NULL is fine. */
void resolver_free(struct resolver *resolver);

/*
 * Look up the TCP addresses of host (copied) with this port.  found() is called
 * once, from the loop: with the list, which is only valid in there, and error
 * 0; or with NULL and what getaddrinfo() returned.  Returns NULL when out of
 * memory; then found() is not called.
 */
struct lookup *resolver_look_up(struct resolver *resolver, const char *host,
    unsigned int port,
    void (*found)(void *owner, int error, const struct addrinfo *list),
    void *owner);

/* found() is not called any more. */
void lookup_cancel(struct lookup *lookup);

#endif
