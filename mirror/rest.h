#ifndef REST_H
#define REST_H

/*
 * Another magent may have served while this one had nothing to do: look at the
 * stamps before the first request after a rest is carried out.
 */

#include <stdbool.h>

struct conn_loop;
struct pairs;
struct peer;
struct rest;
struct serving;

/* Returns NULL when out of memory.  All are borrowed. */
struct rest *rest_new(struct conn_loop *loop, struct pairs *pairs,
    struct serving *serving);
void rest_free(struct rest *rest); /* NULL is fine */

/* Begin: nothing has been served yet.  recoveries_start() was called. */
void rest_start(struct rest *rest);

/* Whether all that is known is being learned anew, and nothing was sent to any
   server since that began but questions. */
bool rest_begins_anew(const struct rest *rest);

/* Say on all servers that this magent serves clients, if it does.  To be called
   each second, behind a look at the stamps: so that it shows whether another
   one has said so since then. */
void rest_say(struct rest *rest);

/* Whether clients are being served. */
bool rest_serves(const struct rest *rest);

/* Whether another magent serves clients, and this one does not. */
bool rest_is_other_serving(const struct rest *rest);

/*
 * The stamps of peer, which is back, and of its partners have been read.
 * Returns whether to leave it to another magent to make peer what its partners
 * are: this one rests, and the other one is at work.
 */
bool rest_leaves(const struct rest *rest, const struct peer *peer);

/* Whether this magent serves, and another one as well, as was read last at a
   partner of the peer. */
bool rest_both_serve(const struct rest *rest, const struct peer *peer);

/* Whether the peer may get our effects while another magent rebuilds it: there
   are none, or both serve.  If it is left while there are none, it fails when
   the first request comes. */
bool rest_may_follow(const struct rest *rest, const struct peer *peer);

#endif
