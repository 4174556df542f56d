#ifndef SURVEY_H
#define SURVEY_H

/*
 * Look at the stamps of several servers at once.
 */

struct pairs;
struct peer;
struct survey;

/*
 * Read the stamps of all mirrors among the partners of around, or of all
 * mirrors if it is NULL, but for those that are starting.  done() is called
 * once from the loop, when each of them has answered or failed, unless
 * survey_cancel() comes first; the survey ends with that.  Returns NULL when
 * out of memory.
 */
struct survey *survey_new(struct pairs *pairs, const struct peer *around,
    void (*done)(void *owner), void *owner);

/* Do not call done() any more.  The survey ends by itself. */
void survey_cancel(struct survey *survey);

#endif
