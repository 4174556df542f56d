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

/* Who waits for memory. */
struct claim {
	TAILQ_ENTRY(claim) entry;
	void (*wake)(struct claim *claim);
	bool waiting;
};

/* limit: bytes in all blocks; value_max: of the largest value.  Returns NULL
   when out of memory. */
struct budget *budget_new(struct event_base *base, size_t limit,
    size_t value_max);
void budget_free(struct budget *budget);	/* NULL is fine */

/* Whether the buffers hold more than they should; or so much that what comes
   has to be thrown away. */
bool budget_is_short(const struct budget *budget);
bool budget_is_spent(const struct budget *budget);

/* The part of it that is for each of n clients, in bytes. */
size_t budget_share(const struct budget *budget, unsigned int n);

/* Whether something small may begin, for a client which holds memory already,
   or does not. */
bool budget_allows(const struct budget *budget, bool holds);

/* How many of n keys may be asked for together; 0: too much is due. */
unsigned int budget_round(const struct budget *budget, unsigned int n);

/* So many keys are asked for; or their values have come, bytes in all, or will
   not come. */
void budget_ask(struct budget *budget, unsigned int keys);
void budget_take(struct budget *budget, unsigned int keys, size_t bytes);
void budget_forget(struct budget *budget, unsigned int keys);

/* Have wake() called, once, when there may be memory; from the loop or from
   inside budget_wake().  Nothing happens if the claim waits already. */
void budget_wait(struct budget *budget, struct claim *claim);
void budget_cancel(struct budget *budget, struct claim *claim);

/* Something was given back: wake the claim that waits for the longest. */
void budget_wake(struct budget *budget);

#endif
