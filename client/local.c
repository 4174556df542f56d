/*
 * Answer the commands that are about no key.
 *
 * Invariant: each way through local_answer() gives the request its reply once,
 * or has a fanout, a flush_all or an operator's word do so later.
 */

#include "client/local.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "client/admin.h"
#include "client/fanout.h"
#include "client/report.h"
#include "client/request.h"
#include "client/stats.h"
#include "conn.h"
#include "mirror/flush.h"
#include "mirror/pair.h"
#include "proto.h"

static void
finish_with_text(struct request *request, const char *text)
{
	request_finish(request, text, strlen(text));
}

static void
answer_version(struct local *local, struct request *request)
{
	char lowest[32], line[80];

	static_assert(sizeof("VERSION -magent-\r\n" MAGENT_VERSION) +
		    sizeof(lowest) <=
		sizeof(line),
	    "the line is whole");
	pairs_version(local->env->pairs, lowest, sizeof(lowest));
	snprintf(line, sizeof(line), "VERSION %s-magent-%s\r\n", lowest,
	    MAGENT_VERSION);
	finish_with_text(request, line);
}

static void
on_flush_done(void *owner, const char *reply)
{
	finish_with_text(owner, reply);
}

static void
answer_flush_all(struct local *local, struct request *request,
    const struct proto_request *r)
{
	request_silence(request, r->noreply);
	if (local->refuse_flush) {
		finish_with_text(request,
		    "CLIENT_ERROR flush_all not allowed\r\n");
		return;
	}
	local->env->stats->cmd_flush++;
	request_hold(request);
	if (!flush_all(pairs_flushes(local->env->pairs),
		r->has_exptime ? r->exptime : 0, on_flush_done, request))
		request_fail(request);
}

/*
 * stats
 */

static struct block *
render_general(void *arg, const struct stats_of_servers *sum, size_t *length)
{
	struct local *local = arg;

	return report_general(local->env->stats, local->env->pairs, sum,
	    local->settings, conn_loop_now(local->loop), length);
}

/* The reply is a page of length bytes, which is released; NULL: there was no
   memory for it. */
static void
finish_with_page(struct request *request, struct block *page, size_t length)
{
	if (page != NULL)
		request_finish(request, page->bytes, length);
	else
		request_fail(request);
	block_release(page);
}

/* Whether the argument of r is this word. */
static bool
is_word(const struct proto_request *r, const char *bytes, const char *word)
{
	return r->argument.length == strlen(word) &&
	    memcmp(bytes + r->argument.at, word, r->argument.length) == 0;
}

/* Whether memcached answers this with a list of what is in its memory: we have
   none of that. */
static bool
is_about_items(const struct proto_request *r, const char *bytes)
{
	static const char *const words[] = {
		"items",
		"slabs",
		"sizes",
		"cachedump",
		"detail",
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (is_word(r, bytes, words[i]))
			return true;
	return false;
}

static void
answer_hotkeys(const struct local *local, struct request *request)
{
	struct hotkeys *hotkeys = local->env->hotkeys;
	struct block *page;
	size_t length;

	if (hotkeys == NULL) {
		finish_with_text(request,
		    "CLIENT_ERROR keys are not sampled (--hotkeys)\r\n");
		return;
	}
	page = report_hotkeys(hotkeys, &length);
	finish_with_page(request, page, length);
}

static void
answer_stats(struct local *local, struct request *request,
    const struct proto_request *r, const char *bytes)
{
	struct pairs *pairs = local->env->pairs;
	struct block *page;
	size_t length;

	assert(r->argument.at + r->argument.length <= r->length);
	if (r->argument.length == 0) {
		if (!fanout_stats(local->env, request, render_general, local))
			request_fail(request);
	} else if (is_word(r, bytes, "servers")) {
		page = report_servers(pairs, conn_loop_now(local->loop),
		    &length);
		finish_with_page(request, page, length);
	} else if (is_word(r, bytes, "route")) {
		page = report_route(pairs, bytes + r->key.at, r->key.length,
		    &length);
		finish_with_page(request, page, length);
	} else if (is_word(r, bytes, "latency")) {
		page = report_latency(local->env->stats, pairs, &length);
		finish_with_page(request, page, length);
	} else if (is_word(r, bytes, "hotkeys")) {
		answer_hotkeys(local, request);
	} else if (is_word(r, bytes, "settings")) {
		page = report_settings(pairs, local->settings, &length);
		finish_with_page(request, page, length);
	} else if (is_word(r, bytes, "conns")) {
		page = report_conns(local->clients, &length);
		finish_with_page(request, page, length);
	} else if (is_word(r, bytes, "reset")) {
		stats_reset(local->env->stats);
		finish_with_text(request, "RESET\r\n");
	} else {
		finish_with_text(request,
		    is_about_items(r, bytes) ? "END\r\n" : "ERROR\r\n");
	}
}

void
local_answer(struct local *local, struct request *request,
    const struct proto_request *r, const char *bytes)
{
	assert(r->error == NULL || r->command == PROTO_REFUSED);
	switch (r->command) {
	case PROTO_REFUSED:
		admin_answer(local->env->pairs, request, r, bytes);
		break;
	case PROTO_VERSION:
		answer_version(local, request);
		break;
	case PROTO_STATS:
		answer_stats(local, request, r, bytes);
		break;
	default:
		assert(r->command == PROTO_FLUSH_ALL);
		answer_flush_all(local, request, r);
	}
}
