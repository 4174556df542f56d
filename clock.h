#ifndef CLOCK_H
#define CLOCK_H

/* The monotonic clock. */

#include <stdint.h>
#include <time.h>

/* Now, in milliseconds. */
static inline int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
