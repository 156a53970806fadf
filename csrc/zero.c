/*
 * zero.c: see zero.h.
 *
 *   memcmp kernel:   |-head-|------------ rest ------------|     the head is zero, and every byte equals
 *                           |-head-|------ rest -----------|     the one a head's length before it
 *
 * libc's memcmp() is vectorised for the processor at hand, so this one needs no instructions of our own.
 */
#include "zero.h"

#include <string.h>

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

static const struct ntx_zero_kernel KERNELS[] = {
    {.name = "memcmp", .is_supported = NULL, .is_zero = is_zero_memcmp},
    {.name = "scalar", .is_supported = NULL, .is_zero = ntx_is_zero_scalar},
};

const struct ntx_zero_kernel *ntx_zero_kernels(size_t *count)
{
    *count = sizeof KERNELS / sizeof KERNELS[0];
    return KERNELS;
}

bool ntx_is_zero(const void *data, size_t length)
{
    const struct ntx_zero_kernel *kernel = KERNELS;

    while (kernel->is_supported != NULL && !kernel->is_supported())
        kernel++;
    return kernel->is_zero(data, length);
}
