/*
 * Hand everything over to a new program.
 *
 *   IDLE -- HUP --> REHEARSAL -- ok --> CLOSING -- all answered --> SETTLING
 *    ^                |                ^                         |    |
 *    |              wrong              '---- something goes on --'    |
 *    |                |                                               v
 *    '----------------+--------- limit, TERM, no memory ------------ DUE
 *
 * Invariant: what is handed over is at rest: nobody is asked, and what was
 * answered is on all servers.  What clients have sent, or have not taken, is a
 * part of what is handed over.
 */

#include "handover.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "carry.h"
#include "client/clients.h"
#include "client/sockets.h"
#include "client/stats.h"
#include "conn.h"
#include "container_of.h"
#include "daemon.h"
#include "log.h"
#include "mirror/gate.h"
#include "mirror/knowledge.h"
#include "mirror/pair.h"
#include "mirror/recovery.h"
#include "replace.h"

enum {
	/* Between two looks whether all is at rest. */
	LOOK_MS = 1,
	/* What goes on for so long while the gate is closed may wait for it to
	   be opened.  Or it takes longer: each time it is twice that. */
	PATIENCE_MS = 50,
};

/* The numbers of the line of the process. */
enum { PROCESS_STARTED, PROCESS_IS_DAEMON, PROCESS_NUMBERS };

enum handover_state { IDLE, REHEARSAL, CLOSING, SETTLING, DUE };

struct handover {
	struct handover_parts parts;
	enum handover_state state;
	struct rehearsal *rehearsal; /* owned; NULL: there is none */
	struct gate_job job;
	struct event *look; /* owned */
	bool is_asked_again;
	/* By the monotonic clock; patience_ms is a time. */
	int64_t deadline_ms, closed_ms, patience_ms;
};

static struct pairs *
pairs_of(const struct handover *handover)
{
	return recoveries_pairs(handover->parts.recoveries);
}

static struct gate *
gate_to_close(const struct handover *handover)
{
	return pairs_gate(pairs_of(handover));
}

static void
refuse(struct handover *handover, const char *why)
{
	bool is_asked_again = handover->is_asked_again;

	handover->parts.stats->refused_replacements++;
	log_error("cannot be replaced: %s; this program goes on", why);
	handover_cancel(handover);
	daemon_notify("READY=1");
	if (is_asked_again)
		handover_begin(handover);
}

/* What was rehearsed are perhaps the options of before. */
static void
rehearse_again(struct handover *handover)
{
	handover_cancel(handover);
	handover_begin(handover);
}

/*
 * Rest
 */

static bool
is_at_rest(const struct handover *handover)
{
	return knowledge_is_at_rest(pairs_of(handover)) &&
	    clients_are_at_rest(handover->parts.clients);
}

static void
look_later(struct handover *handover)
{
	struct timeval wait = { .tv_usec = LOOK_MS * 1000 };

	event_add(handover->look, &wait);
}

static void
close_gate(struct handover *handover)
{
	handover->state = CLOSING;
	gate_quiesce(gate_to_close(handover), &handover->job);
}

static void
on_settling(evutil_socket_t fd, short what, void *arg)
{
	struct handover *handover = arg;
	int64_t now = conn_loop_now(handover->parts.loop);

	(void)fd;
	(void)what;
	assert(handover->state == SETTLING);
	knowledge_come_to_rest(pairs_of(handover),
	    handover->patience_ms > PATIENCE_MS);
	if (is_at_rest(handover)) {
		handover->state = DUE;
		*handover->parts.is_due = true;
	} else if (now >= handover->deadline_ms) {
		refuse(handover, "what is under way does not end");
	} else if (now - handover->closed_ms >= handover->patience_ms) {
		handover->patience_ms *= 2;
		gate_open(gate_to_close(handover));
		close_gate(handover);
	} else {
		look_later(handover);
	}
}

static void
on_gate_closed(struct gate_job *job)
{
	struct handover *handover = CONTAINER_OF(job, struct handover, job);

	assert(handover->state == CLOSING);
	handover->state = SETTLING;
	handover->closed_ms = conn_loop_now(handover->parts.loop);
	gate_let_steps(gate_to_close(handover));
	look_later(handover);
}

/*
 * Rehearsal
 */

static void
on_rehearsed(void *owner, const char *wrong)
{
	struct handover *handover = owner;

	assert(handover->state == REHEARSAL);
	handover->rehearsal = NULL;
	if (wrong != NULL) {
		refuse(handover, wrong);
		return;
	}
	if (handover->is_asked_again) {
		rehearse_again(handover);
		return;
	}
	handover->deadline_ms = conn_loop_now(handover->parts.loop) +
	    handover->parts.limit_ms;
	handover->patience_ms = PATIENCE_MS;
	close_gate(handover);
}

/* Write the descriptor of a file that is open, and its path. */
static void
carry_file(struct carry *carry, const char *name, int fd, const char *path)
{
	uint64_t number;

	if (fd == -1)
		return;
	number = carry_descriptor(carry, fd);
	carry_add(carry, name, &number, 1, path, strlen(path));
}

/* Write what is known of the process itself. */
static void
carry_process(const struct handover *handover, struct carry *carry)
{
	uint64_t numbers[PROCESS_NUMBERS] = {
		[PROCESS_STARTED] = (uint64_t)handover->parts.started_ms,
		[PROCESS_IS_DAEMON] = handover->parts.is_daemon,
	};

	carry_numbers(carry, "process", numbers, PROCESS_NUMBERS);
	carry_file(carry, "pid-file", daemon_pid_file_fd(),
	    daemon_pid_file_path());
	carry_file(carry, "log-file", log_file_fd(), log_file_path());
}

void
handover_begin(struct handover *handover)
{
	const struct handover_parts *parts = &handover->parts;
	struct carry *carry;

	if (handover->state != IDLE) {
		handover->is_asked_again = true;
		return;
	}
	daemon_notify("RELOADING=1");
	carry = carry_new();
	handover->state = REHEARSAL;
	if (carry != NULL) {
		carry_process(handover, carry);
		sockets_carry(parts->sockets, carry);
		sockets_carry(parts->metrics_sockets, carry);
		sockets_carry(parts->stats_sockets, carry);
		knowledge_carry_servers(parts->servers, carry);
		if (carry_end(carry))
			handover->rehearsal =
			    rehearsal_new(conn_loop_base(parts->loop), carry,
				on_rehearsed, handover);
	}
	if (handover->rehearsal == NULL)
		refuse(handover, strerror(errno));
	carry_free(carry);
}

void
handover_cancel(struct handover *handover)
{
	enum handover_state state = handover->state;

	handover->state = IDLE;
	handover->is_asked_again = false;
	rehearsal_free(handover->rehearsal);
	handover->rehearsal = NULL;
	event_del(handover->look);
	if (state == CLOSING)
		gate_job_cancel(gate_to_close(handover), &handover->job);
	else if (state == SETTLING || state == DUE)
		gate_open(gate_to_close(handover));
}

/*
 * The end
 */

/* Take the descriptor and the path of a file. */
static void
take_file(const struct carry_line *line, int *fd, char **path)
{
	if (*path != NULL || line->bytes == NULL)
		return;
	*fd = (int)line->numbers[0];
	*path = strndup(line->bytes, line->length);
}

struct handover_process
handover_process(struct carry *carry)
{
	struct handover_process process = { .pid_path = NULL };
	struct carry_line line;

	carry_rewind(carry);
	while (carry_next(carry, &line)) {
		if (carry_is(&line, "process")) {
			process.started_ms =
			    (int64_t)line.numbers[PROCESS_STARTED];
			process.is_daemon = line.numbers[PROCESS_IS_DAEMON];
		} else if (carry_is(&line, "pid-file")) {
			take_file(&line, &process.pid_file, &process.pid_path);
		} else if (carry_is(&line, "log-file")) {
			take_file(&line, &process.log_file, &process.log_path);
		}
	}
	return process;
}

bool
handover_is_path(const char *before, const char *path)
{
	return before == NULL || path == NULL ?
	    before == path :
	    strcmp(before, path) == 0;
}

void
handover_process_end(struct handover_process *process)
{
	free(process->pid_path);
	free(process->log_path);
	process->pid_path = process->log_path = NULL;
}

/* Returns whether all was written. */
static bool
write_all(const struct handover *handover, struct carry *carry)
{
	carry_process(handover, carry);
	sockets_carry(handover->parts.sockets, carry);
	sockets_carry(handover->parts.metrics_sockets, carry);
	sockets_carry(handover->parts.stats_sockets, carry);
	knowledge_carry_servers(handover->parts.servers, carry);
	recoveries_carry(handover->parts.recoveries, carry);
	return clients_carry(handover->parts.clients, carry) &&
	    carry_end(carry);
}

void
handover_finish(struct handover *handover)
{
	struct carry *carry;

	if (handover->state != DUE)
		return;
	if (handover->is_asked_again) {
		rehearse_again(handover);
		return;
	}
	knowledge_come_to_rest(pairs_of(handover), false);
	if (!is_at_rest(handover)) {
		handover->state = SETTLING;
		look_later(handover);
		return;
	}
	carry = carry_new();
	errno = ENOMEM;
	if (carry != NULL && write_all(handover, carry)) {
		log_info("hands over to a new program");
		replace_execute(carry);
	}
	refuse(handover, strerror(errno));
	carry_free(carry);
}

/*
 * Life
 */

struct handover *
handover_new(const struct handover_parts *parts)
{
	struct handover *handover = calloc(1, sizeof(*handover));

	if (handover == NULL)
		return NULL;
	handover->parts = *parts;
	handover->job.run = on_gate_closed;
	handover->look = event_new(conn_loop_base(parts->loop), -1, 0,
	    on_settling, handover);
	if (handover->look != NULL)
		return handover;
	free(handover);
	return NULL;
}

void
handover_free(struct handover *handover)
{
	if (handover == NULL)
		return;
	rehearsal_free(handover->rehearsal);
	event_free(handover->look);
	free(handover);
}
