/*
 * What the log writes, byte for byte, to a pipe in the place of stderr and to a
 * socket in the place of /dev/log.
 *
 * The clock is the test's: nothing here waits.
 */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "unit.h"

#define STAMP "2023-11-14T22:13:20.007Z magent: "

enum { START = 1700000000, BIG = 1 << 17 };

static struct timespec now = { .tv_sec = START, .tv_nsec = 7999999 };
static struct timespec steady = { .tv_sec = 1000 };
static int saved_stderr, pipe_read = -1, syslogd = -1;
static char *read_bytes; /* BIG of them */

/*
 * In the place of the system's
 */

int
clock_gettime(clockid_t clock, struct timespec *time)
{
	*time = clock == CLOCK_REALTIME ? now : steady;
	return 0;
}

time_t
time(time_t *time)
{
	if (time != NULL)
		*time = now.tv_sec;
	return now.tv_sec;
}

/* Its declaration in the system's header has types of its own. */
int redirect(int fd, const struct sockaddr_un *address,
    socklen_t length) __asm__("connect") __attribute__((used));

static socklen_t
name_syslogd(struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* A name that is in no directory: its first byte is NUL. */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
	    (size_t)snprintf(address->sun_path + 1, 100, "test_log %ld",
		(long)getpid()));
}

int
redirect(int fd, const struct sockaddr_un *address, socklen_t length)
{
	struct sockaddr_un ours;

	check(length == sizeof(*address) && address->sun_family == AF_UNIX &&
	    strcmp(address->sun_path, "/dev/log") == 0);
	length = name_syslogd(&ours);
	return (int)syscall(SYS_connect, fd, &ours, length);
}

/*
 * What was written
 */

/* A new second, and a new pipe in the place of stderr. */
static void
begin(void)
{
	int fds[2];

	steady.tv_sec += 10;
	unit_need(pipe2(fds, O_CLOEXEC) == 0, "pipe2");
	unit_need(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0, "fcntl");
	unit_need(dup2(fds[1], STDERR_FILENO) != -1, "dup2");
	close(fds[1]);
	pipe_read = fds[0];
}

static void
end(void)
{
	unit_need(dup2(saved_stderr, STDERR_FILENO) != -1, "dup2");
	close(pipe_read);
	log_open(false, LOG_LEVEL_INFO);
}

static void
pass_ms(int ms)
{
	steady.tv_sec += ms / 1000;
	steady.tv_nsec += ms % 1000 * 1000000;
	steady.tv_sec += steady.tv_nsec / 1000000000;
	steady.tv_nsec %= 1000000000;
}

/* All that was written to stderr since the last time. */
static size_t
take_written(void)
{
	ssize_t n = read(pipe_read, read_bytes, BIG);

	unit_need(n >= 0 || errno == EAGAIN, "read");
	return n > 0 ? (size_t)n : 0;
}

#define check_written(want) \
	do { \
		size_t written = take_written(); \
		check_bytes(read_bytes, written, want); \
	} while (0)

static unsigned int
count_lines(void)
{
	size_t i, n = take_written();
	unsigned int lines = 0;

	check(n == 0 || read_bytes[n - 1] == '\n');
	for (i = 0; i < n; i++)
		lines += read_bytes[i] == '\n';
	return lines;
}

/*
 * Lines
 */

/* Before log_open() as well. */
static void
test_lines_have_time_level_and_text(void)
{
	begin();
	check(log_level() == LOG_LEVEL_INFO);
	log_debug("s 1: not written");
	check_written("");
	log_info("s 1: up since %d s", 5);
	check_written(STAMP "s 1: up since 5 s\n");
	log_warning("s 1: %s is %c", "this", 'x');
	check_written(STAMP "warning: s 1: this is x\n");
	log_error("s 1: bad");
	check_written(STAMP "error: s 1: bad\n");
	log_info("%s", "");
	check_written(STAMP "\n");
	log_open(false, LOG_LEVEL_DEBUG);
	log_debug("s 1: %u%%", 100U);
	check_written(STAMP "s 1: 100%\n");
	end();
}

static void
test_level_drops_the_lines_below_it(void)
{
	static const char *const want[] = {
		STAMP "error: e\n",
		STAMP "error: e\n" STAMP "warning: w\n",
		STAMP "error: e\n" STAMP "warning: w\n" STAMP "i\n",
		STAMP "error: e\n" STAMP "warning: w\n" STAMP "i\n" STAMP "d\n",
	};
	enum log_level level;

	begin();
	for (level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		log_open(false, level);
		check(log_level() == level);
		log_error("e");
		log_warning("w");
		log_info("i");
		log_debug("d");
		check_written(want[level]);
	}
	end();
}

/* No wire data can forge a line, or speak to a terminal. */
static void
test_line_with_control_bytes_is_escaped_and_one_line(void)
{
	static const char all[] = "a\nb\rc\td\033[2Je\x7f\x80\xff\\n \x01~";
	char byte;

	begin();
	log_info("s 2: %s", all);
	check_written(STAMP
	    "s 2: a\\nb\\rc\\td\\x1b[2Je\\x7f\\x80\\xff\\n "
	    "\\x01~\n");
	log_open(false, LOG_LEVEL_DEBUG);
	for (byte = 1; byte != 0; byte++) {
		log_debug("s 2: %c", byte);
		check_case(count_lines() == 1, "byte %d", byte);
	}
	end();
}

/* It stays one line, however long it would be. */
static void
test_line_of_20000_bytes_is_cut_and_stays_one_line(void)
{
	static const char fill[] = { 'x', '\n', '\xff' };
	char *text = malloc(20000);
	size_t i, n;

	unit_need(text != NULL, "malloc");
	begin();
	for (i = 0; i < sizeof(fill); i++) {
		memset(text, fill[i], 19999);
		text[19999] = '\0';
		log_info("s 3: %s", text);
		n = take_written();
		check(n > 500 && n <= 4096);
		check(memchr(read_bytes, '\n', n) == read_bytes + n - 1);
		check(memcmp(read_bytes,
			  STAMP "s 3: ", sizeof(STAMP "s 3: ") - 1) == 0);
	}
	free(text);
	end();
}

/* A log call keeps errno, and %m prints it. */
static void
test_log_call_keeps_errno_and_prints_it(void)
{
	begin();
	errno = ENOENT;
	log_open(false, LOG_LEVEL_DEBUG);
	check(errno == ENOENT);
	log_error("s 4: %m");
	check(errno == ENOENT);
	check_written(STAMP "error: s 4: No such file or directory\n");
	errno = EINTR;
	log_debug("s 4: %m");
	check(errno == EINTR);
	take_written();
	/* Where it cannot be written, too. */
	close(STDERR_FILENO);
	errno = ENOSPC;
	log_error("s 4: nobody reads this");
	check(errno == ENOSPC);
	end();
}

/*
 * log_escape()
 */

static void
check_escape(const char *bytes, size_t n, size_t size, const char *want)
{
	char *copy = malloc(n + 1), *out = malloc(size);

	unit_need(copy != NULL && out != NULL, "malloc");
	memcpy(copy, bytes, n);
	memset(out, 0x55, size);
	check(log_escape(copy, n, out, size) == out);
	unit_need(memchr(out, '\0', size) != NULL, "no NUL");
	check_bytes(out, strlen(out), want);
	free(copy);
	free(out);
}

static void
test_escape_into_short_buffer_cuts_no_escape_in_two(void)
{
	static const char bytes[] = "k\0\n\r\t\\\x1b\x7f\x80\xff~ '\"%s";
	static const char want[] =
	    "k\\x00\\n\\r\\t\\\\\\x1b\\x7f\\x80\\xff~ '\"%s";

	check_escape("", 0, 1, "");
	check_escape("abc", 3, 4, "abc");
	check_escape("abc", 2, 13, "ab");
	check_escape("abc", 3, 3, "ab");
	check_escape("abc", 3, 1, "");
	check_escape(bytes, sizeof(bytes) - 1, 4 * (sizeof(bytes) - 1) + 1,
	    want);
	check_escape(bytes, sizeof(bytes) - 1, sizeof(want), want);
	/* An escape is never cut in two. */
	check_escape("a\xff", 2, 6, "a\\xff");
	check_escape("a\xff", 2, 5, "a");
	check_escape(
	    "a\xff"
	    "b",
	    3, 5, "a");
	check_escape("\n", 1, 3, "\\n");
	check_escape("\n", 1, 2, "");
	check_escape("\xff\xff\xff", 3, 13, "\\xff\\xff\\xff");
}

/* Each byte: itself if it prints, but for the backslash. */
static void
test_escape_of_each_byte_is_itself_if_it_prints(void)
{
	char out[5], byte;
	int i;

	for (i = 0; i < 256; i++) {
		byte = (char)i;
		log_escape(&byte, 1, out, sizeof(out));
		check_case(i >= ' ' && i <= '~' && i != '\\' ?
			out[0] == byte && out[1] == '\0' :
			out[0] == '\\' &&
			    strlen(out) ==
				(strchr("n\nr\rt\t\\\\", i) != NULL && i != 0 ?
					2 :
					4),
		    "byte %d", i);
	}
}

/* What is escaped already is not escaped once more. */
static void
test_escaped_text_is_not_escaped_again_in_a_line(void)
{
	char out[64];

	begin();
	log_info("s 5: %s", log_escape("a\n\\", 3, out, sizeof(out)));
	check_written(STAMP "s 5: a\\n\\\\\n");
	end();
}

/*
 * The limit
 */

/* One call site. */
static void
complain(const char *object, unsigned int times)
{
	while (times-- > 0)
		log_warning("s %s: down", object);
}

/* Ten lines about an object, twenty in all, in a second. */
static void
test_lines_about_an_object_over_ten_a_second_are_dropped(void)
{
	begin();
	complain("a", 12);
	check(count_lines() == 10);
	complain("b", 9);
	check(count_lines() == 9);
	complain("c", 3);
	check(count_lines() == 1);
	pass_ms(999);
	complain("d", 1);
	check(count_lines() == 0);
	/* Another call site has its own twenty. */
	log_warning("s a: down, too");
	check_written(STAMP "warning: s a: down, too\n");
	pass_ms(1);
	complain("d", 2);
	check_written(STAMP
	    "warning: s d: down (3 such lines were left out)\n" STAMP
	    "warning: s d: down\n");
	end();
}

/* Lines left out are counted until a line has said how many. */
static void
test_lines_left_out_are_counted_in_the_next_line(void)
{
	begin();
	complain("g", 11);
	check(count_lines() == 10);
	pass_ms(1000);
	complain("h", 1);
	check_written(STAMP
	    "warning: s h: down (1 such lines were left out)\n");
	complain("h", 1);
	check_written(STAMP "warning: s h: down\n");
	pass_ms(500);
	complain("h", 9);
	check(count_lines() == 8);
	/* The second of h has begun with its first line. */
	pass_ms(499);
	complain("h", 10);
	check(count_lines() == 0);
	pass_ms(1);
	complain("h", 1);
	check_written(STAMP
	    "warning: s h: down (11 such lines were left out)\n");
	end();
}

/* The object is the first two words; the rest may differ. */
static void
test_limit_is_by_object_and_its_address(void)
{
	static const struct {
		const char *number, *address;
	} objects[] = {
		{ "c#17", "10.0.0.5:5031" },
		{ "c#18", "10.0.0.5:5031" },
		{ "c#18", "10.0.0.5:5032" },
		{ "c#17", "10.0.0.5:5032" },
	};
	size_t i;
	int line;

	begin();
	for (i = 0; i < COUNT(objects); i++) {
		for (line = 0; line < 15; line++)
			log_info("%s %s: %d", objects[i].number,
			    objects[i].address, line);
		check(count_lines() == 10);
		pass_ms(i == 1 ? 1000 : 0); /* no more than twenty */
	}
	end();
}

/* A trouble is told when it changes, at most once a second, and again after ten
   minutes, or when it was over. */
static void
test_trouble_that_lasts_is_due_once(void)
{
	struct log_trouble trouble = { .hash = 0 };

	begin();
	check(log_is_due(&trouble, "refused"));
	check(!log_is_due(&trouble, "refused"));
	pass_ms(999);
	check(!log_is_due(&trouble, "timed out"));
	pass_ms(1);
	check(!log_is_due(&trouble, "refused"));
	check(log_is_due(&trouble, "timed out"));
	pass_ms(599999);
	check(!log_is_due(&trouble, "timed out"));
	pass_ms(1);
	check(log_is_due(&trouble, "timed out"));
	log_trouble_over(&trouble);
	check(!log_is_due(&trouble, "timed out"));
	pass_ms(1000);
	check(log_is_due(&trouble, "timed out"));
	end();
}

/* Debug lines are not limited; what is not written for its level does not
   count as left out. */
static void
test_debug_lines_are_not_limited(void)
{
	unsigned int i;

	begin();
	log_open(false, LOG_LEVEL_DEBUG);
	for (i = 0; i < 100; i++)
		log_debug("s i: debug");
	check(count_lines() == 100);
	log_open(false, LOG_LEVEL_ERROR);
	complain("i", 100);
	check(count_lines() == 0);
	log_open(false, LOG_LEVEL_INFO);
	complain("i", 1);
	check_written(STAMP "warning: s i: down\n");
	end();
}

/*
 * Where it goes
 */

/* A pipe that is full, or that nobody reads: lines are lost, in no time. */
static void
test_log_to_full_or_broken_pipe_loses_lines_and_no_time(void)
{
	unsigned int i, lines;

	begin();
	log_open(false, LOG_LEVEL_DEBUG);
	for (i = 0; i < 5000; i++)
		log_debug("s j: a line of some length, for the pipe to fill");
	lines = count_lines();
	check(lines > 100 && lines < 5000);
	log_debug("s j: again");
	check_written(STAMP "s j: again\n");
	close(pipe_read);
	for (i = 0; i < 10; i++)
		log_debug("s j: nobody reads this");
	end();
	pipe_read = -1;
}

static void
set_journal(unsigned long more)
{
	char stream[64];
	struct stat st;

	unit_need(fstat(STDERR_FILENO, &st) == 0, "fstat");
	snprintf(stream, sizeof(stream), "%lu:%lu", (unsigned long)st.st_dev,
	    (unsigned long)st.st_ino + more);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open(false, LOG_LEVEL_DEBUG);
}

/* The journal stamps lines itself, and gets their priority. */
static void
test_log_to_journal_has_priorities_and_no_time(void)
{
	begin();
	set_journal(0);
	log_error("s k: e");
	log_warning("s k: w");
	log_info("s k: i");
	log_debug("s k: d\n<1>x");
	check_written(
	    "<3>error: s k: e\n<4>warning: s k: w\n<6>s k: i\n"
	    "<7>s k: d\\n<1>x\n");
	set_journal(1);
	log_error("s k: no journal");
	check_written(STAMP "error: s k: no journal\n");
	setenv("JOURNAL_STREAM", "", 1);
	log_open(false, LOG_LEVEL_INFO);
	log_error("s k: nor this");
	check_written(STAMP "error: s k: nor this\n");
	unsetenv("JOURNAL_STREAM");
	end();
}

static void
start_syslogd(void)
{
	struct sockaddr_un address;
	socklen_t length = name_syslogd(&address);

	syslogd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	unit_need(syslogd != -1 &&
		bind(syslogd, (struct sockaddr *)&address, length) == 0,
	    "syslogd");
}

/* The next message to syslogd. */
static void
check_syslog(const char *priority, const char *text)
{
	ssize_t n = recv(syslogd, read_bytes, BIG, 0);
	char want[256];

	unit_need(n >= 0 || errno == EAGAIN, "recv");
	snprintf(want, sizeof(want), "%sNov 14 22:13:20 magent[%ld]: %s",
	    priority, (long)getpid(), text);
	check_bytes(read_bytes, n < 0 ? 0 : (size_t)n, want);
}

/* Facility daemon, which is 3; and nothing to stderr. */
static void
test_log_to_syslog_has_facility_daemon_and_no_stderr(void)
{
	begin();
	start_syslogd();
	log_open(true, LOG_LEVEL_DEBUG);
	log_error("s l: e\n");
	log_warning("s l: w");
	log_info("s l: i");
	log_debug("s l: d");
	check_syslog("<27>", "error: s l: e\\n");
	check_syslog("<28>", "warning: s l: w");
	check_syslog("<30>", "s l: i");
	check_syslog("<31>", "s l: d");
	log_open(true, LOG_LEVEL_INFO);
	log_debug("s l: not written");
	log_info("s l: again");
	check_syslog("<30>", "s l: again");
	check_written("");
	close(syslogd);
	end();
}

/* One that was not there, or was started again, is found. */
static void
test_log_to_restarted_syslogd_finds_it_again(void)
{
	begin();
	errno = ENOENT;
	log_open(true, LOG_LEVEL_DEBUG);
	log_info("s m: lost");
	check(errno == ENOENT);
	start_syslogd();
	log_debug("s m: found");
	check_syslog("<31>", "s m: found");
	close(syslogd);
	log_debug("s m: lost");
	check(errno == ENOENT);
	start_syslogd();
	log_debug("s m: found again");
	check_syslog("<31>", "s m: found again");
	check_written("");
	close(syslogd);
	end();
}

/* One that does not read: lines are lost, in no time, and the first ones, that
   it has got, are whole. */
static void
test_log_to_hung_syslogd_loses_lines_and_no_time(void)
{
	unsigned int i;

	begin();
	start_syslogd();
	log_open(true, LOG_LEVEL_DEBUG);
	errno = ENOENT;
	for (i = 0; i < 5000; i++)
		log_debug("s n: line %u", i);
	check(errno == ENOENT);
	check_syslog("<31>", "s n: line 0");
	check_syslog("<31>", "s n: line 1");
	for (i = 2; recv(syslogd, read_bytes, BIG, 0) > 0; i++)
		;
	check(i < 5000);
	log_debug("s n: last line");
	check_syslog("<31>", "s n: last line");
	close(syslogd);
	end();
}

/* The newest line is the first one; what is debugging is not kept. */
static void
test_last_lines_are_kept_once_that_is_asked_for(void)
{
	char object[LOG_KEPT_BYTES + 100];
	const struct log_kept *line;
	int i;

	begin();
	log_info("s o: not kept");
	check(log_kept(0) == NULL);
	log_keep();
	log_open(false, LOG_LEVEL_DEBUG);
	log_warning("s o: first\n");
	log_debug("s o: not kept");
	line = log_kept(0);
	check(line != NULL && line->level == LOG_LEVEL_WARNING);
	check(strcmp(line->text, "s o: first\\n") == 0 && line->at > 0);
	check(log_kept(1) == NULL);
	/* Of objects of their own, so that none is left out. */
	for (i = 0; i < 15; i++)
		log_info("s o%d: a line", i);
	check(strcmp(log_kept(0)->text, "s o14: a line") == 0);
	check(strcmp(log_kept(15)->text, "s o: first\\n") == 0);
	check(log_kept(16) == NULL);
	memset(object, 'x', sizeof(object));
	object[sizeof(object) - 1] = '\0';
	for (i = 0; i < 20; i++) {
		log_info("s p%d: a line", i);
		log_info("s p%d: another line", i);
	}
	check(log_kept(LOG_KEPT - 1) != NULL && log_kept(LOG_KEPT) == NULL);
	log_error("%s", object);
	line = log_kept(0);
	check(strlen(line->text) == LOG_KEPT_BYTES - 1);
	check(strcmp(line->text + LOG_KEPT_BYTES - 5, "x...") == 0);
	end();
}

int
main(void)
{
	setenv("TZ", "UTC", 1);
	unsetenv("JOURNAL_STREAM");
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	read_bytes = malloc(BIG);
	unit_need(saved_stderr != -1 && read_bytes != NULL, "begin");
	RUN(test_lines_have_time_level_and_text);
	RUN(test_level_drops_the_lines_below_it);
	RUN(test_line_with_control_bytes_is_escaped_and_one_line);
	RUN(test_line_of_20000_bytes_is_cut_and_stays_one_line);
	RUN(test_log_call_keeps_errno_and_prints_it);
	RUN(test_escape_into_short_buffer_cuts_no_escape_in_two);
	RUN(test_escape_of_each_byte_is_itself_if_it_prints);
	RUN(test_escaped_text_is_not_escaped_again_in_a_line);
	RUN(test_lines_about_an_object_over_ten_a_second_are_dropped);
	RUN(test_lines_left_out_are_counted_in_the_next_line);
	RUN(test_limit_is_by_object_and_its_address);
	RUN(test_trouble_that_lasts_is_due_once);
	RUN(test_debug_lines_are_not_limited);
	RUN(test_log_to_full_or_broken_pipe_loses_lines_and_no_time);
	RUN(test_log_to_journal_has_priorities_and_no_time);
	RUN(test_log_to_syslog_has_facility_daemon_and_no_stderr);
	RUN(test_log_to_restarted_syslogd_finds_it_again);
	RUN(test_log_to_hung_syslogd_loses_lines_and_no_time);
	RUN(test_last_lines_are_kept_once_that_is_asked_for);
	free(read_bytes);
	return unit_end();
}
