/* scheduler.c: see scheduler.h. */
#include "scheduler.h"

#include "bytes.h"
#include "clock.h"
#include "error.h"
#include "event.h"

#include <errno.h>

/* Often enough for an epoch of the pace, seldom enough for the lock. */
#define PACE_INTERVAL_NS 1000000ull

static int open_events(struct ntx_scheduler *scheduler, struct ntx_error *err)
{
    int rc = ntx_stop_init(&scheduler->stop);
    if (rc == 0)
        rc = ntx_stop_init(&scheduler->stop_connecting);
    if (rc == 0)
        rc = ntx_stop_init(&scheduler->cancel);
    if (rc == 0)
        rc = scheduler->done_fd = ntx_event_open();
    return rc < 0 ? ntx_error_errno(err, NTX_E_SYSTEM, rc, "making an event descriptor failed") : 0;
}

static void publish_pace_locked(struct ntx_scheduler *scheduler)
{
    atomic_store(&scheduler->slot_limit, ntx_pace_in_flight(&scheduler->pace));
    atomic_store(&scheduler->active, ntx_pace_connections(&scheduler->pace));
    atomic_store(&scheduler->starting, ntx_pace_is_starting(&scheduler->pace));
    pthread_cond_broadcast(&scheduler->more);
}

int ntx_scheduler_init(struct ntx_scheduler *scheduler, const struct ntx_range_bytes *range_bytes,
                       struct ntx_error *err)
{
    scheduler->stop.fd = scheduler->stop_connecting.fd = scheduler->cancel.fd = scheduler->done_fd = -1;
    scheduler->connecting = 1; /* the first worker's, which is always wanted */
    pthread_mutex_init(&scheduler->lock, NULL);
    pthread_cond_init(&scheduler->more, NULL);
    ntx_share_join(&scheduler->share, scheduler->options.limiter);
    struct ntx_pace_limits limits = scheduler->pace.limits;
    ntx_pace_init(&scheduler->pace, &limits);
    publish_pace_locked(scheduler); /* nobody else is there yet */
    int rc = ntx_plan_init(&scheduler->plan, scheduler->size, range_bytes, err);
    return rc < 0 ? rc : open_events(scheduler, err);
}

void ntx_scheduler_destroy(struct ntx_scheduler *scheduler)
{
    ntx_share_leave(&scheduler->share);
    ntx_plan_destroy(&scheduler->plan);
    ntx_stop_destroy(&scheduler->stop);
    ntx_stop_destroy(&scheduler->stop_connecting);
    ntx_stop_destroy(&scheduler->cancel);
    ntx_event_close(scheduler->done_fd);
    pthread_cond_destroy(&scheduler->more);
    pthread_mutex_destroy(&scheduler->lock);
}

/* Wake who waits for extents or for a connection to be wanted, and end connecting, if there is nothing to hand out. */
static void tell_if_done_locked(struct ntx_scheduler *scheduler)
{
    if (!ntx_plan_is_done(&scheduler->plan))
        return;
    ntx_stop_set(&scheduler->stop_connecting);
    pthread_cond_broadcast(&scheduler->more);
}

int ntx_scheduler_feed(struct ntx_scheduler *scheduler, const struct ntx_extent *extents, size_t count, size_t *taken,
                       struct ntx_error *err)
{
    int rc = 0;
    *taken = 0;
    pthread_mutex_lock(&scheduler->lock);
    /* A job that stops takes nothing; the caller learns why when it joins. */
    if (!ntx_stop_is_set(&scheduler->stop))
        rc = ntx_plan_feed(&scheduler->plan, extents, count, taken, err);
    scheduler->wants_extents_told = ntx_plan_wants_extents(&scheduler->plan);
    pthread_cond_broadcast(&scheduler->more);
    pthread_mutex_unlock(&scheduler->lock);
    return rc;
}

void ntx_scheduler_feed_end(struct ntx_scheduler *scheduler)
{
    pthread_mutex_lock(&scheduler->lock);
    scheduler->plan.ended = true;
    pthread_cond_broadcast(&scheduler->more);
    tell_if_done_locked(scheduler);
    pthread_mutex_unlock(&scheduler->lock);
}

void ntx_scheduler_cut(struct ntx_scheduler *scheduler, uint64_t end)
{
    pthread_mutex_lock(&scheduler->lock);
    ntx_plan_cut(&scheduler->plan, end);
    tell_if_done_locked(scheduler);
    pthread_mutex_unlock(&scheduler->lock);
}

bool ntx_scheduler_wants_extents(struct ntx_scheduler *scheduler)
{
    pthread_mutex_lock(&scheduler->lock);
    bool wants_extents = ntx_plan_wants_extents(&scheduler->plan) && !ntx_stop_is_set(&scheduler->stop);
    pthread_mutex_unlock(&scheduler->lock);
    return wants_extents;
}

/* The end is for all; work only for the workers that are active. */
static enum ntx_take take_locked(struct ntx_scheduler *scheduler, unsigned rank, struct ntx_work_range *range)
{
    if (rank >= atomic_load(&scheduler->active))
        return ntx_plan_is_done(&scheduler->plan) ? NTX_TAKE_END : NTX_TAKE_WAIT;
    enum ntx_take take = ntx_plan_take(&scheduler->plan, range);
    scheduler->lacked_extents |= take == NTX_TAKE_WAIT;
    if (take == NTX_TAKE_WAIT || take == NTX_TAKE_END)
        return take;
    atomic_fetch_or(&scheduler->busy_ranks, 1ull << rank);
    tell_if_done_locked(scheduler);
    return take;
}

/* The first worker tells last: see checkpoint.h. */
static bool may_tell_locked(const struct ntx_scheduler *scheduler, unsigned rank, unsigned checkpoint)
{
    return checkpoint != scheduler->checkpoint.asked && (rank > 0 || scheduler->checkpoint.missing == 1);
}

enum ntx_take ntx_scheduler_take(struct ntx_scheduler *scheduler, unsigned rank, struct ntx_work_range *range,
                                 bool may_wait, unsigned checkpoint)
{
    pthread_mutex_lock(&scheduler->lock);
    enum ntx_take take = take_locked(scheduler, rank, range);
    while (take == NTX_TAKE_WAIT && may_wait && !ntx_stop_is_set(&scheduler->stop) &&
           !may_tell_locked(scheduler, rank, checkpoint)) {
        pthread_cond_wait(&scheduler->more, &scheduler->lock);
        take = take_locked(scheduler, rank, range);
    }
    bool tell = !scheduler->wants_extents_told && ntx_plan_wants_extents(&scheduler->plan);
    scheduler->wants_extents_told = scheduler->wants_extents_told || tell;
    pthread_mutex_unlock(&scheduler->lock);
    if (tell)
        ntx_event_signal(scheduler->done_fd);
    return take;
}

void ntx_scheduler_release_range(struct ntx_scheduler *scheduler, unsigned rank)
{
    atomic_fetch_and(&scheduler->busy_ranks, ~(1ull << rank));
}

bool ntx_scheduler_await_connection_wanted(struct ntx_scheduler *scheduler)
{
    pthread_mutex_lock(&scheduler->lock);
    while (scheduler->connected + scheduler->connecting >= atomic_load(&scheduler->active) &&
           !ntx_plan_is_done(&scheduler->plan) && !ntx_stop_is_set(&scheduler->stop))
        pthread_cond_wait(&scheduler->more, &scheduler->lock);
    bool is_needed = !ntx_plan_is_done(&scheduler->plan) && !ntx_stop_is_set(&scheduler->stop);
    scheduler->connecting += is_needed;
    pthread_mutex_unlock(&scheduler->lock);
    return is_needed;
}

unsigned ntx_scheduler_add_connection(struct ntx_scheduler *scheduler, unsigned *checkpoint)
{
    pthread_mutex_lock(&scheduler->lock);
    scheduler->connecting--;
    unsigned rank = scheduler->connected++;
    scheduler->at_work++;
    *checkpoint = scheduler->checkpoint.asked;
    pthread_mutex_unlock(&scheduler->lock);
    return rank;
}

bool ntx_scheduler_ask_checkpoint(struct ntx_scheduler *scheduler)
{
    pthread_mutex_lock(&scheduler->lock);
    bool is_asked = !ntx_stop_is_set(&scheduler->stop) && !scheduler->first_has_left &&
                    ntx_checkpoint_ask(&scheduler->checkpoint, scheduler->at_work, ntx_plan_low(&scheduler->plan));
    atomic_store(&scheduler->checkpoints_asked, scheduler->checkpoint.asked);
    if (is_asked)
        pthread_cond_broadcast(&scheduler->more);
    pthread_mutex_unlock(&scheduler->lock);
    return is_asked;
}

static bool tell_checkpoint_locked(struct ntx_scheduler *scheduler, unsigned *checkpoint, uint64_t low)
{
    if (*checkpoint == scheduler->checkpoint.asked)
        return false;
    *checkpoint = scheduler->checkpoint.asked;
    bool is_last = ntx_checkpoint_tell(&scheduler->checkpoint, low);
    if (scheduler->checkpoint.missing == 1)
        pthread_cond_broadcast(&scheduler->more); /* the first worker may be the one */
    return is_last;
}

bool ntx_scheduler_tell_checkpoint(struct ntx_scheduler *scheduler, unsigned rank, unsigned *checkpoint, uint64_t low)
{
    pthread_mutex_lock(&scheduler->lock);
    bool is_last = may_tell_locked(scheduler, rank, *checkpoint) && tell_checkpoint_locked(scheduler, checkpoint, low);
    pthread_mutex_unlock(&scheduler->lock);
    return is_last;
}

void ntx_scheduler_leave(struct ntx_scheduler *scheduler, unsigned rank, unsigned *checkpoint)
{
    pthread_mutex_lock(&scheduler->lock);
    scheduler->at_work--;
    if (rank > 0)
        tell_checkpoint_locked(scheduler, checkpoint, UINT64_MAX);
    else
        scheduler->first_has_left = true;
    pthread_mutex_unlock(&scheduler->lock);
}

void ntx_scheduler_make_checkpoint(struct ntx_scheduler *scheduler, uint64_t flush_ns)
{
    pthread_mutex_lock(&scheduler->lock);
    if (!ntx_stop_is_set(&scheduler->stop)) /* else see the closing flush, which knows of what the target has failed */
        ntx_checkpoint_make(&scheduler->checkpoint);
    pthread_mutex_unlock(&scheduler->lock);
    atomic_fetch_add_explicit(&scheduler->flush_ns, flush_ns, memory_order_relaxed);
    ntx_event_signal(scheduler->done_fd);
}

/* One that was given up because the job stops was not refused. */
static void keep_refusal_locked(struct ntx_scheduler *scheduler, const struct ntx_error *why)
{
    if (why->class == NTX_E_CANCELLED)
        return;
    if (scheduler->refused++ == 0)
        scheduler->refusal = *why;
}

void ntx_scheduler_give_up_connection(struct ntx_scheduler *scheduler, const struct ntx_error *why)
{
    pthread_mutex_lock(&scheduler->lock);
    scheduler->connecting--;
    keep_refusal_locked(scheduler, why);
    const struct ntx_pace_limits *limits = &scheduler->pace.limits;
    unsigned there = scheduler->connected + scheduler->connecting;
    /* Of those to begin with each tries for itself; after them the first refusal is the last. */
    ntx_pace_limit_connections(&scheduler->pace,
                               there < limits->first_connections ? limits->most_connections - 1 : there);
    publish_pace_locked(scheduler);
    pthread_mutex_unlock(&scheduler->lock);
}

unsigned ntx_scheduler_refused(struct ntx_scheduler *scheduler, struct ntx_error *first)
{
    pthread_mutex_lock(&scheduler->lock);
    unsigned refused = scheduler->refused;
    *first = scheduler->refusal;
    pthread_mutex_unlock(&scheduler->lock);
    return refused;
}

static struct ntx_pace_seen seen_locked(struct ntx_scheduler *scheduler)
{
    unsigned active = atomic_load(&scheduler->active);
    uint64_t active_ranks = active < 64 ? (1ull << active) - 1 : UINT64_MAX;
    struct ntx_pace_seen seen = {
        .completions = atomic_load(&scheduler->completions),
        .waiting_ns = atomic_load(&scheduler->waiting_ns),
        .connections = scheduler->connected < active ? scheduler->connected : active,
        /* A worker that is no longer active still has to finish what it holds. */
        .is_settled = scheduler->connected >= active && !scheduler->lacked_extents &&
                      (atomic_load(&scheduler->busy_ranks) & ~active_ranks) == 0,
    };

    scheduler->lacked_extents = false;
    return seen;
}

void ntx_scheduler_get_pace(struct ntx_scheduler *scheduler, struct ntx_job_progress *progress)
{
    pthread_mutex_lock(&scheduler->lock);
    unsigned active = atomic_load(&scheduler->active);
    progress->connections = scheduler->connected < active ? scheduler->connected : active;
    progress->in_flight = atomic_load(&scheduler->slot_limit);
    progress->why = ntx_pace_why(&scheduler->pace);
    progress->refused = scheduler->refused;
    progress->checkpoints = scheduler->checkpoint.made;
    progress->stored_to = scheduler->checkpoint.stored_to;
    progress->flush_ns = atomic_load_explicit(&scheduler->flush_ns, memory_order_relaxed);
    pthread_mutex_unlock(&scheduler->lock);
}

void ntx_scheduler_update_pace(struct ntx_scheduler *scheduler, uint64_t now_ns)
{
    if (now_ns < atomic_load_explicit(&scheduler->pace_due_ns, memory_order_relaxed))
        return;
    pthread_mutex_lock(&scheduler->lock);
    /* Threads that wake together update it once. */
    if (now_ns >= atomic_load_explicit(&scheduler->pace_due_ns, memory_order_relaxed)) {
        atomic_store_explicit(&scheduler->pace_due_ns, now_ns + PACE_INTERVAL_NS, memory_order_relaxed);
        struct ntx_pace_seen seen = seen_locked(scheduler);
        bool was_starting = ntx_pace_is_starting(&scheduler->pace);
        if (ntx_pace_tick(&scheduler->pace, now_ns, &seen) || was_starting != ntx_pace_is_starting(&scheduler->pace))
            publish_pace_locked(scheduler);
    }
    pthread_mutex_unlock(&scheduler->lock);
}

void ntx_scheduler_set_stored_to(struct ntx_scheduler *scheduler, uint64_t low)
{
    pthread_mutex_lock(&scheduler->lock);
    scheduler->checkpoint.stored_to = ntx_min64(low, ntx_plan_low(&scheduler->plan));
    pthread_mutex_unlock(&scheduler->lock);
}

static void keep_error_locked(struct ntx_scheduler *scheduler, const struct ntx_error *err)
{
    if (scheduler->error.class == NTX_E_NONE)
        scheduler->error = *err;
}

static void stop_all_locked(struct ntx_scheduler *scheduler)
{
    ntx_stop_set(&scheduler->stop);
    ntx_stop_set(&scheduler->stop_connecting);
    pthread_cond_broadcast(&scheduler->more);
}

void ntx_scheduler_fail(struct ntx_scheduler *scheduler, const struct ntx_error *err)
{
    pthread_mutex_lock(&scheduler->lock);
    keep_error_locked(scheduler, err);
    stop_all_locked(scheduler);
    pthread_mutex_unlock(&scheduler->lock);
}

void ntx_scheduler_cancel(struct ntx_scheduler *scheduler)
{
    struct ntx_error err;

    ntx_error_set(&err, NTX_E_CANCELLED, -ECANCELED, "the transfer was stopped");
    pthread_mutex_lock(&scheduler->lock);
    keep_error_locked(scheduler, &err); /* first: what is given up for the cancel is not the error */
    ntx_stop_set(&scheduler->cancel);   /* then: who sees that the job stops, sees why */
    stop_all_locked(scheduler);
    pthread_mutex_unlock(&scheduler->lock);
}
