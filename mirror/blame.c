/*
 * Remember keys at which servers fail.
 *
 * Invariant: each key is there once for a copy and once for a delete, with the
 * failures since the last time that this was carried out.  A server that is
 * killed has some oldest command as well, so few failures say nothing.
 */

#include "mirror/blame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto.h"

enum {
	/* Keys that are remembered. */
	KEYS_KNOWN = 32,
	/* Failures after which a key is to blame. */
	FAILURES_CLEAR = 3,
};

struct entry {
	unsigned int failures; /* 0: the entry is not in use */
	enum blame_what what;
	size_t length;
	char key[PROTO_KEY_MAX];
};

struct blame {
	struct entry entries[KEYS_KNOWN];
	unsigned int next; /* the entry that is used for the next new key */
};

/* The number of the entry; KEYS_KNOWN: there is none. */
static unsigned int
find_entry(const struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	const struct entry *entry;
	unsigned int i;

	for (i = 0; i < KEYS_KNOWN; i++) {
		entry = &blame->entries[i];
		if (entry->failures > 0 && entry->what == what &&
		    entry->length == length &&
		    memcmp(entry->key, key, length) == 0)
			break;
	}
	return i;
}

void
blame_key(struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	unsigned int found = find_entry(blame, what, key, length);
	struct entry *entry = &blame->entries[blame->next];

	assert(length > 0 && length <= PROTO_KEY_MAX);
	if (found < KEYS_KNOWN) {
		blame->entries[found].failures++;
		return;
	}
	blame->next = (blame->next + 1) % KEYS_KNOWN;
	entry->failures = 1;
	entry->what = what;
	entry->length = length;
	memcpy(entry->key, key, length);
}

void
blame_acquit(struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	unsigned int found = find_entry(blame, what, key, length);

	if (found < KEYS_KNOWN)
		blame->entries[found].failures = 0;
}

bool
blame_is_clear(const struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	unsigned int found = find_entry(blame, what, key, length);

	return found < KEYS_KNOWN &&
	    blame->entries[found].failures >= FAILURES_CLEAR;
}

struct blame *
blame_new(void)
{
	return calloc(1, sizeof(struct blame));
}

void
blame_free(struct blame *blame)
{
	free(blame);
}
