/*
 * Write one line per message to stderr, syslog or a file, and not too many.
 *
 * Invariant: no function of log.h waits, but for a disk, and none changes errno
 * without saying so.  syslog(3) is not used, because it waits for a syslogd
 * that does not read.
 */

#include "log.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

enum {
	TEXT_SIZE = 1024,      /* bytes of a message; more is cut off */
	PRINTABLE_SIZE = 2048, /* bytes of an escaped one; more is cut off */
	LINE_SIZE = 4096,      /* bytes of a message with all around it */
	AROUND_SIZE = 256,     /* bytes around a message: less than this */
	SITES = 128,           /* call sites; the program has fewer */
	OBJECTS = 256,
	SITE_LINES = 20,   /* lines of a call site in a period */
	OBJECT_LINES = 10, /* lines of a call site and object in a period */
	PERIOD_MS = 1000,
	REMIND_MS = 600000, /* a trouble that lasts is told again */
};

#define HASH_START UINT64_C(0xcbf29ce484222325)

static_assert(LINE_SIZE <= PIPE_BUF,
    "a pipe that is writable takes a line without waiting");
static_assert(PRINTABLE_SIZE + AROUND_SIZE <= LINE_SIZE,
    "a line has room for its message and its line end");

/* How many lines were written in the present period. */
struct period {
	int64_t start; /* ms of the monotonic clock; valid if there are lines */
	unsigned int lines;
};

/* A call of a log_ function in the program. */
struct site {
	const char *format; /* NULL: free */
	struct period period;
	unsigned long left_out; /* lines since the last one that was written */
};

/* What one call site says about one object.  If two have the same place in
   objects[], each forgets the other, and only their sites limit them. */
struct object {
	uint64_t hash;
	struct period period;
};

static struct site sites[SITES];
static struct object objects[OBJECTS];
static enum log_level most_level = LOG_LEVEL_INFO;
static bool is_to_syslog;
static bool stderr_is_journal;
static int syslog_fd = -1;
static int file_fd = -1;      /* -1: there is no file */
static const char *file_path; /* borrowed; valid if there is a file */
static bool file_is_alone;    /* lines go to no other place */
static bool file_is_cut;      /* its last line has no end: the disk was full */
static bool lines_are_kept;
static struct log_kept kept[LOG_KEPT]; /* the n-th line is at n % LOG_KEPT */
static size_t kept_count;              /* lines since log_keep() */

/* A line that is being made.  It always ends in NUL. */
struct line {
	size_t length; /* without the NUL */
	char text[LINE_SIZE];
};

static void line_add(struct line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
line_add(struct line *line, const char *format, ...)
{
	size_t room = sizeof(line->text) - line->length;
	va_list arguments;
	int n;

	assert(line->length < sizeof(line->text));
	va_start(arguments, format);
	n = vsnprintf(line->text + line->length, room, format, arguments);
	va_end(arguments);
	if (n > 0)
		line->length += (size_t)n < room ? (size_t)n : room - 1;
	assert(line->text[line->length] == '\0');
}

/* Write one byte to out, escaped if a line cannot have it.  backslash: it is
   escaped as well.  Returns the length of what was written, without the NUL. */
static size_t
escape_byte(char byte, bool backslash, char out[5])
{
	static const char names[] = "n\nr\rt\t\\\\"; /* name, byte, name, ... */
	const char *name;

	if (isprint((unsigned char)byte) && (byte != '\\' || !backslash)) {
		out[0] = byte;
		out[1] = '\0';
		return 1;
	}
	for (name = names; *name != '\0'; name += 2)
		if (name[1] == byte) {
			snprintf(out, 5, "\\%c", name[0]);
			return 2;
		}
	snprintf(out, 5, "\\x%02x", (unsigned int)(unsigned char)byte);
	return 4;
}

static void
escape(const char *bytes, size_t n, bool backslash, char *out, size_t size)
{
	char one[5];
	size_t i, length;

	assert(size > 0);
	for (i = 0; i < n; i++) {
		length = escape_byte(bytes[i], backslash, one);
		if (length >= size)
			break;
		memcpy(out, one, length);
		out += length;
		size -= length;
	}
	*out = '\0';
}

const char *
log_escape(const char *bytes, size_t n, char *out, size_t size)
{
	escape(bytes, n, true, out, size);
	return out;
}

/* Begin a new period if the last one is over.  Returns whether the present one
   has fewer lines than these. */
static bool
period_has_room(struct period *period, unsigned int lines, int64_t now)
{
	assert(period->lines == 0 || period->start <= now);
	assert(period->lines <= lines);
	if (period->lines > 0 && now - period->start >= PERIOD_MS)
		period->lines = 0;
	if (period->lines == 0)
		period->start = now;
	return period->lines < lines;
}

/* The place of a call site in sites[].  If all are taken, it shares one. */
static struct site *
site_find(const char *format)
{
	size_t i, first = (size_t)((uintptr_t)format >> 2) % SITES;
	struct site *site;

	assert(format != NULL);
	for (i = 0; i < SITES; i++) {
		site = &sites[(first + i) % SITES];
		if (site->format == NULL)
			site->format = format;
		if (site->format == format)
			return site;
	}
	return &sites[first];
}

/* The hash of n bytes, with another one before it. */
static uint64_t
hash_bytes(uint64_t hash, const char *bytes, size_t n)
{
	while (n-- > 0)
		hash = (hash ^ (unsigned char)*bytes++) * 0x100000001b3;
	return hash;
}

/* The place in objects[] of a call site and of what the text is about, which is
   its first two words. */
static struct object *
object_find(const char *format, const char *text)
{
	size_t length = strcspn(text, " ");
	struct object *object;
	uint64_t hash;

	if (text[length] == ' ')
		length += 1 + strcspn(text + length + 1, " ");
	hash = hash_bytes((uint64_t)(uintptr_t)format ^ HASH_START, text,
	    length);
	object = &objects[(hash >> 32) % OBJECTS];
	if (object->hash != hash) {
		object->hash = hash;
		object->period.lines = 0;
	}
	return object;
}

/* Count a line as written, and set *left_out to how many lines of its call site
   were left out since the last one.  Returns false if it must be left out,
   too. */
static bool
admit(const char *format, const char *text, unsigned long *left_out)
{
	struct site *site = site_find(format);
	struct object *object = object_find(format, text);
	int64_t now = clock_ms();

	if (!period_has_room(&site->period, SITE_LINES, now) ||
	    !period_has_room(&object->period, OBJECT_LINES, now)) {
		site->left_out++;
		return false;
	}
	site->period.lines++;
	object->period.lines++;
	*left_out = site->left_out;
	site->left_out = 0;
	return true;
}

/* Whether stderr is the socket that systemd has named in the environment.  It
   is not if a program between systemd and this one has redirected it. */
static bool
is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) == -1)
		return false;
	if (sscanf(stream, "%ju:%ju", &device, &inode) != 2)
		return false;
	return device == st.st_dev && inode == st.st_ino;
}

static void
syslog_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX,
		.sun_path = "/dev/log" };

	if (syslog_fd != -1)
		close(syslog_fd);
	syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (syslog_fd == -1)
		return;
	if (connect(syslog_fd, (struct sockaddr *)&address, sizeof(address)) ==
	    -1) {
		close(syslog_fd);
		syslog_fd = -1;
	}
}

static bool
syslog_send(const struct line *line)
{
	assert(line->length > 0);
	return syslog_fd != -1 &&
	    (send(syslog_fd, line->text, line->length,
		 MSG_DONTWAIT | MSG_NOSIGNAL) != -1 ||
		errno == EAGAIN);
}

/* Write in the old form of RFC 3164, which /dev/log expects. */
static void
write_syslog(int priority, const char *text)
{
	struct line line = { .length = 0 };
	time_t now = time(NULL);
	struct tm local;
	char date[32] = "";

	if (localtime_r(&now, &local) != NULL)
		strftime(date, sizeof(date), "%b %e %H:%M:%S ", &local);
	line_add(&line, "<%d>%smagent[%ld]: %s", LOG_DAEMON | priority, date,
	    (long)getpid(), text);
	if (!syslog_send(&line)) {
		/* If syslogd was started again, it has a new socket. */
		syslog_connect();
		syslog_send(&line);
	}
}

static void
add_stamp(struct line *line)
{
	struct timespec now;
	struct tm utc;
	char date[32] = "";

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &utc) != NULL)
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	line_add(line, "%s.%03ldZ ", date, now.tv_nsec / 1000000);
}

static void
write_file(const char *text)
{
	struct line line = { .length = 0 };
	ssize_t n;

	if (file_is_cut)
		line_add(&line, "\n");
	add_stamp(&line);
	line_add(&line, "magent: %s\n", text);
	n = write(file_fd, line.text, line.length);
	if (n > 0)
		file_is_cut = (size_t)n < line.length;
}

static void
write_stderr(int priority, const char *text)
{
	struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };
	struct line line = { .length = 0 };

	if (stderr_is_journal)
		line_add(&line, "<%d>", priority);
	else {
		add_stamp(&line);
		line_add(&line, "magent: ");
	}
	line_add(&line, "%s\n", text);
	assert(line.text[line.length - 1] == '\n');
	/* stderr is shared with other processes, so it must not be made
	   nonblocking. */
	if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0)
		return;
	if (write(STDERR_FILENO, line.text, line.length) == -1)
		return; /* there is no other place to report it */
}

static void
keep_line(enum log_level level, const char *text)
{
	struct log_kept *line = &kept[kept_count++ % LOG_KEPT];
	int n;

	line->at = (int64_t)time(NULL);
	line->level = level;
	n = snprintf(line->text, sizeof(line->text), "%s", text);
	if (n >= (int)sizeof(line->text))
		memcpy(line->text + sizeof(line->text) - sizeof("..."), "...",
		    sizeof("..."));
}

static void
write_line(enum log_level level, const char *text, unsigned long left_out)
{
	static const struct {
		int priority;
		const char *name;
	} levels[] = {
		[LOG_LEVEL_ERROR] = { LOG_ERR, "error: " },
		[LOG_LEVEL_WARNING] = { LOG_WARNING, "warning: " },
		[LOG_LEVEL_INFO] = { LOG_INFO, "" },
		[LOG_LEVEL_DEBUG] = { LOG_DEBUG, "" },
	};
	char printable[PRINTABLE_SIZE];
	struct line line = { .length = 0 };

	assert((size_t)level < sizeof(levels) / sizeof(levels[0]));
	escape(text, strlen(text), false, printable, sizeof(printable));
	if (lines_are_kept && level != LOG_LEVEL_DEBUG)
		keep_line(level, printable);
	line_add(&line, "%s%s", levels[level].name, printable);
	if (left_out > 0)
		line_add(&line, " (%lu such lines were left out)", left_out);
	if (file_fd != -1)
		write_file(line.text);
	if (file_is_alone)
		return;
	if (is_to_syslog)
		write_syslog(levels[level].priority, line.text);
	else
		write_stderr(levels[level].priority, line.text);
}

static void message(enum log_level level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void
message(enum log_level level, const char *format, va_list arguments)
{
	char text[TEXT_SIZE];
	unsigned long left_out = 0;
	int error = errno;

	assert(level <= LOG_LEVEL_DEBUG);
	if (level > most_level)
		return;
	vsnprintf(text, sizeof(text), format, arguments);
	if (level == LOG_LEVEL_DEBUG || admit(format, text, &left_out))
		write_line(level, text, left_out);
	errno = error;
}

void
log_open(bool to_syslog, enum log_level most)
{
	int error = errno;

	assert(most <= LOG_LEVEL_DEBUG);
	signal(SIGPIPE, SIG_IGN);
	most_level = most;
	is_to_syslog = to_syslog;
	stderr_is_journal = is_journal();
	if (to_syslog)
		syslog_connect();
	errno = error;
}

/* Not through a link: root opens it, perhaps in a directory of another user.  A
   fifo that nobody reads must not stop us. */
static int
open_log_file(const char *path)
{
	return open(path,
	    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY |
		O_NONBLOCK,
	    0640);
}

bool
log_file_open(const char *path)
{
	assert(file_fd == -1 && path[0] == '/');
	file_fd = open_log_file(path);
	file_path = path;
	return file_fd != -1;
}

int
log_file_fd(void)
{
	return file_fd;
}

const char *
log_file_path(void)
{
	return file_path;
}

void
log_file_keep(int fd, const char *path)
{
	assert(file_fd == -1 && path[0] == '/');
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	file_fd = fd;
	file_path = path;
}

void
log_file_alone(void)
{
	file_is_alone = file_fd != -1;
}

void
log_file_reopen(void)
{
	int fd;

	if (file_fd == -1)
		return;
	fd = open_log_file(file_path);
	if (fd == -1) {
		log_error(
		    "--log-file %s: cannot open it again: %m; "
		    "the old file stays in use",
		    file_path);
		return;
	}
	close(file_fd);
	file_fd = fd;
	file_is_cut = false;
	log_info("--log-file %s: opened again", file_path);
}

bool
log_is_due(struct log_trouble *trouble, const char *what)
{
	uint64_t hash = hash_bytes(HASH_START, what, strlen(what)) | 1;
	int64_t now = clock_ms();
	int64_t age = now - trouble->written_ms;

	if (trouble->is_written &&
	    age < (hash == trouble->hash ? REMIND_MS : PERIOD_MS))
		return false;
	trouble->hash = hash;
	trouble->is_written = true;
	trouble->written_ms = now;
	return true;
}

void
log_trouble_over(struct log_trouble *trouble)
{
	trouble->hash = 0;
}

void
log_keep(void)
{
	lines_are_kept = true;
}

const struct log_kept *
log_kept(size_t i)
{
	if (i >= LOG_KEPT || i >= kept_count)
		return NULL;
	return &kept[(kept_count - 1 - i) % LOG_KEPT];
}

enum log_level
log_level(void)
{
	return most_level;
}

void
log_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	message(LOG_LEVEL_ERROR, format, arguments);
	va_end(arguments);
}

void
log_warning(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	message(LOG_LEVEL_WARNING, format, arguments);
	va_end(arguments);
}

void
log_info(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	message(LOG_LEVEL_INFO, format, arguments);
	va_end(arguments);
}

void
log_debug(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	message(LOG_LEVEL_DEBUG, format, arguments);
	va_end(arguments);
}
