#ifndef SUSPECT_H
#define SUSPECT_H

/*
 * Calls that may be what their server failed of.
 *
 * A call is suspect if it was the oldest one on its link, and was sent, when
 * the server failed: see call.is_suspect.  Mostly that is chance.  But it may
 * also be why: then it would bring down the partner as well.  So a suspect is
 * carried out alone, on a connection of its own, once.  The others that the
 * server had not answered follow together, on another one: a reply to some of
 * them may have been lost, so one of these may be why.
 */

#include <stdbool.h>

struct peer;

/* The reply to a call that its second server has failed of, with its CRLF.  The
   answer that done() gets has this pointer. */
extern const char suspect_error[];

/*
 * Begin to carry out a call that from, which has failed, returns, on its
 * partner to, a mirror.  is_suspect: alone.  Called inside the done() of the
 * call.  The next call that the caller submits to the partner, at once, is that
 * call.  Then done() gets the reply; or suspect_error, if the connection fails
 * before that; or no answer, if the server itself fails.
 *
 * Until then the gate holds the keys that the two share, and all keys of from
 * until its suspects have been dealt with: what follows must not overtake these
 * calls.
 *
 * If this cannot be done, because there is no memory or the server is not known
 * yet, the call is carried out like any other.
 */
void suspect_begin(struct peer *from, struct peer *to, bool is_suspect);

#endif
