#ifndef LASTING_H
#define LASTING_H

/*
 * Memory apart from that of malloc(), for what libevent allocates.
 *
 * It keeps a small piece for each descriptor that there ever was.  Such a piece
 * between the memory of two clients that have left would keep its page from
 * being given back to the system.
 */

/* To be called before any other function of libevent. */
void lasting_install(void);

#endif
