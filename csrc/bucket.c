/* bucket.c: see bucket.h.  Integers only: a rate of 1 B/s and one of 100 GiB/s are both exact over any time. */
#include "bucket.h"

#include "bytes.h"
#include "clock.h"

/* The oldest time that may still be used. */
static uint64_t earliest_ns(uint64_t now_ns)
{
    return now_ns - ntx_min64(NTX_BUCKET_BURST_NS, now_ns);
}

void ntx_bucket_init(struct ntx_bucket *bucket, uint64_t rate_bytes_per_s, uint64_t now_ns)
{
    bucket->rate_bytes_per_s = ntx_min64(rate_bytes_per_s, NTX_BUCKET_MAX_RATE);
    bucket->free_at_ns = earliest_ns(now_ns);
    bucket->remainder = 0;
}

uint64_t ntx_bucket_take(struct ntx_bucket *bucket, uint64_t length, uint64_t now_ns)
{
    if (bucket->rate_bytes_per_s == 0)
        return 0;
    if (bucket->free_at_ns < earliest_ns(now_ns)) {
        bucket->free_at_ns = earliest_ns(now_ns);
        bucket->remainder = 0;
    }
    /* At most 2^34 * 1e9 + 2^40, which is below 2^64. */
    uint64_t units = ntx_min64(length, NTX_BUCKET_MAX_TAKE) * NTX_NS_PER_S + bucket->remainder;
    uint64_t cost_ns = units / bucket->rate_bytes_per_s;

    bucket->remainder = units % bucket->rate_bytes_per_s;
    bucket->free_at_ns += ntx_min64(cost_ns, UINT64_MAX - bucket->free_at_ns);
    return bucket->free_at_ns > now_ns ? bucket->free_at_ns - now_ns : 0;
}
