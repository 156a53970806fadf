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

/* After an error, answers to what is in flight are awaited no longer than this, nor than any request; of a job that is
 * cancelled only as long as a healthy end needs, because whoever cancels wants to be gone within a second. */
#define DRAIN_NS (5 * NTX_NS_PER_S)
#define CANCELLED_DRAIN_NS (500 * NTX_NS_PER_MS)

/* How soon a thread that waits for an answer learns that there is more to do, and that it may have more in flight.
 * Later than at the start it learns that with the next answer. */
#define FEED_INTERVAL_NS (20 * NTX_NS_PER_MS)
#define LIMIT_INTERVAL_NS (2 * NTX_NS_PER_MS)

/* ---------------------------------------------------------------------------------------- start and end */

int ntx_worker_init(struct ntx_worker *w, struct ntx_scheduler *scheduler, struct ntx_error *err)
{
    const struct ntx_job_options *options = &scheduler->options;
    unsigned depth = scheduler->in_flight;
    int rc = 0;

    w->scheduler = scheduler;
    w->wait = (struct ntx_wait){.stop_fd = scheduler->stop.fd,
                                .timeout_ms = options->limits.timeout_ms,
                                .flush_timeout_ms = ntx_flush_timeout_ms(&options->limits)};
    ntx_cursor_init(&w->cursor, options, scheduler->size);
    rc |= ntx_ranges_init(&w->ranges, NTX_WORKER_RANGES(depth), &w->counters);
    rc |= ntx_slots_init(&w->slots, depth, options->limits.request_size);
    rc |= ntx_digester_init(&w->digester, options);
    rc |= ntx_outbox_init(&w->outbox, depth, options, &w->ranges, &w->slots, &w->counters);
    if (rc != 0)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for a thread with %u requests in flight", depth);
    return 0;
}

void ntx_worker_destroy(struct ntx_worker *w)
{
    if (w->owns_devices) {
        ntx_close(w->source);
        ntx_close(w->target);
    }
    ntx_outbox_destroy(&w->outbox);
    ntx_digester_destroy(&w->digester);
    ntx_slots_destroy(&w->slots);
    ntx_ranges_destroy(&w->ranges);
}

/* The rate limit permits no more yet. */
static bool is_rate_limited(const struct ntx_worker *w)
{
    /* Without a limit the clock is not read: a pass may be one extent of zeros, and costs little more. */
    return w->wait.limited_until_ns > 0 && ntx_now_ns() < w->wait.limited_until_ns;
}

/* ------------------------------------------------------------------------------------------- the source */

/* Only now is known where the source ends: what was to be read behind it is nothing. */
static void end_disk(struct ntx_worker *w)
{
    uint64_t end = w->source->info.size;

    if (w->cursor.size == end)
        return;
    ntx_cursor_cut(&w->cursor, end);
    ntx_ranges_cut(&w->ranges, end);
    ntx_scheduler_cut(w->scheduler, end);
    if (w->held.range != NULL)
        ntx_ranges_unref(&w->ranges, w->held.range);
    w->held.range = NULL;
}

/* Cut what was read to what there was; false: nothing, and the slot is free again. */
static bool keep_read(struct ntx_worker *w, struct ntx_slot *slot)
{
    struct ntx_work_range *range = slot->span.range;

    if (!w->source->has_ended)
        return true;
    end_disk(w);
    slot->span.end = slot->span.start + slot->read.length;
    if (slot->read.length > 0)
        return true;
    ntx_slots_give_back(&w->slots, slot, NULL);
    ntx_ranges_unref(&w->ranges, range);
    return false;
}

/* Reads that arrived get their digests, and are ready to be sent. */
static int reap_source(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    struct ntx_io *io;
    while ((io = ntx_device_reap(w->source)) != NULL) {
        *moved = true;
        if (io == &w->cursor.map_io) {
            ntx_cursor_mapped(&w->cursor);
            continue;
        }
        struct ntx_slot *slot = io->owner;
        w->reading--;
        if (io->result < 0)
            return ntx_device_error_of(w->source, io, err);
        if (!keep_read(w, slot))
            continue;
        ntx_count(&w->counters.read, io->length);
        uint64_t since = ntx_now_ns();
        int rc = ntx_digester_take_data(&w->digester, &slot->span, slot->data, err);
        ntx_spend(&w->counters.digest_ns, &since);
        if (rc < 0)
            return rc;
        ntx_outbox_add(&w->outbox, slot);
    }
    return 0;
}

/* Nothing can be done, and nothing is in flight. */
static bool is_idle(const struct ntx_worker *w)
{
    return ntx_outbox_is_empty(&w->outbox) && w->reading == 0 && !w->cursor.is_mapping && w->target->in_flight == 0;
}

/* 1: there is a range; 0: not now; negative: failed, and what was taken counts as begun. */
static int take_range(struct ntx_worker *w, struct ntx_error *err)
{
    struct ntx_work_range *range = w->ranges.free;
    if (range == NULL || w->ended)
        return 0;
    /* Wait for the feed only when nothing else could be done meanwhile. */
    enum ntx_take take = ntx_scheduler_take(w->scheduler, w->rank, range, is_idle(w), w->checkpoint);
    w->ended = take == NTX_TAKE_END;
    w->waits_for_extents = take == NTX_TAKE_WAIT;
    if (take == NTX_TAKE_END || take == NTX_TAKE_WAIT)
        return 0;
    ntx_cursor_begin(&w->cursor, ntx_ranges_take(&w->ranges));
    if (take == NTX_TAKE_NO_MEMORY)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for the extents of a block: more than %zu",
                             range->count);
    return 1;
}

/* Whether the limits let so many bytes pass now; if not, limited_until_ns says when to ask again. */
static bool may_read(struct ntx_worker *w, uint64_t length)
{
    struct ntx_share *share = &w->scheduler->share;
    w->wait.limited_until_ns = 0;
    uint64_t wait_ns = ntx_share_cpu_wait_ns(share);
    if (wait_ns == 0 && ntx_share_is_unlimited(share) && !w->claim.is_waiting)
        return true;
    uint64_t now_ns = ntx_now_ns();
    if (wait_ns == 0)
        wait_ns = ntx_share_take(share, &w->claim, length, now_ns);
    if (wait_ns > 0)
        w->wait.limited_until_ns = now_ns + wait_ns;
    return wait_ns == 0;
}

/* Begin to read the span of the first free slot, or hold it back. */
static int start_read(struct ntx_worker *w, struct ntx_error *err)
{
    uint64_t length = w->slots.free->span.end - w->slots.free->span.start;
    if (!may_read(w, length)) {
        w->held = w->slots.free->span;
        return 0;
    }
    struct ntx_slot *slot = ntx_slots_take(&w->slots);
    const struct ntx_span *span = &slot->span;
    slot->read =
        (struct ntx_io){.op = NTX_OP_READ, .offset = span->start, .length = length, .data = slot->data, .owner = slot};
    w->reading++;
    uint64_t since = ntx_now_ns();
    int rc = ntx_device_submit(w->source, &slot->read, err);
    ntx_spend(&w->counters.source_ns, &since);
    return rc;
}

/* Take the cursor a step on: begin a read, or set the zero span, or end the range. */
static int step(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    struct ntx_work_range *range = w->cursor.range;
    struct ntx_span *span = &w->slots.free->span; /* in its place, should it be data */
    int next = ntx_cursor_next(&w->cursor, span, err);
    if (next < 0)
        return next;
    *moved = true;
    switch (next) {
    case NTX_NEXT_END:
        ntx_scheduler_release_range(w->scheduler, w->rank);
        ntx_ranges_unref(&w->ranges, range);
        return 0;
    case NTX_NEXT_ZERO:
        w->outbox.zero_span = *span;
        return ntx_digester_take_zeros(&w->digester, &w->outbox.zero_span, err);
    case NTX_NEXT_DATA:
        next = start_read(w, err);
        if (next < 0)
            return next;
        break;
    default: /* the source was asked for its map */
        break;
    }
    return reap_source(w, moved, err);
}

/* Ask again for the span that was held back.  It is the cursor's last one, which has its range still. */
static int resume_held(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    w->slots.free->span = w->held;
    w->held.range = NULL;
    int rc = start_read(w, err);
    *moved = *moved || w->held.range == NULL;
    return rc < 0 ? rc : reap_source(w, moved, err);
}

static int advance_cursor(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    bool works_at_once = w->source->fd < 0;
    while (!w->cursor.is_mapping && w->outbox.zero_span.range == NULL && ntx_slots_may_take(&w->slots)) {
        if (is_rate_limited(w) || (works_at_once && w->outbox.ready_first != NULL))
            return 0;
        int rc = w->cursor.range == NULL ? take_range(w, err) : 1;
        if (rc != 1)
            return rc;
        rc = w->held.range != NULL ? resume_held(w, moved, err) : step(w, moved, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- checkpoints */

/* What was answered leaves this connection: a flush covers it then. */
static int settle(struct ntx_worker *w, struct ntx_error *err)
{
    const struct ntx_device_ops *ops = w->target->ops;
    int rc = ops->settle != NULL ? ops->settle(w->target, err) : 0;

    w->outbox.has_failed |= rc < 0;
    return rc;
}

/* Send and write what is held back for its neighbours, and tell what is open then; the first worker flushes. */
static int tell_checkpoint(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    if (atomic_load(&w->scheduler->checkpoints_asked) == w->checkpoint)
        return 0;
    int rc = ntx_outbox_send_zero_run(&w->outbox, err);
    if (rc == 0)
        rc = ntx_digester_flush(&w->digester, err);
    if (rc == 0)
        rc = settle(w, err);
    if (rc < 0)
        return rc;
    if (!ntx_scheduler_tell_checkpoint(w->scheduler, w->rank, &w->checkpoint, ntx_ranges_low(&w->ranges)))
        return 0;
    *moved = true;
    w->flush_began_ns = ntx_now_ns();
    w->wait.flush_due_ns = ntx_deadline_ns(w->flush_began_ns, w->wait.flush_timeout_ms);
    w->wait.held_up_from = w->outbox.overtakes_flush ? UINT64_MAX : w->target->submitted + 1;
    return ntx_outbox_flush(&w->outbox, &w->scheduler->cancel, err);
}

static void make_checkpoint(struct ntx_worker *w)
{
    uint64_t flush_ns = ntx_now_ns() - w->flush_began_ns;

    w->wait.flush_due_ns = 0;
    if (w->target->old_up_to >= w->wait.held_up_from) /* what is old may have had to wait for it */
        w->wait.target_due_ns += flush_ns;
    ntx_scheduler_make_checkpoint(w->scheduler, flush_ns);
}

/* ------------------------------------------------------------------------------------------- the target */

static int reap_target(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    if (w->target->done_first == NULL)
        return 0;
    int rc = ntx_outbox_reap(&w->outbox, moved, err);
    if (w->outbox.overtakes_flush && w->wait.held_up_from < UINT64_MAX) {
        w->wait.held_up_from = UINT64_MAX; /* nor does what is in flight now have to wait for it */
        w->wait.target_due_ns = ntx_deadline_ns(ntx_now_ns(), w->wait.timeout_ms);
    }
    if (w->outbox.has_flushed) {
        w->outbox.has_flushed = false;
        make_checkpoint(w);
    }
    return rc;
}

static int send_ready(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    const struct ntx_work_range *zeros;
    int rc = ntx_outbox_send(&w->outbox, moved, err);
    if (rc < 0)
        return rc;
    /* Zeros wait for neighbours only as long as there may be any in the same range. */
    zeros = w->outbox.zero_run.range;
    bool may_grow = zeros == NULL || zeros == w->cursor.range || w->reading > 0;
    return may_grow ? 0 : ntx_outbox_send_zero_run(&w->outbox, err);
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
    return w->ended && w->cursor.range == NULL && is_idle(w);
}

/* Give an error its side, unless it has one. */
static int of_side(struct ntx_error *err, int rc, enum ntx_error_class side)
{
    if (rc < 0 && err->class == NTX_E_DEVICE)
        err->class = side;
    return rc;
}

/* Tell the scheduler what the pace is judged by, and let it judge. */
static void report_to_scheduler(struct ntx_worker *w, uint64_t now_ns)
{
    w->now_ns = now_ns;
    if (w->slots.completed > 0)
        atomic_fetch_add_explicit(&w->scheduler->completions, w->slots.completed, memory_order_relaxed);
    w->slots.completed = 0;
    ntx_scheduler_update_pace(w->scheduler, now_ns);
}

static int advance(struct ntx_worker *w, bool *moved, struct ntx_error *err)
{
    w->slots.limit = atomic_load(&w->scheduler->slot_limit);
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
    rc = send_ready(w, moved, err);
    if (rc == 0)
        rc = tell_checkpoint(w, moved, err);
    ntx_spend(&w->counters.target_ns, &since);
    report_to_scheduler(w, since);
    return of_side(err, rc, NTX_E_TARGET);
}

static _Atomic uint64_t *stage_waited_on(struct ntx_worker *w)
{
    if (w->source->in_flight > 0 && ntx_slots_may_take(&w->slots))
        return &w->counters.source_ns;
    if (w->target->in_flight > 0)
        return &w->counters.target_ns;
    return w->source->in_flight > 0 ? &w->counters.source_ns : &w->counters.limit_ns;
}

/* Wait until there may be something to do, and count the time. */
static int wait_for_more(struct ntx_worker *w, struct ntx_error *err)
{
    /* In this order: a limit that was raised for the last time is seen here, or else the flag still is. */
    bool is_starting = atomic_load(&w->scheduler->starting);
    if (atomic_load(&w->scheduler->slot_limit) != w->slots.limit)
        return 0;
    uint64_t interval_ns = w->waits_for_extents ? FEED_INTERVAL_NS : UINT64_MAX;
    if (is_starting)
        interval_ns = LIMIT_INTERVAL_NS;
    _Atomic uint64_t *counter = stage_waited_on(w);
    bool is_full = !ntx_slots_may_take(&w->slots);
    uint64_t since = ntx_now_ns(), began = since;
    int rc = ntx_wait(&w->wait, w->source, w->target, since, interval_ns, err);
    ntx_spend(counter, &since);
    if (is_full)
        atomic_fetch_add_explicit(&w->scheduler->waiting_ns, since - began, memory_order_relaxed);
    return rc;
}

/* Let requests in flight end, so that what they wrote is known and no buffer is freed under them. */
static void drain(struct ntx_worker *w, struct ntx_device *device, uint64_t began_ns)
{
    struct ntx_error ignored;
    while (!device->lost && device->in_flight > 0) {
        struct ntx_io *io = ntx_device_reap(device);
        if (io != NULL) {
            if (device == w->target)
                ntx_outbox_drain(&w->outbox, io);
            continue;
        }
        uint64_t now_ns = ntx_now_ns();
        uint64_t most_ns = ntx_stop_is_set(&w->scheduler->cancel) ? CANCELLED_DRAIN_NS : DRAIN_NS;
        uint64_t until_ns = ntx_min64(ntx_deadline_ns(began_ns, w->wait.timeout_ms), began_ns + most_ns);
        device->lost =
            device->fd < 0 || device->is_patient || now_ns >= until_ns || device->ops->advance(device, &ignored) < 0;
        /* This end only: nobody takes from the other what it has, and the wait would be over at once. */
        if (!device->lost && device->done_first == NULL)
            ntx_wait_for_device(device, &w->scheduler->cancel, now_ns, until_ns);
    }
}

int ntx_worker_run(struct ntx_worker *w, struct ntx_error *err)
{
    w->cursor.source = w->source;
    w->cursor.can_map = (w->source->info.flags & NTX_DEVICE_CAN_MAP) != 0 && !w->scheduler->options.reads_all;
    w->outbox.target = w->target;
    w->outbox.in_order = (w->target->info.flags & NTX_DEVICE_IN_ORDER) != 0;
    w->outbox.zero_run.writes_zeros = (w->target->info.flags & NTX_DEVICE_CAN_ZERO) == 0;
    int rc = 0;
    while (!is_finished(w)) {
        if (ntx_stop_is_set(&w->scheduler->stop))
            break;
        bool moved = false;
        uint64_t heard_ns = w->now_ns;
        rc = advance(w, &moved, err);
        if (rc < 0)
            break;
        bool is_waiting = w->source->in_flight > 0 || w->target->in_flight > 0 || is_rate_limited(w);
        if (moved)
            rc = ntx_wait_check(&w->wait, w->source, w->target, heard_ns, w->now_ns, err);
        else if (is_waiting)
            rc = wait_for_more(w, err);
        if (rc < 0)
            break;
    }
    /* Also after an error: what is handed back as stored has its digests. */
    struct ntx_error second;
    int flushed = ntx_digester_flush(&w->digester, rc < 0 ? &second : err);
    rc = rc < 0 ? rc : flushed;
    if (rc == 0 && is_finished(w) && (rc = of_side(err, settle(w, err), NTX_E_TARGET)) == 0)
        ntx_scheduler_leave(w->scheduler, w->rank, &w->checkpoint);
    if (rc < 0)
        ntx_scheduler_fail(w->scheduler, err);
    ntx_share_withdraw(&w->scheduler->share, &w->claim);
    uint64_t began_ns = ntx_now_ns();
    drain(w, w->target, began_ns);
    drain(w, w->source, began_ns);
    settle(w, &second); /* likewise: if that fails, no flush confirms it */
    return rc;
}

int ntx_worker_flush(struct ntx_worker *w, unsigned timeout_ms, struct ntx_error *err)
{
    struct ntx_io io = {.op = NTX_OP_FLUSH, .stop = &w->scheduler->cancel};
    return of_side(err, ntx_device_do(w->target, &io, timeout_ms, err), NTX_E_TARGET);
}
