/*
 * shared.h: what the threads of one job share, and the only lock among them.
 *
 *   lock ---- plan, bucket, pace, first error  (handed out, charged, chosen and kept under the lock)
 *   stop_fd   readable for ever once the job must stop: every poll() has it
 *   done_fd   tells the caller: hungry, or finished
 */
#ifndef NTX_SHARED_H
#define NTX_SHARED_H

#include "bucket.h"
#include "ntx.h"
#include "pace.h"
#include "plan.h"

#include <pthread.h>
#include <stdatomic.h>

/* Monotonic. */
uint64_t ntx_now_ns(void);

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

/* The time since *since goes to counter, and the next begins. */
static inline void ntx_spend(_Atomic uint64_t *counter, uint64_t *since)
{
    uint64_t now = ntx_now_ns();
    ntx_count(counter, now - *since);
    *since = now;
}

struct ntx_shared {
    struct ntx_job_options options; /* as chosen; the same for the life of the job */
    uint64_t size;                  /* of the disk */
    unsigned in_flight;             /* requests, and slots, per connection: the most there may be */

    pthread_mutex_t lock;
    pthread_cond_t more;      /* extents were fed, or the feed ended, or the job stops */
    struct ntx_plan plan;     /* lock */
    struct ntx_bucket bucket; /* lock */
    struct ntx_pace pace;     /* lock */
    struct ntx_error error;   /* lock: the first one */
    bool hungry_told;         /* lock */

    /* Workers have a rank, in the order in which they got their connections; those with a low one work. */
    unsigned connected, connecting; /* lock */
    bool was_short;                 /* lock: of extents, since the pace last looked */

    /* What the pace is now, and what it is told. */
    _Atomic unsigned active, window; /* workers of a lower rank work; slots that each may use */
    _Atomic bool starting;           /* the window may change at any time */
    _Atomic uint64_t turns, starved_ns, pace_due_ns;
    _Atomic uint64_t holding; /* a bit for each rank that has work */

    _Atomic bool stopping;
    int stop_fd, done_fd;
};

/* options, size, in_flight and pace.limits are filled in already.  Undone by ntx_shared_destroy(), also after a
 * failure. Errors: 0, -ENOMEM, -EMFILE. */
int ntx_shared_init(struct ntx_shared *shared, const struct ntx_item_bytes *item_bytes, struct ntx_error *err);
void ntx_shared_destroy(struct ntx_shared *shared);

/* For the feeder: see ntx_job_feed(). */
int ntx_shared_feed(struct ntx_shared *shared, const struct ntx_extent *extents, size_t count, size_t *taken,
                    struct ntx_error *err);
void ntx_shared_feed_end(struct ntx_shared *shared);
bool ntx_shared_is_hungry(struct ntx_shared *shared);

/* Next stretch of work for the worker of that rank; waits for the feed, and while no more workers than its rank are
 * active.  NTX_TAKE_WAIT only when may_wait is false, or the job stops. */
enum ntx_take ntx_shared_take(struct ntx_shared *shared, unsigned rank, struct ntx_item *item, bool may_wait);

/* The worker has no item any more. */
void ntx_shared_put_down(struct ntx_shared *shared, unsigned rank);

/* Wait until one more connection is wanted; false when there will be nothing to do for it.  After true, tell how it
 * went: with a rank, or not at all, and then the job goes on with those there are. */
bool ntx_shared_await_turn(struct ntx_shared *shared);
unsigned ntx_shared_is_connected(struct ntx_shared *shared);
void ntx_shared_is_refused(struct ntx_shared *shared);

/* Fill in what progress says of connections and requests in flight. */
void ntx_shared_get_pace(struct ntx_shared *shared, struct ntx_job_progress *progress);

/* Let the pace look at the counters, if it is time. */
void ntx_shared_look_at_pace(struct ntx_shared *shared, uint64_t now_ns);

/* Nanoseconds to wait before reading length bytes. */
uint64_t ntx_shared_charge(struct ntx_shared *shared, uint64_t length);

/* Record an error, if it is the first, and stop everybody. */
void ntx_shared_fail(struct ntx_shared *shared, const struct ntx_error *err);

#endif
