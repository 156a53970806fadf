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

static void test_what_a_connection_holds_back_is_settled_before_the_flush(void)
{
    struct bench b;
    setup(&b);
    b.options.limits.connections = 1;
    b.target.has_settle = true;

    CHECK_EQ_INT(run(&b, &ALL, 1), 0);

    CHECK(b.target.writes > 0);
    CHECK_EQ_U64(b.target.writes_flushed, b.target.writes);
    CHECK_EQ_U64(b.progress.stored_to, SIZE);
    teardown(&b);
}

static void test_it_is_settled_after_an_error_too(void)
{
    struct bench b;
    setup(&b);
    b.options.limits.connections = 1;
    b.target.has_settle = true;
    memset(b.source.bytes, 1, SIZE);
    b.source.fail_at = SIZE / 2;
    b.source.fail_op = NTX_OP_READ;
    b.source.fail_code = -EIO;

    CHECK_EQ_INT(run(&b, &ALL, 1), -EIO);

    CHECK_EQ_U64(b.target.writes_flushed, b.target.writes); /* so what is told as stored is */
    teardown(&b);
}

static void test_nothing_is_confirmed_where_settling_failed(void)
{
    for (int fails_reading = 0; fails_reading < 2; fails_reading++) {
        struct bench b;
        setup(&b);
        b.options.limits.connections = 1; /* of two, the one that reads nothing more could settle first */
        b.target.has_settle = true;
        b.target.settle_code = -ENOSPC;
        memset(b.source.bytes, 1, SIZE);
        b.source.fail_at = fails_reading ? SIZE / 2 : UINT64_MAX;
        b.source.fail_op = NTX_OP_READ;
        b.source.fail_code = -EIO;

        CHECK_EQ_INT(run(&b, &ALL, 1), fails_reading ? -EIO : -ENOSPC);

        CHECK_EQ_INT(b.err.class, fails_reading ? NTX_E_REPLY : NTX_E_TARGET);
        CHECK(!b.progress.flushed);
        CHECK_EQ_U64(b.progress.stored_to, 0);
        teardown(&b);
    }
}

static void test_what_connections_hold_is_part_of_the_memory_that_a_job_may_have(void)
{
    for (int holds = 0; holds < 2; holds++) {
        struct bench b;
        struct ntx_job *job;
        setup(&b);
        b.from = fake_open(&b.source);
        b.target.held_bytes = holds ? 3 * NTX_MIB : 0;
        b.to = fake_open(&b.target);
        b.options.limits.connections = 4;
        b.options.limits.request_size = NTX_MIB;
        b.options.limits.max_buffer_bytes = 8 * NTX_MIB;
        b.options.bytes_expected = NTX_GIB;

        CHECK_OK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err), b.err);
        CHECK_OK(ntx_job_start(job, &b.err), b.err);
        feed_all(job, &ALL, 1, &b.err);
        wait_until_finished(job);

        CHECK_OK(ntx_job_join(job, &b.err), b.err);
        CHECK(b.target.clones <= (holds ? 1 : 3));
        ntx_job_free(job);
        teardown(&b);
    }
}

int main(void)
{
    RUN(test_a_short_last_block_arrives_where_the_target_takes_it);
    RUN(test_a_short_last_block_is_read_where_the_source_gives_it);
    RUN(test_a_disk_that_ends_inside_a_block_of_a_larger_target_is_refused);
    RUN(test_a_request_may_end_at_the_end_only);
    RUN(test_a_plain_target_stores_what_it_is_sent);
    RUN(test_what_a_target_stores_is_counted_apart_from_what_it_is_sent);
    RUN(test_what_a_connection_holds_back_is_settled_before_the_flush);
    RUN(test_it_is_settled_after_an_error_too);
    RUN(test_nothing_is_confirmed_where_settling_failed);
    RUN(test_what_connections_hold_is_part_of_the_memory_that_a_job_may_have);
    return 0;
}
