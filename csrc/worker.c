/*
 * worker.c: the loop of one thread.
 *
 * Each pass does whatever can be done without waiting, in the order that frees resources first; a pass that moved
 * nothing waits in one poll() for both ends, the stop signal and the rate limit.  A source that works at once (a
 * file) gets one read a pass, so that its bytes are digested and sent while they are still in the cache.
 */
#include "worker.h"

#include "bytes.h"
#include "clock.h"
#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* After an error, answers to what is in flight are awaited no longer than this. */
#define DRAIN_NS (5 * NTX_NS_PER_S)

/* ---------------------------------------------------------------------------------------- start and end */

static void *map_zeros(size_t size)
{
    void *zeros = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return zeros == MAP_FAILED ? NULL : zeros;
}

void ntx_worker_init(struct ntx_worker *w, struct ntx_scheduler *scheduler)
{
    *w = (struct ntx_worker){.scheduler = scheduler, .max_zero = NTX_GIB};
}

/* Every slot and every request may hold another range, and the cursor and the pending zeros one each. */
static size_t ranges_of(const struct ntx_worker *w)
{
    return 2u * w->scheduler->in_flight + 4;
}

int ntx_worker_allocate(struct ntx_worker *w, struct ntx_error *err)
{
    const struct ntx_scheduler *scheduler = w->scheduler;
    unsigned depth = scheduler->in_flight;
    w->buffers = ntx_buffers_new(depth + 1, scheduler->options.request_size);
    w->slots = calloc(depth, sizeof *w->slots);
    w->requests = calloc(depth, sizeof *w->requests);
    size_t ranges = ranges_of(w);
    w->ranges = calloc(ranges, sizeof *w->ranges);
    w->digests = calloc(NTX_SPAN_BLOCKS, NTX_DIGEST_SIZE);
    w->reference = calloc(NTX_SPAN_BLOCKS, NTX_DIGEST_SIZE);
    w->zeros = map_zeros(scheduler->options.request_size);
    if (!w->buffers || !w->slots || !w->requests || !w->ranges || !w->digests || !w->reference || !w->zeros)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for a thread with %u requests in flight", depth);
    w->spare = ntx_buffers_take(w->buffers);
    for (unsigned i = 0; i < depth; i++) {
        w->slots[i].data = ntx_buffers_take(w->buffers);
        w->slots[i].next = w->free_slots;
        w->free_slots = &w->slots[i];
        w->requests[i].next = w->free_requests;
        w->free_requests = &w->requests[i];
    }
    for (size_t i = 0; i < ranges; i++) {
        w->ranges[i].next = w->free_ranges;
        w->free_ranges = &w->ranges[i];
    }
    return 0;
}

void ntx_worker_destroy(struct ntx_worker *w)
{
    if (w->owns_devices) {
        ntx_close(w->source);
        ntx_close(w->target);
    }
    if (w->zeros != NULL)
        munmap(w->zeros, w->scheduler->options.request_size);
    free(w->reference);
    free(w->digests);
    for (size_t i = 0; w->ranges != NULL && i < ranges_of(w); i++)
        ntx_work_range_destroy(&w->ranges[i]);
    free(w->ranges);
    free(w->requests);
    free(w->slots);
    ntx_buffers_free(w->buffers);
}

/* The rate limit permits no more yet. */
static bool is_rate_limited(const struct ntx_worker *w)
{
    /* Without a limit the clock is not read: a pass may be one extent of zeros, and costs little more. */
    return w->limited_until_ns > 0 && ntx_now_ns() < w->limited_until_ns;
}

/* ------------------------------------------------------------------------------------------- the source */

/* Reads that arrived become spans with digests, ready to be sent. */
static int reap_source(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    struct ntx_io *io;
    while ((io = ntx_device_reap(w->source)) != NULL) {
        *moved = true;
        w->source_answer_due_ns = 0;
        if (io == &w->map_io) {
            w->mapping = false;
            /* Extents are only an optimisation: a source that fails to tell is read. */
            if (io->result < 0 || w->map.count == 0) {
                w->can_map = false;
                w->map.end = 0;
            }
            continue;
        }
        struct ntx_slot *slot = io->owner;
        w->reading--;
        if (io->result < 0)
            return ntx_device_error_of(w->source, io, err);
        ntx_count(&w->counters.read, io->length);
        uint64_t since = ntx_now_ns();
        int rc = ntx_digest_slot(w, slot, err);
        ntx_spend(&w->counters.digest_ns, &since);
        if (rc < 0)
            return rc;
        slot->next = NULL;
        slot->emitted = false;
        if (w->ready_last != NULL)
            w->ready_last->next = slot;
        else
            w->ready_first = slot;
        w->ready_last = slot;
    }
    return 0;
}

/* 1: there is a range; 0: not now; negative: failed, and what was taken counts as begun. */
static int take_range(struct ntx_worker *w, struct ntx_error *err)
{
    struct ntx_work_range *range = w->free_ranges;
    if (range == NULL || w->ended)
        return 0;
    /* Wait for the feed only when nothing else could be done meanwhile. */
    bool idle = w->target->in_flight == 0 && w->reading == 0 && !w->mapping && w->ready_first == NULL &&
                w->zero_span.range == NULL && w->zero_range == NULL;
    enum ntx_take take = ntx_scheduler_take(w->scheduler, w->rank, range, idle);
    w->ended = take == NTX_TAKE_END;
    w->waits_for_extents = take == NTX_TAKE_WAIT;
    if (take == NTX_TAKE_END || take == NTX_TAKE_WAIT)
        return 0;
    w->free_ranges = range->next;
    range->open = 1;
    w->range = range;
    w->extent = 0;
    w->at = 0;
    if (take == NTX_TAKE_NO_MEMORY)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for the extents of a block: more than %zu",
                             range->count);
    return 1;
}

static int start_read(struct ntx_worker *w, struct ntx_span *span, struct ntx_error *err)
{
    struct ntx_slot *slot = w->free_slots;
    w->free_slots = slot->next;
    w->used++;
    slot->span = *span;
    slot->writes = 0;
    uint64_t length = span->end - span->start;
    uint64_t wait_ns = ntx_scheduler_charge(w->scheduler, length);
    if (wait_ns > 0)
        w->limited_until_ns = ntx_now_ns() + wait_ns;
    slot->read =
        (struct ntx_io){.op = NTX_OP_READ, .offset = span->start, .length = length, .data = slot->data, .owner = slot};
    w->reading++;
    uint64_t since = ntx_now_ns();
    int rc = ntx_device_submit(w->source, &slot->read, err);
    ntx_spend(&w->counters.source_ns, &since);
    return rc;
}

/* Move the cursor: begin reads, or set the zero span. */
static int advance_cursor(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    bool works_at_once = w->source->fd < 0;
    while (!w->mapping && w->zero_span.range == NULL && ntx_may_use_slot(w)) {
        if (is_rate_limited(w))
            return 0;
        if (works_at_once && w->ready_first != NULL)
            return 0;
        int rc = w->range == NULL ? take_range(w, err) : 1;
        if (rc != 1)
            return rc;
        struct ntx_span span;
        bool is_zero;
        if (!ntx_next_span(w, &span, &is_zero, err, &rc)) {
            if (rc < 0)
                return rc;
            *moved = true;
            if (!w->mapping) {
                struct ntx_work_range *range = w->range;
                w->range = NULL;
                ntx_scheduler_release_range(w->scheduler, w->rank);
                ntx_work_range_unref(w, range);
            } else if ((rc = reap_source(w, moved, err)) < 0) {
                return rc;
            }
            continue;
        }
        *moved = true;
        if (is_zero) {
            w->zero_span = span;
            return ntx_digest_zero_span(w, &w->zero_span, err);
        }
        rc = start_read(w, &span, err);
        if (rc < 0 || (rc = reap_source(w, moved, err)) < 0)
            return rc;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- the target */

/* The memory of one slot may not be written yet.  Then the slot goes on with the spare, which by now has been read: it
 * held what was answered before. */
static void leave_unread(struct ntx_worker *w, struct ntx_slot *slot)
{
    const char *unread = w->target->unread;
    char *data = slot->data;

    if (unread == NULL || unread < data || unread >= data + w->scheduler->options.request_size)
        return;
    slot->data = w->spare;
    w->spare = data;
}

static void free_slot_if_done(struct ntx_worker *w, struct ntx_slot *slot)
{
    if (!slot->emitted || slot->writes > 0)
        return;
    leave_unread(w, slot);
    ntx_work_range_unref(w, slot->span.range);
    slot->next = w->free_slots;
    w->free_slots = slot;
    w->used--;
    atomic_fetch_add_explicit(&w->scheduler->completions, 1, memory_order_relaxed);
}

static int reap_target(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    struct ntx_io *io;
    while ((io = ntx_device_reap(w->target)) != NULL) {
        *moved = true;
        w->target_answer_due_ns = 0;
        struct ntx_request *request = io->owner;
        struct ntx_slot *slot = request->slot;
        int rc = ntx_request_finish(w, request, err);
        if (rc < 0)
            return rc;
        if (slot != NULL)
            free_slot_if_done(w, slot);
    }
    return 0;
}

/* Submit pieces until the requests run out. */
static int emit(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    if (w->zero_span.range != NULL) {
        int rc = ntx_emit_span(w, &w->zero_span, NULL, err);
        if (rc != 1)
            return rc;
        *moved = true;
        struct ntx_work_range *range = w->zero_span.range;
        w->zero_span.range = NULL;
        ntx_work_range_unref(w, range);
    }
    while (w->ready_first != NULL) {
        struct ntx_slot *slot = w->ready_first;
        int rc = ntx_emit_span(w, &slot->span, slot, err);
        if (rc != 1)
            return rc;
        *moved = true;
        w->ready_first = slot->next;
        if (w->ready_first == NULL)
            w->ready_last = NULL;
        slot->emitted = true;
        free_slot_if_done(w, slot);
    }
    return 0;
}

/* Zeros wait for neighbours only as long as there may be any in the same range. */
static int flush_pending_zero(struct ntx_worker *w, struct ntx_error *err)
{
    if (w->zero_range == NULL || w->range == w->zero_range || w->reading > 0)
        return 0;
    int rc = ntx_emit_pending_zero(w, err);
    return rc < 0 ? rc : 0;
}

/* --------------------------------------------------------------------------------------------- the loop */

static int advance_device(struct ntx_worker *w, struct ntx_device *device, struct ntx_error *err)
{
    if (device->fd < 0 || device->in_flight == 0)
        return 0;
    uint64_t since = ntx_now_ns();
    int rc = device->ops->advance(device, err);
    device->lost = rc < 0;
    ntx_spend(device == w->target ? &w->counters.target_ns : &w->counters.source_ns, &since);
    return rc;
}

static bool is_finished(const struct ntx_worker *w)
{
    return w->ended && w->range == NULL && w->zero_span.range == NULL && w->zero_range == NULL &&
           w->ready_first == NULL && w->reading == 0 && !w->mapping && w->target->in_flight == 0;
}

/* Give an error its side, unless it has one. */
static int of_side(struct ntx_error *err, int rc, enum ntx_error_class side)
{
    if (rc < 0 && err->class == NTX_E_DEVICE)
        err->class = side;
    return rc;
}

static int advance(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    w->slot_limit = atomic_load(&w->scheduler->slot_limit);
    int rc = advance_device(w, w->target, err);
    if (rc < 0)
        return of_side(err, rc, NTX_E_TARGET);
    if ((rc = advance_device(w, w->source, err)) < 0)
        return of_side(err, rc, NTX_E_SOURCE);
    if ((rc = reap_target(w, moved, err)) < 0)
        return of_side(err, rc, NTX_E_TARGET);
    if ((rc = reap_source(w, moved, err)) < 0 || (rc = advance_cursor(w, moved, err)) < 0)
        return of_side(err, rc, NTX_E_SOURCE);
    uint64_t since = ntx_now_ns();
    rc = emit(w, moved, err);
    if (rc == 0)
        rc = flush_pending_zero(w, err);
    ntx_spend(&w->counters.target_ns, &since);
    ntx_scheduler_update_pace(w->scheduler, since);
    return of_side(err, rc, NTX_E_TARGET);
}

static void drain_one(struct ntx_worker *w, struct ntx_io *io)
{
    struct ntx_error ignored;
    struct ntx_request *request = io->owner;
    struct ntx_slot *slot = request->slot;
    /* One that failed, or a zero request that would go on, has not ended: its range stays unfinished. */
    if (io->result < 0 || (request->is_zero && request->remaining > io->length))
        return;
    ntx_request_finish(w, request, &ignored);
    if (slot != NULL)
        free_slot_if_done(w, slot);
}

/* Let requests in flight end, so that what they wrote is known and no buffer is freed under them. */
static void drain(struct ntx_worker *w, struct ntx_device *device)
{
    struct ntx_error ignored;
    uint64_t until_ns = ntx_now_ns() + DRAIN_NS;
    while (!device->lost && device->in_flight > 0) {
        struct ntx_io *io = ntx_device_reap(device);
        if (io != NULL) {
            if (device == w->target)
                drain_one(w, io);
            continue;
        }
        uint64_t now_ns = ntx_now_ns();
        device->lost = device->fd < 0 || now_ns >= until_ns || device->ops->advance(device, &ignored) < 0;
        /* This end only: nobody takes from the other what it has, and the wait would be over at once. */
        if (!device->lost && device->done_first == NULL)
            ntx_wait_for_device(device, now_ns, until_ns);
    }
}

int ntx_worker_run(struct ntx_worker *w, struct ntx_error *err)
{
    w->can_map = (w->source->info.flags & NTX_DEVICE_CAN_MAP) != 0 && !w->scheduler->options.reads_all;
    w->write_zeros = (w->target->info.flags & NTX_DEVICE_CAN_ZERO) == 0;
    int rc = 0;
    while (!is_finished(w)) {
        if (ntx_stop_is_set(&w->scheduler->stop))
            break;
        bool moved = false;
        rc = advance(w, &moved, err);
        if (rc < 0)
            break;
        bool is_waiting = w->source->in_flight > 0 || w->target->in_flight > 0 || is_rate_limited(w);
        if (!moved && is_waiting && (rc = ntx_worker_wait(w, err)) < 0)
            break;
    }
    /* Also after an error: what is handed back as stored has its digests. */
    struct ntx_error second;
    int flushed = ntx_digest_flush(w, rc < 0 ? &second : err);
    rc = rc < 0 ? rc : flushed;
    if (rc < 0)
        ntx_scheduler_fail(w->scheduler, err);
    drain(w, w->target);
    drain(w, w->source);
    return rc;
}

int ntx_worker_flush(struct ntx_worker *w, struct ntx_error *err)
{
    struct ntx_io io = {.op = NTX_OP_FLUSH};
    return of_side(err, ntx_device_do(w->target, &io, w->scheduler->options.timeout_ms, err), NTX_E_TARGET);
}

size_t ntx_worker_unfinished(const struct ntx_worker *w, struct ntx_extent *extents, size_t capacity)
{
    size_t count = 0;
    size_t ranges = w->ranges == NULL ? 0 : ranges_of(w);
    for (size_t i = 0; i < ranges; i++) {
        const struct ntx_work_range *range = &w->ranges[i];
        for (size_t k = 0; range->open > 0 && k < range->count; k++, count++) {
            if (count < capacity)
                extents[count] = range->extents[k];
        }
    }
    return count;
}
