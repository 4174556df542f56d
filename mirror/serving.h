#ifndef SERVING_H
#define SERVING_H

/*
 * A magent that serves clients leaves a mark of that on each server, and takes
 * it away when it rests.  The mark of one that has not done so, and is gone,
 * tells that it may have died between the reply of an authority and the effect
 * on the mirror: mirrors lack that, and no stamp says so.
 */

#include <stdbool.h>

struct carry;
struct carry_line;
struct conn_loop;
struct pairs;
struct peer;
struct serving;

enum {
	/* So many marks can be there at a time. */
	SERVING_SLOTS = 4,
};

/*
 * unclean() is called with owner, from the loop, when such a mark is found: the
 * copies are to be compared from then on, and then serving_proved() is to be
 * called; once, if unclean() is called again before that.  Until then a backup
 * is not proved to hold what its primary does, if both were there when the mark
 * was found.  loop and pairs are borrowed.  Returns NULL when out of memory.
 */
struct serving *serving_new(struct conn_loop *loop, struct pairs *pairs,
    void (*unclean)(void *owner), void *owner);
void serving_free(struct serving *serving); /* NULL is fine */

/* Leave the mark.  To be called before the first request after a rest, and
   each second from then on: so others see that its magent is not gone. */
void serving_say(struct serving *serving);

/* Take the mark away, if nothing is under way.  To be called each tick while no
   requests come, and at the end.  Returns whether it is taken away in here. */
bool serving_rest(struct serving *serving);

/* What was under way here is forgotten: our mark is that of a magent which has
   not ended well, and we are another one from here on. */
void serving_begin_anew(struct serving *serving);

/* Write who we are to carry, and what our mark stands for; and take that over
   from such a line, unless it is about something else. */
void serving_carry(const struct serving *serving, struct carry *carry);
void serving_take(struct serving *serving, const struct carry_line *line);

/* How the stamps of servers that should be equal were found, with the marks. */
enum serving_look {
	/* It is not known yet, and this magent has rested until now, so that
	   others may have served. */
	LOOK_FIRST,
	LOOK_EQUAL,
	LOOK_DIFFERENT,
};

/* The marks were read. */
void serving_look(struct serving *serving, enum serving_look look);

/* Whether another magent answers from the peer: it is not known to be gone, and
   has said so there as lately as anywhere else. */
bool serving_is_in_use(const struct serving *serving, const struct peer *peer);

/* The copies were compared. */
void serving_proved(struct serving *serving);

/* Whether the peer may lack what some partner holds, until that. */
bool serving_is_unproved(const struct peer *peer);

/* The peer has not answered since the start, and was taken to be there until
   now. */
void serving_never_there(struct serving *serving, struct peer *peer);

#endif
