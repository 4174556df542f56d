/*
 * What a memcached can do, by its version and its settings.
 *
 * Invariant: a row of the table was tried with the memcacheds of the version
 * named and of the one before it, or of one between these two and our time.
 * What a server is not known to do counts as what it cannot.
 */

#include "mirror/abilities.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "mirror/identity.h"

struct row {
	/* For the log; NULL: nobody misses it. */
	const char *what;
	/* The first version of memcached that can. */
	unsigned int since[3];
	/* The server was started with an option that switches it off. */
	bool (*is_off)(const struct identity *identity);
};

static bool
is_without_cas(const struct identity *identity)
{
	return identity->has_no_cas;
}

static bool
is_without_flush(const struct identity *identity)
{
	return identity->refuses_flush;
}

/*
 * The table of abilities.  Behind each row: what is done without it.
 *
 * A classic command is any that is not a meta one.  Whoever writes a command
 * that depends on a row asks for it: classic.c for the commands of clients and
 * their effects, and those named.
 */
static const struct row rows[ABILITY_COUNT] = {
	/* The command touch.  Refused; its effect becomes a delete. */
	[ABILITY_TOUCH] = { "touch", { 1, 4, 8 }, NULL },
	/* gat and gats as text.  Refused, in multiget.c; and mg with T is a
	   touch, if it asks for nothing else. */
	[ABILITY_GAT] = { "gat", { 1, 5, 3 }, NULL },
	/* lru_crawler metadump.  dump.c: warming takes the place of a list. */
	[ABILITY_METADUMP] = { "metadump", { 1, 4, 31 }, NULL },
	/* lru_crawler metadump hash.  dump.c: metadump all, which may lack keys
	   that move in the LRU meanwhile. */
	[ABILITY_METADUMP_HASH] = { NULL, { 1, 6, 9 }, NULL },
	/* mg of a plain key with k, f, t, v and c answers as it does today.
	   rebuild.c: warming takes the place of copies. */
	[ABILITY_META_READ] = { NULL, { 1, 6, 0 }, NULL },
	/* ms with its length as the second word, and all of mg, md and ma, with
	   today's replies.  Until 1.6.9 the length of ms was a flag, HD was OK,
	   and an ms of today was refused, and its data read as commands.
	   Carried out by classic commands where they mean the same; otherwise
	   refused.  Effects are classic ones, or deletes. */
	[ABILITY_META] = { "meta commands", { 1, 6, 10 }, NULL },
	/* Keys in base64.  One that can be written plainly, is.  No other can
	   be there: mg is a miss, other commands are refused, and effects are
	   not sent. */
	[ABILITY_BASE64] = { "keys in base64", { 1, 6, 10 }, NULL },
	/* md with C compares with C; it compared with 0 before.  Refused. */
	[ABILITY_META_DELETE_CAS] = { "md with C", { 1, 6, 13 }, NULL },
	/* mg without flags; k and O in the reply to a mg that has missed; no
	   spare spaces in the replies to md and ma.  Classic commands, where
	   they mean the same: then we write the reply. */
	[ABILITY_META_TIDY] = { "meta replies of today", { 1, 6, 18 }, NULL },
	/* N of an ms that appends makes the item.  Carried out in two steps; a
	   miss of the first one is the reply here. */
	[ABILITY_META_APPEND_MAKES] = { NULL, { 1, 6, 19 }, NULL },
	/* The flag E, for the cas token that an item gets, and md with x.
	   Refused, with the error of 1.6.18. */
	[ABILITY_META_CHOSEN_CAS] = { NULL, { 1, 6, 27 }, NULL },
	/* cas, and the flag C.  With -C a server says STORED without having
	   compared, or EXISTS each time.  Refused. */
	[ABILITY_CAS] = { "cas (-C)", { 0, 0, 0 }, is_without_cas },
	/* flush_all is not refused, as it is with -F.  flush.c and invalidate.c
	   ask identity.refuses_flush, which also a refusal sets. */
	[ABILITY_FLUSH_ALL] = { "flush_all (-F)", { 0, 0, 0 },
	    is_without_flush },
};

static_assert(ABILITY_COUNT <= 32, "they fit in a set");

struct abilities
abilities_of(const struct identity *identity)
{
	struct abilities abilities = { 0 };
	const struct row *row;
	unsigned int i;

	assert(identity->known);
	for (i = 0; i < ABILITY_COUNT; i++) {
		row = &rows[i];
		if (identity_is_since(identity, row->since[0], row->since[1],
			row->since[2]) &&
		    (row->is_off == NULL || !row->is_off(identity)))
			abilities.set |= UINT32_C(1) << i;
	}
	return abilities;
}

bool
abilities_has(const struct abilities *abilities, enum ability ability)
{
	assert(ability < ABILITY_COUNT);
	return (abilities->set >> ability & 1) != 0;
}

bool
abilities_missing(const struct abilities *abilities, char *out, size_t size)
{
	size_t n = 0;
	unsigned int i;

	assert(size > 0);
	out[0] = '\0';
	for (i = 0; i < ABILITY_COUNT; i++) {
		if (rows[i].what == NULL || abilities_has(abilities, i))
			continue;
		snprintf(out + n, size - n, "%s%s", n > 0 ? ", " : "",
		    rows[i].what);
		n += strlen(out + n);
	}
	return n > 0;
}
