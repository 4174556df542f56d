/* Which sockets the options ask for. */

#include "listen.h"

#include <assert.h>
#include <stddef.h>

#include "client/sockets.h"
#include "log.h"
#include "options.h"

static bool
listen_on_tcp(struct sockets *sockets, const struct options *options)
{
	size_t i;

	if (options->listen_count == 0)
		return sockets_bind_tcp(sockets, NULL, options->listen_port,
		    false);
	for (i = 0; i < options->listen_count; i++)
		if (!sockets_bind_tcp(sockets, options->listen_hosts[i],
			options->listen_port, options->freebind))
			return false;
	return true;
}

/* Also where systemd has made the others: it does not know this one. */
static bool
listen_for_operator(struct sockets *sockets, const struct options *options)
{
	return options->admin_path == NULL ||
	    sockets_bind_unix(sockets, options->admin_path, true);
}

bool
listen_as_asked(struct sockets *sockets, const struct options *options)
{
	assert(options->listen_port > 0 || options->socket_path != NULL);
	if (sockets_are_passed(sockets)) {
		log_info("sockets of systemd: %zu; -p, -l and -f are not used",
		    sockets_count(sockets));
		return listen_for_operator(sockets, options);
	}
	/* What can be waited for is the last: see bind_sockets(). */
	return listen_for_operator(sockets, options) &&
	    (options->socket_path == NULL ||
		sockets_bind_unix(sockets, options->socket_path, false)) &&
	    (options->listen_port == 0 || listen_on_tcp(sockets, options));
}

/* The address of an option, if that was given. */
static bool
listen_at(struct sockets *sockets, const struct address *address, bool may_come)
{
	return address->name == NULL ||
	    sockets_bind_tcp(sockets, address->host, address->port, may_come);
}

bool
listen_for_metrics(struct sockets *sockets, const struct options *options)
{
	return listen_at(sockets, &options->metrics, options->freebind);
}

bool
listen_for_stats(struct sockets *sockets, const struct options *options)
{
	return listen_at(sockets, &options->stats_port, options->freebind);
}
