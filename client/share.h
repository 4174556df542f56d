#ifndef SHARE_H
#define SHARE_H

/* The parts of all keys that are a server's, from 0 to 1. */

#include <stddef.h>

struct pairs;
struct peer;

struct share {
	double primary, backup; /* for which it is that */
	double answers;         /* for which it answers now */
};

/* shares are of pairs_measure(). */
struct share share_of(const double *shares, const struct peer *peer);

/* The peer that answers for the keys of two peers, which are named by their
   index; if they are the same, they have no backup.  NULL: none does. */
const struct peer *share_answered_by(struct pairs *pairs, size_t primary,
    size_t backup);

#endif
