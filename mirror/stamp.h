#ifndef STAMP_H
#define STAMP_H

/*
 * Read stamps, and give them: see bond.h.  All commands for the stamps of a
 * server go through its first link, so that they are carried out in their
 * order.  They are get, set, add, incr and delete, which every memcached has.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* The item of stamp_say_active(). */
#define STAMP_ACTIVE "magent:active"

struct asking;
struct bond;
struct call;
struct peer;

/* Whoever waits for a new stamp. */
struct stamp_waiter {
	STAILQ_ENTRY(stamp_waiter) entry;
	/* Set by the owner.  is_given: the server has it. */
	void (*wake)(struct stamp_waiter *waiter, bool is_given);
};

STAILQ_HEAD(stamp_waiters, stamp_waiter);

/*
 * Read all stamps and claims of a server, which has said its version, into the
 * sides of its bonds, and who serves, into the peer.  done() is called once
 * from the loop, unless asking_cancel() is called: is_read is false if the
 * server has failed, or did not answer that.  The asking ends with that.
 * Returns NULL when out of memory.
 */
struct asking *asking_new(struct peer *peer,
    void (*done)(void *owner, bool is_read), void *owner);

/* Do not call done() any more.  The asking ends by itself. */
void asking_cancel(struct asking *asking);

/* The server was freed before it has answered.  NULL is fine. */
void asking_free(struct asking *asking);

/* Give a server, which has said its version, a stamp. */
void stamp_give(struct bond *bond, struct peer *peer, uint64_t stamp);

/* Give it STAMP_FIRST, if it has none by then. */
void stamp_give_first(struct bond *bond, struct peer *peer);

/* Put those of the two items back that it lacks. */
void stamp_add_twins(struct bond *bond, struct peer *peer, uint64_t stamp);

/* Say on a server that the magent of this number serves clients. */
void stamp_say_active(struct peer *peer, uint64_t id);

/* Leave, or take away, the mark of a magent that serves: see serving.h. */
void stamp_say_serving(struct peer *peer, unsigned int slot, uint64_t number);
void stamp_drop_serving(struct peer *peer, unsigned int slot);

/* A flush_all has dropped what the server had of those who serve, us and
   others: put it back. */
void stamp_restore_serving(struct peer *peer);

/* Add, renew and take away the item that says that one of the two is being
   rebuilt; see claim.h. */
void stamp_add_claim(const struct bond *bond, struct peer *peer,
    struct call *call);
void stamp_renew_claim(const struct bond *bond, struct peer *peer,
    uint64_t keys_done);
void stamp_drop_claim(const struct bond *bond, struct peer *peer);

/*
 * The other server of the bond has missed a write that at, a mirror, has
 * carried out.  Give at a higher stamp, behind all that it has answered so far.
 * waiter is borrowed until it is woken, from the loop, or when at fails; NULL:
 * nobody waits.  When out of memory, at fails in here, and then it is woken.
 */
void stamp_raise(struct bond *bond, struct peer *at,
    struct stamp_waiter *waiter);

#endif
