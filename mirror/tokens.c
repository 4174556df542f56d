/*
 * Give back the tokens of stale items that our own reads may have won.
 *
 *   lost -> taken ... the peer is back -> mg -> is it stale? -> md I
 *              ^                                                  |
 *              '---------- it has failed of something else -------'
 *
 * Invariant: a key is in taken, or has a call, until its server has said that
 * its item is not stale, or has made it stale once more, which nobody has won
 * then.  Clients ask this server for nothing meanwhile, so the item does not
 * change in between.
 *
 * A client may have won the item before.  Then there are two who set it anew,
 * which is better than nobody.
 */

#include "mirror/tokens.h"

#include <assert.h>
#include <stdio.h>

#include "container_of.h"
#include "mirror/blame.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

enum {
	/* Bytes of a command with its key, which may be in base64. */
	LINE_MAX = PROTO_BASE64_MAX + 16,
};

static void
submit_token(struct tokens *tokens, const char *word, const char *flag,
    enum proto_expect expect,
    void (*done)(struct call *call, const struct answer *answer))
{
	struct pair pair = pairs_find_wire(tokens->peer->pairs, tokens->key,
	    tokens->length, tokens->base64);
	char line[LINE_MAX];
	int n;

	n = snprintf(line, sizeof(line), "%s %.*s%s %s\r\n", word,
	    (int)tokens->length, tokens->key, tokens->base64 ? " b" : "", flag);
	assert(n > 0 && n < LINE_MAX);
	tokens->call = (struct call){ .expect = expect, .done = done };
	server_submit(tokens->peer->server, pair.hash, &tokens->call, line,
	    (size_t)n, NULL, 0, NULL);
}

/* The server has failed again.  If it may be because of this key, that is not
   asked for once more: it is blamed as for a copy. */
static void
lose_again(const struct tokens *tokens)
{
	struct blame *blame = pairs_blame(tokens->peer->pairs);

	if (tokens->call.is_suspect)
		blame_key(blame, BLAME_COPY, tokens->key, tokens->length);
	else
		tokens_lost(tokens->peer, tokens->key, tokens->length,
		    tokens->base64);
}

static void
go_on(struct tokens *tokens)
{
	if (!tokens_give_back(tokens))
		tokens->done(tokens->owner);
}

static void
on_token_given(struct call *call, const struct answer *answer)
{
	struct tokens *tokens = CONTAINER_OF(call, struct tokens, call);

	if (answer == NULL)
		lose_again(tokens);
	else
		go_on(tokens);
}

static void
on_token_read(struct call *call, const struct answer *answer)
{
	struct tokens *tokens = CONTAINER_OF(call, struct tokens, call);

	if (answer == NULL)
		lose_again(tokens);
	else if ((answer->last.marks & PROTO_STALE) != 0)
		submit_token(tokens, "md", "I", PROTO_EXPECT_META_DELETE,
		    on_token_given);
	else
		go_on(tokens);
}

void
tokens_init(struct tokens *tokens, struct peer *peer, void (*done)(void *owner),
    void *owner)
{
	tokens->peer = peer;
	tokens->done = done;
	tokens->owner = owner;
}

void
tokens_lost(struct peer *peer, const char *key, size_t length, bool base64)
{
	assert(length > 0 && length <= PROTO_KEY_MAX);
	dirty_add(peer->taken, key, length, base64);
}

/* Keys that were too many for our memory are forgotten, and those of a server
   that is another one now, and cannot tell. */
bool
tokens_give_back(struct tokens *tokens)
{
	struct blame *blame = pairs_blame(tokens->peer->pairs);
	struct dirty *taken = tokens->peer->taken;
	bool can_tell = abilities_has(&tokens->peer->abilities,
	    ABILITY_META_READ);
	bool is_found;

	assert(tokens->peer->state == PEER_INVALIDATE);
	do
		is_found = can_tell &&
		    dirty_pop(taken, tokens->key, &tokens->length,
			&tokens->base64);
	while (is_found &&
	    blame_is_clear(blame, BLAME_COPY, tokens->key, tokens->length));
	if (!is_found) {
		dirty_clear(taken);
		return false;
	}
	submit_token(tokens, "mg", "u", PROTO_EXPECT_META_GET, on_token_read);
	return true;
}
