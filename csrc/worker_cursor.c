/* worker_cursor.c: see worker_cursor.h. */
#include "worker_cursor.h"

#include "bytes.h"

#include <string.h>

/* Asking the source where its holes are pays for itself only on longer runs. */
#define MAP_WORTH NTX_MIB
#define MAP_MAX NTX_GIB

static uint64_t block_start(uint64_t offset)
{
    return ntx_round_down(offset, NTX_BLOCK_SIZE);
}

static uint64_t block_end(const struct ntx_cursor *c, uint64_t offset)
{
    return ntx_min64(ntx_round_up(offset, NTX_BLOCK_SIZE), c->size);
}

/* Cut to whole blocks; the end of the disk counts as a block's end. */
static uint64_t whole_blocks(const struct ntx_cursor *c, uint64_t end)
{
    return end >= c->size ? c->size : block_start(end);
}

static uint64_t extent_end(const struct ntx_extent *extent)
{
    return extent->offset + extent->length;
}

static bool is_mapped(const struct ntx_cursor *c, uint64_t at)
{
    return at >= c->map_start && at < c->map.end;
}

static int begin_map(struct ntx_cursor *c, uint64_t at, uint64_t end, struct ntx_error *err)
{
    uint64_t length = ntx_min64(end - at, MAP_MAX);
    c->map_start = at;
    ntx_extents_init(&c->map, c->map_items, NTX_MAP_EXTENTS, at, length);
    c->map_io = (struct ntx_io){.op = NTX_OP_MAP, .offset = at, .length = length, .map = &c->map};
    c->is_mapping = true;
    return ntx_device_submit(c->source, &c->map_io, err);
}

/* Where the run of one kind that holds at ends; *is_zero tells the kind.  at is mapped. */
static uint64_t map_run(const struct ntx_cursor *c, uint64_t at, bool *is_zero)
{
    size_t low = 0, high = c->map.count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (c->map.items[middle].offset <= at)
            low = middle;
        else
            high = middle;
    }
    *is_zero = (c->map.items[low].flags & NTX_EXTENT_ZERO) != 0;
    return extent_end(&c->map.items[low]);
}

/* The map's word on blocks from start on: *zero_end > start when whole blocks are zero; otherwise *data_end says
 * how far to read at most before zero blocks begin. */
static void ask_map(const struct ntx_cursor *c, uint64_t start, uint64_t end, uint64_t *zero_end, uint64_t *data_end)
{
    bool is_zero;
    uint64_t run = map_run(c, start, &is_zero);
    *zero_end = is_zero ? ntx_min64(whole_blocks(c, run), end) : start;
    *data_end = end;
    if (*zero_end > start)
        return;
    for (uint64_t at = run; at < end && is_mapped(c, at); at = run) {
        run = map_run(c, at, &is_zero);
        uint64_t first = ntx_round_up(at, NTX_BLOCK_SIZE);
        if (is_zero && first < end && whole_blocks(c, run) > first) {
            *data_end = first;
            return;
        }
    }
}

/* A data run goes on into the extents behind it while their blocks touch and the slot has room. */
static uint64_t join_extents(const struct ntx_cursor *c, size_t i, uint64_t end, uint64_t room_end)
{
    const struct ntx_work_range *range = c->range;
    while (end < room_end && ++i < range->count) {
        const struct ntx_extent *next = &range->extents[i];
        if ((next->flags & NTX_EXTENT_ZERO) || block_start(next->offset) > end)
            break;
        end = ntx_max64(end, ntx_min64(block_end(c, extent_end(next)), room_end));
    }
    return end;
}

static void set_span(struct ntx_cursor *c, struct ntx_span *span, uint64_t start, uint64_t end)
{
    span->range = c->range;
    ntx_range_ref(span->range);
    span->extent = c->extent;
    span->start = span->at = start;
    span->end = end;
    memset(span->zero, 0, sizeof span->zero);
    memset(span->same, 0, sizeof span->same);
    c->at = end;
}

static void set_zero_span(struct ntx_cursor *c, struct ntx_span *span, uint64_t start, uint64_t end)
{
    /* With a reference every block is compared, and the span's bits bound how many at once. */
    if (c->compares)
        end = ntx_min64(end, start + (uint64_t)NTX_SPAN_BLOCKS * NTX_BLOCK_SIZE);
    set_span(c, span, start, end);
}

/* Step over extents that are done; the start of the next span, or UINT64_MAX. */
static uint64_t next_start(struct ntx_cursor *c)
{
    for (; c->extent < c->range->count; c->extent++) {
        const struct ntx_extent *extent = &c->range->extents[c->extent];
        uint64_t start = ntx_max64(c->at, block_start(extent->offset));
        if (start < block_end(c, extent_end(extent)))
            return start;
    }
    return UINT64_MAX;
}

void ntx_cursor_init(struct ntx_cursor *c, const struct ntx_job_options *options, uint64_t size)
{
    *c = (struct ntx_cursor){
        .size = size, .request_size = options->limits.request_size, .compares = options->reference_fd >= 0};
}

void ntx_cursor_begin(struct ntx_cursor *c, struct ntx_work_range *range)
{
    c->range = range;
    c->extent = 0;
    c->at = 0;
}

void ntx_cursor_mapped(struct ntx_cursor *c)
{
    c->is_mapping = false;
    /* Extents are only an optimisation: a source that fails to tell is read. */
    if (c->map_io.result < 0 || c->map.count == 0) {
        c->can_map = false;
        c->map.end = 0;
    }
}

int ntx_cursor_next(struct ntx_cursor *c, struct ntx_span *span, struct ntx_error *err)
{
    uint64_t start = next_start(c);
    if (start == UINT64_MAX) {
        c->range = NULL;
        return NTX_NEXT_END;
    }
    const struct ntx_extent *extent = &c->range->extents[c->extent];
    uint64_t end = block_end(c, extent_end(extent));

    if (extent->flags & NTX_EXTENT_ZERO) {
        uint64_t zero_end = whole_blocks(c, extent_end(extent));
        if (extent->offset <= start && zero_end > start) {
            set_zero_span(c, span, start, zero_end);
            return NTX_NEXT_ZERO;
        }
        end = block_end(c, start + 1);
    } else if (c->can_map && end - start >= MAP_WORTH) {
        if (!is_mapped(c, start)) {
            int rc = begin_map(c, start, end, err);
            return rc < 0 ? rc : NTX_NEXT_MAPPING;
        }
        uint64_t zero_end, data_end;
        ask_map(c, start, end, &zero_end, &data_end);
        if (zero_end > start) {
            set_zero_span(c, span, start, zero_end);
            return NTX_NEXT_ZERO;
        }
        end = data_end;
    }
    uint64_t room_end = ntx_min64(start + c->request_size, c->size);
    end = end < room_end ? join_extents(c, c->extent, end, room_end) : room_end;
    set_span(c, span, start, end);
    return NTX_NEXT_DATA;
}
