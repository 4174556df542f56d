/*
 * All connections from applications.
 *
 * Invariant: env.list holds each client from client_new() until it closes, and
 * stats->connections counts them.
 */

#include "client/clients.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "carry.h"
#include "client/budget.h"
#include "client/client.h"
#include "client/hotkeys.h"
#include "client/stats.h"
#include "conn.h"
#include "log.h"
#include "pool.h"

struct clients {
	struct client_env env;
	struct clients_settings settings;
	struct event *tick; /* owned; once a second */
};

static void
on_clients_tick(evutil_socket_t fd, short what, void *arg)
{
	struct clients *clients = arg;

	(void)fd;
	(void)what;
	clients_check_progress(&clients->env);
	pool_relax();
}

/* There are too many clients: say so to this one, and close fd. */
static void
refuse_client(struct clients *clients, int fd)
{
	static const char sorry[] = "ERROR Too many open connections\r\n";

	clients->env.requests.stats->rejected_connections++;
	log_warning("more than %u clients: refused one", clients->settings.max);
	(void)!send(fd, sorry, sizeof(sorry) - 1, MSG_NOSIGNAL);
	close(fd);
}

void
clients_accept(struct clients *clients, int fd)
{
	struct stats *stats = clients->env.requests.stats;

	assert(fd != -1 && !clients->env.are_stopping);
	if (stats->connections >= clients->settings.max) {
		refuse_client(clients, fd);
		return;
	}
	stats->total_connections++;
	if (client_new(&clients->env, fd) == NULL)
		close(fd);
}

void
clients_stop(struct clients *clients)
{
	struct client *client, *next;

	assert(!clients->env.are_stopping);
	clients->env.are_stopping = true;
	for (client = TAILQ_FIRST(&clients->env.list); client != NULL;
	     client = next) {
		next = client_next(client);
		client_stop(client);
	}
}

/*
 * From one program to the next one
 */

bool
clients_are_at_rest(const struct clients *clients)
{
	struct client *client = TAILQ_FIRST(&clients->env.list);

	for (; client != NULL; client = client_next(client))
		if (!client_is_at_rest(client))
			return false;
	return true;
}

bool
clients_carry(const struct clients *clients, struct carry *carry)
{
	struct client *client = TAILQ_FIRST(&clients->env.list);

	stats_carry(clients->env.requests.stats, carry);
	for (; client != NULL; client = client_next(client))
		if (!client_carry(client, carry))
			return false;
	carry_numbers(carry, "clients", &clients->env.last_number, 1);
	return true;
}

bool
clients_take(struct clients *clients, struct carry *carry)
{
	struct client_env *env = &clients->env;
	struct carry_line line;

	carry_rewind(carry);
	while (carry_next(carry, &line)) {
		stats_take(env->requests.stats, &line);
		if (carry_is(&line, "clients"))
			env->last_number = line.numbers[0];
		if (carry_is(&line, "client") && !client_take(env, &line))
			return false;
	}
	return true;
}

size_t
clients_count(const struct clients *clients)
{
	return clients->env.requests.stats->connections;
}

/* Fill env.  Out of memory, it has no budget, or no hotkeys. */
static void
init_env(struct client_env *env, struct conn_loop *loop, struct pairs *pairs,
    struct stats *stats, const struct report_settings *report_settings,
    const struct clients_settings *settings)
{
	env->loop = loop;
	env->requests = (struct request_env){
		.loop = loop,
		.pairs = pairs,
		.stats = stats,
		.links = settings->links,
		.error_on_down = settings->error_on_down,
		.budget = budget_new(conn_loop_base(loop),
		    settings->memory_limit, settings->value_max),
		.hotkeys = settings->samples_keys ? hotkeys_new(loop) : NULL,
		.answered = client_answered,
	};
	env->local = (struct local){
		.loop = loop,
		.env = &env->requests,
		.settings = report_settings,
		.clients = &env->list,
		.refuse_flush = settings->refuse_flush,
	};
	env->value_max = settings->value_max;
	TAILQ_INIT(&env->list);
	TAILQ_INIT(&env->watched);
	unfinished_list_init(&env->unfinished);
}

struct clients *
clients_new(struct conn_loop *loop, struct pairs *pairs, struct stats *stats,
    const struct report_settings *report_settings,
    const struct clients_settings *settings)
{
	struct clients *clients = calloc(1, sizeof(*clients));
	struct timeval second = { .tv_sec = 1 };

	if (clients == NULL)
		return NULL;
	assert(settings->max > 0 && settings->links > 0);
	clients->settings = *settings;
	init_env(&clients->env, loop, pairs, stats, report_settings, settings);
	clients->tick = event_new(conn_loop_base(loop), -1, EV_PERSIST,
	    on_clients_tick, clients);
	if (clients->tick == NULL || clients->env.requests.budget == NULL ||
	    (settings->samples_keys && clients->env.requests.hotkeys == NULL) ||
	    event_add(clients->tick, &second) == -1) {
		clients_free(clients);
		return NULL;
	}
	pool_relax();
	return clients;
}

void
clients_free(struct clients *clients)
{
	assert(TAILQ_EMPTY(&clients->env.list));
	assert(clients_count(clients) == 0);
	if (clients->tick != NULL)
		event_free(clients->tick);
	budget_free(clients->env.requests.budget);
	hotkeys_free(clients->env.requests.hotkeys);
	free(clients);
}
