/*
 * Copy many keys, a few at a time.
 *
 *   copies_add() -> keys -> gate, pace -> copy -> ended()
 *                     ^                    |
 *                     '--------------------'  its authority has failed
 *
 * Invariant: a key that was added is in keys, or in one copy, until it has been
 * dealt with.  So copies_pop() and copies_make_dirty() know all that are
 * missing.
 */

#include "mirror/copies.h"

#include <assert.h>
#include <stdlib.h>

#include "container_of.h"
#include "mirror/gate.h"
#include "mirror/keys.h"
#include "mirror/pace.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

enum {
	/* Copies in flight.  More are not faster. */
	COPIES_MAX = 16,
};

struct place {
	struct copy copy;
	struct copies *copies;
	/* The next of the idle ones, if this is one of them. */
	struct place *next_idle;
	bool is_idle;
};

struct copies {
	struct pairs *pairs;                  /* borrowed */
	struct peer *to;                      /* borrowed; may be NULL */
	const struct copies_handler *handler; /* borrowed */
	void *owner;
	/* copies_end() was called.  It is freed when no copy is in flight. */
	bool is_ended;
	/* The gate does not hold it up. */
	bool is_in_hurry;
	/* Owned: the keys that wait. */
	struct keys *keys;
	struct place places[COPIES_MAX];
	/* Those whose copy is not in flight, linked by next_idle. */
	struct place *idle;
	/* How many copies are in flight. */
	unsigned int in_flight;
	/* Waits while the gate is closed. */
	struct gate_waiter waiter;
	/* Waits until more copies may begin. */
	struct pace_waiter turn;
};

static void
set_idle(struct place *place)
{
	struct copies *copies = place->copies;

	assert(!place->is_idle);
	place->is_idle = true;
	place->next_idle = copies->idle;
	copies->idle = place;
}

static void
release_place(struct place *place)
{
	struct copies *copies = place->copies;

	assert(copies->in_flight > 0);
	copies->in_flight--;
	pace_end(pairs_pace(copies->pairs));
	set_idle(place);
}

/* Take a place that is idle for the next key. */
static struct place *
take_place(struct copies *copies)
{
	struct place *place = copies->idle;

	assert(place->is_idle);
	copies->idle = place->next_idle;
	place->is_idle = false;
	copies->in_flight++;
	keys_pop(copies->keys, place->copy.key, &place->copy.length,
	    &place->copy.base64);
	return place;
}

/* Begin as many copies as may be in flight. */
static void
begin_copies(struct copies *copies)
{
	struct pace *pace = pairs_pace(copies->pairs);
	struct place *place;
	enum copy_end end;

	while (copies->idle != NULL && keys_count(copies->keys) > 0 &&
	    pace_begin(pace, &copies->turn)) {
		place = take_place(copies);
		end = copy_begin(&place->copy, copies->pairs, copies->to);
		if (end == COPY_UNDER_WAY)
			continue;
		release_place(place);
		copies->handler->ended(copies->owner, &place->copy, end);
	}
}

void
copies_go(struct copies *copies)
{
	struct gate *gate = pairs_gate(copies->pairs);

	assert(!copies->is_ended);
	/* Its mirror is failing: what is left is made dirty. */
	if (copies->to != NULL && !peer_is_mirror(copies->to))
		return;
	if (gate_is_closed(gate) && !copies->is_in_hurry) {
		if (!copies->waiter.waiting)
			gate_wait(gate, &copies->waiter);
		return;
	}
	begin_copies(copies);
	copies->handler->moved(copies->owner);
}

void
copies_set_hurry(struct copies *copies, bool is_in_hurry)
{
	copies->is_in_hurry = is_in_hurry;
	if (is_in_hurry)
		gate_wait_cancel(pairs_gate(copies->pairs), &copies->waiter);
}

static void
on_turn(struct pace_waiter *waiter)
{
	copies_go(CONTAINER_OF(waiter, struct copies, turn));
}

static void
on_gate_open(struct gate_waiter *waiter)
{
	copies_go(CONTAINER_OF(waiter, struct copies, waiter));
}

static void
on_copy_ended(struct copy *copy, enum copy_end end)
{
	struct place *place = CONTAINER_OF(copy, struct place, copy);
	struct copies *copies = place->copies;

	release_place(place);
	if (copies->is_ended) {
		if (copies->in_flight == 0)
			copies_free(copies);
		return;
	}
	/* Its mirror had failed before: it is dirty. */
	if (end == COPY_FAILED && copies->to != NULL &&
	    !peer_is_mirror(copies->to))
		end = COPY_GONE;
	/* The key is copied from the authority that follows. */
	if (end == COPY_FAILED &&
	    !copies_add(copies, copy->key, copy->length, copy->base64))
		end = COPY_GONE;
	if (end != COPY_FAILED)
		copies->handler->ended(copies->owner, copy, end);
	copies_go(copies);
}

bool
copies_add(struct copies *copies, const char *key, size_t length, bool base64)
{
	assert(!copies->is_ended);
	return keys_add(copies->keys, key, length, base64);
}

size_t
copies_left(const struct copies *copies)
{
	return keys_count(copies->keys) + copies->in_flight;
}

bool
copies_pop(struct copies *copies, char *key, size_t *length, bool *base64)
{
	assert(!copies->is_ended);
	return keys_pop(copies->keys, key, length, base64);
}

/* A server that hangs may still add these when it goes on. */
void
copies_make_dirty(struct copies *copies)
{
	const struct copy *copy;
	int i;

	assert(copies->to != NULL && !copies->is_ended);
	for (i = 0; i < COPIES_MAX; i++) {
		copy = &copies->places[i].copy;
		if (!copies->places[i].is_idle)
			peer_add_dirty(copies->to, copy->key, copy->length,
			    copy->base64);
	}
}

struct copies *
copies_new(struct pairs *pairs, struct peer *to, bool replaces, size_t *held,
    const struct copies_handler *handler, void *owner)
{
	struct copies *copies = calloc(1, sizeof(*copies));
	int i;

	if (copies == NULL)
		return NULL;
	assert(handler->ended != NULL && handler->moved != NULL);
	copies->pairs = pairs;
	copies->to = to;
	copies->handler = handler;
	copies->owner = owner;
	copies->waiter.wake = on_gate_open;
	copies->turn.wake = on_turn;
	for (i = 0; i < COPIES_MAX; i++) {
		copies->places[i].copies = copies;
		copies->places[i].copy.ended = on_copy_ended;
		copies->places[i].copy.replaces = replaces;
		set_idle(&copies->places[i]);
	}
	copies->keys = keys_new(held);
	if (copies->keys != NULL)
		return copies;
	free(copies);
	return NULL;
}

void
copies_end(struct copies *copies)
{
	if (copies == NULL)
		return;
	assert(!copies->is_ended);
	copies->is_ended = true;
	gate_wait_cancel(pairs_gate(copies->pairs), &copies->waiter);
	pace_cancel(pairs_pace(copies->pairs), &copies->turn);
	keys_free(copies->keys);
	copies->keys = NULL;
	if (copies->in_flight == 0)
		copies_free(copies);
}

void
copies_free(struct copies *copies)
{
	if (copies == NULL)
		return;
	keys_free(copies->keys);
	free(copies);
}
