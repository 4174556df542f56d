#ifndef OPTIONS_H
#define OPTIONS_H

/* The command line and the file of -c: read, checked, and with defaults. */

#include <stdbool.h>
#include <stddef.h>

#include "ketama.h"
#include "mirror/pair.h"
#include "server/address.h"

struct options {
	struct address *primaries; /* -s, in order; owned */
	size_t primary_count;      /* 1 and up */
	struct address *backups;   /* -b, in order; owned; NULL: none */
	size_t backup_count;

	char **listen_hosts;      /* -l, in order; owned; NULL: none */
	size_t listen_count;      /* 0: all addresses */
	unsigned int listen_port; /* -p; 0: no TCP; default 11211 */
	char *socket_path;        /* -f; owned, absolute; NULL: none */
	unsigned int max_clients; /* -n, 1 and up; default 4096 */
	unsigned int links;       /* -i, per server, 1 to 64; default 1 */
	char *user;               /* -u; owned; NULL: root becomes nobody */
	char *group;              /* -g; owned; NULL: that of the user */
	char *pid_file;           /* -P; owned, absolute; NULL: none */
	char *log_file;           /* --log-file; as pid_file */
	bool foreground;          /* -D or -v */
	unsigned int verbose;     /* how often -v was given */
	unsigned int timeout_ms;  /* -t, milliseconds; default 250 */
	/* -I, bytes; default 1 MiB; at most half of memory_limit. */
	size_t item_size;
	size_t memory_limit;   /* -m, bytes; default 256 MiB */
	bool hotkeys;          /* --hotkeys: keys are sampled */
	bool freebind;         /* --freebind: addresses of -l may come */
	bool refuse_flush;     /* -F */
	bool error_on_down;    /* --on-down=error */
	enum ketama_kind ring; /* --ring; default ketama */
	/* --scrub, keys per second; 0, the default: not by itself. */
	unsigned int scrub_pace;
	unsigned int shutdown_delay; /* seconds; default 0 */
	/* --health, --metrics, --stats-port; owned; name is NULL: not given. */
	struct address health, metrics, stats_port;
	char *admin_path; /* --admin; as socket_path */
	bool check;       /* --check: only see whether the options are right */
};

/*
 * Fill *options from the command line, and the file that it names.  Returns
 * true to go on.  Otherwise the program is to end with *status, of
 * <sysexits.h>: a text, or what is wrong, has been printed, and there is
 * nothing to free.  To be called before the working directory changes.
 */
bool options_parse(struct options *options, int argc, char *argv[],
    int *status);

/* The servers, which stay those of the options. */
struct pairs_servers options_servers(const struct options *options);

/* Free what is owned; a second call does nothing. */
void options_free(struct options *options);

#endif
