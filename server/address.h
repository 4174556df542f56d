#ifndef ADDRESS_H
#define ADDRESS_H

/*
 * Where a server is, as the command line gives it:
 * host[:port[:weight]], [v6][:port[:weight]], unix:/path[:weight].
 */

enum {
	ADDRESS_PORT = 11211,   /* where no port is given */
	ADDRESS_PATH_MAX = 107, /* bytes of the path of a socket */
	ADDRESS_WEIGHT_MAX = 65535,
};

struct address {
	char *name;          /* owned; canonical: host:port, [v6]:port or
				   unix:/path: the same name, the same server;
				   printable, without spaces */
	char *host;          /* owned; a name, an IP address or a path, as
				   it was written */
	unsigned int port;   /* 0: host is the path of a unix socket */
	unsigned int weight; /* 1 and up; default 1 */
};

/* Parse text into *address.  Nothing is resolved.  Returns NULL, or what is
   wrong with it (static, fit for "magent: -s TEXT: %s"); then *address holds
   nothing to free. */
const char *address_parse(struct address *address, const char *text);

void address_free(struct address *address);

#endif
