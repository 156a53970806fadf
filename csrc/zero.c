/*
 * zero.c: see zero.h.
 *
 *   memcmp kernel:   |-head-|------------ rest ------------|     the head is zero, and every byte equals
 *                           |-head-|------ rest -----------|     the one a head's length before it
 *
 *   avx2 kernel:     |-chunk-|-chunk-|-chunk-|-- less -----|     the bits of a chunk, or-ed, are none;
 *                                            |--memcmp-----|     what is left is memcmp's
 *
 * libc's memcmp() is vectorised for the processor at hand, so it needs no instructions of our own; but it reads
 * everything twice, which costs where the block is in the cache (bench/notes/zero.md).
 */
#include "zero.h"

#include <string.h>

#if defined(__x86_64__) && !defined(NTX_PLAIN_KERNELS) /* defined by the test of what other processors run */
#include <immintrin.h>
#define HAS_AVX2 1
#endif

#define PAGE_SIZE 4096
#define HEAD_SIZE 64 /* a cache line: both sides of the comparison stay equally aligned */

const uint8_t ntx_zeros[NTX_BLOCK_SIZE] __attribute__((aligned(PAGE_SIZE))) = {0};

bool ntx_is_zero_scalar(const void *data, size_t length)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < length; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static bool is_zero_memcmp(const void *data, size_t length)
{
    const uint8_t *bytes = data;

    if (length < HEAD_SIZE)
        return ntx_is_zero_scalar(data, length);
    for (size_t i = 0; i < HEAD_SIZE; i += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, bytes + i, sizeof word);
        if (word != 0)
            return false;
    }
    return memcmp(bytes, bytes + HEAD_SIZE, length - HEAD_SIZE) == 0;
}

#ifdef HAS_AVX2

#define CHUNK_SIZE 256 /* enough loads at once to keep the cache busy, one test for all of them */

__attribute__((target("avx2"))) static bool is_zero_avx2(const void *data, size_t length)
{
    const uint8_t *bytes = data;
    size_t at = 0;

    for (; length - at >= CHUNK_SIZE; at += CHUNK_SIZE) {
        const __m256i *v = (const __m256i *)(bytes + at);
        __m256i low = (_mm256_loadu_si256(v) | _mm256_loadu_si256(v + 1)) |
                      (_mm256_loadu_si256(v + 2) | _mm256_loadu_si256(v + 3));
        __m256i high = (_mm256_loadu_si256(v + 4) | _mm256_loadu_si256(v + 5)) |
                       (_mm256_loadu_si256(v + 6) | _mm256_loadu_si256(v + 7));
        __m256i any = low | high;

        if (!_mm256_testz_si256(any, any))
            return false;
    }
    return is_zero_memcmp(bytes + at, length - at);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2"); /* by the processor, and by the kernel, which must save the registers */
}

#endif

enum {
#ifdef HAS_AVX2
    AVX2,
#endif
    MEMCMP,
    SCALAR,
    KERNEL_COUNT,
};

static const struct ntx_zero_kernel KERNELS[KERNEL_COUNT] = {
#ifdef HAS_AVX2
    [AVX2] = {.name = "avx2", .reason = "the processor has AVX2", .is_supported = has_avx2, .is_zero = is_zero_avx2},
#endif
    [MEMCMP] = {.name = "memcmp",
                .reason = "libc's, which chooses its own instructions; we have none for this processor",
                .is_zero = is_zero_memcmp},
    [SCALAR] = {.name = "scalar", .reason = "the reference of the tests", .is_zero = ntx_is_zero_scalar},
};

const struct ntx_zero_kernel *ntx_zero_kernels(size_t *count)
{
    *count = KERNEL_COUNT;
    return KERNELS;
}

/* libgcc asked the processor when it was loaded: this is the test of one bit, and needs no memory of ours. */
const struct ntx_zero_kernel *ntx_zero_kernel(void)
{
#ifdef HAS_AVX2
    if (has_avx2())
        return &KERNELS[AVX2];
#endif
    return &KERNELS[MEMCMP];
}

bool ntx_is_zero(const void *data, size_t length)
{
    return ntx_zero_kernel()->is_zero(data, length);
}
