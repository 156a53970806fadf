/* test_job_connections.c: connections beyond the first that come, come late, are refused, or are not permitted. */
#include "job_bench.h"

static void test_fewer_connections_than_wanted_do(void)
{
    struct bench b;
    setup(&b);
    b.target.refuse_clones = 2;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == 0);

    check_target(&b, &all, 1, 1);
    teardown(&b);
}

static void test_why_a_connection_was_refused_is_kept(void)
{
    struct bench b;
    setup(&b);
    b.target.refuse_clones = 2;
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    b.options.bytes_expected = 3 * SIZE; /* enough for three connections */
    struct ntx_job *job;
    struct ntx_error why;
    struct ntx_extent all = {0, SIZE, 0};
    size_t taken;
    CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
    CHECK_EQ_U64(ntx_job_refused(job, &why), 0);
    CHECK_EQ_INT(why.class, NTX_E_NONE);

    CHECK(ntx_job_start(job, &b.err) == 0);
    CHECK(ntx_job_feed(job, &all, 1, &taken, &b.err) == 0);
    while (ntx_job_refused(job, &why) < 2)
        poll(NULL, 0, 1);
    ntx_job_feed_end(job);
    wait_until_finished(job);

    CHECK_OK(ntx_job_join(job, &b.err), b.err);
    ntx_job_progress(job, &b.progress);
    CHECK_EQ_U64(b.progress.refused, 2);
    CHECK_EQ_INT(why.code, -ECONNREFUSED);
    CHECK_CONTAINS(why.text, "no more connections");
    ntx_job_free(job);
    teardown(&b);
}

static void test_a_cancel_ends_connecting_and_is_no_refusal(void)
{
    struct bench b;
    setup(&b);
    b.target.delays_clones = true; /* for ever */
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    b.options.bytes_expected = 3 * SIZE; /* enough for three connections */
    struct ntx_job *job;
    CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
    CHECK(ntx_job_start(job, &b.err) == 0);
    while (b.target.clones_begun < 2)
        poll(NULL, 0, 1);

    ntx_job_cancel(job);
    wait_until_finished(job);

    CHECK_EQ_INT(ntx_job_join(job, &b.err), -ECANCELED);
    CHECK_EQ_U64(ntx_job_refused(job, &b.err), 0);
    ntx_job_free(job);
    teardown(&b);
}

static void test_no_second_connection_without_permission(void)
{
    struct bench b;
    setup(&b);
    b.target.flags &= ~NTX_DEVICE_CAN_MULTI_CONN;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == 0);

    CHECK_EQ_U64(b.target.clones, 0);
    CHECK_EQ_U64(b.progress.connections, 1);
    teardown(&b);
}

int main(void)
{
    RUN(test_fewer_connections_than_wanted_do);
    RUN(test_why_a_connection_was_refused_is_kept);
    RUN(test_a_cancel_ends_connecting_and_is_no_refusal);
    RUN(test_no_second_connection_without_permission);
    return 0;
}
