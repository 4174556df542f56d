#ifndef EVICTIONS_H
#define EVICTIONS_H

/*
 * Whether a server has thrown items away to make room: then it may lack what
 * its partner holds, and nothing is wrong.
 */

#include <stdbool.h>
#include <stdint.h>

struct conn_loop;
struct evictions;
struct pairs;
struct peer;

/* What is known of the servers of pairs; both are borrowed.  Returns NULL when
   out of memory. */
struct evictions *evictions_new(struct conn_loop *loop, struct pairs *pairs);

/* The servers have been freed.  NULL is fine. */
void evictions_free(struct evictions *evictions);

/* Ask all servers that are up.  To be called about once a second while somebody
   wants to know. */
void evictions_ask(struct evictions *evictions);

/* Whether it is known what peer has thrown away up to since_ms, a time of the
   monotonic clock. */
bool evictions_are_known(const struct evictions *evictions,
    const struct peer *peer, int64_t since_ms);

/* Of a peer that is known.  Whether it may have thrown items away in this life;
   and whether it has done so lately. */
bool evictions_have_been(const struct evictions *evictions,
    const struct peer *peer);
bool evictions_go_on(const struct evictions *evictions,
    const struct peer *peer);

#endif
