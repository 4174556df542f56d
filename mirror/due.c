/*
 * When a flush_all is due.
 *
 *   exptime       1.6.18 drops at once from      what is stored later is kept
 *                                                from
 *   0, negative   now                            now
 *   d seconds     a tick in (d - 2, d - 1]       a tick in (d - 1, d]
 *   a time T      the tick of T - 1              the tick of T
 *
 * Invariant: what is stored before the moment that is named here is dropped,
 * and what is stored after it is kept.  It is the one moment that is right
 * wherever the ticks of a memcached are.
 */

#include "mirror/due.h"

#include <assert.h>

#include "proto.h"

/* memcached says that it was started so many seconds earlier. */
enum { EARLIER = 62 };

int64_t
due_in(int64_t exptime, int64_t now_ms, int64_t start_ms)
{
	int64_t delay = (exptime - 1) * 1000;

	assert(now_ms >= start_ms);
	if (exptime > PROTO_RELATIVE_MAX) {
		if (exptime <= start_ms / 1000 - EARLIER)
			return DUE_NEVER;
		delay -= now_ms;
	}
	return delay > 0 ? delay : 0;
}
