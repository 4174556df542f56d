/*
 * Learn who a server is that is being connected to, and what it holds.
 *
 *   version, stats, settings --> its stamps --> those of its partners --> known
 *                            |              `-> (at the start) ---------> known
 *                            `-> (no pair has a backup) ----------------> known
 *
 * Invariant: its identity is the one of before until known(), so that it can be
 * compared.  It is judged by stamps that were read after it was connected to.
 */

#include "mirror/arrival.h"

#include <assert.h>

#include "conn.h"
#include "container_of.h"
#include "log.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/serving.h"
#include "mirror/stamp.h"
#include "mirror/survey.h"
#include "server/server.h"

/* Values that fit in a primary may be too large for its backup. */
static void
warn_of_smaller_backup(const struct peer *backup, const struct peer *primary)
{
	uint64_t size = backup->identity.item_size_max;

	if (backup->is_backup && primary->is_primary && size > 0 &&
	    primary->identity.item_size_max > size)
		log_warning(
		    "s %s: takes values up to %llu bytes, its "
		    "primary %s up to %llu",
		    peer_name(backup), (unsigned long long)size,
		    peer_name(primary),
		    (unsigned long long)primary->identity.item_size_max);
}

static void
warn_of_item_sizes(const struct peer *peer, size_t own)
{
	struct pairs *pairs = peer->pairs;
	size_t i;

	if (peer->identity.item_size_max > own)
		log_warning(
		    "s %s: takes values up to %llu bytes, -I is %zu: "
		    "larger ones are errors here",
		    peer_name(peer),
		    (unsigned long long)peer->identity.item_size_max, own);
	for (i = 0; i < pairs_peer_count(pairs); i++)
		warn_of_smaller_backup(peer, pairs_peer(pairs, i));
}

static void
learn_abilities(struct peer *peer)
{
	char missing[128];

	peer->abilities = abilities_of(&peer->identity);
	if (abilities_missing(&peer->abilities, missing, sizeof(missing)))
		log_info("s %s: cannot do all: %s", peer_name(peer), missing);
}

/* It is known what the server holds. */
static void
become_known(struct arrival *arrival)
{
	struct peer *peer = arrival->peer;

	peer->identity = arrival->identify.found;
	learn_abilities(peer);
	peer_set_clock(peer, (int64_t)peer->identity.time);
	warn_of_item_sizes(peer, arrival->around->item_size);
	alias_check(&arrival->alias);
	arrival->known(arrival->owner);
}

static void
on_partners_surveyed(void *owner)
{
	struct arrival *arrival = owner;
	const struct arrival_around *around = arrival->around;
	struct judge *judge = &arrival->judge;
	bool is_judged;

	arrival->survey = NULL;
	judge->is_other_at_work = peer_is_shared(arrival->peer);
	judge->has_forgotten = false;
	is_judged = judge_contents(judge, &arrival->identify.found,
	    conn_loop_now(around->loop));
	if (judge->has_forgotten)
		serving_begin_anew(around->serving);
	if (is_judged)
		become_known(arrival);
	else
		server_fail(arrival->peer->server,
		    "has lost its items, and no partner is up");
}

static void
look_at_partners(struct arrival *arrival)
{
	struct peer *peer = arrival->peer;

	assert(arrival->survey == NULL);
	arrival->survey = survey_new(peer->pairs, peer, on_partners_surveyed,
	    arrival);
	if (arrival->survey == NULL)
		server_fail(peer->server, "out of memory");
}

/* Whether the server, which a program before has trusted, is another
   incarnation: it is judged as one that was away. */
static bool
is_another(const struct arrival *arrival)
{
	const struct identity *before = &arrival->peer->identity;

	return before->known &&
	    identity_compare(before, &arrival->identify.found) == IDENTITY_NEW;
}

static void
on_stamps_read(void *owner, bool is_read)
{
	struct arrival *arrival = owner;
	struct peer *peer = arrival->peer;

	arrival->asking = NULL;
	if (!is_read)
		server_fail(peer->server, "does not answer get");
	else if (peer->state != PEER_STARTING)
		look_at_partners(arrival);
	else if (is_another(arrival))
		server_fail(peer->server, "is not what it was");
	else if (judge_start(peer, &arrival->identify.found))
		become_known(arrival);
	else
		server_fail(peer->server, "behind a partner");
}

static void
ask_for_stamps(struct arrival *arrival, void (*done)(void *owner, bool is_read))
{
	assert(arrival->asking == NULL);
	arrival->asking = asking_new(arrival->peer, done, arrival);
	if (arrival->asking == NULL)
		server_fail(arrival->peer->server, "out of memory");
}

static void
on_identified(struct identify *identify)
{
	struct arrival *arrival = CONTAINER_OF(identify, struct arrival,
	    identify);
	const struct identity *found = &identify->found;
	struct peer *peer = arrival->peer;

	assert(peer->state == PEER_IDENTIFY || peer->state == PEER_STARTING);
	log_info("s %s: version %u.%u.%u, pid %llu, up for %llu s",
	    peer_name(peer), found->version[0], found->version[1],
	    found->version[2], (unsigned long long)found->pid,
	    (unsigned long long)found->uptime);
	if (!pairs_are_mirrored(peer->pairs)) {
		if (peer->state != PEER_STARTING)
			judge_contents(&arrival->judge, found, 0);
		become_known(arrival);
		return;
	}
	ask_for_stamps(arrival, on_stamps_read);
}

static void
on_heard_version(struct identify *identify)
{
	struct arrival *arrival = CONTAINER_OF(identify, struct arrival,
	    identify);

	arrival->heard(arrival->owner);
}

void
arrival_begin(struct arrival *arrival)
{
	identify_start(&arrival->identify);
}

static void
on_stamps_read_again(void *owner, bool is_read)
{
	struct arrival *arrival = owner;
	struct server *server = arrival->peer->server;

	arrival->asking = NULL;
	if (!is_read) {
		server_fail(server, "does not answer get");
	} else if (judge_is_outdated(arrival->peer)) {
		server_steady(server);
		server_fail(server, "was changed by another magent");
	} else {
		arrival->stood(arrival->owner);
	}
}

void
arrival_confirm(struct arrival *arrival, void (*stood)(void *owner))
{
	arrival->stood = stood;
	ask_for_stamps(arrival, on_stamps_read_again);
}

void
arrival_stop(struct arrival *arrival)
{
	if (arrival->asking != NULL)
		asking_cancel(arrival->asking);
	arrival->asking = NULL;
	if (arrival->survey != NULL)
		survey_cancel(arrival->survey);
	arrival->survey = NULL;
}

void
arrival_destroy(struct arrival *arrival)
{
	asking_free(arrival->asking);
}

void
arrival_init(struct arrival *arrival, struct peer *peer,
    const struct arrival_around *around, void (*heard)(void *owner),
    void (*known)(void *owner), void *owner)
{
	assert(arrival->peer == NULL && heard != NULL && known != NULL);
	arrival->peer = peer;
	arrival->around = around;
	arrival->heard = heard;
	arrival->known = known;
	arrival->owner = owner;
	arrival->judge.peer = peer;
	identify_init(&arrival->identify, peer, on_heard_version,
	    on_identified);
	alias_init(&arrival->alias, peer, peer->pairs);
}
