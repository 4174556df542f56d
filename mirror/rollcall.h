#ifndef ROLLCALL_H
#define ROLLCALL_H

/*
 * Have each thread of a returned server answer, so that it has carried out what
 * anybody had sent it before.
 */

struct conn_loop;
struct peer;
struct rollcall;

/*
 * Ask the server of peer, which is connected and has said how many threads it
 * has, until each of them has answered and has nothing left of before.  done()
 * is called from the loop then, and the roll call ends when it has returned.
 * Returns NULL, and calls nothing, if no thread can be asked, also for lack of
 * memory or descriptors.
 */
struct rollcall *rollcall_new(struct conn_loop *loop, const struct peer *peer,
    void (*done)(void *owner), void *owner);

/* Ask no more; done() is not called any more.  NULL is fine. */
void rollcall_free(struct rollcall *rollcall);

#endif
