#ifndef GIVEBACK_H
#define GIVEBACK_H

/*
 * Give back what a read of ours has won: a stale item is won by the first who
 * reads it with mg, and that one is to set it anew.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "server/link.h"

struct peer;

/* At first all of it is zero but for what the owner sets. */
struct giveback {
	/* The server has answered, or has failed; called once, from the loop.
	   Set by the owner. */
	void (*done)(struct giveback *giveback);

	/* Of giveback.c: */

	struct call call;
	struct peer *peer; /* borrowed */
	const char *key;   /* borrowed */
	size_t length;
	bool base64;
	LIST_ENTRY(giveback) entry; /* of those of the peer */
};

/*
 * peer, a mirror, has just answered a read of this key, which has this hash,
 * with the flag W and the cas token cas; 0: it gives none.  Have the next
 * client win the item instead.  To be called inside the done() of that read.
 * The key is as on a command line, in base64 only if it cannot be plain, and
 * borrowed until done().
 */
void giveback_submit(struct giveback *giveback, struct peer *peer,
    uint32_t hash, const char *key, size_t length, bool base64, uint64_t cas);

/* Whether the token of the item is out because of another read of ours. */
bool giveback_is_under_way(const struct peer *peer, const char *key,
    size_t length);

#endif
