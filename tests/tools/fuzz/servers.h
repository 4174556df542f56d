#ifndef FUZZ_SERVERS_H
#define FUZZ_SERVERS_H

/* The memcacheds of the script: models, with sockets and faults. */

#include <stdbool.h>
#include <stddef.h>

#include "world.h"

enum { SERVERS_MAX = 6 };

/* What happens instead of the next answer. */
enum lie {
	LIE_NONE,
	LIE_GARBAGE,
	LIE_HALF,  /* and then nothing any more */
	LIE_OTHER, /* a VALUE of another key */
	LIE_LONG,  /* a line without end */
	LIE_CLOSE,
	LIE_RESET,
	LIE_SILENCE,
	LIE_TWICE,
	LIE_ERROR,
	LIE_CLIENT_ERROR,
	LIE_SERVER_ERROR,
	LIE_BUSY,
	LIE_LARGE,    /* a value of 2 MB */
	LIE_CRAWLING, /* stats say that somebody else lists the keys */
	LIES,
};

/* What they were started with. */
enum server_option {
	OPTION_NONE,
	OPTION_OLD, /* a version without the meta commands of today */
	OPTION_F,   /* every second one refuses flush_all */
	OPTION_C,   /* after a flush_all they drop what comes in its second */
};

/* age: which of the old versions. */
void servers_begin(unsigned int n, enum server_option option, unsigned int age);
void servers_end(void);

/* They know no meta commands of today. */
bool servers_are_old(void);

/* For world_begin(). */
enum world_accept servers_connected(unsigned int server, int end);

/* Each server that does not hang carries out so many commands at most on each
   connection.  Returns whether there was anything to do. */
bool servers_serve(unsigned int commands);

void servers_kill(unsigned int i);  /* its items are gone */
void servers_start(unsigned int i); /* if it was killed */
void servers_hang(unsigned int i, bool hangs);
void servers_drop(unsigned int i, bool reset); /* all its connections */
/* How it takes new connections. */
void servers_accept(unsigned int i, enum world_accept how);
void servers_lie(unsigned int i, enum lie lie);
bool servers_are_well(unsigned int i);

/* Whether an answer was given twice: what has no key in it may have come to the
   wrong call since, and nobody can notice. */
bool servers_told_twice(void);

/* What it holds. */
struct model;
const struct model *servers_model(unsigned int i);

/* All faults end. */
void servers_heal(void);

#endif
