/*
 * Replace this program by a new one in place.
 *
 *   rehearsal:    posix_spawn(PROGRAM --check ...) -> "ok", or a line of stderr
 *   replace:  execv(PROGRAM ...)
 *
 * Both get the number of the descriptor of a carry in $MAGENT_CARRIED.  The
 * program is the file that this one was started from, as it is now; so a path
 * that was relative then is understood as it was.
 */

#include "replace.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "carry.h"

enum {
	/* So long may a rehearsal take. */
	REHEARSAL_SECONDS = 10,
	/* When its output has ended, it is looked at so often, so far apart,
	   before it is killed. */
	LEAVING_LOOKS = 200,
	LEAVING_MS = 5,
	/* Bytes of its output that are looked at. */
	REHEARSAL_OUTPUT = 512,
};

static const char variable[] = "MAGENT_CARRIED";

/* How this program was started. */
static char **arguments;
static char program[PATH_MAX], directory[PATH_MAX];

void
replace_remember(char *argv[])
{
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

	arguments = argv;
	program[n > 0 ? n : 0] = '\0';
	if (getcwd(directory, sizeof(directory)) == NULL)
		strcpy(directory, "/");
}

bool
replace_is_next(void)
{
	return getenv(variable) != NULL;
}

struct carry *
replace_inherited(void)
{
	const char *number = getenv(variable);
	struct carry *carry;

	assert(number != NULL);
	carry = carry_open(atoi(number));
	unsetenv(variable);
	return carry;
}

/* The directory of the start; or another one, if this user cannot go there. */
static const char *
start_directory(void)
{
	return access(directory, X_OK) == 0 ? directory : "/";
}

/*
 * Rehearsal
 */

struct rehearsal {
	void (*done)(void *owner, const char *wrong);
	void *owner;
	pid_t child;
	int fd; /* owned: the end of the pipe that it writes to */
	/* Owned.  leaving: its output has ended, and it has not; or its time is
	   over. */
	struct event *readable, *leaving;
	unsigned int looks; /* so often was it looked at since then */
	char output[REHEARSAL_OUTPUT];
	size_t length;
};

/* The last line of the output, without what stands in front of each. */
static const char *
last_line(struct rehearsal *rehearsal)
{
	static const char name[] = "magent: ", level[] = "error: ";
	char *output = rehearsal->output, *line, *front;

	while (rehearsal->length > 0 && output[rehearsal->length - 1] == '\n')
		rehearsal->length--;
	output[rehearsal->length] = '\0';
	line = strrchr(output, '\n');
	line = line == NULL ? output : line + 1;
	front = strstr(line, name);
	if (front != NULL)
		line = front + strlen(name);
	if (strncmp(line, level, strlen(level)) == 0)
		line += strlen(level);
	return line;
}

/* What is wrong; NULL: nothing is. */
static const char *
judge_rehearsal(struct rehearsal *rehearsal, int status)
{
	const char *line = last_line(rehearsal);
	bool is_good = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (is_good && strcmp(line, "ok") == 0)
		return NULL;
	if (WIFSIGNALED(status))
		return "the new program died, or took too long";
	return is_good || line[0] == '\0' ?
	    "the new program does not say ok" :
	    line;
}

/* If the child has ended: that is the end of it. */
static bool
end_rehearsal(struct rehearsal *rehearsal)
{
	int status = SIGKILL;

	if (waitpid(rehearsal->child, &status, WNOHANG) == 0)
		return false;
	rehearsal->child = 0;
	rehearsal->done(rehearsal->owner, judge_rehearsal(rehearsal, status));
	rehearsal_free(rehearsal);
	return true;
}

static void
on_leaving(evutil_socket_t fd, short what, void *arg)
{
	struct timeval soon = { .tv_usec = LEAVING_MS * 1000 };
	struct rehearsal *rehearsal = arg;

	(void)fd;
	(void)what;
	if (event_pending(rehearsal->readable, EV_READ, NULL)) {
		/* It takes too long. */
		event_del(rehearsal->readable);
		rehearsal->looks = LEAVING_LOOKS;
	}
	if (rehearsal->looks++ == LEAVING_LOOKS)
		kill(rehearsal->child, SIGKILL);
	if (!end_rehearsal(rehearsal))
		event_add(rehearsal->leaving, &soon);
}

/* Of much output the end is kept. */
static void
make_room_for_output(struct rehearsal *rehearsal)
{
	if (rehearsal->length < sizeof(rehearsal->output) - 1)
		return;
	rehearsal->length /= 2;
	memmove(rehearsal->output, rehearsal->output + rehearsal->length,
	    rehearsal->length);
}

/* It has written, or ended. */
static void
on_rehearsal_output(evutil_socket_t fd, short what, void *arg)
{
	struct rehearsal *rehearsal = arg;
	ssize_t n;

	(void)what;
	make_room_for_output(rehearsal);
	n = read(fd, rehearsal->output + rehearsal->length,
	    sizeof(rehearsal->output) - 1 - rehearsal->length);
	if (n > 0) {
		rehearsal->length += (size_t)n;
	} else if (n == 0 || errno != EINTR) {
		event_del(rehearsal->readable);
		on_leaving(-1, 0, rehearsal);
	}
}

/* The arguments with --check before them; NULL: out of memory. */
static char **
rehearsal_arguments(void)
{
	static char check[] = "--check";
	size_t n = 0;
	char **list;

	while (arguments[n] != NULL)
		n++;
	list = calloc(n + 2, sizeof(*list));
	if (list == NULL)
		return NULL;
	list[0] = arguments[0];
	list[1] = check;
	memcpy(list + 2, arguments + 1, n * sizeof(*list));
	return list;
}

/* Returns 0 or an error number. */
static int
spawn(struct rehearsal *rehearsal, const struct carry *carry, int output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char **list = rehearsal_arguments();
	sigset_t none;
	int error = list == NULL ? ENOMEM : 0;

	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
	    O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	posix_spawn_file_actions_addchdir_np(&actions, start_directory());
	carry_keep_open(carry, true);
	if (error == 0 && !carry_export(carry, variable))
		error = errno;
	if (error == 0)
		error = posix_spawn(&rehearsal->child, program, &actions,
		    &attributes, list, environ);
	unsetenv(variable);
	carry_keep_open(carry, false);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	free(list);
	return error;
}

/* Returns false, and errno. */
static bool
begin_rehearsal(struct rehearsal *rehearsal, struct event_base *base,
    const struct carry *carry)
{
	struct timeval limit = { .tv_sec = REHEARSAL_SECONDS };
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) == -1)
		return false;
	rehearsal->fd = ends[0];
	errno = spawn(rehearsal, carry, ends[1]);
	close(ends[1]);
	if (errno != 0)
		return false;
	rehearsal->readable = event_new(base, rehearsal->fd,
	    EV_READ | EV_PERSIST, on_rehearsal_output, rehearsal);
	rehearsal->leaving = event_new(base, -1, 0, on_leaving, rehearsal);
	if (rehearsal->readable != NULL && rehearsal->leaving != NULL &&
	    event_add(rehearsal->readable, NULL) == 0 &&
	    event_add(rehearsal->leaving, &limit) == 0)
		return true;
	errno = ENOMEM;
	return false;
}

struct rehearsal *
rehearsal_new(struct event_base *base, const struct carry *carry,
    void (*done)(void *owner, const char *wrong), void *owner)
{
	struct rehearsal *rehearsal = calloc(1, sizeof(*rehearsal));
	int error;

	assert(done != NULL && arguments != NULL);
	if (rehearsal == NULL)
		return NULL;
	rehearsal->done = done;
	rehearsal->owner = owner;
	rehearsal->fd = -1;
	if (begin_rehearsal(rehearsal, base, carry))
		return rehearsal;
	error = errno;
	rehearsal_free(rehearsal);
	errno = error;
	return NULL;
}

void
rehearsal_free(struct rehearsal *rehearsal)
{
	if (rehearsal == NULL)
		return;
	if (rehearsal->child > 0) {
		kill(rehearsal->child, SIGKILL);
		waitpid(rehearsal->child, NULL, 0);
	}
	if (rehearsal->readable != NULL)
		event_free(rehearsal->readable);
	if (rehearsal->leaving != NULL)
		event_free(rehearsal->leaving);
	if (rehearsal->fd != -1)
		close(rehearsal->fd);
	free(rehearsal);
}

/*
 * Replacement
 */

void
replace_execute(const struct carry *carry)
{
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

	carry_keep_open(carry, true);
	if (carry_export(carry, variable) && chdir(start_directory()) == 0)
		execv(program, arguments);
	error = errno;
	if (here != -1 && fchdir(here) == -1)
		error = errno;
	if (here != -1)
		close(here);
	unsetenv(variable);
	carry_keep_open(carry, false);
	errno = error;
}
