/*
 * Who answers for a pair, in each pair of states, and which pair a key has.
 *
 * The servers are stand-ins, so that a peer is in the state that a test sets.
 */

#include "conn.h"
#include "mirror/behind.h"
#include "mirror/dirty.h"
#include "mirror/flush.h"
#include "mirror/gate.h"
#include "mirror/learn.h"
#include "mirror/marks.h"
#include "mirror/pace.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/address.h"
#include "server/server.h"
#include "unit.h"

enum { STATES = PEER_UP + 1, SERVERS_MAX = 4, KEYS = 2000 };

/* Of the rings that are made. */
static enum ketama_kind ring_kind = KETAMA;

/*
 * Stand-ins for server.c, gate.c, pace.c, learn.c and conn.c
 */

static char a_server, a_gate, a_pace, a_learner, a_marks;
static unsigned int server_count;

struct server *
server_new(struct conn_loop *loop, struct resolver *resolver,
    const struct address *address, const struct server_settings *settings,
    const struct server_handler *handler, void *owner)
{
	(void)loop;
	(void)resolver;
	(void)address;
	(void)settings;
	(void)handler;
	(void)owner;
	server_count++;
	return (struct server *)&a_server;
}

void
server_free(struct server *server)
{
	check(server == (struct server *)&a_server && server_count > 0);
	server_count--;
}

void
server_submit(struct server *server, uint32_t hash, struct call *call,
    const char *line, size_t line_length, const char *data, size_t length,
    struct block *block)
{
	(void)server;
	(void)hash;
	(void)call;
	(void)data;
	(void)length;
	(void)block;
	/* A stamp is raised. */
	check(line_length > 12 && memcmp(line, "incr magent:", 12) == 0);
}

void
server_get(struct server *server, uint32_t hash, struct call *call,
    const char *key, size_t length)
{
	(void)server;
	(void)hash;
	(void)call;
	(void)key;
	(void)length;
	check(false);
}

void
server_fail(struct server *server, const char *why)
{
	(void)server;
	(void)why;
	check(false);
}

int64_t
server_now(const struct server *server)
{
	(void)server;
	return 0;
}

void
server_set_urgent(struct server *server, bool is_urgent)
{
	(void)server;
	(void)is_urgent;
}

const struct server_counters *
server_counters(struct server *server)
{
	static const struct server_counters none;

	(void)server;
	return &none;
}

struct gate *
gate_new(struct conn_loop *loop, struct pairs *pairs)
{
	(void)loop;
	(void)pairs;
	return (struct gate *)&a_gate;
}

bool
gate_is_closed(const struct gate *gate)
{
	(void)gate;
	return false;
}

void
gate_free(struct gate *gate)
{
	check(gate == (struct gate *)&a_gate);
}

struct flushes *
flushes_new(struct conn_loop *loop, struct pairs *pairs)
{
	(void)loop;
	(void)pairs;
	return (struct flushes *)&a_gate;
}

void
flushes_free(struct flushes *flushes)
{
	check(flushes == (struct flushes *)&a_gate);
}

struct pace *
pace_new(struct conn_loop *loop)
{
	(void)loop;
	return (struct pace *)&a_pace;
}

void
pace_free(struct pace *pace)
{
	check(pace == (struct pace *)&a_pace);
}

struct marks *
marks_new(void)
{
	return (struct marks *)&a_marks;
}

void
marks_free(struct marks *marks)
{
	check(marks == (struct marks *)&a_marks);
}

struct learner *
learner_new(struct pairs *pairs)
{
	(void)pairs;
	return (struct learner *)&a_learner;
}

void
learner_free(struct learner *learner)
{
	check(learner == (struct learner *)&a_learner);
}

int64_t
conn_loop_now(struct conn_loop *loop)
{
	(void)loop;
	return 0;
}

/*
 * Layouts: the servers that are given with -s and with -b, a letter each
 */

struct layout {
	struct address primaries[SERVERS_MAX], backups[SERVERS_MAX];
	struct pairs_servers servers;
	struct pairs *pairs;
};

static size_t
parse_servers(const char *letters, struct address *addresses)
{
	size_t i;

	for (i = 0; letters[i] != '\0'; i++) {
		char text[] = "10.0.0.?:11211";

		unit_need(i < SERVERS_MAX, "room for servers");
		text[7] = (char)('1' + letters[i] - 'A');
		text[13] = letters[i] < 'C' ? '1' : '2';
		unit_need(address_parse(&addresses[i], text) == NULL, text);
	}
	return i;
}

static void
lay_out(struct layout *layout, const char *primaries, const char *backups)
{
	static const struct server_settings settings = { .links = 1 };
	static const struct server_handler handler = { .failed = NULL };
	struct pairs_servers *servers = &layout->servers;

	memset(layout, 0, sizeof(*layout));
	servers->ring = ring_kind;
	servers->primary_count = parse_servers(primaries, layout->primaries);
	servers->backup_count = parse_servers(backups, layout->backups);
	servers->primaries = layout->primaries;
	servers->backups = layout->backups;
	layout->pairs = pairs_new(NULL, NULL, servers, &settings, &handler);
	unit_need(layout->pairs != NULL, "pairs_new");
}

static void
tear_down(struct layout *layout)
{
	size_t i;

	pairs_free(layout->pairs);
	for (i = 0; i < layout->servers.primary_count; i++)
		address_free(&layout->primaries[i]);
	for (i = 0; i < layout->servers.backup_count; i++)
		address_free(&layout->backups[i]);
}

/* The letter of a server; a dash: none. */
static char
letter(const struct peer *peer)
{
	return peer == NULL ? '-' : (char)('A' + peer_name(peer)[7] - '1');
}

static bool
is_one_of(const struct peer *peer, const char *letters)
{
	return strchr(letters, letter(peer)) != NULL;
}

/* Those of the servers with these letters are down, the others are up. */
static void
set_down(const struct layout *layout, const char *letters)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(layout->pairs); i++) {
		peer = pairs_peer(layout->pairs, i);
		peer->state = is_one_of(peer, letters) ? PEER_DOWN : PEER_UP;
	}
}

/* The i-th key; the lengths differ. */
static size_t
make_key(char *key, unsigned int i)
{
	int n = snprintf(key, PROTO_KEY_MAX + 1, "key:%u:%0*u", i,
	    (int)(1 + i * 7 % 200), i);

	unit_need(n > 0 && n <= PROTO_KEY_MAX, "make_key");
	return (size_t)n;
}

/*
 * States
 */

/* Whether a peer in a state may be an authority, and whether it gets
   effects. */
static const struct {
	enum peer_state state;
	bool trusted, mirror;
} worth[STATES] = {
	{ PEER_DOWN, false, false },
	{ PEER_STARTING, true, true },
	{ PEER_IDENTIFY, false, false },
	{ PEER_DRAIN, false, false },
	{ PEER_INVALIDATE, false, false },
	{ PEER_REBUILD, false, true },
	{ PEER_HANDBACK, false, true },
	{ PEER_UP, true, true },
};

static void
test_peer_is_trusted_or_a_mirror_in_the_states_that_its_table_says(void)
{
	struct peer peer = { .state = PEER_DOWN };
	int i;

	for (i = 0; i < STATES; i++) {
		check(worth[i].state == (enum peer_state)i);
		peer.state = worth[i].state;
		check_case(peer_is_trusted(&peer) == worth[i].trusted,
		    "trusted in %s", peer_state_name(peer.state));
		check_case(peer_is_mirror(&peer) == worth[i].mirror,
		    "mirror in %s", peer_state_name(peer.state));
	}
}

/*
 * Who answers: P, the primary; B, the backup; a dash, nobody; a question mark,
 * both may.  A row for each state of the primary, a column for each state of
 * the backup, and a last one for no backup:
 *
 *	down, starting, identify, drain, invalidate, rebuild, handback, up; none
 */
static const char authorities[STATES][STATES + 2] = {
	[PEER_DOWN] = "-B---BBB-",
	[PEER_STARTING] = "PPPPPPPPP",
	[PEER_IDENTIFY] = "-B---BBB-",
	[PEER_DRAIN] = "-B---BBB-",
	[PEER_INVALIDATE] = "-B---BBB-",
	[PEER_REBUILD] = "P?PPP???P",
	[PEER_HANDBACK] = "P?PPP???P",
	[PEER_UP] = "PPPPPPPPP",
};

/* Who answers of those who may; 1, the one that became a mirror first.  A row
   for each way in which the primary is behind the backup, a column for each way
   in which the backup is behind the primary: not, by keys, by all. */
static const char mirrors[BEHIND_ALL + 1][BEHIND_ALL + 2] = {
	[BEHIND_NOT] = "PPP",
	[BEHIND_KEYS] = "B11",
	[BEHIND_ALL] = "B11",
};

static struct peer *
expected_authority(struct peer *primary, struct peer *backup)
{
	char who = authorities[primary->state][backup->state];

	if (who == '?')
		who = mirrors[behind_of(primary, backup)]
			     [behind_of(backup, primary)];
	switch (who) {
	case 'P':
		return primary;
	case 'B':
		return backup;
	case '1':
		return primary->mirror_since < backup->mirror_since ?
		    primary :
		    backup;
	default:
		return NULL;
	}
}

static void
check_authority(const struct pair *pair, unsigned int behind)
{
	struct peer *primary = pair->primary, *backup = pair->backup;

	primary->standings[backup->index].behind = (enum behind)(behind / 3);
	backup->standings[primary->index].behind = (enum behind)(behind % 3);
	check_case(pair_authority(pair) == expected_authority(primary, backup),
	    "primary %s since %u, backup %s since %u, behind %u and %u",
	    peer_state_name(primary->state),
	    (unsigned int)primary->mirror_since, peer_state_name(backup->state),
	    (unsigned int)backup->mirror_since, behind / 3, behind % 3);
}

static void
test_authority_of_each_two_states_is_the_one_of_the_table(void)
{
	struct layout layout;
	struct pair pair;
	unsigned int i;

	lay_out(&layout, "A", "B");
	pair = pairs_find(layout.pairs, "k", 1);
	for (i = 0; i < STATES * STATES * 9 * 2; i++) {
		pair.primary->state = (enum peer_state)(i / 18 / STATES);
		pair.backup->state = (enum peer_state)(i / 18 % STATES);
		pair.primary->mirror_since = i / 9 % 2 + 1;
		pair.backup->mirror_since = 2 - i / 9 % 2;
		check_authority(&pair, i % 9);
	}
	tear_down(&layout);
}

static void
test_authority_without_a_backup_is_the_primary_if_a_mirror(void)
{
	struct peer primary = { .state = PEER_DOWN };
	const struct pair pair = { .primary = &primary };
	int i;

	for (i = 0; i < STATES; i++) {
		primary.state = (enum peer_state)i;
		check_case(pair_authority(&pair) ==
			(authorities[i][STATES] == 'P' ? &primary : NULL),
		    "primary %s alone", peer_state_name(primary.state));
	}
}

/*
 * Who is behind whom.  A layout of the primaries A and B and the backup C; the
 * servers change as recovery.c has them change.
 */

static void
become(struct peer *peer, enum peer_state state)
{
	static uint64_t count;
	bool was_mirror = peer_is_mirror(peer);

	peer->state = state;
	if (peer_is_mirror(peer) == was_mirror)
		return;
	peer->mirror_since = ++count;
	behind_mirror_changed(peer);
	if (!peer_is_mirror(peer))
		behind_stop_reading(peer);
}

/* Read what can be read, and hand back. */
static void
read_all(struct peer *peer)
{
	behind_begin_reading(peer);
	behind_end_reading(peer);
	behind_become_whole(peer);
	become(peer, PEER_UP);
}

static void
come_back(struct peer *peer, bool is_empty)
{
	if (is_empty)
		behind_lost(peer);
	become(peer, PEER_REBUILD);
}

/* The names of the peers, and of the pair of A and C. */
struct trio {
	struct layout layout;
	struct peer *a, *b, *c;
	struct pair ac, bc;
};

static void
lay_out_trio(struct trio *trio)
{
	size_t i;

	lay_out(&trio->layout, "AB", "C");
	trio->a = pairs_peer(trio->layout.pairs, 0);
	trio->b = pairs_peer(trio->layout.pairs, 1);
	trio->c = pairs_peer(trio->layout.pairs, 2);
	trio->ac = (struct pair){ .primary = trio->a, .backup = trio->c };
	trio->bc = (struct pair){ .primary = trio->b, .backup = trio->c };
	for (i = 0; i < 3; i++)
		pairs_peer(trio->layout.pairs, i)->state = PEER_UP;
}

static void
test_survivor_that_is_back_empty_is_filled_from_the_one_it_filled(void)
{
	struct trio trio;

	lay_out_trio(&trio);
	become(trio.a, PEER_DOWN);
	come_back(trio.a, true);
	behind_begin_reading(trio.a);
	check(behind_is_listed(trio.a, trio.c));
	check(pair_authority(&trio.ac) == trio.c);
	become(trio.c, PEER_DOWN);
	check(pair_authority(&trio.ac) == trio.a);
	behind_unread(trio.a, trio.c);
	come_back(trio.c, true);
	check(behind_of(trio.a, trio.c) == BEHIND_NOT);
	check(behind_of(trio.c, trio.a) == BEHIND_ALL);
	check(behind_of(trio.c, trio.b) == BEHIND_ALL);
	check(pair_authority(&trio.ac) == trio.a);
	read_all(trio.c);
	check(!behind_may_read_more(trio.a) && !behind_may_read_more(trio.c));
	check(pair_authority(&trio.ac) == trio.a);
	tear_down(&trio.layout);
}

/* A server that lacks what only one partner holds goes on to lack it, whatever
   happens to it, until that one is back; and it is behind no other. */
static void
test_what_a_server_lacks_of_one_partner_outlasts_its_failures(void)
{
	struct trio trio;

	lay_out_trio(&trio);
	become(trio.c, PEER_DOWN);
	become(trio.a, PEER_DOWN);
	come_back(trio.a, true);
	read_all(trio.a);
	check(behind_of(trio.a, trio.c) == BEHIND_ALL);
	become(trio.a, PEER_DOWN);
	come_back(trio.a, false);
	read_all(trio.a);
	check(behind_of(trio.a, trio.c) == BEHIND_ALL);
	come_back(trio.c, false);
	/* Each is behind the other one: who answers goes on to do so. */
	check(pair_authority(&trio.ac) == trio.a);
	check(!behind_may_read_more(trio.a));
	read_all(trio.c);
	check(behind_may_read_more(trio.a) && !behind_may_read_more(trio.b));
	become(trio.a, PEER_REBUILD);
	check(pair_authority(&trio.ac) == trio.c);
	check(pair_authority(&trio.bc) == trio.b);
	read_all(trio.a);
	check(behind_of(trio.a, trio.c) == BEHIND_NOT);
	tear_down(&trio.layout);
}

static void
test_servers_that_were_all_away_are_behind_the_first_that_is_back(void)
{
	struct trio trio;

	lay_out_trio(&trio);
	become(trio.a, PEER_DOWN);
	become(trio.c, PEER_DOWN);
	become(trio.b, PEER_DOWN);
	check(behind_of(trio.a, trio.c) == BEHIND_KEYS);
	check(behind_of(trio.c, trio.a) == BEHIND_NOT);
	come_back(trio.a, false);
	check(pair_authority(&trio.ac) == trio.a);
	check(behind_of(trio.a, trio.c) == BEHIND_KEYS);
	check(behind_of(trio.a, trio.b) == BEHIND_NOT);
	/* Nothing is missing on it. */
	read_all(trio.a);
	check(behind_of(trio.a, trio.c) == BEHIND_NOT);
	check(behind_of(trio.c, trio.a) == BEHIND_KEYS);
	come_back(trio.c, false);
	behind_begin_reading(trio.c);
	check(!behind_is_listed(trio.c, trio.a));
	behind_end_reading(trio.c);
	behind_become_whole(trio.c);
	become(trio.c, PEER_UP);
	check(!behind_may_read_more(trio.a));
	check(pair_authority(&trio.ac) == trio.a);
	tear_down(&trio.layout);
}

static void
test_key_that_is_missing_is_read_when_its_holder_is_back(void)
{
	struct trio trio;

	lay_out_trio(&trio);
	become(trio.a, PEER_DOWN);
	become(trio.c, PEER_DOWN);
	come_back(trio.a, false);
	behind_begin_reading(trio.a);
	behind_unread(trio.a, trio.c);
	behind_end_reading(trio.a);
	behind_become_whole(trio.a);
	become(trio.a, PEER_UP);
	check(behind_of(trio.a, trio.c) == BEHIND_KEYS);
	come_back(trio.c, false);
	read_all(trio.c);
	check(behind_may_read_more(trio.a));
	behind_forget_keys(trio.a);
	check(behind_of(trio.a, trio.c) == BEHIND_ALL);
	tear_down(&trio.layout);
}

/*
 * Pairs
 */

static void
test_partner_of_one_server_of_a_pair_is_the_other(void)
{
	struct peer primary = { .state = PEER_UP };
	struct peer backup = { .state = PEER_DOWN };
	struct pair pair = { .primary = &primary, .backup = &backup };

	check(pair_partner(&pair, &primary) == &backup);
	check(pair_partner(&pair, &backup) == &primary);
	pair.backup = NULL;
	check(pair_partner(&pair, &primary) == NULL);
}

/*
 * Layouts
 */

static const struct {
	const char *primaries, *backups, *down;
	size_t uncovered;
} coverage[] = {
	/* Without backups each server is alone. */
	{ "A", "", "", 0 },
	{ "A", "", "A", 1 },
	{ "AB", "", "A", 1 },
	{ "ABC", "", "AC", 2 },
	{ "ABC", "", "ABC", 3 },
	/* One of each. */
	{ "A", "B", "", 0 },
	{ "A", "B", "A", 0 },
	{ "A", "B", "B", 0 },
	{ "A", "B", "AB", 1 },
	/* The same server in both lists is its own backup: it has none. */
	{ "A", "A", "", 0 },
	{ "A", "A", "A", 1 },
	/* ... but beside another backup it has that one. */
	{ "A", "AB", "A", 0 },
	{ "A", "AB", "B", 0 },
	{ "A", "AB", "AB", 1 },
	/* Each is the backup of the other: the pairs A, B and B, A. */
	{ "AB", "AB", "A", 0 },
	{ "AB", "AB", "B", 0 },
	{ "AB", "AB", "AB", 2 },
	/* A has no backup, and B has A. */
	{ "AB", "A", "A", 1 },
	{ "AB", "A", "B", 0 },
	{ "AB", "A", "AB", 2 },
	/* One backup for two. */
	{ "AB", "C", "C", 0 },
	{ "AB", "C", "AB", 0 },
	{ "AB", "C", "AC", 1 },
	{ "AB", "C", "ABC", 2 },
	/* Four pairs. */
	{ "AB", "CD", "AB", 0 },
	{ "AB", "CD", "CD", 0 },
	{ "AB", "CD", "AC", 1 },
	{ "AB", "CD", "ACD", 2 },
	{ "AB", "CD", "ABCD", 4 },
};

static void
test_key_is_never_dirty_on_both_servers_because_both_have_failed(void)
{
	struct layout layout;
	struct peer *primary, *backup;

	lay_out(&layout, "A", "B");
	primary = pairs_peer(layout.pairs, 0);
	backup = pairs_peer(layout.pairs, 1);
	/* The authority has failed, and then its mirror, with an effect. */
	set_down(&layout, "AB");
	peer_add_dirty(primary, "other", 5, false);
	peer_add_dirty(primary, "k", 1, false);
	pairs_lose_effect(layout.pairs, backup, "aw==", 4, true);
	check(dirty_count(primary->dirty) == 1);
	check(dirty_count(backup->dirty) == 1);
	/* The mirror has failed alone. */
	set_down(&layout, "B");
	pairs_lose_effect(layout.pairs, backup, "k", 1, false);
	check(dirty_count(primary->dirty) == 1);
	check(dirty_count(backup->dirty) == 1);
	tear_down(&layout);
}

static void
test_uncovered_pairs_are_those_whose_servers_are_all_down(void)
{
	struct layout layout;
	size_t i;

	for (i = 0; i < COUNT(coverage); i++) {
		lay_out(&layout, coverage[i].primaries, coverage[i].backups);
		set_down(&layout, coverage[i].down);
		check_case(pairs_uncovered(layout.pairs) ==
			coverage[i].uncovered,
		    "primaries %s, backups %s, down %s: %zu uncovered",
		    coverage[i].primaries, coverage[i].backups,
		    coverage[i].down, pairs_uncovered(layout.pairs));
		tear_down(&layout);
	}
}

/* A peer is uncovered if one of its pairs is. */
static void
test_peers_of_uncovered_pairs_are_noted(void)
{
	struct layout layout;
	struct peer *peer;
	size_t i, j, n;
	bool any;

	for (i = 0; i < COUNT(coverage); i++) {
		lay_out(&layout, coverage[i].primaries, coverage[i].backups);
		set_down(&layout, coverage[i].down);
		pairs_note_uncovered(layout.pairs);
		n = pairs_peer_count(layout.pairs);
		for (any = false, j = 0; j < n; j++) {
			peer = pairs_peer(layout.pairs, j);
			any |= peer->is_uncovered;
			check(!peer->is_uncovered || !peer_is_mirror(peer));
		}
		check_case(any == (coverage[i].uncovered > 0),
		    "primaries %s, backups %s, down %s", coverage[i].primaries,
		    coverage[i].backups, coverage[i].down);
		tear_down(&layout);
	}
}

/* Pick some of the first letters. */
static void
pick(char *letters, unsigned int least)
{
	char *to = letters;
	char c;

	do {
		for (to = letters, c = 'A'; c < 'A' + SERVERS_MAX; c++)
			if (unit_random(2) == 0)
				*to++ = c;
	} while (to < letters + least);
	*to = '\0';
}

/* What pairs_uncovered() says, counted pair by pair. */
static size_t
count_uncovered(const char *primaries, const char *backups, const char *down)
{
	size_t uncovered = 0, others;
	const char *p, *b;

	for (p = primaries; *p != '\0'; p++) {
		for (others = 0, b = backups; *b != '\0'; b++) {
			if (*b == *p)
				continue;
			others++;
			uncovered += strchr(down, *p) != NULL &&
			    strchr(down, *b) != NULL;
		}
		uncovered += others == 0 && strchr(down, *p) != NULL;
	}
	return uncovered;
}

static void
test_uncovered_pairs_of_random_layouts_are_as_counted_one_by_one(void)
{
	char primaries[SERVERS_MAX + 1], backups[SERVERS_MAX + 1];
	char down[SERVERS_MAX + 1];
	struct layout layout;
	size_t want;
	int i;

	for (i = 0; i < 300; i++) {
		pick(primaries, 1);
		pick(backups, 0);
		pick(down, 0);
		lay_out(&layout, primaries, backups);
		set_down(&layout, down);
		want = count_uncovered(primaries, backups, down);
		check_case(pairs_uncovered(layout.pairs) == want,
		    "primaries %s, backups %s, down %s: %zu uncovered",
		    primaries, backups, down, pairs_uncovered(layout.pairs));
		tear_down(&layout);
	}
}

static void
test_a_pair_is_uncovered_in_each_two_states_that_have_no_authority(void)
{
	struct layout layout;
	int i, j;

	lay_out(&layout, "A", "B");
	for (i = 0; i < STATES; i++)
		for (j = 0; j < STATES; j++) {
			pairs_peer(layout.pairs, 0)->state = (enum peer_state)i;
			pairs_peer(layout.pairs, 1)->state = (enum peer_state)j;
			pairs_peer(layout.pairs, 1)->mirror_since = 1;
			check((authorities[i][j] == '-') ==
			    (pairs_uncovered(layout.pairs) == 1));
		}
	tear_down(&layout);
}

static const struct {
	const char *primaries, *backups;
	size_t peers;
	bool mirrored;
	const char *roles; /* of the peers, by their first letter, + is both */
} layouts[] = {
	{ "A", "", 1, false, "p" },
	{ "AB", "", 2, false, "pp" },
	{ "A", "A", 1, false, "+" },
	{ "A", "B", 2, true, "pb" },
	{ "AB", "A", 2, true, "+p" },
	{ "AB", "AB", 2, true, "++" },
	{ "AB", "CD", 4, true, "ppbb" },
};

static void
test_a_server_in_both_lists_is_one_peer_with_both_roles(void)
{
	struct layout layout;
	struct peer *peer;
	size_t i, j;
	char role;

	for (i = 0; i < COUNT(layouts); i++) {
		lay_out(&layout, layouts[i].primaries, layouts[i].backups);
		check(pairs_peer_count(layout.pairs) == layouts[i].peers);
		check(server_count == layouts[i].peers);
		check(pairs_are_mirrored(layout.pairs) == layouts[i].mirrored);
		for (j = 0; j < pairs_peer_count(layout.pairs); j++) {
			peer = pairs_peer(layout.pairs, j);
			role = peer_role(peer)[0];
			if (strcmp(peer_role(peer), "both") == 0)
				role = '+';
			check(role == layouts[i].roles[j]);
			check(peer->state == PEER_STARTING);
		}
		tear_down(&layout);
		check(server_count == 0);
	}
}

/*
 * Keys
 */

static void
check_pair(const char *primaries, const char *backups, const struct pair *pair)
{
	bool alone = strlen(backups) == 0 ||
	    (strlen(backups) == 1 && backups[0] == letter(pair->primary));

	check(is_one_of(pair->primary, primaries));
	check(pair->backup != pair->primary);
	if (alone)
		check(pair->backup == NULL);
	else
		check(pair->backup != NULL && is_one_of(pair->backup, backups));
}

static void
test_key_has_a_primary_and_a_backup_that_is_another_server(void)
{
	char key[PROTO_KEY_MAX + 1];
	struct layout layout;
	struct pair pair;
	unsigned int i;
	size_t j;

	for (j = 0; j < COUNT(layouts); j++) {
		lay_out(&layout, layouts[j].primaries, layouts[j].backups);
		for (i = 0; i < KEYS; i++) {
			pair = pairs_find(layout.pairs, key, make_key(key, i));
			check_pair(layouts[j].primaries, layouts[j].backups,
			    &pair);
		}
		tear_down(&layout);
	}
}

/* The owner on the ring of the backups, which is a ring of primaries to another
   layout. */
static void
test_backup_is_the_owner_on_its_ring_unless_that_is_the_primary(void)
{
	char key[PROTO_KEY_MAX + 1];
	struct layout layout, other;
	unsigned int i, same = 0, used[SERVERS_MAX] = { 0 };
	struct pair pair;
	char owner;
	size_t n;

	lay_out(&layout, "AB", "ABC");
	lay_out(&other, "ABC", "");
	for (i = 0; i < KEYS; i++) {
		n = make_key(key, i);
		pair = pairs_find(layout.pairs, key, n);
		owner = letter(pairs_find(other.pairs, key, n).primary);
		if (owner == letter(pair.primary))
			same++;
		else
			check(letter(pair.backup) == owner);
		used[letter(pair.backup) - 'A']++;
	}
	check(same > KEYS / 10 && same < KEYS - KEYS / 10);
	check(used[0] > KEYS / 10 && used[1] > KEYS / 10 &&
	    used[2] > KEYS / 10);
	tear_down(&other);
	tear_down(&layout);
}

static bool
are_same(const struct pair *one, const struct pair *other)
{
	return one->hash == other->hash && one->primary == other->primary &&
	    one->backup == other->backup;
}

static void
test_key_has_the_same_pair_however_it_is_looked_up(void)
{
	char keys[PAIRS_BATCH][PROTO_KEY_MAX + 1], base64[PROTO_BASE64_MAX];
	const char *pointers[PAIRS_BATCH];
	size_t lengths[PAIRS_BATCH], n;
	struct pair found[PAIRS_BATCH], one;
	struct layout layout;
	unsigned int i, j;

	lay_out(&layout, "AB", "ABCD");
	for (i = 0; i < KEYS; i += PAIRS_BATCH) {
		for (j = 0; j < PAIRS_BATCH; j++) {
			lengths[j] = make_key(keys[j], i + j);
			pointers[j] = keys[j];
		}
		pairs_find_all(layout.pairs, pointers, lengths, PAIRS_BATCH,
		    found);
		for (j = 0; j < PAIRS_BATCH; j++) {
			one = pairs_find(layout.pairs, keys[j], lengths[j]);
			check(are_same(&one, &found[j]));
			one = pairs_find_wire(layout.pairs, keys[j], lengths[j],
			    false);
			check(are_same(&one, &found[j]));
			n = proto_base64_encode(keys[j], lengths[j], base64);
			one = pairs_find_wire(layout.pairs, base64, n, true);
			check(are_same(&one, &found[j]));
		}
	}
	tear_down(&layout);
}

static void
test_key_keeps_its_pair_when_servers_change_their_state(void)
{
	char key[PROTO_KEY_MAX + 1];
	struct layout layout;
	struct pair before, after;
	unsigned int i;
	size_t n;

	lay_out(&layout, "AB", "ABC");
	for (i = 0; i < KEYS; i++) {
		n = make_key(key, i);
		set_down(&layout, "");
		before = pairs_find(layout.pairs, key, n);
		set_down(&layout, i % 2 == 0 ? "AC" : "B");
		after = pairs_find(layout.pairs, key, n);
		check(are_same(&before, &after));
	}
	tear_down(&layout);
}

/* The primaries are those that libmemcached finds. */
static void
test_key_is_where_it_was_in_earlier_versions(void)
{
	static const struct {
		const char *key, *pair;
	} places[] = {
		{ "foo", "BD" },
		{ "bar", "BD" },
		{ "key:1", "BD" },
		{ "user:12345", "AB" },
		{ "session/abcdef", "BD" },
		{ "hello_world", "CB" },
	};
	struct layout layout;
	struct pair pair;
	size_t i;

	lay_out(&layout, "ABC", "ABD");
	for (i = 0; i < COUNT(places); i++) {
		pair = pairs_find(layout.pairs, places[i].key,
		    strlen(places[i].key));
		check_case(letter(pair.primary) == places[i].pair[0] &&
			letter(pair.backup) == places[i].pair[1],
		    "%s is on %c and %c", places[i].key, letter(pair.primary),
		    letter(pair.backup));
	}
	tear_down(&layout);
}

/* Count where keys are, and compare that with what was measured. */
static void
check_parts(const char *primaries, const char *backups)
{
	double shares[SERVERS_MAX * SERVERS_MAX], sum = 0, counted;
	unsigned int counts[SERVERS_MAX * SERVERS_MAX] = { 0 }, i;
	char key[16];
	struct layout layout;
	struct pair pair;
	size_t n;

	lay_out(&layout, primaries, backups);
	n = pairs_peer_count(layout.pairs);
	pairs_measure(layout.pairs, shares);
	for (i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		pair = pairs_find(layout.pairs, key, strlen(key));
		counts[pair.primary->index * n +
		    (pair.backup != NULL ? pair.backup : pair.primary)
			->index]++;
	}
	for (i = 0; i < n * n; i++) {
		counted = (double)counts[i] / KEYS;
		sum += shares[i];
		check_case(counted - shares[i] < 0.1 &&
			shares[i] - counted < 0.1,
		    "%s and %s: %u is %.3f, and not %.3f", primaries, backups,
		    i, shares[i], counted);
		check((counts[i] == 0) == (shares[i] == 0));
	}
	check_case(sum > 0.999999 && sum < 1.000001, "%s and %s: %f", primaries,
	    backups, sum);
	tear_down(&layout);
}

static void
test_parts_of_all_keys_are_those_of_many_keys(void)
{
	static const char *const servers[][2] = { { "A", "" }, { "A", "B" },
		{ "AB", "" }, { "AB", "AB" }, { "AB", "C" }, { "A", "AB" },
		{ "ABC", "D" }, { "AB", "BCD" } };
	unsigned int i;

	for (i = 0; i < COUNT(servers); i++) {
		check_parts(servers[i][0], servers[i][1]);
		ring_kind = KETAMA_MODULA;
		check_parts(servers[i][0], servers[i][1]);
		ring_kind = KETAMA;
	}
}

int
main(void)
{
	RUN(test_peer_is_trusted_or_a_mirror_in_the_states_that_its_table_says);
	RUN(test_authority_of_each_two_states_is_the_one_of_the_table);
	RUN(test_authority_without_a_backup_is_the_primary_if_a_mirror);
	RUN(test_survivor_that_is_back_empty_is_filled_from_the_one_it_filled);
	RUN(test_what_a_server_lacks_of_one_partner_outlasts_its_failures);
	RUN(test_servers_that_were_all_away_are_behind_the_first_that_is_back);
	RUN(test_key_that_is_missing_is_read_when_its_holder_is_back);
	RUN(test_partner_of_one_server_of_a_pair_is_the_other);
	RUN(test_key_is_never_dirty_on_both_servers_because_both_have_failed);
	RUN(test_uncovered_pairs_are_those_whose_servers_are_all_down);
	RUN(test_peers_of_uncovered_pairs_are_noted);
	RUN(test_uncovered_pairs_of_random_layouts_are_as_counted_one_by_one);
	RUN(test_a_pair_is_uncovered_in_each_two_states_that_have_no_authority);
	RUN(test_a_server_in_both_lists_is_one_peer_with_both_roles);
	RUN(test_key_has_a_primary_and_a_backup_that_is_another_server);
	RUN(test_backup_is_the_owner_on_its_ring_unless_that_is_the_primary);
	RUN(test_key_has_the_same_pair_however_it_is_looked_up);
	RUN(test_key_keeps_its_pair_when_servers_change_their_state);
	RUN(test_key_is_where_it_was_in_earlier_versions);
	RUN(test_parts_of_all_keys_are_those_of_many_keys);
	return unit_end();
}
