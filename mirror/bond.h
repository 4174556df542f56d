#ifndef BOND_H
#define BOND_H

/*
 * Two partners, and what their stamps say of them.
 *
 * A stamp is a number that both partners keep, as an item, for the pair that
 * they are.  Any magent can read it: so what one has known of two servers
 * outlives it.
 *
 *	equal                each has what the other one has
 *	different            the one with the lower stamp is behind
 *	one is missing       that server has lost its items: it is behind
 *	both are missing     nobody knows better than that both are right
 *
 * A write that one of them misses gives a higher stamp to the other one.  Who
 * rebuilds a server gives it the stamp that its partner had at the beginning.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pairs;
struct peer;
struct bump;

enum {
	/* A stamp is two items, so that one of them may be evicted. */
	BOND_TWINS = 2,
	/* Bytes of the key of such an item, with its NUL. */
	BOND_KEY_MAX = 32,
};

/* The server does not have it.  All others are higher. */
#define STAMP_MISSING UINT64_C(0)

/* The stamp of two servers that have none.  Below it are those of servers that
   are being filled: what they have is right, and is not all. */
#define STAMP_FIRST (UINT64_C(1) << 32)

/* What is known of the stamp at one of the two. */
struct bond_side {
	/* What it was when it was read or given last. */
	uint64_t stamp;
	/* How often it was given: what was read before that does not count. */
	unsigned int gifts;
	/* What it was before the server failed. */
	uint64_t before;
	/* What the server was judged by when it was back. */
	uint64_t judged;
	/* It was judged to lack nothing that the partner has, and would have
	   been with a higher one, too. */
	bool may_rise;
	/* The server has said so since it was connected to. */
	bool is_read;
	/* One item of the two was not there. */
	bool lacks_twin;
	/* What it gets at the end of its rebuild; or STAMP_MISSING. */
	uint64_t goal;
	/* What we were adding to it when the server failed: it may have been
	   added, or be added while it is drained.  0: nothing. */
	uint64_t unanswered;
	/* A look has shown one since the server was connected to. */
	bool is_kept;
	/* The server has had no room for the last one that it was given; or it
	   has taken each, and shown none. */
	bool is_refused;
	/* What is said on it of a rebuild of the other server: how many keys
	   have been dealt with, and one more; 0: nobody rebuilds it. */
	uint64_t claim;
};

struct bond {
	/* Borrowed, in the order of their names. */
	struct peer *peers[2];
	struct bond_side sides[2];
	/* A part of the keys of its items. */
	uint64_t name;
	/* The stamp that we gave last, or that was read last at a server that
	   answers for the pair. */
	uint64_t known;
	/* Somebody else may have given another one since the two were equal:
	   then one of them may lack more than our dirty keys. */
	bool is_foreign;
	/* The first of them that was heard of had no stamp: whatever the other
	   one lacks since then is dirty. */
	bool is_new;
	bool is_heard_of; /* some stamp of it was read */
	/* A flush_all drops the stamps and gives them anew. */
	bool is_unsettled;
	/* Both stamps were read at the last look, and differed so. */
	uint64_t differed[2];
	/* When the last look began that has found them equal: milliseconds of
	   the monotonic clock; 0: none has. */
	int64_t equal_ms;
	/* Owned: gives a new stamp; NULL: none is being given. */
	struct bump *bump;
};

/* Make the bonds of the peers, which all exist.  Returns NULL when out of
   memory, or when there are no partners: *count is 0 then. */
struct bond *bonds_new(struct pairs *pairs, size_t *count);

void bonds_free(struct bond *bonds, size_t count); /* NULL is fine */

/* The bond of two partners. */
struct bond *bond_of(const struct peer *peer, const struct peer *partner);

/* What is known of the stamp at one of its peers. */
struct bond_side *bond_side(struct bond *bond, const struct peer *peer);

/* The other one of its peers. */
struct peer *bond_partner(const struct bond *bond, const struct peer *peer);

/* Write the key of one of the items, which twin tells apart, to out.  Returns
   its length. */
size_t bond_key(const struct bond *bond, unsigned int twin,
    char out[BOND_KEY_MAX]);

/* The same of the item that says that one of the two is being rebuilt. */
size_t bond_claim_key(const struct bond *bond, char out[BOND_KEY_MAX]);

/* The stamp that an item of n bytes holds; STAMP_MISSING if it holds none. */
uint64_t bond_parse(const char *text, size_t n);

/*
 * What is to be added to this stamp, so that it is higher than any that is
 * known, or was ever given by whoever has the same time of day.  No two magents
 * make the same of one.
 */
uint64_t bond_step(const struct bond *bond, uint64_t stamp);

/* A stamp for a server that is being filled: it is below STAMP_FIRST. */
uint64_t bond_filling(void);

/* The peer has failed: its stamps may be others when it is back. */
void bonds_peer_failed(const struct peer *peer);

/* Whether the side has this stamp because of what it has not answered.  Then
   nobody else has given it. */
bool bond_is_late_answer(struct bond_side *side, uint64_t stamp);

/* The two have the same now, with this stamp. */
void bond_become_equal(struct bond *bond, uint64_t stamp);

/* A server that answers for the pair has this stamp.  If it is higher than what
   is known, the bond is foreign. */
void bond_note(struct bond *bond, uint64_t stamp);

/* Whether one of the two is being given a higher stamp: what was read of it may
   be of before that. */
bool bond_is_rising(const struct bond *bond);

/* Whether one of the two cannot hold a stamp: then stamps say nothing. */
bool bond_lacks_room(const struct bond *bond);

/* The two items of peer hold this now.  A stamp that we have not given since it
   was read last is foreign. */
void bond_read(struct bond *bond, const struct peer *peer, uint64_t one,
    uint64_t other);

#endif
