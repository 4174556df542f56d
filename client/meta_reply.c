/*
 * Write replies to meta commands: in place of a server, or with changes.
 *
 * Invariant: the flags of a reply are those that the client has asked for, in
 * the order in which it has, as memcached 1.6.18 writes them.
 */

#include "client/meta_reply.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "client/exec.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "mirror/command.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

enum {
	/* Bytes of a flag with a number, with its space. */
	NUMBER_FLAG_MAX = 22,
	/* Bytes of a word, the length of a value and a line end. */
	META_WORD_MAX = 32,
};

/* What a server has said of an item; all zero: it is not there, or nothing was
   asked. */
struct said {
	/* Digits, perhaps behind a minus, and how many bytes. */
	const char *flags, *cas;
	size_t flags_length, cas_length;
	const char *data;
	size_t length;
};

/* Room for the text of exec, whose data has length bytes.  Returns NULL when
   out of memory; then the text is that error. */
static char *
text_room(struct exec *exec, size_t length)
{
	const struct proto_request *r = &exec->r;

	assert(exec->text_block == NULL);
	exec->text_block = block_new(META_WORD_MAX + r->key.length +
	    NUMBER_FLAG_MAX * r->meta.length + length + 2);
	if (exec->text_block != NULL)
		return exec->text_block->bytes;
	exec->env->stats->memory_errors++;
	exec_set_text(exec, exec_no_memory);
	return NULL;
}

static void
finish_text(struct exec *exec, const char *end)
{
	assert(end <= exec->text_block->bytes + exec->text_block->size);
	exec->text = exec->text_block->bytes;
	exec->text_length = (size_t)(end - exec->text);
}

/* Put the client flags.  A memcached before 1.4.27 writes them with a sign. */
static char *
put_client_flags(char *to, const struct said *said)
{
	bool minus = said->flags_length > 0 && said->flags[0] == '-';
	uint32_t flags = (uint32_t)proto_number(said->flags + minus,
	    said->flags_length - minus);

	return to + sprintf(to, " f%u", (unsigned int)(minus ? -flags : flags));
}

/* Put the cas token with the tag of the server that has given it. */
static char *
put_cas(char *to, const struct said *said, const struct subrequest *sub)
{
	to = mempcpy(to, " c", 2);
	if (!pairs_are_mirrored(sub->exec->env->pairs))
		return mempcpy(to, said->cas, said->cas_length);
	return to +
	    command_tag(to, said->cas, said->cas_length, peer_tag(sub->peer));
}

/* Put what the reply has for the flags about the command: O and k.  Of a key in
   base64 that is noted behind it. */
static char *
put_echo(char *to, const struct exec *exec, const struct proto_span *token)
{
	const struct proto_request *r = &exec->r;

	if (exec->bytes[token->at] == 'O') {
		*to++ = ' ';
		to = mempcpy(to, exec->bytes + token->at, token->length);
	} else if (exec->bytes[token->at] == 'k') {
		to = mempcpy(to, " k", 2);
		to = mempcpy(to, exec->bytes + r->key.at, r->key.length);
		to = mempcpy(to, " b", r->base64 ? 2 : 0);
	}
	return to;
}

/* Put what the reply has for a flag about an item that is there. */
static char *
put_item_flag(char *to, char flag, const struct said *said,
    const struct subrequest *sub)
{
	if (flag == 'f')
		return put_client_flags(to, said);
	if (flag == 's')
		return to + sprintf(to, " s%zu", said->length);
	if (flag == 'c')
		return put_cas(to, said, sub);
	return to;
}

/* The parser lets no flag through twice. */
void
meta_reply_set(struct exec *exec, const char *word)
{
	const struct proto_request *r = &exec->r;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	char *to = text_room(exec, 0);
	struct proto_span token;

	if (to == NULL)
		return;
	to = mempcpy(to, word, 2);
	while (proto_token(exec->bytes, end, &at, &token)) {
		if (exec->bytes[token.at] == 'c')
			to = mempcpy(to, " c0", r->command == PROTO_MS ? 3 : 0);
		else
			to = put_echo(to, exec, &token);
	}
	finish_text(exec, mempcpy(to, "\r\n", 2));
}

/* Put what the reply has for a flag of an ma that has made its item on peer.  N
   and T set its exptime, in their order. */
static char *
put_made_flag(char *to, const struct exec *exec, char flag, const char *cas,
    const struct peer *peer, int32_t *exptime)
{
	switch (flag) {
	case 'N':
		*exptime = exec->r.vivify;
		return to;
	case 'T':
		*exptime = exec->r.exptime;
		return to;
	case 't':
		return to +
		    sprintf(to, " t%lld",
			(long long)peer_seconds_left(peer, *exptime));
	case 'c':
		return to + sprintf(to, " c%s", cas);
	default:
		return to;
	}
}

/* Put the word of a reply to an ma, and its flags; cas is its token. */
static char *
put_made(char *to, const struct exec *exec, size_t value_length,
    const char *cas, const struct peer *peer)
{
	const struct proto_request *r = &exec->r;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	struct proto_span token;
	int32_t exptime = 0;

	if (r->has_value)
		to += sprintf(to, "VA %zu", value_length);
	else
		to = mempcpy(to, "HD", 2);
	while (proto_token(exec->bytes, end, &at, &token)) {
		to = put_made_flag(to, exec, exec->bytes[token.at], cas, peer,
		    &exptime);
		to = put_echo(to, exec, &token);
	}
	return mempcpy(to, "\r\n", 2);
}

void
meta_reply_set_made(struct exec *exec, const struct peer *peer,
    const struct answer *answer)
{
	const struct proto_span *token = &answer->last.cas;
	char value[NUMBER_FLAG_MAX], cas[NUMBER_FLAG_MAX] = "0";
	size_t n = (size_t)sprintf(value, "%llu",
	    (unsigned long long)exec->r.initial);
	char *to;

	if (exec->r.quiet) {
		exec_set_text(exec, "");
		return;
	}
	to = text_room(exec, n);
	if (to == NULL)
		return;
	if (token->length > 0)
		cas[command_tag(cas, answer->bytes + token->at, token->length,
		    peer_tag(peer))] = '\0';
	to = put_made(to, exec, n, cas, peer);
	if (exec->r.has_value) {
		to = mempcpy(to, value, n);
		to = mempcpy(to, "\r\n", 2);
	}
	finish_text(exec, to);
}

/* The reply to a mg that has found an item, or to an ma. */
static void
set_item_text(struct exec *exec, const struct subrequest *sub,
    const struct said *said)
{
	const struct proto_request *r = &exec->r;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	char *to = text_room(exec, said->length);
	struct proto_span token;

	if (to == NULL)
		return;
	if (r->has_value)
		to += sprintf(to, "VA %zu", said->length);
	else
		to = mempcpy(to, "HD", 2);
	while (proto_token(exec->bytes, end, &at, &token)) {
		if (r->command == PROTO_MG)
			to = put_item_flag(to, exec->bytes[token.at], said,
			    sub);
		to = put_echo(to, exec, &token);
	}
	to = mempcpy(to, "\r\n", 2);
	if (r->has_value) {
		to = mempcpy(to, said->data, said->length);
		to = mempcpy(to, "\r\n", 2);
	}
	finish_text(exec, to);
}

/* The text is what the server has said: an error. */
static void
set_same_text(struct exec *exec, const struct answer *answer)
{
	char *to = text_room(exec, answer->length);

	if (to != NULL)
		finish_text(exec, mempcpy(to, answer->bytes, answer->length));
}

/*
 * Translation
 */

/* The VALUE at the start of an answer; without one the result is END, or an
   error. */
static struct said
read_value(const struct answer *answer, enum proto_expect expect,
    enum proto_result *result)
{
	struct said said = { .length = 0 };
	struct proto_reply value;
	struct proto_span flags = { 0, 0 };
	size_t at;

	if (proto_reply(answer->bytes, answer->length, expect, answer->length,
		&value) != PROTO_OK ||
	    value.result != PROTO_VALUE)
		return said;
	*result = PROTO_VALUE;
	at = value.key.at + value.key.length;
	proto_token(answer->bytes, value.data.at, &at, &flags);
	said.flags = answer->bytes + flags.at;
	said.flags_length = flags.length;
	said.cas = answer->bytes + value.cas.at;
	said.cas_length = value.cas.length;
	said.data = answer->bytes + value.data.at;
	said.length = value.data.length;
	return said;
}

/* The digits of the new number, without the spaces that may follow. */
static struct said
read_number(const struct answer *answer)
{
	struct said said = { .data = answer->bytes };

	while (said.length < answer->length &&
	    (unsigned char)(said.data[said.length] - '0') <= 9)
		said.length++;
	return said;
}

static const char *
word_of(enum proto_result result)
{
	switch (result) {
	case PROTO_META_HD:
		return "HD";
	case PROTO_META_EN:
		return "EN";
	case PROTO_META_NS:
		return "NS";
	case PROTO_META_EX:
		return "EX";
	default:
		assert(result == PROTO_META_NF);
		return "NF";
	}
}

/* The result of the meta command, given that of the classic one. */
static enum proto_result
meta_result(const struct proto_request *r, enum proto_result result)
{
	switch (result) {
	case PROTO_STORED:
	case PROTO_DELETED:
	case PROTO_TOUCHED:
		return PROTO_META_HD;
	case PROTO_VALUE:
		return r->has_value ? PROTO_META_VALUE : PROTO_META_HD;
	case PROTO_NUMBER:
		return PROTO_META_VALUE;
	case PROTO_NOT_STORED:
		return PROTO_META_NS;
	case PROTO_EXISTS:
		return PROTO_META_EX;
	case PROTO_NOT_FOUND:
		return r->command == PROTO_MG ? PROTO_META_EN : PROTO_META_NF;
	case PROTO_END:
		return PROTO_META_EN;
	default:
		assert(result == PROTO_ERROR || result == PROTO_CLIENT_ERROR ||
		    result == PROTO_SERVER_ERROR);
		return result;
	}
}

/* Whether q leaves this reply out. */
static bool
is_left_out(const struct proto_request *r, enum proto_result result)
{
	if (!r->quiet)
		return false;
	if (r->command == PROTO_MG)
		return result == PROTO_META_EN;
	return result == PROTO_META_HD || result == PROTO_META_VALUE;
}

struct proto_reply
meta_reply_translate(struct exec *exec, const struct subrequest *sub,
    const struct answer *answer)
{
	struct proto_reply reply = { .number = answer->last.number };
	enum proto_result result = answer->last.result;
	struct said said = { .length = 0 };

	assert(command_is_meta(&exec->r) && exec->text == NULL);
	if (sub->call.expect <= PROTO_EXPECT_VALUES_CAS)
		said = read_value(answer, sub->call.expect, &result);
	else if (result == PROTO_NUMBER)
		said = read_number(answer);
	reply.result = meta_result(&exec->r, result);
	if (is_left_out(&exec->r, reply.result))
		exec_set_text(exec, "");
	else if (exec->error_line != NULL)
		exec_set_text(exec, exec->error_line);
	else if (result == PROTO_VALUE || result == PROTO_NUMBER)
		set_item_text(exec, sub, &said);
	else if (reply.result == result)
		set_same_text(exec, answer);
	else
		meta_reply_set(exec, word_of(reply.result));
	return reply;
}

/* A VALUE must be the first one, and of the key that was asked for. */
bool
meta_reply_element(struct call *call, const struct proto_reply *element,
    const char *bytes, size_t at)
{
	struct subrequest *sub = CONTAINER_OF(call, struct subrequest, call);
	struct exec *exec = sub->exec;
	const struct proto_request *r = &exec->r;
	const char *key = exec->bytes + r->key.at;
	size_t length = r->key.length;
	char decoded[PROTO_KEY_MAX];

	if (r->base64) {
		length = proto_base64_decode(key, length, decoded);
		key = decoded;
	}
	if (at != 0 || element->key.length != length ||
	    memcmp(bytes + at + element->key.at, key, length) != 0)
		return false;
	if (element->result == PROTO_LARGE_VALUE)
		exec->error_line = exec_too_large;
	return true;
}

/*
 * Writing what a server has said
 */

/* Write n bytes of the reply, from at on; the cas token is tagged. */
static void
put_part(struct exec *exec, struct conn *conn, const struct subrequest *sub,
    size_t at, size_t n)
{
	struct proto_span cas = sub->end.cas;

	if (cas.at < at || cas.at + cas.length > at + n)
		cas.length = 0;
	cas.at -= cas.length > 0 ? (uint32_t)at : 0;
	exec_put_tagged(exec, conn, sub, sub->end_at + at, n, cas);
}

/* Where the line of a meta reply ends, ahead of its CRLF. */
static size_t
line_end(const struct proto_reply *reply)
{
	return (reply->result == PROTO_META_VALUE ? reply->data.at :
						    reply->length) -
	    2;
}

/* Whether we write the key into the reply, because the server was not asked for
   it: see is_forwarded_with_base64() in command.c. */
static bool
has_key_of_ours(const struct exec *exec, enum proto_result result)
{
	const struct proto_request *r = &exec->r;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	struct proto_span flag;

	if (result < PROTO_META_VALUE || result > PROTO_META_NF ||
	    !command_needs_base64(r, exec->bytes))
		return false;
	while (proto_token(exec->bytes, end, &at, &flag))
		if (exec->bytes[flag.at] == 'k')
			return true;
	return false;
}

/* Where the key belongs in the reply: behind the flags that come before k in
   the command, and that are in the reply. */
static size_t
place_of_key(const struct exec *exec, const struct subrequest *sub)
{
	const struct proto_request *r = &exec->r;
	const struct proto_span *meta = &sub->end.meta;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	size_t read = meta->at, next, length;
	const char *bytes = exec_reply(exec, sub, &length) + sub->end_at;
	size_t place = meta->length > 0 ? meta->at - 1 : line_end(&sub->end);
	struct proto_span flag, said;

	while (proto_token(exec->bytes, end, &at, &flag) &&
	    exec->bytes[flag.at] != 'k') {
		next = read;
		if (!proto_token(bytes, meta->at + meta->length, &next,
			&said) ||
		    bytes[said.at] != exec->bytes[flag.at])
			continue;
		read = next;
		place = said.at + said.length;
	}
	return place;
}

void
meta_reply_write(struct exec *exec, struct conn *conn,
    const struct subrequest *sub)
{
	const struct proto_reply *reply = &sub->end;
	size_t at = 0, end = reply->length, place;

	if (reply->result == PROTO_META_VALUE && exec->r.command == PROTO_MA &&
	    !exec->r.has_value) {
		conn_write(conn, "HD", 2);
		at = reply->meta.length > 0 ? reply->meta.at - 1 :
					      line_end(reply);
		end = reply->data.at;
	}
	if (has_key_of_ours(exec, reply->result)) {
		place = place_of_key(exec, sub);
		put_part(exec, conn, sub, at, place - at);
		conn_write(conn, " k", 2);
		conn_write(conn, exec->bytes + exec->r.key.at,
		    exec->r.key.length);
		conn_write(conn, " b", 2);
		at = place;
	}
	put_part(exec, conn, sub, at, end - at);
}
