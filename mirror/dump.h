#ifndef DUMP_H
#define DUMP_H

/*
 * List the keys of a server that is up: lru_crawler metadump, on a connection
 * of its own, which is read as fast as it comes, for a reader who stalls blocks
 * a thread of that server.
 */

#include <stdbool.h>
#include <stddef.h>

struct conn_loop;
struct dump;
struct peer;

enum dump_end {
	DUMP_WHOLE,   /* that were all keys */
	DUMP_STOPPED, /* key() has returned false */
	DUMP_LOST,    /* the server is not believed any more */
	DUMP_UNABLE,  /* it cannot, or does not stop failing */
};

struct dump_handler {
	/* One key, its bytes as they are.  Returns whether to go on. */
	bool (*key)(void *owner, const char *key, size_t length);
	/* The dump is over, and ends after this. */
	void (*ended)(void *owner, enum dump_end end);
};

/* Begin.  Returns NULL when out of memory.  No handler is called in here. */
struct dump *dump_new(struct conn_loop *loop, const struct peer *from,
    const struct dump_handler *handler, void *owner);

/* Give it up; no handler is called any more. */
void dump_free(struct dump *dump);

#endif
