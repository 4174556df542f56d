#ifndef HOST_H
#define HOST_H

/*
 * Names that a browser says in the header Host.
 *
 * Whoever has a domain can let a name in it stand for 127.0.0.1 (DNS
 * rebinding).  A page of theirs may then read what is answered there to its
 * visitor's browser, which still says that name.
 */

#include <stdbool.h>

/* Whether that cannot be the case: host is an address, with brackets if it has
   colons, or a name that nobody outside can have: one without a dot, below
   localhost, or that of this machine.  NULL and "": no name was said. */
bool host_is_ours(const char *host);

/* Whether only this machine reaches the socket, which listens. */
bool host_is_alone(int fd);

#endif
