#ifndef BEHIND_H
#define BEHIND_H

/*
 * Who is behind whom.  That is a matter of two partners, not of one server: a
 * server that was rebuilt while one of its partners was away is behind that
 * one, and equal to all others.
 */

#include <stdbool.h>
#include <stddef.h>

struct bond;
struct peer;

/* What one peer lacks of what another one may hold of the keys that they share,
   or what of that may be old. */
enum behind {
	BEHIND_NOT,
	/* Single keys: those that are dirty, or missing. */
	BEHIND_KEYS,
	/* Any key. */
	BEHIND_ALL,
};

/* How far a mirror has read what it lacks of a partner. */
enum reading {
	READING_NOT,
	READING_NOW,
	/* It has all of it, but is not trusted to before its handback. */
	READING_DONE,
};

/* Of one peer with another one. */
struct standing {
	enum behind behind;
	enum reading reading;
	/* What it has of the keys that the two share may be old, of any key:
	   see judge.c. */
	bool is_old;
	/* It may lack what another magent has written last: see serving.c. */
	bool is_unproved;
	/* Of the two, if they are partners; the same for both.  Borrowed. */
	struct bond *bond;
};

/* What peer lacks of its partner other. */
enum behind behind_of(const struct peer *peer, const struct peer *other);

/* It is known what peer lacks of its partner other, which it does not read. */
void behind_set(const struct peer *peer, const struct peer *other,
    enum behind behind);

/* It lacks all of that, and what it has of it is old. */
void behind_distrust(const struct peer *peer, const struct peer *other);

/* Whether that was said of it, and it has not been emptied, or found to be
   equal to other, since. */
bool behind_is_old(const struct peer *peer, const struct peer *other);

/* Nothing in it is old any more. */
void behind_be_emptied(const struct peer *peer);

/*
 * Whether other is to answer for the keys that it shares with peer, and peer is
 * to read them there: peer is behind it, and other is a mirror.  If each is
 * behind the other one, the one that has been a mirror for longer does not
 * yield.
 */
bool behind_yields(const struct peer *peer, const struct peer *other);

/* peer has become a mirror, or it is none any more.  Who is no mirror misses
   what those of its partners are sent that are mirrors; who has just become one
   is behind all until it is known to lack nothing. */
void behind_mirror_changed(const struct peer *peer);

/* peer has just become a mirror, and nothing was sent to its partners that it
   may have missed.  A partner that lacks all that peer holds has nothing that
   peer lacks. */
void behind_missed_nothing(const struct peer *peer);

/* peer may lack anything that its partners hold. */
void behind_all(const struct peer *peer);

/* peer has lost what it had: none of its partners lacks anything of that. */
void behind_lost(const struct peer *peer);

/*
 * A rebuild of peer reads what it lacks of its partners.  A partner that is
 * away cannot be read, unless it turns out that it holds no key that peer
 * lacks.
 */
void behind_begin_reading(const struct peer *peer);

/* Whether that rebuild is to list the keys of this partner. */
bool behind_is_listed(const struct peer *peer, const struct peer *from);

/* Whether a rebuild of peer has read, or is reading, this partner. */
bool behind_is_read(const struct peer *peer, const struct peer *from);

/* The partner could not be read, or not all of it. */
void behind_unread(const struct peer *peer, const struct peer *from);

/* The rebuild is over: all else has been read. */
void behind_end_reading(const struct peer *peer);

/* Whether there is a partner that peer is behind, that could be read now, and
   that has not been read. */
bool behind_may_read_more(const struct peer *peer);

/* The single keys that peer lacks are not known any more. */
void behind_forget_keys(const struct peer *peer);

/* peer has failed: what it has read since it became a mirror is of no use. */
void behind_stop_reading(const struct peer *peer);

/* Now peer is behind those partners only that it could not read.  The authority
   of their pairs may change with that. */
void behind_become_whole(const struct peer *peer);

#endif
