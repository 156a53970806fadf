/*
 * reference.c: zero test and digest for bench/reference/paths.c, in place of the core's.
 *
 * What the engine is held against must not change with it: a slower kernel in csrc/ would slow both down, and the
 * ratio would hide it.  So this file is a copy, kept as it is.
 */
#include "../../csrc/digest.h"
#include "../../csrc/zero.h"

#include <string.h>
#include <xxhash.h>

#if defined(__x86_64__)
#define XXH_DISPATCH_DISABLE_REPLACE
#include <xxh_x86dispatch.h>
#define DIGEST XXH3_128bits_dispatch
#else
#define DIGEST XXH3_128bits
#endif

bool ntx_is_zero(const void *data, size_t length)
{
    static const uint8_t head[64];

    if (length < sizeof head)
        return memcmp(data, head, length) == 0;
    return memcmp(data, head, sizeof head) == 0 &&
           memcmp(data, (const uint8_t *)data + sizeof head, length - sizeof head) == 0;
}

void ntx_digest(const void *data, size_t length, uint8_t digest[NTX_DIGEST_SIZE])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, DIGEST(data, length));
    memcpy(digest, canonical.digest, NTX_DIGEST_SIZE);
}
