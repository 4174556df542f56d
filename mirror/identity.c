/*
 * Tell one incarnation of a memcached from another.
 *
 * Invariant: two identities of one incarnation have the same pid and the same
 * start.  The reverse is not true: in a container each incarnation has pid 1,
 * and the start is known to a second only.  So counters are compared, too.  A
 * counter that went back means another incarnation, or a "stats reset".
 */

#include "mirror/identity.h"

#include <assert.h>
#include <string.h>

#include "proto.h"

/* With the 48 bits of a cas token below them, they keep a number under 2^63. */
enum { TAG_BITS = 15 };

static_assert(TAG_BITS + 48 == 63, "a cas token with its tag is positive");

void
identity_version(struct identity *identity, const char *text, size_t n)
{
	const char *end = text + n;
	uint64_t number;
	int i;

	memset(identity->version, 0, sizeof(identity->version));
	for (i = 0; i < 3; i++) {
		assert(text <= end);
		number = proto_number(text, (size_t)(end - text));
		identity->version[i] = number < 9999 ?
		    (unsigned int)number :
		    9999;
		text = memchr(text, '.', (size_t)(end - text));
		if (text == NULL)
			return;
		text++;
	}
}

/* Whether text of n bytes is this word. */
static bool
is_text(const char *text, size_t n, const char *word)
{
	return strlen(word) == n && memcmp(word, text, n) == 0;
}

/* Take up a setting that is no number. */
static void
note_word(struct identity *identity, const char *name, size_t n,
    const char *value, size_t length)
{
	if (is_text(name, n, "memory_file"))
		identity->restartable = !is_text(value, length, "(null)");
	else if (is_text(name, n, "flush_enabled"))
		identity->refuses_flush = is_text(value, length, "no");
	else if (is_text(name, n, "cas_enabled"))
		identity->has_no_cas = is_text(value, length, "no");
}

void
identity_stat(struct identity *identity, const char *name, size_t n,
    const char *value, size_t length)
{
	const struct {
		const char *name;
		uint64_t *field;
	} fields[] = {
		{ "pid", &identity->pid },
		{ "time", &identity->time },
		{ "uptime", &identity->uptime },
		{ "total_connections", &identity->connections },
		{ "cmd_get", &identity->gets },
		{ "cmd_set", &identity->sets },
		{ "total_items", &identity->items },
		{ "curr_items", &identity->stored },
		{ "threads", &identity->threads },
		{ "tcpport", &identity->port },
		{ "item_size_max", &identity->item_size_max },
	};
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (is_text(name, n, fields[i].name))
			*fields[i].field = proto_number(value, length);
	note_word(identity, name, n, value, length);
}

bool
identity_may_be_one(const struct identity *one, const struct identity *other)
{
	assert(one->known && other->known);
	return one->pid != 0 && one->pid == other->pid && one->port != 0 &&
	    one->port == other->port &&
	    one->time - one->uptime == other->time - other->uptime &&
	    memcmp(one->version, other->version, sizeof(one->version)) == 0;
}

enum identity_change
identity_compare(const struct identity *before, const struct identity *now)
{
	if (!before->known)
		return IDENTITY_UNSURE;
	assert(now->known);
	if (before->pid != now->pid ||
	    before->time - before->uptime != now->time - now->uptime)
		return IDENTITY_NEW;
	if (now->connections < before->connections ||
	    now->gets < before->gets || now->sets < before->sets ||
	    now->items < before->items)
		return IDENTITY_UNSURE;
	return IDENTITY_SAME;
}

uint64_t
identity_tag(const struct identity *identity, unsigned int role)
{
	uint64_t mix = identity->pid * 4 + role;

	assert(role <= 3);
	mix = mix * 0x9e3779b97f4a7c15u ^ (identity->time - identity->uptime);
	mix *= 0xbf58476d1ce4e5b9u;
	return mix >> (64 - TAG_BITS);
}

bool
identity_is_since(const struct identity *identity, unsigned int major,
    unsigned int minor, unsigned int patch)
{
	const unsigned int *version = identity->version;

	if (version[0] != major)
		return version[0] > major;
	if (version[1] != minor)
		return version[1] > minor;
	return version[2] >= patch;
}
