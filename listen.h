#ifndef LISTEN_H
#define LISTEN_H

#include <stdbool.h>

struct options;
struct sockets;

/* Listen where the options say; or for the operator only, if systemd has made
   the other sockets.  Returns false after one line in the log. */
bool listen_as_asked(struct sockets *sockets, const struct options *options);

/* The same of --metrics, and of --stats-port, which systemd does not know. */
bool listen_for_metrics(struct sockets *sockets, const struct options *options);
bool listen_for_stats(struct sockets *sockets, const struct options *options);

#endif
