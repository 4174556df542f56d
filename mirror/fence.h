#ifndef FENCE_H
#define FENCE_H

/*
 * Learn when a server has carried out all that it was sent so far.
 */

#include <stdbool.h>

struct fence;
struct peer;

/*
 * Wait for the answers to all calls that peer, which is a mirror, has on its
 * links now.  passed() is called once with owner, not from inside this
 * function: was_reached is false if the server has failed before.  The fence
 * ends with that.  Returns NULL when out of memory.
 */
struct fence *fence_new(struct peer *peer,
    void (*passed)(void *owner, bool was_reached), void *owner);

/* Do not call passed() any more.  The fence ends by itself. */
void fence_cancel(struct fence *fence);

#endif
