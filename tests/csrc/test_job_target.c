/* What a target may be: one with a short last block, one that stores less than it is sent, one with something to write
 * at the end. */
#include "job_bench.h"

static const struct ntx_extent ALL = {0, SIZE, 0};

static void test_a_short_last_block_arrives_where_the_target_takes_it(void)
{
    for (int round = 0; round < 4; round++) {
        struct bench b;
        setup(&b);
        b.target.min_block = 4096; /* SIZE ends on a multiple of 512 */
        b.target.flags |= NTX_DEVICE_SHORT_TAIL;
        if (round % 2 == 1)
            memset(b.source.bytes + SIZE - 3 * NTX_BLOCK_SIZE, 0, 3 * NTX_BLOCK_SIZE);
        if (round / 2 == 1)
            b.target.flags &= ~NTX_DEVICE_CAN_ZERO;

        int rc = run(&b, &ALL, 1);

        CHECK_EQ_INT(rc, 0);
        check_target(&b, &ALL, 1, 4096);
        teardown(&b);
    }
}

static void test_a_short_last_block_is_read_where_the_source_gives_it(void)
{
    struct bench b;
    setup(&b);
    b.source.min_block = 4096;
    b.source.flags |= NTX_DEVICE_SHORT_TAIL;

    int rc = run(&b, &ALL, 1);

    CHECK_EQ_INT(rc, 0);
    check_target(&b, &ALL, 1, 1);
    teardown(&b);
}

static void test_a_disk_that_ends_inside_a_block_of_a_larger_target_is_refused(void)
{
    struct bench b;
    setup(&b);
    b.target.min_block = 4096;
    b.target.flags |= NTX_DEVICE_SHORT_TAIL;
    b.target.size = SIZE + 512; /* its short block begins behind the disk's end, or is longer */

    CHECK_EQ_INT(run(&b, &ALL, 1), -ENOTSUP);

    b.target.size = SIZE;
    teardown(&b);
}

static void test_a_request_may_end_at_the_end_only(void)
{
    struct ntx_device_info info = {.size = 10000, .min_block = 4096};

    CHECK(ntx_device_may_end_at(&info, 0));
    CHECK(ntx_device_may_end_at(&info, 8192));
    CHECK(!ntx_device_may_end_at(&info, 10000));
    info.flags = NTX_DEVICE_SHORT_TAIL;
    CHECK(ntx_device_may_end_at(&info, 8192));
    CHECK(ntx_device_may_end_at(&info, 10000));
    CHECK(!ntx_device_may_end_at(&info, 9999));
}

static void test_a_plain_target_stores_what_it_is_sent(void)
{
    struct bench b;
    setup(&b);

    CHECK_EQ_INT(run(&b, &ALL, 1), 0);

    CHECK(b.progress.bytes_sent > 0);
    CHECK_EQ_U64(b.progress.bytes_stored, b.progress.bytes_sent);
    teardown(&b);
}

static void test_what_a_target_stores_is_counted_apart_from_what_it_is_sent(void)
{
    struct bench b;
    setup(&b);
    b.target.stores_half = true;

    CHECK_EQ_INT(run(&b, &ALL, 1), 0);

    CHECK_EQ_U64(b.progress.bytes_sent, b.target.written_bytes);
    CHECK(b.progress.bytes_stored > 0);
    CHECK(b.progress.bytes_stored <= b.progress.bytes_sent / 2);
    teardown(&b);
}

static void setup_finish(struct bench *b)
{
    setup(b);
    b->source.has_finish = b->target.has_finish = true;
}

static void test_a_target_is_finished_once_after_the_closing_flush(void)
{
    for (int can_flush = 0; can_flush < 2; can_flush++) {
        struct bench b;
        setup_finish(&b);
        if (!can_flush)
            b.target.flags &= ~NTX_DEVICE_CAN_FLUSH;

        CHECK_EQ_INT(run(&b, &ALL, 1), 0);

        CHECK_EQ_U64(b.target.finishes, 1); /* fake_finish() checks that it was flushed */
        CHECK_EQ_U64(b.source.finishes, 0);
        CHECK_EQ_INT(b.progress.flushed, can_flush);
        teardown(&b);
    }
}

static void test_a_target_that_cannot_finish_fails_the_job(void)
{
    struct bench b;
    setup_finish(&b);
    b.target.finish_code = -ENOSPC;

    CHECK_EQ_INT(run(&b, &ALL, 1), -ENOSPC);

    CHECK_EQ_INT(b.err.class, NTX_E_TARGET);
    CHECK(!b.progress.flushed);
    CHECK_EQ_U64(b.progress.stored_to, 0);
    teardown(&b);
}

static void test_a_target_is_not_finished_after_an_error(void)
{
    struct bench b;
    setup_finish(&b);
    b.target.flush_fails = true;
    CHECK_EQ_INT(run(&b, &ALL, 1), -EIO);
    CHECK_EQ_U64(b.target.finishes, 0);
    CHECK_EQ_U64(b.progress.stored_to, 0); /* what was flushed is of no use without the rest */
    teardown(&b);

    setup_finish(&b);
    b.target.fail_at = SIZE / 2;
    b.target.fail_op = NTX_OP_WRITE;
    b.target.fail_code = -EIO;
    memset(b.source.bytes, 1, SIZE);
    CHECK_EQ_INT(run(&b, &ALL, 1), -EIO);
    CHECK_EQ_U64(b.target.finishes, 0);
    CHECK_EQ_U64(b.progress.stored_to, 0); /* what was flushed is of no use without the rest */
    teardown(&b);
}

static void test_a_target_is_not_finished_after_a_cancel(void)
{
    struct bench b;
    struct ntx_job *job;
    setup_finish(&b);
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
    b.target.cancelled_by_flush = job;
    CHECK(ntx_job_start(job, &b.err) == 0);
    feed_all(job, &ALL, 1, &b.err);
    wait_until_finished(job);

    CHECK_EQ_INT(ntx_job_join(job, &b.err), -ECANCELED);

    ntx_job_progress(job, &b.progress);
    CHECK_EQ_U64(b.progress.stored_to, 0);
    CHECK_EQ_U64(b.target.finishes, 0);
    ntx_job_free(job);
    teardown(&b);
}

int main(void)
{
    RUN(test_a_short_last_block_arrives_where_the_target_takes_it);
    RUN(test_a_short_last_block_is_read_where_the_source_gives_it);
    RUN(test_a_disk_that_ends_inside_a_block_of_a_larger_target_is_refused);
    RUN(test_a_request_may_end_at_the_end_only);
    RUN(test_a_plain_target_stores_what_it_is_sent);
    RUN(test_what_a_target_stores_is_counted_apart_from_what_it_is_sent);
    RUN(test_a_target_is_finished_once_after_the_closing_flush);
    RUN(test_a_target_that_cannot_finish_fails_the_job);
    RUN(test_a_target_is_not_finished_after_an_error);
    RUN(test_a_target_is_not_finished_after_a_cancel);
    return 0;
}
