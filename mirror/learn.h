#ifndef LEARN_H
#define LEARN_H

/*
 * Have mirrors that are warming learn single keys from their authorities: what
 * clients read.
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

/* A client has read a key, as on a command line, of which to is the mirror and
   is warming: have it copied there, unless that was done lately, or too many
   wait. */
void learn_read(struct learner *learner, const struct peer *to, const char *key,
    size_t length);

#endif
