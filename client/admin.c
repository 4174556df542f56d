/*
 * Carry out the words of an operator.
 *
 *   server ADDRESS down|up|drain|rebuild --> operator_act() --> the reply
 *   scrub --> a pass begins
 *
 * Invariant: each way through admin_answer() gives the request its reply once,
 * or has operator_act() do so.  Who may say these words is the matter of the
 * caller.
 */

#include "client/admin.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "client/request.h"
#include "mirror/operator.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/recovery.h"
#include "mirror/scrub.h"
#include "proto.h"
#include "server/address.h"

enum {
	/* Words of a line that are looked at: one more than any has. */
	WORDS_MAX = 4,
	/* Room for an address, more than that of any server takes. */
	ADDRESS_ROOM = 400,
};

/* The words of a line. */
struct words {
	const char *bytes; /* borrowed */
	struct proto_span at[WORDS_MAX];
	unsigned int count;
};

static struct words
split_words(const struct proto_request *r, const char *bytes)
{
	struct words words = { .bytes = bytes };
	size_t at = 0, end = r->length;

	while (end > 0 && (bytes[end - 1] == '\n' || bytes[end - 1] == '\r'))
		end--;
	while (words.count < WORDS_MAX &&
	    proto_token(bytes, end, &at, &words.at[words.count]))
		words.count++;
	return words;
}

static bool
word_is(const struct words *words, unsigned int i, const char *text)
{
	return i < words->count && words->at[i].length == strlen(text) &&
	    memcmp(words->bytes + words->at[i].at, text, strlen(text)) == 0;
}

bool
admin_is_word(const struct proto_request *r, const char *bytes)
{
	struct words words;

	/* Not a line with a byte that no line may have. */
	if (r->command != PROTO_REFUSED || strcmp(r->error, "ERROR") != 0)
		return false;
	words = split_words(r, bytes);
	return word_is(&words, 0, "server") || word_is(&words, 0, "scrub");
}

/*
 * Replies
 */

static void
say(struct request *request, const char *text)
{
	request_finish(request, text, strlen(text));
}

/* Say something about an address. */
static void
say_of(struct request *request, const char *before, const char *address,
    const char *behind)
{
	char line[ADDRESS_ROOM + 80];
	int n = snprintf(line, sizeof(line), "%s %s%s\r\n", before, address,
	    behind);

	assert(n > 0 && (size_t)n < sizeof(line));
	request_finish(request, line, (size_t)n);
}

static void
on_acted(void *owner, const struct peer *peer, enum operator_end end)
{
	switch (end) {
	case OPERATOR_DONE:
		say(owner, "OK\r\n");
		break;
	case OPERATOR_ALONE:
		say_of(owner, "SERVER_ERROR no other server has what",
		    peer_name(peer), " holds");
		break;
	case OPERATOR_NO_MEMORY:
		request_fail(owner);
		break;
	}
}

/*
 * Words
 */

static struct peer *
find_server(struct pairs *pairs, const char *name)
{
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++)
		if (strcmp(peer_name(pairs_peer(pairs, i)), name) == 0)
			return pairs_peer(pairs, i);
	return NULL;
}

/* The server at an address, which may be written as on the command line, too;
   NULL: there is none. */
static struct peer *
server_at(struct pairs *pairs, const char *text)
{
	struct peer *peer = find_server(pairs, text);
	struct address address;

	if (peer != NULL || address_parse(&address, text) != NULL)
		return peer;
	peer = find_server(pairs, address.name);
	address_free(&address);
	return peer;
}

/* Returns false if it is none. */
static bool
read_word(const struct words *words, enum operator_word *word)
{
	static const char *const names[] = {
		[OPERATOR_DOWN] = "down",
		[OPERATOR_UP] = "up",
		[OPERATOR_DRAIN] = "drain",
		[OPERATOR_REBUILD] = "rebuild",
	};
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (word_is(words, 2, names[i])) {
			*word = (enum operator_word)i;
			return words->count == 3;
		}
	return false;
}

static void
act_on_server(struct pairs *pairs, struct request *request,
    const struct words *words)
{
	char address[ADDRESS_ROOM];
	enum operator_word word;
	struct peer *peer;

	if (!read_word(words, &word)) {
		say(request,
		    "CLIENT_ERROR usage: "
		    "server ADDR down|up|drain|rebuild\r\n");
		return;
	}
	snprintf(address, sizeof(address), "%.*s", (int)words->at[1].length,
	    words->bytes + words->at[1].at);
	peer = server_at(pairs, address);
	if (peer == NULL)
		say_of(request, "CLIENT_ERROR no server", address, "");
	else
		operator_act(peer, word, on_acted, request);
}

static void
begin_scrub(struct pairs *pairs, struct request *request,
    const struct words *words)
{
	if (words->count > 1) {
		say(request, "CLIENT_ERROR usage: scrub\r\n");
		return;
	}
	if (!pairs_are_mirrored(pairs)) {
		say(request, "SERVER_ERROR no key has two servers\r\n");
		return;
	}
	scrub_start_pass(recovery_scrub(pairs_peer(pairs, 0)), "the operator");
	say(request, "OK\r\n");
}

void
admin_answer(struct pairs *pairs, struct request *request,
    const struct proto_request *r, const char *bytes)
{
	struct words words = split_words(r, bytes);

	assert(words.count > 0);
	request_hold(request);
	if (word_is(&words, 0, "server"))
		act_on_server(pairs, request, &words);
	else
		begin_scrub(pairs, request, &words);
}
