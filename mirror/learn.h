#ifndef LEARN_H
#define LEARN_H

/*
 * Have mirrors learn single keys from their authorities while nothing is
 * rebuilt: what clients read, if the mirror is warming, and keys that had to be
 * deleted there because it did not do what the authority did.
 */

#include <stdbool.h>
#include <stddef.h>

struct learner;
struct pairs;
struct peer;

/* The learner of pairs, which is borrowed and need not be complete yet.
   Returns NULL when out of memory. */
struct learner *learner_new(struct pairs *pairs);

/* The servers of the pairs have been freed.  NULL is fine. */
void learner_free(struct learner *learner);

/*
 * Have a key of 1 to 250 bytes copied to its mirror, which is as on a command
 * line, in base64 if base64 is set.  It is copied once, and not at all if too
 * many wait: then it is missing there.
 */
void learn_again(struct learner *learner, const char *key, size_t length,
    bool base64);

/* A client has read a key, as on a command line, of which to is the mirror and
   is warming: have it copied there, unless that was done lately. */
void learn_read(struct learner *learner, const struct peer *to, const char *key,
    size_t length);

#endif
