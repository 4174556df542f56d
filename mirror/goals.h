#ifndef GOALS_H
#define GOALS_H

/*
 * The stamps that a server gets when it has been rebuilt: those that its
 * partners had before the first key was read.  If one of these has moved in the
 * end, somebody else has written past the server meanwhile.
 */

#include <stdbool.h>

struct pairs;
struct peer;

/* The peer is back, and lacks all that some of its partners hold, or is going
   to: its stamps say so from now on, and theirs are higher than any that it may
   have had.  So are those of partners that were filled while it was away. */
void goals_mark_filling(struct peer *peer);

/* Fail the peer: what it holds must be gone before it is trusted again, here or
   by another magent.  So its partners get higher stamps. */
void goals_fail_to_empty(struct peer *peer, const char *why);

/* The peer is a mirror again, and some of its partners are away that are known
   to have missed writes: it gets higher stamps than they.  When out of memory,
   it fails in here. */
void goals_raise_alone(struct peer *peer);

/* The stamps of its partners have just been read, and its rebuild begins.
   Returns a partner of which it lacks more than we know; NULL: none. */
const struct peer *goals_set(const struct peer *peer);

/* They have been read once more, and all keys were copied.  Returns a partner
   whose stamp has moved; NULL: none. */
const struct peer *goals_moved(const struct peer *peer);

/* A partner that was read, has failed meanwhile and is back: what was read of
   it may be of before its goal, so it is to be read again.  NULL: none. */
struct peer *goals_lost(const struct peer *peer);

/* Give them to the peer. */
void goals_give(struct peer *peer);

/* Another magent rebuilds the peer.  Returns whether that one has emptied it,
   or it has lacked nothing: so that nothing in it is old. */
bool goals_may_follow(const struct peer *peer);

/* That is so: it is left to the other magent to copy what it lacks. */
void goals_follow(struct peer *peer);

/* Whether the other magent has given the peer, whose stamps have just been
   read, those of its partners. */
bool goals_are_given(const struct peer *peer);

/*
 * A flush_all is going to drop the stamps, too: make a new one for each bond
 * that has a mirror; and give those of a peer to it, which is behind that
 * flush_all.  Until goals_settle() they are not compared.  A peer that another
 * magent fills may get what that one has read before: it lacks all until that
 * one has seen the new stamps of its partners.
 */
void goals_renew(struct pairs *pairs);
void goals_restamp(struct peer *peer);
void goals_settle(struct pairs *pairs);

/* The peer has failed. */
void goals_forget(const struct peer *peer);

#endif
