/*
 * worker_span.h: a span is a run of whole blocks that is either read into a slot or known to be zero.
 *
 * It is what goes from stage to stage of a worker: the cursor makes it, the digester marks its blocks, the outbox
 * sends what of it lies in the extents.
 */
#ifndef NTX_WORKER_SPAN_H
#define NTX_WORKER_SPAN_H

#include "plan.h"

#define NTX_SPAN_BLOCKS (NTX_MAX_REQUEST_SIZE / NTX_BLOCK_SIZE)

struct ntx_span {
    struct ntx_work_range *range; /* NULL: no span */
    size_t extent;                /* first extent of the range that ends behind at */
    uint64_t start, end;          /* block boundaries (end may be the end of the disk) */
    uint64_t at;                  /* what lies before it is done */
    uint64_t zero[NTX_SPAN_BLOCKS / 64], same[NTX_SPAN_BLOCKS / 64]; /* a bit per block */
};

static inline void ntx_range_ref(struct ntx_work_range *range)
{
    range->references++;
}

static inline bool ntx_bit(const uint64_t *bits, size_t i)
{
    return (bits[i / 64] >> (i % 64)) & 1;
}

static inline void ntx_set_bit(uint64_t *bits, size_t i)
{
    bits[i / 64] |= 1ull << (i % 64);
}

#endif
