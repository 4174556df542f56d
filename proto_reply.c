/*
 * Say what the next element of a reply in some bytes is.
 *
 * Invariant: nothing at or behind bytes + n is read, and every span lies inside
 * the element.  quick_values() and quick_stored() give the same result as the
 * general way.  A server is not trusted to be a memcached: what a memcached
 * cannot have said to the request is PROTO_BAD.
 */

#include <assert.h>
#include <string.h>

#include "digits.h"
#include "hot_assert.h"
#include "proto.h"
#include "proto_scan.h"

enum {
	/* Bytes of the largest value that a memcached can be told to take. */
	LARGE_MAX = 1 << 30,
};

/* What may follow the word that a line of a reply begins with. */
enum form {
	FORM_BARE,       /* nothing */
	FORM_NUMBER,     /* nothing; the line is a number, without a word */
	FORM_TEXT,       /* nothing, or any text */
	FORM_VALUE,      /* key, flags, length, perhaps cas unique; then data */
	FORM_STAT,       /* name and value */
	FORM_VERSION,    /* text */
	FORM_META,       /* flags */
	FORM_META_VALUE, /* length, flags; then data */
};

struct word {
	const char *text;
	size_t length; /* bytes of text */
	enum proto_result result;
	enum form form;
};

/* clang-format off */
#define WORD(text, result, form) { text, sizeof(text) - 1, result, form }
#define WORD_END { NULL, 0, PROTO_ERROR, FORM_BARE }
/* clang-format on */

static const struct word words_error[] = {
	WORD("ERROR", PROTO_ERROR, FORM_TEXT),
	WORD("CLIENT_ERROR", PROTO_CLIENT_ERROR, FORM_TEXT),
	WORD("SERVER_ERROR", PROTO_SERVER_ERROR, FORM_TEXT),
	WORD_END,
};

static const struct word words_values[] = {
	WORD("VALUE", PROTO_VALUE, FORM_VALUE),
	WORD("END", PROTO_END, FORM_BARE),
	WORD_END,
};

static const struct word words_stored[] = {
	WORD("STORED", PROTO_STORED, FORM_BARE),
	WORD("NOT_STORED", PROTO_NOT_STORED, FORM_BARE),
	WORD("EXISTS", PROTO_EXISTS, FORM_BARE),
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END,
};

static const struct word words_number[] = {
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END,
};

static const struct word words_touched[] = {
	WORD("TOUCHED", PROTO_TOUCHED, FORM_BARE),
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END,
};

static const struct word words_deleted[] = {
	WORD("DELETED", PROTO_DELETED, FORM_BARE),
	WORD("NOT_FOUND", PROTO_NOT_FOUND, FORM_BARE),
	WORD_END,
};

/* In the meta commands, memcached before 1.6.10 says OK for HD. */
static const struct word words_meta_get[] = {
	WORD("VA", PROTO_META_VALUE, FORM_META_VALUE),
	WORD("EN", PROTO_META_EN, FORM_META),
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END,
};

static const struct word words_meta_set[] = {
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("NS", PROTO_META_NS, FORM_META),
	WORD("EX", PROTO_META_EX, FORM_META),
	WORD("NF", PROTO_META_NF, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END,
};

static const struct word words_meta_delete[] = {
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("NF", PROTO_META_NF, FORM_META),
	WORD("EX", PROTO_META_EX, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END,
};

static const struct word words_meta_arithmetic[] = {
	WORD("VA", PROTO_META_VALUE, FORM_META_VALUE),
	WORD("HD", PROTO_META_HD, FORM_META),
	WORD("NF", PROTO_META_NF, FORM_META),
	WORD("NS", PROTO_META_NS, FORM_META),
	WORD("EX", PROTO_META_EX, FORM_META),
	WORD("OK", PROTO_META_HD, FORM_META),
	WORD_END,
};

static const struct word words_meta_debug[] = {
	WORD("ME", PROTO_META_DEBUG, FORM_TEXT),
	WORD("EN", PROTO_META_EN, FORM_META),
	WORD_END,
};

static const struct word words_meta_noop[] = {
	WORD("MN", PROTO_OKAY, FORM_META),
	WORD_END,
};

static const struct word words_ok[] = {
	WORD("OK", PROTO_OKAY, FORM_BARE),
	WORD_END,
};

static const struct word words_version[] = {
	WORD("VERSION", PROTO_VERSION_LINE, FORM_VERSION),
	WORD_END,
};

static const struct word words_stats[] = {
	WORD("STAT", PROTO_STAT, FORM_STAT),
	WORD("END", PROTO_END, FORM_BARE),
	WORD_END,
};

static const struct word word_number = WORD("", PROTO_NUMBER, FORM_NUMBER);

static const struct word *const words[] = {
	[PROTO_EXPECT_VALUES] = words_values,
	[PROTO_EXPECT_VALUES_CAS] = words_values,
	[PROTO_EXPECT_STORED] = words_stored,
	[PROTO_EXPECT_NUMBER] = words_number,
	[PROTO_EXPECT_TOUCHED] = words_touched,
	[PROTO_EXPECT_DELETED] = words_deleted,
	[PROTO_EXPECT_META_GET] = words_meta_get,
	[PROTO_EXPECT_META_SET] = words_meta_set,
	[PROTO_EXPECT_META_DELETE] = words_meta_delete,
	[PROTO_EXPECT_META_ARITHMETIC] = words_meta_arithmetic,
	[PROTO_EXPECT_META_DEBUG] = words_meta_debug,
	[PROTO_EXPECT_META_NOOP] = words_meta_noop,
	[PROTO_EXPECT_OK] = words_ok,
	[PROTO_EXPECT_VERSION] = words_version,
	[PROTO_EXPECT_STATS] = words_stats,
};

static_assert(sizeof(words) / sizeof(words[0]) == PROTO_EXPECT_STATS + 1,
    "each kind of reply has its words");

/* Whether the line may have c directly behind this word. */
static bool
may_follow(const struct word *word, char c)
{
	if (word->form == FORM_BARE)
		return c == '\r';
	if (word->form == FORM_TEXT || word->form == FORM_META)
		return c == ' ' || c == '\r' ||
		    (c == ':' && word->result == PROTO_ERROR);
	return c == ' ';
}

/* The word of the list with which n bytes begin, or, if they are fewer than the
   word, may begin; NULL: none. */
static const struct word *
find_word(const struct word *list, const char *bytes, size_t n)
{
	size_t length;

	assert(n > 0);
	for (; list->text != NULL; list++) {
		length = n < list->length ? n : list->length;
		if (bytes[0] == list->text[0] &&
		    memcmp(bytes, list->text, length) == 0 &&
		    (n == length || may_follow(list, bytes[length])))
			return list;
	}
	return NULL;
}

/* Find the field behind the single space at *at, and move *at to its end.
   Returns false if there is none. */
static bool
next_field(const char *bytes, size_t end, size_t *at, struct proto_span *field)
{
	size_t start = *at + 1;

	assert(*at <= end);
	if (*at >= end || bytes[*at] != ' ')
		return false;
	*at = key_end(bytes, start, end);
	set_span(field, start, *at);
	return field->length > 0;
}

/* Read a number that a server wrote.  It has no leading zeros without end, so
   its length is limited. */
static bool
read_server_number(const char *text, size_t length, uint64_t *number)
{
	return length <= DIGITS_MAX && read_digits(text, length, number);
}

static bool
next_number(const char *bytes, size_t end, size_t *at, struct proto_span *field,
    uint64_t *number)
{
	return next_field(bytes, end, at, field) &&
	    read_server_number(bytes + field->at, field->length, number);
}

/* Look whether the data of this length, which is behind the line, has arrived,
   and ends in CRLF. */
static enum proto_status
finish_block(const char *bytes, size_t n, uint64_t length, size_t value_max,
    struct proto_reply *r)
{
	if (length > LARGE_MAX && length > value_max)
		return PROTO_BAD;
	if (length > DATA_MAX)
		return PROTO_BAD;
	assert(r->length > 2 && r->length <= PROTO_LINE_MAX + 1);
	r->data.at = (uint32_t)r->length;
	r->data.length = (uint32_t)length;
	r->length += (size_t)length + 2;
	if (length > value_max)
		return PROTO_LARGE;
	if (n >= r->length - 1 && bytes[r->length - 2] != '\r')
		return PROTO_BAD;
	if (n < r->length)
		return PROTO_MORE;
	return bytes[r->length - 1] == '\n' ? PROTO_OK : PROTO_BAD;
}

/* Move *at behind the client flags.  Nobody needs their value.  An old
   memcached writes them as a signed number. */
static inline bool
skip_number(const char *bytes, size_t *at)
{
	size_t start = *at + 1;

	if (bytes[*at] != ' ')
		return false;
	start += bytes[start] == '-';
	*at = start;
	while ((unsigned char)bytes[*at] - (unsigned)'0' <= 9)
		++*at;
	return *at > start && *at - start <= DIGITS_MAX;
}

static enum proto_status
parse_value(const char *bytes, size_t n, size_t end, bool has_cas,
    size_t value_max, struct proto_reply *r)
{
	uint64_t number, length;
	size_t at = sizeof("VALUE") - 1;

	if (!next_field(bytes, end, &at, &r->key) ||
	    r->key.length > PROTO_KEY_MAX || !skip_number(bytes, &at) ||
	    !scan_number(bytes, &at, &length))
		return PROTO_BAD;
	if (has_cas && !next_number(bytes, end, &at, &r->cas, &number))
		return PROTO_BAD;
	if (at != end)
		return PROTO_BAD;
	return finish_block(bytes, n, length, value_max, r);
}

static enum proto_status
parse_stat(const char *bytes, size_t end, struct proto_reply *r)
{
	size_t at = sizeof("STAT") - 1;

	if (!next_field(bytes, end, &at, &r->key))
		return PROTO_BAD;
	r->data.at = (uint32_t)(at < end ? at + 1 : at);
	assert(r->data.at <= end);
	r->data.length = (uint32_t)(end - r->data.at);
	return PROTO_OK;
}

static enum proto_status
parse_version(const char *bytes, size_t end, struct proto_reply *r)
{
	size_t at = sizeof("VERSION") - 1;

	if (!next_field(bytes, end, &at, &r->data))
		return PROTO_BAD;
	r->data.length = (uint32_t)(end - r->data.at);
	return PROTO_OK;
}

/* The mark that a flag of a meta reply is; 0: it is none. */
static unsigned int
mark_of(const char *flag, size_t length)
{
	if (length != 1)
		return 0;
	switch (flag[0]) {
	case 'W':
		return PROTO_WON;
	case 'Z':
		return PROTO_AWAITED;
	case 'X':
		return PROTO_STALE;
	default:
		return 0;
	}
}

/* Read the flags of a meta reply.  They are in bytes[at .. end), behind a
   space, unless there are none. */
static enum proto_status
parse_flags(const char *bytes, size_t at, size_t end, struct proto_reply *r)
{
	uint64_t number;
	size_t start;

	assert(at == end || bytes[at] == ' ');
	if (at == end)
		return PROTO_OK;
	at++;
	r->meta.at = (uint32_t)at;
	r->meta.length = (uint32_t)(end - at);
	while ((at = skip_spaces(bytes, at, end)) < end) {
		start = at;
		at = key_end(bytes, start, end);
		r->marks |= mark_of(bytes + start, at - start);
		if (bytes[start] != 'c')
			continue;
		set_span(&r->cas, start + 1, at);
		if (!read_server_number(bytes + r->cas.at, r->cas.length,
			&number))
			return PROTO_BAD;
	}
	return PROTO_OK;
}

/* Read a number that may have spaces behind it: decr leaves them when the
   number gets shorter. */
static bool
read_padded(const char *bytes, size_t at, size_t end, uint64_t *number)
{
	size_t stop = token_end(bytes, at, end);

	assert(at <= stop && stop <= end);
	if (!read_server_number(bytes + at, stop - at, number))
		return false;
	while (stop < end && bytes[stop] == ' ')
		stop++;
	return stop == end;
}

static enum proto_status
parse_meta_value(const char *bytes, size_t n, size_t end,
    enum proto_expect expect, size_t value_max, struct proto_reply *r)
{
	enum proto_status status;
	struct proto_span field;
	size_t at = sizeof("VA") - 1;
	uint64_t length;

	if (!next_number(bytes, end, &at, &field, &length) ||
	    parse_flags(bytes, at, end, r) != PROTO_OK)
		return PROTO_BAD;
	status = finish_block(bytes, n, length, value_max, r);
	/* A number is never large. */
	if (status == PROTO_LARGE && expect == PROTO_EXPECT_META_ARITHMETIC)
		return PROTO_BAD;
	if (status == PROTO_OK && expect == PROTO_EXPECT_META_ARITHMETIC &&
	    !read_padded(bytes, r->data.at, r->data.at + r->data.length,
		&r->number))
		return PROTO_BAD;
	return status;
}

/* Read an element whose line is bytes[0 .. end), without the line end; it
   begins with the word. */
static enum proto_status
parse_reply(const char *bytes, size_t n, size_t end, const struct word *word,
    enum proto_expect expect, size_t value_max, struct proto_reply *r)
{
	assert(end >= word->length && end + 2 <= n);
	r->result = word->result;
	if (word->form == FORM_BARE)
		return end == word->length ? PROTO_OK : PROTO_BAD;
	if (!is_clean(bytes, word->length, end))
		return PROTO_BAD;
	switch (word->form) {
	case FORM_BARE:
	case FORM_NUMBER:
		return read_padded(bytes, 0, end, &r->number) ?
		    PROTO_OK :
		    PROTO_BAD;
	case FORM_TEXT:
		return PROTO_OK;
	case FORM_VALUE:
		return parse_value(bytes, n, end,
		    expect == PROTO_EXPECT_VALUES_CAS, value_max, r);
	case FORM_STAT:
		return parse_stat(bytes, end, r);
	case FORM_VERSION:
		return parse_version(bytes, end, r);
	case FORM_META:
		return parse_flags(bytes, word->length, end, r);
	case FORM_META_VALUE:
		return parse_meta_value(bytes, n, end, expect, value_max, r);
	}
	assert(false);
	return PROTO_BAD;
}

/* The word that the reply begins with; NULL: this request cannot have such a
   reply. */
static const struct word *
find_reply(const char *bytes, size_t n, enum proto_expect expect)
{
	const struct word *word;

	if (expect == PROTO_EXPECT_NUMBER && bytes[0] >= '0' && bytes[0] <= '9')
		return &word_number;
	word = find_word(words[expect], bytes, n);
	return word != NULL ? word : find_word(words_error, bytes, n);
}

/* Read 9 digits at most, and the byte that must be behind them; move *at behind
   that byte. */
static inline bool
quick_number(const char *bytes, size_t n, size_t *at, char behind,
    uint32_t *number)
{
	size_t end = *at + 9 < n ? *at + 9 : n;
	size_t i = *at;

	hot_assert(i <= n);
	*number = 0;
	while (i < end && (unsigned char)(bytes[i] - '0') <= 9)
		*number = *number * 10 + (uint32_t)(bytes[i++] - '0');
	if (i == *at || i == n || bytes[i] != behind)
		return false;
	*at = i + 1;
	return true;
}

/*
 * Read the two elements of nearly all replies to a get, a VALUE and an END, in
 * a quick way.  Returns false if the general way must read the element; also if
 * it is not whole yet.  It also must if the key has a byte below a space.  Such
 * a key may have a line end in it, and then the result would depend on how many
 * bytes have arrived.
 */
static inline bool
quick_values(const char *bytes, size_t n, size_t value_max,
    struct proto_reply *r)
{
	size_t at = sizeof("VALUE ") - 1, key_at = at;
	uint32_t flags, length;

	if (n >= 5 && memcmp(bytes, "END\r\n", 5) == 0) {
		r->result = PROTO_END;
		r->length = 5;
		return true;
	}
	if (n < at || memcmp(bytes, "VALUE ", at) != 0)
		return false;
	at = plain_end(bytes, at,
	    n - at < PROTO_KEY_MAX ? n : at + PROTO_KEY_MAX);
	if (at == key_at || at == n || bytes[at] != ' ')
		return false;
	set_span(&r->key, key_at, at++);
	if (!quick_number(bytes, n, &at, ' ', &flags) ||
	    !quick_number(bytes, n, &at, '\r', &length) || length > value_max ||
	    n - at < (size_t)length + 3 || bytes[at] != '\n' ||
	    bytes[at + 1 + length] != '\r' || bytes[at + 2 + length] != '\n')
		return false;
	r->result = PROTO_VALUE;
	r->data.at = (uint32_t)at + 1;
	r->data.length = length;
	r->length = at + 3 + length;
	return true;
}

/* The same for the reply to nearly all sets. */
static inline bool
quick_stored(const char *bytes, size_t n, struct proto_reply *r)
{
	static const char stored[] = "STORED\r\n";

	if (n < sizeof(stored) - 1 ||
	    memcmp(bytes, stored, sizeof(stored) - 1) != 0)
		return false;
	r->result = PROTO_STORED;
	r->length = sizeof(stored) - 1;
	return true;
}

/* The general way of proto_reply(). */
static __attribute__((noinline)) enum proto_status
read_any_reply(const char *bytes, size_t n, enum proto_expect expect,
    size_t value_max, struct proto_reply *r)
{
	size_t look = n > PROTO_LINE_MAX ? PROTO_LINE_MAX + 1 : n;
	const struct word *word;
	const char *lf;

	assert(expect <= PROTO_EXPECT_STATS);
	*r = (struct proto_reply){ .length = 0 };
	if (n == 0)
		return PROTO_MORE;
	assert(bytes != NULL);
	word = find_reply(bytes, n, expect);
	if (word == NULL)
		return PROTO_BAD;
	lf = memchr(bytes, '\n', look);
	if (lf == NULL)
		return memchr(bytes, '\r', look - 1) != NULL ? PROTO_BAD :
		    n > PROTO_LINE_MAX                       ? PROTO_TOO_LONG :
							       PROTO_MORE;
	if (lf - bytes < 2 || lf[-1] != '\r')
		return PROTO_BAD;
	r->length = (size_t)(lf - bytes) + 1;
	return parse_reply(bytes, n, r->length - 2, word, expect, value_max, r);
}

enum proto_status
proto_reply(const char *bytes, size_t n, enum proto_expect expect,
    size_t value_max, struct proto_reply *r)
{
	*r = (struct proto_reply){ .length = 0 };
	if (expect == PROTO_EXPECT_VALUES &&
	    quick_values(bytes, n, value_max, r))
		return PROTO_OK;
	if (expect == PROTO_EXPECT_STORED && quick_stored(bytes, n, r))
		return PROTO_OK;
	return read_any_reply(bytes, n, expect, value_max, r);
}

uint64_t
proto_number(const char *bytes, size_t n)
{
	uint64_t number = 0;
	size_t i;

	for (i = 0; i < n && i < 18 && bytes[i] >= '0' && bytes[i] <= '9'; i++)
		number = number * 10 + (uint64_t)(bytes[i] - '0');
	return number;
}
