/*
 * Read and check the options: first those of the file of -c, and then those of
 * the command line, which win.
 *
 * Invariant: entries[] is the only place that knows an option; the arguments
 * of getopt_long(), the names in the file, the defaults and the usage text are
 * made from it.  What options_parse() lets through needs no further check of
 * form.
 */

#include "options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "config.h"
#include "log.h"

enum {
	/* From here on: the "letters" of options that have a long name only. */
	LETTERLESS = 256,
	OPTION_RING = LETTERLESS,
	OPTION_ON_DOWN,
	OPTION_LOG_FILE,
	OPTION_SCRUB,
	OPTION_SHUTDOWN_DELAY,
	OPTION_CHECK,
	OPTION_FREEBIND,
	OPTION_HOTKEYS,
	OPTION_HEALTH,
	OPTION_METRICS,
	OPTION_ADMIN,
	OPTION_STATS_PORT,
	/* Bytes of the longest host name that DNS allows. */
	HOST_MAX = 253,
	/* Where the help of an option begins in the usage text. */
	HELP_COLUMN = 28,
	/* What -t is with --health, if it is not given. */
	HEALTH_MS = 1000,
};

#define KILO ((uint64_t)1 << 10)
#define MEGA ((uint64_t)1 << 20)
#define GIGA ((uint64_t)1 << 30)

/* Put the argument of an option into *options.  Returns NULL, or what is wrong
   with it, which is valid until the next call.  argument is NULL if the option
   takes none. */
typedef const char *take(struct options *options, const char *argument);

/* An option. */
struct entry {
	int letter;           /* what getopt_long() returns for it */
	const char *name;     /* the long form, without -- */
	const char *argument; /* as the usage names it; NULL: it takes none */
	const char *initial;  /* the default, as an argument; NULL: none */
	const char *help;     /* lines are separated by a newline */
	take *take;           /* NULL: it prints a text, and magent ends */
};

/* Read the digits at the start of text as a decimal number.  Returns what
   follows them, or NULL if there are none, or the number is too large. */
static const char *
parse_decimal(const char *text, uint64_t *number)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return NULL;
	errno = 0;
	*number = strtoumax(text, &end, 10);
	return errno == 0 ? end : NULL;
}

/* Read a number from least to most.  Returns NULL, or what is wrong. */
static const char *
parse_count(const char *text, unsigned int least, unsigned int most,
    unsigned int *number)
{
	static char problem[64];
	const char *end;
	uint64_t n;

	assert(least <= most);
	end = parse_decimal(text, &n);
	if (end == NULL || *end != '\0' || n < least || n > most) {
		snprintf(problem, sizeof(problem),
		    "must be a number from %u to %u", least, most);
		return problem;
	}
	*number = (unsigned int)n;
	return NULL;
}

/* Read a size in bytes: a number of k, m or g, or without a letter, of units.
   Returns false if it is no size, or too large. */
static bool
parse_size(const char *text, uint64_t unit, uint64_t *size)
{
	const char *end = parse_decimal(text, size);

	assert(unit > 0);
	if (end == NULL)
		return false;
	switch (tolower((unsigned char)*end)) {
	case 'k':
		unit = KILO;
		end++;
		break;
	case 'm':
		unit = MEGA;
		end++;
		break;
	case 'g':
		unit = GIGA;
		end++;
		break;
	}
	if (*end != '\0' || *size > SIZE_MAX / unit)
		return false;
	*size *= unit;
	return true;
}

/* Append the server that text names to a list of *count.  Returns NULL, or what
   is wrong. */
static const char *
append_server(struct address **list, size_t *count, const char *text)
{
	struct address *longer;
	const char *problem;
	size_t i;

	assert(*list != NULL || *count == 0);
	longer = realloc(*list, (*count + 1) * sizeof(**list));
	if (longer == NULL)
		return "out of memory";
	*list = longer;
	problem = address_parse(&longer[*count], text);
	if (problem != NULL)
		return problem;
	for (i = 0; i < *count; i++)
		if (strcmp(longer[i].name, longer[*count].name) == 0) {
			address_free(&longer[*count]);
			return "this server is given twice";
		}
	++*count;
	return NULL;
}

static void
forget_servers(struct address **list, size_t *count)
{
	while (*count > 0)
		address_free(&(*list)[--*count]);
	free(*list);
	*list = NULL;
}

static void
forget_primaries(struct options *options)
{
	forget_servers(&options->primaries, &options->primary_count);
}

static void
forget_backups(struct options *options)
{
	forget_servers(&options->backups, &options->backup_count);
}

static const char *
take_primary(struct options *options, const char *argument)
{
	return append_server(&options->primaries, &options->primary_count,
	    argument);
}

static const char *
take_backup(struct options *options, const char *argument)
{
	return append_server(&options->backups, &options->backup_count,
	    argument);
}

/* Set *path, which is owned, to an absolute path: a daemon leaves the directory
   that a relative one starts from. */
static const char *
take_path(char **path, const char *argument)
{
	char *here = NULL;

	free(*path);
	*path = NULL;
	if (argument[0] == '\0')
		return "the path is empty";
	if (argument[0] == '/')
		*path = strdup(argument);
	else {
		here = getcwd(NULL, 0);
		if (here == NULL)
			return strerror(errno);
		if (asprintf(path, "%s/%s", here, argument) == -1)
			*path = NULL;
		free(here);
	}
	return *path == NULL ? "out of memory" : NULL;
}

static const char *
append_host(struct options *options, const char *host, size_t length)
{
	char **longer;

	/* [::1] is ::1. */
	if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
		host++;
		length -= 2;
	}
	if (length == 0)
		return "the host is empty";
	if (length > HOST_MAX)
		return "the host name has more than 253 bytes";
	longer = realloc(options->listen_hosts,
	    (options->listen_count + 1) * sizeof(*longer));
	if (longer == NULL)
		return "out of memory";
	options->listen_hosts = longer;
	longer[options->listen_count] = strndup(host, length);
	if (longer[options->listen_count] == NULL)
		return "out of memory";
	options->listen_count++;
	return NULL;
}

static void
forget_hosts(struct options *options)
{
	while (options->listen_count > 0)
		free(options->listen_hosts[--options->listen_count]);
	free(options->listen_hosts);
	options->listen_hosts = NULL;
}

/* Hosts with commas between them, as memcached takes them. */
static const char *
take_listen(struct options *options, const char *argument)
{
	const char *problem;
	size_t length;

	for (;;) {
		length = strcspn(argument, ",");
		problem = append_host(options, argument, length);
		if (problem != NULL || argument[length] == '\0')
			return problem;
		argument += length + 1;
	}
}

static const char *
take_port(struct options *options, const char *argument)
{
	return parse_count(argument, 0, 65535, &options->listen_port);
}

/* The same for the path of a socket. */
static const char *
take_socket_path(char **path, const char *argument)
{
	const char *problem = take_path(path, argument);

	if (problem == NULL && strlen(*path) > ADDRESS_PATH_MAX)
		return "the absolute path has more than 107 bytes";
	return problem;
}

static const char *
take_socket(struct options *options, const char *argument)
{
	return take_socket_path(&options->socket_path, argument);
}

static const char *
take_admin(struct options *options, const char *argument)
{
	return take_socket_path(&options->admin_path, argument);
}

static const char *
take_clients(struct options *options, const char *argument)
{
	return parse_count(argument, 1, 1000000, &options->max_clients);
}

static const char *
take_links(struct options *options, const char *argument)
{
	return parse_count(argument, 1, 64, &options->links);
}

/* Set *name, which is owned. */
static const char *
take_name(char **name, const char *argument)
{
	free(*name);
	*name = strdup(argument);
	return *name == NULL ? "out of memory" : NULL;
}

static const char *
take_user(struct options *options, const char *argument)
{
	if (argument[0] == '\0')
		return "the user is empty";
	return take_name(&options->user, argument);
}

static const char *
take_group(struct options *options, const char *argument)
{
	if (argument[0] == '\0')
		return "the group is empty";
	return take_name(&options->group, argument);
}

static const char *
take_pid_file(struct options *options, const char *argument)
{
	return take_path(&options->pid_file, argument);
}

static const char *
take_log_file(struct options *options, const char *argument)
{
	return take_path(&options->log_file, argument);
}

static const char *
take_timeout(struct options *options, const char *argument)
{
	return parse_count(argument, 10, 60000, &options->timeout_ms);
}

static const char *
take_item_size(struct options *options, const char *argument)
{
	uint64_t size;

	if (!parse_size(argument, 1, &size) || size < KILO || size > GIGA)
		return "must be a size from 1k to 1g";
	options->item_size = (size_t)size;
	return NULL;
}

static const char *
take_memory(struct options *options, const char *argument)
{
	uint64_t size;

	if (!parse_size(argument, MEGA, &size) || size < 8 * MEGA ||
	    size > 1024 * GIGA)
		return "must be a number of megabytes, or a size, from 8m to "
		       "1024g";
	options->memory_limit = (size_t)size;
	return NULL;
}

static const char *
take_foreground(struct options *options, const char *argument)
{
	(void)argument;
	options->foreground = true;
	return NULL;
}

static const char *
take_verbose(struct options *options, const char *argument)
{
	options->verbose++;
	return take_foreground(options, argument);
}

static const char *
take_refuse_flush(struct options *options, const char *argument)
{
	(void)argument;
	options->refuse_flush = true;
	return NULL;
}

static const char *
take_ring(struct options *options, const char *argument)
{
	if (!ketama_kind(argument, &options->ring))
		return "must be ketama, libketama, twemproxy, magent or modula";
	return NULL;
}

static const char *
take_on_down(struct options *options, const char *argument)
{
	options->error_on_down = strcmp(argument, "error") == 0;
	if (!options->error_on_down && strcmp(argument, "miss") != 0)
		return "must be miss or error";
	return NULL;
}

static const char *
take_scrub(struct options *options, const char *argument)
{
	return parse_count(argument, 0, 1000000, &options->scrub_pace);
}

static const char *
take_shutdown_delay(struct options *options, const char *argument)
{
	return parse_count(argument, 0, 3600, &options->shutdown_delay);
}

static const char *
take_hotkeys(struct options *options, const char *argument)
{
	(void)argument;
	options->hotkeys = true;
	return NULL;
}

static const char *
take_freebind(struct options *options, const char *argument)
{
	(void)argument;
	options->freebind = true;
	return NULL;
}

static const char *
take_check(struct options *options, const char *argument)
{
	(void)argument;
	options->check = true;
	return NULL;
}

/* Replace the address.  A number alone is a port of this host. */
static const char *
take_address(struct address *address, const char *argument)
{
	char here[32];

	address_free(address);
	memset(address, 0, sizeof(*address));
	if (argument[0] != '\0' && strlen(argument) < 6 &&
	    argument[strspn(argument, "0123456789")] == '\0') {
		snprintf(here, sizeof(here), "127.0.0.1:%s", argument);
		argument = here;
	}
	return address_parse(address, argument);
}

static const char *
take_health(struct options *options, const char *argument)
{
	return take_address(&options->health, argument);
}

/* The same, with a port. */
static const char *
take_own_port(struct address *address, const char *argument)
{
	const char *colon = strrchr(argument, ':');
	const char *wrong = take_address(address, argument);

	if (wrong != NULL)
		return wrong;
	if (address->port == 0)
		return "is no port, nor an address and a port";
	if (argument[strspn(argument, "0123456789")] != '\0' &&
	    (colon == NULL || strchr(colon, ']') != NULL))
		return "has no port";
	return NULL;
}

static const char *
take_metrics(struct options *options, const char *argument)
{
	return take_own_port(&options->metrics, argument);
}

static const char *
take_stats_port(struct options *options, const char *argument)
{
	return take_own_port(&options->stats_port, argument);
}

/* The file was read before: see options_parse(). */
static const char *
take_config(struct options *options, const char *argument)
{
	(void)options;
	return argument[0] == '\0' ? "the path is empty" : NULL;
}

/* -k means nothing: it is in the command lines of old installations. */
static const char *
take_nothing(struct options *options, const char *argument)
{
	(void)options;
	(void)argument;
	return NULL;
}

static const struct entry entries[] = {
	{ 's', "server", "SERVER", NULL, "a primary server; repeat for each",
	    take_primary },
	{ 'b', "backup", "SERVER", NULL, "a backup server; repeat for each",
	    take_backup },
	{ 'l', "listen", "HOST", NULL,
	    "address to listen on; repeat for each\n(default all)",
	    take_listen },
	{ OPTION_FREEBIND, "freebind", NULL, NULL,
	    "addresses of -l may come later", take_freebind },
	{ 'p', "port", "PORT", "11211", "TCP port to listen on; 0: none",
	    take_port },
	{ 'f', "socket", "PATH", NULL, "unix socket to listen on",
	    take_socket },
	{ OPTION_ADMIN, "admin", "PATH", NULL,
	    "the same for its owner alone, who may\n"
	    "take servers out there",
	    take_admin },
	{ 'n', "max-clients", "NUMBER", "4096", "clients at a time",
	    take_clients },
	{ 'i', "connections", "NUMBER", "1", "connections per server, 1 to 64",
	    take_links },
	{ 't', "timeout", "MS", "250", "milliseconds for a server to answer",
	    take_timeout },
	{ 'I', "item-size", "SIZE", "1m", "largest value, 1k to 1g",
	    take_item_size },
	{ 'm', "memory", "MB", "256", "memory for buffers", take_memory },
	{ 'k', "ketama", NULL, NULL, "accepted and ignored: see --ring",
	    take_nothing },
	{ OPTION_RING, "ring", "KIND", "ketama",
	    "how keys find servers: ketama,\n"
	    "libketama, twemproxy, magent or\n"
	    "modula",
	    take_ring },
	{ OPTION_ON_DOWN, "on-down", "ANSWER", "miss",
	    "to a read no server can answer:\nmiss or error", take_on_down },
	{ OPTION_SCRUB, "scrub", "NUMBER", "0",
	    "keys per second to compare on both\n"
	    "servers, again and again; 0: none",
	    take_scrub },
	{ 'F', "refuse-flush", NULL, NULL, "refuse flush_all",
	    take_refuse_flush },
	{ 'u', "user", "USER", NULL, "user to become; root without -u: nobody",
	    take_user },
	{ 'g', "group", "GROUP", NULL,
	    "group to become, if not that of the user", take_group },
	{ 'P', "pid-file", "PATH", NULL, "file for the process id",
	    take_pid_file },
	{ OPTION_LOG_FILE, "log-file", "PATH", NULL,
	    "file to log to, and not to syslog", take_log_file },
	{ 'D', "foreground", NULL, NULL, "stay in the foreground",
	    take_foreground },
	{ 'v', "verbose", NULL, NULL, "log more; implies -D", take_verbose },
	{ OPTION_SHUTDOWN_DELAY, "shutdown-delay", "SECONDS", "0",
	    "accept clients for so long after TERM", take_shutdown_delay },
	{ 'c', "config", "PATH", NULL,
	    "file with options, one a line, by their\n"
	    "long names; the command line wins",
	    take_config },
	{ OPTION_CHECK, "check", NULL, NULL,
	    "only see whether the options are right", take_check },
	{ OPTION_HEALTH, "health", "MAGENT", NULL,
	    "ask this one, [HOST:]PORT or unix:/PATH,\n"
	    "how it is, and end with 0 or 1",
	    take_health },
	{ OPTION_METRICS, "metrics", "PORT", NULL,
	    "answer HTTP for Prometheus on this\n[ADDRESS:]PORT",
	    take_metrics },
	{ OPTION_HOTKEYS, "hotkeys", NULL, NULL,
	    "sample keys, for stats hotkeys", take_hotkeys },
	{ OPTION_STATS_PORT, "stats-port", "PORT", NULL,
	    "write twemproxy's JSON statistics to who\n"
	    "connects to this [ADDRESS:]PORT",
	    take_stats_port },
	{ 'h', "help", NULL, NULL, "print this text", NULL },
	{ 'V', "version", NULL, NULL, "print the version", NULL },
};

enum { ENTRIES = sizeof(entries) / sizeof(entries[0]) };

/* Print an option and its help. */
static void
print_entry(FILE *out, const struct entry *entry)
{
	char head[64];
	const char *line, *end;
	int n;

	n = entry->letter >= LETTERLESS ?
	    snprintf(head, sizeof(head), "    ") :
	    snprintf(head, sizeof(head), "-%c, ", entry->letter);
	assert(n == 4);
	snprintf(head + n, sizeof(head) - (size_t)n, "--%s%s%s", entry->name,
	    entry->argument == NULL ? "" : "=",
	    entry->argument == NULL ? "" : entry->argument);
	fprintf(out, "  %-*s", HELP_COLUMN - 2, head);
	line = entry->help;
	while ((end = strchr(line, '\n')) != NULL) {
		fprintf(out, "%.*s\n%*s", (int)(end - line), line, HELP_COLUMN,
		    "");
		line = end + 1;
	}
	fputs(line, out);
	if (entry->initial != NULL)
		fprintf(out, " (default %s)", entry->initial);
	fputc('\n', out);
}

static void
print_usage(FILE *out)
{
	size_t i;

	fputs(
	    "usage: magent -s SERVER [-s SERVER ...] [-b SERVER ...] "
	    "[OPTION ...]\n"
	    "SERVER is HOST[:PORT[:WEIGHT]], [IPV6][:PORT[:WEIGHT]] or\n"
	    "unix:/PATH[:WEIGHT].  SIZE and MB take a suffix k, m or g.\n",
	    out);
	for (i = 0; i < ENTRIES; i++)
		print_entry(out, &entries[i]);
}

/* Say in one line what is wrong with an option, which was named so.  value may
   be NULL; and so may line, of the file that it stands in. */
static void
complain(const struct config_line *line, const char *option, const char *value,
    const char *problem)
{
	char name[64], shown[128];
	size_t length = value == NULL ? 0 : strlen(value);

	assert(problem[0] != '\0');
	log_escape(option, strlen(option), name, sizeof(name));
	fputs("magent: ", stderr);
	if (line != NULL)
		fprintf(stderr, "%s:%u: ", line->path, line->number);
	fputs(name, stderr);
	if (value != NULL && length == 0)
		fputs(" ''", stderr);
	if (length > 0) {
		log_escape(value, length, shown, sizeof(shown));
		fprintf(stderr, " %s%s", shown,
		    length >= sizeof(shown) ? "..." : "");
	}
	fprintf(stderr, ": %s\n", problem);
}

/* The option with this letter; NULL: none. */
static const struct entry *
entry_find(int letter)
{
	size_t i;

	for (i = 0; i < ENTRIES; i++)
		if (entries[i].letter == letter)
			return &entries[i];
	return NULL;
}

/* The one with this name; NULL: none. */
static const struct entry *
entry_named(const char *name)
{
	size_t i;

	for (i = 0; i < ENTRIES; i++)
		if (strcmp(entries[i].name, name) == 0)
			return &entries[i];
	return NULL;
}

static void
set_defaults(struct options *options)
{
	const char *problem;
	size_t i;

	memset(options, 0, sizeof(*options));
	for (i = 0; i < ENTRIES; i++) {
		if (entries[i].initial == NULL)
			continue;
		problem = entries[i].take(options, entries[i].initial);
		assert(problem == NULL);
		(void)problem;
	}
}

/* Make the two descriptions that getopt_long() wants; letters has room for a
   letter and a colon of each option, and for the colon in front of them, which
   makes it tell a missing argument from an unknown option. */
static void
describe(struct option longs[ENTRIES + 1], char letters[2 * ENTRIES + 2])
{
	size_t i;

	*letters++ = ':';
	for (i = 0; i < ENTRIES; i++) {
		assert(entries[i].take != NULL || entries[i].argument == NULL);
		assert(entries[i].initial == NULL ||
		    entries[i].argument != NULL);
		assert(entry_find(entries[i].letter) == &entries[i]);
		longs[i].name = entries[i].name;
		longs[i].has_arg = entries[i].argument == NULL ?
		    no_argument :
		    required_argument;
		longs[i].flag = NULL;
		longs[i].val = entries[i].letter;
		if (entries[i].letter >= LETTERLESS)
			continue;
		*letters++ = (char)entries[i].letter;
		if (entries[i].argument != NULL)
			*letters++ = ':';
	}
	memset(&longs[ENTRIES], 0, sizeof(longs[ENTRIES]));
	*letters = '\0';
}

/*
 * The file
 */

/* What is wrong with the option of a line, whatever its value; NULL: nothing
   is. */
static const char *
line_problem(const struct entry *entry, const struct config_line *line)
{
	if (entry == NULL)
		return "no such option";
	if (entry->take == NULL || entry->letter == 'c' ||
	    entry->letter == OPTION_CHECK || entry->letter == OPTION_HEALTH)
		return "belongs on the command line";
	if (entry->argument == NULL && line->value != NULL)
		return "takes no value";
	if (entry->argument != NULL && line->value == NULL)
		return "needs a value";
	return NULL;
}

static bool
take_line(void *owner, const struct config_line *line)
{
	const struct entry *entry = entry_named(line->name);
	const char *problem = line_problem(entry, line);

	if (problem == NULL)
		problem = entry->take(owner, line->value);
	if (problem != NULL)
		complain(line, line->name, line->value, problem);
	return problem == NULL;
}

/* The file that the command line names; NULL: none, or it is only asked for a
   text.  What is wrong with that line is said when it is read again. */
static const char *
find_config(int argc, char *argv[], const char *letters,
    const struct option *longs)
{
	const struct entry *entry;
	const char *path = NULL;
	bool goes_on = true;
	int letter;

	while (goes_on &&
	    (letter = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		entry = entry_find(letter);
		goes_on = entry != NULL && entry->take != NULL;
		if (letter == 'c' && optarg[0] != '\0')
			path = optarg;
	}
	optind = 0; /* begin anew */
	return goes_on ? path : NULL;
}

/* Take what the file says.  Otherwise *status is set. */
static bool
take_config_file(struct options *options, const char *path, int *status)
{
	bool could_read;

	if (path == NULL || config_read(path, take_line, options, &could_read))
		return true;
	*status = could_read ? EX_CONFIG : EX_NOINPUT;
	return false;
}

/*
 * The command line
 */

/* Forget what the file says of an option that adds to what was there before. */
static void
forget_option(struct options *options, int letter)
{
	switch (letter) {
	case 's':
		forget_primaries(options);
		break;
	case 'b':
		forget_backups(options);
		break;
	case 'l':
		forget_hosts(options);
		break;
	case 'v':
		options->verbose = 0;
		break;
	}
}

/* Say in one line what is wrong with an option that is known. */
static void
complain_of(const struct entry *entry, const char *value, const char *problem)
{
	char name[3] = { '-', (char)entry->letter, '\0' }, longer[32];

	snprintf(longer, sizeof(longer), "--%s", entry->name);
	complain(NULL, entry->letter >= LETTERLESS ? longer : name, value,
	    problem);
}

/* Say why getopt_long() has returned letter.  Its own message has what was
   given as it is, also with an end of line in it.  given: the argument that it
   has read last, if that was a long option. */
static void
complain_of_getopt(int letter, const char *given)
{
	const struct entry *entry = entry_find(optopt);
	char name[3] = { '-', (char)optopt, '\0' };

	if (entry != NULL)
		complain_of(entry, NULL,
		    letter == ':' ? "needs an argument" : "takes no argument");
	else
		complain(NULL, optopt == 0 ? given : name, NULL,
		    "is no option, or stands for several");
}

/* Take the argument of an option.  The first one of a list takes the place of
   those in the file. */
static bool
take_argument(struct options *options, const struct entry *entry,
    bool was_given[ENTRIES])
{
	const char *problem;

	if (!was_given[entry - entries])
		forget_option(options, entry->letter);
	was_given[entry - entries] = true;
	problem = entry->take(options, optarg);
	if (problem == NULL)
		return true;
	complain_of(entry, optarg, problem);
	return false;
}

/* Take one option.  Returns true to go on with the next.  Otherwise the program
   ends with *status, which is set here only if there is no error. */
static bool
take_option(struct options *options, int letter, bool was_given[ENTRIES],
    int *status)
{
	const struct entry *entry = entry_find(letter);

	assert(entry != NULL);
	if (entry->take == NULL) {
		if (letter == 'h')
			print_usage(stdout);
		else
			printf("magent %s\n", MAGENT_VERSION);
		*status = EX_OK;
		return false;
	}
	assert(entry->argument == NULL || optarg != NULL);
	return take_argument(options, entry, was_given);
}

/* Whether the options fit together; if not, says why. */
static bool
check_together(const struct options *options)
{
	assert(options->max_clients > 0 && options->links > 0);
	assert(options->item_size > 0 && options->timeout_ms > 0);
	if (options->health.name != NULL)
		return true;
	if (options->primary_count == 0) {
		fputs(
		    "magent: -s: no server is given; one at least is "
		    "needed\n",
		    stderr);
		return false;
	}
	if (options->listen_port == 0 && options->socket_path == NULL) {
		fputs(
		    "magent: -p 0: without -f there is nothing to listen "
		    "on\n",
		    stderr);
		return false;
	}
	if (options->socket_path != NULL && options->admin_path != NULL &&
	    strcmp(options->socket_path, options->admin_path) == 0) {
		fputs("magent: --admin: is the path of -f\n", stderr);
		return false;
	}
	if (options->item_size > options->memory_limit / 2) {
		fprintf(stderr,
		    "magent: -I %zu: more than half of the memory "
		    "for buffers (-m, %zu bytes)\n",
		    options->item_size, options->memory_limit);
		return false;
	}
	return true;
}

bool
options_parse(struct options *options, int argc, char *argv[], int *status)
{
	struct option longs[ENTRIES + 1];
	char letters[2 * ENTRIES + 2];
	bool was_given[ENTRIES] = { false };
	int letter;
	bool good;

	assert(argv[argc] == NULL);
	set_defaults(options);
	*status = EX_USAGE;
	if (argc <= 1) {
		print_usage(stderr);
		return false;
	}
	describe(longs, letters);
	opterr = 0;
	good = take_config_file(options,
	    find_config(argc, argv, letters, longs), status);
	while (good &&
	    (letter = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		good = letter != '?' && letter != ':';
		if (good)
			good = take_option(options, letter, was_given, status);
		else
			complain_of_getopt(letter, argv[optind - 1]);
	}
	if (good && optind < argc) {
		complain(NULL, argv[optind], NULL, "not an option");
		good = false;
	}
	if (!was_given[entry_find('t') - entries] &&
	    options->health.name != NULL)
		options->timeout_ms = HEALTH_MS;
	good = good && check_together(options);
	if (!good)
		options_free(options);
	return good;
}

struct pairs_servers
options_servers(const struct options *options)
{
	return (struct pairs_servers){
		.primaries = options->primaries,
		.primary_count = options->primary_count,
		.backups = options->backups,
		.backup_count = options->backup_count,
		.ring = options->ring,
	};
}

void
options_free(struct options *options)
{
	forget_primaries(options);
	forget_backups(options);
	forget_hosts(options);
	address_free(&options->health);
	address_free(&options->metrics);
	address_free(&options->stats_port);
	memset(&options->health, 0, sizeof(options->health));
	memset(&options->metrics, 0, sizeof(options->metrics));
	memset(&options->stats_port, 0, sizeof(options->stats_port));
	free(options->socket_path);
	free(options->admin_path);
	free(options->user);
	free(options->group);
	free(options->pid_file);
	free(options->log_file);
	options->socket_path = options->admin_path = NULL;
	options->user = options->group = NULL;
	options->pid_file = NULL;
	options->log_file = NULL;
}
