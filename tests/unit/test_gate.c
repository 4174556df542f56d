/* The gate: when jobs run, in which order, and which waiters are woken. */

#include <event2/event.h>

#include "mirror/gate.h"
#include "unit.h"

static struct event_base *base;
static struct gate *gate;

/* What has happened, one letter each: rests write a to z, waiters A to Z. */
static char happened[64];
static size_t happened_length;

static void
note(char letter)
{
	unit_need(happened_length + 1 < sizeof(happened), "note");
	happened[happened_length++] = letter;
	happened[happened_length] = '\0';
}

/* Run the loop until nothing is to be done; then this has happened. */
#define check_turn(want) \
	do { \
		turn(); \
		check_happened(want); \
	} while (0)

#define check_happened(want) \
	do { \
		check_bytes(happened, happened_length, want); \
		happened_length = 0; \
	} while (0)

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

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

	check(gate_is_empty(gate));
	check(gate_is_closed(gate));
	check(!job->waiting);
	note(my->letter);
	if (my->then != NULL)
		my->then();
}

static void
on_wake(struct gate_waiter *waiter)
{
	struct my_waiter *my = (struct my_waiter *)waiter;

	check(!gate_is_closed(gate));
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
	char i;

	for (i = 0; i < 26; i++) {
		jobs[(int)i] = (struct my_job){ .letter = (char)('a' + i),
			.job.run = on_run };
		waiters[(int)i] = (struct my_waiter){ .letter = (char)('A' + i),
			.waiter.wake = on_wake };
	}
	gate = gate_new(base);
	unit_need(gate != NULL, "gate_new");
	check(gate_is_empty(gate) && !gate_is_closed(gate));
}

static void
end(void)
{
	check_turn("");
	gate_free(gate);
	gate = NULL;
	check(event_base_loop(base, EVLOOP_NONBLOCK) == 1);
}

static void
open_gate(void)
{
	gate_open(gate);
}

/* Calls go through an open gate, and are counted. */
static void
test_open_gate_counts_the_calls_in_flight(void)
{
	int i;

	begin();
	for (i = 0; i < 5; i++) {
		gate_enter(gate);
		check(!gate_is_empty(gate) && !gate_is_closed(gate));
	}
	for (i = 0; i < 5; i++) {
		check(!gate_is_empty(gate));
		gate_leave(gate);
	}
	check(gate_is_empty(gate) && !gate_is_closed(gate));
	end();
	gate_free(NULL);
}

/* With nothing in flight a job runs soon, but not from inside the call that
   asks for it. */
static void
test_job_with_nothing_in_flight_runs_in_the_next_turn(void)
{
	begin();
	gate_quiesce(gate, job('a'));
	check(job('a')->waiting && gate_is_closed(gate));
	check_happened("");
	check_turn("a");
	check_turn("");
	check(gate_is_closed(gate));
	gate_open(gate);
	check(!gate_is_closed(gate));
	check_turn("");
	/* And again. */
	gate_quiesce(gate, job('a'));
	check_turn("a");
	gate_open(gate);
	end();
}

/* With calls in flight a job runs after the last of them, but not inside of it;
   calls that follow from them may begin. */
static void
test_job_with_calls_in_flight_runs_after_the_last(void)
{
	begin();
	gate_enter(gate);
	gate_enter(gate);
	gate_quiesce(gate, job('a'));
	check(gate_is_closed(gate));
	check_turn("");
	gate_leave(gate);
	gate_enter(gate);
	gate_leave(gate);
	check_turn("");
	gate_leave(gate);
	check_happened("");
	check_turn("a");
	gate_open(gate);
	end();
}

/* A job waits also for a call that begins after the last one and before the job
   runs. */
static void
test_job_waits_for_call_that_begins_before_it(void)
{
	begin();
	gate_quiesce(gate, job('a'));
	gate_enter(gate);
	check_turn("");
	gate_leave(gate);
	check_turn("a");
	/* The job itself may make calls. */
	gate_enter(gate);
	check(!gate_is_empty(gate));
	gate_leave(gate);
	check_turn("");
	gate_open(gate);
	end();
}

/* Jobs run one at a time, in their order; the gate is closed in between. */
static void
test_jobs_run_one_at_a_time_in_their_order(void)
{
	begin();
	gate_enter(gate);
	gate_quiesce(gate, job('c'));
	gate_quiesce(gate, job('a'));
	gate_quiesce(gate, job('b'));
	gate_leave(gate);
	check_turn("c");
	check_turn("");
	gate_quiesce(gate, job('d'));
	check_turn("");
	gate_open(gate);
	check_happened("");
	check(gate_is_closed(gate));
	check_turn("a");
	/* What a has begun comes before b. */
	gate_enter(gate);
	gate_open(gate);
	check_turn("");
	gate_leave(gate);
	check_turn("b");
	gate_open(gate);
	check_turn("d");
	gate_open(gate);
	check(!gate_is_closed(gate));
	end();
}

static void
ask_for_job_b_and_open(void)
{
	gate_quiesce(gate, job('b'));
	check_happened("a");
	gate_open(gate);
	check(gate_is_closed(gate));
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
	gate_wait(gate, waiter('A'));
	turn();
	turn();
	check_happened("bA");
	check(!gate_is_closed(gate));
	jobs[2].then = open_gate;
	gate_quiesce(gate, job('c'));
	check_turn("c");
	check(!gate_is_closed(gate));
	end();
}

/* Waiters are woken once, in their order, when the last job is over. */
static void
test_waiters_are_woken_in_order_after_the_last_job(void)
{
	begin();
	gate_enter(gate);
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('B'));
	gate_quiesce(gate, job('b'));
	gate_wait(gate, waiter('A'));
	check(waiter('A')->waiting && waiter('B')->waiting);
	gate_leave(gate);
	check_turn("a");
	gate_wait(gate, waiter('C'));
	gate_open(gate);
	check_turn("b");
	gate_open(gate);
	check_happened("BAC");
	check_turn("");
	/* They may wait again. */
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('A'));
	check_turn("a");
	gate_open(gate);
	check_happened("A");
	end();
}

static void
test_cancelled_waiter_is_not_woken(void)
{
	begin();
	gate_wait_cancel(gate, waiter('A'));
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	gate_wait(gate, waiter('C'));
	gate_wait_cancel(gate, waiter('B'));
	gate_wait_cancel(gate, waiter('B'));
	check(!waiter('B')->waiting);
	check_turn("a");
	gate_wait_cancel(gate, waiter('A'));
	gate_wait(gate, waiter('A'));
	gate_open(gate);
	check_happened("CA");
	end();
}

static void
close_again(void)
{
	gate_quiesce(gate, job('z'));
	gate_wait(gate, waiter('A'));
}

/* A waiter that is woken may close the gate: then the others go on waiting. */
static void
test_waiter_that_closes_the_gate_leaves_others_waiting(void)
{
	begin();
	waiters[0].then = close_again;
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	check_turn("a");
	gate_open(gate);
	check_happened("A");
	check(gate_is_closed(gate) && waiter('B')->waiting);
	waiters[0].then = NULL;
	check_turn("z");
	gate_open(gate);
	check_happened("BA");
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
	gate_wait(gate, waiter('A'));
	gate_wait(gate, waiter('B'));
	gate_wait(gate, waiter('C'));
	check_turn("a");
	gate_open(gate);
	check_happened("AC");
	end();
}

/* A job that is cancelled does not run and no longer keeps the gate closed. */
static void
test_cancelled_job_does_not_run_and_lets_the_gate_open(void)
{
	begin();
	gate_job_cancel(gate, job('a'));
	check(!gate_is_closed(gate));
	gate_quiesce(gate, job('a'));
	gate_wait(gate, waiter('A'));
	gate_job_cancel(gate, job('a'));
	check(!job('a')->waiting && !gate_is_closed(gate));
	check_happened("A");
	check_turn("");
	/* With a call in flight, and others in the list. */
	gate_enter(gate);
	gate_quiesce(gate, job('a'));
	gate_quiesce(gate, job('b'));
	gate_quiesce(gate, job('c'));
	gate_wait(gate, waiter('A'));
	gate_job_cancel(gate, job('b'));
	gate_job_cancel(gate, job('a'));
	gate_job_cancel(gate, job('a'));
	check(gate_is_closed(gate));
	gate_quiesce(gate, job('b'));
	gate_leave(gate);
	check_turn("c");
	gate_job_cancel(gate, job('b'));
	check(gate_is_closed(gate));
	check_happened("");
	gate_open(gate);
	check_happened("A");
	end();
}

/* To cancel a job that runs, or has run, changes nothing. */
static void
test_cancel_of_job_that_runs_or_ran_changes_nothing(void)
{
	begin();
	gate_quiesce(gate, job('a'));
	check_turn("a");
	gate_job_cancel(gate, job('a'));
	check(gate_is_closed(gate));
	gate_open(gate);
	gate_job_cancel(gate, job('a'));
	check(!gate_is_closed(gate));
	end();
}

/* A job that is cancelled and asked for again goes to the end. */
static void
test_job_cancelled_and_asked_for_again_goes_to_the_end(void)
{
	begin();
	gate_quiesce(gate, job('a'));
	gate_quiesce(gate, job('b'));
	gate_job_cancel(gate, job('a'));
	gate_quiesce(gate, job('a'));
	check_turn("b");
	gate_open(gate);
	check_turn("a");
	gate_open(gate);
	end();
}

/* A gate that is freed with a job to come leaves nothing behind. */
static void
test_gate_freed_with_job_to_come_leaves_nothing_behind(void)
{
	begin();
	gate_quiesce(gate, job('a'));
	gate_free(gate);
	check(event_base_loop(base, EVLOOP_NONBLOCK) == 1);
	check_happened("");
}

int
main(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	RUN(test_open_gate_counts_the_calls_in_flight);
	RUN(test_job_with_nothing_in_flight_runs_in_the_next_turn);
	RUN(test_job_with_calls_in_flight_runs_after_the_last);
	RUN(test_job_waits_for_call_that_begins_before_it);
	RUN(test_jobs_run_one_at_a_time_in_their_order);
	RUN(test_running_job_may_open_the_gate_and_ask_for_another);
	RUN(test_waiters_are_woken_in_order_after_the_last_job);
	RUN(test_cancelled_waiter_is_not_woken);
	RUN(test_waiter_that_closes_the_gate_leaves_others_waiting);
	RUN(test_waiter_that_cancels_another_keeps_it_from_waking);
	RUN(test_cancelled_job_does_not_run_and_lets_the_gate_open);
	RUN(test_cancel_of_job_that_runs_or_ran_changes_nothing);
	RUN(test_job_cancelled_and_asked_for_again_goes_to_the_end);
	RUN(test_gate_freed_with_job_to_come_leaves_nothing_behind);
	event_base_free(base);
	return unit_end();
}
