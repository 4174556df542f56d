/*
 * What --check looks at.
 *
 * Invariant: what would be refused at a start is refused here, in one line.
 */

#include "check.h"

#include <stdbool.h>
#include <stdio.h>
#include <sysexits.h>

#include "carry.h"
#include "client/sockets.h"
#include "daemon.h"
#include "handover.h"
#include "listen.h"
#include "log.h"
#include "mirror/knowledge.h"
#include "mirror/pair.h"
#include "options.h"
#include "replace.h"

/* Whether the files that are asked for, and are others than before, can be
   written.  Exits as daemon_pid_file(). */
static bool
can_write_files(const struct options *options,
    const struct handover_process *process)
{
	const char *log = options->log_file, *pid = options->pid_file;

	if (log != NULL && !handover_is_path(process->log_path, log) &&
	    !log_file_open(log)) {
		log_error("--log-file %s: cannot open it: %m", log);
		return false;
	}
	if (pid != NULL && !handover_is_path(process->pid_path, pid)) {
		daemon_pid_file(pid);
		daemon_pid_file_remove();
	}
	return true;
}

/* Whether what is asked for can be listened on, by this function, besides what
   is already.  Returns false after one line. */
static bool
can_listen(const struct options *options, struct carry *carry,
    enum sockets_use use,
    bool (*listen_on)(struct sockets *sockets, const struct options *options))
{
	struct sockets *sockets = sockets_new(use);
	bool is_good;

	if (sockets == NULL) {
		log_error("cannot listen: out of memory");
		return false;
	}
	is_good = sockets_take(sockets, carry) && listen_on(sockets, options);
	sockets_leave_taken(sockets);
	sockets_free(sockets);
	return is_good;
}

/* Whether this program could take the place of the one that has left carry.
   Returns the exit status. */
static int
check_carry(const struct options *options, struct carry *carry)
{
	struct pairs_servers servers = options_servers(options);
	struct handover_process process = handover_process(carry);
	int status = EX_OK;

	if (!knowledge_fits(&servers, carry)) {
		log_error(
		    "other servers than before (-s, -b, --ring) need "
		    "a restart");
		status = EX_CONFIG;
	} else if (!can_write_files(options, &process)) {
		status = EX_CANTCREAT;
	} else if (!can_listen(options, carry, SOCKETS_FOR_CLIENTS,
		       listen_as_asked) ||
	    !can_listen(options, carry, SOCKETS_FOR_METRICS,
		listen_for_metrics) ||
	    !can_listen(options, carry, SOCKETS_FOR_STATS, listen_for_stats)) {
		status = EX_OSERR;
	}
	handover_process_end(&process);
	return status;
}

int
check_options(struct options *options)
{
	struct carry *carry;
	int status = EX_OK;

	log_open(false, LOG_LEVEL_INFO);
	daemon_check_account(options->user, options->group);
	if (replace_is_next()) {
		carry = replace_inherited();
		status = carry == NULL ? EX_SOFTWARE :
					 check_carry(options, carry);
		carry_free(carry);
	}
	options_free(options);
	if (status == EX_OK)
		puts("ok");
	return status;
}
