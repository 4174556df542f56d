#ifndef LOG_H
#define LOG_H

/*
 * Write messages to stderr, to syslog or to a file.  Each call writes one line.
 * If stderr is the journal of systemd, lines there begin with a priority, <N>.
 * Bytes that do not print are escaped, so no data from the wire can forge a
 * line.  errno is preserved, and %m prints it.
 *
 * A message begins with its object in two words: "s 10.0.0.1:11211: ..." or
 * "c#17 10.0.0.5:5031: ...".  In one second a call site, which is known by its
 * format string, may write ten lines about one object, and twenty in all.  Its
 * next line says how many were left out.  Debug lines are not limited.
 *
 * Nothing here waits, but for the disk of a file, and nothing ends the process.
 * A line is lost if it would have to wait for a full pipe, a stopped terminal
 * or a hung syslogd, or if the disk of the file is full.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/*
 * Log to syslog, with ident magent and facility daemon, or to stderr.  Levels
 * after most are not written.  SIGPIPE is ignored from now on.  Before the
 * first call, stderr and LOG_LEVEL_INFO hold.  May be called again.
 */
void log_open(bool to_syslog, enum log_level most);

/*
 * Write lines to the end of a file, too, from now on.  It is made if it is not
 * there; it may not be a symbolic link.  path is absolute, and borrowed to the
 * end.  Returns false, and errno, if it cannot be opened.
 */
bool log_file_open(const char *path);

/* The descriptor of the file; -1: there is none; and its path.  And go on with
   one that is open, in the place of log_file_open(). */
int log_file_fd(void);
const char *log_file_path(void);
void log_file_keep(int fd, const char *path);

/* Lines go to the file alone from now on; without one nothing changes. */
void log_file_alone(void);

/* Open the path again, because the file was renamed.  If that fails, the log
   says so, and the old file stays in use.  Without a file nothing happens. */
void log_file_reopen(void);

/* The last level that is written. */
enum log_level log_level(void);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A trouble that lasts, and is met again and again.  All zero at first. */
struct log_trouble {
	uint64_t hash; /* of what was written last; 0: nothing, or it is over */
	bool is_written; /* something was written, at written_ms */
	int64_t written_ms;
};

/*
 * Whether a line about the trouble is to be written, as the caller then does:
 * what is wrong now is something else than in the last line, or that line is
 * ten minutes old.  There is at most one line in a second.
 */
bool log_is_due(struct log_trouble *trouble, const char *what);

/* The trouble is over: the same is to be written if it comes again. */
void log_trouble_over(struct log_trouble *trouble);

enum {
	LOG_KEPT = 50,        /* lines that are kept */
	LOG_KEPT_BYTES = 240, /* of a line, with the NUL; more is cut off */
};

/* A line that was written: printable ASCII. */
struct log_kept {
	int64_t at; /* seconds since 1970 */
	enum log_level level;
	char text[LOG_KEPT_BYTES]; /* without the word of its level */
};

/* Keep the last lines in memory from now on, but for those of debugging. */
void log_keep(void);

/* The line that was written i lines before the last one; NULL: it is not kept.
   Valid until the next line is written. */
const struct log_kept *log_kept(size_t i);

/*
 * Copy n bytes of any value to out, which has room for size > 0 bytes.  Bytes
 * that do not print are escaped, a NUL is appended, and what does not fit is
 * left out.  A size of 4 * n + 1 is always enough.  Returns out.
 */
const char *log_escape(const char *bytes, size_t n, char *out, size_t size);

#endif
