/*
 * Say how far a rebuild, or a pass of the scrub, is.
 *
 * Invariant: progress never goes beyond all.  What is still to be found is
 * estimated by the number of items that the servers say they have.
 */

#include "client/progress.h"

#include <stddef.h>

#include "client/usage.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rebuild.h"
#include "mirror/recovery.h"

/* The seconds that are left, if keys are dealt with as fast as so far. */
static void
estimate_time(struct progress *progress)
{
	progress->seconds = -1;
	if (progress->all > 0 && progress->per_second > 0)
		progress->seconds = (int64_t)((progress->all - progress->done +
						  progress->per_second - 1) /
		    progress->per_second);
}

/* The part of all keys that two servers share. */
static double
shared(const struct pairs *pairs, const double *shares, const struct peer *one,
    const struct peer *other)
{
	size_t n = pairs_peer_count(pairs);

	return shares[one->index * n + other->index] +
	    shares[other->index * n + one->index];
}

/* How many keys a partner shares with a server. */
static double
keys_shared(struct pairs *pairs, const double *shares,
    const struct usage *usage, const struct peer *peer,
    const struct peer *partner)
{
	const struct usage_of_server *said = usage_of(usage, partner);
	double held = 0;
	size_t i;

	if (said == NULL)
		return 0;
	for (i = 0; i < pairs_peer_count(pairs); i++)
		held += shared(pairs, shares, partner, pairs_peer(pairs, i));
	/* What has no backup was counted twice. */
	held -= shared(pairs, shares, partner, partner) / 2;
	return held > 0 ?
	    (double)said->items * shared(pairs, shares, peer, partner) / held :
	    0;
}

bool
progress_of_rebuild(struct pairs *pairs, const double *shares,
    const struct usage *usage, const struct peer *peer,
    struct progress *progress)
{
	struct rebuild_progress rebuild;
	struct peer *partner;
	double keys = 0;
	size_t i;

	if (!recovery_progress(peer, &rebuild))
		return false;
	progress->done = rebuild.copied + rebuild.overtaken + rebuild.gone +
	    rebuild.refused;
	progress->all = progress->done + rebuild.left;
	progress->is_about = rebuild.searching;
	progress->per_second = rebuild.per_second;
	for (i = 0; rebuild.searching && i < pairs_peer_count(pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL)
			keys += keys_shared(pairs, shares, usage, peer,
			    partner);
	}
	if (keys > (double)progress->all)
		progress->all = (uint64_t)keys;
	estimate_time(progress);
	return true;
}

bool
progress_of_scrub(struct pairs *pairs, const struct usage *usage,
    int64_t now_ms, struct progress *progress)
{
	const struct scrub_counters *scrub = &pairs_counters(pairs)->scrub;
	int64_t ms = now_ms - scrub->began_ms;
	const struct usage_of_server *said;
	size_t i;

	if (!scrub->is_running)
		return false;
	*progress = (struct progress){ .done = scrub->taken, .is_about = true };
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		said = usage_of(usage, pairs_peer(pairs, i));
		if (said != NULL)
			progress->all += said->items;
	}
	if (progress->all > 0 && progress->all < progress->done)
		progress->all = progress->done;
	if (ms > 0)
		progress->per_second = scrub->taken * 1000 / (uint64_t)ms;
	estimate_time(progress);
	return true;
}
