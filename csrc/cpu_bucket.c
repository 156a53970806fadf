/* cpu_bucket.c: see cpu_bucket.h. */
#include "cpu_bucket.h"

#include "bytes.h"
#include "clock.h"

#define PPM 1000000ull
#define LONGEST_NS (3600 * NTX_NS_PER_S) /* after that nothing is owed; its product with a share stays below 2^63 */

static uint64_t share_of(const struct ntx_cpu_bucket *bucket)
{
    return atomic_load_explicit(&bucket->share_ppm, memory_order_relaxed);
}

static uint64_t part_of(const struct ntx_cpu_bucket *bucket, uint64_t time_ns)
{
    return time_ns / 1000 * share_of(bucket) / (PPM / 1000);
}

static uint64_t taken_by_all(const struct ntx_cpu_bucket *bucket, uint64_t process_ns)
{
    return process_ns + atomic_load_explicit(&bucket->others_ns, memory_order_relaxed);
}

static void settle_locked(struct ntx_cpu_bucket *bucket, uint64_t now_ns, uint64_t process_ns)
{
    uint64_t taken_ns = taken_by_all(bucket, process_ns);

    if (taken_ns > bucket->taken_ns) { /* threads read the clocks before they have the lock */
        bucket->saved_ns -= (int64_t)(taken_ns - bucket->taken_ns);
        bucket->taken_ns = taken_ns;
    }
    if (now_ns > bucket->settled_ns) {
        int64_t burst_ns = (int64_t)part_of(bucket, NTX_CPU_BURST_NS);
        bucket->saved_ns += (int64_t)part_of(bucket, ntx_min64(now_ns - bucket->settled_ns, LONGEST_NS));
        bucket->settled_ns = now_ns;
        if (bucket->saved_ns > burst_ns)
            bucket->saved_ns = burst_ns;
    }
}

void ntx_cpu_bucket_init(struct ntx_cpu_bucket *bucket)
{
    *bucket = (struct ntx_cpu_bucket){0};
    pthread_mutex_init(&bucket->lock, NULL);
}

void ntx_cpu_bucket_destroy(struct ntx_cpu_bucket *bucket)
{
    pthread_mutex_destroy(&bucket->lock);
}

void ntx_cpu_bucket_change(struct ntx_cpu_bucket *bucket, uint64_t share_ppm, uint64_t now_ns, uint64_t process_ns)
{
    pthread_mutex_lock(&bucket->lock);
    atomic_store(&bucket->share_ppm, ntx_min64(share_ppm, NTX_CPU_MAX_SHARE_PPM));
    bucket->settled_ns = now_ns;
    bucket->taken_ns = taken_by_all(bucket, process_ns);
    bucket->saved_ns = 0;
    pthread_mutex_unlock(&bucket->lock);
}

uint64_t ntx_cpu_bucket_ask(struct ntx_cpu_bucket *bucket, uint64_t now_ns, uint64_t process_ns)
{
    uint64_t wait_ns = 0;

    pthread_mutex_lock(&bucket->lock);
    settle_locked(bucket, now_ns, process_ns);
    if (share_of(bucket) > 0 && bucket->saved_ns < 0) {
        double owed_ns = (double)-bucket->saved_ns * (double)PPM / (double)share_of(bucket);
        wait_ns = owed_ns < (double)NTX_CPU_MAX_WAIT_NS ? (uint64_t)owed_ns + 1 : NTX_CPU_MAX_WAIT_NS;
    }
    pthread_mutex_unlock(&bucket->lock);
    return wait_ns;
}
