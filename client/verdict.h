#ifndef VERDICT_H
#define VERDICT_H

/* Say in sentences whether all is well, or what is not, and what to do. */

#include <stddef.h>
#include <stdint.h>

struct history;
struct metrics_source;
struct usage;

enum verdict_level {
	VERDICT_WELL,
	VERDICT_BUSY,    /* something is under way, and nothing is to be done */
	VERDICT_WARNING, /* somebody should look at it */
	VERDICT_BAD,     /* clients notice it */
};

enum {
	VERDICTS_MAX = 12,
	VERDICT_BYTES = 640,
};

struct verdict {
	enum verdict_level level;
	char text[VERDICT_BYTES];  /* one sentence */
	char to_do[VERDICT_BYTES]; /* what to do; may be empty */
};

/* What it is made of; all are borrowed. */
struct verdict_source {
	const struct metrics_source *metrics;
	const double *shares; /* of pairs_measure() */
	const struct usage *usage;
	const struct history *history;
	int64_t now_ms; /* of the monotonic clock */
};

/* Write all that is to be said, the first one first; one at least.  Returns how
   many. */
size_t verdicts_find(const struct verdict_source *source,
    struct verdict verdicts[VERDICTS_MAX]);

/* The level, a word. */
const char *verdict_level_name(enum verdict_level level);

#endif
