/*
 * Carry out the calls that a failed server has returned.
 *
 *   suspect_begin() -> fence of the partner -> connect -> replies -> done() ...
 *                                                  |
 *                                 fails, or late   '----> done(), an error ...
 *
 * The fence is there because a new connection overtakes the effects that are
 * queued on the links of the partner: some of them may be about the same keys.
 * If one of these has to be repaired, there is a second fence behind that.
 *
 * Invariant: while there is a trial, the gate holds the keys that the failed
 * server shares with the partner; while there is one of a suspect, it holds all
 * keys of the failed server, and that server returns no other calls but
 * suspects.  So each key sees the calls in their order, and ahead of all
 * that follows.  A partner does not fail of a call: what breaks is a connection
 * of the trial.
 */

#include "mirror/suspect.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "conn.h"
#include "container_of.h"
#include "log.h"
#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"
#include "server/zombie.h"

const char suspect_error[] =
    "SERVER_ERROR the servers of this key fail at this command\r\n";

/* Calls of one failed server to one partner. */
struct trial {
	LIST_ENTRY(trial) entry; /* of from->trials */
	struct peer *from, *to;  /* borrowed */
	struct link *link;       /* owned */
	struct fence *fence;     /* NULL: it has passed, and no call is added */
	struct call last;        /* behind the calls: its reply is the end */
	bool is_suspect;         /* one call, which is */
	struct gate_pair held;   /* unless it is of a suspect */
	bool is_behind_repairs;  /* there was a second fence */
	bool is_broken;          /* the connection has failed, or was late */
	bool is_over;            /* no call is left; it ends in the next turn */
	/* Owned: looks whether a reply is late; or ends the trial. */
	struct event *timer;
};

/* The partner may still carry calls out: if it fails later, it is drained of
   these, too. */
static void
abandon_socket(struct trial *trial)
{
	int fd = link_take_socket(trial->link);

	if (fd != -1)
		zombies_add(server_zombies(trial->to->server), fd);
}

static void
trial_free(struct trial *trial)
{
	struct call_list none = TAILQ_HEAD_INITIALIZER(none);

	if (trial->is_broken)
		abandon_socket(trial);
	if (trial->link != NULL)
		link_close(trial->link, &none);
	assert(TAILQ_EMPTY(&none));
	link_free(trial->link);
	if (trial->timer != NULL)
		event_free(trial->timer);
	free(trial);
}

static void
set_trial_timer(struct trial *trial, unsigned int ms)
{
	struct timeval wait = {
		.tv_sec = ms / 1000,
		.tv_usec = ms % 1000 * 1000,
	};

	event_add(trial->timer, &wait);
}

/* No call is left. */
static void
end_soon(struct trial *trial)
{
	assert(trial->fence == NULL);
	trial->is_over = true;
	set_trial_timer(trial, 0);
}

static void
on_last_reply(struct call *call, const struct answer *answer)
{
	struct trial *trial = CONTAINER_OF(call, struct trial, last);

	(void)answer;
	end_soon(trial);
}

/* The connection is of no use any more: its calls are not tried again. */
static void
break_trial(struct trial *trial, const char *why)
{
	if (trial->is_over || trial->is_broken)
		return;
	trial->is_broken = true;
	/* Without memory the connection fails before it is made. */
	if (trial->fence != NULL)
		fence_cancel(trial->fence);
	trial->fence = NULL;
	log_warning("s %s: %s at a command that s %s had failed at",
	    peer_name(trial->to), why, peer_name(trial->from));
	while (!link_is_idle(trial->link))
		link_answer(trial->link, suspect_error);
	end_soon(trial);
}

static void
on_trial_heard(void *owner)
{
	(void)owner;
}

static void
on_trial_failed(void *owner, const char *why)
{
	break_trial(owner, why);
}

static const struct link_handler on_trial_link = {
	.heard = on_trial_heard,
	.failed = on_trial_failed,
};

/* The partner has failed, too: the calls have no answer. */
static void
return_trial(struct trial *trial)
{
	struct call_list calls = TAILQ_HEAD_INITIALIZER(calls);
	struct call *call;

	link_close(trial->link, &calls);
	end_soon(trial);
	while ((call = TAILQ_FIRST(&calls)) != NULL) {
		TAILQ_REMOVE(&calls, call, entry);
		call->done(call, NULL);
	}
}

static void
on_trial_fence(void *owner, bool was_reached)
{
	static const char version[] = "version\r\n";
	struct trial *trial = owner;

	trial->fence = NULL;
	if (!was_reached) {
		return_trial(trial);
		return;
	}
	if (trial->to->repair_deletes > 0 && !trial->is_behind_repairs) {
		trial->is_behind_repairs = true;
		trial->fence = fence_new(trial->to, on_trial_fence, trial);
		if (trial->fence == NULL)
			break_trial(trial, "out of memory");
		return;
	}
	trial->last.expect = PROTO_EXPECT_VERSION;
	trial->last.done = on_last_reply;
	link_submit(trial->link, &trial->last, version, sizeof(version) - 1,
	    NULL, 0, NULL);
	if (link_attach(trial->link, server_dial(trial->to->server)))
		set_trial_timer(trial, server_age_limit(trial->to->server));
	else
		break_trial(trial, "cannot be connected to");
}

/* Let what was held go on: first what the failed server returns, and then, if
   there is no other trial, the keys. */
static void
end_trial(struct trial *trial)
{
	struct peer *from = trial->from;

	LIST_REMOVE(trial, entry);
	if (!trial->is_suspect) {
		gate_release_pair(from->gate, &trial->held);
		trial_free(trial);
		return;
	}
	trial_free(trial);
	server_release_returns(from->server);
	gate_release(from->gate, from);
}

static void
on_trial_timer(evutil_socket_t fd, short what, void *arg)
{
	struct trial *trial = arg;
	int64_t limit = server_age_limit(trial->to->server);

	(void)fd;
	(void)what;
	if (trial->is_over)
		end_trial(trial);
	else if (link_age(trial->link) < limit)
		set_trial_timer(trial,
		    (unsigned int)(limit - link_age(trial->link)));
	else
		break_trial(trial, "no reply in time");
}

static struct trial *
trial_new(struct peer *from, struct peer *to)
{
	struct trial *trial = calloc(1, sizeof(*trial));

	if (trial == NULL)
		return NULL;
	trial->from = from;
	trial->to = to;
	trial->link = server_new_link(to->server, &on_trial_link, trial);
	trial->timer = event_new(server_event_base(to->server), -1, 0,
	    on_trial_timer, trial);
	if (trial->link != NULL && trial->timer != NULL &&
	    link_open(trial->link))
		trial->fence = fence_new(to, on_trial_fence, trial);
	if (trial->fence != NULL)
		return trial;
	trial_free(trial);
	return NULL;
}

/* The trial that takes more calls of this server; NULL: there is none. */
static struct trial *
open_trial(const struct peer *from, const struct peer *to)
{
	struct trial *trial;

	LIST_FOREACH(trial, &from->trials, entry)
		if (trial->to == to && !trial->is_suspect &&
		    trial->fence != NULL)
			break;
	return trial;
}

/* A trial for a call.  Returns NULL if there can be none. */
static struct trial *
begin_trial(struct peer *from, struct peer *to, bool is_suspect)
{
	struct trial *trial = NULL;

	if (to->state != PEER_STARTING)
		trial = trial_new(from, to);
	if (trial == NULL)
		return NULL;
	LIST_INSERT_HEAD(&from->trials, trial, entry);
	trial->is_suspect = is_suspect;
	if (is_suspect) {
		server_hold_returns(from->server);
		gate_hold(from->gate, from);
	} else {
		trial->held.peer = from;
		trial->held.partner = to;
		gate_hold_pair(from->gate, &trial->held);
	}
	return trial;
}

void
suspect_begin(struct peer *from, struct peer *to, bool is_suspect)
{
	struct trial *trial = is_suspect ? NULL : open_trial(from, to);

	assert(from != to && peer_is_mirror(to));
	if (trial == NULL)
		trial = begin_trial(from, to, is_suspect);
	if (trial != NULL)
		server_divert(to->server, trial->link);
}
