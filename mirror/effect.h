#ifndef EFFECT_H
#define EFFECT_H

/*
 * Make the mirror of a key equal to its authority after a write: see the table
 * of effects in effect.c.
 */

#include <stddef.h>

#include "proto.h"

struct block;
struct pair;
struct peer;

/*
 * The authority, asked, has replied to request r about one key, which was
 * parsed from bytes (in block, or block is NULL): tell the other server of the
 * pair what follows from it.  To be called before the client is told.  Out of
 * memory, that server fails in here (see server_fail()).
 */
void effect_send(const struct pair *pair, struct peer *asked,
    const struct proto_request *r, const char *bytes, struct block *block,
    const struct proto_reply *reply);

/*
 * Clients read from the partner of a server that cannot be rebuilt otherwise:
 * give it the VALUE, of length bytes, too, for a while and unless it has one.
 * expect is what the VALUE was the reply to.
 */
void effect_warm(const struct pair *pair, struct peer *asked,
    enum proto_expect expect, const char *value, size_t length);

/* The authority failed before it replied: what it did with r is unknown. */
void effect_lost(struct peer *asked, const struct proto_request *r,
    const char *bytes);

/* Give unused memory back to the system. */
void effect_pool_free(void);

#endif
