/*
 * The applications of the script.
 *
 * Invariant: pending has the commands whose answers have not come whole, the
 * oldest first; what arrives is the answer to the first of them.
 *
 * A value carries its key, so that nobody gets what he did not ask for: it
 * consists of pieces "[KEY.filler]", or of digits, if the key is for numbers.
 */

#include "clients.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "model.h"
#include "proto.h"
#include "servers.h"
#include "world.h"

enum { LIMIT = 64 << 20, NAME_SIZE = PROTO_KEY_MAX + 1 };

struct client {
	int end; /* -1: there is none */
	unsigned int number;
	bool is_exact; /* see clients_begin() */
	bool is_wild;  /* its answers are not looked at */
	bool is_deaf;  /* it reads nothing */
	bool has_shut; /* it sends no more */
	bool has_quit;
	struct bytes unsent; /* of commands that were begun */
	struct bytes pending;
	struct model model; /* what its own keys must be */
	struct bytes expected;
	bool is_expecting; /* expected is the answer to the first command */
	uint64_t token;    /* of the last cas unique */
};

static struct client clients[CLIENTS_MAX];
static bool all_exact, may_end;
static size_t value_limit;
static unsigned int total, sequence;

void
clients_begin(bool is_exact, size_t value_max)
{
	unsigned int i;

	for (i = 0; i < CLIENTS_MAX; i++)
		clients[i] = (struct client){ .end = -1 };
	all_exact = is_exact;
	value_limit = value_max;
	may_end = !is_exact;
	total = sequence = 0;
}

void
clients_expect_end(void)
{
	may_end = true;
}

unsigned int
clients_total(void)
{
	return total;
}

static void
forget(struct client *client)
{
	bytes_free(&client->unsent);
	bytes_free(&client->pending);
	bytes_free(&client->expected);
	model_clear(&client->model);
	client->end = -1;
}

void
client_close(unsigned int i, bool reset)
{
	if (clients[i].end == -1)
		return;
	world_close(clients[i].end, reset);
	forget(&clients[i]);
}

void
clients_end(void)
{
	unsigned int i;

	for (i = 0; i < CLIENTS_MAX; i++)
		client_close(i, false);
}

int
client_connect(void)
{
	int i;

	for (i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].end == -1)
			break;
	/* The first one may be about to empty all servers. */
	if (i == CLIENTS_MAX ||
	    (all_exact && total == 1 && clients[0].pending.length > 0))
		return -1;
	clients[i] = (struct client){
		.end = world_connect(),
		.number = ++total,
		.is_exact = all_exact,
		.model.makes_by_append = true,
	};
	return clients[i].end == -1 ? -1 : i;
}

bool
client_is_there(unsigned int i)
{
	return clients[i].end != -1;
}

void
client_be_deaf(unsigned int i, bool is_deaf)
{
	clients[i].is_deaf = is_deaf;
}

/*
 * Making commands
 */

/* A key that all clients use, or one of its own. */
static void
pick_key(const struct client *client, struct script *script, char *name)
{
	unsigned int choice = script_take(script);
	bool is_own = choice & 1;
	char kind = choice & 2 ? 'n' : 'k';

	choice = choice >> 2 & 15;
	if (is_own)
		snprintf(name, NAME_SIZE, "c%u.%c%u", client->number, kind,
		    choice % 4);
	else if (choice == 15)
		snprintf(name, NAME_SIZE, "%c%0249d", kind, 7);
	else
		snprintf(name, NAME_SIZE, "%c%u", kind, choice % 5);
}

static bool
is_for_numbers(const char *name, size_t n)
{
	const char *dot = memchr(name, '.', n);

	return (dot == NULL ? name[0] : dot[1]) == 'n';
}

static size_t
pick_size(struct script *script)
{
	unsigned int choice = script_take(script);

	if (choice < 200)
		return choice % 40;
	if (choice < 240)
		return choice * 40;
	if (choice < 248)
		return (size_t)choice * 300;
	return value_limit - 60 + choice % 8 * 10;
}

static void
make_value(struct script *script, const char *name, struct bytes *value)
{
	static char filler[1 << 10];
	size_t n, part;

	if (is_for_numbers(name, strlen(name))) {
		bytes_print(value, "%u", script_take(script));
		return;
	}
	memset(filler, 'x', sizeof(filler));
	bytes_print(value, "[%s.%u.", name, ++sequence);
	for (n = pick_size(script); n > 0; n -= part) {
		part = n < sizeof(filler) ? n : sizeof(filler);
		bytes_add(value, filler, part);
	}
	bytes_print(value, "]");
}

static const char *
pick_exptime(const struct client *client, struct script *script)
{
	static const char *const times[] = { "0", "0", "0", "1", "2", "60",
		"-1", "100000" };

	return client->is_exact ? "0" : times[script_pick(script, 8)];
}

static const char *
pick_noreply(struct script *script)
{
	return script_pick(script, 6) == 5 ? " noreply" : "";
}

static void
make_get(const struct client *client, struct script *script, struct bytes *out)
{
	static const char *const words[] = { "get", "gets", "gat 0", "gats 0",
		"gat 2", "get" };
	unsigned int word = script_pick(script, 6);
	unsigned int n = script_pick(script, 16) + 1;
	char name[NAME_SIZE];

	if (client->is_exact && word == 4)
		word = 0;
	bytes_print(out, "%s", words[word]);
	if (n > 12)
		n = n * 6;
	else if (n > 4)
		n = 1;
	while (n-- > 0) {
		pick_key(client, script, name);
		bytes_print(out, " %s", name);
	}
	bytes_print(out, "\r\n");
}

static void
make_store(const struct client *client, struct script *script,
    struct bytes *out)
{
	static const char *const words[] = { "set", "set", "add", "replace",
		"append", "prepend", "cas", "set" };
	unsigned int word = script_pick(script, 8);
	struct bytes value = { .at = NULL };
	char name[NAME_SIZE];

	pick_key(client, script, name);
	make_value(script, name, &value);
	bytes_print(out, "%s %s %u %s %zu", words[word], name,
	    script_pick(script, 3), pick_exptime(client, script), value.length);
	if (word == 6)
		bytes_print(out, " %llu", (unsigned long long)client->token);
	bytes_print(out, "%s\r\n", word == 6 ? "" : pick_noreply(script));
	bytes_add(out, value.at, value.length);
	bytes_print(out, "\r\n");
	bytes_free(&value);
}

static void
make_small(const struct client *client, struct script *script,
    struct bytes *out)
{
	unsigned int word = script_pick(script, 5);
	char name[NAME_SIZE];

	pick_key(client, script, name);
	if (word < 2)
		bytes_print(out, "%s %s %u", word == 0 ? "incr" : "decr", name,
		    script_take(script));
	else if (word == 2)
		bytes_print(out, "touch %s %s", name,
		    pick_exptime(client, script));
	else
		bytes_print(out, "delete %s", name);
	bytes_print(out, "%s\r\n", pick_noreply(script));
}

/* Flags that any meta command of this kind may have.  Those of which the answer
   is not known beforehand are not for exact clients. */
static void
add_flags(const struct client *client, struct script *script, const char *safe,
    const char *others, struct bytes *out)
{
	unsigned int bits = script_take(script);
	const char *flag;

	for (flag = safe; *flag != '\0'; flag++, bits >>= 1)
		if (bits & 1)
			bytes_print(out, " %c%s", *flag,
			    *flag == 'O' ? "77" : "");
	if (client->is_exact)
		return;
	bits = script_take(script);
	for (flag = others; *flag != '\0'; flag++, bits >>= 1)
		if (bits & 1)
			bytes_print(out, " %c%s", *flag,
			    strchr("NTR", *flag) != NULL ? "30" :
				*flag == 'C'             ? "5" :
							   "");
}

/* Behind a quiet command mn tells where its answer ends. */
static void
end_meta(struct script *script, struct bytes *out, bool is_quiet)
{
	(void)script;
	if (is_quiet)
		bytes_print(out, "mn\r\n");
}

static void
make_ms(const struct client *client, struct script *script, const char *name,
    struct bytes *out)
{
	static const char modes[] = "SSEAPR";
	bool is_quiet = script_pick(script, 6) == 5;
	struct bytes value = { .at = NULL };

	make_value(script, name, &value);
	bytes_print(out, "ms %s %zu M%c F%u", name, value.length,
	    modes[script_pick(script, 6)], script_pick(script, 3));
	bytes_print(out, "%s", script_pick(script, 3) == 2 ? " N0" : "");
	add_flags(client, script, "kO", "CTcI", out);
	bytes_print(out, "%s\r\n", is_quiet ? " q" : "");
	bytes_add(out, value.at, value.length);
	bytes_print(out, "\r\n");
	bytes_free(&value);
	end_meta(script, out, is_quiet);
}

/* With N an ma makes its item. */
static void
add_count_flags(const struct client *client, struct script *script,
    struct bytes *out)
{
	if (script_pick(script, 2) == 1)
		bytes_print(out, " J%u N0", script_take(script));
	add_flags(client, script, "vkO", "tcTC", out);
}

static void
make_meta(const struct client *client, struct script *script, struct bytes *out)
{
	unsigned int word = script_pick(script, 6);
	bool is_quiet = script_pick(script, 6) == 5;
	char name[NAME_SIZE];

	if (script_pick(script, 16) == 15 && !client->is_exact)
		strcpy(name, "azAgYg== b");
	else
		pick_key(client, script, name);
	if (strchr(name, ' ') != NULL && word > 3)
		word = 0;
	/* With N an ma makes a number. */
	if (word == 2 && !is_for_numbers(name, strlen(name)))
		word = 0;
	if (word > 3) {
		make_ms(client, script, name, out);
		return;
	}
	bytes_print(out, "%s %s",
	    word == 0     ? "mg" :
		word == 1 ? "md" :
		word == 2 ? "ma" :
			    "mg",
	    name);
	if (word == 1)
		add_flags(client, script, "kO", "ICT", out);
	else if (word == 2)
		add_count_flags(client, script, out);
	else
		add_flags(client, script, "vkfsO", "tchlRNTN", out);
	bytes_print(out, "%s\r\n", is_quiet ? " q" : "");
	end_meta(script, out, is_quiet);
}

static void
make_other(const struct client *client, struct script *script,
    struct bytes *out)
{
	static const char *const texts[] = { "version\r\n", "stats\r\n",
		"stats conns\r\n", "stats settings\r\n", "stats servers\r\n",
		"stats items\r\n", "verbosity 1\r\n", "mn\r\n", "me k0\r\n",
		"flush_all\r\n", "flush_all 0 noreply\r\n", "flush_all 2\r\n",
		"shutdown\r\n", "nonsense\r\n", "set k0 0 0 -1\r\n",
		"incr n0 abc\r\n", "get\r\n", "quit\r\n",
		"set k0 0 0 99999999 noreply\r\n" };
	size_t n = sizeof(texts) / sizeof(texts[0]) - 1;
	unsigned int i = script_pick(script, (unsigned int)n);

	/* A client may be gone when its flush_all is carried out, and others
	   may have come. */
	if (all_exact && i >= 9 && i <= 11)
		return;
	bytes_print(out, "%s", texts[i]);
}

static void
make_command(const struct client *client, struct script *script,
    struct bytes *out)
{
	unsigned int kind = script_pick(script, 12);

	if (kind < 4)
		make_get(client, script, out);
	else if (kind < 7)
		make_store(client, script, out);
	else if (kind < 9)
		make_small(client, script, out);
	else if (kind < 11)
		make_meta(client, script, out);
	else
		make_other(client, script, out);
}

/*
 * Sending
 */

static void
send_some(struct client *client, size_t n)
{
	if (n > client->unsent.length)
		n = client->unsent.length;
	world_send(client->end, client->unsent.at, n);
	bytes_drop(&client->unsent, n);
}

static bool
can_send(const struct client *client)
{
	return client->end != -1 && !client->has_shut && !client->has_quit;
}

void
client_command(unsigned int i, struct script *script)
{
	struct client *client = &clients[i];
	struct bytes command = { .at = NULL };
	unsigned int split = script_take(script);

	if (!can_send(client))
		return;
	make_command(client, script, &command);
	bytes_add(&client->unsent, command.at, command.length);
	bytes_add(&client->pending, command.at, command.length);
	bytes_free(&command);
	if (split < 160)
		client_push(i);
	else
		send_some(client, (size_t)(split - 160) / 2);
}

void
client_push(unsigned int i)
{
	struct client *client = &clients[i];

	if (client->end != -1 && !client->has_shut)
		send_some(client, client->unsent.length);
}

void
client_babble(unsigned int i, struct script *script, unsigned int n)
{
	char byte;

	if (!can_send(&clients[i]))
		return;
	clients[i].is_wild = true;
	client_push(i);
	while (n-- > 0 && script->left > 0) {
		byte = (char)script_take(script);
		world_send(clients[i].end, &byte, 1);
	}
}

void
client_say(unsigned int i, const char *text)
{
	struct client *client = &clients[i];

	client->is_exact = true;
	bytes_add(&client->unsent, text, strlen(text));
	bytes_add(&client->pending, text, strlen(text));
	client_push(i);
}

void
client_shut(unsigned int i)
{
	if (!can_send(&clients[i]))
		return;
	client_push(i);
	world_shut(clients[i].end);
	clients[i].has_shut = true;
}

/*
 * Checking
 */

/* A part of an answer: what is asked for, and what has come. */
struct view {
	struct client *client;
	const struct proto_request *r;
	const char *command;
	const char *bytes;
	size_t n;
};

static void complain(const struct view *view, const char *what)
    __attribute__((noreturn));

static void
complain(const struct view *view, const char *what)
{
	size_t asked = view->r->length < 300 ? view->r->length : 300;
	size_t got = view->n < 300 ? view->n : 300;

	finding(
	    "client %u: %s\n  asked: %.*s\n  got (%zu): %.*s\n"
	    "  expected (%zu): %.*s",
	    view->client->number, what, (int)asked, view->command, view->n,
	    (int)got, view->bytes, view->client->expected.length,
	    (int)(view->client->expected.length < 300 ?
		    view->client->expected.length :
		    300),
	    view->client->expected.at);
}

static bool
is_of_number(const char *value, size_t n)
{
	while (n > 0 &&
	    (isdigit((unsigned char)value[n - 1]) || value[n - 1] == ' '))
		n--;
	return n == 0;
}

/* Whether it consists of pieces that name the key. */
static bool
is_value_of(const char *value, size_t n, const char *key, size_t length)
{
	const char *end;

	if (is_for_numbers(key, length))
		return is_of_number(value, n);
	while (n > 0) {
		if (n < length + 2 || value[0] != '[' ||
		    memcmp(value + 1, key, length) != 0 ||
		    value[length + 1] != '.')
			return false;
		end = memchr(value, ']', n);
		if (end == NULL)
			return false;
		n -= (size_t)(end + 1 - value);
		value = end + 1;
	}
	return true;
}

static bool
is_own(const struct client *client, const char *key, size_t length)
{
	char prefix[16];
	int n = snprintf(prefix, sizeof(prefix), "c%u.", client->number);

	return length > (size_t)n && memcmp(key, prefix, (size_t)n) == 0;
}

static bool
is_get(const struct proto_request *r)
{
	return r->command <= PROTO_GATS;
}

static bool
has_key(const struct proto_request *r)
{
	return r->command <= PROTO_ME && r->command != PROTO_MN;
}

static bool
are_all_own(const struct view *view)
{
	const struct proto_request *r = view->r;
	size_t at = r->keys.at, end = r->keys.at + r->keys.length;
	struct proto_span key;

	while (proto_token(view->command, end, &at, &key))
		if (!is_own(view->client, view->command + key.at, key.length))
			return false;
	return true;
}

/* Whether the model knows what must come. */
static bool
is_known(const struct view *view)
{
	const struct proto_request *r = view->r;

	if (!view->client->is_exact || !has_key(r) || r->error != NULL ||
	    r->command == PROTO_ME)
		return false;
	if (is_get(r))
		return r->command != PROTO_GETS && r->command != PROTO_GATS &&
		    are_all_own(view);
	return r->command != PROTO_CAS &&
	    is_own(view->client, view->command + r->key.at, r->key.length);
}

static void
run_model(const struct view *view, struct bytes *out)
{
	model_execute(&view->client->model, view->r, view->command,
	    world_seconds(), out);
}

/* Whether q keeps this answer from the client. */
static bool
is_kept_quiet(const struct proto_request *r, const struct bytes *answer)
{
	if (!r->quiet || answer->length < 2)
		return false;
	if (r->command == PROTO_MG)
		return memcmp(answer->at, "EN", 2) == 0;
	return memcmp(answer->at, "HD", 2) == 0 ||
	    memcmp(answer->at, "VA", 2) == 0;
}

static void
expect_exactly(const struct view *view)
{
	struct client *client = view->client;

	client->is_expecting = true;
	bytes_drop(&client->expected, client->expected.length);
	run_model(view, &client->expected);
	if (view->r->noreply || is_kept_quiet(view->r, &client->expected))
		bytes_drop(&client->expected, client->expected.length);
}

/* Returns the length of the answer; -1: it is not whole. */
static ssize_t
check_exactly(const struct view *view)
{
	struct bytes *expected = &view->client->expected;
	size_t n;

	if (!view->client->is_expecting)
		expect_exactly(view);
	n = view->n < expected->length ? view->n : expected->length;
	if (n > 0 && memcmp(expected->at, view->bytes, n) != 0)
		complain(view, "not what one memcached answers");
	if (n < expected->length)
		return -1;
	view->client->is_expecting = false;
	return (ssize_t)n;
}

static ssize_t
check_line(const struct view *view, const char *text)
{
	const char *lf;

	if (view->n == 0)
		return -1;
	lf = memchr(view->bytes, '\n', view->n);
	if (lf == NULL)
		return -1;
	if (strncmp(view->bytes, text, strlen(text)) != 0 &&
	    strncmp(view->bytes, "SERVER_ERROR ", 13) != 0 &&
	    strncmp(view->bytes, "CLIENT_ERROR of a server", 24) != 0)
		complain(view, text);
	return lf + 1 - view->bytes;
}

static enum proto_expect
expectation(const struct proto_request *r)
{
	static const enum proto_expect kinds[] = {
		[PROTO_INCR] = PROTO_EXPECT_NUMBER,
		[PROTO_DECR] = PROTO_EXPECT_NUMBER,
		[PROTO_TOUCH] = PROTO_EXPECT_TOUCHED,
		[PROTO_DELETE] = PROTO_EXPECT_DELETED,
		[PROTO_MG] = PROTO_EXPECT_META_GET,
		[PROTO_MS] = PROTO_EXPECT_META_SET,
		[PROTO_MD] = PROTO_EXPECT_META_DELETE,
		[PROTO_MA] = PROTO_EXPECT_META_ARITHMETIC,
		[PROTO_MN] = PROTO_EXPECT_OK,
		[PROTO_ME] = PROTO_EXPECT_META_DEBUG,
		[PROTO_FLUSH_ALL] = PROTO_EXPECT_OK,
		[PROTO_VERSION] = PROTO_EXPECT_VERSION,
		[PROTO_VERBOSITY] = PROTO_EXPECT_OK,
		[PROTO_STATS] = PROTO_EXPECT_STATS,
	};

	if (r->command == PROTO_GETS || r->command == PROTO_GATS)
		return PROTO_EXPECT_VALUES_CAS;
	if (is_get(r))
		return PROTO_EXPECT_VALUES;
	if (r->command >= PROTO_SET && r->command <= PROTO_CAS)
		return PROTO_EXPECT_STORED;
	return kinds[r->command];
}

/* Move *at behind the next key that was asked for and is this one.  Returns
   false if there is none. */
static bool
find_asked(const struct view *view, size_t *at, const char *key, size_t length)
{
	const struct proto_request *r = view->r;
	struct proto_span asked;

	while (proto_token(view->command, r->keys.at + r->keys.length, at,
	    &asked))
		if (asked.length == length &&
		    memcmp(view->command + asked.at, key, length) == 0)
			return true;
	return false;
}

static void
check_value(const struct view *view, const struct proto_reply *value,
    const char *bytes, size_t *at)
{
	const char *key = bytes + value->key.at;

	if (!is_get(view->r) || !find_asked(view, at, key, value->key.length))
		complain(view, "a value that was not asked for");
	if (!is_value_of(bytes + value->data.at, value->data.length, key,
		value->key.length))
		complain(view, "the value of another key");
	if (value->cas.length > 0)
		view->client->token = proto_number(bytes + value->cas.at,
		    value->cas.length);
}

static bool
has_flag(const struct view *view, char flag)
{
	size_t at = view->r->meta.at;
	struct proto_span token;

	while (proto_token(view->command,
	    view->r->meta.at + view->r->meta.length, &at, &token))
		if (view->command[token.at] == flag)
			return true;
	return false;
}

static void
check_meta_value(const struct view *view, const struct proto_reply *value)
{
	const struct proto_span *key = &view->r->key;

	if (servers_told_twice() && !has_flag(view, 'k'))
		return;
	if (!is_value_of(view->bytes + value->data.at, value->data.length,
		view->command + key->at, key->length))
		complain(view, "the value of another key");
}

/* What a cas has done is known when its answer comes. */
static void
follow_cas(const struct view *view, const struct proto_reply *last)
{
	struct proto_request set = *view->r;
	struct bytes ignored = { .at = NULL };

	if (!view->client->is_exact || set.command != PROTO_CAS ||
	    last->result != PROTO_STORED ||
	    !is_own(view->client, view->command + set.key.at, set.key.length))
		return;
	set.command = PROTO_SET;
	model_execute(&view->client->model, &set, view->command,
	    world_seconds(), &ignored);
	bytes_free(&ignored);
}

/* Element by element; returns as check_exactly(). */
static ssize_t
check_elements(const struct view *view)
{
	struct proto_reply reply;
	size_t used = 0, at = view->r->keys.at;

	for (;;) {
		switch (proto_reply(view->bytes + used, view->n - used,
		    expectation(view->r), LIMIT, &reply)) {
		case PROTO_OK:
			break;
		case PROTO_MORE:
			return -1;
		default:
			complain(view, "no answer to this command");
		}
		if (reply.result == PROTO_VALUE)
			check_value(view, &reply, view->bytes + used, &at);
		if (reply.result == PROTO_META_VALUE &&
		    view->r->command == PROTO_MG)
			check_meta_value(view, &reply);
		used += reply.length;
		if (reply.result != PROTO_VALUE && reply.result != PROTO_STAT)
			break;
	}
	follow_cas(view, &reply);
	return (ssize_t)used;
}

/* The model must also know of what cannot be checked: a flush_all, and a value
   that is too large, whose key is deleted. */
static void
follow_silently(const struct view *view)
{
	struct proto_request r = *view->r;
	struct bytes ignored = { .at = NULL };

	if (r.too_large && (r.command == PROTO_SET || r.command == PROTO_MS))
		r.command = PROTO_DELETE;
	else if (r.error != NULL || r.command != PROTO_FLUSH_ALL)
		return;
	if (view->client->is_exact)
		model_execute(&view->client->model, &r, view->command,
		    world_seconds(), &ignored);
	bytes_free(&ignored);
}

static bool
is_silenced(const struct view *view)
{
	return view->r->quiet && view->n >= 4 &&
	    memcmp(view->bytes, "MN\r\n", 4) == 0;
}

static ssize_t
check_command(const struct view *view)
{
	const struct proto_request *r = view->r;

	if (r->error != NULL && r->noreply)
		return 0;
	/* Or of a cas that cannot match. */
	if (r->too_large)
		return check_elements(view);
	if (r->error != NULL)
		return check_line(view, r->error);
	if (is_known(view))
		return check_exactly(view);
	if (r->noreply || is_silenced(view))
		return 0;
	if (r->command == PROTO_MN)
		return check_line(view, "MN\r\n");
	if (r->quiet && view->n < 4)
		return -1;
	return check_elements(view);
}

/* Look at the answer to the first command.  Returns false if it has not come
   whole. */
static bool
check_first(struct client *client)
{
	struct proto_request r;
	struct view view = { .client = client, .r = &r };
	ssize_t n;

	view.bytes = world_received(client->end, &view.n);
	view.command = client->pending.at;
	if (client->pending.length == 0 && view.n > 0)
		finding("client %u was not to get: %.*s", client->number,
		    (int)view.n, view.bytes);
	if (client->pending.length == 0 ||
	    proto_request(view.command, client->pending.length, value_limit,
		&r) != PROTO_OK ||
	    r.length + r.swallow > client->pending.length)
		return false;
	if (r.command == PROTO_QUIT) {
		client->has_quit = true;
		return false;
	}
	n = check_command(&view);
	if (n == -1)
		return false;
	follow_silently(&view);
	world_drop(client->end, (size_t)n);
	bytes_drop(&client->pending, r.length + r.swallow);
	return true;
}

static void
drop_all(struct client *client)
{
	size_t n;

	world_received(client->end, &n);
	world_drop(client->end, n);
}

static void
on_end(struct client *client)
{
	bool is_answered = client->pending.length == 0 &&
	    client->unsent.length == 0;

	if (!may_end && !client->is_wild && !client->has_quit &&
	    !(client->has_shut && is_answered))
		finding("client %u is closed without a reason", client->number);
	world_close(client->end, false);
	forget(client);
}

/* More than -n are told so, and closed. */
static bool
is_refused(const struct client *client)
{
	static const char sorry[] = "ERROR Too many open connections\r\n";
	size_t n;
	const char *bytes = world_received(client->end, &n);

	return may_end && world_is_closed(client->end) && n < sizeof(sorry) &&
	    memcmp(bytes, sorry, n) == 0;
}

static bool
read_client(struct client *client)
{
	size_t before, after;

	world_received(client->end, &before);
	client->is_wild |= is_refused(client);
	if (client->is_wild)
		drop_all(client);
	else
		while (check_first(client))
			;
	world_received(client->end, &after);
	/* Half an answer may be left. */
	if (world_has_ended(client->end) ||
	    (world_is_closed(client->end) && after == before)) {
		on_end(client);
		return true;
	}
	return after != before;
}

bool
clients_read(void)
{
	bool any = false;
	unsigned int i;

	for (i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].end != -1 && !clients[i].is_deaf)
			any |= read_client(&clients[i]);
	return any;
}

bool
clients_are_done(void)
{
	unsigned int i;

	for (i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].end != -1 && !clients[i].is_wild &&
		    (clients[i].pending.length > 0 || clients[i].has_shut))
			return false;
	return true;
}

unsigned int
client_number(unsigned int i)
{
	return clients[i].number;
}

static void
describe(const struct client *client)
{
	size_t n, asked = client->pending.length;
	const char *bytes = world_received(client->end, &n);

	fprintf(stderr,
	    "client %u:%s%s waits (%zu unsent):\n%.*s\n"
	    "and got:\n%.*s\n",
	    client->number, client->is_exact ? " exact" : "",
	    client->has_shut ? " shut" : "", client->unsent.length,
	    (int)(asked < 400 ? asked : 400), client->pending.at,
	    (int)(n < 400 ? n : 400), bytes);
}

void
clients_describe(void)
{
	unsigned int i;

	for (i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].end != -1 && !clients[i].is_wild &&
		    (clients[i].pending.length > 0 || clients[i].has_shut))
			describe(&clients[i]);
}
