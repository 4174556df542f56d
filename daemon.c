/*
 * Make a daemon of the process: descriptors, background, user, pid file, and
 * messages to systemd.
 *
 * Invariant: until daemon_ready() each failure that matters ends the process
 * with one line and a status, which the caller of a daemon gets; from then on
 * nothing here ends it or waits.
 */

#include "daemon.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "log.h"

/* A descriptor of these is -1 before it is opened and after it is closed. */

/* A pipe to the parent.  A byte: we are ready.  Its end: we have died. */
static int parent_fd = -1;
/* /dev/null, which becomes stdin, stdout and stderr of a daemon. */
static int null_fd = -1;
/* The pid file; it has the lock. */
static int pid_fd = -1;
/* The name of the pid file; borrowed; valid while pid_fd is. */
static const char *pid_path;
/* A socket to systemd.  Kept, because there may be no descriptor later. */
static int notify_fd = -1;

/* Raise the limit of open files to need, or as near to it as we may.  Returns
   what the limit is then. */
static rlim_t
raise_files(rlim_t need)
{
	struct rlimit limit, higher;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
		log_error("cannot read the limit of open files: %m");
		exit(EX_OSERR);
	}
	if (limit.rlim_cur >= need)
		return limit.rlim_cur;
	higher.rlim_cur = need;
	higher.rlim_max = need > limit.rlim_max ? need : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &higher) == 0)
		return need;
	/* Only root may raise the hard limit. */
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
			log_warning("cannot raise the limit of open files: %m");
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return 0;
	return limit.rlim_cur;
}

unsigned int
daemon_files(unsigned int clients, unsigned int other, unsigned int kept)
{
	rlim_t limit, need = (rlim_t)clients + other;
	unsigned int fit;
	int fd;

	assert(clients > 0 && parent_fd == -1 && pid_fd == -1);
	if (kept != DAEMON_KEEP_ALL)
		closefrom(STDERR_FILENO + 1 + (int)kept);
	do {
		fd = open("/dev/null", O_RDWR);
		if (fd == -1) {
			log_error("cannot open /dev/null: %m");
			exit(EX_OSERR);
		}
	} while (fd <= STDERR_FILENO);
	close(fd);
	limit = raise_files(need);
	if (limit >= need)
		return clients;
	fit = limit > other ? (unsigned int)(limit - other) : 1;
	assert(fit > 0 && fit <= clients);
	log_warning(
	    "the limit of %ju open files leaves room for %u clients, "
	    "not for -n %u",
	    (uintmax_t)limit, fit, clients);
	return fit;
}

/* In the parent: exit with 0 when the child is ready, or as the child does. */
static _Noreturn void
wait_for_child(int fd, pid_t child)
{
	char byte;
	ssize_t n;
	int status;

	assert(fd > STDERR_FILENO && child > 0);
	do
		n = read(fd, &byte, 1);
	while (n == -1 && errno == EINTR);
	if (n == 1)
		_exit(EX_OK);
	while (waitpid(child, &status, 0) == -1)
		if (errno != EINTR)
			_exit(EX_OSERR);
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	log_error("the daemon died of signal %d before it was ready",
	    WTERMSIG(status));
	_exit(EX_SOFTWARE);
}

void
daemon_fork(void)
{
	int ends[2];
	pid_t child;

	assert(parent_fd == -1 && null_fd == -1 && pid_fd == -1);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd == -1 || pipe2(ends, O_CLOEXEC) == -1 ||
	    (child = fork()) == -1) {
		log_error("cannot go to the background: %m");
		exit(EX_OSERR);
	}
	if (child > 0) {
		close(ends[1]);
		wait_for_child(ends[0], child);
	}
	close(ends[0]);
	parent_fd = ends[1];
	assert(null_fd > STDERR_FILENO && parent_fd > STDERR_FILENO);
	/* Fails only for the leader of a process group: no child is one. */
	if (setsid() == -1)
		log_warning("cannot start a session: %m");
}

/* Whether path is still the name of the open file fd. */
static bool
is_file(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Another process has the lock on the pid file: say which one, and exit. */
static _Noreturn void
pid_file_is_held(int fd, const char *path)
{
	char holder[16];
	ssize_t n = read(fd, holder, sizeof(holder) - 1);

	holder[n > 0 ? n : 0] = '\0';
	holder[strspn(holder, "0123456789")] = '\0';
	log_error("-P %s: magent is running already, with pid %s", path,
	    holder[0] == '\0' ? "unknown" : holder);
	exit(EX_TEMPFAIL);
}

/* The pid file cannot be made: say why (errno), and exit. */
static _Noreturn void
pid_file_failed(const char *path)
{
	log_error("-P %s: cannot write the pid file: %m", path);
	exit(EX_CANTCREAT);
}

/* Open the pid file and lock it.  Its last owner may remove it between the two;
   then we make another one. */
static int
pid_file_open(const char *path)
{
	int fd;

	for (;;) {
		fd = open(path,
		    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		    0644);
		if (fd == -1)
			pid_file_failed(path);
		if (flock(fd, LOCK_EX | LOCK_NB) == -1) {
			if (errno == EWOULDBLOCK)
				pid_file_is_held(fd, path);
			pid_file_failed(path);
		}
		if (is_file(fd, path))
			return fd;
		close(fd);
	}
}

void
daemon_pid_file(const char *path)
{
	assert(pid_fd == -1 && path[0] == '/');
	pid_fd = pid_file_open(path);
	pid_path = path;
	if (ftruncate(pid_fd, 0) == -1 ||
	    dprintf(pid_fd, "%ld\n", (long)getpid()) < 0)
		pid_file_failed(path);
}

int
daemon_pid_file_fd(void)
{
	return pid_fd;
}

const char *
daemon_pid_file_path(void)
{
	return pid_path;
}

void
daemon_keep_pid_file(int fd, const char *path)
{
	assert(pid_fd == -1);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	pid_fd = fd;
	pid_path = path;
}

void
daemon_pid_file_remove(void)
{
	if (pid_fd == -1)
		return;
	assert(pid_path != NULL);
	/* We may not have the right to remove it; then an empty file stays. */
	if (ftruncate(pid_fd, 0) == -1)
		log_warning("-P %s: cannot empty the pid file: %m", pid_path);
	if (is_file(pid_fd, pid_path) && unlink(pid_path) == -1)
		log_debug("-P %s: cannot remove the pid file: %m", pid_path);
	close(pid_fd);
	pid_fd = -1;
}

/* The user and group to become. */
struct account {
	uid_t user;
	gid_t group;
	/* Of the user, for its supplementary groups; owned by getpwnam(), or
	   NULL: the user is a number that is not listed. */
	const char *name;
};

/* Read the number of a user or group.  Not -1: setresuid() and setresgid() take
   that for "no change". */
static bool
parse_id(const char *text, unsigned int *id)
{
	unsigned long long n;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || n >= (uid_t)-1)
		return false;
	*id = (unsigned int)n;
	return true;
}

/* No user or group of that name was found: say why, and exit.  errno: of the
   search. */
static _Noreturn void
refuse_name(char option, const char *name, const char *what)
{
	if (errno == ENOMEM || errno == EMFILE || errno == ENFILE ||
	    errno == EIO) {
		log_error("-%c %s: %m", option, name);
		exit(EX_OSERR);
	}
	log_error("-%c %s: there is no such %s", option, name, what);
	exit(EX_NOUSER);
}

/* Put a name or number into *account, with its group.  A number need not be
   listed, but then a group must be given. */
static void
find_user(struct account *account, const char *user, bool has_group)
{
	const struct passwd *entry;
	uid_t number;

	errno = 0;
	entry = getpwnam(user);
	if (entry == NULL && parse_id(user, &number)) {
		entry = getpwuid(number);
		if (entry == NULL && has_group) {
			account->user = number;
			return;
		}
	}
	if (entry == NULL)
		refuse_name('u', user, "user");
	account->user = entry->pw_uid;
	account->group = entry->pw_gid;
	account->name = entry->pw_name;
}

/* Put the name or number of a group into *account. */
static void
find_group(struct account *account, const char *group)
{
	const struct group *entry;

	errno = 0;
	entry = getgrnam(group);
	if (entry != NULL)
		account->group = entry->gr_gid;
	else if (!parse_id(group, &account->group))
		refuse_name('g', group, "group");
}

/* Whether all ids of the process are those of account, and it cannot become
   root again. */
static bool
is_final(const struct account *account)
{
	uid_t user, effective_user, saved_user;
	gid_t group, effective_group, saved_group;

	if (getresuid(&user, &effective_user, &saved_user) == -1 ||
	    getresgid(&group, &effective_group, &saved_group) == -1)
		return false;
	if (user != account->user || effective_user != user ||
	    saved_user != user || group != account->group ||
	    effective_group != group || saved_group != group)
		return false;
	return user == 0 || (setuid(0) == -1 && seteuid(0) == -1);
}

/* Become account, or exit. */
static void
become(const struct account *account)
{
	int failed;

	assert(geteuid() == 0);
	if (account->name != NULL)
		failed = initgroups(account->name, account->group);
	else
		failed = setgroups(1, &account->group);
	if (failed == -1 ||
	    setresgid(account->group, account->group, account->group) == -1 ||
	    setresuid(account->user, account->user, account->user) == -1) {
		log_error("cannot become user %u, group %u: %m", account->user,
		    account->group);
		exit(EX_OSERR);
	}
	if (!is_final(account)) {
		log_error(
		    "could become root again after becoming user %u, "
		    "group %u",
		    account->user, account->group);
		exit(EX_OSERR);
	}
}

/* The account that user and group name, or else that of this process; or
   exit. */
static struct account
find_account(const char *user, const char *group)
{
	struct account account = { .user = geteuid(), .group = getegid() };

	if (user != NULL)
		find_user(&account, user, group != NULL);
	if (group != NULL)
		find_group(&account, group);
	return account;
}

void
daemon_check_account(const char *user, const char *group)
{
	find_account(user, group);
}

void
daemon_drop(const char *user, const char *group)
{
	bool is_root = geteuid() == 0;
	struct account account;

	if (user == NULL && is_root) {
		log_warning("started as root without -u: becoming nobody");
		user = "nobody";
	}
	account = find_account(user, group);
	if (is_root)
		become(&account);
	else if (account.user != geteuid() || account.group != getegid())
		log_warning(
		    "only root can become another user or group: "
		    "staying user %u, group %u",
		    geteuid(), getegid());
	if (geteuid() == 0)
		log_warning("running as root");
	/* No program that is started from here on gets more rights, either. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		log_warning("cannot give up new privileges: %m");
}

/* Whether the process is of this user; and of this group. */
static bool
is_user(const char *user)
{
	const struct passwd *entry = getpwnam(user);
	uid_t number = geteuid();

	return entry != NULL ? entry->pw_uid == geteuid() :
			       parse_id(user, &number) && number == geteuid();
}

static bool
is_group(const char *group)
{
	const struct group *entry = getgrnam(group);
	gid_t number = getegid();

	return entry != NULL ? entry->gr_gid == getegid() :
			       parse_id(group, &number) && number == getegid();
}

void
daemon_keep_account(const char *user, const char *group)
{
	if ((user != NULL && !is_user(user)) ||
	    (group != NULL && !is_group(group)))
		log_warning(
		    "-u and -g are those of the start: staying user %u, "
		    "group %u",
		    geteuid(), getegid());
}

void
daemon_go_to_root(void)
{
	if (chdir("/") == -1)
		log_warning("cannot go to the root directory: %m");
}

/* Put the address of systemd's socket into *address.  Returns its length; 0: it
   does not want to know, or -1 and errno. */
static ssize_t
notify_address(struct sockaddr_un *address)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length;

	if (path == NULL || (path[0] != '/' && path[0] != '@'))
		return 0;
	length = strlen(path);
	if (length < 2 || length > sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length);
	if (path[0] == '@')
		address->sun_path[0] = '\0'; /* the abstract namespace */
	return (ssize_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

/* Send state to systemd, with copies of n descriptors, if it wants to know.
   Returns false, and errno, if it could not be sent. */
static bool
notify(const char *state, const int *fds, size_t n, int flags)
{
	_Alignas(struct cmsghdr) char
	    control[CMSG_SPACE(DAEMON_STORED_MAX * sizeof(int))] = { 0 };
	struct sockaddr_un address;
	struct iovec text = {
		.iov_base = (void *)(uintptr_t)state,
		.iov_len = strlen(state),
	};
	struct msghdr message = {
		.msg_name = &address,
		.msg_iov = &text,
		.msg_iovlen = 1,
	};
	struct cmsghdr *rights;
	ssize_t length = notify_address(&address);

	assert(state[0] != '\0' && n <= DAEMON_STORED_MAX);
	if (length <= 0)
		return length == 0;
	message.msg_namelen = (socklen_t)length;
	if (n > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, n * sizeof(int));
	}
	if (notify_fd == -1)
		notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return notify_fd != -1 &&
	    sendmsg(notify_fd, &message, MSG_NOSIGNAL | flags) != -1;
}

/* A daemon is ready: leave the directory and the terminal of the caller, and
   let the parent exit. */
static void
leave_caller(void)
{
	int fd;
	ssize_t n;

	assert(null_fd > STDERR_FILENO && parent_fd > STDERR_FILENO);
	daemon_go_to_root();
	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null_fd, fd);
	close(null_fd);
	null_fd = -1;
	/* That fails if the caller has killed the parent, and does no harm. */
	do
		n = write(parent_fd, "", 1);
	while (n == -1 && errno == EINTR);
	close(parent_fd);
	parent_fd = -1;
}

void
daemon_ready(void)
{
	/* systemd waits for this message, so we may wait until it is taken. */
	if (!notify("READY=1", NULL, 0, 0))
		log_warning("cannot tell systemd that we are ready: %m");
	if (parent_fd != -1)
		leave_caller();
}

void
daemon_notify(const char *state)
{
	if (!notify(state, NULL, 0, MSG_DONTWAIT))
		log_debug("cannot tell systemd %s: %m", state);
}

void
daemon_store(const char *name, const int *fds, size_t n, bool has_kept)
{
	char state[128];

	if (has_kept) {
		snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s",
		    name);
		daemon_notify(state);
	}
	snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s", name);
	if (!notify(state, fds, n, MSG_DONTWAIT))
		log_debug("cannot have systemd keep sockets: %m");
}
