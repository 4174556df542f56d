#ifndef PROGRESS_H
#define PROGRESS_H

/* Say how far a rebuild, or a pass of the scrub, is, and how long it will
   take. */

#include <stdbool.h>
#include <stdint.h>

struct pairs;
struct peer;
struct usage;

struct progress {
	uint64_t done;       /* keys */
	uint64_t all;        /* keys, done included; 0: not known */
	bool is_about;       /* all is an estimate */
	int64_t seconds;     /* that are left; -1: not known */
	uint64_t per_second; /* keys */
};

/* Of a server that is being rebuilt.  shares: of pairs_measure().  Returns
   false if it is not. */
bool progress_of_rebuild(struct pairs *pairs, const double *shares,
    const struct usage *usage, const struct peer *peer,
    struct progress *progress);

/* Of the scrub, at now_ms of the monotonic clock.  Returns false if no pass is
   under way. */
bool progress_of_scrub(struct pairs *pairs, const struct usage *usage,
    int64_t now_ms, struct progress *progress);

#endif
