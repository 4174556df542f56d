#ifndef INVENTORY_H
#define INVENTORY_H

/*
 * The keys of one server after another, as many at a time as there is memory
 * for, for somebody who takes them slowly.
 */

#include <stdbool.h>
#include <stddef.h>

struct conn_loop;
struct pairs;
struct peer;
struct inventory;

/* How far the inventory of a server is. */
enum inventory_state {
	/* More keys may come. */
	INVENTORY_GOES_ON,
	/* All keys have come and were taken. */
	INVENTORY_WHOLE,
	/* It cannot list its keys. */
	INVENTORY_UNABLE,
	/* It has failed. */
	INVENTORY_LOST,
};

/* An inventory of the servers of pairs; both are borrowed.  memory: how many
   bytes of keys may wait.  Returns NULL when out of memory. */
struct inventory *inventory_new(struct conn_loop *loop, struct pairs *pairs,
    size_t memory);

/* inventory_stop() was called, or the servers have been freed and no list ran.
   NULL is fine. */
void inventory_free(struct inventory *inventory);

/* Begin with the keys of from, a mirror, that it shares with a partner. */
void inventory_begin(struct inventory *inventory, struct peer *from);

/* Whose keys these are; NULL: there is no inventory. */
struct peer *inventory_peer(const struct inventory *inventory);

/* Take a key out: as keys_pop().  If there is none yet, a list is begun, unless
   one runs. */
bool inventory_pop(struct inventory *inventory, char *key, size_t *length,
    bool *base64);

enum inventory_state inventory_state(const struct inventory *inventory);

/* End a list that runs: others may want one.  inventory_pop() begins it
   anew. */
void inventory_pause(struct inventory *inventory);

/* Forget the keys, and end the list.  Nothing happens if there is no
   inventory. */
void inventory_stop(struct inventory *inventory);

#endif
