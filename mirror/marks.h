#ifndef MARKS_H
#define MARKS_H

/*
 * Remember keys whose items were marked lately: as stale, or as won by a client
 * who is to set them anew.
 *
 * memcached may forget that when it counts an item: it makes a new one if the
 * number has become longer, if the item is part of a reply that was not sent
 * yet, or if it waits to be moved in the LRU.  The latter two happen by chance,
 * and the reply does not tell.
 */

#include <stdbool.h>
#include <stdint.h>

struct marks;
struct peer;
struct proto_request;

/* No key is marked.  Returns NULL when out of memory. */
struct marks *marks_new(void);

/* NULL is fine. */
void marks_free(struct marks *marks);

/* The item of the key of r was marked, or has a new value without marks.  The
   key is at r->key of bytes. */
void marks_set(struct marks *marks, const struct proto_request *r,
    const char *bytes, bool is_marked);

/*
 * r, whose key has this hash, is about to be submitted to peer.  If r counts an
 * item that may be marked, have the server send the replies to all that came
 * before, so that it does not forget the marks.
 */
void marks_keep(const struct marks *marks, struct peer *peer, uint32_t hash,
    const struct proto_request *r, const char *bytes);

/* The item of this key was counted on both of its servers: if it was marked,
   one of them may have forgotten that. */
void marks_doubt(struct marks *marks, const struct proto_request *r,
    const char *bytes);

/* Whether that is so of this key. */
bool marks_are_doubtful(const struct marks *marks,
    const struct proto_request *r, const char *bytes);

/* Whether the item of this key may be marked.  Some keys may be forgotten when
   more than a thousand are marked. */
bool marks_has(const struct marks *marks, const struct proto_request *r,
    const char *bytes);

#endif
