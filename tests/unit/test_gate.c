/*
 * The gate: which servers a job waits for, when jobs run, in which order, whose
 * keys are held and which waiters are woken.  Servers and fences are played by
 * the test.
 */

#include <event2/event.h>

#include "conn.h"
#include "mirror/fence.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"
#include "unit.h"

/* Two primaries and two backups. */
enum { P, Q, B, C, PEERS };

static struct event_base *base;
static struct gate *gate;
static struct peer peers[PEERS];

/* What has happened, one letter each: jobs write a to z, waiters A to Z. */
static char happened[64];
static size_t happened_length;

/*
 * What the gate stands on
 */

struct fence {
	void (*passed)(void *owner, bool was_reached);
	void *owner;
};

static struct fence fences[PEERS]; /* of each peer; owner NULL: none */
static bool no_memory;
static unsigned int failures;

struct event_base *
conn_loop_base(struct conn_loop *loop)
{
	(void)loop;
	return base;
}

size_t
pairs_peer_count(const struct pairs *pairs)
{
	(void)pairs;
	return PEERS;
}

struct peer *
pairs_peer(struct pairs *pairs, size_t i)
{
	(void)pairs;
	return &peers[i];
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer->state == PEER_UP || peer->state == PEER_REBUILD ||
	    peer->state == PEER_HANDBACK;
}

bool
peers_are_partners(const struct peer *one, const struct peer *other)
{
	return one->is_primary != other->is_primary;
}

void
server_fail(struct server *server, const char *why)
{
	(void)server;
	check_bytes(why, strlen(why), "out of memory");
	failures++;
}

struct fence *
fence_new(struct peer *peer, void (*passed)(void *owner, bool was_reached),
    void *owner)
{
	struct fence *fence = &fences[peer - peers];

	check(peer_is_mirror(peer) && fence->owner == NULL);
	if (no_memory)
		return NULL;
	*fence = (struct fence){ .passed = passed, .owner = owner };
	return fence;
}

void
fence_cancel(struct fence *fence)
{
	check(fence->owner != NULL);
	fence->owner = NULL;
}

/* The server has answered what it was sent before the fence, or has failed. */
static void
pass(int i, bool was_reached)
{
	void *owner = fences[i].owner;

	unit_need(owner != NULL, "a fence");
	fences[i].owner = NULL;
	fences[i].passed(owner, was_reached);
}

static void
pass_all(void)
{
	int i;

	for (i = 0; i < PEERS; i++)
		if (fences[i].owner != NULL)
			pass(i, true);
}

/* The fences that wait, as a number: bit i is that of peers[i]. */
static unsigned int
fenced(void)
{
	unsigned int found = 0;
	int i;

	for (i = 0; i < PEERS; i++)
		found |= (unsigned int)(fences[i].owner != NULL) << i;
	return found;
}

/*
 * What happens
 */

static void
note(char letter)
{
	unit_need(happened_length + 1 < sizeof(happened), "note");
	happened[happened_length++] = letter;
	happened[happened_length] = '\0';
}

/* Run a turn of the loop; then this has happened. */
#define check_turn(want) \
	do { \
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK); \
		check_happened(want); \
	} while (0)

#define check_happened(want) \
	do { \
		check_bytes(happened, happened_length, want); \
		happened_length = 0; \
	} while (0)

struct my_job {
	struct gate_job job; /* first, so that one is the other */
	char letter;
	void (*then)(void);
};

struct my_waiter {
	struct gate_waiter waiter;
	char letter;
	void (*then)(void);
};

static struct my_job jobs[26];
static struct my_waiter waiters[26];

static void
on_run(struct gate_job *job)
{
	struct my_job *my = (struct my_job *)job;

	check(gate_is_closed(gate) && fenced() == 0);
	check(!job->waiting);
	note(my->letter);
	if (my->then != NULL)
		my->then();
}

static void
on_wake(struct gate_waiter *waiter)
{
	struct my_waiter *my = (struct my_waiter *)waiter;

	check(!waiter->waiting);
	note(my->letter);
	if (my->then != NULL)
		my->then();
}

static struct gate_job *
job(char letter)
{
	return &jobs[letter - 'a'].job;
}

static struct gate_waiter *
waiter(char letter)
{
	return &waiters[letter - 'A'].waiter;
}

static void
begin(void)
{
	int i;

	for (i = 0; i < 26; i++) {
		jobs[i] = (struct my_job){ .letter = (char)('a' + i),
			.job.run = on_run };
		waiters[i] = (struct my_waiter){ .letter = (char)('A' + i),
			.waiter.wake = on_wake };
	}
	gate = gate_new(NULL, NULL);
	unit_need(gate != NULL, "gate_new");
	for (i = 0; i < PEERS; i++)
		peers[i] = (struct peer){ .is_primary = i < B,
			.is_backup = i >= B,
			.state = PEER_UP,
			.gate = gate };
	failures = 0;
	check(!gate_is_closed(gate) && fenced() == 0);
}

static void
end(void)
{
	check_turn("");
	check(fenced() == 0);
	gate_free(gate);
	gate = NULL;
}

static void
open_gate(void)
{
	gate_open(gate);
}

static bool
holds(int primary, int backup)
{
	struct pair pair = { .primary = &peers[primary],
		.backup = backup < 0 ? NULL : &peers[backup] };

	return gate_holds(gate, &pair);
}

/* Close the gate for a job and have it run. */
static void
run_in_turns(const char *want)
{
	check_turn("");
	check(gate_is_closed(gate));
	pass_all();
	check_happened("");
	check_turn(want);
}

/*
 * Tests
 */

/* A job for all pairs waits for each server that gets calls, and holds all. */
static void
test_job_for_all_pairs_runs_when_each_mirror_has_answered(void)
{
	begin();
	peers[Q].state = PEER_DOWN;
	peers[C].state = PEER_REBUILD;
	gate_quiesce(gate, job('a'));
	check(job('a')->waiting && !gate_is_closed(gate) && !holds(P, B));
	check_turn("");
	check(fenced() == (1 << P | 1 << B | 1 << C));
	check(holds(P, B) && holds(Q, C) && holds(P, -1));
	pass(C, true);
	check_turn("");
	pass(P, true);
	pass(B, false);
	check_happened("");
	check_turn("a");
	check_turn("");
	check(holds(P, B));
	gate_open(gate);
	check(!gate_is_closed(gate) && !holds(P, B));
	/* And again. */
	gate_quiesce(gate, job('a'));
	run_in_turns("a");
	gate_open(gate);
	end();
}

/* A job for one peer waits for its partners, and holds its pairs only. */
static void
test_job_for_one_peer_waits_for_its_partners_only(void)
{
	begin();
	peers[P].state = PEER_HANDBACK;
	peers[C].state = PEER_INVALIDATE;
	job('a')->peer = &peers[P];
	gate_quiesce(gate, job('a'));
	check_turn("");
	check(fenced() == 1 << B);
	check(holds(P, B) && holds(P, C) && !holds(Q, B) && !holds(Q, -1));
	pass(B, true);
	check_turn("a");
	check(holds(P, B));
	gate_open(gate);
	check(!holds(P, B));
	end();
}

static void
test_job_without_any_server_to_wait_for_runs(void)
{
	int i;

	begin();
	for (i = 0; i < PEERS; i++)
		peers[i].state = PEER_DOWN;
	gate_quiesce(gate, job('a'));
	check_turn("");
	check_turn("a");
	gate_open(gate);
	end();
}

/* A server that cannot be fenced fails, and is not waited for. */
static void
test_server_fails_when_there_is_no_memory_for_its_fence(void)
{
	begin();
	no_memory = true;
	gate_quiesce(gate, job('a'));
	check_turn("");
	no_memory = false;
	check(failures == PEERS && fenced() == 0);
	check_turn("a");
	gate_open(gate);
	end();
}

/* Jobs run one at a time, in their order, and the gate is open for a turn
   between them: what waits is woken there, and may begin. */
static void
test_gate_is_open_for_a_turn_between_jobs(void)
{
	begin();
	gate_quiesce(gate, job('c'));
	gate_quiesce(gate, job('a'));
	check_turn("");
	gate_wait(gate, waiter('B'));
	gate_wait(gate, waiter('A'));
	pass_all();
	check_turn("c");
	check_turn("");
	gate_open(gate);
	check_happened("BA");
	check(!gate_is_closed(gate) && job('a')->waiting);
	run_in_turns("a");
	gate_open(gate);
	check_happened("");
	end();
}

static void
ask_for_job_b_and_open(void)
{
	gate_quiesce(gate, job('b'));
	check_happened("a");
	gate_open(gate);
	check(!gate_is_closed(gate));
}

/* run() may open the gate and ask for another job; once it has opened the gate,
   even for itself again. */
static void
test_running_job_may_open_the_gate_and_ask_for_another(void)
{
	begin();
	jobs[0].then = ask_for_job_b_and_open;
	jobs[1].then = open_gate;
	gate_quiesce(gate, job('a'));
	check_turn("");
	gate_wait(gate, waiter('A'));
	pass_all();
	check_turn("A");
	run_in_turns("b");
	check(!gate_is_closed(gate));
	end();
}

/* Until the next job, or a server that has failed. */
static void
test_job_may_let_steps_go_on(void)
{
	struct pair pair = { .primary = &peers[P], .backup = &peers[B] };

	begin();
	gate_quiesce(gate, job('a'));
	run_in_turns("a");
	check(holds(P, B) && gate_holds_step(gate, &pair));
	gate_wait(gate, waiter('A'));
	gate_let_steps(gate);
	check_happened("A");
	check(holds(P, B) && !gate_holds_step(gate, &pair));
	check(!gate_holds_peers(gate));
	gate_hold(gate, &peers[B]);
	check(gate_holds_step(gate, &pair) && gate_holds_peers(gate));
	gate_release(gate, &peers[B]);
	gate_open(gate);
	check(!holds(P, B));
	gate_quiesce(gate, job('b'));
	check_turn("");
	run_in_turns("b");
	check(gate_holds_step(gate, &pair));
	gate_open(gate);
	end();
}

static void
test_cancelled_waiter_is_not_woken(void)
{
	begin();
	gate_wait_cancel(gate, waiter('A'));
	gate_quiesce(gate, job('a'));
	check_turn("");
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	gate_wait(gate, waiter('C'));
	gate_wait_cancel(gate, waiter('B'));
	gate_wait_cancel(gate, waiter('B'));
	check(!waiter('B')->waiting);
	pass_all();
	check_turn("a");
	gate_wait_cancel(gate, waiter('A'));
	gate_wait(gate, waiter('A'));
	gate_open(gate);
	check_happened("CA");
	end();
}

static void
ask_for_job_z(void)
{
	if (!job('z')->waiting)
		gate_quiesce(gate, job('z'));
}

/* One that is woken may ask for a job: the others are woken all the same. */
static void
test_waiter_that_asks_for_a_job_does_not_keep_others_waiting(void)
{
	begin();
	waiters[0].then = ask_for_job_z;
	gate_quiesce(gate, job('a'));
	check_turn("");
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	pass_all();
	check_turn("a");
	gate_open(gate);
	check_happened("AB");
	run_in_turns("z");
	gate_open(gate);
	end();
}

static void
cancel_b(void)
{
	gate_wait_cancel(gate, waiter('B'));
}

/* A waiter that is woken may take another one out of the list. */
static void
test_waiter_that_cancels_another_keeps_it_from_waking(void)
{
	begin();
	waiters[0].then = cancel_b;
	gate_quiesce(gate, job('a'));
	check_turn("");
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	gate_wait(gate, waiter('C'));
	pass_all();
	check_turn("a");
	gate_open(gate);
	check_happened("AC");
	end();
}

/* A job that is cancelled does not run, in whatever state it is, and the gate
   is open for what waits. */
static void
test_cancelled_job_does_not_run_and_opens_the_gate(void)
{
	begin();
	gate_job_cancel(gate, job('a'));
	gate_quiesce(gate, job('a'));
	gate_job_cancel(gate, job('a'));
	check(!job('a')->waiting);
	check_turn("");
	check(!gate_is_closed(gate));

	gate_quiesce(gate, job('a'));
	gate_quiesce(gate, job('b'));
	gate_quiesce(gate, job('c'));
	check_turn("");
	gate_wait(gate, waiter('A'));
	gate_job_cancel(gate, job('b'));
	pass(P, true);
	check_happened("");
	gate_job_cancel(gate, job('a'));
	gate_job_cancel(gate, job('a'));
	check_happened("A");
	check(fenced() == 0 && !gate_is_closed(gate));
	run_in_turns("c");
	gate_open(gate);

	/* All fences have passed, and it has not run yet. */
	gate_quiesce(gate, job('a'));
	check_turn("");
	pass_all();
	gate_job_cancel(gate, job('a'));
	check_turn("");
	check(!gate_is_closed(gate));
	end();
}

/* A peer that is held keeps its pairs, and all jobs, waiting. */
static void
test_held_peer_holds_its_pairs_and_all_jobs(void)
{
	begin();
	gate_hold(gate, &peers[P]);
	gate_hold(gate, &peers[P]);
	gate_hold(gate, &peers[C]);
	check(gate_is_closed(gate));
	check(holds(P, B) && holds(Q, C) && holds(P, -1) && !holds(Q, B));
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('A'));
	check_turn("");
	check(fenced() == 0);
	gate_release(gate, &peers[P]);
	check_happened("");
	check(holds(P, B));
	gate_release(gate, &peers[P]);
	check_happened("A");
	check(gate_is_closed(gate) && !holds(P, B) && holds(Q, C));
	check_turn("");
	gate_release(gate, &peers[C]);
	run_in_turns("a");
	gate_open(gate);
	end();
}

/* A pair that is held keeps nothing but itself, and all jobs, waiting. */
static void
test_held_pair_holds_itself_and_all_jobs(void)
{
	struct gate_pair one = { .peer = &peers[P], .partner = &peers[B] };
	struct gate_pair other = { .peer = &peers[C], .partner = &peers[P] };

	begin();
	gate_hold_pair(gate, &one);
	gate_hold_pair(gate, &other);
	check(gate_is_closed(gate));
	check(holds(P, B) && holds(P, C) && !holds(Q, B) && !holds(P, -1));
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('A'));
	check_turn("");
	gate_release_pair(gate, &one);
	check_happened("A");
	check(!holds(P, B) && holds(P, C));
	check_turn("");
	gate_release_pair(gate, &other);
	run_in_turns("a");
	gate_open(gate);
	end();
}

/* A job that the gate is closed for runs when no peer is held any more. */
static void
test_job_waits_for_peer_that_is_held_meanwhile(void)
{
	begin();
	gate_quiesce(gate, job('a'));
	check_turn("");
	gate_hold(gate, &peers[Q]);
	pass_all();
	check_turn("");
	check_turn("");
	gate_release(gate, &peers[Q]);
	check_turn("a");
	gate_open(gate);
	end();
}

static void
wait_again(void)
{
	gate_wait(gate, waiter('A'));
}

/* One that is woken and still held waits again, and is woken again. */
static void
test_waiter_that_is_still_held_waits_again(void)
{
	begin();
	gate_hold(gate, &peers[P]);
	gate_hold(gate, &peers[Q]);
	waiters[0].then = wait_again;
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	gate_release(gate, &peers[P]);
	check_happened("AB");
	check(waiter('A')->waiting && !waiter('B')->waiting);
	waiters[0].then = NULL;
	gate_release(gate, &peers[Q]);
	check_happened("A");
	check(!gate_is_closed(gate));
	end();
}

int
main(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	RUN(test_job_for_all_pairs_runs_when_each_mirror_has_answered);
	RUN(test_job_for_one_peer_waits_for_its_partners_only);
	RUN(test_job_without_any_server_to_wait_for_runs);
	RUN(test_server_fails_when_there_is_no_memory_for_its_fence);
	RUN(test_gate_is_open_for_a_turn_between_jobs);
	RUN(test_running_job_may_open_the_gate_and_ask_for_another);
	RUN(test_job_may_let_steps_go_on);
	RUN(test_cancelled_waiter_is_not_woken);
	RUN(test_waiter_that_asks_for_a_job_does_not_keep_others_waiting);
	RUN(test_waiter_that_cancels_another_keeps_it_from_waking);
	RUN(test_cancelled_job_does_not_run_and_opens_the_gate);
	RUN(test_held_peer_holds_its_pairs_and_all_jobs);
	RUN(test_held_pair_holds_itself_and_all_jobs);
	RUN(test_job_waits_for_peer_that_is_held_meanwhile);
	RUN(test_waiter_that_is_still_held_waits_again);
	event_base_free(base);
	return unit_end();
}
