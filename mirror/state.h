#ifndef STATE_H
#define STATE_H

/*
 * Take a peer from one state to the next one.
 */

#include <stdint.h>

#include "mirror/peer.h"

/*
 * The peer gets into this state, which may follow the one that it is in, at
 * now_ms, milliseconds of the monotonic clock.  Its partners and bonds know it
 * when this returns.  Whoever has waited at the gate for a server that was
 * STARTING may begin in here.  Nothing happens if it is in that state.
 */
void state_set(struct peer *peer, enum peer_state state, int64_t now_ms);

#endif
