#ifndef PLAYED_H
#define PLAYED_H

/*
 * The two servers of all keys, played by the test: what is submitted to them
 * waits until the test replies.  These functions stand in for those of pair.c,
 * gate.c, blame.c, peer.c and tokens.c; one test file includes them.
 */

#include "mirror/blame.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/tokens.h"
#include "server/link.h"
#include "unit.h"

/* The authority, unless the test says otherwise, and the mirror. */
enum { A, M, PEERS, CALLS_MAX = 8 };

static struct peer peers[PEERS];
/* What was submitted and has no answer, and to whom. */
static struct {
	struct call *call;
	int peer;
} calls[CALLS_MAX];
static size_t call_count;
/* The whole text of what was submitted since the last reply, behind A: or M:.
   And the keys that were blamed, acquitted, and lost with their token. */
static char said[2000], blamed[64], acquitted[64], lost[64];
/* How many keys the gate holds. */
static unsigned int held;
static bool is_to_blame;
/* Another magent serves from both. */
static bool are_shared;

static int
number_of(const struct peer *peer)
{
	return peer == &peers[M] ? M : A;
}

struct pair
pairs_find_wire(const struct pairs *pairs, const char *key, size_t length,
    bool base64)
{
	(void)pairs;
	(void)key;
	(void)length;
	(void)base64;
	return (struct pair){ .primary = &peers[A], .backup = &peers[M] };
}

struct peer *
pair_partner(const struct pair *pair, const struct peer *peer)
{
	return peer == pair->primary ? pair->backup : pair->primary;
}

bool
peer_is_shared(const struct peer *peer)
{
	(void)peer;
	return are_shared;
}

struct gate *
pairs_gate(struct pairs *of)
{
	(void)of;
	return NULL;
}

void
gate_hold_key(struct gate *gate, struct gate_key *key)
{
	(void)gate;
	check(key->length > 0);
	held++;
}

void
gate_release_key(struct gate *gate, struct gate_key *key)
{
	(void)gate;
	check(key->length > 0 && held > 0);
	held--;
}

struct blame *
pairs_blame(const struct pairs *pairs)
{
	(void)pairs;
	return NULL;
}

void
blame_key(struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	(void)blame;
	check(what == BLAME_COPY);
	snprintf(blamed, sizeof(blamed), "%.*s", (int)length, key);
}

void
blame_acquit(struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	(void)blame;
	check(what == BLAME_COPY && length > 0);
	snprintf(acquitted, sizeof(acquitted), "%.*s", (int)length, key);
}

bool
blame_is_clear(const struct blame *blame, enum blame_what what, const char *key,
    size_t length)
{
	(void)blame;
	(void)key;
	check(what == BLAME_COPY && length > 0);
	return is_to_blame;
}

void
tokens_lost(struct peer *peer, const char *key, size_t length, bool base64)
{
	size_t n = strlen(lost);

	check(base64 == (key[0] == 'A'));
	snprintf(lost + n, sizeof(lost) - n, "%c:%.*s ", "AM"[number_of(peer)],
	    (int)length, key);
}

void
peer_submit(struct peer *peer, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	size_t n = strlen(said);

	(void)hash;
	check(block == NULL && call_count < CALLS_MAX);
	snprintf(said + n, sizeof(said) - n, "%c:%.*s%.*s",
	    "AM"[number_of(peer)], (int)line_length, line, (int)length, data);
	calls[call_count].call = call;
	calls[call_count++].peer = number_of(peer);
}

/* The oldest call of a server is answered, or is not: text is NULL. */
static void
reply(int peer, const char *text)
{
	struct answer answer = { .bytes = text };
	struct call *call;
	size_t i = 0;

	while (i < call_count && calls[i].peer != peer)
		i++;
	check(i < call_count);
	call = calls[i].call;
	memmove(&calls[i], &calls[i + 1], (--call_count - i) * sizeof(*calls));
	said[0] = '\0';
	if (text == NULL) {
		call->done(call, NULL);
		return;
	}
	answer.length = strlen(text);
	check(proto_reply(text, answer.length, call->expect, 1 << 20,
		  &answer.last) == PROTO_OK);
	call->done(call, &answer);
}

/* The version 1.MINOR.PATCH of a server, and what it can do with that. */
static void
set_version(int peer, unsigned int minor, unsigned int patch)
{
	struct identity *identity = &peers[peer].identity;

	identity->version[0] = 1;
	identity->version[1] = minor;
	identity->version[2] = patch;
	peers[peer].abilities = abilities_of(identity);
}

/* Both are up, and have version 1.6.18; nothing was submitted. */
static void
begin_played(void)
{
	int i;

	call_count = held = 0;
	said[0] = blamed[0] = acquitted[0] = lost[0] = '\0';
	are_shared = false;
	for (i = 0; i < PEERS; i++) {
		peers[i].state = PEER_UP;
		peers[i].identity = (struct identity){ .known = true };
		set_version(i, 6, 18);
		LIST_INIT(&peers[i].giving_back);
	}
}

#endif
