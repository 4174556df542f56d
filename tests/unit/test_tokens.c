/*
 * What a returned server is asked about tokens, for each of its answers.  The
 * server is played by the test.
 */

#include <stdio.h>
#include <string.h>

#include "mirror/blame.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/tokens.h"
#include "proto.h"
#include "server/server.h"
#include "unit.h"

static struct peer peer;
static struct tokens tokens;
static struct call *call; /* NULL: none has no answer */
static char said[100];
static unsigned int done_count;
static struct blame *blame;

struct blame *
pairs_blame(const struct pairs *pairs)
{
	(void)pairs;
	return blame;
}

struct pair
pairs_find_wire(const struct pairs *pairs, const char *key, size_t length,
    bool base64)
{
	(void)pairs;
	(void)key;
	(void)length;
	(void)base64;
	return (struct pair){ .primary = &peer };
}

void
server_submit(struct server *server, uint32_t hash, struct call *submitted,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	(void)server;
	(void)hash;
	(void)data;
	check(call == NULL && length == 0 && block == NULL);
	snprintf(said, sizeof(said), "%.*s", (int)line_length, line);
	call = submitted;
}

static void
on_done(void *owner)
{
	check(owner == &done_count);
	done_count++;
}

/* The server answers what it was asked; NULL: it fails. */
static void
reply(const char *text)
{
	struct answer answer = { .bytes = text };
	struct call *answered = call;

	unit_need(answered != NULL, "a call");
	call = NULL;
	said[0] = '\0';
	if (text == NULL) {
		answered->done(answered, NULL);
		return;
	}
	answer.length = strlen(text);
	check(proto_reply(text, answer.length, answered->expect, 1000,
		  &answer.last) == PROTO_OK);
	answered->done(answered, &answer);
}

static void
check_said(const char *want)
{
	check_bytes(said, strlen(said), want);
}

static void
begin(unsigned int minor)
{
	memset(&peer, 0, sizeof(peer));
	memset(&tokens, 0, sizeof(tokens));
	peer.taken = dirty_new();
	unit_need(peer.taken != NULL, "dirty_new");
	peer.state = PEER_INVALIDATE;
	peer.identity.known = true;
	peer.identity.version[0] = 1;
	peer.identity.version[1] = minor;
	peer.identity.version[2] = 18;
	peer.abilities = abilities_of(&peer.identity);
	done_count = 0;
	call = NULL;
	tokens_init(&tokens, &peer, on_done, &done_count);
}

static void
end(void)
{
	check(call == NULL && dirty_count(peer.taken) == 0);
	dirty_free(peer.taken);
}

static void
test_stale_items_are_made_stale_once_more(void)
{
	begin(6);
	check(!tokens_give_back(&tokens));
	tokens_lost(&peer, "k", 1, false);
	check(tokens_give_back(&tokens));
	check_said("mg k u\r\n");
	reply("HD X Z\r\n");
	check_said("md k I\r\n");
	check(done_count == 0);
	reply("HD\r\n");
	check(done_count == 1);
	tokens_lost(&peer, "AAEgDQo=", 8, true);
	check(tokens_give_back(&tokens));
	check_said("mg AAEgDQo= b u\r\n");
	reply("HD W X\r\n");
	check_said("md AAEgDQo= b I\r\n");
	reply("NF\r\n");
	check(done_count == 2);
	end();
}

static void
test_other_items_are_left_alone(void)
{
	begin(6);
	tokens_lost(&peer, "k", 1, false);
	tokens_lost(&peer, "l", 1, false);
	tokens_lost(&peer, "m", 1, false);
	check(tokens_give_back(&tokens));
	reply("EN\r\n");
	reply("HD Z\r\n");
	check(done_count == 0);
	reply("HD\r\n");
	check(done_count == 1);
	end();
}

static void
test_server_that_fails_again_is_asked_again(void)
{
	begin(6);
	tokens_lost(&peer, "k", 1, false);
	check(tokens_give_back(&tokens));
	reply(NULL);
	check(tokens_give_back(&tokens));
	check_said("mg k u\r\n");
	reply("HD X W\r\n");
	reply(NULL);
	check(done_count == 0);
	check(tokens_give_back(&tokens));
	reply("HD X Z\r\n");
	reply("HD\r\n");
	check(done_count == 1);
	end();
}

static void
test_key_that_a_server_may_fail_of_is_not_asked_for_again(void)
{
	int i;

	begin(6);
	for (i = 0; i < 3; i++) {
		tokens_lost(&peer, "k", 1, false);
		check(tokens_give_back(&tokens));
		call->is_suspect = true;
		reply(NULL);
		check(dirty_count(peer.taken) == 0);
	}
	tokens_lost(&peer, "k", 1, false);
	check(!tokens_give_back(&tokens));
	check(done_count == 0);
	end();
}

static void
test_server_that_cannot_tell_is_not_asked(void)
{
	begin(4);
	tokens_lost(&peer, "k", 1, false);
	check(!tokens_give_back(&tokens));
	end();
}

int
main(void)
{
	blame = blame_new();
	unit_need(blame != NULL, "blame_new");
	RUN(test_stale_items_are_made_stale_once_more);
	RUN(test_other_items_are_left_alone);
	RUN(test_server_that_fails_again_is_asked_again);
	RUN(test_key_that_a_server_may_fail_of_is_not_asked_for_again);
	RUN(test_server_that_cannot_tell_is_not_asked);
	blame_free(blame);
	return unit_end();
}
