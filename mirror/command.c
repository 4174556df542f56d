/*
 * Write commands in the form in which servers get them.
 *
 * Invariant: only keys and the arguments of meta flags are copied from a
 * client's line, and proto.c has checked both.  All words, spaces and numbers
 * are written here.
 */

#include "mirror/command.h"

#include <assert.h>
#include <string.h>

/* Digits of the largest number, or of the smallest one with its sign. */
enum { NUMBER_MAX = 20 };

static const char *const command_names[] = {
	[PROTO_GET] = "get",
	[PROTO_GETS] = "gets",
	[PROTO_GAT] = "gat",
	[PROTO_GATS] = "gats",
	[PROTO_SET] = "set",
	[PROTO_ADD] = "add",
	[PROTO_REPLACE] = "replace",
	[PROTO_APPEND] = "append",
	[PROTO_PREPEND] = "prepend",
	[PROTO_CAS] = "cas",
	[PROTO_INCR] = "incr",
	[PROTO_DECR] = "decr",
	[PROTO_TOUCH] = "touch",
	[PROTO_DELETE] = "delete",
	[PROTO_MG] = "mg",
	[PROTO_MS] = "ms",
	[PROTO_MD] = "md",
	[PROTO_MA] = "ma",
	[PROTO_ME] = "me",
};

static_assert(PROTO_MS > PROTO_MG && PROTO_MD > PROTO_MG &&
	PROTO_MA > PROTO_MG && PROTO_MN > PROTO_MG && PROTO_ME == PROTO_MG + 5,
    "the meta commands are next to each other");
static_assert(PROTO_GETS < PROTO_GAT && PROTO_GATS == PROTO_GAT + 1 &&
	PROTO_SET == PROTO_GATS + 1,
    "the get family is at the start");

static inline void
put(struct command *c, const char *bytes, size_t n)
{
	assert(c->length + n <= sizeof(c->line));
	memcpy(c->line + c->length, bytes, n);
	c->length += n;
}

static void
put_text(struct command *c, const char *text)
{
	put(c, text, strlen(text));
}

static size_t
format_number(char *to, uint64_t number)
{
	char digits[NUMBER_MAX];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	memcpy(to, digits + n, sizeof(digits) - n);
	return sizeof(digits) - n;
}

static size_t
format_signed(char *to, int32_t number)
{
	if (number >= 0)
		return format_number(to, (uint64_t)number);
	*to = '-';
	return 1 + format_number(to + 1, (uint64_t) - (int64_t)number);
}

/* Put a space and a number. */
static void
put_number(struct command *c, uint64_t number)
{
	assert(c->length + 1 + NUMBER_MAX <= sizeof(c->line));
	c->line[c->length++] = ' ';
	c->length += format_number(c->line + c->length, number);
}

static void
put_signed(struct command *c, int32_t number)
{
	assert(c->length + 1 + NUMBER_MAX <= sizeof(c->line));
	c->line[c->length++] = ' ';
	c->length += format_signed(c->line + c->length, number);
}

static void
begin_line(struct command *c, const char *name, const struct proto_request *r,
    const char *bytes, enum proto_expect expect)
{
	assert(r->key.length > 0 && r->key.length <= PROTO_KEY_MAX);
	c->length = 0;
	c->has_data = false;
	c->expect = expect;
	put_text(c, name);
	put(c, " ", 1);
	put(c, bytes + r->key.at, r->key.length);
}

static void
end_line(struct command *c)
{
	put(c, "\r\n", 2);
}

bool
command_is_meta(const struct proto_request *r)
{
	return r->command >= PROTO_MG && r->command <= PROTO_ME;
}

static bool
takes_argument(char flag)
{
	return memchr("DEFJMNORT", flag, 9) != NULL;
}

/*
 * Put those meta flags for which chosen() is true.  The argument of a C becomes
 * cas.  Of a flag that takes no argument only the letter is put, because
 * memcached ignores what follows it.
 */
static void
put_flags(struct command *c, const struct proto_request *r, const char *bytes,
    bool (*chosen)(char flag), uint64_t cas)
{
	size_t at = r->meta.at;
	size_t end = at + r->meta.length;
	struct proto_span token;

	while (proto_token(bytes, end, &at, &token)) {
		if (!chosen(bytes[token.at]))
			continue;
		if (bytes[token.at] == 'C') {
			put(c, " C", 2);
			assert(c->length + NUMBER_MAX <= sizeof(c->line));
			c->length += format_number(c->line + c->length, cas);
			continue;
		}
		put(c, " ", 1);
		put(c, bytes + token.at,
		    takes_argument(bytes[token.at]) ? token.length : 1);
	}
}

/*
 * Forward
 */

static void
put_storage(struct command *c, const char *name, const struct proto_request *r,
    const char *bytes)
{
	begin_line(c, name, r, bytes, PROTO_EXPECT_STORED);
	put_number(c, r->flags);
	put_signed(c, r->exptime);
	put_number(c, r->data.length);
	c->has_data = true;
}

/* Write a delete without the end of its line.  A key that is called noreply is
   no key to the newest memcacheds at the end of a line: 0 is what they also
   take there, and ignore, from old clients. */
static void
begin_delete(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	static const char word[] = "noreply";

	begin_line(c, "delete", r, bytes, PROTO_EXPECT_DELETED);
	if (r->key.length == sizeof(word) - 1 &&
	    memcmp(bytes + r->key.at, word, sizeof(word) - 1) == 0)
		put(c, " 0", 2);
}

/* Whether a flag is sent to servers.  q concerns the client only, and P and L
   are for proxies. */
static bool
is_forwarded(char flag)
{
	return flag != 'q' && flag != 'P' && flag != 'L';
}

static void
forward_meta(struct command *c, const struct proto_request *r,
    const char *bytes, uint64_t cas)
{
	static const enum proto_expect expects[] = {
		[PROTO_MG] = PROTO_EXPECT_META_GET,
		[PROTO_MS] = PROTO_EXPECT_META_SET,
		[PROTO_MD] = PROTO_EXPECT_META_DELETE,
		[PROTO_MA] = PROTO_EXPECT_META_ARITHMETIC,
		[PROTO_ME] = PROTO_EXPECT_META_DEBUG,
	};

	assert(r->command != PROTO_MN);
	begin_line(c, command_names[r->command], r, bytes, expects[r->command]);
	if (r->command == PROTO_MS) {
		put_number(c, r->data.length);
		c->has_data = true;
	}
	if (r->command == PROTO_ME)
		put(c, " b", r->base64 ? 2 : 0);
	else
		put_flags(c, r, bytes, is_forwarded, cas);
	if (r->command == PROTO_MA && !r->has_value)
		put(c, " v", 2);
	end_line(c);
}

static void
put_get(struct command *c, const struct proto_request *r, const char *bytes)
{
	assert(r->command <= PROTO_GATS);
	assert(r->key.length > 0 && r->key.length <= PROTO_KEY_MAX);
	c->length = command_get(c->line, r);
	c->has_data = false;
	c->expect = r->command == PROTO_GETS || r->command == PROTO_GATS ?
	    PROTO_EXPECT_VALUES_CAS :
	    PROTO_EXPECT_VALUES;
	put(c, " ", 1);
	put(c, bytes + r->key.at, r->key.length);
}

void
command_forward(struct command *c, const struct proto_request *r,
    const char *bytes, uint64_t cas)
{
	assert(r->error == NULL || r->too_large);
	if (r->too_large) {
		command_delete(c, r, bytes);
		return;
	}
	if (command_is_meta(r)) {
		forward_meta(c, r, bytes, cas);
		return;
	}
	switch (r->command) {
	case PROTO_SET:
	case PROTO_ADD:
	case PROTO_REPLACE:
	case PROTO_APPEND:
	case PROTO_PREPEND:
		put_storage(c, command_names[r->command], r, bytes);
		break;
	case PROTO_CAS:
		put_storage(c, "cas", r, bytes);
		put_number(c, cas);
		break;
	case PROTO_INCR:
	case PROTO_DECR:
		begin_line(c, command_names[r->command], r, bytes,
		    PROTO_EXPECT_NUMBER);
		put_number(c, r->delta);
		break;
	case PROTO_TOUCH:
		begin_line(c, "touch", r, bytes, PROTO_EXPECT_TOUCHED);
		put_signed(c, r->exptime);
		break;
	case PROTO_DELETE:
		begin_delete(c, r, bytes);
		break;
	default:
		put_get(c, r, bytes);
	}
	end_line(c);
}

/*
 * The table of effects.
 *
 *   the authority answered                         the mirror gets
 *
 *   STORED to set, add, replace, cas               SET
 *   STORED to append, prepend                      SAME
 *   a number to incr, decr; VA to ma               SAME
 *   TOUCHED to touch; a hit of gat, gats           TOUCH
 *   VA or HD to mg with T                          TOUCH
 *   DELETED or NOT_FOUND to delete                 DELETE
 *   HD or NF to md                                 DELETE
 *   HD to ms with mode S, E or R                   SET
 *   HD to ms with mode S, E or R, with C and I     DELETE
 *   HD to ms with mode A or P                      SAME
 *   HD to ms with mode A or P, with N              DELETE
 *   SERVER_ERROR to set or ms                      DELETE
 *   DELETED, NOT_FOUND, HD or NF to the delete
 *     for a set or ms whose value is too large     DELETE
 *   anything else                                  NOTHING
 *
 * Where a reply does not say enough, the effect is a delete: at worst it makes
 * a miss.
 */

static bool
is_append(const struct proto_request *r)
{
	if (r->command == PROTO_MS)
		return r->mode == 'A' || r->mode == 'P';
	return r->command == PROTO_APPEND || r->command == PROTO_PREPEND;
}

enum command_effect
command_effect_of(const struct proto_request *r, enum proto_result result)
{
	bool deletes = r->command == PROTO_DELETE || r->command == PROTO_MD ||
	    r->too_large;
	bool overwrites = r->command == PROTO_SET || r->command == PROTO_MS;

	assert(r->command >= PROTO_GAT && r->command <= PROTO_ME);
	switch (result) {
	case PROTO_STORED:
		return is_append(r) ? COMMAND_SAME : COMMAND_SET;
	case PROTO_NUMBER:
		return COMMAND_SAME;
	case PROTO_TOUCHED:
	case PROTO_VALUE:
		return COMMAND_TOUCH;
	case PROTO_DELETED:
		return COMMAND_DELETE;
	case PROTO_NOT_FOUND:
	case PROTO_META_NF:
		return deletes ? COMMAND_DELETE : COMMAND_NOTHING;
	case PROTO_META_VALUE:
		if (r->command == PROTO_MA)
			return COMMAND_SAME;
		return r->has_ttl ? COMMAND_TOUCH : COMMAND_NOTHING;
	case PROTO_META_HD:
		if (deletes)
			return COMMAND_DELETE;
		if (r->command == PROTO_MG)
			return r->has_ttl ? COMMAND_TOUCH : COMMAND_NOTHING;
		/* With N, the reply does not say whether the item was made. */
		if (is_append(r))
			return r->has_vivify ? COMMAND_DELETE : COMMAND_SAME;
		/* With C and I, the item may have been stored as stale. */
		return r->has_invalidate && r->has_cas ?
		    COMMAND_DELETE :
		    COMMAND_SET;
	case PROTO_SERVER_ERROR:
		/* memcached has dropped the value that was to be replaced. */
		return overwrites ? COMMAND_DELETE : COMMAND_NOTHING;
	default:
		return COMMAND_NOTHING;
	}
}

/*
 * Effects
 */

void
command_delete(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	struct proto_request plain = { .base64 = false };
	char key[PROTO_KEY_MAX];

	if (r->base64)
		plain.key.length = (uint32_t)proto_base64_decode(bytes +
			r->key.at,
		    r->key.length, key);
	if (r->base64 && proto_base64_is_needed(key, plain.key.length)) {
		begin_line(c, "md", r, bytes, PROTO_EXPECT_META_DELETE);
		put_text(c, " b");
	} else if (r->base64) {
		begin_delete(c, &plain, key);
	} else {
		begin_delete(c, r, bytes);
	}
	end_line(c);
}

bool
command_has_deleted(const struct proto_request *r, enum proto_result result)
{
	switch (result) {
	case PROTO_ERROR:
	case PROTO_CLIENT_ERROR:
		return r->base64;
	case PROTO_SERVER_ERROR:
		return false;
	default:
		return true;
	}
}

static void
mirror_set(struct command *c, const struct proto_request *r, const char *bytes)
{
	if (!r->base64) {
		put_storage(c, "set", r, bytes);
		end_line(c);
		return;
	}
	begin_line(c, "ms", r, bytes, PROTO_EXPECT_META_SET);
	assert(c->length + 4 * NUMBER_MAX <= sizeof(c->line));
	put_number(c, r->data.length);
	put_text(c, " b F");
	c->length += format_number(c->line + c->length, r->flags);
	put_text(c, " T");
	c->length += format_signed(c->line + c->length, r->exptime);
	c->has_data = true;
	end_line(c);
}

static void
mirror_touch(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	if (!r->base64) {
		begin_line(c, "touch", r, bytes, PROTO_EXPECT_TOUCHED);
		put_signed(c, r->exptime);
	} else {
		begin_line(c, "mg", r, bytes, PROTO_EXPECT_META_GET);
		put_text(c, " b T");
		c->length += format_signed(c->line + c->length, r->exptime);
	}
	end_line(c);
}

/* Whether the mirror needs a flag of an ma to do the same. */
static bool
is_arithmetic(char flag)
{
	return strchr("bNJDTM", flag) != NULL;
}

static bool
is_key_or_mode(char flag)
{
	return flag == 'b' || flag == 'M';
}

/* The same command once more: an ms that appends or prepends, or an ma. */
static void
mirror_meta(struct command *c, const struct proto_request *r, const char *bytes)
{
	if (r->command == PROTO_MS) {
		assert(is_append(r));
		begin_line(c, "ms", r, bytes, PROTO_EXPECT_META_SET);
		put_number(c, r->data.length);
		put_flags(c, r, bytes, is_key_or_mode, 0);
		c->has_data = true;
	} else {
		assert(r->command == PROTO_MA);
		begin_line(c, "ma", r, bytes, PROTO_EXPECT_META_ARITHMETIC);
		put_flags(c, r, bytes, is_arithmetic, 0);
		put_text(c, " v");
	}
	end_line(c);
}

void
command_mirror(struct command *c, const struct proto_request *r,
    const char *bytes, enum command_effect effect)
{
	assert(effect == COMMAND_DELETE || !r->too_large);
	switch (effect) {
	case COMMAND_SET:
		mirror_set(c, r, bytes);
		break;
	case COMMAND_TOUCH:
		mirror_touch(c, r, bytes);
		break;
	case COMMAND_DELETE:
		command_delete(c, r, bytes);
		break;
	default:
		assert(effect == COMMAND_SAME);
		if (command_is_meta(r))
			mirror_meta(c, r, bytes);
		else
			command_forward(c, r, bytes, 0);
	}
}

size_t
command_get(char *line, const struct proto_request *r)
{
	size_t n = strlen(command_names[r->command]);

	assert(r->command <= PROTO_GATS);
	memcpy(line, command_names[r->command], n);
	if (r->command == PROTO_GAT || r->command == PROTO_GATS) {
		line[n++] = ' ';
		n += format_signed(line + n, r->exptime);
	}
	return n;
}

size_t
command_tag(char *token, const char *digits, size_t n, uint64_t tag)
{
	uint64_t number = proto_number(digits, n);

	assert((tag & COMMAND_CAS_MASK) == 0);
	if (number != 0)
		number = (number & COMMAND_CAS_MASK) | tag;
	return format_number(token, number);
}
