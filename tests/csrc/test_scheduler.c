/* test_scheduler.c: what the threads of a job share. */
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include "bytes.h"
#include "check.h"
#include "error.h"
#include "scheduler.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

/* A stop whose setting ends only when the pipe is read: what was done before it stays to be seen. */
static int hold(struct ntx_stop *stop)
{
    uint8_t page[4096] = {0};
    int ends[2];

    CHECK(pipe(ends) == 0);
    CHECK(fcntl(ends[1], F_SETPIPE_SZ, sizeof page) == sizeof page);
    CHECK(write(ends[1], page, sizeof page) == sizeof page);
    close(stop->fd);
    stop->fd = ends[1];
    return ends[0];
}

static void let_go(int held)
{
    uint8_t page[4096];

    CHECK(read(held, page, sizeof page) == sizeof page);
}

static void *cancel(void *scheduler)
{
    ntx_scheduler_cancel(scheduler);
    return NULL;
}

static void init(struct ntx_scheduler *scheduler)
{
    struct ntx_range_bytes range_bytes = {.most = NTX_MIB, .least = NTX_MIB, .workers = 1};
    struct ntx_error err;

    *scheduler = (struct ntx_scheduler){.size = NTX_MIB, .pace.limits = {1, 1, 1, 1, 1, 1}};
    CHECK_OK(ntx_scheduler_init(scheduler, &range_bytes, &err), err);
}

static void test_who_sees_that_a_job_stops_sees_that_it_was_cancelled(void)
{
    struct ntx_scheduler scheduler;
    pthread_t canceller;
    init(&scheduler);
    int held = hold(&scheduler.stop);

    CHECK(pthread_create(&canceller, NULL, cancel, &scheduler) == 0);
    while (!ntx_stop_is_set(&scheduler.stop))
        sched_yield();

    CHECK(ntx_stop_is_set(&scheduler.cancel));
    let_go(held);
    CHECK(pthread_join(canceller, NULL) == 0);
    CHECK(scheduler.error.class == NTX_E_CANCELLED);
    CHECK_EQ_INT(scheduler.error.code, -ECANCELED);
    ntx_scheduler_destroy(&scheduler);
    close(held);
}

/* All that was fed is handed out, written and flushed, by one worker. */
static void write_all(struct ntx_scheduler *scheduler)
{
    struct ntx_extent all = {0, NTX_MIB, 0};
    struct ntx_work_range range = {.extents = NULL};
    struct ntx_error err;
    unsigned checkpoint;
    size_t taken;
    unsigned rank = ntx_scheduler_add_connection(scheduler, &checkpoint);

    CHECK_OK(ntx_scheduler_feed(scheduler, &all, 1, &taken, &err), err);
    CHECK(ntx_scheduler_take(scheduler, rank, &range, false, checkpoint) == NTX_TAKE_RANGE);
    ntx_work_range_destroy(&range);
    CHECK(ntx_scheduler_ask_checkpoint(scheduler));
    CHECK(ntx_scheduler_tell_checkpoint(scheduler, rank, &checkpoint, UINT64_MAX));
}

/* What another worker was refused may be the only word of something that was answered well before, and lost. */
static void test_a_flush_makes_no_checkpoint_once_the_job_stops(void)
{
    for (unsigned stops = 0; stops < 2; stops++) {
        struct ntx_job_progress progress;
        struct ntx_scheduler scheduler;
        struct ntx_error err;
        init(&scheduler);
        write_all(&scheduler);

        if (stops) {
            ntx_error_set(&err, NTX_E_TARGET, -EIO, "what another worker wrote failed");
            ntx_scheduler_fail(&scheduler, &err);
        }
        ntx_scheduler_make_checkpoint(&scheduler, 1);

        ntx_scheduler_get_pace(&scheduler, &progress);
        CHECK_EQ_U64(progress.checkpoints, stops ? 0 : 1);
        CHECK_EQ_U64(progress.stored_to, stops ? 0 : NTX_MIB);
        ntx_scheduler_destroy(&scheduler);
    }
}

int main(void)
{
    RUN(test_who_sees_that_a_job_stops_sees_that_it_was_cancelled);
    RUN(test_a_flush_makes_no_checkpoint_once_the_job_stops);
    return 0;
}
