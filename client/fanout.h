#ifndef FANOUT_H
#define FANOUT_H

/* Ask all primaries for their statistics. */

#include <stdbool.h>
#include <stddef.h>

struct block;
struct request;
struct request_env;
struct stats_of_servers;

/* Make the reply to stats, of *length bytes, from what the primaries have said.
   Returns NULL when out of memory.  owner: the arg of fanout_stats(). */
typedef struct block *fanout_render(void *owner,
    const struct stats_of_servers *sum, size_t *length);

/*
 * Ask the primaries that are trusted for their stats, then let render(arg) make
 * the reply to request, which is from request_new(); in here already if no
 * server can be asked.  Returns false when out of memory; then nothing happens,
 * and the request still has no reply.
 */
bool fanout_stats(struct request_env *env, struct request *request,
    fanout_render *render, void *arg);

#endif
