#ifndef INSPECT_H
#define INSPECT_H

/*
 * Find out whether the two servers of a key hold the same, and make them equal
 * if they do not.  What is counted is in struct scrub_counters: see pair.h.
 */

#include <stdbool.h>
#include <stddef.h>

struct conn_loop;
struct inspections;
struct pairs;

/* The inspections of keys of pairs; both are borrowed.  Returns NULL when out
   of memory. */
struct inspections *inspections_new(struct conn_loop *loop,
    struct pairs *pairs);

/* The servers have been freed.  NULL is fine. */
void inspections_free(struct inspections *all);

/* Whether there is room for a further key. */
bool inspections_have_room(const struct inspections *all);

/*
 * Inspect a key of 1 to 250 bytes, which is as on a command line, in base64
 * only if it cannot be plain, while no gate is closed.  is_stray: the mirror
 * has it, and the question is only whether the authority has it, too; if so,
 * the key is inspected when that lists it.  When out of memory, the key counts
 * as not compared.  Returns whether a server is asked; if not, the key was
 * dealt with.
 */
bool inspections_add(struct inspections *all, const char *key, size_t length,
    bool base64, bool is_stray);

/* Go on with a key that has to be compared once more, if one is due, while no
   gate is closed.  Returns false if none is. */
bool inspections_go_on(struct inspections *all);

/* Keys that a server is being asked about; and all that have not been dealt
   with. */
size_t inspections_in_flight(const struct inspections *all);
size_t inspections_left(const struct inspections *all);

/* Bytes of values that were read since the last call. */
size_t inspections_take_bytes(struct inspections *all);

/* To be called each second while a pass is under way: see evictions_ask(). */
void inspections_tick(struct inspections *all);

/* Forget the keys.  Those that are in flight are answered, and nothing follows
   from that. */
void inspections_stop(struct inspections *all);

#endif
