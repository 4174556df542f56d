#ifndef ADDRESS_H
#define ADDRESS_H

/*
 * Where a server is, as the command line says it.  There are three forms:
 *
 *   host[:port[:weight]]   [v6][:port[:weight]]   unix:/path[:weight]
 */

enum {
	ADDRESS_PORT = 11211,   /* if no port is given */
	ADDRESS_PATH_MAX = 107, /* bytes of the path of a socket */
	ADDRESS_WEIGHT_MAX = 65535,
};

struct address {
	/* Owned.  host:port, [v6]:port or unix:/path, printable and without
	   spaces.  Addresses with the same name are the same server. */
	char *name;
	/* Owned.  A host name, an IP address or a path, as it was written. */
	char *host;
	unsigned int port;   /* 0: host is the path of a unix socket */
	unsigned int weight; /* 1 and up; 1 if none is given */
};

/* Parse text into *address.  No name is looked up.  Returns NULL, or else what
   is wrong with text: a static phrase that goes behind "magent: -s TEXT: ".
   Then *address has nothing to free. */
const char *address_parse(struct address *address, const char *text);

/* Free what *address owns, but not *address. */
void address_free(struct address *address);

#endif
