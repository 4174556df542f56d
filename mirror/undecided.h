#ifndef UNDECIDED_H
#define UNDECIDED_H

/*
 * Keys that were written while both of their servers failed, so that nobody has
 * answered the write: each server may have carried it out, or not.
 */

#include <stdbool.h>
#include <stddef.h>

struct peer;

/*
 * A write of the key was lost by peer, which has failed, and partner, its other
 * server, does not answer for it.  From now on it is undecided; unless one of
 * them lacks it, or has a copy that may be old: then the other one has the
 * right value, and the key is dirty at that one.  The key is as for
 * dirty_add(), and in base64 only if it cannot be plain.
 */
void undecided_add(struct peer *peer, struct peer *partner, const char *key,
    size_t length, bool base64);

/* peer is back with its items, and in the state INVALIDATE: it decides its
   undecided keys.  What it has is right, so that the copies of its partners are
   dirty; unless it lacks all that they hold. */
void undecided_settle(struct peer *peer);

#endif
