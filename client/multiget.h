#ifndef MULTIGET_H
#define MULTIGET_H

/*
 * Carry out gets of many keys: split them by server, and put what comes back
 * together in the order of the keys.  The keys are asked for in rounds, so that
 * neither they nor their values are all in memory at a time.
 */

#include <stdbool.h>
#include <stddef.h>

struct conn;
struct exec;
struct proto_request;
struct request_env;

/* Whether the gate lets the keys of the next round of r begin now: the first
   ones from offset at of bytes on, as many as a round may have. */
bool multiget_may_start(const struct request_env *env,
    const struct proto_request *r, const char *bytes, size_t at);

/*
 * Ask for the keys of the next round, which are the first of exec->keys_left
 * from exec->key_at on.  The exec is EXEC_WAITING after this, or EXEC_READY if
 * no server can be asked for any of them.  Returns false when out of memory;
 * then no key was asked for.
 */
bool multiget_start(struct exec *exec);

/* Write the VALUEs of the round to conn, and after those of the last round the
   END, or the error.  If keys are left, what this round held is freed. */
void multiget_write(struct exec *exec, struct conn *conn);

#endif
