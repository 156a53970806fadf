/*
 * limiter.h: one rate limit for every job that shares it, and one of the processor time of the process (cpu_bucket.h).
 *
 *   time --rate--> bytes --+-- equal parts --> share (a job) --+-- in the order of asking --> claim (a thread)
 *                          |                                   `-- no claim lacks any --> reserve, at most 10 ms
 *                          `-- nobody has room --> saved, at most a burst
 *
 * Whatever time brings goes to the jobs that lack bytes, in equal parts: not more to one that has more threads, or
 * larger requests, and not less to one whose threads come late for what they claim, which is what the reserve is for.
 * What one cannot use the others get.  A claim that is filled is its thread's.
 *
 * Bytes move when all of them are paid for, so that a request may be larger than the burst, and the limit is never
 * exceeded.  Waiting is the caller's, and so is the clock (monotonic, ns).
 */
#ifndef NTX_LIMITER_H
#define NTX_LIMITER_H

#include "cpu_bucket.h"
#include "ntx.h"

#include <pthread.h>
#include <stdatomic.h>

#define NTX_LIMITER_BURST_NS 100000000ull    /* time that is saved up: evens out a pause, never doubles a second */
#define NTX_LIMITER_RESERVE_NS 10000000ull   /* time of the whole rate that a share may keep */
#define NTX_LIMITER_MAX_WAIT_NS 50000000ull  /* then ask again: the rate may have changed */
#define NTX_LIMITER_MAX_RATE (128 * NTX_GIB) /* bytes per second; a higher rate counts as this one */

/* What one thread asks for.  All zero: it waits for nothing. */
struct ntx_claim {
    uint64_t length, filled;
    bool is_waiting; /* in the list of its share */
    struct ntx_claim *next;
};

struct ntx_share {
    struct ntx_limiter *limiter; /* NULL: no limit */
    uint64_t lacks;              /* bytes that its claims lack */
    uint64_t reserve;            /* bytes for its next claim */
    struct ntx_claim *claims;    /* in the order of asking */
    struct ntx_share *next;
};

struct ntx_limiter {
    _Atomic uint64_t rate_bytes_per_s; /* written under the lock; 0: no limit */
    struct ntx_cpu_bucket cpu;

    pthread_mutex_t lock;
    struct ntx_share *shares; /* lock */
    uint64_t settled_ns;      /* lock: until then time has become bytes, */
    uint64_t remainder;       /* lock: but for this, in 1e-9 bytes */
    uint64_t saved;           /* lock: bytes that nobody lacks, or too few to be divided */
};

/* As ntx_limiter_new() and ntx_limiter_set_rate(), at a time. */
void ntx_limiter_init(struct ntx_limiter *limiter, uint64_t rate_bytes_per_s, uint64_t now_ns);
void ntx_limiter_destroy(struct ntx_limiter *limiter);
void ntx_limiter_change(struct ntx_limiter *limiter, uint64_t rate_bytes_per_s, uint64_t now_ns);

/* Let a job take part, until ntx_share_leave().  limiter may be NULL. */
void ntx_share_join(struct ntx_share *share, struct ntx_limiter *limiter);
void ntx_share_leave(struct ntx_share *share);

/* Whether there is no limit of the rate now.  No lock. */
static inline bool ntx_share_is_unlimited(const struct ntx_share *share)
{
    return share->limiter == NULL || atomic_load_explicit(&share->limiter->rate_bytes_per_s, memory_order_relaxed) == 0;
}

/* Whether the processor time lets a job go on: 0, or the ns after which to ask again.  No lock where there is no limit.
 */
uint64_t ntx_share_cpu_wait_ns(const struct ntx_share *share);

/*
 * Ask whether length bytes may move.  0: they may, and are paid for.  Else the ns after which to ask again, for the
 * same length: the claim keeps its place and what it has got until then.  Only where there is a limiter.
 */
uint64_t ntx_share_take(struct ntx_share *share, struct ntx_claim *claim, uint64_t length, uint64_t now_ns);

/* Ask no more: what the claim has got is for others. */
void ntx_share_withdraw(struct ntx_share *share, struct ntx_claim *claim);

#endif
