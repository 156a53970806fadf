/* limiter.c: see limiter.h. */
#include "limiter.h"

#include "bytes.h"
#include "clock.h"
#include "error.h"

#include <errno.h>
#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------- dividing */

static uint64_t rate_of(const struct ntx_limiter *limiter)
{
    return atomic_load_explicit(&limiter->rate_bytes_per_s, memory_order_relaxed);
}

/* What the rate brings in a part of a second. */
static uint64_t bytes_in(const struct ntx_limiter *limiter, uint64_t time_ns)
{
    return rate_of(limiter) / (NTX_NS_PER_S / time_ns);
}

/* How much a share can take: what its claims lack, and its reserve. */
static uint64_t room_locked(const struct ntx_share *share)
{
    uint64_t reserve = bytes_in(share->limiter, NTX_LIMITER_RESERVE_NS);
    return share->lacks + reserve - ntx_min64(reserve, share->reserve);
}

static unsigned count_with_room_locked(const struct ntx_limiter *limiter)
{
    unsigned count = 0;
    for (const struct ntx_share *share = limiter->shares; share != NULL; share = share->next)
        count += room_locked(share) > 0;
    return count;
}

/* Fill the claims of a share in their order, then its reserve. */
static void fill_locked(struct ntx_share *share, uint64_t bytes)
{
    for (struct ntx_claim *claim = share->claims; bytes > 0 && claim != NULL; claim = claim->next) {
        uint64_t part = ntx_min64(bytes, claim->length - claim->filled);
        claim->filled += part;
        share->lacks -= part;
        bytes -= part;
    }
    share->reserve += bytes;
}

/* Divide what is saved among the shares that have room.  Fewer bytes than shares are kept: the first in the list would
 * get more than the last. */
static void divide_locked(struct ntx_limiter *limiter)
{
    unsigned count;
    while ((count = count_with_room_locked(limiter)) > 0 && limiter->saved >= count) {
        uint64_t part = limiter->saved / count;
        for (struct ntx_share *share = limiter->shares; share != NULL; share = share->next) {
            uint64_t given = ntx_min64(part, room_locked(share));
            fill_locked(share, given);
            limiter->saved -= given;
        }
    }
    if (count == 0)
        limiter->saved = ntx_min64(limiter->saved, bytes_in(limiter, NTX_LIMITER_BURST_NS));
}

/* Turn the time that has passed into bytes. */
static void settle_locked(struct ntx_limiter *limiter, uint64_t now_ns)
{
    if (now_ns <= limiter->settled_ns) /* threads read the clock before they have the lock */
        return;
    /* Who waits asks more often than that; below 2^64, by the highest rate. */
    uint64_t passed_ns = ntx_min64(now_ns - limiter->settled_ns, NTX_LIMITER_BURST_NS);
    uint64_t units = passed_ns * rate_of(limiter) + limiter->remainder;
    limiter->settled_ns = now_ns;
    limiter->saved += units / NTX_NS_PER_S;
    limiter->remainder = units % NTX_NS_PER_S;
    divide_locked(limiter);
}

/* -------------------------------------------------------------------------------------------- the limiter */

void ntx_limiter_init(struct ntx_limiter *limiter, uint64_t rate_bytes_per_s, uint64_t now_ns)
{
    *limiter = (struct ntx_limiter){.settled_ns = now_ns};
    ntx_cpu_bucket_init(&limiter->cpu);
    pthread_mutex_init(&limiter->lock, NULL);
    atomic_store(&limiter->rate_bytes_per_s, ntx_min64(rate_bytes_per_s, NTX_LIMITER_MAX_RATE));
}

void ntx_limiter_destroy(struct ntx_limiter *limiter)
{
    ntx_cpu_bucket_destroy(&limiter->cpu);
    pthread_mutex_destroy(&limiter->lock);
}

void ntx_limiter_change(struct ntx_limiter *limiter, uint64_t rate_bytes_per_s, uint64_t now_ns)
{
    pthread_mutex_lock(&limiter->lock);
    settle_locked(limiter, now_ns);
    atomic_store(&limiter->rate_bytes_per_s, ntx_min64(rate_bytes_per_s, NTX_LIMITER_MAX_RATE));
    limiter->remainder = 0;
    /* A lower rate saves less. */
    for (struct ntx_share *share = limiter->shares; share != NULL; share = share->next)
        share->reserve = ntx_min64(share->reserve, bytes_in(limiter, NTX_LIMITER_RESERVE_NS));
    divide_locked(limiter);
    pthread_mutex_unlock(&limiter->lock);
}

int ntx_limiter_new(uint64_t rate_bytes_per_s, struct ntx_limiter **result, struct ntx_error *err)
{
    struct ntx_limiter *limiter = malloc(sizeof *limiter);
    *result = limiter;
    if (limiter == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for a rate limit");
    ntx_limiter_init(limiter, rate_bytes_per_s, ntx_now_ns());
    return 0;
}

void ntx_limiter_set_rate(struct ntx_limiter *limiter, uint64_t rate_bytes_per_s)
{
    ntx_limiter_change(limiter, rate_bytes_per_s, ntx_now_ns());
}

void ntx_limiter_set_cpu_share(struct ntx_limiter *limiter, uint64_t share_ppm)
{
    ntx_cpu_bucket_change(&limiter->cpu, share_ppm, ntx_now_ns(), ntx_process_cpu_ns());
}

void ntx_limiter_tell_others_cpu(struct ntx_limiter *limiter, uint64_t taken_ns)
{
    atomic_store(&limiter->cpu.others_ns, taken_ns);
}

void ntx_limiter_free(struct ntx_limiter *limiter)
{
    if (limiter == NULL)
        return;
    ntx_limiter_destroy(limiter);
    free(limiter);
}

/* ------------------------------------------------------------------------------------------------- shares */

void ntx_share_join(struct ntx_share *share, struct ntx_limiter *limiter)
{
    *share = (struct ntx_share){.limiter = limiter};
    if (limiter == NULL)
        return;
    pthread_mutex_lock(&limiter->lock);
    share->next = limiter->shares;
    limiter->shares = share;
    pthread_mutex_unlock(&limiter->lock);
}

void ntx_share_leave(struct ntx_share *share)
{
    struct ntx_limiter *limiter = share->limiter;
    if (limiter == NULL)
        return;
    pthread_mutex_lock(&limiter->lock);
    struct ntx_share **at = &limiter->shares;
    while (*at != share)
        at = &(*at)->next;
    *at = share->next;
    limiter->saved += share->reserve;
    divide_locked(limiter);
    pthread_mutex_unlock(&limiter->lock);
}

uint64_t ntx_share_cpu_wait_ns(const struct ntx_share *share)
{
    if (share->limiter == NULL || ntx_cpu_bucket_is_unlimited(&share->limiter->cpu))
        return 0;
    return ntx_cpu_bucket_ask(&share->limiter->cpu, ntx_now_ns(), ntx_process_cpu_ns());
}

static void add_claim_locked(struct ntx_share *share, struct ntx_claim *claim, uint64_t length)
{
    *claim = (struct ntx_claim){.length = length, .filled = ntx_min64(share->reserve, length), .is_waiting = true};
    share->reserve -= claim->filled;
    share->lacks += length - claim->filled;
    struct ntx_claim **at = &share->claims;
    while (*at != NULL)
        at = &(*at)->next;
    *at = claim;
}

static void remove_claim_locked(struct ntx_share *share, struct ntx_claim *claim)
{
    struct ntx_claim **at = &share->claims;
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
    share->lacks -= claim->length - claim->filled;
    claim->is_waiting = false;
}

/* How long it takes, as things are, to fill the claim and those before it. */
static uint64_t wait_ns_locked(const struct ntx_share *share, const struct ntx_claim *claim)
{
    uint64_t lacks = 0;
    for (const struct ntx_claim *each = share->claims; each != claim->next; each = each->next)
        lacks += each->length - each->filled;
    uint64_t of_all = lacks * count_with_room_locked(share->limiter);
    if (of_all >= bytes_in(share->limiter, NTX_LIMITER_MAX_WAIT_NS))
        return NTX_LIMITER_MAX_WAIT_NS;
    return (uint64_t)((double)of_all * NTX_NS_PER_S / (double)rate_of(share->limiter)) + 1;
}

uint64_t ntx_share_take(struct ntx_share *share, struct ntx_claim *claim, uint64_t length, uint64_t now_ns)
{
    struct ntx_limiter *limiter = share->limiter;
    uint64_t wait_ns = 0;
    pthread_mutex_lock(&limiter->lock);
    settle_locked(limiter, now_ns);
    if (!claim->is_waiting) {
        add_claim_locked(share, claim, length);
        divide_locked(limiter);
    }
    if (rate_of(limiter) > 0 && claim->filled < claim->length)
        wait_ns = wait_ns_locked(share, claim);
    else
        remove_claim_locked(share, claim);
    pthread_mutex_unlock(&limiter->lock);
    return wait_ns;
}

void ntx_share_withdraw(struct ntx_share *share, struct ntx_claim *claim)
{
    struct ntx_limiter *limiter = share->limiter;
    if (limiter == NULL)
        return;
    pthread_mutex_lock(&limiter->lock);
    if (claim->is_waiting) {
        remove_claim_locked(share, claim);
        limiter->saved += claim->filled;
        divide_locked(limiter);
    }
    pthread_mutex_unlock(&limiter->lock);
}
