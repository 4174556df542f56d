#ifndef DAEMON_H
#define DAEMON_H

/*
 * What makes a process a daemon: descriptors, user, parent, pid file.
 *
 * Order of calls: daemon_files, daemon_fork (unless in the foreground), bind,
 * daemon_pid_file, daemon_drop, daemon_ready; at the end
 * daemon_pid_file_remove.  Ports and the pid file need the rights of root,
 * nothing after them does.  Threads and event bases are made after
 * daemon_fork.
 *
 * Whatever fails here before daemon_ready is logged in one line and ends the
 * process with a status of <sysexits.h>.
 */

#include <stdbool.h>

/*
 * Raise RLIMIT_NOFILE so that clients fit beside other descriptors (both
 * counts).  Returns how many clients fit, at least 1; says so in the log if
 * that is less than asked for.  Also closes what the caller left open beyond
 * stderr (so nobody waits for us at the end of some pipe), and opens /dev/null
 * for whichever of descriptors 0, 1, 2 is closed, so that no socket gets their
 * numbers.  Call it before anything opens a descriptor.
 */
unsigned int daemon_files(unsigned int clients, unsigned int other);

/*
 * Go to the background.  The parent waits in here and exits with 0 once the
 * child has called daemon_ready(), or with the child's own exit status.
 * Until daemon_ready() stderr stays the caller's.  Returns in the child.
 */
void daemon_fork(void);

/*
 * Write and lock the pid file (path is borrowed until the end, and absolute);
 * daemon_pid_file_remove() removes it if it is still ours, or empties it where
 * the directory no longer lets us.  Exits with EX_CANTCREAT, or EX_TEMPFAIL if
 * a live process holds it, which then stays as it is.
 */
void daemon_pid_file(const char *path);
void daemon_pid_file_remove(void); /* nothing to remove is fine */

/*
 * Become user and group (names or numbers; either may be NULL): root without
 * user becomes nobody and says so; "root" stays root, with a warning; who is
 * not root stays who he is, with a warning if the two say something else.
 * Supplementary groups are the user's.  Exits with EX_NOUSER if there is no
 * such user or group, with EX_OSERR if it cannot become them for good.
 */
void daemon_drop(const char *user, const char *group);

/*
 * All ports are bound.  Tells systemd ($NOTIFY_SOCKET) READY=1; after
 * daemon_fork() also goes to the root directory, points stdin, stdout and
 * stderr to /dev/null and lets the parent exit with 0.  So the last line to
 * the caller's stderr comes before, and log_open(true, ...) after.
 */
void daemon_ready(void);

/* Tell systemd something more: STOPPING=1, WATCHDOG=1.  Never waits; without
   $NOTIFY_SOCKET it does nothing. */
void daemon_notify(const char *state);

#endif
