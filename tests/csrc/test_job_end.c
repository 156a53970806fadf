/* test_job_end.c: the end of a job: its closing flush, which takes as long as it takes, and a cancel, which does not.
 */
#include "job_bench.h"

#define FAR_NS (60 * NTX_NS_PER_S)  /* what a stalled end would keep us waiting, and more */
#define SOON_NS (20 * NTX_NS_PER_S) /* a second, on a machine that does much else */

static struct ntx_job *start(struct bench *b)
{
    struct ntx_job *job;
    b->from = fake_open(&b->source);
    b->to = fake_open(&b->target);
    CHECK(ntx_job_new(b->from, b->to, &b->options, &job, &b->err) == 0);
    CHECK(ntx_job_start(job, &b->err) == 0);
    return job;
}

static void feed_whole(struct ntx_job *job, struct bench *b)
{
    struct ntx_extent all = {0, SIZE, 0};
    feed_all(job, &all, 1, &b->err);
}

static void wait_until_flushing(struct ntx_job *job)
{
    struct ntx_job_progress progress = {0};
    while (!progress.flushing) {
        poll(NULL, 0, 1);
        ntx_job_progress(job, &progress);
        CHECK(!progress.finished);
    }
}

static void check_cancel_is_soon_over(struct ntx_job *job, struct bench *b)
{
    uint64_t began_ns = ntx_now_ns();

    ntx_job_cancel(job);
    wait_until_finished(job);
    CHECK_EQ_INT(ntx_job_join(job, &b->err), -ECANCELED);

    CHECK(ntx_now_ns() - began_ns < SOON_NS);
    CHECK(b->err.class == NTX_E_CANCELLED);
    ntx_job_progress(job, &b->progress);
    CHECK(!b->progress.flushed);
    CHECK_EQ_U64(b->progress.stored_to, 0);
    ntx_job_free(job);
}

static void test_a_flush_may_take_longer_than_an_answer(void)
{
    for (unsigned flush_timeout_ms = 0; flush_timeout_ms <= 60000; flush_timeout_ms += 60000) {
        struct bench b;
        setup(&b);
        b.options.limits.timeout_ms = 100;
        b.options.limits.flush_timeout_ms = flush_timeout_ms;
        b.target.flush_ends_ns = ntx_now_ns() + 500 * NTX_NS_PER_MS;
        struct ntx_extent all = {0, SIZE, 0};

        CHECK_EQ_INT(run(&b, &all, 1), 0);

        CHECK(ntx_now_ns() >= b.target.flush_ends_ns);
        CHECK(b.progress.flushed);
        CHECK(!b.progress.flushing);
        teardown(&b);
    }
}

static void test_a_flush_that_is_never_answered_meets_its_limit(void)
{
    struct bench b;
    setup(&b);
    b.options.limits.flush_timeout_ms = 50;
    b.target.flush_ends_ns = UINT64_MAX;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK_EQ_INT(run(&b, &all, 1), -ETIMEDOUT);

    CHECK(b.err.class == NTX_E_TIMEOUT);
    CHECK_EQ_STR(b.err.text, "fake: flush failed: no answer within 0.05 s");
    CHECK(b.progress.flushing);
    CHECK_EQ_U64(b.progress.stored_to, 0);
    teardown(&b);
}

/* The error is known: what the flush would add is not worth the flush's own limit. */
static void test_after_an_error_a_flush_has_the_limit_of_an_answer(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.source.fail_at = SIZE - 1;
    b.source.fail_code = -EIO;
    b.source.fail_op = NTX_OP_READ;
    b.options.limits.timeout_ms = 100;
    b.options.limits.flush_timeout_ms = 0;
    b.target.flush_ends_ns = ntx_now_ns() + FAR_NS;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK_EQ_INT(run(&b, &all, 1), -EIO);

    CHECK(ntx_now_ns() < b.target.flush_ends_ns);
    CHECK_EQ_U64(b.progress.stored_to, 0);
    teardown(&b);
}

static void test_progress_says_that_it_is_flushing(void)
{
    struct bench b;
    struct ntx_job_progress progress;
    setup(&b);
    b.target.flush_ends_ns = ntx_now_ns() + FAR_NS;
    struct ntx_job *job = start(&b);
    ntx_job_progress(job, &progress);
    CHECK(!progress.flushing);

    feed_whole(job, &b);
    wait_until_flushing(job);
    ntx_job_progress(job, &progress);
    CHECK_EQ_U64(progress.bytes_done, SIZE);
    b.target.flush_ends_ns = 0;
    wait_until_finished(job);

    CHECK_OK(ntx_job_join(job, &b.err), b.err);
    ntx_job_free(job);
    teardown(&b);
}

static void test_a_cancel_does_not_wait_for_the_flush(void)
{
    struct bench b;
    setup(&b);
    b.target.flush_ends_ns = UINT64_MAX;
    b.options.limits.flush_timeout_ms = 0;
    struct ntx_job *job = start(&b);
    feed_whole(job, &b);
    wait_until_flushing(job);

    check_cancel_is_soon_over(job, &b);

    teardown(&b);
}

static void test_a_job_that_is_freed_does_not_wait_for_the_flush(void)
{
    struct bench b;
    setup(&b);
    b.target.flush_ends_ns = UINT64_MAX;
    struct ntx_job *job = start(&b);
    feed_whole(job, &b);
    wait_until_flushing(job);
    uint64_t began_ns = ntx_now_ns();

    ntx_job_free(job);

    CHECK(ntx_now_ns() - began_ns < SOON_NS);
    teardown(&b);
}

static void test_a_cancelled_job_does_not_begin_to_flush(void)
{
    struct bench b;
    setup(&b);
    struct ntx_job *job = start(&b);
    struct ntx_extent first = {0, NTX_MIB, 0};
    size_t taken;
    CHECK(ntx_job_feed(job, &first, 1, &taken, &b.err) == 0);

    check_cancel_is_soon_over(job, &b);

    CHECK_EQ_U64(b.target.flushes, 0);
    teardown(&b);
}

static void test_a_cancel_does_not_wait_for_a_stalled_end(void)
{
    for (int stalled = 1; stalled <= 3; stalled++) {
        struct bench b;
        setup(&b);
        memset(b.source.bytes, 1, SIZE);
        b.options.limits.timeout_ms = 60000;
        b.source.stalls = (stalled & 1) != 0;
        b.target.stalls = (stalled & 2) != 0;
        if (stalled == 3) /* both have requests: the source answers the first ones */
            b.source.stalls = false;
        struct ntx_job *job = start(&b);
        feed_whole(job, &b);
        while (b.source.submitted == 0 || (b.target.stalls && b.target.submitted == 0))
            poll(NULL, 0, 1);
        b.source.stalls = (stalled & 1) != 0;

        check_cancel_is_soon_over(job, &b);

        teardown(&b);
    }
}

static void test_a_cancel_does_not_wait_for_the_rate_limit(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.options.limits.connections = 1;
    limit(&b, 4096); /* the first read is half a minute away */
    struct ntx_job *job = start(&b);
    struct ntx_extent all = {0, SIZE, 0};
    size_t taken;
    CHECK(ntx_job_feed(job, &all, 1, &taken, &b.err) == 0);
    for (ntx_job_progress(job, &b.progress); b.progress.limit_ns == 0; ntx_job_progress(job, &b.progress))
        poll(NULL, 0, 1);
    CHECK_EQ_U64(b.progress.bytes_read, 0);

    check_cancel_is_soon_over(job, &b);

    teardown(&b);
}

static void test_a_cancel_does_not_wait_for_the_flush_after_an_error(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.options.limits.connections = 1;
    b.options.limits.in_flight = 1;
    b.target.flush_ends_ns = UINT64_MAX;
    b.source.fail_at = SIZE - 1;
    b.source.fail_code = -EIO;
    b.source.fail_op = NTX_OP_READ;
    b.options.limits.timeout_ms = 60000;
    struct ntx_job *job = start(&b);
    feed_whole(job, &b);
    wait_until_flushing(job);
    uint64_t began_ns = ntx_now_ns();

    ntx_job_cancel(job);
    wait_until_finished(job);

    CHECK_EQ_INT(ntx_job_join(job, &b.err), -EIO);
    CHECK(ntx_now_ns() - began_ns < SOON_NS);
    ntx_job_free(job);
    teardown(&b);
}

int main(void)
{
    RUN(test_a_flush_may_take_longer_than_an_answer);
    RUN(test_a_flush_that_is_never_answered_meets_its_limit);
    RUN(test_after_an_error_a_flush_has_the_limit_of_an_answer);
    RUN(test_progress_says_that_it_is_flushing);
    RUN(test_a_cancel_does_not_wait_for_the_flush);
    RUN(test_a_job_that_is_freed_does_not_wait_for_the_flush);
    RUN(test_a_cancelled_job_does_not_begin_to_flush);
    RUN(test_a_cancel_does_not_wait_for_a_stalled_end);
    RUN(test_a_cancel_does_not_wait_for_the_rate_limit);
    RUN(test_a_cancel_does_not_wait_for_the_flush_after_an_error);
    return 0;
}
