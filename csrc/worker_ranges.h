/*
 * worker_ranges.h: the work ranges of one worker.  A range is free, or somebody refers to it: the cursor, a span, the
 * zero run, a request.  With its last reference its bytes are done.
 */
#ifndef NTX_WORKER_RANGES_H
#define NTX_WORKER_RANGES_H

#include "counters.h"
#include "plan.h"

struct ntx_ranges {
    struct ntx_work_range *all, *free;
    size_t count;
    struct ntx_counters *counters;
};

/* Errors: -ENOMEM.  Undone by ntx_ranges_destroy(), also after a failure. */
int ntx_ranges_init(struct ntx_ranges *ranges, size_t count, struct ntx_counters *counters);
void ntx_ranges_destroy(struct ntx_ranges *ranges);

/* Take the first free range, which the caller has just filled, with one reference. */
struct ntx_work_range *ntx_ranges_take(struct ntx_ranges *ranges);

void ntx_ranges_unref(struct ntx_ranges *ranges, struct ntx_work_range *range);

/* Of the range's bytes, so many are done now: its last reference does not count them again. */
static inline void ntx_ranges_count_done(struct ntx_ranges *ranges, struct ntx_work_range *range, uint64_t bytes)
{
    range->counted += bytes;
    ntx_count(&ranges->counters->done, bytes);
}

/* There is nothing at end or behind it, also in those that somebody refers to. */
void ntx_ranges_cut(struct ntx_ranges *ranges, uint64_t end);

/* The first byte of the blocks of the ranges that somebody refers to; UINT64_MAX: of none. */
uint64_t ntx_ranges_low(const struct ntx_ranges *ranges);

#endif
