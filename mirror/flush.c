/*
 * Drop what all servers hold, at one moment.
 *
 *   flush_all() -> gate closed -> is it due later?  -> timer -> gate closed --.
 *                                      |                                      |
 *                                      v  now                                 |
 *      a fence to each mirror -> flush_all to each mirror -> gate opened      |
 *                ^                                                            |
 *                '------------------------------------------------------------'
 *
 * Invariant: while the flush_alls are under way, nobody else asks a server for
 * anything, and each mirror has carried out what it was sent before.  So what
 * was stored before the gate was closed is gone from all servers when it opens,
 * or is on one that is not trusted and has all keys dirty; and what is stored
 * later is dropped by none.  One flush_all at most is to come.  The servers do
 * not know of it, so one that returns in the meantime needs nothing for it.
 *
 * A flush_all is refused before anything is dropped if a server refuses it:
 * memcached says in its settings whether it does (-F, and both are known since
 * 1.4.17).  If a server refuses one in spite of what it says, the pairs of
 * those that have dropped their items, and of that one, are made equal again:
 * see settle().
 */

#include "mirror/flush.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "carry.h"
#include "conn.h"
#include "container_of.h"
#include "log.h"
#include "mirror/due.h"
#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/goals.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/recovery.h"
#include "mirror/second.h"
#include "mirror/stamp.h"
#include "proto.h"
#include "server/server.h"

static const char okay[] = "OK\r\n";
static const char not_allowed[] = "CLIENT_ERROR flush_all not allowed\r\n";
static const char nobody_is_up[] = "SERVER_ERROR no server is up\r\n";

/* What a flush_all has done at one server. */
enum drop {
	DROP_UNKNOWN, /* not sent, or not answered: all keys are dirty */
	DROP_DONE,    /* all that it held is gone */
	DROP_REFUSED, /* nothing is gone */
};

struct flush_branch {
	struct call call;
	struct flush *flush; /* borrowed: the one that it is a part of */
	struct peer *peer;   /* borrowed */
	enum drop drop;
};

struct flush {
	struct gate_job job;
	struct flushes *all; /* borrowed */
	/* Called with the reply; NULL: the client was told that all will be
	   dropped, and this is the moment. */
	void (*done)(void *owner, const char *reply);
	void *owner;
	/* When it is due, by the monotonic clock; 0: now; or DUE_NEVER. */
	int64_t due_ms;
	/* What is under way: see close_branch(). */
	unsigned int owed;
	void (*next)(struct flush *flush);
	/* What a server said instead of OK; may be empty. */
	char refusal[PROTO_LINE_MAX + 2];
	struct flush_branch branches[]; /* one per peer, in their order */
};

struct flushes {
	struct conn_loop *loop; /* borrowed */
	struct pairs *pairs;    /* borrowed */
	/* Owned: the one that is to come: its timer runs, or it waits for the
	   gate.  NULL: there is none. */
	struct flush *to_come;
	struct event *timer; /* owned */
	/* The time of day at the start, and that moment by the monotonic clock.
	   memcached does not notice either when the time of day is set. */
	int64_t start_day_ms, start_ms;
};

static struct gate *
gate_of_all(const struct flush *flush)
{
	return pairs_gate(flush->all->pairs);
}

/* Part of what is under way has ended, or all of it has begun. */
static void
close_flush_branch(struct flush *flush)
{
	assert(flush->owed > 0 && gate_is_closed(gate_of_all(flush)));
	if (--flush->owed == 0)
		flush->next(flush);
}

/* Begin something at several servers.  The caller adds 1 to owed for each of
   them, and calls close_flush_branch() once.  next() is called when that was
   done for each of them, too. */
static void
open_branches(struct flush *flush, void (*next)(struct flush *flush))
{
	assert(flush->owed == 0);
	flush->owed = 1;
	flush->next = next;
}

/*
 * To come
 */

static void
forget_flush_to_come(struct flushes *all)
{
	if (all->to_come == NULL)
		return;
	event_del(all->timer);
	gate_job_cancel(pairs_gate(all->pairs), &all->to_come->job);
	free(all->to_come);
	all->to_come = NULL;
}

static void
on_flush_due(evutil_socket_t fd, short what, void *arg)
{
	struct flushes *all = arg;

	(void)fd;
	(void)what;
	assert(all->to_come != NULL);
	gate_quiesce(pairs_gate(all->pairs), &all->to_come->job);
}

/* Have it carried out when it is due, in the place of the one before. */
static void
keep_for_later(struct flush *flush)
{
	struct flushes *all = flush->all;
	int64_t wait = flush->due_ms - conn_loop_now(all->loop);
	struct timeval timeval = { 0 };

	assert(all->to_come == NULL && flush->due_ms > 0);
	flush->done = NULL;
	all->to_come = flush;
	if (wait > 0) {
		timeval.tv_sec = wait / 1000;
		timeval.tv_usec = wait % 1000 * 1000;
	}
	event_add(all->timer, &timeval);
}

/*
 * The end
 */

/* Reply, and open the gate.  The flush is freed in here, unless it is to come
   once more. */
static void
end_flush(struct flush *flush, const char *reply)
{
	void (*done)(void *owner, const char *reply) = flush->done;
	struct flushes *all = flush->all;
	bool is_kept = reply == okay && flush->due_ms > 0 && done != NULL;

	/* As in memcached, what succeeds replaces what was to come. */
	if (reply == okay && done != NULL)
		forget_flush_to_come(all);
	if (is_kept)
		keep_for_later(flush);
	gate_open(pairs_gate(all->pairs));
	if (done != NULL)
		done(flush->owner, reply);
	if (!is_kept)
		free(flush);
}

/* Whether a partner of peer that is trusted still has what it held. */
static bool
has_partner_left(const struct flush *flush, const struct peer *peer)
{
	const struct flush_branch *branch;
	size_t i;

	for (i = 0; i < pairs_peer_count(flush->all->pairs); i++) {
		branch = &flush->branches[i];
		if (branch->drop == DROP_REFUSED &&
		    peer_is_trusted(branch->peer) &&
		    peers_are_partners(peer, branch->peer))
			return true;
	}
	return false;
}

/*
 * A server has refused a flush_all, which was not to be expected, and its
 * partners may have dropped their items.  If it is trusted, they are filled
 * from it.  If it is not, it is to hold what they do, which is nothing.
 */
static void
make_equal(struct flush *flush, struct flush_branch *branch)
{
	struct peer *peer = branch->peer;

	if (branch->drop == DROP_REFUSED && !peer_is_trusted(peer))
		goals_fail_to_empty(peer, "refuses flush_all");
	if (branch->drop != DROP_DONE || !has_partner_left(flush, peer))
		return;
	if (peer->state == PEER_UP)
		recovery_refill(peer);
	else
		goals_fail_to_empty(peer,
		    "has carried out a refused flush_all");
}

/* Each server has answered. */
static void
settle(struct flush *flush)
{
	size_t n = pairs_peer_count(flush->all->pairs);
	bool is_refused = flush->done != NULL && flush->refusal[0] != '\0';
	const char *reply = nobody_is_up;
	struct flush_branch *branch;
	size_t i;

	for (i = 0; i < n; i++) {
		branch = &flush->branches[i];
		if (branch->drop == DROP_DONE)
			reply = okay;
		if (is_refused)
			make_equal(flush, branch);
		else if (branch->drop == DROP_REFUSED)
			goals_fail_to_empty(branch->peer, "refuses flush_all");
	}
	goals_settle(flush->all->pairs);
	end_flush(flush, is_refused ? flush->refusal : reply);
}

/*
 * Under way
 */

/* What magents keep on the server has gone as well: who is away is behind from
   here on. */
static void
restore_own_items(struct peer *peer)
{
	goals_restamp(peer);
	stamp_restore_serving(peer);
}

static void
on_flush_second(void *owner, bool is_over)
{
	struct flush_branch *branch = owner;

	if (is_over)
		restore_own_items(branch->peer);
	else
		peer_add_all_dirty(branch->peer);
	close_flush_branch(branch->flush);
}

/* The server has dropped all.  If it also drops what it is given in the rest of
   this second, it is given nothing as long. */
static void
note_drop(struct flush_branch *branch)
{
	struct peer *peer = branch->peer;

	branch->drop = DROP_DONE;
	if (!peer->identity.has_no_cas)
		return;
	if (second_wait(peer, on_flush_second, branch) != NULL)
		branch->flush->owed++;
	else
		goals_fail_to_empty(peer, "out of memory");
}

/* The client gets what the last of those that refuse says. */
static void
note_refusal(struct flush_branch *branch, const struct answer *answer)
{
	struct flush *flush = branch->flush;

	branch->drop = DROP_REFUSED;
	/* So memcached says it: the next one is refused beforehand. */
	if (answer->last.result == PROTO_CLIENT_ERROR)
		branch->peer->identity.refuses_flush = true;
	assert(answer->length < sizeof(flush->refusal));
	memcpy(flush->refusal, answer->bytes, answer->length);
	flush->refusal[answer->length] = '\0';
}

static void
on_flushed(struct call *call, const struct answer *answer)
{
	struct flush_branch *branch = CONTAINER_OF(call, struct flush_branch,
	    call);

	if (answer == NULL)
		peer_add_all_dirty(branch->peer);
	else if (answer->last.result == PROTO_OKAY)
		note_drop(branch);
	else
		note_refusal(branch, answer);
	close_flush_branch(branch->flush);
}

static void
submit_flush(struct flush_branch *branch)
{
	static const char line[] = "flush_all\r\n";

	branch->flush->owed++;
	branch->call = (struct call){
		.expect = PROTO_EXPECT_OK,
		.done = on_flushed,
	};
	peer_submit(branch->peer, 0, &branch->call, line, sizeof(line) - 1,
	    NULL, 0, NULL);
	restore_own_items(branch->peer);
}

/* Each mirror has carried out what it was sent, on all its links. */
static void
flush_mirrors(struct flush *flush)
{
	struct flush_branch *branch;
	size_t i;

	open_branches(flush, settle);
	goals_renew(flush->all->pairs);
	for (i = 0; i < pairs_peer_count(flush->all->pairs); i++) {
		branch = &flush->branches[i];
		if (!peer_is_mirror(branch->peer))
			peer_add_all_dirty(branch->peer);
		else if (branch->peer->identity.refuses_flush)
			branch->drop = DROP_REFUSED;
		else
			submit_flush(branch);
	}
	close_flush_branch(flush);
}

static void
on_flush_fence(void *owner, bool was_reached)
{
	struct flush_branch *branch = owner;

	(void)was_reached; /* a server that has failed is no mirror any more */
	close_flush_branch(branch->flush);
}

/* The gate is closed, so the effects of all that was answered are in the FIFOs
   of the mirrors.  A flush_all on one link must not overtake those of the
   others. */
static void
await_effects(struct flush *flush)
{
	struct flush_branch *branch;
	size_t i;

	open_branches(flush, flush_mirrors);
	for (i = 0; i < pairs_peer_count(flush->all->pairs); i++) {
		branch = &flush->branches[i];
		branch->flush = flush;
		branch->peer = pairs_peer(flush->all->pairs, i);
		if (!peer_is_mirror(branch->peer))
			continue;
		if (fence_new(branch->peer, on_flush_fence, branch) != NULL)
			flush->owed++;
		else
			server_fail(branch->peer->server, "out of memory");
	}
	close_flush_branch(flush);
}

/*
 * The beginning
 */

/* Whether a server refuses flush_all, or did when it was heard of last. */
static bool
is_refused(const struct flushes *all)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(all->pairs); i++)
		if (pairs_peer(all->pairs, i)->identity.refuses_flush)
			return true;
	return false;
}

static bool
has_mirror(const struct flushes *all)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(all->pairs); i++)
		if (peer_is_mirror(pairs_peer(all->pairs, i)))
			return true;
	return false;
}

static void
run_flush(struct gate_job *job)
{
	struct flush *flush = CONTAINER_OF(job, struct flush, job);
	struct flushes *all = flush->all;

	assert(flush->owed == 0 && gate_is_closed(gate_of_all(flush)));
	if (flush->done == NULL) {
		assert(flush == all->to_come);
		all->to_come = NULL;
		await_effects(flush);
	} else if (is_refused(all)) {
		end_flush(flush, not_allowed);
	} else if (!has_mirror(all)) {
		end_flush(flush, nobody_is_up);
	} else if (flush->due_ms != 0) {
		end_flush(flush, okay);
	} else {
		await_effects(flush);
	}
}

/* Returns NULL when out of memory. */
static struct flush *
flush_new(struct flushes *all, void (*done)(void *owner, const char *reply),
    void *owner)
{
	size_t n = pairs_peer_count(all->pairs);
	struct flush *flush = calloc(1,
	    sizeof(*flush) + n * sizeof(flush->branches[0]));

	if (flush == NULL)
		return NULL;
	flush->all = all;
	flush->done = done;
	flush->owner = owner;
	flush->job.run = run_flush;
	return flush;
}

bool
flush_all(struct flushes *all, int64_t exptime,
    void (*done)(void *owner, const char *reply), void *owner)
{
	int64_t now = conn_loop_now(all->loop);
	int64_t day = all->start_day_ms + now - all->start_ms;
	struct flush *flush;
	int64_t wait;

	assert(done != NULL);
	if (gate_holds_anything(pairs_gate(all->pairs)))
		gate_notice(pairs_gate(all->pairs));
	if (is_refused(all)) {
		done(owner, not_allowed);
		return true;
	}
	flush = flush_new(all, done, owner);
	if (flush == NULL)
		return false;
	wait = due_in(exptime, day, all->start_day_ms);
	flush->due_ms = wait > 0 ? now + wait : wait;
	gate_quiesce(pairs_gate(all->pairs), &flush->job);
	return true;
}

/*
 * Life
 */

struct flushes *
flushes_new(struct conn_loop *loop, struct pairs *pairs)
{
	struct flushes *all = calloc(1, sizeof(*all));
	struct timespec day;

	if (all == NULL)
		return NULL;
	clock_gettime(CLOCK_REALTIME, &day);
	all->loop = loop;
	all->pairs = pairs;
	all->start_day_ms = (int64_t)day.tv_sec * 1000 + day.tv_nsec / 1000000;
	all->start_ms = conn_loop_now(loop);
	all->timer = event_new(conn_loop_base(loop), -1, 0, on_flush_due, all);
	if (all->timer == NULL) {
		free(all);
		return NULL;
	}
	return all;
}

void
flushes_carry(const struct flushes *all, struct carry *carry)
{
	uint64_t numbers[] = { (uint64_t)all->start_day_ms,
		(uint64_t)all->start_ms,
		all->to_come == NULL ? 0 : (uint64_t)all->to_come->due_ms };

	carry_numbers(carry, "flush", numbers, 3);
}

bool
flushes_take(struct flushes *all, const struct carry_line *line)
{
	struct flush *flush;

	if (!carry_is(line, "flush"))
		return true;
	all->start_day_ms = (int64_t)line->numbers[0];
	all->start_ms = (int64_t)line->numbers[1];
	if ((int64_t)line->numbers[2] <= 0 || all->to_come != NULL)
		return true;
	flush = flush_new(all, NULL, NULL);
	if (flush == NULL)
		return false;
	flush->due_ms = (int64_t)line->numbers[2];
	keep_for_later(flush);
	return true;
}

void
flushes_stop(struct flushes *all)
{
	if (all->to_come == NULL)
		return;
	log_warning("a flush_all that is not due yet is lost");
	forget_flush_to_come(all);
}

void
flushes_free(struct flushes *all)
{
	if (all == NULL)
		return;
	free(all->to_come);
	event_free(all->timer);
	free(all);
}
