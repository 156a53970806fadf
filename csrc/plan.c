#include "plan.h"

#include "bytes.h"
#include "error.h"
#include "extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ntx_plan_init(struct ntx_plan *plan, uint64_t size, const struct ntx_range_bytes *range_bytes,
                  struct ntx_error *err)
{
    *plan = (struct ntx_plan){.size = size, .range_bytes = *range_bytes};
    plan->ring = malloc(NTX_PLAN_EXTENTS * sizeof *plan->ring);
    if (plan->ring == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for %u extents", NTX_PLAN_EXTENTS);
    return 0;
}

void ntx_plan_destroy(struct ntx_plan *plan)
{
    free(plan->ring);
    plan->ring = NULL;
}

int ntx_plan_feed(struct ntx_plan *plan, const struct ntx_extent *extents, size_t count, size_t *taken,
                  struct ntx_error *err)
{
    *taken = 0;
    if (plan->ended)
        return ntx_error_set(err, NTX_E_OPTIONS, -EPIPE, "extents were fed after the end of the feed");
    size_t room = NTX_PLAN_EXTENTS - plan->count;
    size_t n = count < room ? count : room;
    int rc = ntx_extents_check(extents, n, plan->fed_end, plan->size, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n; i++) {
        plan->ring[(plan->head + plan->count + i) % NTX_PLAN_EXTENTS] = extents[i];
        plan->bytes += extents[i].length;
    }
    plan->count += n;
    if (n > 0)
        plan->fed_end = extents[n - 1].offset + extents[n - 1].length;
    *taken = n;
    return 0;
}

void ntx_plan_cut(struct ntx_plan *plan, uint64_t end)
{
    plan->size = end;
    plan->count = 0;
    plan->bytes = 0;
    plan->ended = true;
}

/* Everything before this has been fed: extents ascend. */
static uint64_t complete_end(const struct ntx_plan *plan)
{
    return plan->ended || plan->fed_end >= plan->size ? UINT64_MAX : ntx_round_down(plan->fed_end, NTX_BLOCK_SIZE);
}

/* However many extents there are: those of a block that has not been fed whole cannot be taken, and would wait for
 * ever.  There is room for the rest of them, as no block has more than the ring. */
bool ntx_plan_wants_extents(const struct ntx_plan *plan)
{
    bool is_incomplete = plan->count > 0 && plan->ring[plan->head].offset >= complete_end(plan);

    return !plan->ended && (plan->count < NTX_PLAN_EXTENTS / 2 || is_incomplete);
}

bool ntx_plan_is_done(const struct ntx_plan *plan)
{
    return plan->ended && plan->count == 0;
}

uint64_t ntx_plan_low(const struct ntx_plan *plan)
{
    if (ntx_plan_is_done(plan))
        return plan->size;
    uint64_t next = plan->count > 0 ? plan->ring[plan->head].offset : plan->fed_end;
    return next >= plan->size ? plan->size : ntx_round_down(next, NTX_BLOCK_SIZE);
}

/* Take the first extent, or the part of it before cut. */
static void take_first(struct ntx_plan *plan, struct ntx_work_range *range, uint64_t cut)
{
    struct ntx_extent *first = &plan->ring[plan->head];
    struct ntx_extent *part = &range->extents[range->count++];
    *part = *first;
    if (first->offset + first->length <= cut) {
        plan->head = (plan->head + 1) % NTX_PLAN_EXTENTS;
        plan->count--;
    } else {
        part->length = cut - first->offset;
        first->offset = cut;
        first->length -= part->length;
    }
    range->bytes += part->length;
    plan->bytes -= part->length;
}

/* Half of each worker's part of what is left, once it is known how much that is.  The last range takes the remainder
 * too. */
static uint64_t next_range_bytes(const struct ntx_plan *plan)
{
    const struct ntx_range_bytes *range = &plan->range_bytes;
    if (!plan->ended || range->workers == 0)
        return range->most;
    uint64_t share = plan->bytes / (2ull * range->workers);
    share = ntx_min64(ntx_max64(share - share % range->least, range->least), range->most);
    return plan->bytes < share + range->least ? share + range->least : share;
}

void ntx_work_range_destroy(struct ntx_work_range *range)
{
    if (range->extents != range->own)
        free(range->extents);
    range->extents = range->own;
    range->capacity = NTX_RANGE_ROOM;
}

/* Only for a block with more extents than regions of 512 bytes: they stay together all the same. */
static bool make_room(struct ntx_work_range *range)
{
    if (range->count < range->capacity)
        return true;
    struct ntx_extent *heap = range->extents == range->own ? NULL : range->extents;
    struct ntx_extent *larger = realloc(heap, 2 * range->capacity * sizeof *larger);
    if (larger == NULL)
        return false;
    if (heap == NULL)
        memcpy(larger, range->own, range->count * sizeof *larger);
    range->extents = larger;
    range->capacity *= 2;
    return true;
}

enum ntx_take ntx_plan_take(struct ntx_plan *plan, struct ntx_work_range *range)
{
    range->extents = range->own;
    range->capacity = NTX_RANGE_ROOM;
    range->count = 0;
    range->bytes = range->counted = 0;
    uint64_t covered = 0; /* bytes of the blocks touched */
    uint64_t end = 0;     /* block boundary behind the last extent taken */
    uint64_t most = next_range_bytes(plan), complete = complete_end(plan);

    while (plan->count > 0) {
        const struct ntx_extent *first = &plan->ring[plan->head];
        uint64_t start = ntx_max64(ntx_round_down(first->offset, NTX_BLOCK_SIZE), end);
        /* Over budget, or with extents enough: only what lies in the last block still belongs here. */
        uint64_t budget = covered < most ? most - covered : 0;
        uint64_t cut = start + ntx_round_up(budget, NTX_BLOCK_SIZE);
        cut = ntx_min64(range->count < NTX_RANGE_EXTENTS ? cut : end, complete);
        if (first->offset >= cut)
            break;
        if (!make_room(range))
            return NTX_TAKE_NO_MEMORY;
        take_first(plan, range, cut);
        const struct ntx_extent *last = &range->extents[range->count - 1];
        end = ntx_round_up(last->offset + last->length, NTX_BLOCK_SIZE);
        covered += end - start;
    }
    if (range->count > 0)
        return NTX_TAKE_RANGE;
    return plan->ended ? NTX_TAKE_END : NTX_TAKE_WAIT;
}
