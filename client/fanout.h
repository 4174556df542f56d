#ifndef FANOUT_H
#define FANOUT_H

/* Carry the commands that go to all servers: flush_all and stats. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;
struct proto_request;
struct request;
struct request_env;
struct stats_of_servers;

/*
 * Flush all servers, at a moment at which nothing is in flight, so that no
 * write is on one side of it on the primary and on the other on the backup.
 * One with a delay is told again to servers that return before it is due.
 * The reply goes to request, which is from request_new().  Returns false when
 * out of memory.
 */
bool fanout_flush(struct request_env *env, struct request *request,
    const struct proto_request *r, int64_t now_ms);

/* Makes the reply, of *length bytes, from what the primaries said; NULL when
   out of memory. */
typedef struct block *fanout_render(void *owner,
    const struct stats_of_servers *sum, size_t *length);

/* Ask the primaries that are up for their stats, then let render(arg) make the
   reply to request; in here already if there is nobody to ask.  Returns false
   when out of memory. */
bool fanout_stats(struct request_env *env, struct request *request,
    fanout_render *render, void *arg);

#endif
