#ifndef HOTKEYS_H
#define HOTKEYS_H

/*
 * The keys that clients ask for most, by a sample.  It takes some 40 KB, and
 * tells of the last minute or less: older samples count less and less.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn_loop;
struct hotkeys;

enum {
	/* Keys that hotkeys_list() gives. */
	HOTKEYS_LISTED = 20,
};

/* One of the keys.  It is valid until the next hotkeys_note(). */
struct hotkey {
	const char *key;
	size_t length;
	/* Samples that were certainly of this key, and perhaps so many more. */
	unsigned int samples, doubtful;
};

/* The loop is borrowed.  Returns NULL when out of memory. */
struct hotkeys *hotkeys_new(struct conn_loop *loop);

void hotkeys_free(struct hotkeys *hotkeys); /* NULL is fine */

/* A client asks something about a key of at most 250 bytes with this hash. */
void hotkeys_note(struct hotkeys *hotkeys, uint32_t hash, const char *key,
    size_t length);

/* Fill list with the keys of most samples, the first one first.  Returns how
   many there are; *samples are those of all keys. */
size_t hotkeys_list(struct hotkeys *hotkeys, struct hotkey list[HOTKEYS_LISTED],
    unsigned int *samples);

#endif
