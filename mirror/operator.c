/*
 * Take a server out of use for its operator, and let it in again.
 *
 *   down:              it fails, and is held
 *   drain, rebuild:    the gate is closed: its partners have answered all
 *     -> a fence to the server: it has answered all that it was sent
 *     -> a fence to each partner: it has answered the effects of that
 *     -> what a partner could not carry out is repaired, from the server
 *     -> it fails with nothing under way, and is held, or connected to at once
 *     -> the gate is open
 *
 * Invariant: no server is taken out unless each of its partners is up, and is
 * known to hold what the server does, at that moment.  So a key is never
 * without a server that is trusted because of its operator.  When a server is
 * drained, no command of a client is under way at it, and nothing that it has
 * answered is missing from its partners: the authority of its pairs changes as
 * by R6, and nobody is asked twice.
 *
 * One that does not answer while it is drained fails as it would without that,
 * and is held then.
 */

#include "mirror/operator.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "container_of.h"
#include "log.h"
#include "mirror/behind.h"
#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/goals.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "mirror/serving.h"
#include "server/server.h"

enum {
	/* The gate is not kept closed for repairs for longer than this: a key
	   that is left is a miss until it is written again. */
	LAST_REPAIRS_MS = 200,
};

/* A server that is being drained. */
struct withdrawal {
	struct gate_job job;
	struct peer *peer; /* borrowed */
	enum operator_word word;
	void (*done)(void *owner, const struct peer *peer,
	    enum operator_end end);
	void *owner;
	/* Fences that have not passed, and one more while some are sent. */
	unsigned int fences;
	bool has_asked_partners;
	int64_t deadline_ms; /* by server_now() */
};

static const char *const word_names[] = {
	[OPERATOR_DOWN] = "down",
	[OPERATOR_UP] = "up",
	[OPERATOR_DRAIN] = "drain",
	[OPERATOR_REBUILD] = "rebuild",
};

/* Whether partner can answer for all that it shares with peer. */
static bool
can_replace(const struct peer *partner, const struct peer *peer)
{
	return partner->state == PEER_UP && !serving_is_unproved(partner) &&
	    behind_of(partner, peer) == BEHIND_NOT;
}

/* Whether each key of the peer has another server that is trusted. */
static bool
is_replaceable(const struct peer *peer)
{
	bool has_backup = !peer->is_primary;
	const struct peer *partner;
	size_t i;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL)
			continue;
		if (!can_replace(partner, peer))
			return false;
		has_backup |= partner->is_backup;
	}
	return has_backup;
}

/* Say of a word that it was not carried out, and why. */
static enum operator_end
refuse_word(const struct peer *peer, enum operator_word word)
{
	log_info(
	    "s %s: %s by the operator is refused: no other server has "
	    "what it holds",
	    peer_name(peer), word_names[word]);
	return OPERATOR_ALONE;
}

void
operator_hold(struct peer *peer)
{
	if (server_is_held(peer->server))
		return;
	log_info("s %s: held down by the operator", peer_name(peer));
	server_hold(peer->server);
}

static void
fill_anew(struct peer *peer)
{
	log_info("s %s: to be filled anew, says the operator", peer_name(peer));
	goals_fail_to_empty(peer, "is filled anew for the operator");
	server_steady(peer->server);
	server_connect_now(peer->server);
}

/* Returns what has become of it. */
static enum operator_end
withdraw(struct peer *peer, enum operator_word word)
{
	if (!is_replaceable(peer))
		return refuse_word(peer, word);
	if (word == OPERATOR_REBUILD)
		fill_anew(peer);
	else
		operator_hold(peer);
	return OPERATOR_DONE;
}

/*
 * In order
 */

/* Have the repairs of its partners go on although the gate is closed, or not
   any more.  Returns whether there are some. */
static bool
hurry_repairs(const struct peer *peer, bool is_in_hurry)
{
	const struct peer *partner;
	size_t i, left = 0;

	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner == NULL || !peer_is_mirror(partner))
			continue;
		repairs_set_hurry(partner->repairs, is_in_hurry);
		left += repairs_left(partner->repairs);
	}
	return left > 0;
}

/* The moment has come, or never will. */
static void
end_withdrawal(struct withdrawal *withdrawal)
{
	struct peer *peer = withdrawal->peer;
	enum operator_end end;

	assert(withdrawal->fences == 0 && !withdrawal->job.waiting);
	hurry_repairs(peer, false);
	end = withdraw(peer, withdrawal->word);
	gate_open(peer->gate);
	withdrawal->done(withdrawal->owner, peer, end);
	free(withdrawal);
}

/* Whether a partner may have to do something that only the server can tell it
   what. */
static bool
is_to_go_on(const struct withdrawal *withdrawal)
{
	struct peer *peer = withdrawal->peer;

	if (!peer_is_mirror(peer) || !is_replaceable(peer))
		return false;
	if (!withdrawal->has_asked_partners)
		return true;
	return hurry_repairs(peer, true) &&
	    server_now(peer->server) < withdrawal->deadline_ms;
}

static void close_withdrawal_fence(struct withdrawal *withdrawal);

static void
on_withdrawal_fence(void *owner, bool was_reached)
{
	/* Who has failed is noticed at the end. */
	(void)was_reached;
	close_withdrawal_fence(owner);
}

static void
send_fence(struct withdrawal *withdrawal, struct peer *peer)
{
	if (!peer_is_mirror(peer))
		return;
	if (fence_new(peer, on_withdrawal_fence, withdrawal) != NULL)
		withdrawal->fences++;
	else
		server_fail(peer->server, "out of memory");
}

static void
ask_partners(struct withdrawal *withdrawal)
{
	struct peer *peer = withdrawal->peer, *partner;
	size_t i;

	assert(withdrawal->fences == 0);
	withdrawal->has_asked_partners = true;
	withdrawal->fences = 1;
	for (i = 0; i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL)
			send_fence(withdrawal, partner);
	}
	close_withdrawal_fence(withdrawal);
}

/* A fence has passed, or all were sent. */
static void
close_withdrawal_fence(struct withdrawal *withdrawal)
{
	assert(withdrawal->fences > 0);
	if (--withdrawal->fences > 0)
		return;
	if (is_to_go_on(withdrawal))
		ask_partners(withdrawal);
	else
		end_withdrawal(withdrawal);
}

/* The job of the gate: nothing begins for the keys of the server. */
static void
run_withdrawal(struct gate_job *job)
{
	struct withdrawal *withdrawal = CONTAINER_OF(job, struct withdrawal,
	    job);
	struct peer *peer = withdrawal->peer;

	withdrawal->deadline_ms = server_now(peer->server) + LAST_REPAIRS_MS;
	withdrawal->fences = 1;
	send_fence(withdrawal, peer);
	close_withdrawal_fence(withdrawal);
}

/* Returns false when out of memory. */
static bool
begin_withdrawal(struct peer *peer, enum operator_word word,
    void (*done)(void *owner, const struct peer *peer, enum operator_end end),
    void *owner)
{
	struct withdrawal *withdrawal = calloc(1, sizeof(*withdrawal));

	if (withdrawal == NULL)
		return false;
	withdrawal->peer = peer;
	withdrawal->word = word;
	withdrawal->done = done;
	withdrawal->owner = owner;
	withdrawal->job.run = run_withdrawal;
	withdrawal->job.peer = peer;
	log_info("s %s: %s by the operator has begun", peer_name(peer),
	    word_names[word]);
	gate_quiesce(peer->gate, &withdrawal->job);
	return true;
}

/*
 * Words
 */

static void
let_server_in(struct peer *peer)
{
	if (server_is_held(peer->server))
		log_info("s %s: let in again by the operator", peer_name(peer));
	server_let_in(peer->server);
	server_connect_now(peer->server);
}

/* Whether there is nothing that could be brought into order first. */
static bool
is_at_once(const struct peer *peer, enum operator_word word)
{
	return word == OPERATOR_DOWN || peer->state == PEER_DOWN ||
	    !is_replaceable(peer);
}

void
operator_act(struct peer *peer, enum operator_word word,
    void (*done)(void *owner, const struct peer *peer, enum operator_end end),
    void *owner)
{
	enum operator_end end = OPERATOR_DONE;

	if (word == OPERATOR_UP)
		let_server_in(peer);
	else if (word == OPERATOR_REBUILD || !server_is_held(peer->server)) {
		if (is_at_once(peer, word))
			end = withdraw(peer, word);
		else if (begin_withdrawal(peer, word, done, owner))
			return;
		else
			end = OPERATOR_NO_MEMORY;
	}
	done(owner, peer, end);
}
