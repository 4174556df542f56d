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
 * Flush all servers in a job of the gate, so that no write is ahead of r on
 * one server and behind it on the other.  A flush_all with a delay is also sent
 * to servers that return before the delay is over.  Later the reply is given to
 * request, which is from request_new().  Returns false when out of memory; then
 * nothing happens, and the request still has no reply.
 */
bool fanout_flush(struct request_env *env, struct request *request,
    const struct proto_request *r, int64_t now_ms);

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
