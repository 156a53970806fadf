/*
 * job.h: what the threads of one job share.
 *
 *   job ---- lock ---- plan, bucket, first error, running count      (handed out and charged under the lock)
 *    |
 *    +------ worker 1 .. N: thread, connection to each end, slots, requests, counters   (nobody else's)
 *    +------ stop_fd: readable for ever once the job must stop; every poll() has it
 *    +------ done_fd: tells the caller (hungry, finished)
 */
#ifndef NTX_JOB_H
#define NTX_JOB_H

#include "bucket.h"
#include "device.h"
#include "ntx.h"
#include "plan.h"

#include <pthread.h>
#include <stdatomic.h>

/* Written by one worker, read by anybody: plain relaxed stores do. */
struct ntx_counters {
    _Atomic uint64_t done, read, sent, zeroed, skipped, unchanged, requests, retries;
    _Atomic uint64_t source_ns, digest_ns, target_ns, limit_ns, cpu_ns;
};

static inline void ntx_count(_Atomic uint64_t *counter, uint64_t add)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + add, memory_order_relaxed);
}

struct ntx_worker;

struct ntx_job {
    struct ntx_job_options options;
    struct ntx_device *source, *target; /* worker 1's, borrowed */
    uint64_t size;                      /* of the disk */
    unsigned in_flight;                 /* requests, and slots, per connection */
    unsigned worker_count;
    struct ntx_worker *workers;

    pthread_mutex_t lock;
    pthread_cond_t more;      /* extents were fed, or the feed ended, or the job stops */
    struct ntx_plan plan;     /* lock */
    struct ntx_bucket bucket; /* lock */
    struct ntx_error error;   /* lock: the first one */
    unsigned running;         /* lock: threads that have not ended */
    bool hungry_told;         /* lock */

    _Atomic bool stopping;
    _Atomic unsigned connected; /* workers that got their connections */
    _Atomic bool finished, flushed;
    bool started, joined;
    int stop_fd, done_fd;

    /* After the last thread ended. */
    bool all_unacknowledged;
    struct ntx_extent *unacknowledged;
    size_t unacknowledged_count;
};

/* For workers. */
uint64_t ntx_now_ns(void);

/* Next stretch of work; waits for the feed.  NTX_TAKE_WAIT only when may_wait is false. */
enum ntx_take ntx_job_take(struct ntx_job *job, struct ntx_item *item, bool may_wait);

/* Nanoseconds to wait before reading length bytes. */
uint64_t ntx_job_charge(struct ntx_job *job, uint64_t length);

/* Record an error, if it is the first, and stop everybody. */
void ntx_job_fail(struct ntx_job *job, const struct ntx_error *err);

#endif
