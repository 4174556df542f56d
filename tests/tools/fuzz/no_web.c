/* There is no HTTP in this world: what client/web.c has would need evhttp. */

#include <stddef.h>

#include "client/web.h"

struct web *
web_new(struct conn_loop *loop, const struct sockets *sockets,
    const struct metrics_source *source, struct usage *usage)
{
	(void)loop;
	(void)sockets;
	(void)source;
	(void)usage;
	return NULL;
}

void
web_free(struct web *web)
{
	(void)web;
}
