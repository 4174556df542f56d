#ifndef LATE_H
#define LATE_H

/*
 * This process was held up: has another magent served clients meanwhile?
 */

#include <stdbool.h>

struct pairs;

/* Ask all mirrors whether another magent serves.  Blocks
   for LATE_ASK_MS at most.  A server that does not answer says nothing. */
bool late_is_other_at_work(struct pairs *pairs);

/* Forget what is under way, and what is known of all servers: they fail in
   here, before they are sent anything, and are connected to anew at once. */
void late_forget(struct pairs *pairs);

enum { LATE_ASK_MS = 100 };

#endif
