/*
 * worker_emit.c: from spans to requests to the target.
 *
 *   span      [ block ][ block ][ block ][ block ]
 *   extents      |-------------------|   |---|
 *   pieces       |data-||-zero--||-d-|   |-d-|      cut where a block changes kind, widened to the target's min_block
 *
 * Zero pieces that touch are gathered and sent as one; TRIM is never used: it promises nothing about reads.
 */
#include "bytes.h"
#include "error.h"
#include "worker.h"

#include <errno.h>

enum piece { PIECE_DATA, PIECE_ZERO, PIECE_SAME };

static uint64_t overlap(uint64_t start, uint64_t end, const struct ntx_extent *extent)
{
    uint64_t low = ntx_max64(start, extent->offset);
    uint64_t high = ntx_min64(end, extent->offset + extent->length);
    return high > low ? high - low : 0;
}

void ntx_work_range_unref(struct ntx_worker *w, struct ntx_work_range *range)
{
    if (--range->open > 0)
        return;
    ntx_count(&w->counters.done, range->bytes - range->counted);
    ntx_work_range_destroy(range);
    range->next = w->free_ranges;
    w->free_ranges = range;
}

static void count_done(struct ntx_worker *w, struct ntx_work_range *range, uint64_t bytes)
{
    range->counted += bytes;
    ntx_count(&w->counters.done, bytes);
}

static struct ntx_request *take_request(struct ntx_worker *w, struct ntx_work_range *range)
{
    struct ntx_request *request = w->free_requests;
    if (request == NULL)
        return NULL;
    w->free_requests = request->next;
    range->open++;
    request->range = range;
    request->slot = NULL;
    return request;
}

/* Submit the next part of a zero request: one ZERO, or one WRITE of zeros. */
static int submit_zero(struct ntx_worker *w, struct ntx_request *request, struct ntx_error *err)
{
    struct ntx_io *io = &request->io;
    if (w->write_zeros) {
        uint64_t most = ntx_min64(w->scheduler->options.request_size, w->target->info.max_payload);
        io->op = NTX_OP_WRITE;
        io->data = w->zeros;
        io->length = ntx_min64(request->remaining, most);
    } else {
        io->op = NTX_OP_ZERO;
        io->data = NULL;
        io->length = ntx_min64(request->remaining, w->max_zero);
    }
    return ntx_device_submit(w->target, io, err);
}

/* 1: nothing pending any more; 0: no free request. */
int ntx_emit_pending_zero(struct ntx_worker *w, struct ntx_error *err)
{
    if (w->zero_range == NULL)
        return 1;
    struct ntx_request *request = take_request(w, w->zero_range);
    if (request == NULL)
        return 0;
    request->is_zero = true;
    request->io = (struct ntx_io){.offset = w->zero_start, .owner = request};
    request->remaining = w->zero_end - w->zero_start;
    request->counts = w->zero_counts;
    struct ntx_work_range *range = w->zero_range;
    w->zero_range = NULL;
    ntx_work_range_unref(w, range);
    int rc = submit_zero(w, request, err);
    return rc < 0 ? rc : 1;
}

static int emit_zero(struct ntx_worker *w, struct ntx_work_range *range, uint64_t start, uint64_t end, uint64_t counts,
                     struct ntx_error *err)
{
    if (w->scheduler->options.target_is_zero) {
        ntx_count(&w->counters.skipped, end - start);
        count_done(w, range, counts);
        return 1;
    }
    if (w->zero_range == range && w->zero_end == start) {
        w->zero_end = end;
        w->zero_counts += counts;
        return 1;
    }
    int rc = ntx_emit_pending_zero(w, err);
    if (rc != 1)
        return rc;
    range->open++;
    w->zero_range = range;
    w->zero_start = start;
    w->zero_end = end;
    w->zero_counts = counts;
    return 1;
}

static int emit_data(struct ntx_worker *w, struct ntx_span *span, struct ntx_slot *slot, uint64_t start, uint64_t end,
                     uint64_t counts, struct ntx_error *err)
{
    int rc = ntx_emit_pending_zero(w, err);
    if (rc != 1)
        return rc;
    struct ntx_request *request = take_request(w, span->range);
    if (request == NULL)
        return 0;
    request->is_zero = false;
    request->slot = slot;
    request->counts = counts;
    request->io = (struct ntx_io){
        .op = NTX_OP_WRITE,
        .offset = start,
        .length = end - start,
        .data = (char *)slot->data + (start - span->start),
        .owner = request,
    };
    slot->writes++;
    rc = ntx_device_submit(w->target, &request->io, err);
    return rc < 0 ? rc : 1;
}

static enum piece kind_of(const struct ntx_span *span, const struct ntx_slot *slot, uint64_t start, uint64_t end)
{
    size_t block = (size_t)((start - span->start) / NTX_BLOCK_SIZE);
    if (block < NTX_SPAN_BLOCKS && ntx_bit(span->same, block))
        return PIECE_SAME;
    if (slot == NULL || ntx_bit(span->zero, block))
        return PIECE_ZERO;
    /* A part of a block may be zero where the whole is not. */
    bool whole = start % NTX_BLOCK_SIZE == 0 && (end - start) % NTX_BLOCK_SIZE == 0;
    if (!whole && ntx_is_zero((const char *)slot->data + (start - span->start), (size_t)(end - start)))
        return PIECE_ZERO;
    return PIECE_DATA;
}

/* The longest stretch from start that is handled alike; a zero span without reference bits is one piece. */
static uint64_t piece_end(const struct ntx_worker *w, const struct ntx_span *span, const struct ntx_slot *slot,
                          uint64_t start, uint64_t end, enum piece *kind)
{
    if (slot == NULL && w->scheduler->options.reference_fd < 0) {
        *kind = PIECE_ZERO;
        return end;
    }
    uint64_t at = ntx_min64(ntx_round_down(start, NTX_BLOCK_SIZE) + NTX_BLOCK_SIZE, end);
    *kind = kind_of(span, slot, start, at);
    uint64_t most = *kind == PIECE_DATA ? start + w->target->info.max_payload : UINT64_MAX;
    while (at < end && at < most) {
        uint64_t next = ntx_min64(at + NTX_BLOCK_SIZE, end);
        if (kind_of(span, slot, at, next) != *kind)
            break;
        at = next;
    }
    return ntx_min64(at, most);
}

int ntx_emit_span(struct ntx_worker *w, struct ntx_span *span, struct ntx_slot *slot, struct ntx_error *err)
{
    struct ntx_work_range *range = span->range;
    uint64_t unit = w->target->info.min_block;

    while (span->at < span->end && span->extent < range->count) {
        const struct ntx_extent *extent = &range->extents[span->extent];
        uint64_t start = ntx_max64(span->at, ntx_round_down(extent->offset, unit));
        uint64_t end = ntx_min64(span->end, ntx_round_up(extent->offset + extent->length, unit));
        if (start >= span->end)
            break;
        if (start >= end) {
            span->extent++;
            continue;
        }
        enum piece kind;
        end = piece_end(w, span, slot, start, end, &kind);
        uint64_t counts = overlap(start, end, extent);
        int rc = 1;
        if (kind == PIECE_SAME) {
            ntx_count(&w->counters.unchanged, end - start);
            count_done(w, range, counts);
        } else if (kind == PIECE_ZERO) {
            rc = emit_zero(w, range, start, end, counts, err);
        } else {
            rc = emit_data(w, span, slot, start, end, counts, err);
        }
        if (rc != 1)
            return rc;
        span->at = end;
    }
    span->at = span->end;
    return 1;
}

/* A ZERO that is refused for its length is asked again with half of it, one that is not supported is written out. */
static bool may_retry_zero(struct ntx_worker *w, const struct ntx_request *request)
{
    int result = request->io.result;
    if (!request->is_zero || request->io.op != NTX_OP_ZERO)
        return false;
    if (result == -ENOTSUP || result == -EOPNOTSUPP) {
        w->write_zeros = true;
        return true;
    }
    if ((result == -EOVERFLOW || result == -EINVAL) && request->io.length > NTX_BLOCK_SIZE) {
        w->max_zero = ntx_round_up(request->io.length / 2, NTX_BLOCK_SIZE);
        return true;
    }
    return false;
}

int ntx_request_finish(struct ntx_worker *w, struct ntx_request *request, struct ntx_error *err)
{
    struct ntx_io *io = &request->io;
    if (io->result < 0) {
        if (may_retry_zero(w, request)) {
            ntx_count(&w->counters.retries, 1);
            return submit_zero(w, request, err);
        }
        return ntx_device_error_of(w->target, io, err);
    }
    ntx_count(&w->counters.requests, 1);
    if (request->is_zero) {
        ntx_count(&w->counters.zeroed, io->length);
        io->offset += io->length;
        request->remaining -= io->length;
        if (request->remaining > 0)
            return submit_zero(w, request, err);
    } else {
        ntx_count(&w->counters.sent, io->length);
    }
    count_done(w, request->range, request->counts);
    if (request->slot != NULL)
        request->slot->writes--;
    ntx_work_range_unref(w, request->range);
    request->next = w->free_requests;
    w->free_requests = request;
    return 0;
}
