/*
 * pace.h: how many requests are kept in flight, from what the threads see.
 *
 *   STARTING   a round of answers, then twice as many in flight, as long as that is worth it
 *   STEADY     rest; then try twice as many if the threads wait for answers, or half if there are more than at first
 *   TRYING     keep what was tried if the rate says so, else go back and rest twice as long as before
 *
 * Bytes in flight = rate x latency: less leaves the ends idle, more only takes memory and cache.  Neither factor can
 * be known beforehand, so the rate that each window gives is compared.  One window is for all connections: another
 * connection is used when those in use have `depth` requests each.
 *
 * A turn is one buffer filled and emptied.  Starved is the time that threads waited with their window full.
 * No clock and no lock here: the caller passes the time and holds the lock.
 */
#ifndef NTX_PACE_H
#define NTX_PACE_H

#include "ntx.h"

struct ntx_pace_limits {
    unsigned first_connections, most_connections; /* 1 <= first <= most */
    unsigned depth;                               /* requests of one connection before there is another */
    unsigned first_window, most_window;           /* requests of all connections, 1 <= first <= most; equal: pinned */
};

struct ntx_pace {
    struct ntx_pace_limits limits;
    unsigned window; /* now */
    enum ntx_pace_why why;

    enum { NTX_PACE_STARTING, NTX_PACE_STEADY, NTX_PACE_TRYING } state;
    unsigned good_window;       /* to go back to; the same as window when nothing is being tried */
    uint64_t good_rate;         /* turns/s that it gave; 0: not known yet */
    bool settling;              /* answers to the window before are still coming */
    bool lower_next;            /* raising and lowering are tried in turn */
    unsigned rest, longer_rest; /* epochs until the next try, and after it has failed */

    uint64_t epoch_ns, epoch_turns, epoch_starved_ns; /* where the epoch began */
};

void ntx_pace_init(struct ntx_pace *pace, const struct ntx_pace_limits *limits, uint64_t now_ns);

/* Look at the counters so far; true when the window was changed. */
bool ntx_pace_tick(struct ntx_pace *pace, uint64_t now_ns, uint64_t turns, uint64_t starved_ns);

/* Connections to use now, and requests of each. */
unsigned ntx_pace_connections(const struct ntx_pace *pace);
unsigned ntx_pace_in_flight(const struct ntx_pace *pace);

enum ntx_pace_why ntx_pace_why(const struct ntx_pace *pace);

/* The most that ntx_pace_in_flight() may ever be. */
unsigned ntx_pace_most_in_flight(const struct ntx_pace_limits *limits);

/* No more than count connections can be had. */
void ntx_pace_limit_connections(struct ntx_pace *pace, unsigned count);

#endif
