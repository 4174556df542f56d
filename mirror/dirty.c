/*
 * Keys whose copy on one server may be old.
 *
 * Invariant: a key that was added is in the table until it is popped, or all of
 * them are dirty.  If all are dirty, the table is empty.
 */

#include "mirror/dirty.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <event2/util.h>

/* uthash undoes an insertion that runs out of memory; otherwise it would end
   the process. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "proto.h"
#include "siphash.h"

/* Above one of these limits all keys are dirty. */
enum {
	/* Keys. */
	KEYS_MAX = 1000000,
	/* Bytes of keys and their entries. */
	BYTES_MAX = 64 << 20,
};

struct entry {
	UT_hash_handle hh;
	/* Bytes of key[]. */
	size_t length;
	/* The letter b if the key is base64, otherwise t; then the key. */
	char key[];
};

struct dirty {
	/* Owned entries, by their key[]; NULL if there are none. */
	struct entry *table;
	/* Of the hashes in the table.  It is random: clients choose the keys,
	   and many of one hash would make each further one slow. */
	unsigned char hash_key[SIPHASH_KEY];
	/* Bytes of all entries, without what the table itself takes. */
	size_t bytes;
	/* All keys are dirty. */
	bool is_all;
};

struct dirty *
dirty_new(void)
{
	struct dirty *dirty = calloc(1, sizeof(*dirty));

	if (dirty == NULL)
		return NULL;
	evutil_secure_rng_get_bytes(dirty->hash_key, sizeof(dirty->hash_key));
	return dirty;
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
	dirty->is_all = false;
}

void
dirty_add_all(struct dirty *dirty)
{
	dirty_clear(dirty);
	dirty->is_all = true;
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

/* The entry of a key; NULL: it is not in the table. */
static struct entry *
entry_of(const struct dirty *dirty, const char *key, size_t length, bool base64)
{
	char text[1 + PROTO_KEY_MAX];
	struct entry *entry;
	unsigned int hash;

	assert(length > 0 && length <= PROTO_KEY_MAX);
	if (dirty->table == NULL)
		return NULL;
	text[0] = base64 ? 'b' : 't';
	memcpy(text + 1, key, length);
	hash = (unsigned int)siphash(dirty->hash_key, text, 1 + length);
	HASH_FIND_BYHASHVALUE(hh, dirty->table, text, 1 + length, hash, entry);
	return entry;
}

bool
dirty_has(const struct dirty *dirty, const char *key, size_t length,
    bool base64)
{
	return dirty->is_all || entry_of(dirty, key, length, base64) != NULL;
}

bool
dirty_add(struct dirty *dirty, const char *key, size_t length, bool base64)
{
	struct entry *entry;
	unsigned int count, hash;

	assert(!dirty->is_all || dirty->table == NULL);
	if (dirty_has(dirty, key, length, base64))
		return false;
	entry = entry_new(key, length, base64);
	if (entry == NULL) {
		dirty_add_all(dirty);
		return false;
	}
	hash = (unsigned int)siphash(dirty->hash_key, entry->key,
	    entry->length);
	count = HASH_COUNT(dirty->table);
	HASH_ADD_BYHASHVALUE(hh, dirty->table, key, entry->length, hash, entry);
	/* When out of memory, this adds nothing. */
	if (HASH_COUNT(dirty->table) == count) {
		free(entry);
		dirty_add_all(dirty);
		return false;
	}
	dirty->bytes += sizeof(*entry) + entry->length;
	if (count >= KEYS_MAX || dirty->bytes > BYTES_MAX)
		dirty_add_all(dirty);
	return !dirty->is_all;
}

/* Take an entry out, and free it. */
static void
drop_entry(struct dirty *dirty, struct entry *entry)
{
	assert(!dirty->is_all && entry->length > 1);
	assert(dirty->bytes >= sizeof(*entry) + entry->length);
	dirty->bytes -= sizeof(*entry) + entry->length;
	HASH_DEL(dirty->table, entry);
	free(entry);
	assert((dirty->table == NULL) == (dirty->bytes == 0));
}

bool
dirty_remove(struct dirty *dirty, const char *key, size_t length, bool base64)
{
	struct entry *entry = entry_of(dirty, key, length, base64);

	if (entry == NULL)
		return false;
	drop_entry(dirty, entry);
	return true;
}

bool
dirty_pop(struct dirty *dirty, char *key, size_t *length, bool *base64)
{
	struct entry *entry = dirty->table;

	if (entry == NULL)
		return false;
	*length = entry->length - 1;
	*base64 = entry->key[0] == 'b';
	memcpy(key, entry->key + 1, *length);
	drop_entry(dirty, entry);
	return true;
}

void
dirty_each(const struct dirty *dirty,
    void (*each)(void *owner, const char *key, size_t length, bool base64),
    void *owner)
{
	const struct entry *entry;

	for (entry = dirty->table; entry != NULL; entry = entry->hh.next)
		each(owner, entry->key + 1, entry->length - 1,
		    entry->key[0] == 'b');
}

bool
dirty_is_all(const struct dirty *dirty)
{
	assert(!dirty->is_all || dirty->table == NULL);
	return dirty->is_all;
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
