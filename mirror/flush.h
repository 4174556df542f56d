#ifndef FLUSH_H
#define FLUSH_H

/*
 * flush_all: drop what all servers hold, at one moment.  magent keeps the time
 * of one with a delay itself; no server is sent one.
 */

#include <stdbool.h>
#include <stdint.h>

struct carry;
struct carry_line;
struct conn_loop;
struct flushes;
struct pairs;

/* The flush_alls of the servers of pairs, which is borrowed and need not be
   complete yet.  Returns NULL when out of memory. */
struct flushes *flushes_new(struct conn_loop *loop, struct pairs *pairs);

/* No done() is called any more.  NULL is fine. */
void flushes_free(struct flushes *flushes);

/*
 * Carry out a flush_all with this exptime, which is 0 if it has none, as one
 * memcached does: there is one time at most at which all is dropped, and each
 * flush_all that succeeds takes the place of the one that is to come.  done()
 * is called once with the reply, which is valid in there: from the loop, when
 * the flush_all has been carried out or its time is known; or in here, if a
 * server refuses it.  Then nothing has been dropped.  Returns false when out of
 * memory.
 */
bool flush_all(struct flushes *flushes, int64_t exptime,
    void (*done)(void *owner, const char *reply), void *owner);

/* Write the one that is to come, and when magent was started, to carry; and
   take that over from such a line, unless it is about something else.  Returns
   false when out of memory. */
void flushes_carry(const struct flushes *flushes, struct carry *carry);
bool flushes_take(struct flushes *flushes, const struct carry_line *line);

/* Forget the one that is to come. */
void flushes_stop(struct flushes *flushes);

#endif
