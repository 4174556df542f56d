#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

/*
 * The world that the daemon runs in: its clock, its memory, its sockets and its
 * event loop, all of them inside this process.  The linker turns the daemon's
 * calls to the system to the functions __wrap_...() of world.c (see
 * scripts/fuzz); libevent is not linked, its functions are there, too.
 *
 * Nothing happens by itself: time moves only by world_advance(), and a turn of
 * the loop that would wait returns.
 *
 * The far end of a connection of the daemon is known by a number, 0 and up.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the script may change at any moment. */
struct world_knobs {
	size_t room;       /* bytes that a socket takes before it is full */
	size_t piece;      /* bytes of a recv() of the daemon at most */
	unsigned narrow;   /* for how many calls that holds */
	bool no_memory;    /* every allocation fails */
	int64_t countdown; /* the allocation that makes it 0 fails */
	bool no_files;     /* there are no descriptors left */
	unsigned signals;  /* so many of the next calls are interrupted */
};

enum world_accept { WORLD_ACCEPTS, WORLD_REFUSES, WORLD_SILENT };

extern struct world_knobs world_knobs;
extern bool world_is_loud; /* the daemon's log goes to stderr */

/* A new world; connected() is told of each connect() of the daemon, and decides
   on it.  server is the port less WORLD_PORT, or the digit behind the slash of
   a path. */
enum { WORLD_PORT = 30000 };
typedef enum world_accept world_connected(unsigned int server, int end);
void world_begin(world_connected *connected);
/* All sockets must be closed; what the daemon has left open is a finding. */
void world_end(void);

/* What the daemon does between these two happens in this world. */
void world_enter(void);
void world_leave(void);

int64_t world_now(void);     /* milliseconds */
int64_t world_seconds(void); /* since 1970 */
void world_advance(int64_t ms);
/* Milliseconds until the first timer of the daemon is due, at most these. */
int64_t world_next_timer(int64_t most);
/* Whether the last turn had nothing to do and would have waited. */
bool world_is_idle(void);

/* A connection to the daemon.  Returns its far end, or -1: nobody listens. */
int world_connect(void);
void world_send(int end, const char *bytes, size_t n);
void world_shut(int end); /* send no more */
void world_close(int end, bool reset);
/* Whether something has come from the daemon since world_received(). */
bool world_has_news(int end);
/* What has come from the daemon and was not dropped. */
const char *world_received(int end, size_t *n);
void world_drop(int end, size_t n);
/* The daemon sends no more, and all that it sent was dropped. */
bool world_has_ended(int end);
/* The same, but something may be left. */
bool world_sends_no_more(int end);
bool world_is_closed(int end); /* the daemon has no such connection */
/* The port of the daemon's side. */
unsigned int world_port_of(int end);

/* Connects that were not answered are refused. */
void world_refuse_silent(void);

/* Say what is wrong, and abort. */
void finding(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));

#endif
