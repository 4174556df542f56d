#ifndef SCRUB_H
#define SCRUB_H

/*
 * Prove that both copies of each key are equal, and make them so where they are
 * not: read all keys on both of their servers, in passes.  What is counted is
 * in struct scrub_counters: see pair.h.
 */

#include <stddef.h>

struct conn_loop;
struct pairs;
struct rest;
struct scrub;

/*
 * The scrub of the servers of pairs.  It waits while another magent serves, and
 * this one does not.  All pointers are borrowed.  memory: how many bytes of
 * keys may wait.  keys_per_second: how fast it goes, without an end; 0: it does
 * nothing but for scrub_start_pass().  Returns NULL when out of memory.
 */
struct scrub *scrub_new(struct conn_loop *loop, struct pairs *pairs,
    const struct rest *rest, size_t memory, unsigned int keys_per_second);

/* scrub_stop() was called before, if scrub_start() was; and the servers have
   been freed.  NULL is fine. */
void scrub_free(struct scrub *scrub);

/* Begin, as soon as each server has answered or failed.  To be called once. */
void scrub_start(struct scrub *scrub);

/* Begin a pass now, unless one is under way.  why is for the log. */
void scrub_start_pass(struct scrub *scrub, const char *why);

/* Begin a pass now, or as soon as the one that is under way has ended, and call
   done() once from the loop when it has ended, unless scrub_stop() is called
   before.  If this is called again before that, done() is called for both, when
   a pass has ended that begins from then on. */
void scrub_prove(struct scrub *scrub, const char *why,
    void (*done)(void *owner), void *owner);

/* No pass begins any more, and the one that is under way ends. */
void scrub_stop(struct scrub *scrub);

#endif
