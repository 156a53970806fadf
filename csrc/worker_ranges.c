/* worker_ranges.c: see worker_ranges.h. */
#include "worker_ranges.h"

#include "bytes.h"

#include <errno.h>
#include <stdlib.h>

int ntx_ranges_init(struct ntx_ranges *ranges, size_t count, struct ntx_counters *counters)
{
    *ranges = (struct ntx_ranges){.all = calloc(count, sizeof *ranges->all), .count = count, .counters = counters};
    if (ranges->all == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        ranges->all[i].next = ranges->free;
        ranges->free = &ranges->all[i];
    }
    return 0;
}

void ntx_ranges_destroy(struct ntx_ranges *ranges)
{
    for (size_t i = 0; ranges->all != NULL && i < ranges->count; i++)
        ntx_work_range_destroy(&ranges->all[i]);
    free(ranges->all);
}

struct ntx_work_range *ntx_ranges_take(struct ntx_ranges *ranges)
{
    struct ntx_work_range *range = ranges->free;

    ranges->free = range->next;
    range->references = 1;
    return range;
}

void ntx_ranges_unref(struct ntx_ranges *ranges, struct ntx_work_range *range)
{
    if (--range->references > 0)
        return;
    ntx_count(&ranges->counters->done, range->bytes - range->counted);
    ntx_work_range_destroy(range);
    range->next = ranges->free;
    ranges->free = range;
}

static void cut(struct ntx_work_range *range, uint64_t end)
{
    while (range->count > 0 && range->extents[range->count - 1].offset >= end)
        range->bytes -= range->extents[--range->count].length;
    if (range->count == 0)
        return;
    struct ntx_extent *last = &range->extents[range->count - 1];
    uint64_t length = ntx_min64(last->length, end - last->offset);
    range->bytes -= last->length - length;
    last->length = length;
}

void ntx_ranges_cut(struct ntx_ranges *ranges, uint64_t end)
{
    for (size_t i = 0; i < ranges->count; i++)
        if (ranges->all[i].references > 0)
            cut(&ranges->all[i], end);
}

uint64_t ntx_ranges_low(const struct ntx_ranges *ranges)
{
    uint64_t low = UINT64_MAX;

    for (size_t i = 0; ranges->all != NULL && i < ranges->count; i++) {
        const struct ntx_work_range *range = &ranges->all[i];
        if (range->references > 0)
            low = ntx_min64(low, ntx_round_down(range->extents[0].offset, NTX_BLOCK_SIZE));
    }
    return low;
}
