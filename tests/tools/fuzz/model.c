/* A memcached in memory. */

#include "model.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "proto.h"

struct item {
	struct item *next;
	char key[PROTO_KEY_MAX];
	size_t length;
	bool is_binary; /* its key came in base64 */
	uint32_t flags;
	int64_t expires; /* 0: never */
	uint64_t cas;
	bool is_stale;   /* md with I */
	bool is_awaited; /* one client was asked to set it anew */
	struct bytes value;
};

/* A request that is carried out. */
struct run {
	struct model *model;
	const struct proto_request *r;
	const char *bytes;
	int64_t now;
	struct bytes *out;
};

/*
 * Items
 */

static void
remove_item(struct model *model, struct item *item)
{
	struct item **at;

	for (at = &model->items; *at != item; at = &(*at)->next)
		assert(*at != NULL);
	*at = item->next;
	bytes_free(&item->value);
	free(item);
	model->count--;
}

void
model_clear(struct model *model)
{
	while (model->items != NULL)
		remove_item(model, model->items);
}

static void
flush_if_time(struct model *model, int64_t now)
{
	if (model->flush_at == 0 || now < model->flush_at)
		return;
	model->flush_at = 0;
	model_clear(model);
}

static struct item *
find_item(struct run *run, const char *key, size_t length)
{
	struct item *item;

	flush_if_time(run->model, run->now);
	for (item = run->model->items; item != NULL; item = item->next)
		if (item->length == length &&
		    memcmp(item->key, key, length) == 0)
			break;
	if (item == NULL || item->expires == 0 || item->expires > run->now)
		return item;
	remove_item(run->model, item);
	return NULL;
}

/* The key of the request as it is in an item. */
static size_t
key_of(const struct run *run, char *key)
{
	const struct proto_span *span = &run->r->key;

	if (run->r->base64)
		return proto_base64_decode(run->bytes + span->at, span->length,
		    key);
	memcpy(key, run->bytes + span->at, span->length);
	return span->length;
}

static struct item *
item_of_request(struct run *run)
{
	char key[PROTO_KEY_MAX];
	size_t length = key_of(run, key);

	return find_item(run, key, length);
}

static int64_t
expiry(const struct run *run, int64_t exptime)
{
	if (exptime == 0)
		return 0;
	if (exptime < 0)
		return run->now - 1;
	return exptime > PROTO_RELATIVE_MAX ? exptime : run->now + exptime;
}

static void
touch_item(struct run *run, struct item *item, int64_t exptime)
{
	item->expires = expiry(run, exptime);
	(void)run;
}

static void
set_value(struct run *run, struct item *item, const char *value, size_t n)
{
	item->value.length = 0;
	bytes_add(&item->value, value, n);
	item->cas = ++run->model->cas;
	item->is_stale = item->is_awaited = false;
}

/* An empty item with the key of the request; it is not there yet. */
static struct item *
add_item(struct run *run)
{
	struct item *item = calloc(1, sizeof(*item));

	if (item == NULL)
		abort();
	item->length = key_of(run, item->key);
	item->is_binary = run->r->base64;
	item->next = run->model->items;
	run->model->items = item;
	run->model->count++;
	run->model->total++;
	return item;
}

static void
say(struct run *run, const char *text)
{
	bytes_print(run->out, "%s\r\n", text);
}

/*
 * Classic commands
 */

static void
say_value(struct run *run, const struct item *item, bool cas)
{
	bytes_print(run->out, "VALUE %.*s %u %zu", (int)item->length, item->key,
	    item->flags, item->value.length);
	if (cas)
		bytes_print(run->out, " %llu", (unsigned long long)item->cas);
	say(run, "");
	bytes_add(run->out, item->value.at, item->value.length);
	say(run, "");
}

static void
run_get(struct run *run)
{
	const struct proto_request *r = run->r;
	size_t at = r->keys.at, end = r->keys.at + r->keys.length;
	struct proto_span key;
	struct item *item;

	while (proto_token(run->bytes, end, &at, &key)) {
		run->model->gets++;
		item = find_item(run, run->bytes + key.at, key.length);
		if (item == NULL)
			continue;
		if (r->command == PROTO_GAT || r->command == PROTO_GATS)
			touch_item(run, item, r->exptime);
		say_value(run, item,
		    r->command == PROTO_GETS || r->command == PROTO_GATS);
	}
	say(run, "END");
}

static struct item *
store(struct run *run, struct item *item)
{
	const struct proto_request *r = run->r;

	if (item == NULL)
		item = add_item(run);
	item->flags = r->flags;
	touch_item(run, item, r->exptime);
	set_value(run, item, run->bytes + r->data.at, r->data.length);
	return item;
}

static void
extend(struct run *run, struct item *item, bool behind)
{
	const char *more = run->bytes + run->r->data.at;
	struct bytes whole = { .at = NULL };

	if (behind)
		bytes_add(&whole, item->value.at, item->value.length);
	bytes_add(&whole, more, run->r->data.length);
	if (!behind)
		bytes_add(&whole, item->value.at, item->value.length);
	set_value(run, item, whole.at, whole.length);
	bytes_free(&whole);
}

static const char *
run_store(struct run *run)
{
	struct item *item = item_of_request(run);

	run->model->sets++;
	switch (run->r->command) {
	case PROTO_ADD:
		if (item != NULL)
			return "NOT_STORED";
		break;
	case PROTO_REPLACE:
		if (item == NULL)
			return "NOT_STORED";
		break;
	case PROTO_CAS:
		if (item == NULL)
			return "NOT_FOUND";
		if (item->cas != run->r->cas)
			return "EXISTS";
		break;
	case PROTO_APPEND:
	case PROTO_PREPEND:
		if (item == NULL)
			return "NOT_STORED";
		extend(run, item, run->r->command == PROTO_APPEND);
		return "STORED";
	default:
		break;
	}
	store(run, item);
	return "STORED";
}

static bool
read_number(const struct item *item, uint64_t *number)
{
	size_t i;

	*number = 0;
	if (item->value.length == 0 || item->value.length > 20 ||
	    !isdigit((unsigned char)item->value.at[0]))
		return false;
	for (i = 0; i < item->value.length &&
	     isdigit((unsigned char)item->value.at[i]);
	     i++)
		*number = *number * 10 + (uint64_t)(item->value.at[i] - '0');
	while (i < item->value.length)
		if (item->value.at[i++] != ' ')
			return false;
	return true;
}

/* Add to the number in the item, or take from it.  It keeps its length, with
   spaces behind it.  Returns NULL, or an error. */
static const char *
count(struct run *run, struct item *item, bool down, uint64_t *number)
{
	char text[32];
	int n;

	if (!read_number(item, number))
		return "CLIENT_ERROR cannot increment or decrement "
		       "non-numeric value";
	if (down)
		*number -= *number < run->r->delta ? *number : run->r->delta;
	else
		*number += run->r->delta;
	n = snprintf(text, sizeof(text), "%-*llu", (int)item->value.length,
	    (unsigned long long)*number);
	set_value(run, item, text, (size_t)n);
	return NULL;
}

static void
run_count(struct run *run)
{
	struct item *item = item_of_request(run);
	const char *error;
	uint64_t number;

	if (item == NULL) {
		say(run, "NOT_FOUND");
		return;
	}
	error = count(run, item, run->r->command == PROTO_DECR, &number);
	if (error != NULL)
		say(run, error);
	else
		bytes_print(run->out, "%llu\r\n", (unsigned long long)number);
}

static const char *
run_touch(struct run *run)
{
	struct item *item = item_of_request(run);

	if (item == NULL)
		return "NOT_FOUND";
	touch_item(run, item, run->r->exptime);
	return "TOUCHED";
}

static const char *
run_delete(struct run *run)
{
	struct item *item = item_of_request(run);

	if (item == NULL)
		return "NOT_FOUND";
	remove_item(run->model, item);
	return "DELETED";
}

static const char *
run_flush(struct run *run)
{
	const struct proto_request *r = run->r;
	int64_t delay = r->has_exptime ? r->exptime : 0;

	if (delay > PROTO_RELATIVE_MAX)
		delay -= run->now;
	if (delay < 2)
		model_clear(run->model);
	else
		run->model->flush_at = run->now + delay - 1;
	return "OK";
}

/*
 * Meta commands
 */

static void
say_flag(struct run *run, const struct item *item,
    const struct proto_span *token)
{
	const char *text = run->bytes + token->at;
	int64_t left = item == NULL || item->expires == 0 ?
	    -1 :
	    item->expires - run->now;

	switch (text[0]) {
	case 'O':
		bytes_print(run->out, " %.*s", (int)token->length, text);
		break;
	case 'k':
		bytes_print(run->out, " k%.*s", (int)run->r->key.length,
		    run->bytes + run->r->key.at);
		break;
	case 'b':
		bytes_print(run->out, " b");
		break;
	case 'c':
		if (item != NULL)
			bytes_print(run->out, " c%llu",
			    (unsigned long long)item->cas);
		break;
	case 'f':
		if (item != NULL)
			bytes_print(run->out, " f%u", item->flags);
		break;
	case 's':
		if (item != NULL)
			bytes_print(run->out, " s%zu", item->value.length);
		break;
	case 't':
		if (item != NULL)
			bytes_print(run->out, " t%lld", (long long)left);
		break;
	}
}

/* The flags of the answer; what there is to say of an item, if there is one. */
static void
say_flags(struct run *run, const struct item *item, const char *allowed)
{
	const struct proto_request *r = run->r;
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	struct proto_span token;

	while (proto_token(run->bytes, end, &at, &token))
		if (strchr(allowed, run->bytes[token.at]) != NULL)
			say_flag(run, item, &token);
}

static void
say_short(struct run *run, const char *word, const char *allowed)
{
	bytes_print(run->out, "%s", word);
	say_flags(run, NULL, allowed);
	say(run, "");
}

/* The beginning of the reply to an mg or ma: flags follow it. */
static void
begin_meta(struct run *run, const struct item *item)
{
	if (run->r->has_value)
		bytes_print(run->out, "VA %zu", item->value.length);
	else
		bytes_print(run->out, "HD");
}

/* What follows the flags. */
static void
end_meta(struct run *run, const struct item *item)
{
	say(run, "");
	if (!run->r->has_value)
		return;
	bytes_add(run->out, item->value.at, item->value.length);
	say(run, "");
}

static void
run_mg(struct run *run)
{
	const struct proto_request *r = run->r;
	struct item *item = item_of_request(run);
	bool wins = false;

	run->model->gets++;
	if (item == NULL && r->has_vivify) {
		item = add_item(run);
		touch_item(run, item, r->vivify);
		item->cas = ++run->model->cas;
		wins = true;
	}
	if (item == NULL) {
		say(run, "EN");
		return;
	}
	/* As if R stood before T. */
	wins |= r->has_recache && item->expires != 0 && !item->is_awaited &&
	    item->expires < expiry(run, r->recache);
	if (r->has_ttl)
		touch_item(run, item, r->exptime);
	begin_meta(run, item);
	say_flags(run, item, "Okbcfst");
	wins |= item->is_stale && !item->is_awaited;
	bytes_print(run->out, "%s%s%s", wins ? " W" : "",
	    item->is_stale ? " X" : "", item->is_awaited && !wins ? " Z" : "");
	item->is_awaited |= wins;
	end_meta(run, item);
}

/* Since 1.6.19. */
static bool
makes_by_append(const struct run *run)
{
	return run->r->has_vivify && run->r->mode != 'R' &&
	    run->model->makes_by_append;
}

static void
store_stale(struct run *run, struct item *item)
{
	const struct proto_request *r = run->r;
	bool is_awaited = item->is_awaited;

	item->flags = r->flags;
	set_value(run, item, run->bytes + r->data.at, r->data.length);
	item->is_stale = true;
	item->is_awaited = is_awaited;
}

static void
run_ms(struct run *run)
{
	const struct proto_request *r = run->r;
	struct item *item = item_of_request(run);
	const char *word = "HD";

	run->model->sets++;
	if (r->mode == 'E' && item != NULL)
		word = "NS";
	else if (r->mode != 'S' && r->mode != 'E' && item == NULL &&
	    !makes_by_append(run))
		word = "NS";
	else if (r->has_cas && item == NULL)
		word = "NF";
	else if (r->has_cas && r->has_invalidate && r->cas != 0 &&
	    r->cas < item->cas && (r->mode == 'S' || r->mode == 'R'))
		store_stale(run, item);
	else if (r->has_cas && item->cas != r->cas)
		word = "EX";
	else if (item == NULL && (r->mode == 'A' || r->mode == 'P'))
		touch_item(run, store(run, NULL), r->vivify);
	else if (r->mode == 'A' || r->mode == 'P')
		extend(run, item, r->mode == 'A');
	else
		store(run, item);
	bytes_print(run->out, "%s", word);
	say_flags(run, item_of_request(run), "Okbc");
	say(run, "");
}

static void
run_md(struct run *run)
{
	const struct proto_request *r = run->r;
	struct item *item = item_of_request(run);

	if (item == NULL) {
		say_short(run, "NF", "Okb");
		return;
	}
	if (r->has_cas && item->cas != r->cas) {
		say_short(run, "EX", "Okb");
		return;
	}
	if (r->has_invalidate) {
		item->is_stale = true;
		item->is_awaited = false;
		item->cas = ++run->model->cas;
		if (r->has_ttl)
			touch_item(run, item, r->exptime);
	} else {
		remove_item(run->model, item);
	}
	say_short(run, "HD", "Okb");
}

static struct item *
vivify_number(struct run *run)
{
	struct item *item = add_item(run);
	char text[32];
	int n = snprintf(text, sizeof(text), "%llu",
	    (unsigned long long)run->r->initial);

	/* As if N stood before T. */
	touch_item(run, item,
	    run->r->has_ttl ? run->r->exptime : run->r->vivify);
	set_value(run, item, text, (size_t)n);
	return item;
}

static const char *
count_item(struct run *run, struct item *item)
{
	const struct proto_request *r = run->r;
	uint64_t number;

	if (r->has_ttl)
		touch_item(run, item, r->exptime);
	return count(run, item, r->mode == 'D', &number);
}

static void
run_ma(struct run *run)
{
	const struct proto_request *r = run->r;
	struct item *item = item_of_request(run);
	const char *error = NULL;

	if (item == NULL && !r->has_vivify) {
		say_short(run, "NF", "Okb");
		return;
	}
	if (item != NULL && r->has_cas && item->cas != r->cas) {
		say_short(run, "EX", "Okb");
		return;
	}
	if (item == NULL)
		item = vivify_number(run);
	else
		error = count_item(run, item);
	if (error != NULL) {
		say(run, error);
		return;
	}
	begin_meta(run, item);
	say_flags(run, item, "Okbct");
	end_meta(run, item);
}

static void
run_me(struct run *run)
{
	const struct proto_span *key = &run->r->key;

	if (item_of_request(run) == NULL)
		say(run, "EN");
	else
		bytes_print(run->out, "ME %.*s exp=-1 la=1 fetch=no\r\n",
		    (int)key->length, run->bytes + key->at);
}

void
model_execute(struct model *model, const struct proto_request *r,
    const char *bytes, int64_t now, struct bytes *out)
{
	struct run run = { model, r, bytes, now, out };

	switch (r->command) {
	case PROTO_GET:
	case PROTO_GETS:
	case PROTO_GAT:
	case PROTO_GATS:
		run_get(&run);
		break;
	case PROTO_INCR:
	case PROTO_DECR:
		run_count(&run);
		break;
	case PROTO_TOUCH:
		say(&run, run_touch(&run));
		break;
	case PROTO_DELETE:
		say(&run, run_delete(&run));
		break;
	case PROTO_FLUSH_ALL:
		say(&run, run_flush(&run));
		break;
	case PROTO_MG:
		run_mg(&run);
		break;
	case PROTO_MS:
		run_ms(&run);
		break;
	case PROTO_MD:
		run_md(&run);
		break;
	case PROTO_MA:
		run_ma(&run);
		break;
	case PROTO_ME:
		run_me(&run);
		break;
	case PROTO_MN:
		say(&run, "MN");
		break;
	default:
		assert(r->command >= PROTO_SET && r->command <= PROTO_CAS);
		say(&run, run_store(&run));
	}
}

void
model_dump(struct model *model, int64_t now, struct bytes *out)
{
	const struct item *item;
	size_t i;

	flush_if_time(model, now);
	for (item = model->items; item != NULL; item = item->next) {
		if (item->expires != 0 && item->expires <= now)
			continue;
		bytes_print(out, "key=");
		for (i = 0; i < item->length; i++)
			if (isalnum((unsigned char)item->key[i]))
				bytes_add(out, item->key + i, 1);
			else
				bytes_print(out, "%%%02X",
				    (unsigned char)item->key[i]);
		bytes_print(out, " exp=%lld la=1 cas=%llu fetch=no cls=1\r\n",
		    item->expires == 0 ? -1LL : (long long)item->expires,
		    (unsigned long long)item->cas);
	}
}

const char *
model_key(const struct model *model, size_t i, size_t *length)
{
	const struct item *item = model->items;

	while (item != NULL && i-- > 0)
		item = item->next;
	if (item == NULL)
		return NULL;
	*length = item->length;
	return item->key;
}

static const struct item *
item_with(const struct model *model, const char *key, size_t length)
{
	const struct item *item = model->items;

	while (item != NULL &&
	    (item->length != length || memcmp(item->key, key, length) != 0))
		item = item->next;
	return item;
}

bool
models_agree(const struct model *one, const struct model *other,
    const char *key, size_t length)
{
	const struct item *a = item_with(one, key, length);
	const struct item *b = item_with(other, key, length);

	return a == NULL || b == NULL ||
	    (a->flags == b->flags && a->value.length == b->value.length &&
		(a->value.length == 0 ||
		    memcmp(a->value.at, b->value.at, a->value.length) == 0));
}
