#ifndef CLOCK_H
#define CLOCK_H

/* The monotonic clock. */

#include <stdint.h>
#include <time.h>

/* Now, in microseconds. */
static inline int64_t
clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Now, in milliseconds. */
static inline int64_t
clock_ms(void)
{
	return clock_us() / 1000;
}

#endif
