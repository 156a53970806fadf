/*
 * job.c: the life of a job: check, start the threads, feed them, stop them, flush, hand back what is not stored.
 *
 * The first error wins: it is kept, everybody is told to stop, everybody is joined.  The last thread to end sends
 * the closing flush, through whichever connection is still good, so that one flush covers all that was answered.
 */
#include "job.h"

#include "bytes.h"
#include "error.h"
#include "event.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Work items: enough of them for every thread to have several, none smaller than pays for its hand-out. */
#define ITEMS_PER_WORKER 16u
#define MIN_ITEM (4u * NTX_MIB)
#define MAX_ITEM (128u * NTX_MIB)

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t ntx_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* -------------------------------------------------------------------------------------- for the workers */

enum ntx_take ntx_job_take(struct ntx_job *job, struct ntx_item *item, bool may_wait)
{
    pthread_mutex_lock(&job->lock);
    enum ntx_take take = ntx_plan_take(&job->plan, item);
    while (take == NTX_TAKE_WAIT && may_wait && !atomic_load(&job->stopping)) {
        pthread_cond_wait(&job->more, &job->lock);
        take = ntx_plan_take(&job->plan, item);
    }
    bool tell = !job->hungry_told && ntx_plan_is_hungry(&job->plan);
    job->hungry_told = job->hungry_told || tell;
    pthread_mutex_unlock(&job->lock);
    if (tell)
        ntx_event_signal(job->done_fd);
    return take;
}

uint64_t ntx_job_charge(struct ntx_job *job, uint64_t length)
{
    if (job->options.rate_bytes_per_s == 0)
        return 0;
    pthread_mutex_lock(&job->lock);
    uint64_t wait_ns = ntx_bucket_take(&job->bucket, length, ntx_now_ns());
    pthread_mutex_unlock(&job->lock);
    return wait_ns;
}

static void stop_all(struct ntx_job *job)
{
    pthread_mutex_lock(&job->lock);
    atomic_store(&job->stopping, true);
    pthread_cond_broadcast(&job->more);
    pthread_mutex_unlock(&job->lock);
    ntx_event_signal(job->stop_fd);
}

void ntx_job_fail(struct ntx_job *job, const struct ntx_error *err)
{
    pthread_mutex_lock(&job->lock);
    if (job->error.class == NTX_E_NONE)
        job->error = *err;
    pthread_mutex_unlock(&job->lock);
    stop_all(job);
}

/* ----------------------------------------------------------------------------------------------- checking */

static int check_range(const char *what, uint64_t value, uint64_t low, uint64_t high, struct ntx_error *err)
{
    if (value >= low && value <= high)
        return 0;
    return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s %llu is out of bounds: %llu to %llu", what,
                         (unsigned long long)value, (unsigned long long)low, (unsigned long long)high);
}

static int check_options(const struct ntx_job_options *options, struct ntx_error *err)
{
    int rc = check_range("connections", options->connections, 1, NTX_MAX_CONNECTIONS, err);
    if (rc == 0)
        rc = check_range("requests in flight", options->in_flight, 1, NTX_MAX_IN_FLIGHT, err);
    if (rc == 0)
        rc = check_range("request size", options->request_size, NTX_BLOCK_SIZE, NTX_MAX_REQUEST_SIZE, err);
    if (rc == 0)
        rc = check_range("time limit in ms", options->timeout_ms, 1, INT32_MAX, err);
    if (rc == 0 && options->request_size % NTX_BLOCK_SIZE != 0)
        rc = ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "request size %u is not a multiple of %u",
                           options->request_size, NTX_BLOCK_SIZE);
    return rc;
}

static int check_ends(const struct ntx_device *source, const struct ntx_device *target, uint64_t size,
                      struct ntx_error *err)
{
    const struct ntx_device_info *from = &source->info, *to = &target->info;
    if (to->flags & NTX_DEVICE_READ_ONLY)
        return ntx_error_set(err, NTX_E_TARGET, -EROFS, "%s: the target is read-only", to->name);
    if (from->size < size)
        return ntx_error_set(err, NTX_E_SOURCE, -EINVAL, "%s: the source has %llu bytes, the disk %llu: was it cut?",
                             from->name, (unsigned long long)from->size, (unsigned long long)size);
    if (to->size < size)
        return ntx_error_set(err, NTX_E_TARGET, -ENOSPC, "%s: the target has %llu bytes, the source %llu: too small",
                             to->name, (unsigned long long)to->size, (unsigned long long)size);
    /* What was in flight then is still the device's, though the memory for it is gone. */
    if (source->lost || target->lost)
        return ntx_error_set(err, source->lost ? NTX_E_SOURCE : NTX_E_TARGET, -ENOTCONN,
                             "%s: the connection was lost before: open it again", source->lost ? from->name : to->name);
    const struct ntx_device_info *ends[] = {from, to};
    for (int i = 0; i < 2; i++) {
        if (size % ends[i]->min_block != 0)
            return ntx_error_set(
                err, i == 0 ? NTX_E_SOURCE : NTX_E_TARGET, -ENOTSUP,
                "%s: takes only whole blocks of %u bytes, and the source's %llu bytes do not end on one", ends[i]->name,
                ends[i]->min_block, (unsigned long long)size);
    }
    if (from->max_payload < NTX_BLOCK_SIZE)
        return ntx_error_set(err, NTX_E_SOURCE, -ENOTSUP, "%s: gives at most %u bytes at once, %u are needed",
                             from->name, from->max_payload, NTX_BLOCK_SIZE);
    return 0;
}

/* ------------------------------------------------------------------------------------------ life and death */

/* Threads, buffers and item size, from what was asked, what the ends permit and what there is to do. */
static void choose(struct ntx_job *job, uint64_t *item_bytes)
{
    struct ntx_job_options *options = &job->options;
    uint64_t most = ntx_round_down(job->source->info.max_payload, NTX_BLOCK_SIZE);
    options->request_size = (uint32_t)ntx_min64(options->request_size, most);

    uint64_t expected = options->bytes_expected > 0 ? options->bytes_expected : job->size;
    uint64_t count = options->connections;
    if (!(job->source->info.flags & job->target->info.flags & NTX_DEVICE_CAN_CLONE))
        count = 1;
    count = ntx_min64(count, expected / MIN_ITEM + 1);
    uint64_t buffers = ntx_max64(options->max_buffer_bytes / options->request_size, 1);
    job->worker_count = (unsigned)ntx_min64(count, buffers);
    job->in_flight = (unsigned)ntx_min64(options->in_flight, ntx_max64(buffers / job->worker_count, 1));

    *item_bytes = ntx_round_up(expected / (job->worker_count * ITEMS_PER_WORKER), NTX_BLOCK_SIZE);
    *item_bytes = ntx_min64(ntx_max64(*item_bytes, MIN_ITEM), MAX_ITEM);
}

static int open_bell(int *fd, struct ntx_error *err)
{
    *fd = ntx_event_open();
    return *fd < 0 ? ntx_error_errno(err, NTX_E_SYSTEM, *fd, "making an event descriptor failed") : 0;
}

int ntx_job_new(struct ntx_device *source, struct ntx_device *target, const struct ntx_job_options *options,
                struct ntx_job **result, struct ntx_error *err)
{
    *result = NULL;
    uint64_t size = options->disk_size > 0 ? options->disk_size : source->info.size;
    int rc = check_options(options, err);
    if (rc == 0)
        rc = check_ends(source, target, size, err);
    if (rc < 0)
        return rc;
    struct ntx_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for a job");
    job->options = *options;
    job->source = source;
    job->target = target;
    job->size = size;
    job->stop_fd = job->done_fd = -1;
    job->all_unacknowledged = true; /* until a flush says otherwise */
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->more, NULL);

    uint64_t item_bytes;
    choose(job, &item_bytes);
    ntx_bucket_init(&job->bucket, options->rate_bytes_per_s, ntx_now_ns());
    rc = ntx_plan_init(&job->plan, size, item_bytes, err);
    if (rc == 0)
        rc = open_bell(&job->stop_fd, err);
    if (rc == 0)
        rc = open_bell(&job->done_fd, err);
    if (rc == 0 && (job->workers = calloc(job->worker_count, sizeof *job->workers)) == NULL)
        rc = ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for %u threads", job->worker_count);
    for (unsigned i = 0; rc == 0 && i < job->worker_count; i++)
        rc = ntx_worker_init(&job->workers[i], job, err);
    if (rc < 0) {
        ntx_job_free(job);
        return rc;
    }
    *result = job;
    return 0;
}

void ntx_job_free(struct ntx_job *job)
{
    if (job == NULL)
        return;
    struct ntx_error ignored;
    if (job->started && !job->joined) {
        ntx_job_cancel(job);
        ntx_job_join(job, &ignored);
    }
    for (unsigned i = 0; job->workers != NULL && i < job->worker_count; i++) {
        if (job->workers[i].job != NULL)
            ntx_worker_destroy(&job->workers[i]);
    }
    free(job->workers);
    free(job->unacknowledged);
    ntx_plan_destroy(&job->plan);
    ntx_event_close(job->stop_fd);
    ntx_event_close(job->done_fd);
    pthread_cond_destroy(&job->more);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

/* ------------------------------------------------------------------------------------------- the last thread */

static void flush_target(struct ntx_job *job)
{
    struct ntx_error err;
    for (unsigned i = 0; i < job->worker_count; i++) {
        struct ntx_worker *worker = &job->workers[i];
        if (worker->target == NULL || worker->target->lost)
            continue;
        if (!(worker->target->info.flags & NTX_DEVICE_CAN_FLUSH))
            return;
        if (ntx_worker_flush(worker, &err) == 0)
            atomic_store(&job->flushed, true);
        else
            ntx_job_fail(job, &err);
        return;
    }
}

static int compare_extents(const void *a, const void *b)
{
    const struct ntx_extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void collect_unacknowledged_locked(struct ntx_job *job)
{
    size_t count = job->plan.count;
    for (unsigned i = 0; i < job->worker_count; i++)
        count += ntx_worker_unfinished(&job->workers[i], NULL, 0);
    /* Without a flush nothing is known to be stored, however many answers came. */
    job->all_unacknowledged = !atomic_load(&job->flushed);
    if (count == 0 || job->all_unacknowledged)
        return;
    job->unacknowledged = malloc(count * sizeof *job->unacknowledged);
    if (job->unacknowledged == NULL) {
        job->all_unacknowledged = true;
        return;
    }
    size_t at = 0;
    for (unsigned i = 0; i < job->worker_count; i++)
        at += ntx_worker_unfinished(&job->workers[i], job->unacknowledged + at, count - at);
    for (size_t i = 0; i < job->plan.count; i++)
        job->unacknowledged[at++] = *ntx_plan_at(&job->plan, i);
    qsort(job->unacknowledged, at, sizeof *job->unacknowledged, compare_extents);
    job->unacknowledged_count = at;
}

static void end_worker(struct ntx_job *job)
{
    pthread_mutex_lock(&job->lock);
    bool is_last = --job->running == 0;
    pthread_mutex_unlock(&job->lock);
    if (!is_last)
        return;
    flush_target(job);
    pthread_mutex_lock(&job->lock);
    collect_unacknowledged_locked(job);
    job->plan.ended = true;
    pthread_mutex_unlock(&job->lock);
    atomic_store(&job->finished, true);
    ntx_event_signal(job->done_fd);
}

/* ------------------------------------------------------------------------------------------------ threads */

/* Worker 1 uses the devices it was given.  The others connect again; one that cannot is done without. */
static bool connect_worker(struct ntx_job *job, struct ntx_worker *worker)
{
    if (worker == &job->workers[0]) {
        worker->source = job->source;
        worker->target = job->target;
    } else {
        struct ntx_error err;
        struct ntx_device *source = NULL, *target = NULL;
        if (job->source->ops->clone(job->source, &source, &err) < 0)
            return false;
        if (job->target->ops->clone(job->target, &target, &err) < 0) {
            ntx_close(source);
            return false;
        }
        worker->source = source;
        worker->target = target;
        worker->owns_devices = true;
    }
    atomic_fetch_add(&job->connected, 1);
    return true;
}

static void *run(void *argument)
{
    struct ntx_worker *worker = argument;
    struct ntx_job *job = worker->job;
    struct ntx_error err;
    if (!atomic_load(&job->stopping) && connect_worker(job, worker))
        ntx_worker_run(worker, &err);
    ntx_count(&worker->counters.cpu_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID));
    end_worker(job);
    return NULL;
}

int ntx_job_start(struct ntx_job *job, struct ntx_error *err)
{
    if (job->started)
        return ntx_error_set(err, NTX_E_OPTIONS, -EALREADY, "the job was started before");
    job->started = true;
    job->running = job->worker_count;
    unsigned started = 0;
    int rc = 0;
    for (; started < job->worker_count; started++) {
        struct ntx_worker *worker = &job->workers[started];
        rc = -pthread_create(&worker->thread, NULL, run, worker);
        if (rc < 0)
            break;
    }
    if (rc == 0)
        return 0;
    ntx_error_errno(err, NTX_E_SYSTEM, rc, "starting thread %u of %u failed", started + 1, job->worker_count);
    ntx_job_fail(job, err);
    pthread_mutex_lock(&job->lock);
    job->running -= job->worker_count - started;
    pthread_mutex_unlock(&job->lock);
    for (unsigned i = 0; i < started; i++)
        pthread_join(job->workers[i].thread, NULL);
    job->joined = true;
    return rc;
}

/* ------------------------------------------------------------------------------------------- for the caller */

int ntx_job_feed(struct ntx_job *job, const struct ntx_extent *extents, size_t count, size_t *taken,
                 struct ntx_error *err)
{
    int rc = 0;
    *taken = 0;
    pthread_mutex_lock(&job->lock);
    /* A job that stops takes nothing; the caller learns why when it joins. */
    if (!atomic_load(&job->stopping))
        rc = ntx_plan_feed(&job->plan, extents, count, taken, err);
    job->hungry_told = ntx_plan_is_hungry(&job->plan);
    pthread_cond_broadcast(&job->more);
    pthread_mutex_unlock(&job->lock);
    return rc;
}

void ntx_job_feed_end(struct ntx_job *job)
{
    pthread_mutex_lock(&job->lock);
    job->plan.ended = true;
    pthread_cond_broadcast(&job->more);
    pthread_mutex_unlock(&job->lock);
}

int ntx_job_fd(const struct ntx_job *job)
{
    return job->done_fd;
}

void ntx_job_cancel(struct ntx_job *job)
{
    struct ntx_error err;
    ntx_error_set(&err, NTX_E_CANCELLED, -ECANCELED, "the transfer was stopped");
    ntx_job_fail(job, &err);
}

int ntx_job_join(struct ntx_job *job, struct ntx_error *err)
{
    if (!job->started || job->joined)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "the job is not running");
    for (unsigned i = 0; i < job->worker_count; i++)
        pthread_join(job->workers[i].thread, NULL);
    job->joined = true;
    if (job->error.class == NTX_E_NONE)
        return 0;
    *err = job->error;
    return err->code;
}

void ntx_job_progress(const struct ntx_job *job, struct ntx_job_progress *progress)
{
    memset(progress, 0, sizeof *progress);
    for (unsigned i = 0; i < job->worker_count; i++) {
        const struct ntx_counters *counters = &job->workers[i].counters;
        progress->bytes_done += atomic_load_explicit(&counters->done, memory_order_relaxed);
        progress->bytes_read += atomic_load_explicit(&counters->read, memory_order_relaxed);
        progress->bytes_sent += atomic_load_explicit(&counters->sent, memory_order_relaxed);
        progress->bytes_zeroed += atomic_load_explicit(&counters->zeroed, memory_order_relaxed);
        progress->bytes_skipped += atomic_load_explicit(&counters->skipped, memory_order_relaxed);
        progress->bytes_unchanged += atomic_load_explicit(&counters->unchanged, memory_order_relaxed);
        progress->requests += atomic_load_explicit(&counters->requests, memory_order_relaxed);
        progress->retries += atomic_load_explicit(&counters->retries, memory_order_relaxed);
        progress->source_ns += atomic_load_explicit(&counters->source_ns, memory_order_relaxed);
        progress->digest_ns += atomic_load_explicit(&counters->digest_ns, memory_order_relaxed);
        progress->target_ns += atomic_load_explicit(&counters->target_ns, memory_order_relaxed);
        progress->limit_ns += atomic_load_explicit(&counters->limit_ns, memory_order_relaxed);
        progress->cpu_ns += atomic_load_explicit(&counters->cpu_ns, memory_order_relaxed);
    }
    progress->connections = atomic_load(&job->connected);
    progress->in_flight = job->in_flight;
    struct ntx_job *shared = (struct ntx_job *)job; /* the lock is not part of what the caller sees */
    pthread_mutex_lock(&shared->lock);
    progress->hungry = ntx_plan_is_hungry(&job->plan) && !atomic_load(&job->stopping);
    pthread_mutex_unlock(&shared->lock);
    progress->finished = atomic_load(&job->finished);
    progress->flushed = atomic_load(&job->flushed);
}

void ntx_job_unacknowledged(const struct ntx_job *job, struct ntx_extent *extents, size_t capacity, size_t *count,
                            bool *all)
{
    size_t n = job->unacknowledged_count < capacity ? job->unacknowledged_count : capacity;
    if (n > 0)
        memcpy(extents, job->unacknowledged, n * sizeof *extents);
    *count = job->unacknowledged_count;
    *all = job->all_unacknowledged;
}
