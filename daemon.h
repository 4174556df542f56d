#ifndef DAEMON_H
#define DAEMON_H

/*
 * Make a daemon of the process: descriptors, background, user, pid file, and
 * messages to systemd.
 *
 * The order of calls is:
 *
 *	daemon_files()
 *	daemon_fork()             unless magent stays in the foreground
 *	                          ports are bound
 *	daemon_pid_file()         if there is to be one
 *	daemon_drop()
 *	                          event bases are made
 *	daemon_ready()
 *	daemon_pid_file_remove()
 *
 * daemon_notify() may be called at any time after daemon_drop().
 *
 * A program that takes the place of one before is a daemon already:
 *
 *	daemon_files()            with DAEMON_KEEP_ALL
 *	daemon_keep_pid_file()    and perhaps daemon_pid_file(), for another one
 *	daemon_keep_account()
 *	daemon_go_to_root()       unless magent stays in the foreground
 *	daemon_ready()
 *
 * Ports and the pid file need the rights of root, nothing behind daemon_drop()
 * does.  What fails here before daemon_ready() is logged in one line and ends
 * the process with a status of <sysexits.h>; from daemon_ready() on nothing
 * here ends it.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* For daemon_files(): close nothing. */
#define DAEMON_KEEP_ALL UINT_MAX

/*
 * Raise RLIMIT_NOFILE to a number of clients, 1 and up, and of other
 * descriptors.  Returns how many clients have room, at least 1; if these are
 * fewer, the log says so.  Also closes all descriptors above stderr but for the
 * first kept of them, because a program may wait for the end of a pipe that it
 * left to us, and opens /dev/null for those of 0, 1 and 2 that are closed, so
 * that no socket gets their numbers.  To be called before anything opens a
 * descriptor.
 */
unsigned int daemon_files(unsigned int clients, unsigned int other,
    unsigned int kept);

/*
 * Go to the background.  Returns in the child.  The parent waits in here, and
 * exits with 0 when the child has called daemon_ready(), or with the exit
 * status of the child if that ends before.  Until daemon_ready() the child has
 * the stderr of its caller.
 */
void daemon_fork(void);

/*
 * Write and lock the pid file.  path is absolute, and borrowed until
 * daemon_pid_file_remove().  Exits with EX_CANTCREAT; or with EX_TEMPFAIL if a
 * live process holds the file, which then stays as it is.
 */
void daemon_pid_file(const char *path);

/* The descriptor of the locked pid file; -1: there is none; and its path.  And
   go on with one that is locked already; path is as above. */
int daemon_pid_file_fd(void);
const char *daemon_pid_file_path(void);
void daemon_keep_pid_file(int fd, const char *path);

/* Empty the pid file and unlock it, and remove it if it is still ours and the
   directory lets us.  Does nothing if there is none. */
void daemon_pid_file_remove(void);

/*
 * Become user and group, which are names or numbers:
 *
 *	process   user        becomes
 *	root      NULL        nobody, with a warning
 *	root      "root"      stays root, with a warning
 *	root      other       user
 *	other     any         stays as it is, with a warning if that is not
 *	                      what user and group say
 *
 * group NULL is the group of the user.  Supplementary groups are those of the
 * user.  Exits with EX_NOUSER if there is no such user or group, with EX_OSERR
 * if the process cannot become them, or could become root again.
 */
void daemon_drop(const char *user, const char *group);

/* This process stays who it is; the log says so if user and group say something
   else. */
void daemon_keep_account(const char *user, const char *group);

/* A daemon is in no directory that somebody may want to remove. */
void daemon_go_to_root(void);

/* Exit as daemon_drop() does if there is no such user or group. */
void daemon_check_account(const char *user, const char *group);

/*
 * Clients may come: the start is over.  Tells systemd ($NOTIFY_SOCKET) READY=1;
 * may wait for systemd.  After daemon_fork() also goes to the root directory,
 * points stdin, stdout and stderr to /dev/null and lets the parent exit with 0.
 * So the last line to the stderr of the caller comes before this call, and
 * log_open(true, ...) behind it.
 */
void daemon_ready(void);

enum { DAEMON_STORED_MAX = 64 };

/* Have systemd keep copies of n descriptors, at most DAEMON_STORED_MAX, by that
   name; in the place of others, if it has kept some before.  Never waits;
   without $NOTIFY_SOCKET it does nothing. */
void daemon_store(const char *name, const int *fds, size_t n, bool has_kept);

/* Send a state to systemd, such as STOPPING=1 or WATCHDOG=1.  Never waits;
   without $NOTIFY_SOCKET it does nothing. */
void daemon_notify(const char *state);

#endif
