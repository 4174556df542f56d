#ifndef MULTIGET_H
#define MULTIGET_H

/*
 * Gets of many keys: split them by server, and put what comes back together in
 * the order of the keys.  They are asked for in rounds, so that neither they
 * nor their values are all in memory at a time.
 */

#include <stdbool.h>

struct conn;
struct exec;

/* Ask for the next keys of work->keys_left, from work->key_at on.  The work may
   be ready at once.  Returns false when out of memory. */
bool multiget_start(struct exec *work);

/* Write the values of the round; after the last one, the end. */
void multiget_write(struct exec *work, struct conn *conn);

#endif
