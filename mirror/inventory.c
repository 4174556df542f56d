/*
 * The keys of one server after another.
 *
 *   inventory_begin() -> list of a part -> keys -> inventory_pop()
 *                         ^                        |
 *                         '------------------------'  none is left
 *
 * Invariant: the keys of all hashes below covered have been in keys.  A list
 * covers the part of the hashes that begins there.  If it does not fit in
 * memory, its keys are dropped, and a shorter one begins at the same place.  So
 * however many keys there are, those that wait take no more than memory, and a
 * list is read as fast as it comes.
 */

#include "mirror/inventory.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include <event2/util.h>

#include "mirror/dump.h"
#include "mirror/keys.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "siphash.h"

/* The hashes of all keys. */
#define ALL_HASHES ((uint64_t)1 << 32)

enum {
	/* When a list is too long, the next one covers that part of it. */
	SHORTER = 4,
	/* The least part of all hashes that a list covers. */
	SHORTEST = 4096,
};

struct inventory {
	struct conn_loop *loop; /* borrowed */
	struct pairs *pairs;    /* borrowed */
	size_t memory;
	struct peer *from; /* borrowed; NULL: there is no inventory */
	enum inventory_state state;
	struct dump *dump; /* owned; NULL: no list runs */
	/* Owned: the keys that wait; they take held bytes. */
	struct keys *keys;
	size_t held;
	/* Hashes up to here are done; and how many the list covers. */
	uint64_t covered, width;
	/* Of the hashes: clients choose the keys. */
	unsigned char hash_key[SIPHASH_KEY];
};

static bool
is_in_part(const struct inventory *inventory, const char *key, size_t length)
{
	uint32_t hash;

	if (inventory->width == ALL_HASHES)
		return true;
	hash = (uint32_t)siphash(inventory->hash_key, key, length);
	return hash >= inventory->covered &&
	    hash - inventory->covered < inventory->width;
}

/* Whether the server of the inventory shares the key with another one. */
static bool
is_shared(const struct inventory *inventory, const char *key, size_t length)
{
	struct pair pair = pairs_find(inventory->pairs, key, length);

	return pair.backup != NULL &&
	    (pair.primary == inventory->from || pair.backup == inventory->from);
}

static void
drop_keys(struct inventory *inventory)
{
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;

	while (keys_pop(inventory->keys, key, &length, &base64))
		;
}

/* A try of a list begins: its keys come from the start. */
static void
on_inventory_begins(void *owner)
{
	drop_keys(owner);
}

/* Returns false if there is no memory for more keys. */
static bool
on_inventory_key(void *owner, const char *key, size_t length)
{
	struct inventory *inventory = owner;
	bool base64 = proto_base64_is_needed(key, length);
	char encoded[PROTO_BASE64_MAX];

	/* What magents keep is of one server, or equal by itself. */
	if (proto_key_is_reserved(key, length, false) ||
	    !is_in_part(inventory, key, length) ||
	    !is_shared(inventory, key, length))
		return true;
	if (base64) {
		length = proto_base64_encode(key, length, encoded);
		key = encoded;
	}
	/* No client can have set a key that is longer on a command line. */
	if (length > PROTO_KEY_MAX)
		return true;
	return keys_add(inventory->keys, key, length, base64) &&
	    inventory->held <= inventory->memory;
}

/* The list did not fit. */
static void
shorten(struct inventory *inventory)
{
	drop_keys(inventory);
	if (inventory->width > ALL_HASHES / SHORTEST)
		inventory->width /= SHORTER;
	else
		inventory->state = INVENTORY_UNABLE;
}

static void
on_inventory_ended(void *owner, enum dump_end how)
{
	struct inventory *inventory = owner;

	assert(inventory->dump != NULL);
	inventory->dump = NULL;
	if (how == DUMP_WHOLE)
		inventory->covered += inventory->width;
	else if (how == DUMP_STOPPED)
		shorten(inventory);
	else
		inventory->state = how == DUMP_LOST ?
		    INVENTORY_LOST :
		    INVENTORY_UNABLE;
}

static const struct dump_handler on_inventory = {
	.begins = on_inventory_begins,
	.key = on_inventory_key,
	.ended = on_inventory_ended,
};

void
inventory_begin(struct inventory *inventory, struct peer *from)
{
	assert(inventory->from == NULL && inventory->dump == NULL);
	assert(keys_count(inventory->keys) == 0);
	inventory->from = from;
	inventory->state = INVENTORY_GOES_ON;
	inventory->covered = 0;
	inventory->width = ALL_HASHES;
}

struct peer *
inventory_peer(const struct inventory *inventory)
{
	return inventory->from;
}

/* Begin the next list, or notice that all have been read. */
static void
go_on_listing(struct inventory *inventory)
{
	assert(inventory->from != NULL && keys_count(inventory->keys) == 0);
	if (inventory->dump != NULL || inventory->state != INVENTORY_GOES_ON)
		return;
	if (inventory->covered >= ALL_HASHES) {
		inventory->state = INVENTORY_WHOLE;
		return;
	}
	if (!peer_is_mirror(inventory->from)) {
		inventory->state = INVENTORY_LOST;
		return;
	}
	/* When out of memory, the next call tries again. */
	inventory->dump = dump_new(inventory->loop, inventory->from,
	    &on_inventory, inventory);
}

/* Keys are told only when their list is over: those of a list that does not fit
   are not all. */
bool
inventory_pop(struct inventory *inventory, char *key, size_t *length,
    bool *base64)
{
	if (inventory->dump != NULL)
		return false;
	if (keys_pop(inventory->keys, key, length, base64))
		return true;
	go_on_listing(inventory);
	return false;
}

enum inventory_state
inventory_state(const struct inventory *inventory)
{
	return inventory->state;
}

void
inventory_pause(struct inventory *inventory)
{
	if (inventory->dump == NULL)
		return;
	dump_free(inventory->dump);
	inventory->dump = NULL;
	drop_keys(inventory);
}

void
inventory_stop(struct inventory *inventory)
{
	inventory_pause(inventory);
	if (inventory->keys != NULL)
		drop_keys(inventory);
	inventory->from = NULL;
}

struct inventory *
inventory_new(struct conn_loop *loop, struct pairs *pairs, size_t memory)
{
	struct inventory *inventory = calloc(1, sizeof(*inventory));

	if (inventory == NULL)
		return NULL;
	inventory->loop = loop;
	inventory->pairs = pairs;
	inventory->memory = memory;
	evutil_secure_rng_get_bytes(inventory->hash_key,
	    sizeof(inventory->hash_key));
	inventory->keys = keys_new(&inventory->held);
	if (inventory->keys != NULL)
		return inventory;
	free(inventory);
	return NULL;
}

void
inventory_free(struct inventory *inventory)
{
	if (inventory == NULL)
		return;
	assert(inventory->dump == NULL);
	keys_free(inventory->keys);
	free(inventory);
}
