#ifndef SECOND_H
#define SECOND_H

/*
 * Wait until the clock of a server has gone on.  A memcached counts in seconds;
 * one without cas uniques (-C) drops, after a flush_all, also what it is given
 * later in the same second.
 */

#include <stdbool.h>

struct peer;
struct second;

/*
 * Wait until the second of now is over by the clock of peer, which is
 * connected.  passed() is called once with owner, not from inside this
 * function: is_over is false if the server has failed before, in here also
 * because its clock stands still.  It may be called when the owner does not
 * wait any more.  Returns NULL when out of memory.
 */
struct second *second_wait(struct peer *peer,
    void (*passed)(void *owner, bool is_over), void *owner);

/* passed() is not called any more.  The server has failed since second_wait(),
   and has returned all calls; or it has been freed.  NULL is fine. */
void second_free(struct second *second);

#endif
