/*
 * digest.c: XXH3-128 by the system's libxxhash, which chooses its vector kernel at run time on x86-64.
 *
 * The choice is the library's and it does not tell which; ntx_digest_kernel() asks the processor the same
 * questions in the same order.
 */
#include "digest.h"

#include <string.h>
#include <xxhash.h>

#if defined(__x86_64__) && defined(__has_include) && !defined(NTX_PLAIN_KERNELS)
#if __has_include(<xxh_x86dispatch.h>)
#define XXH_DISPATCH_DISABLE_REPLACE /* the plain names stay what they are: the reference needs them */
#include <xxh_x86dispatch.h>
#define HAS_DISPATCH 1
#endif
#endif

static void store(XXH128_hash_t hash, uint8_t digest[NTX_DIGEST_SIZE])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(digest, canonical.digest, NTX_DIGEST_SIZE);
}

void ntx_digest_reference(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE])
{
    store(XXH3_128bits(data, length), digest);
}

#ifdef HAS_DISPATCH

void ntx_digest(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE])
{
    store(XXH3_128bits_dispatch(data, length), digest);
}

const char *ntx_digest_kernel(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return "avx512";
    if (__builtin_cpu_supports("avx2"))
        return "avx2";
    return "sse2"; /* part of every x86-64 */
}

const char *ntx_digest_kernel_reason(void)
{
    return "libxxhash takes the best that the processor has";
}

#else

void ntx_digest(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE])
{
    ntx_digest_reference(data, length, digest);
}

const char *ntx_digest_kernel(void)
{
    return "build default";
}

const char *ntx_digest_kernel_reason(void)
{
    return "libxxhash has no choice of its own for this processor";
}

#endif

unsigned ntx_digest_library_version(void)
{
    return XXH_versionNumber();
}
