/*
 * pace.h: how many requests are kept in flight, from what the threads see.
 *
 *   STARTING   a round of answers, then twice or four times as many in flight, as long as that is worth it; four times
 *              as many also when the first answer does not come for some milliseconds
 *   STEADY     rest; then try twice as many if the threads wait for answers, or half if there are more than at first
 *   TRYING     keep what was tried if the rate says so, else go back and rest twice as long as before
 *
 * Bytes in flight = rate x latency: less leaves the ends idle, more only takes memory and cache.  Neither factor can
 * be known beforehand, so the rates of different numbers of requests are compared.  The number is of all connections
 * together: another connection is used when those in use have `depth` requests each.
 *
 * No clock and no lock here: the caller passes the time and holds the lock.
 */
#ifndef NTX_PACE_H
#define NTX_PACE_H

#include "ntx.h"

struct ntx_pace_limits {
    unsigned first_connections, most_connections; /* 1 <= first <= most */
    unsigned depth;                               /* requests of one connection before there is another */
    unsigned most_in_flight;                      /* requests of one connection at most */
    unsigned first_requests, most_requests;       /* requests of all connections, 1 <= first <= most; equal: pinned */
};

struct ntx_pace {
    struct ntx_pace_limits limits;
    unsigned requests; /* of all connections, now */
    enum ntx_pace_why why;

    enum { NTX_PACE_STARTING, NTX_PACE_STEADY, NTX_PACE_TRYING } state;
    unsigned good_requests;     /* to go back to; the same as requests when nothing is being tried */
    uint64_t good_rate;         /* completions/s that it gave; 0: not known yet */
    unsigned draining;          /* answers to what was asked for before, which are not counted */
    bool lower_next;            /* raising and lowering are tried in turn */
    unsigned rest, longer_rest; /* epochs until the next try, and after it has failed */

    uint64_t epoch_ns, epoch_completions, epoch_waiting_ns; /* where the epoch began; 0: there was none */

    uint64_t silent_ns; /* since when nothing was answered */
    unsigned silent_looks;
};

/* What the threads have seen so far. */
struct ntx_pace_seen {
    uint64_t completions; /* buffers filled and emptied */
    uint64_t waiting_ns;  /* that threads waited for answers, with every slot in use that they may use */
    unsigned connections; /* that work */
    bool is_settled;      /* those that should work do, and no others, and they had enough to do */
};

void ntx_pace_init(struct ntx_pace *pace, const struct ntx_pace_limits *limits);

/* Judge what was seen; true when the number of requests was changed.  The first call begins the first epoch. */
bool ntx_pace_tick(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen);

/* Connections to use now, and requests of each: also while others connect, or there would be more in flight than is
 * counted with until the last one has had its answers.
 * LIMIT: while one hangs in its handshake, the others stay at their part of the requests. */
unsigned ntx_pace_connections(const struct ntx_pace *pace);
unsigned ntx_pace_in_flight(const struct ntx_pace *pace);

enum ntx_pace_why ntx_pace_why(const struct ntx_pace *pace);

/* The number of requests may grow at any time: threads that wait should look for it. */
bool ntx_pace_is_starting(const struct ntx_pace *pace);

/* The most that one connection can come to when all are there: what it needs buffers for. */
unsigned ntx_pace_most_in_flight(const struct ntx_pace_limits *limits);

/* Connections that there are when all requests are in flight: more are never wanted. */
unsigned ntx_pace_most_connections(const struct ntx_pace_limits *limits);

/* No more than count connections can be had. */
void ntx_pace_limit_connections(struct ntx_pace *pace, unsigned count);

#endif
