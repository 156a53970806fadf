/*
 * cpu_bucket.h: how much processor time a process, and what it has started, may take.
 *
 *   time --share--> processor time that is saved, at most a burst  --> what was taken, as it is measured
 *
 * What is begun takes what it takes, which is known only afterwards: so what is saved may become less than nothing, and
 * then nothing is begun until time has made up for it.  Over a minute the share holds; within a second it need not.
 * Waiting is the caller's, and so are the clocks (ns).
 */
#ifndef NTX_CPU_BUCKET_H
#define NTX_CPU_BUCKET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NTX_CPU_BURST_NS 1000000000ull   /* time whose part may be saved up */
#define NTX_CPU_MAX_WAIT_NS 50000000ull  /* then ask again: the share may have changed */
#define NTX_CPU_MAX_SHARE_PPM 1000000000 /* a thousand processors; a larger share counts as this one */

struct ntx_cpu_bucket {
    _Atomic uint64_t share_ppm; /* of one processor; written under the lock; 0: no limit */
    _Atomic uint64_t others_ns; /* what others took on our behalf, as it was told */

    pthread_mutex_t lock;
    uint64_t settled_ns; /* lock: until then time has become processor time, */
    uint64_t taken_ns;   /* lock: and this was taken, by all */
    int64_t saved_ns;    /* lock */
};

void ntx_cpu_bucket_init(struct ntx_cpu_bucket *bucket);
void ntx_cpu_bucket_destroy(struct ntx_cpu_bucket *bucket);

/* Change the share; what was saved or owed until now is forgotten. */
void ntx_cpu_bucket_change(struct ntx_cpu_bucket *bucket, uint64_t share_ppm, uint64_t now_ns, uint64_t process_ns);

/* Whether there is no limit now.  No lock. */
static inline bool ntx_cpu_bucket_is_unlimited(const struct ntx_cpu_bucket *bucket)
{
    return atomic_load_explicit(&bucket->share_ppm, memory_order_relaxed) == 0;
}

/* Ask whether something may be begun.  0: it may; else the ns after which to ask again.  process_ns: what this process
 * has taken so far. */
uint64_t ntx_cpu_bucket_ask(struct ntx_cpu_bucket *bucket, uint64_t now_ns, uint64_t process_ns);

#endif
