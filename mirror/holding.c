/*
 * What a server holds of a key, and whether another one holds the same.
 *
 * Invariant: what memcached itself does to one of two equal copies makes them
 * no different here, or they have drifted.  These are:
 *
 *   - Each server has a tick of its own, a second long, and gets its copy a
 *     moment later than the other one: times to live differ by some seconds,
 *     and near its end an item may be on one of them only.
 *   - An item that is counted in place keeps its length, with spaces behind the
 *     number.  One that cannot be, because it is being sent or moved at this
 *     moment, becomes a new one: without spaces, without marks, and without the
 *     time to live that an ma sets.  So spaces behind a number do not count;
 *     and where its marks or times to live differ, they have drifted.
 */

#include "mirror/holding.h"

#include <assert.h>
#include <string.h>

#include "mirror/item.h"

enum {
	/* Seconds by which the times to live of equal copies may differ: a tick
	   of each server, a rounded time of day, and the time that an effect
	   waits in its FIFO. */
	TTL_TOLERANCE = 5,
	/* And by this part of them: clocks of two hosts drift apart, and
	   a server that hangs for a while carries an effect out later. */
	TTL_PART = 1000,
	/* Digits of the largest number that memcached counts. */
	DIGITS_MAX = 20,
};

/* The length of a value without the spaces behind its digits; 0: it is no
   number. */
static size_t
digits_of(const char *value, size_t n)
{
	size_t digits = 0;
	size_t i;

	while (digits < n && value[digits] >= '0' && value[digits] <= '9')
		digits++;
	for (i = digits; i < n; i++)
		if (value[i] != ' ')
			return 0;
	return digits <= DIGITS_MAX ? digits : 0;
}

struct holding
holding_of(const struct item *item, const char *value, size_t n,
    const unsigned char key[SIPHASH_KEY])
{
	size_t digits = digits_of(value, n);
	size_t length = digits > 0 ? digits : n;

	return (struct holding){
		.is_there = true,
		.is_number = digits > 0,
		.hash = siphash(key, value, length),
		.length = length,
		.flags = item->flags,
		.ttl = item->ttl,
		.is_stale = item->is_stale,
		.is_awaited = item->is_awaited,
		.cas = item->is_won ? 0 : item->cas,
	};
}

/* Whether the item ends so soon that another server may have it no longer, or
   still. */
static bool
is_ending(const struct holding *holding)
{
	return holding->ttl >= 0 && holding->ttl <= TTL_TOLERANCE;
}

static bool
are_values_equal(const struct holding *one, const struct holding *other)
{
	return one->length == other->length && one->hash == other->hash;
}

/* The time between the two reads counts, too. */
static bool
are_ttls_equal(const struct holding *one, const struct holding *other)
{
	int64_t difference = one->ttl - other->ttl;
	int64_t between = one->read_ms - other->read_ms;
	int64_t most = TTL_TOLERANCE + one->ttl / TTL_PART +
	    (between < 0 ? -between : between) / 1000;

	if (one->ttl < 0 || other->ttl < 0)
		return one->ttl < 0 && other->ttl < 0;
	return difference <= most && difference >= -most;
}

static bool
are_marks_equal(const struct holding *one, const struct holding *other)
{
	return one->is_stale == other->is_stale &&
	    one->is_awaited == other->is_awaited;
}

const char *
holdings_difference(const struct holding *at_authority,
    const struct holding *at_mirror)
{
	if (!at_authority->is_there && !at_mirror->is_there)
		return NULL;
	if (!at_authority->is_there)
		return is_ending(at_mirror) ? NULL : "only on the mirror";
	if (!at_mirror->is_there)
		return is_ending(at_authority) ? NULL : "not on the mirror";
	if (!are_values_equal(at_authority, at_mirror))
		return "another value";
	if (at_authority->flags != at_mirror->flags)
		return "other flags";
	if (!are_ttls_equal(at_authority, at_mirror))
		return "another time to live";
	return are_marks_equal(at_authority, at_mirror) ? NULL : "other marks";
}

bool
holdings_have_drifted(const struct holding *at_authority,
    const struct holding *at_mirror)
{
	return at_authority->is_there && at_mirror->is_there &&
	    at_authority->is_number &&
	    are_values_equal(at_authority, at_mirror) &&
	    at_authority->flags == at_mirror->flags;
}

/* Who touches an item, or wins it, leaves its token as it is.  Without a token
   that tells, the same content counts: what has changed, and changed back, is
   the same at both reads. */
bool
holding_is_unchanged(const struct holding *before, const struct holding *after)
{
	bool has_token = before->cas != 0 && after->cas != 0;

	if (!before->is_there || !after->is_there)
		return before->is_there == after->is_there;
	if (has_token && before->cas != after->cas)
		return false;
	return are_values_equal(before, after) &&
	    before->flags == after->flags && are_ttls_equal(before, after) &&
	    are_marks_equal(before, after);
}
