#ifndef LOG_H
#define LOG_H

/*
 * Messages to stderr (with <N> priorities where that is the journal of
 * systemd) or to syslog.  One line per call; bytes that do not print are
 * escaped, so that no wire data can forge a line.  errno is preserved, and %m
 * is what it was.
 *
 * A message starts with its object, two words ("s 10.0.0.1:11211: ...",
 * "c#17 10.0.0.5:5031: ...").  In one second, a call site (told by its format
 * string) may write ten lines about one object and twenty in all; what was
 * left out is counted in its next line.  Debug lines are not limited.
 *
 * Nothing here waits or ends the process: a line that would have to wait for
 * a full pipe, a stopped terminal or a hung syslogd is lost.
 */

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* Log to stderr (the default) or to syslog with ident magent and facility
   daemon; most is the least important level that is written (at first
   LOG_LEVEL_INFO).  SIGPIPE is ignored from here on.  May be called again. */
void log_open(bool to_syslog, enum log_level most);
enum log_level log_level(void);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Copy n bytes of wire data to out, made printable, cut to size bytes with the
 * final NUL (size > 0).  Four times n and one fit whatever comes.  Returns out.
 */
const char *log_escape(const char *bytes, size_t n, char *out, size_t size);

#endif
