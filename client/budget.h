#ifndef BUDGET_H
#define BUDGET_H

/*
 * Decide who may use memory for buffers now, and who waits until others have
 * given some back.  A value that was asked for counts before it comes, as much
 * as recent values took.
 *
 * This is the last rung of the ladder of back-pressure.  What waits is a
 * client, whose socket is not read meanwhile, or the recovery of a server.
 * Nobody waits for a slow server: one that does not reply within -t is down.
 *
 *   who waits     for what                                  where
 *   ------------  ----------------------------------------  -----------------
 *   new clients   a descriptor: all pause for 100 ms (one   pause_listener()
 *                 of more than -n is refused instead)       clients_accept()
 *   a client      window: the reply to one of its           is_full(),
 *                 requests; 2 may be in flight at first,    WINDOW_MAX
 *                 512 later
 *   a client      share: such a reply, while requests or    is_full(), share(),
 *                 replies take half of what is free of -m,  budget_share(),
 *                 2 MiB at most; a first request is let in  WINDOW_BYTES
 *   a client      rounds: the last one of its get of many   is_full(),
 *                 keys, which nothing may overtake          request_is_sent()
 *   a client      backlog: its own reading; nothing begins  CONN_HIGH, CONN_LOW
 *                 above 256 KiB; below 64 KiB it is woken   on_output_drained()
 *   client        gate: the end of a handback or flush_all  gate_wait(),
 *                                                           gate_open()
 *   a client, or  budget: memory that others give back, or  admit_or_wait(),
 *   its next      a look every 20 ms; see the steps below   fits(),
 *   round                                                   budget_wake()
 *   a rebuild     a reply, with 16 copies in flight; 1 ms,  COPIES_MAX,
 *                 after 50 copies; the gate                 COPIES_PER_MS
 *   invalidation  a reply, with 64 deletes in flight        DELETIONS_MAX
 *
 * For a client, "stats conns" says on which rung it is: paused window (which is
 * also said of share and rounds), backlog, gate or memory (the budget).
 *
 * The steps of the budget, from the limit -m upwards.  Held is what all blocks
 * take, and the requests, effects and the like (pool.h).  Expected is what the
 * values will take that have not come yet.
 *
 *   held + expected  up to -m        ample: everything begins
 *                    up to 1.5 x -m  BUDGET_SMALL begins; so does what has
 *                                    waited for half a second, and a
 *                                    BUDGET_ROUND if it is the only one
 *                    up to 2 x -m    BUDGET_SMALL begins
 *                    above 2 x -m    nothing begins
 *   held             above -m        short: unfinished commands are given up,
 *                                    see budget_gives_up(); a client that
 *                                    has taken less than a quarter of its
 *                                    replies for 2 s is closed, see
 *                                    client_check_progress()
 *                    above 3 x -m    spent: a reply of more than 4000 bytes
 *                                    becomes an error, when it comes
 *                                    (exec_close_subrequest())
 *
 * So that a round finds room, it has no more keys than fit in a quarter of -m,
 * but at least one (budget_round()).  That is a guess.  If more comes, the
 * first value of each reply is kept, and its first LINK_KEPT bytes, and others
 * while they fit in a quarter of -m, and all that is held in -m
 * (budget_keeps()).  The rest is asked for again.  The section Back-pressure in
 * doc/architecture.md has the reasons.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct budget;
struct event_base;

/* Somebody who wants to begin something; embedded in its owner, zero at first
   but for wake. */
struct budget_waiter {
	TAILQ_ENTRY(budget_waiter) entry;
	/* Called once after budget_admit_or_wait() has returned false.  The
	   owner may ask again, and may have to wait again. */
	void (*wake)(struct budget_waiter *waiter);
	/* Bytes in blocks that are freed only if the owner goes on.  Set by the
	   owner, before it asks; not changed while it waits. */
	size_t own_bytes;
	bool waiting;        /* it is in the list of waiters */
	unsigned int checks; /* looks of the timer that found it waiting */
};

/* What somebody wants to begin. */
enum budget_need {
	/* A command of a client that has no other one in flight, and whose
	   recent replies and backlog are small: see what_next(). */
	BUDGET_SMALL,
	/* A command of any other client. */
	BUDGET_LARGE,
	/* The next round of a get of many keys. */
	BUDGET_ROUND,
};

/* limit: bytes in all blocks, as -m says; value_max: bytes of
   the largest value.  Returns NULL when out of memory. */
struct budget *budget_new(struct event_base *base, size_t limit,
    size_t value_max);

/* Nobody waits any more.  NULL is fine. */
void budget_free(struct budget *budget);

/* Whether more than the limit is held. */
bool budget_is_short(const struct budget *budget);

/* Whether so much more is held that replies must be thrown away. */
bool budget_is_spent(const struct budget *budget);

/*
 * Whether the command that was begun first of those that are not whole is to be
 * given up: its client gets an error in place of it.  It was begun age_ms
 * milliseconds ago; all of them hold this many bytes, without those that
 * are leaving memory already.
 */
bool budget_gives_up(const struct budget *budget, size_t bytes, size_t leaving,
    int64_t age_ms);

/* The share of each client: bytes of its requests and replies. */
size_t budget_share(const struct budget *budget);

/* Whether anything may begin, also what is not asked about. */
bool budget_is_ample(const struct budget *budget);

/*
 * Returns true if what the waiter wants may begin.  Otherwise it waits: wake()
 * is called once, when that may have changed, from the loop or from inside
 * budget_wake().
 */
bool budget_admit_or_wait(struct budget *budget, struct budget_waiter *waiter,
    enum budget_need need);

/* What the waiter wants begins now: it waits no longer, and next time its
   patience begins anew. */
void budget_admitted(struct budget *budget, struct budget_waiter *waiter);

/* The waiter waits no longer, if it did; wake() is not called. */
void budget_cancel(struct budget *budget, struct budget_waiter *waiter);

/* Something was given back: wake the one that has waited longest, if any. */
void budget_wake(struct budget *budget);

/* How many of the next n keys of a get, n > 0, its next round may ask for: 1 to
   n. */
unsigned int budget_round(const struct budget *budget, unsigned int n);

/* Whether the reply to a round, of which so many bytes are held, may have this
   number of bytes more. */
bool budget_keeps(const struct budget *budget, size_t held, size_t more);

/*
 * The values of a number of keys are expected, which were asked for in rounds,
 * or by a command about one key.  Each budget_expect() is followed by one of
 * the other two, with the same number: the values have come, in a reply of this
 * size in bytes; or none will come.
 */
void budget_expect(struct budget *budget, bool in_rounds, unsigned int keys);
void budget_arrived(struct budget *budget, bool in_rounds, unsigned int keys,
    size_t bytes);
void budget_unexpect(struct budget *budget, bool in_rounds, unsigned int keys);

#endif
