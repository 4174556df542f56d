#ifndef DUE_H
#define DUE_H

/* When a flush_all is due, as memcached 1.6.18 reads its exptime. */

#include <stdint.h>

/* It drops nothing. */
enum { DUE_NEVER = -1 };

/*
 * In how many milliseconds a flush_all with this exptime drops what is stored:
 * 0 for now, or DUE_NEVER.  now_ms is the time of day, and start_ms that of the
 * start of this process, by the same clock.
 *
 * memcached drops what it was sent up to the second before the delay is over.
 * A delay of more than 30 days is a time of day.  One that has passed is now;
 * one from more than a minute before the start is never.
 */
int64_t due_in(int64_t exptime, int64_t now_ms, int64_t start_ms);

#endif
