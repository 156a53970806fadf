/* test_scheduler.c: what the threads of a job share. */
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#include "bytes.h"
#include "check.h"
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

static void test_who_sees_that_a_job_stops_sees_that_it_was_cancelled(void)
{
    struct ntx_range_bytes range_bytes = {.most = NTX_MIB, .least = NTX_MIB, .workers = 1};
    struct ntx_scheduler scheduler = {.size = NTX_MIB, .pace.limits = {1, 1, 1, 1, 1, 1}};
    struct ntx_error err;
    pthread_t canceller;
    CHECK_OK(ntx_scheduler_init(&scheduler, &range_bytes, &err), err);
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

int main(void)
{
    RUN(test_who_sees_that_a_job_stops_sees_that_it_was_cancelled);
    return 0;
}
