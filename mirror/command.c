/*
 * Write commands in the form in which servers get them.
 *
 * Invariant: only keys, the arguments of meta flags, and the words of a storage
 * command in its usual form are copied from a client's line, and proto.c has
 * checked all of them.  All else is written here.
 */

#include "mirror/command.h"

#include <assert.h>
#include <string.h>

#include "digits.h"

enum {
	/* The TTLs of the copies of an item differ by less than this. */
	TTL_SLACK = 5,
};

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
format_signed(char *to, int32_t number)
{
	if (number >= 0)
		return digits_write(to, (uint64_t)number);
	*to = '-';
	return 1 + digits_write(to + 1, (uint64_t) - (int64_t)number);
}

/* Put a space and a number. */
static void
put_number(struct command *c, uint64_t number)
{
	assert(c->length + 1 + DIGITS_MAX <= sizeof(c->line));
	c->line[c->length++] = ' ';
	c->length += digits_write(c->line + c->length, number);
}

static void
put_signed(struct command *c, int32_t number)
{
	assert(c->length + 1 + DIGITS_MAX <= sizeof(c->line));
	c->line[c->length++] = ' ';
	c->length += format_signed(c->line + c->length, number);
}

/* Put a name, and n bytes of words behind it. */
static void
start_line(struct command *c, const char *name, const char *words, size_t n,
    enum proto_expect expect)
{
	c->length = 0;
	c->has_data = false;
	c->expect = expect;
	put_text(c, name);
	put(c, " ", 1);
	put(c, words, n);
}

static void
begin_line(struct command *c, const char *name, const struct proto_request *r,
    const char *bytes, enum proto_expect expect)
{
	assert(r->key.length > 0 && r->key.length <= PROTO_KEY_MAX);
	start_line(c, name, bytes + r->key.at, r->key.length, expect);
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

bool
command_appends(const struct proto_request *r)
{
	if (r->command == PROTO_MS)
		return r->mode == 'A' || r->mode == 'P';
	return r->command == PROTO_APPEND || r->command == PROTO_PREPEND;
}

bool
command_counts(const struct proto_request *r)
{
	return r->command == PROTO_INCR || r->command == PROTO_DECR ||
	    (r->command == PROTO_MA && !command_makes_number(r));
}

bool
command_makes_number(const struct proto_request *r)
{
	return r->command == PROTO_MA && r->mode == COMMAND_MAKES;
}

bool
command_needs_base64(const struct proto_request *r, const char *bytes)
{
	char room[PROTO_KEY_MAX];
	struct proto_request key;

	if (!r->base64)
		return false;
	command_plain_key(r, bytes, &key, room);
	return key.base64;
}

static bool
takes_argument(char flag)
{
	return memchr("DEFJO", flag, 5) != NULL;
}

/* Put a flag with seconds. */
static void
put_seconds(struct command *c, const char *flag, int32_t seconds)
{
	put_text(c, flag);
	assert(c->length + DIGITS_MAX <= sizeof(c->line));
	c->length += format_signed(c->line + c->length, seconds);
}

/*
 * Put a meta flag as r has it now, which is not always as it was written.  The
 * argument of a C becomes cas.  T of ms is put by its callers.  Of a flag that
 * takes no argument only the letter is put, because memcached ignores what
 * follows it.
 */
static void
put_flag(struct command *c, const struct proto_request *r, const char *text,
    size_t length, uint64_t cas)
{
	switch (text[0]) {
	case 'C':
		put(c, " C", 2);
		assert(c->length + DIGITS_MAX <= sizeof(c->line));
		c->length += digits_write(c->line + c->length, cas);
		break;
	case 'M':
		if (r->mode == COMMAND_IS_STALE && r->command == PROTO_MS)
			break;
		put(c, " M", 2);
		put(c, &r->mode, 1);
		break;
	case 'N':
		if (r->has_vivify)
			put_seconds(c, " N", r->vivify);
		break;
	case 'R':
		if (r->has_recache)
			put_seconds(c, " R", r->recache);
		break;
	case 'T':
		if (r->command != PROTO_MS)
			put_seconds(c, " T", r->exptime);
		break;
	case 'I':
		put(c, " I", r->has_invalidate ? 2 : 0);
		break;
	case 'J':
		if (!r->has_vivify)
			break;
		/* fall through */
	default:
		put(c, " ", 1);
		put(c, text, takes_argument(text[0]) ? length : 1);
	}
}

/* Put those meta flags for which chosen() is true. */
static void
put_flags(struct command *c, const struct proto_request *r, const char *bytes,
    bool (*chosen)(char flag), uint64_t cas)
{
	size_t at = r->meta.at;
	size_t end = at + r->meta.length;
	struct proto_span token;

	while (proto_token(bytes, end, &at, &token))
		if (chosen(bytes[token.at]))
			put_flag(c, r, bytes + token.at, token.length, cas);
}

const char *
command_plain_key(const struct proto_request *r, const char *bytes,
    struct proto_request *key, char *room)
{
	size_t n;

	*key = (struct proto_request){ .key = r->key, .base64 = r->base64 };
	if (!r->base64)
		return bytes;
	n = proto_base64_decode(bytes + r->key.at, r->key.length, room);
	if (proto_base64_is_needed(room, n))
		return bytes;
	key->base64 = false;
	key->key = (struct proto_span){ 0, (uint32_t)n };
	return room;
}

/*
 * Forward
 */

static void
put_storage(struct command *c, const char *name, const struct proto_request *r,
    const char *bytes)
{
	if (r->words.length > 0) {
		start_line(c, name, bytes + r->words.at, r->words.length,
		    PROTO_EXPECT_STORED);
	} else {
		begin_line(c, name, r, bytes, PROTO_EXPECT_STORED);
		put_number(c, r->flags);
		put_signed(c, r->exptime);
		put_number(c, r->data.length);
	}
	c->has_data = true;
}

/* Put the line end, and a number as data. */
static void
put_data_number(struct command *c, const char *digits, size_t n)
{
	end_line(c);
	put(c, digits, n);
	end_line(c);
}

/* Add the number of J, as memcached makes it for an ma.  The item is one of a
   key in base64 only if the key cannot be written otherwise. */
static void
forward_made(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	char room[PROTO_KEY_MAX], digits[DIGITS_MAX];
	size_t n = digits_write(digits, r->initial);
	struct proto_request key;

	bytes = command_plain_key(r, bytes, &key, room);
	begin_line(c, "ms", &key, bytes, PROTO_EXPECT_META_SET);
	put_number(c, n);
	put(c, " b", key.base64 ? 2 : 0);
	put_text(c, " ME c");
	put_seconds(c, " T", r->exptime);
	put_data_number(c, digits, n);
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

/* The same for a key that needs base64.  memcached forgets of some items that
   their key was in base64, and then writes it as it is, whatever bytes are in
   it: so k is not sent, and meta_reply.c writes it. */
static bool
is_forwarded_with_base64(char flag)
{
	return is_forwarded(flag) && flag != 'k';
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
	if (command_makes_number(r)) {
		forward_made(c, r, bytes);
		return;
	}
	begin_line(c, command_names[r->command], r, bytes, expects[r->command]);
	if (r->command == PROTO_MS) {
		put_number(c, r->data.length);
		c->has_data = true;
	}
	if (r->command == PROTO_ME)
		put(c, " b", r->base64 ? 2 : 0);
	else
		put_flags(c, r, bytes,
		    command_needs_base64(r, bytes) ? is_forwarded_with_base64 :
						     is_forwarded,
		    cas);
	if (r->command == PROTO_MS && r->has_ttl)
		put_seconds(c, " T", r->exptime);
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
 * Effects
 */

void
command_delete(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	struct proto_request key;
	char room[PROTO_KEY_MAX];

	bytes = command_plain_key(r, bytes, &key, room);
	if (key.base64) {
		begin_line(c, "md", &key, bytes, PROTO_EXPECT_META_DELETE);
		put_text(c, " b");
	} else {
		begin_delete(c, &key, bytes);
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

/* What forward_made() has added. */
static void
mirror_made(struct command *c, const struct proto_request *r, const char *bytes)
{
	char room[PROTO_KEY_MAX], digits[DIGITS_MAX];
	size_t n = digits_write(digits, r->initial);
	struct proto_request key;

	bytes = command_plain_key(r, bytes, &key, room);
	if (key.base64) {
		begin_line(c, "ms", &key, bytes, PROTO_EXPECT_META_SET);
		put_number(c, n);
		put_seconds(c, " b T", r->exptime);
	} else {
		begin_line(c, "set", &key, bytes, PROTO_EXPECT_STORED);
		put_number(c, 0);
		put_signed(c, r->exptime);
		put_number(c, n);
	}
	put_data_number(c, digits, n);
}

static void
mirror_set(struct command *c, const struct proto_request *r, const char *bytes)
{
	if (command_makes_number(r)) {
		mirror_made(c, r, bytes);
		return;
	}
	if (!r->base64) {
		put_storage(c, "set", r, bytes);
		end_line(c);
		return;
	}
	begin_line(c, "ms", r, bytes, PROTO_EXPECT_META_SET);
	assert(c->length + 4 * DIGITS_MAX <= sizeof(c->line));
	put_number(c, r->data.length);
	put_text(c, " b F");
	c->length += digits_write(c->line + c->length, r->flags);
	put_text(c, " T");
	c->length += format_signed(c->line + c->length, r->exptime);
	c->has_data = true;
	end_line(c);
}

/* With I, an item whose cas token is larger than the given one keeps its TTL,
   and whether a client has won it, and becomes stale.  Tokens are 1 and up. */
static void
mirror_set_stale(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	begin_line(c, "ms", r, bytes, PROTO_EXPECT_META_SET);
	put_number(c, r->data.length);
	put(c, " b", r->base64 ? 2 : 0);
	put_text(c, " C1 I F");
	assert(c->length + DIGITS_MAX <= sizeof(c->line));
	c->length += digits_write(c->line + c->length, r->flags);
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
		put_seconds(c, " b T", r->exptime);
	}
	end_line(c);
}

/* The flags of an ma that the mirror needs to do the same. */
static bool
is_arithmetic(char flag)
{
	return strchr("bDTM", flag) != NULL;
}

static bool
is_key_or_mode(char flag)
{
	return flag == 'b' || flag == 'M';
}

/* The flags of an mg that a client wins by, and of one that makes an item. */
static bool
is_winning(char flag)
{
	return strchr("bTR", flag) != NULL;
}

static bool
is_making(char flag)
{
	return strchr("bTN", flag) != NULL;
}

static bool
is_invalidating(char flag)
{
	return strchr("bTI", flag) != NULL;
}

/* The same command once more: an ms that appends or prepends, or an ma. */
static void
mirror_meta(struct command *c, const struct proto_request *r, const char *bytes)
{
	if (r->command == PROTO_MS) {
		assert(command_appends(r));
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

/* The copy on the mirror may end a little later than that of the authority,
   and is to be won as well. */
static void
mirror_win(struct command *c, const struct proto_request *r, const char *bytes)
{
	struct proto_request win = *r;

	if (win.recache > PROTO_RELATIVE_MAX)
		win.recache += win.recache < INT32_MAX - TTL_SLACK ?
		    TTL_SLACK :
		    0;
	else if (win.recache > PROTO_RELATIVE_MAX - TTL_SLACK)
		win.recache = PROTO_RELATIVE_MAX;
	else if (win.recache > 0)
		win.recache += TTL_SLACK;
	begin_line(c, "mg", r, bytes, PROTO_EXPECT_META_GET);
	put_flags(c, &win, bytes, is_winning, 0);
	end_line(c);
}

static void
mirror_mark(struct command *c, const struct proto_request *r, const char *bytes)
{
	begin_line(c, "md", r, bytes, PROTO_EXPECT_META_DELETE);
	put_text(c, r->base64 ? " b I" : " I");
	end_line(c);
}

/* Append nothing: memcached makes a new item, which has no marks. */
static void
mirror_strip(struct command *c, const struct proto_request *r,
    const char *bytes)
{
	begin_line(c, "ms", r, bytes, PROTO_EXPECT_META_SET);
	put_text(c, r->base64 ? " 0 b MA" : " 0 MA");
	end_line(c);
	end_line(c); /* of the data */
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
	case COMMAND_SET_STALE:
		mirror_set_stale(c, r, bytes);
		break;
	case COMMAND_TOUCH:
		mirror_touch(c, r, bytes);
		break;
	case COMMAND_WIN:
		mirror_win(c, r, bytes);
		break;
	case COMMAND_MAKE:
		begin_line(c, "mg", r, bytes, PROTO_EXPECT_META_GET);
		put_flags(c, r, bytes, is_making, 0);
		end_line(c);
		break;
	case COMMAND_STALE:
		begin_line(c, "md", r, bytes, PROTO_EXPECT_META_DELETE);
		put_flags(c, r, bytes, is_invalidating, 0);
		end_line(c);
		break;
	case COMMAND_MARK:
		mirror_mark(c, r, bytes);
		break;
	case COMMAND_STRIP:
		mirror_strip(c, r, bytes);
		break;
	case COMMAND_SAME:
		if (command_is_meta(r))
			mirror_meta(c, r, bytes);
		else
			command_forward(c, r, bytes, 0);
		break;
	default:
		assert(effect == COMMAND_DELETE || effect == COMMAND_UNKNOWN);
		command_delete(c, r, bytes);
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
	return digits_write(token, number);
}
