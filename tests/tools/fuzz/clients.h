#ifndef FUZZ_CLIENTS_H
#define FUZZ_CLIENTS_H

/* The applications of the script: they send commands, and hold the answers
   against what must come. */

#include <stdbool.h>
#include <stddef.h>

#include "script.h"

enum { CLIENTS_MAX = 6 };

/* is_exact: each answer about a client's own keys must be the one that a single
   memcached would give.  value_max: as -I. */
void clients_begin(bool is_exact, size_t value_max);
void clients_end(void);

/* Connect one more, if there is room and somebody listens.  Returns its number,
   or -1. */
int client_connect(void);
unsigned int client_number(unsigned int i); /* its own keys are cNUMBER.... */
bool client_is_there(unsigned int i);

/* Send a command that is drawn from the script, or a part of it. */
void client_command(unsigned int i, struct script *script);
/* Send what it has begun to send. */
void client_push(unsigned int i);
/* Send n bytes of the script; its answers are not looked at any more. */
void client_babble(unsigned int i, struct script *script, unsigned int n);
/* Send these whole commands, whose answers must be exact from now on. */
void client_say(unsigned int i, const char *text);
void client_shut(unsigned int i);
void client_close(unsigned int i, bool reset);
void client_be_deaf(unsigned int i, bool is_deaf);

/* All that are not deaf read.  Returns whether there was anything. */
bool clients_read(void);
/* Whether all commands are answered. */
bool clients_are_done(void);
/* Say on stderr which are not. */
void clients_describe(void);
/* From now on a connection that the daemon ends is no finding. */
void clients_expect_end(void);
/* How many were ever connected. */
unsigned int clients_total(void);

#endif
