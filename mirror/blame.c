/*
 * Remember keys at which servers fail.
 *
 * Invariant: each key is there once.  A server that is killed has some oldest
 * command as well, so a single failure says nothing.
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
	FAILURES_CLEAR = 2,
};

struct entry {
	unsigned int failures;
	size_t length; /* 0: the entry is not in use */
	char key[PROTO_KEY_MAX];
};

struct blame {
	struct entry entries[KEYS_KNOWN];
	unsigned int next; /* the entry that is used for the next new key */
};

static const struct entry *
find_entry(const struct blame *blame, const char *key, size_t length)
{
	const struct entry *entry;

	for (entry = blame->entries; entry < blame->entries + KEYS_KNOWN;
	     entry++)
		if (entry->length == length &&
		    memcmp(entry->key, key, length) == 0)
			return entry;
	return NULL;
}

void
blame_key(struct blame *blame, const char *key, size_t length)
{
	const struct entry *found = find_entry(blame, key, length);
	struct entry *entry = &blame->entries[blame->next];

	assert(length > 0 && length <= PROTO_KEY_MAX);
	if (found != NULL) {
		blame->entries[found - blame->entries].failures++;
		return;
	}
	blame->next = (blame->next + 1) % KEYS_KNOWN;
	entry->failures = 1;
	entry->length = length;
	memcpy(entry->key, key, length);
}

bool
blame_is_clear(const struct blame *blame, const char *key, size_t length)
{
	const struct entry *entry = find_entry(blame, key, length);

	return entry != NULL && entry->failures >= FAILURES_CLEAR;
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
