/*
 * A libFuzzer target for the whole daemon: an input is a script of what
 * clients, servers, time, memory and signals do.  scripts/fuzz runs it.
 *
 *   world.c, loop.c     the system: clock, memory, sockets, event loop
 *   servers.c, model.c  memcacheds, and what they do wrong
 *   clients.c           applications, which check what they get
 *   fuzz_daemon.c       the script, and what must be true at its end
 *
 * The first byte says which of two kinds of script this is.  In an exact one
 * only one server at a time fails, as a real one may, and there is memory
 * enough: then each client must get what a single memcached would have
 * answered.  In all others servers lie, memory runs out, and clients send
 * anything; then a client gets answers in their order, or the end, and never
 * the value of another key.
 *
 * When the script is over, all faults end.  Then the daemon must answer all
 * that it owes, bring all servers up, and become quiet; a new client must be
 * served; and at the end nothing may be left.
 *
 * LOUD=1 in the environment shows the log of the daemon.
 */

#include <string.h>

#define main magent_main
#include "magent.c"
#undef main

#include "mirror/dirty.h"
#include "mirror/flush.h"
#include "mirror/gate.h"
#include "mirror/peer.h"
#include "server/address.h"
#include "tests/tools/fuzz/clients.h"
#include "tests/tools/fuzz/model.h"
#include "tests/tools/fuzz/script.h"
#include "tests/tools/fuzz/servers.h"
#include "tests/tools/fuzz/world.h"

enum {
	/* Turns in a row that do not wait, while no time passes. */
	TURNS_MAX = 20000,
	/* Time until everything must be well again, ms. */
	HEAL_MS = 180000,
	PRIMARIES_MAX = 3,
	BACKUPS_MAX = 3,
};

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* A run. */
static struct {
	struct magent magent;
	struct options options;
	struct address primaries[PRIMARIES_MAX], backups[BACKUPS_MAX];
	unsigned int servers; /* how many there are */
	bool is_exact;
	bool is_eager; /* after each step all others have a turn */
	bool may_lose; /* keys without a partner: no server may fail */
} run_;

/*
 * Time
 */

static bool
is_ready(void)
{
	return run_.magent.ready;
}

/* As in run(), in magent.c. */
static void
turn(void)
{
	world_enter();
	conn_loop_turn(run_.magent.loop);
	if (!is_ready() && !recoveries_are_starting(run_.magent.recoveries))
		run_.magent.ready = true;
	world_leave();
}

/* Let everybody go on until all wait for time to pass. */
static void
settle(void)
{
	unsigned int turns = 0;
	bool any;

	do {
		turn();
		any = servers_serve(1000);
		any |= clients_read();
		if (++turns > TURNS_MAX)
			finding("the loop does not come to rest");
	} while (any || !world_is_idle());
}

static void
pass_time(int64_t ms)
{
	int64_t step;

	while (ms > 0) {
		step = world_next_timer(ms);
		if (step < 1)
			step = 1;
		world_advance(step);
		ms -= step;
		settle();
	}
}

/*
 * The beginning
 */

static void
put_address(struct address *address, unsigned int server, bool is_path)
{
	char text[40];

	if (is_path)
		snprintf(text, sizeof(text), "unix:/%u", server);
	else
		snprintf(text, sizeof(text), "127.0.0.1:%u",
		    WORLD_PORT + server);
	if (address_parse(address, text) != NULL)
		abort();
}

static void
choose_servers(struct script *script)
{
	struct options *options = &run_.options;
	unsigned int choice = script_take(script);
	bool are_paths = choice >> 6 == 3, is_both = choice & 32;
	size_t i;

	options->primary_count = choice % 3 + 1;
	options->backup_count = script_pick(script, 8) % 4;
	options->primaries = run_.primaries;
	options->backups = run_.backups;
	for (i = 0; i < options->primary_count; i++)
		put_address(&run_.primaries[i], run_.servers++, are_paths);
	for (i = 0; i < options->backup_count; i++)
		put_address(&run_.backups[i],
		    is_both && i == 0 ? 0 : run_.servers++, are_paths);
	run_.may_lose = options->backup_count == 0 ||
	    (is_both && options->backup_count == 1);
}

static void
choose_options(struct script *script)
{
	static const size_t limits[] = { 64 << 20, 1 << 20, 256 << 10,
		256 << 10 };
	static char *hosts[] = { "127.0.0.1" };
	unsigned int choice = script_take(script);

	run_.options = (struct options){
		.listen_hosts = hosts,
		.listen_count = 1,
		.listen_port = 11211,
		.max_clients = 100,
		.links = choice % 3 + 1,
		.foreground = true,
		.timeout_ms = 250,
		.item_size = 40 << 10,
		.memory_limit = 64 << 20,
		.error_on_down = choice & 4,
		.ring = (enum ketama_kind)((choice >> 3) % 5),
	};
	if (run_.is_exact)
		return;
	run_.options.memory_limit = limits[(choice >> 6) % 4];
	choice = script_take(script);
	if (choice & 1)
		run_.options.item_size = 1000;
	run_.options.refuse_flush = choice & 2;
	if ((choice & 12) == 12)
		run_.options.max_clients = 2;
	if (choice & 16)
		run_.options.timeout_ms = 50;
	if ((choice & 224) == 224)
		world_knobs.countdown = script_take(script) + 1;
}

static bool
start(void)
{
	bool is_built;

	world_enter();
	log_open(false, world_is_loud ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	srandom(1);
	run_.magent = (struct magent){ .options = &run_.options };
	is_built = bind_sockets(&run_.magent) &&
	    build(&run_.magent, run_.options.max_clients);
	if (is_built)
		recoveries_start(run_.magent.recoveries);
	world_leave();
	return is_built;
}

/*
 * Steps
 */

static unsigned int
pick_client(struct script *script)
{
	return script_pick(script, CLIENTS_MAX);
}

static unsigned int
pick_server(struct script *script)
{
	return script_pick(script, run_.servers);
}

static bool
is_up(unsigned int i)
{
	struct pairs *pairs = run_.magent.pairs;

	return pairs_peer(pairs, i)->state == PEER_UP;
}

/* Whether this server may fail now: in an exact script only if the others are
   well and have all that they should have. */
static bool
may_fail(unsigned int i)
{
	unsigned int j;

	if (!run_.is_exact)
		return true;
	if (run_.may_lose)
		return false;
	for (j = 0; j < run_.servers; j++)
		if (j != i && (!servers_are_well(j) || !is_up(j)))
			return false;
	return true;
}

static void
fail_server(struct script *script)
{
	unsigned int kind = script_pick(script, 8);
	unsigned int i = pick_server(script);

	/* The daemon is to know of the last one. */
	if (run_.is_exact)
		settle();
	if (!may_fail(i))
		return;
	if (kind < 2)
		servers_kill(i);
	else if (kind < 5)
		servers_hang(i, true);
	else if (kind < 7)
		servers_drop(i, kind == 5);
	else
		servers_accept(i,
		    script_pick(script, 2) ? WORLD_REFUSES : WORLD_SILENT);
}

static void
mend_server(struct script *script)
{
	unsigned int i = pick_server(script);

	servers_start(i);
	servers_hang(i, false);
	servers_accept(i, WORLD_ACCEPTS);
}

static void
let_time_pass(struct script *script)
{
	static const int times[] = { 1, 5, 20, 50, 100, 250, 300, 500, 1000,
		1100, 2000, 5000, 12000, 1, 1, 1 };
	int ms = times[script_pick(script, 16)];

	if (run_.is_exact || run_.is_eager) {
		settle();
		pass_time(ms);
	} else {
		world_advance(ms);
	}
}

static void
change_knobs(struct script *script)
{
	static const size_t rooms[] = { 1 << 20, 1, 100, 3000, 70000 };
	static const size_t pieces[] = { 1 << 20, 1, 7, 100, 5000 };

	world_knobs.room = rooms[script_pick(script, 5)];
	world_knobs.piece = pieces[script_pick(script, 5)];
	world_knobs.narrow = 300;
	world_knobs.signals = script_pick(script, 3);
	if (run_.is_exact)
		return;
	world_knobs.no_files = script_pick(script, 4) == 3;
}

static void
lack_memory(struct script *script)
{
	unsigned int n = script_take(script);

	if (run_.is_exact)
		return;
	world_knobs.no_memory = n >= 250;
	world_knobs.countdown = n < 200 ? n : 0;
}

/* As at the end of run(): otherwise the process ends without freeing. */
static bool
may_demolish(void)
{
	return clients_count(run_.magent.clients) == 0 &&
	    pairs_are_idle(run_.magent.pairs);
}

/* The second signal to stop ends the script where it is. */
static void
send_signal(struct script *script)
{
	unsigned int kind = script_pick(script, 4);
	bool stop = kind == 3 && !run_.is_exact &&
	    (run_.magent.stops == 0 || may_demolish());

	world_enter();
	if (stop)
		on_stop(-1, EV_SIGNAL, &run_.magent);
	else if (kind == 2)
		on_scrub_signal(-1, EV_SIGNAL, &run_.magent);
	else
		on_rename(-1, EV_SIGNAL, &run_.magent);
	world_leave();
	if (run_.magent.stops > 1)
		script->left = 0;
}

static void
end_client(struct script *script)
{
	unsigned int i = pick_client(script), how = script_pick(script, 4);

	if (!client_is_there(i))
		return;
	if (how < 2)
		client_shut(i);
	else
		client_close(i, how == 2);
}

static void
step(struct script *script)
{
	unsigned int kind = script_pick(script, 32);
	unsigned int i;

	switch (kind) {
	case 0:
	case 1:
		client_connect();
		break;
	case 12:
		for (i = 0; i < CLIENTS_MAX; i++)
			client_push(i);
		break;
	case 13:
		i = pick_client(script);
		if (!run_.is_exact)
			client_babble(i, script, script_take(script));
		break;
	case 14:
		end_client(script);
		break;
	case 15:
		i = pick_client(script);
		client_be_deaf(i, !run_.is_exact && script_pick(script, 2));
		break;
	case 16:
		turn();
		break;
	case 17:
		servers_serve(script_pick(script, 4) + 1);
		break;
	case 18:
		clients_read();
		break;
	case 19:
		settle();
		break;
	case 20:
	case 21:
		let_time_pass(script);
		break;
	case 22:
	case 23:
		fail_server(script);
		break;
	case 24:
		mend_server(script);
		break;
	case 25:
	case 26:
		i = pick_server(script);
		if (!run_.is_exact)
			servers_lie(i, (enum lie)script_pick(script, LIES));
		break;
	case 27:
		change_knobs(script);
		break;
	case 28:
		lack_memory(script);
		break;
	case 29:
		send_signal(script);
		break;
	default:
		client_command(pick_client(script), script);
	}
	if (!run_.is_eager)
		return;
	turn();
	servers_serve(1000);
	clients_read();
}

/*
 * The end
 */

static bool
is_quiet(void)
{
	unsigned int i;

	if (!clients_are_done() || !pairs_are_idle(run_.magent.pairs))
		return false;
	if (run_.magent.stops > 0)
		return clients_count(run_.magent.clients) == 0;
	for (i = 0; i < run_.servers; i++)
		if (!is_up(i))
			return false;
	return is_ready() &&
	    !pairs_counters(run_.magent.pairs)->scrub.is_running;
}

static void
complain_of_unrest(void)
{
	struct pairs *pairs = run_.magent.pairs;
	unsigned int i;

	for (i = 0; i < run_.servers; i++)
		fprintf(stderr, "%s: %s\n", peer_name(pairs_peer(pairs, i)),
		    peer_state_name(pairs_peer(pairs, i)->state));
	fprintf(stderr, "clients: %zu, answered: %d, servers idle: %d\n",
	    clients_count(run_.magent.clients), clients_are_done(),
	    pairs_are_idle(run_.magent.pairs));
	clients_describe();
	finding("it does not become quiet");
}

/* All faults end, and time goes on. */
static void
heal(void)
{
	int64_t begin = world_now();
	unsigned int i;

	servers_heal();
	world_refuse_silent();
	world_knobs.no_memory = world_knobs.no_files = false;
	world_knobs.countdown = 0;
	world_knobs.signals = 0;
	world_knobs.room = world_knobs.piece = 1 << 20;
	for (i = 0; i < CLIENTS_MAX; i++) {
		client_be_deaf(i, false);
		client_push(i);
	}
	settle();
	while (!is_quiet()) {
		if (world_now() - begin > HEAL_MS)
			complain_of_unrest();
		pass_time(world_next_timer(1000));
	}
}

static unsigned int
index_of(const struct peer *peer)
{
	unsigned int i = 0;

	while (pairs_peer(run_.magent.pairs, i) != peer)
		i++;
	return i;
}

/* Both servers of a pair must have the same value, if they have one. */
static void
check_key(const char *key, size_t length)
{
	struct pair pair = pairs_find(run_.magent.pairs, key, length);

	if (pair.backup != NULL &&
	    !models_agree(servers_model(index_of(pair.primary)),
		servers_model(index_of(pair.backup)), key, length))
		finding("%s and its backup differ in %.*s",
		    peer_name(pair.primary), (int)length, key);
}

static void
check_mirrors(void)
{
	const struct scrub_counters *scrub =
	    &pairs_counters(run_.magent.pairs)->scrub;
	const char *key;
	size_t length, j;
	unsigned int i;

	if (scrub->different + scrub->only_on_mirror > 0)
		finding("the scrub takes equal copies for different");
	for (i = 0; i < run_.servers; i++)
		for (j = 0;
		     (key = model_key(servers_model(i), j, &length)) != NULL;
		     j++)
			if (length < 7 || memcmp(key, "Magent:", 7) != 0)
				check_key(key, length);
}

static void
try_new_client(void)
{
	char text[300];
	int i, ms;

	client_close(0, false);
	/* Nobody who is let in late, and no flush_all that is to come, drops
	   what the new client stores. */
	pass_time(1000);
	flushes_stop(pairs_flushes(run_.magent.pairs));
	i = client_connect();
	if (i == -1)
		finding("nobody listens");
	snprintf(text, sizeof(text),
	    "set c%1$u.k0 3 0 6\r\n[c%1$u.]\r\nget c%1$u.k0\r\n"
	    "set c%1$u.n9 0 0 1\r\n7\r\nincr c%1$u.n9 5\r\n"
	    "get c%1$u.k9 c%1$u.n9 c%1$u.k0\r\n",
	    client_number((unsigned int)i) % 10);
	client_say((unsigned int)i, text);
	/* The flush_all of another client may take a second, see second.h. */
	for (ms = 0; ms < 3000 && !clients_are_done(); ms += 20)
		pass_time(ms > 0 ? 20 : 1);
	if (!clients_are_done()) {
		clients_describe();
		finding("a new client is not answered");
	}
}

/* Whether nothing is held for anybody. */
/* Servers whose stamps a client has changed fail at one of the next looks. */
static bool
are_all_up(void)
{
	unsigned int i;

	for (i = 0; i < run_.servers; i++)
		if (pairs_peer(run_.magent.pairs, i)->state != PEER_UP)
			return false;
	return true;
}

static void
check_nothing_held(void)
{
	struct pairs *pairs = run_.magent.pairs;
	unsigned int i;
	int ms;

	/* Repairs of mirrors may be left for a moment, and a flush_all of a
	   client that is gone. */
	pass_time(10);
	for (ms = 0; ms < 3000 && !pairs_are_idle(pairs); ms += 100)
		pass_time(100);
	if (clients_count(run_.magent.clients) > 0)
		finding("%zu clients are left",
		    clients_count(run_.magent.clients));
	/* Pieces of the pools that nobody uses do not count. */
	world_enter();
	pool_trim(0);
	world_leave();
	if (block_total() > 0)
		finding("%zu bytes of blocks are left", block_total());
	if (gate_is_closed(pairs_gate(pairs)) ||
	    !pairs_are_idle(run_.magent.pairs))
		finding("the gate is closed, or a server is asked");
	for (ms = 0; ms < 10000 && run_.magent.stops == 0 && !are_all_up();
	     ms += 100)
		pass_time(100);
	for (i = 0; i < run_.servers && run_.magent.stops == 0; i++)
		if (dirty_count(pairs_peer(pairs, i)->dirty) > 0)
			finding("keys are left dirty");
}

/* magent ends at once, and frees nothing.  Here all of it is to be freed, which
   can be done only when no server is asked. */
static void
stop_at_once(void)
{
	int ms;

	heal();
	clients_end();
	for (ms = 0; ms < 3000 &&
	     (clients_count(run_.magent.clients) > 0 ||
		 !pairs_are_idle(run_.magent.pairs));
	     ms += 100)
		pass_time(100);
}

static void
stop_well(void)
{
	if (run_.magent.stops == 0) {
		world_enter();
		on_stop(-1, EV_SIGNAL, &run_.magent);
		world_leave();
	}
	check_nothing_held();
}

static void
finish(void)
{
	int ms;

	heal();
	if (run_.is_exact)
		check_mirrors();
	if (run_.magent.stops == 0 && run_.options.max_clients > 2)
		try_new_client();
	clients_expect_end();
	clients_end();
	for (ms = 0; ms < 3000 && clients_count(run_.magent.clients) > 0;
	     ms += 500)
		pass_time(ms > 0 ? 500 : 1);
	check_nothing_held();
	stop_well();
}

static enum server_option
options_of_servers(unsigned int kind)
{
	switch (kind & 60) {
	case 60:
		return run_.is_exact ? OPTION_NONE : OPTION_OLD;
	case 56:
		return OPTION_F;
	case 52:
		return OPTION_C;
	default:
		return OPTION_NONE;
	}
}

static void
play(struct script *script)
{
	unsigned int kind = script_take(script);

	run_.is_exact = kind & 1;
	run_.is_eager = kind & 2;
	choose_options(script);
	choose_servers(script);
	servers_begin(run_.servers, options_of_servers(kind), kind >> 6);
	clients_begin(run_.is_exact, run_.options.item_size);
	if (!start())
		return;
	if (run_.is_exact)
		settle();
	client_connect();
	while (script->left > 0)
		step(script);
	if (run_.magent.stops < 2)
		finish();
	else
		stop_at_once();
}

static void
clean_up(void)
{
	size_t i;

	world_enter();
	demolish(&run_.magent);
	world_leave();
	clients_end();
	servers_end();
	world_end();
	for (i = 0; i < run_.options.primary_count; i++)
		address_free(&run_.primaries[i]);
	for (i = 0; i < run_.options.backup_count; i++)
		address_free(&run_.backups[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct script script = { bytes, n };

	world_is_loud = getenv("LOUD") != NULL;
	run_.servers = 0;
	world_begin(servers_connected);
	play(&script);
	clean_up();
	return 0;
}
