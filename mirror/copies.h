#ifndef COPIES_H
#define COPIES_H

/*
 * Copy many keys, a few at a time, as fast as all copies together may begin:
 * see pace.h.
 */

#include <stdbool.h>
#include <stddef.h>

#include "mirror/copy.h"

struct copies;
struct pairs;
struct peer;

struct copies_handler {
	/* The key of copy has been dealt with.  end is not COPY_UNDER_WAY or
	   COPY_FAILED.  Called from the loop, or inside copies_go(). */
	void (*ended)(void *owner, const struct copy *copy, enum copy_end end);
	/* Copies may have begun or ended, and the gate is open.  Called inside
	   copies_go(), and from the loop when it was done by itself.  Keys may
	   be added in here. */
	void (*moved)(void *owner);
};

/*
 * No copies yet.  to: the mirror that they are for; NULL: each key has its own.
 * replaces: see struct copy.  *held is how many bytes the keys take that wait:
 * see keys_new().  All pointers are borrowed.  Returns NULL when out of memory.
 */
struct copies *copies_new(struct pairs *pairs, struct peer *to, bool replaces,
    size_t *held, const struct copies_handler *handler, void *owner);

/* Have a key of 1 to 250 bytes copied, which is as on a command line, in base64
   if base64 is set.  Returns false when out of memory. */
bool copies_add(struct copies *copies, const char *key, size_t length,
    bool base64);

/* Begin what can begin now.  What cannot begins later, by itself. */
void copies_go(struct copies *copies);

/* Whether copies begin also while the gate is closed.  It is so for a job that
   waits for them. */
void copies_set_hurry(struct copies *copies, bool is_in_hurry);

/* Keys that wait or are being copied. */
size_t copies_left(const struct copies *copies);

/* Take back a key that waits: see keys_pop(). */
bool copies_pop(struct copies *copies, char *key, size_t *length, bool *base64);

/* Keys that are being copied become dirty for the mirror that they are for.  It
   is going to end. */
void copies_make_dirty(struct copies *copies);

/* No handler is called any more.  Keys that wait are forgotten.  It is freed in
   here, or when the last copy is answered.  NULL is fine. */
void copies_end(struct copies *copies);

/* The servers have been freed, so no copy will be answered.  NULL is fine. */
void copies_free(struct copies *copies);

#endif
