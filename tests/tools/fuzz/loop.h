#ifndef FUZZ_LOOP_H
#define FUZZ_LOOP_H

/* What the daemon uses of libevent, on the sockets and the clock of world.h. */

#include <stdbool.h>

/* Whether an event is added for this descriptor. */
bool loop_watches(int fd);

/* Given by world.c. */
bool world_is_ready(int fd, bool to_write);
bool world_lacks_memory(void);

#endif
