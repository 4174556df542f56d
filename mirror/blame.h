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

/* A server has failed while a command about this key was the oldest one there:
   see call.is_suspect.  The key has 1 to 250 bytes, as on a command line. */
void blame_key(struct blame *blame, const char *key, size_t length);

/* Whether that has happened so often that it is no chance.  Only the keys that
   were blamed last are known. */
bool blame_is_clear(const struct blame *blame, const char *key, size_t length);

#endif
