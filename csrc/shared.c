/* shared.c: see shared.h. */
#include "shared.h"

#include "error.h"
#include "event.h"

#include <time.h>

/* Often enough for an epoch of the pace, seldom enough for the lock. */
#define PACE_INTERVAL_NS 1000000ull

uint64_t ntx_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int open_bell(int *fd, struct ntx_error *err)
{
    *fd = ntx_event_open();
    return *fd < 0 ? ntx_error_errno(err, NTX_E_SYSTEM, *fd, "making an event descriptor failed") : 0;
}

static void publish_pace_locked(struct ntx_shared *shared)
{
    atomic_store(&shared->window, ntx_pace_in_flight(&shared->pace));
    atomic_store(&shared->active, ntx_pace_connections(&shared->pace));
    atomic_store(&shared->starting, ntx_pace_is_starting(&shared->pace));
    pthread_cond_broadcast(&shared->more);
}

int ntx_shared_init(struct ntx_shared *shared, const struct ntx_item_bytes *item_bytes, struct ntx_error *err)
{
    shared->stop_fd = shared->done_fd = -1;
    shared->connecting = 1; /* the first worker, which does not wait for its turn */
    pthread_mutex_init(&shared->lock, NULL);
    pthread_cond_init(&shared->more, NULL);
    ntx_bucket_init(&shared->bucket, shared->options.rate_bytes_per_s, ntx_now_ns());
    struct ntx_pace_limits limits = shared->pace.limits;
    ntx_pace_init(&shared->pace, &limits);
    publish_pace_locked(shared); /* nobody else is there yet */
    int rc = ntx_plan_init(&shared->plan, shared->size, item_bytes, err);
    if (rc == 0)
        rc = open_bell(&shared->stop_fd, err);
    if (rc == 0)
        rc = open_bell(&shared->done_fd, err);
    return rc;
}

void ntx_shared_destroy(struct ntx_shared *shared)
{
    ntx_plan_destroy(&shared->plan);
    ntx_event_close(shared->stop_fd);
    ntx_event_close(shared->done_fd);
    pthread_cond_destroy(&shared->more);
    pthread_mutex_destroy(&shared->lock);
}

int ntx_shared_feed(struct ntx_shared *shared, const struct ntx_extent *extents, size_t count, size_t *taken,
                    struct ntx_error *err)
{
    int rc = 0;
    *taken = 0;
    pthread_mutex_lock(&shared->lock);
    /* A job that stops takes nothing; the caller learns why when it joins. */
    if (!atomic_load(&shared->stopping))
        rc = ntx_plan_feed(&shared->plan, extents, count, taken, err);
    shared->hungry_told = ntx_plan_is_hungry(&shared->plan);
    pthread_cond_broadcast(&shared->more);
    pthread_mutex_unlock(&shared->lock);
    return rc;
}

void ntx_shared_feed_end(struct ntx_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    shared->plan.ended = true;
    pthread_cond_broadcast(&shared->more);
    pthread_mutex_unlock(&shared->lock);
}

bool ntx_shared_is_hungry(struct ntx_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    bool hungry = ntx_plan_is_hungry(&shared->plan) && !atomic_load(&shared->stopping);
    pthread_mutex_unlock(&shared->lock);
    return hungry;
}

/* The end is for all; work only for the workers that are active. */
static enum ntx_take take_locked(struct ntx_shared *shared, unsigned rank, struct ntx_item *item)
{
    if (rank >= atomic_load(&shared->active))
        return ntx_plan_is_done(&shared->plan) ? NTX_TAKE_END : NTX_TAKE_WAIT;
    enum ntx_take take = ntx_plan_take(&shared->plan, item);
    shared->was_short |= take == NTX_TAKE_WAIT;
    if (take == NTX_TAKE_WAIT || take == NTX_TAKE_END)
        return take;
    atomic_fetch_or(&shared->holding, 1ull << rank);
    if (ntx_plan_is_done(&shared->plan))
        pthread_cond_broadcast(&shared->more);
    return take;
}

enum ntx_take ntx_shared_take(struct ntx_shared *shared, unsigned rank, struct ntx_item *item, bool may_wait)
{
    pthread_mutex_lock(&shared->lock);
    enum ntx_take take = take_locked(shared, rank, item);
    while (take == NTX_TAKE_WAIT && may_wait && !atomic_load(&shared->stopping)) {
        pthread_cond_wait(&shared->more, &shared->lock);
        take = take_locked(shared, rank, item);
    }
    bool tell = !shared->hungry_told && ntx_plan_is_hungry(&shared->plan);
    shared->hungry_told = shared->hungry_told || tell;
    pthread_mutex_unlock(&shared->lock);
    if (tell)
        ntx_event_signal(shared->done_fd);
    return take;
}

void ntx_shared_put_down(struct ntx_shared *shared, unsigned rank)
{
    atomic_fetch_and(&shared->holding, ~(1ull << rank));
}

bool ntx_shared_await_turn(struct ntx_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    while (shared->connected + shared->connecting >= atomic_load(&shared->active) && !ntx_plan_is_done(&shared->plan) &&
           !atomic_load(&shared->stopping))
        pthread_cond_wait(&shared->more, &shared->lock);
    bool is_needed = !ntx_plan_is_done(&shared->plan) && !atomic_load(&shared->stopping);
    shared->connecting += is_needed;
    pthread_mutex_unlock(&shared->lock);
    return is_needed;
}

unsigned ntx_shared_is_connected(struct ntx_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    shared->connecting--;
    unsigned rank = shared->connected++;
    pthread_mutex_unlock(&shared->lock);
    return rank;
}

void ntx_shared_is_refused(struct ntx_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    shared->connecting--;
    const struct ntx_pace_limits *limits = &shared->pace.limits;
    unsigned there = shared->connected + shared->connecting;
    /* Of those to begin with each tries for itself; after them the first refusal is the last. */
    ntx_pace_limit_connections(&shared->pace, there < limits->first_connections ? limits->most_connections - 1 : there);
    publish_pace_locked(shared);
    pthread_mutex_unlock(&shared->lock);
}

static struct ntx_pace_seen look_locked(struct ntx_shared *shared)
{
    unsigned active = atomic_load(&shared->active);
    uint64_t of_the_active = active < 64 ? (1ull << active) - 1 : UINT64_MAX;
    struct ntx_pace_seen seen = {
        .turns = atomic_load(&shared->turns),
        .starved_ns = atomic_load(&shared->starved_ns),
        .connections = shared->connected < active ? shared->connected : active,
        /* A worker that is no longer active still has to finish what it holds. */
        .is_settled =
            shared->connected >= active && !shared->was_short && (atomic_load(&shared->holding) & ~of_the_active) == 0,
    };

    shared->was_short = false;
    return seen;
}

void ntx_shared_get_pace(struct ntx_shared *shared, struct ntx_job_progress *progress)
{
    pthread_mutex_lock(&shared->lock);
    unsigned active = atomic_load(&shared->active);
    progress->connections = shared->connected < active ? shared->connected : active;
    progress->in_flight = atomic_load(&shared->window);
    progress->why = ntx_pace_why(&shared->pace);
    pthread_mutex_unlock(&shared->lock);
}

void ntx_shared_look_at_pace(struct ntx_shared *shared, uint64_t now_ns)
{
    if (now_ns < atomic_load_explicit(&shared->pace_due_ns, memory_order_relaxed))
        return;
    pthread_mutex_lock(&shared->lock);
    /* Threads that wake together are one look. */
    if (now_ns >= atomic_load_explicit(&shared->pace_due_ns, memory_order_relaxed)) {
        atomic_store_explicit(&shared->pace_due_ns, now_ns + PACE_INTERVAL_NS, memory_order_relaxed);
        struct ntx_pace_seen seen = look_locked(shared);
        bool was_starting = ntx_pace_is_starting(&shared->pace);
        if (ntx_pace_tick(&shared->pace, now_ns, &seen) || was_starting != ntx_pace_is_starting(&shared->pace))
            publish_pace_locked(shared);
    }
    pthread_mutex_unlock(&shared->lock);
}

uint64_t ntx_shared_charge(struct ntx_shared *shared, uint64_t length)
{
    if (shared->options.rate_bytes_per_s == 0)
        return 0;
    pthread_mutex_lock(&shared->lock);
    uint64_t wait_ns = ntx_bucket_take(&shared->bucket, length, ntx_now_ns());
    pthread_mutex_unlock(&shared->lock);
    return wait_ns;
}

static void stop_all(struct ntx_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    atomic_store(&shared->stopping, true);
    pthread_cond_broadcast(&shared->more);
    pthread_mutex_unlock(&shared->lock);
    ntx_event_signal(shared->stop_fd);
}

void ntx_shared_fail(struct ntx_shared *shared, const struct ntx_error *err)
{
    pthread_mutex_lock(&shared->lock);
    if (shared->error.class == NTX_E_NONE)
        shared->error = *err;
    pthread_mutex_unlock(&shared->lock);
    stop_all(shared);
}
