/*
 * Turn the command line into servers, rings and listening sockets, then run
 * the loop until a signal.
 *
 *   main() -> serve(): files, fork, bind, pid file, drop -> build() -> run()
 *     ^                                                                |  |
 *     |   HUP: the next program, in this process                       |  |
 *     '----------------------------------------------------------------'  |
 *                                            demolish() <-----------------'
 *
 * Invariant: what needs the rights of root (descriptors, the log file, ports,
 * the pid file) comes before daemon_drop(), and all that can fail comes before
 * daemon_ready(), so that the exit status says whether magent has started.  The
 * next program is a daemon already, and keeps what it is rather than ending.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "block.h"
#include "carry.h"
#include "check.h"
#include "client/clients.h"
#include "client/listener.h"
#include "client/metrics.h"
#include "client/report.h"
#include "client/sockets.h"
#include "client/stats.h"
#include "client/twemproxy.h"
#include "client/usage.h"
#include "client/web.h"
#include "conn.h"
#include "daemon.h"
#include "handover.h"
#include "health.h"
#include "ketama.h"
#include "lasting.h"
#include "listen.h"
#include "log.h"
#include "mirror/pair.h"
#include "mirror/recovery.h"
#include "mirror/scrub.h"
#include "options.h"
#include "pool.h"
#include "replace.h"
#include "server/resolver.h"
#include "server/server.h"

enum {
	/* After the first signal to stop: time to finish what is in flight. */
	GRACE_MS = 5000,
	/* Between two signs of life to systemd. */
	TICK_SECONDS = 2,
	/* Descriptors for all but clients and servers. */
	SPARE_FILES = 112,
	/* Of these, those that are left when there are too many clients: for
	   lookups, the log, lists of keys. */
	KEPT_FILES = 8,
	/* What is under way may take so long, and four times -t, before another
	   program takes over. */
	HANDOVER_MS = 1000,
	/* Bytes by which a value of a server may be larger than -I: its own
	   limit may be above ours. */
	VALUE_SLACK = 1 << 20,
	/* Timers at a time: of each server, with its recovery and the calls
	   that it has returned, and of all else. */
	TIMERS_OF_SERVER = 32,
	TIMERS = 128,
};

/* Of events: what notices that this process was held up comes first. */
enum { PRIORITIES = 2 };

enum { TERM, INT, HUP, USR1, USR2, SIGNALS };

/* The process.  Pointers are owned, but for options and pairs; what was not
   built is NULL. */
struct magent {
	const struct options *options;
	struct event_base *base;
	struct resolver *resolver; /* NULL: no server has a name */
	struct conn_loop *loop;
	struct recoveries *recoveries;
	struct pairs *pairs; /* those of recoveries */
	struct clients *clients;
	struct stats stats;
	struct report_settings settings;
	struct sockets *sockets;         /* NULL also after a stop */
	struct sockets *metrics_sockets; /* the same */
	struct web *web;                 /* the same; NULL: no --metrics */
	struct usage *usage;             /* NULL: no --metrics */
	struct sockets *stats_sockets;   /* the same */
	struct twemproxy *twemproxy;     /* the same; NULL: no --stats-port */
	struct listener **listeners;     /* one per socket; NULL after a stop */
	size_t listener_count;
	unsigned int passed; /* sockets that systemd has passed */
	bool has_sockets;    /* all that are asked for */
	struct handover *handover;
	/* It takes the place of a program before: that has left this. */
	bool is_next;
	struct carry *carry;             /* NULL: none, or it is taken over */
	struct handover_process process; /* valid if is_next */
	bool is_due; /* there is something to do between two turns */
	struct pairs_servers servers; /* those of options */
	struct event *signals[SIGNALS];
	struct event *tick;
	struct event *delay;    /* ends the one of --shutdown-delay */
	bool ready;             /* daemon_ready() was called */
	bool is_to_be_replaced; /* as soon as it is ready */
	unsigned int stops;     /* signals to stop that have come */
	int64_t deadline;       /* end of the grace; valid if stops > 0 */
};

/*
 * Signals and time
 */

/* Accept nobody any more.  A successor may take the ports and the path. */
static void
stop_listening(struct magent *magent)
{
	while (magent->listener_count > 0)
		listener_free(magent->listeners[--magent->listener_count]);
	free(magent->listeners);
	magent->listeners = NULL;
	web_free(magent->web);
	magent->web = NULL;
	twemproxy_free(magent->twemproxy);
	magent->twemproxy = NULL;
	sockets_free(magent->sockets);
	sockets_free(magent->metrics_sockets);
	sockets_free(magent->stats_sockets);
	magent->sockets = magent->metrics_sockets = NULL;
	magent->stats_sockets = NULL;
}

/* Finish what is in flight. */
static void
begin_stop(struct magent *magent)
{
	assert(magent->clients != NULL && magent->recoveries != NULL);
	handover_cancel(magent->handover);
	log_info("stopping: %zu clients are connected",
	    clients_count(magent->clients));
	daemon_notify("STOPPING=1");
	stop_listening(magent);
	clients_stop(magent->clients);
	recoveries_stop(magent->recoveries);
	magent->deadline = conn_loop_now(magent->loop) + GRACE_MS;
}

static void
on_delay_end(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	begin_stop(arg);
}

/* The first signal to stop; the second one ends run(). */
static void
on_stop(evutil_socket_t number, short what, void *arg)
{
	struct magent *magent = arg;
	struct timeval wait = { .tv_sec = magent->options->shutdown_delay };

	(void)what;
	if (magent->handover != NULL)
		handover_cancel(magent->handover);
	if (++magent->stops > 1) {
		/* The delay is not waited for any more. */
		if (magent->listeners != NULL)
			begin_stop(magent);
		return;
	}
	magent->settings.is_stopping = true;
	if (number != SIGTERM || wait.tv_sec == 0 || !magent->ready) {
		begin_stop(magent);
		return;
	}
	log_info("stopping in %u s; clients are served until then",
	    magent->options->shutdown_delay);
	event_add(magent->delay, &wait);
}

/* There is another program, or are other options; or the log file was renamed,
   as far as whoever sends it knows. */
static void
on_replace(evutil_socket_t fd, short what, void *arg)
{
	struct magent *magent = arg;

	(void)fd;
	(void)what;
	log_file_reopen();
	if (magent->stops > 0)
		log_info("is not replaced: it stops");
	else if (magent->ready)
		handover_begin(magent->handover);
	else
		magent->is_to_be_replaced = true;
}

/* The log file was renamed. */
static void
on_rename(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	log_file_reopen();
}

static void
on_scrub_signal(evutil_socket_t fd, short what, void *arg)
{
	struct magent *magent = arg;

	(void)fd;
	(void)what;
	scrub_start_pass(recoveries_scrub(magent->recoveries), "SIGUSR2");
}

static void
on_watchdog_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	daemon_notify("WATCHDOG=1");
}

/*
 * Building
 */

/* Returns false after one line in the log. */
static bool
bind_sockets(struct magent *magent)
{
	magent->sockets = sockets_new(SOCKETS_FOR_CLIENTS);
	magent->metrics_sockets = sockets_new(SOCKETS_FOR_METRICS);
	magent->stats_sockets = sockets_new(SOCKETS_FOR_STATS);
	if (magent->sockets == NULL || magent->metrics_sockets == NULL ||
	    magent->stats_sockets == NULL) {
		log_error("cannot start: out of memory");
		return false;
	}
	if (!sockets_take_passed(magent->sockets, magent->passed) ||
	    (magent->is_next &&
		(!sockets_take(magent->sockets, magent->carry) ||
		    !sockets_take(magent->metrics_sockets, magent->carry) ||
		    !sockets_take(magent->stats_sockets, magent->carry))))
		return false;
	/* Whoever can connect to the clients' port finds the others open. */
	magent->has_sockets = listen_for_metrics(magent->metrics_sockets,
				  magent->options) &&
	    listen_for_stats(magent->stats_sockets, magent->options) &&
	    listen_as_asked(magent->sockets, magent->options);
	/* What could be listened on at the rehearsal cannot be now: go on with
	   those of before. */
	return magent->has_sockets || magent->is_next;
}

static bool
is_name(const struct address *address)
{
	struct in6_addr parsed;

	return address->port != 0 &&
	    inet_pton(AF_INET, address->host, &parsed) != 1 &&
	    inet_pton(AF_INET6, address->host, &parsed) != 1;
}

static bool
has_names(const struct options *options)
{
	size_t i;

	for (i = 0; i < options->primary_count; i++)
		if (is_name(&options->primaries[i]))
			return true;
	for (i = 0; i < options->backup_count; i++)
		if (is_name(&options->backups[i]))
			return true;
	return false;
}

static void
set_settings(struct magent *magent, unsigned int max_clients)
{
	const struct options *options = magent->options;

	magent->settings = (struct report_settings){
		.max_clients = max_clients,
		.port = options->listen_port,
		.timeout_ms = options->timeout_ms,
		.links = options->links,
		.item_size = options->item_size,
		.memory_limit = options->memory_limit,
		.ring = ketama_kind_name(options->ring),
		.listen_hosts = (const char *const *)options->listen_hosts,
		.listen_count = options->listen_count,
		.socket_path = options->socket_path,
		.verbosity = options->verbose,
		.refuse_flush = options->refuse_flush,
		.error_on_down = options->error_on_down,
		.scrub_pace = options->scrub_pace,
		.is_ready = magent->is_next,
		.started_ms = magent->is_next ? magent->process.started_ms :
						conn_loop_now(magent->loop),
	};
}

/* Build the servers, the rings and the clients.  Returns false when out of
   memory. */
static bool
build_proxy(struct magent *magent, unsigned int max_clients)
{
	const struct options *options = magent->options;
	struct pairs_servers servers = options_servers(options);
	struct server_settings server_settings = {
		.links = options->links,
		.timeout_ms = options->timeout_ms,
		.value_max = options->item_size + VALUE_SLACK,
	};
	struct recoveries_settings recoveries_settings = {
		.memory = options->memory_limit / 2,
		.item_size = options->item_size,
		.scrub_pace = options->scrub_pace,
	};
	struct clients_settings clients_settings = {
		.value_max = options->item_size,
		.memory_limit = options->memory_limit,
		.max = max_clients,
		.links = options->links,
		.refuse_flush = options->refuse_flush,
		.error_on_down = options->error_on_down,
		.samples_keys = options->hotkeys,
	};

	assert(options->primary_count > 0 && max_clients > 0);
	assert(options->item_size <= options->memory_limit / 2);
	if (!conn_loop_reserve_timers(magent->loop,
		TIMERS +
		    TIMERS_OF_SERVER *
			(options->primary_count + options->backup_count)))
		return false;
	if (has_names(options)) {
		magent->resolver = resolver_new(magent->base);
		if (magent->resolver == NULL)
			return false;
	}
	magent->recoveries = recoveries_new(magent->loop, magent->resolver,
	    &servers, &server_settings, &recoveries_settings);
	if (magent->recoveries == NULL)
		return false;
	set_settings(magent, max_clients);
	magent->pairs = recoveries_pairs(magent->recoveries);
	magent->clients = clients_new(magent->loop, magent->pairs,
	    &magent->stats, &magent->settings, &clients_settings);
	return magent->clients != NULL;
}

static const struct {
	int number;
	event_callback_fn act;
} signals[SIGNALS] = {
	[TERM] = { SIGTERM, on_stop },
	[INT] = { SIGINT, on_stop },
	[HUP] = { SIGHUP, on_replace },
	[USR1] = { SIGUSR1, on_rename },
	[USR2] = { SIGUSR2, on_scrub_signal },
};

/* From the first port that is bound until the loop can act on it, a signal
   waits, so that the end is orderly then, too. */
static void
hold_signals(bool hold)
{
	sigset_t set;
	int i;

	sigemptyset(&set);
	for (i = 0; i < SIGNALS; i++)
		sigaddset(&set, signals[i].number);
	sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static bool
build_listeners(struct magent *magent)
{
	size_t n = sockets_count(magent->sockets), i;
	unsigned int kept = KEPT_FILES +
	    (unsigned int)pairs_peer_count(magent->pairs) *
		magent->options->links;

	magent->listeners = calloc(n, sizeof(*magent->listeners));
	if (magent->listeners == NULL)
		return false;
	magent->listener_count = n;
	for (i = 0; i < n; i++) {
		magent->listeners[i] = listener_new(magent->base,
		    sockets_fd(magent->sockets, i), kept, magent->clients,
		    &magent->stats);
		if (magent->listeners[i] == NULL)
			return false;
	}
	return true;
}

/* Who tells others how it is: --metrics, --stats-port.  Returns false when out
   of memory. */
static bool
build_statistics(struct magent *magent)
{
	struct metrics_source source = {
		.stats = &magent->stats,
		.pairs = magent->pairs,
		.settings = &magent->settings,
	};

	if (magent->has_sockets) {
		sockets_drop_unasked(magent->metrics_sockets);
		sockets_drop_unasked(magent->stats_sockets);
	}
	if (sockets_count(magent->metrics_sockets) > 0) {
		magent->usage = usage_new(magent->pairs);
		if (magent->usage != NULL)
			magent->web = web_new(magent->loop,
			    magent->metrics_sockets, &source, magent->usage);
		if (magent->web == NULL)
			return false;
	}
	if (sockets_count(magent->stats_sockets) > 0) {
		magent->twemproxy = twemproxy_new(magent->loop,
		    magent->stats_sockets, &source);
		if (magent->twemproxy == NULL)
			return false;
	}
	return true;
}

static bool
build_events(struct magent *magent)
{
	struct timeval every = { .tv_sec = TICK_SECONDS };
	int i;

	assert(magent->clients != NULL && magent->stops == 0);
	if (!build_listeners(magent) || !build_statistics(magent))
		return false;
	for (i = 0; i < SIGNALS; i++) {
		magent->signals[i] = evsignal_new(magent->base,
		    signals[i].number, signals[i].act, magent);
		if (magent->signals[i] == NULL ||
		    event_add(magent->signals[i], NULL) == -1)
			return false;
	}
	hold_signals(false);
	magent->delay = event_new(magent->base, -1, 0, on_delay_end, magent);
	magent->tick = event_new(magent->base, -1, EV_PERSIST, on_watchdog_tick,
	    magent);
	return magent->delay != NULL && magent->tick != NULL &&
	    event_add(magent->tick, &every) == 0;
}

/* What hands over to the next program, if there is one. */
static bool
build_handover(struct magent *magent)
{
	struct handover_parts parts = {
		.loop = magent->loop,
		.recoveries = magent->recoveries,
		.clients = magent->clients,
		.sockets = magent->sockets,
		.metrics_sockets = magent->metrics_sockets,
		.stats_sockets = magent->stats_sockets,
		.stats = &magent->stats,
		.started_ms = magent->settings.started_ms,
		.is_daemon = !magent->options->foreground,
		.servers = &magent->servers,
		.is_due = &magent->is_due,
		.limit_ms = HANDOVER_MS + 4 * magent->options->timeout_ms,
	};

	magent->servers = options_servers(magent->options);
	magent->handover = handover_new(&parts);
	return magent->handover != NULL;
}

/* Close those that are not asked for any more.  Who has connected to them is a
   client. */
static void
give_up_sockets(struct magent *magent)
{
	size_t i, kept = 0;

	for (i = 0; i < magent->listener_count; i++) {
		if (!sockets_is_unasked(magent->sockets, i)) {
			magent->listeners[kept++] = magent->listeners[i];
			continue;
		}
		listener_empty(magent->listeners[i]);
		listener_free(magent->listeners[i]);
	}
	magent->listener_count = kept;
	sockets_drop_unasked(magent->sockets);
}

/* Take over what a program before has left.  Returns false when out of
   memory. */
static bool
take_over(struct magent *magent)
{
	if (!recoveries_take(magent->recoveries, magent->carry) ||
	    !clients_take(magent->clients, magent->carry))
		return false;
	carry_free(magent->carry);
	magent->carry = NULL;
	magent->stats.replacements++;
	log_info("magent %s has taken over %zu clients", MAGENT_VERSION,
	    clients_count(magent->clients));
	return true;
}

static bool
build(struct magent *magent, unsigned int max_clients)
{
	magent->base = event_base_new();
	if (magent->base == NULL ||
	    event_base_priority_init(magent->base, PRIORITIES) == -1)
		return false;
	magent->loop = conn_loop_new(magent->base);
	if (magent->loop == NULL || !build_proxy(magent, max_clients) ||
	    !build_handover(magent) || !build_events(magent) ||
	    (magent->is_next && !take_over(magent)))
		return false;
	/* Also of those that systemd has kept. */
	if (magent->has_sockets)
		give_up_sockets(magent);
	return true;
}

/* Accepts what is half built. */
static void
demolish(struct magent *magent)
{
	int i;

	stop_listening(magent);
	handover_free(magent->handover);
	carry_free(magent->carry);
	handover_process_end(&magent->process);
	if (magent->clients != NULL)
		clients_free(magent->clients);
	if (magent->recoveries != NULL)
		recoveries_free(magent->recoveries);
	usage_free(magent->usage);
	resolver_free(magent->resolver);
	for (i = 0; i < SIGNALS; i++)
		if (magent->signals[i] != NULL)
			event_free(magent->signals[i]);
	if (magent->tick != NULL)
		event_free(magent->tick);
	if (magent->delay != NULL)
		event_free(magent->delay);
	if (magent->loop != NULL)
		conn_loop_free(magent->loop);
	if (magent->base != NULL)
		event_base_free(magent->base);
	pool_trim(0);
	block_free_spare();
}

/*
 * Running
 */

/* A magent that systemd starts when this one has ended gets the sockets again,
   and nobody is refused meanwhile.  Those that systemd has made it keeps
   anyway. */
static void
store_sockets(const struct magent *magent)
{
	int fds[DAEMON_STORED_MAX];
	size_t n = sockets_count(magent->sockets), i;

	if (n > DAEMON_STORED_MAX || sockets_are_passed(magent->sockets))
		return;
	for (i = 0; i < n; i++)
		fds[i] = sockets_fd(magent->sockets, i);
	daemon_store(SOCKETS_STORED, fds, n,
	    magent->is_next || magent->passed > 0);
}

/* Every server has answered, or has not answered in time: say that clients may
   come.  From here on a daemon logs to syslog. */
static void
announce_ready(struct magent *magent)
{
	const struct options *options = magent->options;

	assert(!magent->ready && pairs_peer_count(magent->pairs) > 0);
	magent->ready = magent->settings.is_ready = true;
	magent->is_due = false;
	log_info("ready; servers: %zu, pairs without one that is up: %zu",
	    pairs_peer_count(magent->pairs), pairs_uncovered(magent->pairs));
	daemon_ready();
	if (magent->stops == 0)
		store_sockets(magent);
	log_file_alone();
	if (!options->foreground && options->log_file == NULL)
		log_open(true, log_level());
	if (magent->is_to_be_replaced && magent->stops == 0)
		handover_begin(magent->handover);
}

/* Whether, after the first signal, clients are still accepted, or something is
   in flight and may take more time. */
static bool
is_busy(struct magent *magent)
{
	assert(magent->stops > 0);
	if (magent->listeners != NULL)
		return true;
	return conn_loop_now(magent->loop) < magent->deadline &&
	    (clients_count(magent->clients) > 0 ||
		!pairs_are_idle(magent->pairs) ||
		recoveries_leave(magent->recoveries));
}

/* The command that started a daemon waits for it to be ready, and learns that
   it never was. */
static int
end_status(const struct magent *magent)
{
	return magent->ready || magent->options->foreground ?
	    EX_OK :
	    EXIT_FAILURE;
}

/* Signals that come from here on are for the new program, if there is one;
   those that have come are acted on. */
static void
hand_over(struct magent *magent)
{
	magent->is_due = false;
	hold_signals(true);
	event_base_loop(magent->base, EVLOOP_NONBLOCK);
	if (magent->stops == 0)
		handover_finish(magent->handover);
	hold_signals(false);
}

/* What is rarely to be done, and not inside a turn. */
static void
look_between_turns(struct magent *magent)
{
	if (magent->ready)
		hand_over(magent);
	else if (!recoveries_are_starting(magent->recoveries))
		announce_ready(magent);
}

static void
run(struct magent *magent)
{
	assert(magent->stops == 0 && !magent->ready);
	recoveries_start(magent->recoveries);
	magent->is_due = true;
	while (magent->stops == 0 || (magent->stops == 1 && is_busy(magent))) {
		conn_loop_turn(magent->loop);
		if (magent->is_due)
			look_between_turns(magent);
	}
	log_info("stopped");
	daemon_pid_file_remove();
	/* Exit without freeing: requests are still referenced. */
	if (clients_count(magent->clients) > 0 ||
	    !pairs_are_idle(magent->pairs))
		_exit(end_status(magent));
}

static void
seed_random(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	srandom((unsigned int)now.tv_nsec ^ (unsigned int)getpid());
}

/* Warnings of libevent are lines of the log. */
static void
on_libevent_log(int severity, const char *message)
{
	if (severity >= EVENT_LOG_WARN)
		log_warning("libevent: %s", message);
}

/* The file of a program before may be one that this user cannot open again.
   Returns false, and errno. */
static bool
open_log(const struct magent *magent)
{
	const char *path = magent->options->log_file;

	if (!magent->is_next ||
	    !handover_is_path(magent->process.log_path, path))
		return log_file_open(path);
	log_file_keep(magent->process.log_file, path);
	return true;
}

static void
become_process(const struct options *options)
{
	if (options->pid_file != NULL)
		daemon_pid_file(options->pid_file);
	daemon_drop(options->user, options->group);
}

/* Stay what the program before has made of this process. */
static void
keep_process(struct magent *magent)
{
	const struct options *options = magent->options;
	const struct handover_process *process = &magent->process;

	if (process->pid_path != NULL) {
		daemon_keep_pid_file(process->pid_file, process->pid_path);
		if (!handover_is_path(process->pid_path, options->pid_file))
			daemon_pid_file_remove();
	}
	if (options->pid_file != NULL && daemon_pid_file_fd() == -1)
		daemon_pid_file(options->pid_file);
	daemon_keep_account(options->user, options->group);
	if (!options->foreground)
		daemon_go_to_root();
}

/* From the checked command line to the end.  Returns the exit status. */
static int
serve(struct magent *magent)
{
	const struct options *options = magent->options;
	unsigned int servers = (unsigned int)(options->primary_count +
	    options->backup_count);
	unsigned int max_clients;

	magent->passed = sockets_passed();
	max_clients = daemon_files(options->max_clients,
	    SPARE_FILES + servers * 2 * options->links,
	    magent->is_next ? DAEMON_KEEP_ALL : magent->passed);
	if (!options->foreground && !magent->is_next)
		daemon_fork();
	hold_signals(true);
	if (options->log_file != NULL && !open_log(magent)) {
		log_error("--log-file %s: cannot open it: %m",
		    options->log_file);
		return EX_CANTCREAT;
	}
	if (!bind_sockets(magent))
		return EX_OSERR;
	if (magent->is_next)
		keep_process(magent);
	else
		become_process(options);
	if (!build(magent, max_clients)) {
		log_error("cannot start: out of memory");
		daemon_pid_file_remove();
		/* Exit without freeing: there may be clients already. */
		if (magent->is_next)
			_exit(EX_OSERR);
		return EX_OSERR;
	}
	run(magent);
	return end_status(magent);
}

/* Ask another magent.  Returns the exit status. */
static int
ask_health(struct options *options)
{
	int status = health_check(&options->health, options->timeout_ms);

	options_free(options);
	return status;
}

/* What comes first, before anything is written to a log. */
static void
begin_log(const struct options *options, bool is_next)
{
	/* A daemon has no terminal any more. */
	bool to_syslog = is_next && !options->foreground &&
	    options->log_file == NULL;

	log_open(to_syslog,
	    options->verbose > 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
}

int
main(int argc, char *argv[])
{
	struct magent magent = { .stops = 0 };
	struct options options;
	int status;

	/* Whoever has started us may have ignored it. */
	signal(SIGCHLD, SIG_DFL);
	replace_remember(argv);
	if (!options_parse(&options, argc, argv, &status))
		return status;
	magent.options = &options;
	if (options.health.name != NULL)
		return ask_health(&options);
	if (options.check)
		return check_options(&options);
	magent.is_next = replace_is_next();
	begin_log(&options, magent.is_next);
	lasting_install();
	event_set_log_callback(on_libevent_log);
	seed_random();
	if (magent.is_next) {
		magent.carry = replace_inherited();
		if (magent.carry == NULL) {
			options_free(&options);
			return EX_SOFTWARE;
		}
		magent.process = handover_process(magent.carry);
		/* It stays what it is, and logs as that. */
		options.foreground = !magent.process.is_daemon;
		begin_log(&options, true);
	} else {
		signal(SIGHUP, SIG_IGN);
		signal(SIGUSR1, SIG_IGN);
		signal(SIGUSR2, SIG_IGN);
	}
	status = serve(&magent);
	demolish(&magent);
	options_free(&options);
	return status;
}
