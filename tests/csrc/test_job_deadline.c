/* test_job_deadline.c: the time limit of each request, also while there is so much to do that nobody ever waits. */
#include "job_bench.h"

#define MUCH (64 * NTX_GIB) /* what takes far longer than the limit */

/* Answers at once, except the first write, which it never answers. */
struct forgetful {
    struct ntx_device base;
    bool has_forgotten;
};

static int forgetful_submit(struct ntx_device *base, struct ntx_io *io, struct ntx_error *err)
{
    struct forgetful *device = (struct forgetful *)base;
    bool forgets = io->op == NTX_OP_WRITE && !device->has_forgotten;

    (void)err;
    device->has_forgotten = device->has_forgotten || forgets;
    if (!forgets)
        ntx_device_complete(base, io, 0);
    return 0;
}

static int forgetful_advance(struct ntx_device *base, struct ntx_error *err)
{
    (void)base;
    (void)err;
    return 0;
}

static void forgetful_close(struct ntx_device *base)
{
    ntx_event_close(base->fd);
}

static const struct ntx_device_ops forgetful_ops = {
    .submit = forgetful_submit, .advance = forgetful_advance, .close = forgetful_close};

static void test_a_request_is_overdue_also_while_others_keep_the_thread_busy(void)
{
    struct bench b;
    setup(&b);
    struct forgetful target = {.base = {.ops = &forgetful_ops, .fd = ntx_event_open(), .events = POLLIN}};
    struct ntx_extent all = {0, MUCH, 0};
    struct ntx_job *job;
    CHECK_OK(ntx_open_pattern(MUCH, &b.from, &b.err), b.err);
    target.base.info = (struct ntx_device_info){
        .size = MUCH,
        .min_block = 1,
        .preferred_block = NTX_BLOCK_SIZE,
        .max_payload = NTX_MAX_REQUEST_SIZE,
        .flags = NTX_DEVICE_CAN_FLUSH,
        .kind = "fake",
        .name = "fake",
    };
    b.options.limits.timeout_ms = 50;
    b.options.limits.connections = 1;
    b.options.digest_fd = -1;

    CHECK_OK(ntx_job_new(b.from, &target.base, &b.options, &job, &b.err), b.err);
    CHECK_OK(ntx_job_start(job, &b.err), b.err);
    feed_all(job, &all, 1, &b.err);
    wait_until_finished(job);
    int rc = ntx_job_join(job, &b.err);
    ntx_job_progress(job, &b.progress);

    CHECK_EQ_INT(rc, -ETIMEDOUT);
    CHECK_CONTAINS(b.err.text, "no answer to 1 requests within 0.05 s");
    CHECK(b.progress.bytes_done < MUCH / 2);
    ntx_job_free(job);
    ntx_close(&target.base);
    teardown(&b);
}

int main(void)
{
    RUN(test_a_request_is_overdue_also_while_others_keep_the_thread_busy);
    return 0;
}
