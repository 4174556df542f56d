#ifndef REPLACE_H
#define REPLACE_H

/*
 * Replace this program by a new one in place: the process, its id and its
 * connections stay.
 *
 *	replace_remember()            at the start of main()
 *	replace_inherited()           what a program before has left, if any
 *	rehearsal_new()               would the new program start?
 *	replace_execute()             be the new program
 */

#include <stdbool.h>

struct carry;
struct event_base;
struct rehearsal;

/* Remember how this program was started: with these arguments, which are
   borrowed to the end.  To be called before the working directory changes. */
void replace_remember(char *argv[]);

/* Whether this program takes the place of one before, or rehearses that. */
bool replace_is_next(void);

/* What that one has left, to be freed with carry_free(); or NULL after one line
   in the log if it cannot be read.  To be called once. */
struct carry *replace_inherited(void);

/*
 * Have a new program, in a process of its own, check its options, which are
 * those of this one, and what is to be left to it.  done() is called once from
 * the loop, with what is wrong, in one line, or with NULL; that ends it.
 * carry is ended, and not used any more when this returns.  Returns NULL, and
 * errno, if it cannot be begun.
 */
struct rehearsal *rehearsal_new(struct event_base *base,
    const struct carry *carry, void (*done)(void *owner, const char *wrong),
    void *owner);

/* End it before done() is called; NULL is fine. */
void rehearsal_free(struct rehearsal *rehearsal);

/* Be the new program, which gets carry, which is ended.  Returns only if that
   fails, with errno. */
void replace_execute(const struct carry *carry);

#endif
