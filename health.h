#ifndef HEALTH_H
#define HEALTH_H

/* Ask another magent how it is. */

struct address;

/*
 * Ask the magent at address for its version, and whether a server is up for
 * each key, within ms milliseconds; what a name takes to be looked up is not
 * counted.  Prints one line on stdout.  Returns 0 if all is well, and otherwise
 * 1.
 */
int health_check(const struct address *address, unsigned int ms);

#endif
