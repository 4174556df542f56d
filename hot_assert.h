#ifndef HOT_ASSERT_H
#define HOT_ASSERT_H

/*
 * assert() for the path of every request.  Together these checks would cost a
 * tenth of it; so they are on in the builds that are tested (make asan, which
 * defines HOT_ASSERTS), and off in the one that is installed.
 */

#include <assert.h>

#ifdef HOT_ASSERTS
#define hot_assert(condition) assert(condition)
#else
#define hot_assert(condition) ((void)0)
#endif

#endif
