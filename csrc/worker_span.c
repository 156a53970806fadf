/*
 * worker_span.c: the cursor that walks a range and says what to read next.
 *
 *   extents    |--data--|        |------zero------|  |d|d|
 *   blocks   [    ][    ][    ][    ][    ][    ][    ][    ]
 *   spans    '---data---'      '-d--''--zero---''---data----'
 *
 * A block is zero without being read only when an extent, or the source's map, says so of the whole of it.  Where an
 * extent says so of a part, the block is read, and that part is zero all the same (worker_digest.c).
 */
#include "bytes.h"
#include "error.h"
#include "worker.h"

#include <errno.h>
#include <string.h>

/* Asking the source where its holes are pays for itself only on longer runs. */
#define MAP_WORTH NTX_MIB
#define MAP_MAX NTX_GIB

static uint64_t block_start(uint64_t offset)
{
    return ntx_round_down(offset, NTX_BLOCK_SIZE);
}

static uint64_t block_end(const struct ntx_worker *w, uint64_t offset)
{
    return ntx_min64(ntx_round_up(offset, NTX_BLOCK_SIZE), w->scheduler->size);
}

/* Cut to whole blocks; the end of the disk counts as a block's end. */
static uint64_t whole_blocks(const struct ntx_worker *w, uint64_t end)
{
    return end >= w->scheduler->size ? w->scheduler->size : block_start(end);
}

static uint64_t extent_end(const struct ntx_extent *extent)
{
    return extent->offset + extent->length;
}

static bool is_mapped(const struct ntx_worker *w, uint64_t at)
{
    return at >= w->map_start && at < w->map.end;
}

static int begin_map(struct ntx_worker *w, uint64_t at, uint64_t end, struct ntx_error *err)
{
    uint64_t length = ntx_min64(end - at, MAP_MAX);
    w->map_start = at;
    ntx_extents_init(&w->map, w->map_items, NTX_MAP_EXTENTS, at, length);
    w->map_io = (struct ntx_io){.op = NTX_OP_MAP, .offset = at, .length = length, .map = &w->map};
    w->mapping = true;
    return ntx_device_submit(w->source, &w->map_io, err);
}

/* Where the run of one kind that holds at ends; *is_zero tells the kind.  at is mapped. */
static uint64_t map_run(const struct ntx_worker *w, uint64_t at, bool *is_zero)
{
    size_t low = 0, high = w->map.count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (w->map.items[middle].offset <= at)
            low = middle;
        else
            high = middle;
    }
    *is_zero = (w->map.items[low].flags & NTX_EXTENT_ZERO) != 0;
    return extent_end(&w->map.items[low]);
}

/* The map's word on blocks from start on: *zero_end > start when whole blocks are zero; otherwise *data_end says
 * how far to read at most before zero blocks begin. */
static void ask_map(const struct ntx_worker *w, uint64_t start, uint64_t end, uint64_t *zero_end, uint64_t *data_end)
{
    bool is_zero;
    uint64_t run = map_run(w, start, &is_zero);
    *zero_end = is_zero ? ntx_min64(whole_blocks(w, run), end) : start;
    *data_end = end;
    if (*zero_end > start)
        return;
    for (uint64_t at = run; at < end && is_mapped(w, at); at = run) {
        run = map_run(w, at, &is_zero);
        uint64_t first = ntx_round_up(at, NTX_BLOCK_SIZE);
        if (is_zero && first < end && whole_blocks(w, run) > first) {
            *data_end = first;
            return;
        }
    }
}

/* A data run goes on into the extents behind it while their blocks touch and the slot has room. */
static uint64_t join_extents(const struct ntx_worker *w, size_t i, uint64_t end, uint64_t room_end)
{
    const struct ntx_work_range *range = w->range;
    while (end < room_end && ++i < range->count) {
        const struct ntx_extent *next = &range->extents[i];
        if ((next->flags & NTX_EXTENT_ZERO) || block_start(next->offset) > end)
            break;
        end = ntx_max64(end, ntx_min64(block_end(w, extent_end(next)), room_end));
    }
    return end;
}

static void set_span(struct ntx_worker *w, struct ntx_span *span, uint64_t start, uint64_t end)
{
    span->range = w->range;
    span->range->open++;
    span->extent = w->extent;
    span->start = span->at = start;
    span->end = end;
    memset(span->zero, 0, sizeof span->zero);
    memset(span->same, 0, sizeof span->same);
    w->at = end;
}

static void set_zero_span(struct ntx_worker *w, struct ntx_span *span, uint64_t start, uint64_t end)
{
    /* With a reference every block is compared, and the span's bits bound how many at once. */
    if (w->scheduler->options.reference_fd >= 0)
        end = ntx_min64(end, start + (uint64_t)NTX_SPAN_BLOCKS * NTX_BLOCK_SIZE);
    set_span(w, span, start, end);
}

/* Step over extents that are done; the start of the next span, or UINT64_MAX. */
static uint64_t next_start(struct ntx_worker *w)
{
    for (; w->extent < w->range->count; w->extent++) {
        const struct ntx_extent *extent = &w->range->extents[w->extent];
        uint64_t start = ntx_max64(w->at, block_start(extent->offset));
        if (start < block_end(w, extent_end(extent)))
            return start;
    }
    return UINT64_MAX;
}

bool ntx_next_span(struct ntx_worker *w, struct ntx_span *span, bool *is_zero, struct ntx_error *err, int *rc)
{
    *rc = 0;
    uint64_t start = next_start(w);
    if (start == UINT64_MAX)
        return false;
    const struct ntx_extent *extent = &w->range->extents[w->extent];
    uint64_t end = block_end(w, extent_end(extent));
    *is_zero = true;

    if (extent->flags & NTX_EXTENT_ZERO) {
        uint64_t zero_end = whole_blocks(w, extent_end(extent));
        if (extent->offset <= start && zero_end > start) {
            set_zero_span(w, span, start, zero_end);
            return true;
        }
        end = block_end(w, start + 1);
    } else if (w->can_map && end - start >= MAP_WORTH) {
        if (!is_mapped(w, start)) {
            *rc = begin_map(w, start, end, err);
            return false;
        }
        uint64_t zero_end, data_end;
        ask_map(w, start, end, &zero_end, &data_end);
        if (zero_end > start) {
            set_zero_span(w, span, start, zero_end);
            return true;
        }
        end = data_end;
    }
    *is_zero = false;
    uint64_t room_end = ntx_min64(start + w->scheduler->options.request_size, w->scheduler->size);
    end = end < room_end ? join_extents(w, w->extent, end, room_end) : room_end;
    set_span(w, span, start, end);
    return true;
}
