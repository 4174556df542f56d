#ifndef PROBE_H
#define PROBE_H

/*
 * Look at the stamps of all servers every second, and at once when it matters:
 * a server that somebody else has left behind fails.
 */

#include <stdbool.h>
#include <stdint.h>

struct pairs;
struct probe;

/* looked() is called with owner, from the loop, at the end of each look, when
   all that was read was compared; differs: stamps of servers that should be
   equal are not.  Returns NULL when out of memory.  pairs is borrowed. */
struct probe *probe_new(struct pairs *pairs,
    void (*looked)(void *owner, bool differs), void *owner);
void probe_free(struct probe *probe); /* NULL is fine */

/* Begin to look, unless a look is under way.  This is to be called each second.
   now_ms is the time of the monotonic clock. */
void probe_look(struct probe *probe, int64_t now_ms);

/* Compare the stamps that were read last, by a look that began at that time.  A
   server that is behind fails in here, if what differs is not on its way:
   is_sure says so, or it is what the comparison before this one has shown.
   Returns whether some differ. */
bool probe_compare(struct pairs *pairs, bool is_sure, int64_t began_ms);

#endif
