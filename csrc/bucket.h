/*
 * bucket.h: a rate limit, kept as one point in time instead of a level.
 *
 *      now - burst            now                 free_at
 *   -------|-------------------|--------------------|---------> ns
 *          <-- still unused ---><----- the wait ---->
 *
 * Everything taken so far occupies the line up to free_at, at the rate.  Taking moves free_at right by
 * length / rate; what lies right of now has to be waited for.  Time left unused is forgotten beyond the burst.
 * Waiting is the caller's, and so is the clock (monotonic, ns) and the lock, where threads share a bucket: take under
 * the lock, wait outside it.  Callers may run into debt, so that they queue in the order in which they took.
 */
#ifndef NTX_BUCKET_H
#define NTX_BUCKET_H

#include "ntx.h"

#define NTX_BUCKET_BURST_NS 100000000ull     /* unused time saved up: evens out a pause, never doubles a second */
#define NTX_BUCKET_MAX_RATE (1024 * NTX_GIB) /* bytes per second; a higher rate counts as this one */
#define NTX_BUCKET_MAX_TAKE (16 * NTX_GIB)   /* bytes in one go: length * 1e9 must fit 64 bits; more counts as this */

struct ntx_bucket {
    uint64_t rate_bytes_per_s; /* 0: no limit */
    uint64_t free_at_ns;       /* when all that was taken is paid for */
    uint64_t remainder;        /* fraction of a ns not waited for yet, in 1 / rate */
};

/* Begin, with the whole burst unused. */
void ntx_bucket_init(struct ntx_bucket *bucket, uint64_t rate_bytes_per_s, uint64_t now_ns);

/* Take length bytes and return how many ns to wait before moving them.  It is not taken again after the wait. */
uint64_t ntx_bucket_take(struct ntx_bucket *bucket, uint64_t length, uint64_t now_ns);

#endif
