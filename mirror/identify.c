/*
 * Ask a server who it is.
 *
 *   version -> heard()      stats      stats settings -> done()
 *
 * Invariant: the three calls are answered in their order, so identify->found
 * is complete when the last one is answered.
 */

#include "mirror/identify.h"

#include <assert.h>
#include <string.h>

#include "container_of.h"
#include "mirror/peer.h"
#include "server/server.h"

/* Note a line of stats, or of stats settings.  Returns true: each name can be
   a part of the answer. */
static bool
note_stat(struct identify *identify, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	assert(!identify->found.known);
	identity_stat(&identify->found, bytes + at + stat->key.at,
	    stat->key.length, bytes + at + stat->data.at, stat->data.length);
	return true;
}

static bool
on_identity_stat(struct call *call, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	return note_stat(CONTAINER_OF(call, struct identify, stats), stat,
	    bytes, at);
}

static bool
on_identity_setting(struct call *call, const struct proto_reply *stat,
    const char *bytes, size_t at)
{
	return note_stat(CONTAINER_OF(call, struct identify, settings), stat,
	    bytes, at);
}

static void
on_version(struct call *call, const struct answer *answer)
{
	struct identify *identify = CONTAINER_OF(call, struct identify,
	    version);

	if (answer == NULL)
		return;
	assert(!identify->found.known);
	if (answer->last.result != PROTO_VERSION_LINE) {
		server_fail(identify->peer->server,
		    link_failure_quoting("is no memcached", answer->bytes,
			answer->length));
		return;
	}
	identify->heard(identify);
	identity_version(&identify->found, answer->bytes + answer->last.data.at,
	    answer->last.data.length);
}

/* The lines were noted when they came.  A server may also refuse this: then
   nothing was noted. */
static void
on_identity_stats(struct call *call, const struct answer *answer)
{
	(void)call;
	(void)answer;
}

static void
on_identity_settings(struct call *call, const struct answer *answer)
{
	struct identify *identify = CONTAINER_OF(call, struct identify,
	    settings);

	if (answer == NULL)
		return;
	assert(identify->peer->state == PEER_IDENTIFY ||
	    identify->peer->state == PEER_STARTING);
	identify->found.known = true;
	identify->done(identify);
}

static void
submit_question(struct identify *identify, struct call *call, const char *line)
{
	server_submit(identify->peer->server, 0, call, line, strlen(line), NULL,
	    0, NULL);
}

void
identify_start(struct identify *identify)
{
	assert(identify->peer->state == PEER_DOWN ||
	    identify->peer->state == PEER_STARTING);
	memset(&identify->found, 0, sizeof(identify->found));
	identify->version = (struct call){
		.expect = PROTO_EXPECT_VERSION,
		.done = on_version,
	};
	identify->stats = (struct call){
		.expect = PROTO_EXPECT_STATS,
		.done = on_identity_stats,
		.element = on_identity_stat,
	};
	identify->settings = (struct call){
		.expect = PROTO_EXPECT_STATS,
		.done = on_identity_settings,
		.element = on_identity_setting,
	};
	submit_question(identify, &identify->version, "version\r\n");
	submit_question(identify, &identify->stats, "stats\r\n");
	submit_question(identify, &identify->settings, "stats settings\r\n");
}

void
identify_init(struct identify *identify, struct peer *peer,
    void (*heard)(struct identify *identify),
    void (*done)(struct identify *identify))
{
	assert(peer->server != NULL && heard != NULL && done != NULL);
	identify->peer = peer;
	identify->heard = heard;
	identify->done = done;
}
