#ifndef EFFECT_H
#define EFFECT_H

/*
 * Make the mirror of a key equal to its authority after a write.
 */

#include <stdbool.h>
#include <stddef.h>

#include "proto.h"

struct block;
struct pair;
struct peer;
struct stamp_waiter;

/*
 * Queue for the other server of the pair what follows from a reply of asked,
 * one of the two, to request r about one key.  If that server gets no effects
 * now, the key becomes dirty for it: then this returns true, and the client is
 * answered only behind effect_confirm().  Without a second server nothing
 * happens.  This is called before the client is answered: see R2 in
 * doc/architecture.md.
 *
 * r was parsed from bytes, which are in block; block is NULL if they are in no
 * block.  When out of memory, the other server fails in here: see
 * server_fail(), which runs the done() of its calls.
 */
bool effect_send(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply);

/* Give asked a new stamp, because its partner has missed a write: see
   stamp_raise(). */
void effect_confirm(const struct pair *pair, struct peer *asked,
    struct stamp_waiter *waiter);

/*
 * A client has read a VALUE, of length bytes, from asked.  If the other server
 * of the pair is warming, the key is copied there, unless too many wait; or, if
 * asked has no mg, the value is added there for a short time, if it has none.
 * expect is what the VALUE was the reply to: PROTO_EXPECT_VALUES, or
 * PROTO_EXPECT_VALUES_CAS.  When out of memory, nothing is sent.
 */
void effect_warm(const struct pair *pair, struct peer *asked,
    enum proto_expect expect, const char *value, size_t length);

/*
 * The server asked has failed before it replied to r.  If it was sent some of
 * r, it may have carried out r or not: if r is a write, its key becomes dirty
 * for that server; or undecided, if nobody else answers for the key: see
 * undecided.h.
 *
 * *is_doubtful is false when nobody has been asked yet, or has just replied;
 * otherwise it is kept from the last time: r alone has made the key dirty.  If
 * the other server fails of r as well, the key is undecided after all.
 */
void effect_lost(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes, bool was_sent,
    bool *is_doubtful);

#endif
