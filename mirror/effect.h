#ifndef EFFECT_H
#define EFFECT_H

/*
 * Make the mirror of a key equal to its authority after a write.
 */

#include <stddef.h>

#include "proto.h"

struct block;
struct pair;
struct peer;

/*
 * Queue for the other server of the pair what follows from a reply of asked,
 * one of the two, to request r about one key.  If that server gets no effects
 * now, the key becomes dirty for it.  Without a second server nothing happens.
 * This is called before the client is answered: see R2 in doc/architecture.md.
 *
 * r was parsed from bytes, which are in block; block is NULL if they are in no
 * block.  When out of memory, the other server fails in here: see
 * server_fail(), which runs the done() of its calls.
 */
void effect_send(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply);

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
 * The server asked has failed before it replied to r, some of which it was
 * sent, so it may have carried out r or not.  If r is a write, its key becomes
 * dirty for that server; unless nobody else answers for the key: then nobody
 * knows it better.
 */
void effect_lost(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes);

#endif
