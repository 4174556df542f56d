#ifndef REPAIR_H
#define REPAIR_H

/*
 * Make single keys of a mirror what they are at its authority: those of which
 * it has not done what the authority did, and those that the scrub has found.
 */

#include <stdbool.h>
#include <stddef.h>

struct pairs;
struct peer;
struct repairs;

/* The repairs of to, one of pairs; both are borrowed.  Returns NULL when out of
   memory. */
struct repairs *repairs_new(struct pairs *pairs, struct peer *to);

/* The servers of the pairs have been freed.  NULL is fine. */
void repairs_free(struct repairs *repairs);

/*
 * Have a key of 1 to 250 bytes copied, which is as on a command line, in base64
 * if base64 is set.  to is a mirror.  What it has of the key is replaced, or
 * deleted if the authority lacks it.
 * Returns false if too many keys wait, or when out of memory.
 */
bool repairs_add(struct repairs *repairs, const char *key, size_t length,
    bool base64);

/* Keys that have not been dealt with. */
size_t repairs_left(const struct repairs *repairs);

/*
 * Have done() called once, from the loop, when not more than few keys are left,
 * or more than may be left at a time have been dealt with.  It is not called
 * after repairs_stop().  Returns false if few are left now: then it is not
 * called either.
 */
bool repairs_await(struct repairs *repairs, size_t few,
    void (*done)(void *owner), void *owner);

/* The same for the last of them, while the gate is closed for the handback of
   to: they are copied although it is. */
bool repairs_finish(struct repairs *repairs, void (*done)(void *owner),
    void *owner);

/* Whether they are copied although the gate is closed.  To be set back before
   it is opened. */
void repairs_set_hurry(struct repairs *repairs, bool is_in_hurry);

/* to has failed: the keys that are left are dirty, and nobody waits. */
void repairs_stop(struct repairs *repairs);

#endif
