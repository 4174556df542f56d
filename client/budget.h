#ifndef BUDGET_H
#define BUDGET_H

/*
 * How much memory the buffers may take: who may begin something, and who has
 * to wait until others have given some back.  What was asked for counts before
 * it comes, as far as the values of late tell how large it will be.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct budget;
struct event_base;

/* Who wants to begin something. */
struct budget_waiter {
	TAILQ_ENTRY(budget_waiter) entry;
	void (*wake)(struct budget_waiter *waiter);
	size_t own_bytes; /* bytes in blocks that are its own, and
					   given back only if it goes on; set by
					   who waits */
	bool waiting;
	unsigned int checks; /* that were in vain */
};

enum budget_need {
	BUDGET_SMALL, /* a command of somebody who holds nothing, and
				   did not ask for much of late */
	BUDGET_LARGE, /* that of another */
	BUDGET_ROUND, /* the next keys of a get of many */
};

/* limit: bytes in all blocks; value_max: of the largest value.  Returns NULL
   when out of memory. */
struct budget *budget_new(struct event_base *base, size_t limit,
    size_t value_max);
void budget_free(struct budget *budget); /* NULL is fine */

/* Whether the buffers hold more than they should; or so much that what comes
   has to be thrown away. */
bool budget_is_short(const struct budget *budget);
bool budget_is_spent(const struct budget *budget);

/* The part of it that is for each of n clients, in bytes. */
size_t budget_share(const struct budget *budget, unsigned int n);

/* Whether there is so much that anything may begin. */
bool budget_is_ample(const struct budget *budget);

/*
 * Whether what the claim is for may begin.  If not it waits, and wake() is
 * called, once, when that may have changed; from the loop or from inside
 * budget_wake().
 */
bool budget_admit_or_wait(struct budget *budget, struct budget_waiter *waiter,
    enum budget_need need);

/* It begins now. */
void budget_admitted(struct budget *budget, struct budget_waiter *waiter);

/* It does not want to any more. */
void budget_cancel(struct budget *budget, struct budget_waiter *waiter);

/* Something was given back: wake the claim that waits for the longest. */
void budget_wake(struct budget *budget);

/* How many keys of a get of n may be asked for together: 1 to n. */
unsigned int budget_round(const struct budget *budget, unsigned int n);

/* So many keys are asked for, by a get of many or one of a single key; later
   their values have come, bytes in all, or nothing comes of it. */
void budget_expect(struct budget *budget, bool many, unsigned int keys);
void budget_arrived(struct budget *budget, bool many, unsigned int keys,
    size_t bytes);
void budget_unexpect(struct budget *budget, bool many, unsigned int keys);

#endif
