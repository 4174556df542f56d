/*
 * In which order a server is taken out, and when it is not.  There are a
 * primary, P, and a backup, B; fences pass, and repairs end, when a test says
 * so.
 */

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mirror/behind.h"
#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/goals.h"
#include "mirror/operator.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "mirror/serving.h"
#include "server/server.h"
#include "unit.h"

enum { P, B, PEERS };

struct server {
	bool is_held;
	unsigned int fails, connects, lets_in;
};

struct repairs {
	size_t left;
	bool is_in_hurry;
};

static struct peer peers[PEERS];
static struct server servers[PEERS];
static struct repairs repairs[PEERS];
static bool has_partner, is_unproved[PEERS], is_behind[PEERS];
static unsigned int emptied[PEERS];
static int64_t now;

static struct gate_job *job; /* that waits */
static bool is_closed;

/* The fence that has not passed; NULL: there is none. */
static struct peer *fenced;
static void (*passed)(void *owner, bool was_reached);
static void *fence_owner;

static int ends[OPERATOR_NO_MEMORY + 1]; /* how often done() has said so */

void
log_info(const char *format, ...)
{
	(void)format;
}

size_t
pairs_peer_count(const struct pairs *pairs)
{
	(void)pairs;
	return PEERS;
}

struct peer *
pairs_partner(const struct peer *peer, size_t i)
{
	return has_partner && peer != &peers[i] ? &peers[i] : NULL;
}

const char *
peer_name(const struct peer *peer)
{
	return peer == &peers[P] ? "P" : "B";
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer->state == PEER_UP || peer->state == PEER_REBUILD;
}

bool
serving_is_unproved(const struct peer *peer)
{
	return is_unproved[peer - peers];
}

enum behind
behind_of(const struct peer *peer, const struct peer *other)
{
	check(peer != other);
	return is_behind[peer - peers] ? BEHIND_KEYS : BEHIND_NOT;
}

void
goals_fail_to_empty(struct peer *peer, const char *why)
{
	emptied[peer - peers]++;
	server_fail(peer->server, why);
}

size_t
repairs_left(const struct repairs *of)
{
	return of->left;
}

void
repairs_set_hurry(struct repairs *of, bool is_in_hurry)
{
	check(is_closed);
	of->is_in_hurry = is_in_hurry;
}

struct fence *
fence_new(struct peer *peer, void (*done)(void *owner, bool was_reached),
    void *owner)
{
	static char fence;

	check(is_closed && fenced == NULL && peer_is_mirror(peer));
	fenced = peer;
	passed = done;
	fence_owner = owner;
	return (struct fence *)&fence;
}

void
gate_quiesce(struct gate *gate, struct gate_job *waiting)
{
	(void)gate;
	check(job == NULL && !waiting->waiting);
	job = waiting;
	job->waiting = true;
}

void
gate_open(struct gate *gate)
{
	(void)gate;
	check(is_closed && fenced == NULL);
	is_closed = false;
}

bool
server_is_held(const struct server *server)
{
	return server->is_held;
}

void
server_hold(struct server *server)
{
	check(!server->is_held);
	server->is_held = true;
	server_fail(server, NULL);
}

void
server_let_in(struct server *server)
{
	server->lets_in += server->is_held;
	server->is_held = false;
}

void
server_fail(struct server *server, const char *why)
{
	struct peer *peer = &peers[server - servers];

	(void)why;
	server->fails += peer->state != PEER_DOWN;
	peer->state = PEER_DOWN;
}

void
server_steady(struct server *server)
{
	(void)server;
}

void
server_connect_now(struct server *server)
{
	server->connects++;
}

int64_t
server_now(const struct server *server)
{
	(void)server;
	return now;
}

static void
on_done(void *owner, const struct peer *peer, enum operator_end end)
{
	check(owner == ends && peer == &peers[P]);
	ends[end]++;
}

static void
begin(void)
{
	int i;

	memset(servers, 0, sizeof(servers));
	memset(repairs, 0, sizeof(repairs));
	memset(ends, 0, sizeof(ends));
	memset(emptied, 0, sizeof(emptied));
	memset(is_unproved, 0, sizeof(is_unproved));
	memset(is_behind, 0, sizeof(is_behind));
	has_partner = true;
	now = 0;
	for (i = 0; i < PEERS; i++) {
		peers[i] = (struct peer){
			.state = PEER_UP,
			.server = &servers[i],
			.repairs = &repairs[i],
			.is_primary = i == P,
			.is_backup = i == B,
		};
	}
}

static void
say(enum operator_word word)
{
	operator_act(&peers[P], word, on_done, ends);
}

/* The gate is closed, and its partners have answered. */
static void
close_gate(void)
{
	struct gate_job *due = job;

	check(due != NULL && due->peer == &peers[P] && !is_closed);
	job = NULL;
	due->waiting = false;
	is_closed = true;
	due->run(due);
}

/* The fence of this peer, which is the only one, passes. */
static void
pass(int i)
{
	check(fenced == &peers[i]);
	fenced = NULL;
	passed(fence_owner, peers[i].state != PEER_DOWN);
}

static void
test_down_is_at_once(void)
{
	begin();
	say(OPERATOR_DOWN);
	check(job == NULL && servers[P].is_held && servers[P].fails == 1);
	say(OPERATOR_DOWN);
	check(ends[OPERATOR_DONE] == 2 && servers[P].fails == 1);
	say(OPERATOR_UP);
	check(!servers[P].is_held && servers[P].lets_in == 1);
	check(ends[OPERATOR_DONE] == 3);
}

static void
test_drain_asks_the_server_and_then_its_partners(void)
{
	begin();
	say(OPERATOR_DRAIN);
	check(!servers[P].is_held && ends[OPERATOR_DONE] == 0);
	close_gate();
	pass(P);
	check(!servers[P].is_held && is_closed);
	pass(B);
	check(servers[P].is_held && !is_closed && ends[OPERATOR_DONE] == 1);
	check(emptied[P] == 0);
}

static void
test_drain_waits_for_the_repairs_of_partners(void)
{
	begin();
	repairs[B].left = 2;
	say(OPERATOR_DRAIN);
	close_gate();
	check(!repairs[B].is_in_hurry);
	pass(P);
	pass(B);
	check(repairs[B].is_in_hurry && !servers[P].is_held);
	repairs[B].left = 1;
	pass(B);
	check(repairs[B].is_in_hurry && !servers[P].is_held);
	repairs[B].left = 0;
	pass(B);
	check(!repairs[B].is_in_hurry && servers[P].is_held);
	check(ends[OPERATOR_DONE] == 1);
}

static void
test_drain_does_not_wait_for_ever(void)
{
	begin();
	repairs[B].left = 1;
	say(OPERATOR_DRAIN);
	close_gate();
	pass(P);
	pass(B);
	check(!servers[P].is_held);
	now = 1000;
	pass(B);
	check(servers[P].is_held && !repairs[B].is_in_hurry);
}

static void
test_rebuild_fails_the_server_in_order_and_connects(void)
{
	begin();
	say(OPERATOR_REBUILD);
	check(servers[P].fails == 0);
	close_gate();
	pass(P);
	check(servers[P].fails == 0);
	pass(B);
	check(servers[P].fails == 1 && servers[P].connects == 1);
	check(!servers[P].is_held && emptied[P] == 1);
	check(ends[OPERATOR_DONE] == 1);
}

static void
test_words_are_refused_without_a_partner_that_can_answer(void)
{
	static const enum operator_word words[] = { OPERATOR_DOWN,
		OPERATOR_DRAIN, OPERATOR_REBUILD };
	int i, why;

	for (why = 0; why < 4; why++) {
		begin();
		has_partner = why != 0;
		peers[B].state = why == 1 ? PEER_REBUILD : PEER_UP;
		is_unproved[B] = why == 2;
		is_behind[B] = why == 3;
		for (i = 0; i < 3; i++)
			say(words[i]);
		check(ends[OPERATOR_ALONE] == 3 && job == NULL);
		check(!servers[P].is_held && servers[P].fails == 0);
		check(emptied[P] == 0);
	}
}

static void
test_server_that_fails_meanwhile_is_held(void)
{
	begin();
	say(OPERATOR_DRAIN);
	close_gate();
	peers[P].state = PEER_DOWN;
	pass(P);
	check(servers[P].is_held && ends[OPERATOR_DONE] == 1);

	begin();
	say(OPERATOR_DRAIN);
	peers[P].state = PEER_DOWN;
	close_gate();
	check(servers[P].is_held && ends[OPERATOR_DONE] == 1);
}

static void
test_server_stays_if_its_partner_fails_meanwhile(void)
{
	int at;

	for (at = 0; at < 3; at++) {
		begin();
		say(OPERATOR_DRAIN);
		if (at == 0)
			peers[B].state = PEER_DOWN;
		close_gate();
		if (at == 1)
			peers[B].state = PEER_DOWN;
		pass(P);
		if (at == 2) {
			peers[B].state = PEER_DOWN;
			pass(B);
		}
		check(ends[OPERATOR_ALONE] == 1 && !is_closed);
		check(!servers[P].is_held && peers[P].state == PEER_UP);
	}
}

static void
test_server_that_is_taken_out_twice_is_held_once(void)
{
	begin();
	say(OPERATOR_DRAIN);
	close_gate();
	say(OPERATOR_DOWN);
	check(servers[P].is_held && servers[P].fails == 1);
	pass(P);
	check(ends[OPERATOR_DONE] == 2 && servers[P].fails == 1 && !is_closed);
}

int
main(void)
{
	RUN(test_down_is_at_once);
	RUN(test_drain_asks_the_server_and_then_its_partners);
	RUN(test_drain_waits_for_the_repairs_of_partners);
	RUN(test_drain_does_not_wait_for_ever);
	RUN(test_rebuild_fails_the_server_in_order_and_connects);
	RUN(test_words_are_refused_without_a_partner_that_can_answer);
	RUN(test_server_that_fails_meanwhile_is_held);
	RUN(test_server_stays_if_its_partner_fails_meanwhile);
	RUN(test_server_that_is_taken_out_twice_is_held_once);
	return unit_end();
}
