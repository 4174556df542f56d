#ifndef UNIT_H
#define UNIT_H

/*
 * What the unit tests share: checks that are counted, and shown if they fail
 * with the name of the test.  A main() calls each test by RUN() and ends with
 * return unit_end().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
	UNIT_SHOWN = 20,  /* failures; the others are counted only */
	UNIT_BYTES = 400, /* of a text that is shown */
};

/* Runs a test, a function without arguments. */
#define RUN(test) (unit_test = #test, test(), unit_test = "main")

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* This must be true; check_case() takes a text like that of printf() where the
   condition does not say which case it is. */
#define check(good) check_case(good, "%s", #good)
#define check_case(good, ...) \
	do { \
		if (unit_count(good)) { \
			unit_where(__FILE__, __LINE__); \
			printf(__VA_ARGS__); \
			printf("\n"); \
		} \
	} while (0)

/* n bytes at got must be those of the string want. */
#define check_bytes(got, n, want) \
	unit_compare(__FILE__, __LINE__, got, n, want, strlen(want))

static unsigned int unit_passed, unit_failed;
static const char *unit_test = "main"; /* the name of the one that runs */
static uint64_t unit_state;            /* of unit_random(); 0: not seeded */

/* Seed unit_random() with SEED of the environment, or else at random, and say
   with which number. */
static inline void
unit_seed(void)
{
	const char *given = getenv("SEED");
	unsigned int seed = 0;

	if (given != NULL)
		seed = (unsigned int)strtoul(given, NULL, 10);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		abort();
	printf("seed %u\n", seed);
	fflush(stdout);
	unit_state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* A random number below n. */
static inline unsigned int
unit_random(unsigned int n)
{
	if (unit_state == 0)
		unit_seed();
	/* xorshift64* */
	unit_state ^= unit_state >> 12;
	unit_state ^= unit_state << 25;
	unit_state ^= unit_state >> 27;
	return (unsigned int)(unit_state * UINT64_C(0x2545f4914f6cdd1d) >> 33) %
	    n;
}

/* The head of what is shown of a failure. */
static inline void
unit_where(const char *file, int line)
{
	printf("%s:%d: %s: failed: ", file, line, unit_test);
}

/* Returns whether this is a failure to show. */
static inline bool
unit_count(bool good)
{
	if (good)
		unit_passed++;
	else
		unit_failed++;
	return !good && unit_failed <= UNIT_SHOWN;
}

static inline void
unit_show(const char *what, const char *bytes, size_t n)
{
	size_t i;

	printf("  %s %zu bytes \"", what, n);
	for (i = 0; i < n && i < UNIT_BYTES; i++)
		printf(bytes[i] < ' ' || bytes[i] > '~' ? "\\x%02x" : "%c",
		    (unsigned int)(unsigned char)bytes[i]);
	printf("\"\n");
}

static inline void
unit_compare(const char *file, int line, const char *got, size_t n,
    const char *want, size_t length)
{
	if (!unit_count(n == length && memcmp(got, want, n) == 0))
		return;
	unit_where(file, line);
	printf("\n");
	unit_show("got", got, n);
	unit_show("not", want, length);
}

/* For what a test cannot do without. */
static inline void
unit_need(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(EXIT_FAILURE);
}

static inline int
unit_end(void)
{
	printf("%u passed, %u failed\n", unit_passed, unit_failed);
	return unit_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
