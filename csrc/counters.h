/* counters.h: what one worker counts of its work.  Written by that worker, read by anybody: plain relaxed stores do. */
#ifndef NTX_COUNTERS_H
#define NTX_COUNTERS_H

#include "clock.h"

#include <stdatomic.h>
#include <stdint.h>

struct ntx_counters {
    _Atomic uint64_t done, read, sent, stored, zeroed, skipped, unchanged, requests, retries;
    _Atomic uint64_t source_ns, digest_ns, packing_ns, target_ns, limit_ns, cpu_ns;
};

static inline void ntx_count(_Atomic uint64_t *counter, uint64_t add)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + add, memory_order_relaxed);
}

/* The time since *since goes to counter, and the next begins. */
static inline void ntx_spend(_Atomic uint64_t *counter, uint64_t *since)
{
    uint64_t now = ntx_now_ns();
    ntx_count(counter, now - *since);
    *since = now;
}

#endif
