#ifndef BLAME_H
#define BLAME_H

/*
 * Remember keys at which servers fail, so that they are left alone: a server
 * that fails at the copy or at the delete of one key would never come back.
 */

#include <stdbool.h>
#include <stddef.h>

struct blame;

/* Returns NULL when out of memory. */
struct blame *blame_new(void);
void blame_free(struct blame *blame); /* NULL is fine */

/* What servers fail at. */
enum blame_what { BLAME_COPY, BLAME_DELETE };

/* A server has failed while this of this key was the oldest command there: see
   call.is_suspect.  The key has 1 to 250 bytes, as on a command line. */
void blame_key(struct blame *blame, enum blame_what what, const char *key,
    size_t length);

/* It was carried out: what was before is forgotten. */
void blame_acquit(struct blame *blame, enum blame_what what, const char *key,
    size_t length);

/* Whether servers have failed of it so often, and it was never carried out in
   between, that this is no chance.  Only the keys that were blamed last are
   known. */
bool blame_is_clear(const struct blame *blame, enum blame_what what,
    const char *key, size_t length);

#endif
