/* nbd_coverage.c: see nbd_coverage.h. */
#include "nbd_coverage.h"

#include <errno.h>
#include <string.h>

int ntx_nbd_coverage_add(struct ntx_nbd_coverage *coverage, uint32_t start, uint32_t end)
{
    struct ntx_nbd_interval *items = coverage->items;
    uint32_t count = coverage->count, at = count;

    /* From the end: chunks mostly ascend. */
    while (at > 0 && items[at - 1].start >= end)
        at--;
    if (at > 0 && items[at - 1].end > start)
        return -EEXIST;

    bool joins_left = at > 0 && items[at - 1].end == start;
    bool joins_right = at < count && items[at].start == end;
    if (joins_left && joins_right) {
        items[at - 1].end = items[at].end;
        memmove(&items[at], &items[at + 1], (count - at - 1) * sizeof *items);
        coverage->count--;
    } else if (joins_left) {
        items[at - 1].end = end;
    } else if (joins_right) {
        items[at].start = start;
    } else if (count == NTX_NBD_MAX_INTERVALS) {
        return -ENOSPC;
    } else {
        memmove(&items[at + 1], &items[at], (count - at) * sizeof *items);
        items[at] = (struct ntx_nbd_interval){start, end};
        coverage->count++;
    }
    return 0;
}

bool ntx_nbd_coverage_is_whole(const struct ntx_nbd_coverage *coverage, uint32_t length)
{
    return coverage->count == 1 && coverage->items[0].start == 0 && coverage->items[0].end == length;
}
