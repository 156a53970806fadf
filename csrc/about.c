/* about.c: what was found on this machine and chosen, for people who ask why it is fast or slow. */
#include "device_ring.h"
#include "digest.h"
#include "stream_plain.h"
#include "zero.h"

static bool can_read_in_flight(void)
{
    struct ntx_ring *ring = ntx_ring_new();

    ntx_ring_free(ring);
    return ring != NULL;
}

void ntx_about(struct ntx_about *about)
{
    const struct ntx_zero_kernel *zero = ntx_zero_kernel();

    *about = (struct ntx_about){
        .zero_kernel = zero->name,
        .zero_reason = zero->reason,
        .digest_kernel = ntx_digest_kernel(),
        .digest_reason = ntx_digest_kernel_reason(),
        .xxhash_version = ntx_digest_library_version(),
        .can_send_by_reference = ntx_stream_plain_sends_by_reference(),
        .can_read_in_flight = can_read_in_flight(),
    };
#if defined(__x86_64__)
    about->has_sse2 = __builtin_cpu_supports("sse2");
    about->has_avx2 = __builtin_cpu_supports("avx2");
    about->has_avx512f = __builtin_cpu_supports("avx512f");
#endif
}
