#ifndef HANDOVER_H
#define HANDOVER_H

/*
 * Hand everything over to a new program in this process: see replace.h.
 *
 *	HUP -> rehearsal -> the gate is closed -> all is at rest -> execute
 *
 * Whatever goes wrong before the last step is a line in the log, and this
 * program goes on.
 */

#include <stdbool.h>
#include <stdint.h>

struct carry;
struct clients;
struct conn_loop;
struct handover;
struct pairs_servers;
struct recoveries;
struct sockets;
struct stats;

/* What is handed over; all borrowed. */
struct handover_parts {
	struct conn_loop *loop;
	struct recoveries *recoveries;
	struct clients *clients;
	struct sockets *sockets, *metrics_sockets, *stats_sockets;
	struct stats *stats; /* refusals are counted here */
	/* When the first of these programs was started: milliseconds of the
	   monotonic clock. */
	int64_t started_ms;
	bool is_daemon;
	/* Those of the options. */
	const struct pairs_servers *servers;
	/* So long may what is under way take, in milliseconds. */
	unsigned int limit_ms;
	/* Set when handover_finish() is to be called, between two turns of the
	   loop, which looks at this each time. */
	bool *is_due;
};

/* Returns NULL when out of memory. */
struct handover *handover_new(const struct handover_parts *parts);
void handover_free(struct handover *handover); /* NULL is fine */

/* Begin.  One that is under way begins again, in its time: the options may have
   changed since it was rehearsed. */
void handover_begin(struct handover *handover);

/* Give up what is under way. */
void handover_cancel(struct handover *handover);

/* Be the new program, if it is still due.  Returns if that is not so, or cannot
   be done. */
void handover_finish(struct handover *handover);

/* What the process itself has left to this program. */
struct handover_process {
	int64_t started_ms;
	bool is_daemon;
	/* NULL: there is no pid file; owned.  And its descriptor. */
	char *pid_path;
	int pid_file;
	/* The same for the log file. */
	char *log_path;
	int log_file;
};

/* Whether the path of a file of the process before, or NULL, is this one, or
   NULL. */
bool handover_is_path(const char *before, const char *path);

/* To be ended by handover_process_end(). */
struct handover_process handover_process(struct carry *carry);
void handover_process_end(struct handover_process *process);

#endif
