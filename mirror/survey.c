/*
 * Look at the stamps of several servers at once.
 *
 * Invariant: owed counts the servers that have not answered, and the timer, if
 * it is to fire.  It fires when nobody is asked, so that done() is never called
 * inside survey_new().
 */

#include "mirror/survey.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <event2/event.h>

#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "server/server.h"

struct survey {
	void (*done)(void *owner); /* NULL: survey_cancel() was called */
	void *owner;
	unsigned int owed;
	struct event *nobody; /* owned: fires if nobody is asked; or NULL */
};

static void
close_survey(struct survey *survey)
{
	assert(survey->owed > 0);
	if (--survey->owed > 0)
		return;
	if (survey->done != NULL)
		survey->done(survey->owner);
	if (survey->nobody != NULL)
		event_free(survey->nobody);
	free(survey);
}

static void
on_peer_asked(void *owner, bool is_read)
{
	(void)is_read; /* each side of a bond says so itself */
	close_survey(owner);
}

static void
on_nobody_asked(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	close_survey(arg);
}

struct survey *
survey_new(struct pairs *pairs, const struct peer *around,
    void (*done)(void *owner), void *owner)
{
	struct survey *survey = calloc(1, sizeof(*survey));
	struct timeval now = { 0 };
	struct peer *peer;
	size_t i;

	if (survey == NULL)
		return NULL;
	survey->done = done;
	survey->owner = owner;
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		if (!peer_is_there(peer) ||
		    (around != NULL && !peers_are_partners(around, peer)))
			continue;
		if (asking_new(peer, on_peer_asked, survey) != NULL)
			survey->owed++;
	}
	if (survey->owed > 0)
		return survey;
	survey->owed = 1;
	survey->nobody =
	    event_new(server_event_base(pairs_peer(pairs, 0)->server), -1, 0,
		on_nobody_asked, survey);
	if (survey->nobody != NULL && event_add(survey->nobody, &now) == 0)
		return survey;
	if (survey->nobody != NULL)
		event_free(survey->nobody);
	free(survey);
	return NULL;
}

void
survey_cancel(struct survey *survey)
{
	assert(survey->done != NULL);
	survey->done = NULL;
}
