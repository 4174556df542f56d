#ifndef OPTIONS_H
#define OPTIONS_H

/* The command line, checked. */

#include <stdbool.h>
#include <stddef.h>

#include "ketama.h"
#include "server/address.h"

struct options {
	struct address *primaries; /* -s, in order */
	size_t primary_count;
	struct address *backups; /* -b, in order */
	size_t backup_count;

	char **listen_hosts;      /* -l, in order; owned */
	size_t listen_count;      /* of these; 0: all addresses */
	unsigned int listen_port; /* -p; 0: no tcp; default 11211 */
	char *socket_path;        /* -f; owned, absolute; NULL: none */
	unsigned int max_clients; /* -n; default 4096 */
	unsigned int links;       /* -i, per server; default 1 */
	const char *user;         /* -u; NULL: root becomes nobody */
	const char *group;        /* -g */
	char *pid_file;           /* -P; owned, absolute; NULL: none */
	bool foreground;          /* -D or -v */
	unsigned int verbose;     /* how often -v */
	unsigned int timeout_ms;  /* -t; default 250 */
	size_t item_size;         /* -I, bytes; default 1 MiB; at most
					   half of memory_limit */
	size_t memory_limit;      /* -m, bytes; default 256 MiB */
	bool refuse_flush;        /* -F */
	bool error_on_down;       /* --on-down=error */
	enum ketama_kind ring;    /* --ring */
};

/*
 * Fill *options from the command line.  Returns true to go on; otherwise the
 * program ends with *status (usage, help and version texts have been printed,
 * and there is nothing to free).  Strings are borrowed from argv where they
 * are not said to be owned.  Call it before the working directory changes.
 */
bool options_parse(struct options *options, int argc, char *argv[],
    int *status);

void options_free(struct options *options);

#endif
