/*
 * Keys whose copy on a server that is away may be old.
 *
 * Invariant: if all is set, the table is empty.
 */

#include "mirror/dirty.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* An insertion that runs out of memory is undone, not fatal. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
	KEYS_MAX = 1000000,
	BYTES_MAX = 64 << 20, /* of keys and their entries */
};

struct entry {
	UT_hash_handle hh;
	size_t length; /* of key[] */
	char key[];    /* a byte that tells base64, then the key */
};

struct dirty {
	struct entry *table;
	size_t bytes;
	bool all;
};

struct dirty *
dirty_new(void)
{
	return calloc(1, sizeof(struct dirty));
}

void
dirty_clear(struct dirty *dirty)
{
	struct entry *entry, *next;

	HASH_ITER(hh, dirty->table, entry, next) {
		HASH_DEL(dirty->table, entry);
		free(entry);
	}
	dirty->bytes = 0;
	dirty->all = false;
}

void
dirty_add_all(struct dirty *dirty)
{
	dirty_clear(dirty);
	dirty->all = true;
}

/* Returns NULL when out of memory. */
static struct entry *
entry_new(const char *key, size_t length, bool base64)
{
	struct entry *entry = calloc(1, sizeof(*entry) + 1 + length);

	if (entry == NULL)
		return NULL;
	entry->length = 1 + length;
	entry->key[0] = base64 ? 'b' : 't';
	memcpy(entry->key + 1, key, length);
	return entry;
}

void
dirty_add(struct dirty *dirty, const char *key, size_t length, bool base64)
{
	struct entry *entry, *known;
	unsigned int count;

	assert(length > 0);
	if (dirty->all)
		return;
	entry = entry_new(key, length, base64);
	if (entry == NULL) {
		dirty_add_all(dirty);
		return;
	}
	HASH_FIND(hh, dirty->table, entry->key, entry->length, known);
	if (known != NULL) {
		free(entry);
		return;
	}
	count = HASH_COUNT(dirty->table);
	HASH_ADD(hh, dirty->table, key, entry->length, entry);
	if (HASH_COUNT(dirty->table) == count) {
		free(entry);
		dirty_add_all(dirty);
		return;
	}
	dirty->bytes += sizeof(*entry) + entry->length;
	if (count >= KEYS_MAX || dirty->bytes > BYTES_MAX)
		dirty_add_all(dirty);
}

bool
dirty_pop(struct dirty *dirty, char *key, size_t *length, bool *base64)
{
	struct entry *entry = dirty->table;

	if (entry == NULL)
		return false;
	assert(!dirty->all && dirty->bytes > 0);
	*length = entry->length - 1;
	*base64 = entry->key[0] == 'b';
	memcpy(key, entry->key + 1, *length);
	dirty->bytes -= sizeof(*entry) + entry->length;
	HASH_DEL(dirty->table, entry);
	free(entry);
	return true;
}

bool
dirty_is_all(const struct dirty *dirty)
{
	return dirty->all;
}

size_t
dirty_count(const struct dirty *dirty)
{
	return HASH_COUNT(dirty->table);
}

void
dirty_free(struct dirty *dirty)
{
	if (dirty == NULL)
		return;
	dirty_clear(dirty);
	free(dirty);
}
