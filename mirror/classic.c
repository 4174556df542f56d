/*
 * Carry out a meta command by a classic one.
 *
 *   ms with M S E A P R     set add append prepend replace
 *   ms with C               cas
 *   md                      delete
 *   ma with M I D           incr decr
 *   mg; with c              get; gets
 *   mg with T               touch, or gat and gats if it asks for the item
 *
 * Invariant: a classic command is made only if its reply tells all that the
 * reply to the meta command would have told, and if it leaves the same item.
 * The flags b, k, O, q, P and L are no obstacle: they are about the key, or
 * about the reply, which meta_reply.c writes.
 */

#include "mirror/classic.h"

#include <assert.h>
#include <string.h>

/*
 * The flags that a classic command can stand for.  From a dash on, which is no
 * flag, those that memcached 1.6.18 knows, and ignores in this command.
 */
static const char flags_of_get[] = "TvfskcbOqPL-CFMDJI";
static const char flags_of_touch[] = "TkbOqPL-CFMDJI";
static const char flags_of_set[] = "TFCIMkbOqPL-DJRvfsthlu";
static const char flags_of_delete[] = "TkbOqPL-FMDJRNcvfsthlu";
static const char flags_of_arithmetic[] = "DJMvkbOqPL-FIRfshlu";

/* Whether all flags of r are among these letters. */
static bool
has_only(const struct proto_request *r, const char *bytes, const char *letters)
{
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	struct proto_span token;

	while (proto_token(bytes, end, &at, &token))
		if (strchr(letters, bytes[token.at]) == NULL)
			return false;
	return true;
}

static bool
has_flag(const struct proto_request *r, const char *bytes, char letter)
{
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	struct proto_span token;

	while (proto_token(bytes, end, &at, &token))
		if (bytes[token.at] == letter)
			return true;
	return false;
}

/* Whether a key, as it is on a command line, has no other form than base64. */
static bool
needs_base64(const char *key, size_t length, bool base64)
{
	const struct proto_request r = {
		.key = { 0, (uint32_t)length },
		.base64 = base64,
	};

	return command_needs_base64(&r, key);
}

bool
classic_can_hold(const struct abilities *abilities, const char *key,
    size_t length, bool base64)
{
	return abilities_has(abilities, ABILITY_BASE64) ||
	    !needs_base64(key, length, base64);
}

/* Make *classic the same command as r, with its key as it is without base64. */
static void
write_plainly(struct classic *classic, const struct proto_request *r,
    const char *bytes)
{
	struct proto_request key;

	classic->r = *r;
	classic->bytes = command_plain_key(r, bytes, &key, classic->key);
	classic->r.key = key.key;
	classic->r.base64 = key.base64;
}

static enum proto_command
command_of_mode(char mode)
{
	switch (mode) {
	case 'A':
		return PROTO_APPEND;
	case 'P':
		return PROTO_PREPEND;
	case 'E':
		return PROTO_ADD;
	case 'R':
		return PROTO_REPLACE;
	case 'I':
		return PROTO_INCR;
	case 'D':
		return PROTO_DECR;
	default:
		assert(mode == 'S');
		return PROTO_SET;
	}
}

/* Choose the classic command for a mg.  Returns false if there is none. */
static bool
choose_get(const struct abilities *abilities, const struct proto_request *r,
    const char *bytes, enum proto_command *command)
{
	bool has_cas = has_flag(r, bytes, 'c');

	if (!has_only(r, bytes, flags_of_get))
		return false;
	if (!r->has_ttl) {
		*command = has_cas ? PROTO_GETS : PROTO_GET;
		return true;
	}
	if (has_only(r, bytes, flags_of_touch)) {
		*command = PROTO_TOUCH;
		return abilities_has(abilities, ABILITY_TOUCH);
	}
	*command = has_cas ? PROTO_GATS : PROTO_GAT;
	return abilities_has(abilities, ABILITY_GAT);
}

/* The same for any meta command.  With C, an ms is a cas, which has no modes;
   with I as well it may store a stale item. */
static bool
choose_command(const struct abilities *abilities, const struct proto_request *r,
    const char *bytes, enum proto_command *command)
{
	switch (r->command) {
	case PROTO_MG:
		return choose_get(abilities, r, bytes, command);
	case PROTO_MS:
		*command = r->has_cas ? PROTO_CAS : command_of_mode(r->mode);
		return has_only(r, bytes, flags_of_set) &&
		    (!r->has_cas || (r->mode == 'S' && !r->has_invalidate));
	case PROTO_MD:
		*command = PROTO_DELETE;
		return has_only(r, bytes, flags_of_delete);
	case PROTO_MA:
		*command = command_of_mode(r->mode);
		return has_only(r, bytes, flags_of_arithmetic);
	default:
		return false;
	}
}

/* Whether a server with these abilities understands r, a meta command. */
static bool
is_understood(const struct abilities *abilities, const struct proto_request *r)
{
	return abilities_has(abilities, ABILITY_META) &&
	    (r->command == PROTO_MS || r->command == PROTO_ME ||
		abilities_has(abilities, ABILITY_META_TIDY));
}

enum classic_way
classic_make(struct classic *classic, const struct abilities *abilities,
    const struct proto_request *r, const char *bytes)
{
	bool is_plain = !needs_base64(bytes + r->key.at, r->key.length,
	    r->base64);
	enum proto_command command;
	bool is_chosen;

	assert(command_is_meta(r));
	if (is_understood(abilities, r))
		return CLASSIC_NONE;
	is_chosen = choose_command(abilities, r, bytes, &command);
	if (is_plain && r->too_large)
		return CLASSIC_NONE; /* a delete, which all understand */
	if (is_plain && is_chosen) {
		write_plainly(classic, r, bytes);
		classic->r.command = command;
		return CLASSIC_INSTEAD;
	}
	if (abilities_has(abilities, ABILITY_META))
		return CLASSIC_NONE;
	return is_chosen && r->command == PROTO_MG ?
	    CLASSIC_MISS :
	    CLASSIC_TOO_OLD;
}

enum classic_way
classic_way(const struct abilities *abilities, const struct proto_request *r,
    const char *bytes)
{
	struct classic classic;

	if ((r->command == PROTO_CAS || r->has_cas) &&
	    !abilities_has(abilities, ABILITY_CAS))
		return CLASSIC_NO_CAS;
	if (r->command == PROTO_TOUCH)
		return abilities_has(abilities, ABILITY_TOUCH) ?
		    CLASSIC_NONE :
		    CLASSIC_TOO_OLD;
	if (!command_is_meta(r))
		return CLASSIC_NONE;
	if (r->command == PROTO_MD && r->has_cas &&
	    !abilities_has(abilities, ABILITY_META_DELETE_CAS))
		return CLASSIC_TOO_OLD;
	return classic_make(&classic, abilities, r, bytes);
}

/*
 * Effects
 */

/* What a mirror that understands no meta commands gets for an effect of r: the
   same, if it can be had by a classic command, or a delete.  classic is r with
   a plain key, and becomes that command. */
static enum command_effect
soften(const struct abilities *abilities, struct classic *classic,
    enum command_effect effect)
{
	struct proto_request *r = &classic->r;

	switch (effect) {
	case COMMAND_SET:
		/* The number that an ma has made is in no data. */
		return r->command == PROTO_MA ? COMMAND_DELETE : COMMAND_SET;
	case COMMAND_TOUCH:
		return abilities_has(abilities, ABILITY_TOUCH) ?
		    COMMAND_TOUCH :
		    COMMAND_DELETE;
	case COMMAND_SAME:
		/* What a classic command cannot carry. */
		if (command_is_meta(r) &&
		    (r->has_vivify || (r->command == PROTO_MA && r->has_ttl)))
			return COMMAND_DELETE;
		if (command_is_meta(r))
			r->command = command_of_mode(r->mode);
		return COMMAND_SAME;
	default:
		return COMMAND_DELETE;
	}
}

enum command_effect
classic_mirror(struct command *command, const struct abilities *abilities,
    const struct proto_request *r, const char *bytes,
    enum command_effect effect)
{
	struct classic classic;

	assert(effect != COMMAND_NOTHING);
	if (abilities_has(abilities, ABILITY_META)) {
		command_mirror(command, r, bytes, effect);
		return effect;
	}
	if (needs_base64(bytes + r->key.at, r->key.length, r->base64))
		return COMMAND_NOTHING;
	write_plainly(&classic, r, bytes);
	effect = soften(abilities, &classic, effect);
	command_mirror(command, &classic.r, classic.bytes, effect);
	return effect;
}
