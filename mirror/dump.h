#ifndef DUMP_H
#define DUMP_H

/*
 * List the keys of a server that is up, or is being invalidated: lru_crawler
 * metadump, on a connection of its own.  All that comes is read at once,
 * because a reader that stalls blocks a thread of that server.
 */

#include <stdbool.h>
#include <stddef.h>

struct conn_loop;
struct dump;
struct peer;

/* How a dump has ended. */
enum dump_end {
	/* The list is complete. */
	DUMP_WHOLE,
	/* key() has returned false. */
	DUMP_STOPPED,
	/* The server is no mirror any more, and not being invalidated. */
	DUMP_LOST,
	/* The server has no such command, or refuses it. */
	DUMP_UNABLE,
	/* It fails each time, or its list has no end: later it may do it. */
	DUMP_FAILED,
};

struct dump_handler {
	/* A try begins: what the server was sent before this, and nothing else
	   for certain, has been carried out when it lists its keys.  The dump
	   is not freed in here. */
	void (*begins)(void *owner);
	/* A key of the server, decoded: length is 1 to 250.  A key may come
	   more than once, and more than one try may bring keys.  Returns
	   whether to go on.  The dump is not freed in here. */
	bool (*key)(void *owner, const char *key, size_t length);
	/* The dump is over, and is freed after this.  It is not freed in
	   here. */
	void (*ended)(void *owner, enum dump_end end);
};

/*
 * Begin to list the keys that from has, which is borrowed.  It is a mirror, or
 * it is in the state INVALIDATE and gets no keys meanwhile.  handler is
 * borrowed, and is called from the loop with owner.  Returns NULL when out of
 * memory.
 */
struct dump *dump_new(struct conn_loop *loop, struct peer *from,
    const struct dump_handler *handler, void *owner);

/* Give a dump up that has not ended.  No handler is called any more. */
void dump_free(struct dump *dump);

#endif
