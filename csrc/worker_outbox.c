/* worker_outbox.c: see worker_outbox.h. */
#include "worker_outbox.h"

#include "bytes.h"

#include <errno.h>
#include <stdlib.h>

enum piece { PIECE_DATA, PIECE_ZERO, PIECE_SAME };

static uint64_t overlap(uint64_t start, uint64_t end, const struct ntx_extent *extent)
{
    uint64_t low = ntx_max64(start, extent->offset);
    uint64_t high = ntx_min64(end, extent->offset + extent->length);
    return high > low ? high - low : 0;
}

int ntx_outbox_init(struct ntx_outbox *o, unsigned request_count, const struct ntx_job_options *options,
                    struct ntx_ranges *ranges, struct ntx_slots *slots, struct ntx_counters *counters)
{
    *o = (struct ntx_outbox){
        .target_is_zero = options->target_is_zero,
        .compares = options->reference_fd >= 0,
        .ranges = ranges,
        .slots = slots,
        .counters = counters,
        .requests = calloc(request_count, sizeof *o->requests),
    };
    int rc = ntx_zero_run_init(&o->zero_run, options->limits.request_size);
    if (rc < 0 || o->requests == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < request_count; i++) {
        o->requests[i].next = o->free_requests;
        o->free_requests = &o->requests[i];
    }
    return 0;
}

void ntx_outbox_destroy(struct ntx_outbox *o)
{
    ntx_zero_run_destroy(&o->zero_run);
    free(o->requests);
}

/* ------------------------------------------------------------------------------------------------- sending */

static struct ntx_request *take_request(struct ntx_outbox *o, struct ntx_work_range *range)
{
    struct ntx_request *request = o->free_requests;
    /* The last place is kept for a flush. */
    if (request == NULL || o->target->in_flight >= NTX_MAX_IN_FLIGHT - 1)
        return NULL;
    o->free_requests = request->next;
    ntx_range_ref(range);
    request->range = range;
    request->slot = NULL;
    return request;
}

/* Submit the next part of a zero request. */
static int submit_zero(struct ntx_outbox *o, struct ntx_request *request, struct ntx_error *err)
{
    ntx_zero_run_fill(&o->zero_run, &request->io, request->remaining, o->target->info.max_payload);
    return ntx_device_submit(o->target, &request->io, err);
}

/* 1: the run is empty; 0: no free request. */
static int submit_zero_run(struct ntx_outbox *o, struct ntx_error *err)
{
    struct ntx_zero_run *run = &o->zero_run;
    struct ntx_work_range *range = run->range;
    if (range == NULL)
        return 1;
    struct ntx_request *request = take_request(o, range);
    if (request == NULL)
        return 0;
    request->is_zero = true;
    request->io = (struct ntx_io){.offset = run->start, .owner = request};
    request->remaining = run->end - run->start;
    request->counts = run->counts;
    run->range = NULL;
    ntx_ranges_unref(o->ranges, range);
    int rc = submit_zero(o, request, err);
    return rc < 0 ? rc : 1;
}

int ntx_outbox_send_zero_run(struct ntx_outbox *o, struct ntx_error *err)
{
    int rc = submit_zero_run(o, err);
    return rc < 0 ? rc : 0;
}

static int emit_zero(struct ntx_outbox *o, struct ntx_work_range *range, uint64_t start, uint64_t end, uint64_t counts,
                     struct ntx_error *err)
{
    if (o->target_is_zero) {
        ntx_count(&o->counters->skipped, end - start);
        ntx_ranges_count_done(o->ranges, range, counts);
        return 1;
    }
    if (ntx_zero_run_extend(&o->zero_run, range, start, end, counts))
        return 1;
    int rc = submit_zero_run(o, err);
    if (rc != 1)
        return rc;
    ntx_zero_run_begin(&o->zero_run, range, start, end, counts);
    return 1;
}

static int emit_data(struct ntx_outbox *o, struct ntx_span *span, struct ntx_slot *slot, uint64_t start, uint64_t end,
                     uint64_t counts, struct ntx_error *err)
{
    int rc = submit_zero_run(o, err);
    if (rc != 1)
        return rc;
    struct ntx_request *request = take_request(o, span->range);
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
    rc = ntx_device_submit(o->target, &request->io, err);
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
static uint64_t piece_end(const struct ntx_outbox *o, const struct ntx_span *span, const struct ntx_slot *slot,
                          uint64_t start, uint64_t end, enum piece *kind)
{
    if (slot == NULL && !o->compares) {
        *kind = PIECE_ZERO;
        return end;
    }
    uint64_t at = ntx_min64(ntx_round_down(start, NTX_BLOCK_SIZE) + NTX_BLOCK_SIZE, end);
    *kind = kind_of(span, slot, start, at);
    uint64_t most = *kind == PIECE_DATA ? start + o->target->info.max_payload : UINT64_MAX;
    while (at < end && at < most) {
        uint64_t next = ntx_min64(at + NTX_BLOCK_SIZE, end);
        if (kind_of(span, slot, at, next) != *kind)
            break;
        at = next;
    }
    return ntx_min64(at, most);
}

static int emit_span(struct ntx_outbox *o, struct ntx_span *span, struct ntx_slot *slot, struct ntx_error *err)
{
    struct ntx_work_range *range = span->range;
    uint64_t unit = o->target->info.min_block;

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
        end = piece_end(o, span, slot, start, end, &kind);
        uint64_t counts = overlap(start, end, extent);
        int rc = 1;
        if (kind == PIECE_SAME) {
            ntx_count(&o->counters->unchanged, end - start);
            ntx_ranges_count_done(o->ranges, range, counts);
        } else if (kind == PIECE_ZERO) {
            rc = emit_zero(o, range, start, end, counts, err);
        } else {
            rc = emit_data(o, span, slot, start, end, counts, err);
        }
        if (rc != 1)
            return rc;
        span->at = end;
    }
    span->at = span->end;
    return 1;
}

static void give_back_if_empty(struct ntx_outbox *o, struct ntx_slot *slot)
{
    if (!slot->emitted || slot->writes > 0)
        return;
    struct ntx_work_range *range = slot->span.range;
    ntx_slots_give_back(o->slots, slot, o->target->unread);
    ntx_ranges_unref(o->ranges, range);
}

void ntx_outbox_add_in_order(struct ntx_outbox *o, struct ntx_slot *slot)
{
    struct ntx_slot **at = &o->ready_first;

    while (*at != NULL && (*at)->span.start < slot->span.start)
        at = &(*at)->next;
    slot->next = *at;
    *at = slot;
    if (slot->next == NULL)
        o->ready_last = slot;
}

/* It is the span's turn. */
static bool may_emit(const struct ntx_outbox *o, const struct ntx_span *span)
{
    return !o->in_order || span->at == o->sent_to;
}

static int emit_next(struct ntx_outbox *o, struct ntx_span *span, struct ntx_slot *slot, struct ntx_error *err)
{
    int rc = emit_span(o, span, slot, err);

    o->sent_to = span->at;
    return rc;
}

int ntx_outbox_send(struct ntx_outbox *o, bool *moved, struct ntx_error *err)
{
    if (o->zero_span.range != NULL && may_emit(o, &o->zero_span)) {
        int rc = emit_next(o, &o->zero_span, NULL, err);
        if (rc != 1)
            return rc;
        *moved = true;
        struct ntx_work_range *range = o->zero_span.range;
        o->zero_span.range = NULL;
        ntx_ranges_unref(o->ranges, range);
    }
    while (o->ready_first != NULL && may_emit(o, &o->ready_first->span)) {
        struct ntx_slot *slot = o->ready_first;
        int rc = emit_next(o, &slot->span, slot, err);
        if (rc != 1)
            return rc;
        *moved = true;
        o->ready_first = slot->next;
        if (o->ready_first == NULL)
            o->ready_last = NULL;
        slot->emitted = true;
        give_back_if_empty(o, slot);
    }
    return 0;
}

int ntx_outbox_flush(struct ntx_outbox *o, const struct ntx_stop *stop, struct ntx_error *err)
{
    o->flush = (struct ntx_io){.op = NTX_OP_FLUSH, .stop = stop};
    o->sent_before_flush = o->target->submitted;
    o->is_flushing = true;
    return ntx_device_submit(o->target, &o->flush, err);
}

/* ------------------------------------------------------------------------------------------------- answers */

/* The request was answered well, or will be sent on. */
static int finish_request(struct ntx_outbox *o, struct ntx_request *request, struct ntx_error *err)
{
    struct ntx_io *io = &request->io;
    struct ntx_slot *slot = request->slot;

    ntx_count(&o->counters->requests, 1);
    if (request->is_zero) {
        ntx_count(&o->counters->zeroed, io->length);
        io->offset += io->length;
        request->remaining -= io->length;
        if (request->remaining > 0)
            return submit_zero(o, request, err);
    } else {
        ntx_count(&o->counters->sent, io->length);
        ntx_count(&o->counters->stored, io->stored);
        /* Until now it was time of the target. */
        ntx_count(&o->counters->target_ns, 0 - io->packing_ns);
        ntx_count(&o->counters->packing_ns, io->packing_ns);
    }
    ntx_ranges_count_done(o->ranges, request->range, request->counts);
    ntx_ranges_unref(o->ranges, request->range);
    request->next = o->free_requests;
    o->free_requests = request;
    if (slot != NULL) {
        slot->writes--;
        give_back_if_empty(o, slot);
    }
    return 0;
}

static int fail(struct ntx_outbox *o, const struct ntx_io *io, struct ntx_error *err)
{
    o->has_failed = true;
    return ntx_device_error_of(o->target, io, err);
}

/* One that failed may be asked again in another way. */
static int take_answer(struct ntx_outbox *o, struct ntx_io *io, struct ntx_error *err)
{
    struct ntx_request *request = io->owner;

    if (io == &o->flush) {
        o->is_flushing = false;
        o->has_flushed = io->result >= 0;
        return io->result >= 0 ? 0 : fail(o, io, err);
    }
    o->overtakes_flush |= o->is_flushing && io->number > o->sent_before_flush;
    if (io->result >= 0)
        return finish_request(o, request, err);
    if (!request->is_zero || !ntx_zero_run_adapt(&o->zero_run, io))
        return fail(o, io, err);
    ntx_count(&o->counters->retries, 1);
    return submit_zero(o, request, err);
}

int ntx_outbox_reap(struct ntx_outbox *o, bool *moved, struct ntx_error *err)
{
    struct ntx_io *io;
    while ((io = ntx_device_reap(o->target)) != NULL) {
        *moved = true;
        int rc = take_answer(o, io, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void ntx_outbox_drain(struct ntx_outbox *o, struct ntx_io *io)
{
    struct ntx_error ignored;
    struct ntx_request *request = io->owner;

    o->has_failed = o->has_failed || io->result < 0;
    if (io == &o->flush)
        return;
    /* One that failed, or a zero request that would go on, has not ended: its range stays unfinished. */
    if (io->result >= 0 && !(request->is_zero && request->remaining > io->length))
        finish_request(o, request, &ignored);
}
