/* The parts of all keys that are a server's. */

#include "client/share.h"

#include "mirror/pair.h"
#include "mirror/peer.h"

const struct peer *
share_answered_by(struct pairs *pairs, size_t primary, size_t backup)
{
	struct pair pair = { .primary = pairs_peer(pairs, primary) };

	if (backup != primary)
		pair.backup = pairs_peer(pairs, backup);
	return pair_authority(&pair);
}

struct share
share_of(const double *shares, const struct peer *peer)
{
	size_t n = pairs_peer_count(peer->pairs), at = peer->index, i;
	struct share share = { .primary = shares[at * n + at] };

	if (share_answered_by(peer->pairs, at, at) == peer)
		share.answers = share.primary;
	for (i = 0; i < n; i++) {
		if (i == at)
			continue;
		share.primary += shares[at * n + i];
		share.backup += shares[i * n + at];
		if (share_answered_by(peer->pairs, at, i) == peer)
			share.answers += shares[at * n + i];
		if (share_answered_by(peer->pairs, i, at) == peer)
			share.answers += shares[i * n + at];
	}
	return share;
}
