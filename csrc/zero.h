/*
 * zero.h: the kernels behind ntx_is_zero(), for the tests that compare them, and zeros to write.
 *
 * The table is the only place that knows which kernels exist: one more is one more row, before the rows that it should
 * win against, and a line in ntx_zero_kernel().
 */
#ifndef NTX_ZERO_H
#define NTX_ZERO_H

#include "ntx.h"

struct ntx_zero_kernel {
    const char *name;
    const char *reason;         /* why it is the one, where it is */
    bool (*is_supported)(void); /* by this processor; NULL: always */
    bool (*is_zero)(const void *data, size_t length);
};

/* All kernels, best first; the last one is the scalar reference.
 * Threads: pure. */
const struct ntx_zero_kernel *ntx_zero_kernels(size_t *count);

/* The one behind ntx_is_zero(): the first that this processor supports.
 * Threads: pure, and cheap enough for every call. */
const struct ntx_zero_kernel *ntx_zero_kernel(void);

/* The reference: one byte after the other, as slow as it is easy to believe. */
bool ntx_is_zero_scalar(const void *data, size_t length);

/* For writing zeros where there is nothing better.  Page-aligned, so that O_DIRECT takes it too. */
extern const uint8_t ntx_zeros[NTX_BLOCK_SIZE];

#endif
