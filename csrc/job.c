/*
 * job.c: the life of a job: start the threads, feed them, stop them, flush, say up to where all is stored.
 *
 * The first error wins: it is kept, everybody is told to stop, everybody is joined.  The last thread to end sends
 * the closing flush: one covers all that was answered on any connection.
 */
#include "bytes.h"
#include "clock.h"
#include "error.h"
#include "event.h"
#include "job_check.h"
#include "job_choice.h"
#include "scheduler.h"
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct thread {
    struct ntx_job *job;
    struct ntx_worker worker;
    pthread_t id;
};

struct ntx_job {
    struct ntx_scheduler scheduler;
    struct ntx_device *source, *target; /* the first worker's, borrowed */
    struct thread *threads;
    unsigned thread_count;
    unsigned running; /* threads that have not ended; scheduler.lock */
    _Atomic bool flushing, flushed, finished;
    bool started, joined;
};

/* ------------------------------------------------------------------------------------------ new and free */

int ntx_job_new(struct ntx_device *source, struct ntx_device *target, const struct ntx_job_options *options,
                struct ntx_job **result, struct ntx_error *err)
{
    *result = NULL;
    uint64_t size = options->disk_size > 0 ? options->disk_size : source->info.size;
    int rc = ntx_job_check(source, target, options, size, err);
    if (rc < 0)
        return rc;
    struct ntx_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for a job");
    job->scheduler.options = *options;
    job->source = source;
    job->target = target;
    job->scheduler.size = size;

    struct ntx_job_choice choice = ntx_job_choose(&source->info, &target->info, options, size);
    job->thread_count = choice.threads;
    job->scheduler.options.limits.request_size = choice.request_size;
    job->scheduler.pace.limits = choice.pace;
    job->scheduler.in_flight = choice.pace.most_in_flight;
    rc = ntx_scheduler_init(&job->scheduler, &choice.range_bytes, err);
    if (rc == 0 && (job->threads = calloc(job->thread_count, sizeof *job->threads)) == NULL)
        rc = ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for %u threads", job->thread_count);
    for (unsigned i = 0; rc == 0 && i < job->thread_count; i++)
        job->threads[i].job = job;
    if (rc == 0)
        rc = ntx_worker_init(&job->threads[0].worker, &job->scheduler, err);
    if (rc < 0) {
        ntx_job_free(job);
        return rc;
    }
    job->threads[0].worker.source = source;
    job->threads[0].worker.target = target;
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
    for (unsigned i = 0; job->threads != NULL && i < job->thread_count; i++)
        ntx_worker_destroy(&job->threads[i].worker);
    ntx_scheduler_destroy(&job->scheduler);
    free(job->threads);
    free(job);
}

/* ------------------------------------------------------------------------------------------- the last thread */

/* Whether a flush that is confirmed says that all that was answered is stored.  Not where
 * - the first connection is lost: another may be to a server that was started again (checkpoint.h);
 * - the target has failed a request or a flush: that may be the only word of something that it answered well before and
 *   could not write back. */
static bool may_confirm(const struct ntx_job *job)
{
    for (unsigned i = 0; i < job->thread_count; i++)
        if (job->threads[i].worker.outbox.has_failed)
            return false;
    return !job->target->lost;
}

/* After an error a flush only spares the caller to send again what is stored: that is worth the wait for one answer. */
static unsigned flush_timeout_ms(const struct ntx_job *job)
{
    const struct ntx_job_options *options = &job->scheduler.options;
    unsigned limit_ms = ntx_flush_timeout_ms(&options->limits);
    if (ntx_stop_is_set(&job->scheduler.stop))
        limit_ms = (unsigned)ntx_min64(limit_ms, options->limits.timeout_ms);
    return limit_ms;
}

/* One flush covers what was answered on all connections. */
static void flush_target(struct ntx_job *job)
{
    struct ntx_worker *worker = &job->threads[0].worker;
    struct ntx_error err;
    if (!may_confirm(job) || ntx_stop_is_set(&job->scheduler.cancel)) /* nobody reads the result */
        return;
    bool can_flush = (job->target->info.flags & NTX_DEVICE_CAN_FLUSH) != 0;
    bool was_stopped = ntx_stop_is_set(&job->scheduler.stop);
    atomic_store(&job->flushing, true);
    int rc = can_flush ? ntx_worker_flush(worker, flush_timeout_ms(job), &err) : 0;
    atomic_store(&job->flushing, rc == -ETIMEDOUT && !was_stopped);
    if (rc == 0)
        atomic_store(&job->flushed, can_flush);
    else
        ntx_scheduler_fail(&job->scheduler, &err);
}

/* What has lost its digest is to be read again. */
static void set_stored_to(struct ntx_job *job)
{
    uint64_t low = UINT64_MAX;
    for (unsigned i = 0; i < job->thread_count; i++) {
        const struct ntx_worker *worker = &job->threads[i].worker;
        if (worker->digester.has_lost)
            return;
        low = ntx_min64(low, ntx_ranges_low(&worker->ranges));
    }
    ntx_scheduler_set_stored_to(&job->scheduler, low);
}

static void end_worker(struct ntx_job *job)
{
    pthread_mutex_lock(&job->scheduler.lock);
    bool is_last = --job->running == 0;
    pthread_mutex_unlock(&job->scheduler.lock);
    if (!is_last)
        return;
    flush_target(job);
    if (atomic_load(&job->flushed))
        set_stored_to(job);
    pthread_mutex_lock(&job->scheduler.lock);
    job->scheduler.plan.ended = true;
    pthread_mutex_unlock(&job->scheduler.lock);
    atomic_store(&job->finished, true);
    ntx_event_signal(job->scheduler.done_fd);
}

/* ------------------------------------------------------------------------------------------------ threads */

/* Connect to both ends again, as all but the first worker do. */
static bool connect_worker(struct ntx_job *job, struct ntx_worker *worker, struct ntx_error *err)
{
    int stop_fd = job->scheduler.stop_connecting.fd;
    struct ntx_device *source = NULL, *target = NULL;
    if (ntx_worker_init(worker, &job->scheduler, err) < 0 ||
        job->source->ops->clone(job->source, stop_fd, &source, err) < 0)
        return false;
    if (job->target->ops->clone(job->target, stop_fd, &target, err) < 0) {
        ntx_close(source);
        return false;
    }
    worker->source = source;
    worker->target = target;
    worker->owns_devices = true;
    return true;
}

static void add_worker(struct ntx_job *job, struct ntx_worker *worker)
{
    worker->rank = ntx_scheduler_add_connection(&job->scheduler, &worker->checkpoint);
}

/* Connect once another connection is wanted.  false: none was, or it could not be had and is done without. */
static bool connect_when_wanted(struct ntx_job *job, struct ntx_worker *worker)
{
    struct ntx_error err;
    if (!ntx_scheduler_await_connection_wanted(&job->scheduler))
        return false;
    if (connect_worker(job, worker, &err))
        add_worker(job, worker);
    else
        ntx_scheduler_give_up_connection(&job->scheduler, &err);
    return worker->owns_devices;
}

static void *run(void *argument)
{
    struct thread *thread = argument;
    struct ntx_job *job = thread->job;
    struct ntx_error err;
    /* The first one also when there is nothing to copy: somebody has to flush. */
    if (thread == job->threads || connect_when_wanted(job, &thread->worker))
        ntx_worker_run(&thread->worker, &err);
    ntx_count(&thread->worker.counters.cpu_ns, ntx_thread_cpu_ns());
    end_worker(job);
    return NULL;
}

/* Signals are for the caller's threads.  Among them SIGPIPE, which splice() into a dead socket raises: its EPIPE is
 * what we look at. */
static int start_thread(struct thread *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = -pthread_create(&thread->id, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int ntx_job_start(struct ntx_job *job, struct ntx_error *err)
{
    if (job->started)
        return ntx_error_set(err, NTX_E_OPTIONS, -EALREADY, "the job was started before");
    job->started = true;
    job->running = job->thread_count;
    add_worker(job, &job->threads[0].worker); /* before any other: so it has the lowest rank */
    unsigned started = 0;
    int rc = 0;
    for (; started < job->thread_count; started++) {
        rc = start_thread(&job->threads[started]);
        if (rc < 0)
            break;
    }
    if (rc == 0)
        return 0;
    ntx_error_errno(err, NTX_E_SYSTEM, rc, "starting thread %u of %u failed", started + 1, job->thread_count);
    ntx_scheduler_fail(&job->scheduler, err);
    pthread_mutex_lock(&job->scheduler.lock);
    job->running -= job->thread_count - started;
    pthread_mutex_unlock(&job->scheduler.lock);
    for (unsigned i = 0; i < started; i++)
        pthread_join(job->threads[i].id, NULL);
    job->joined = true;
    return rc;
}

/* ------------------------------------------------------------------------------------------- for the caller */

int ntx_job_feed(struct ntx_job *job, const struct ntx_extent *extents, size_t count, size_t *taken,
                 struct ntx_error *err)
{
    return ntx_scheduler_feed(&job->scheduler, extents, count, taken, err);
}

void ntx_job_feed_end(struct ntx_job *job)
{
    ntx_scheduler_feed_end(&job->scheduler);
}

bool ntx_job_checkpoint(struct ntx_job *job)
{
    bool may_flush = (job->target->info.flags & NTX_DEVICE_CAN_FLUSH) != 0;
    return may_flush && ntx_scheduler_ask_checkpoint(&job->scheduler);
}

int ntx_job_fd(const struct ntx_job *job)
{
    return job->scheduler.done_fd;
}

void ntx_job_cancel(struct ntx_job *job)
{
    ntx_scheduler_cancel(&job->scheduler);
}

int ntx_job_join(struct ntx_job *job, struct ntx_error *err)
{
    if (!job->started || job->joined)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "the job is not running");
    for (unsigned i = 0; i < job->thread_count; i++)
        pthread_join(job->threads[i].id, NULL);
    job->joined = true;
    if (job->scheduler.error.class == NTX_E_NONE)
        return 0;
    *err = job->scheduler.error;
    return err->code;
}

void ntx_job_progress(const struct ntx_job *job, struct ntx_job_progress *progress)
{
    memset(progress, 0, sizeof *progress);
    progress->finished = atomic_load(&job->finished); /* first: then all the rest is that of the end */
    for (unsigned i = 0; i < job->thread_count; i++) {
        const struct ntx_counters *counters = &job->threads[i].worker.counters;
        progress->bytes_done += atomic_load_explicit(&counters->done, memory_order_relaxed);
        progress->bytes_read += atomic_load_explicit(&counters->read, memory_order_relaxed);
        progress->bytes_sent += atomic_load_explicit(&counters->sent, memory_order_relaxed);
        progress->bytes_stored += atomic_load_explicit(&counters->stored, memory_order_relaxed);
        progress->bytes_zeroed += atomic_load_explicit(&counters->zeroed, memory_order_relaxed);
        progress->bytes_skipped += atomic_load_explicit(&counters->skipped, memory_order_relaxed);
        progress->bytes_unchanged += atomic_load_explicit(&counters->unchanged, memory_order_relaxed);
        progress->requests += atomic_load_explicit(&counters->requests, memory_order_relaxed);
        progress->retries += atomic_load_explicit(&counters->retries, memory_order_relaxed);
        progress->source_ns += atomic_load_explicit(&counters->source_ns, memory_order_relaxed);
        progress->digest_ns += atomic_load_explicit(&counters->digest_ns, memory_order_relaxed);
        progress->target_ns += atomic_load_explicit(&counters->target_ns, memory_order_relaxed);
        progress->packing_ns += atomic_load_explicit(&counters->packing_ns, memory_order_relaxed);
        progress->limit_ns += atomic_load_explicit(&counters->limit_ns, memory_order_relaxed);
        progress->cpu_ns += atomic_load_explicit(&counters->cpu_ns, memory_order_relaxed);
    }
    /* The lock is not part of what the caller sees. */
    ntx_scheduler_get_pace((struct ntx_scheduler *)&job->scheduler, progress);
    progress->wants_extents = ntx_scheduler_wants_extents((struct ntx_scheduler *)&job->scheduler);
    progress->flushing = atomic_load(&job->flushing);
    progress->flushed = atomic_load(&job->flushed);
}

unsigned ntx_job_refused(const struct ntx_job *job, struct ntx_error *first)
{
    return ntx_scheduler_refused((struct ntx_scheduler *)&job->scheduler, first);
}
