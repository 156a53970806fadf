/* A job whose ends fail, refuse, stall or vanish: the first error with its place, and what is handed back. */
#include "job_bench.h"

#include <fcntl.h>

static bool has_digest(const struct bench *b, uint64_t offset)
{
    uint8_t digest[NTX_DIGEST_SIZE];
    off_t at = (off_t)(offset / NTX_BLOCK_SIZE * NTX_DIGEST_SIZE);
    CHECK(pread(b->manifest, digest, sizeof digest, at) == sizeof digest);
    return !ntx_is_zero(digest, sizeof digest);
}

/* Nothing of it is stored for sure: what failed may be what was answered well before, as on NFS. */
static void test_write_error_names_its_place(void)
{
    for (unsigned connections = 1; connections <= 3; connections += 2) {
        struct bench b;
        setup(&b);
        memset(b.source.bytes, 1, SIZE);
        b.target.fail_at = 4 * NTX_MIB + 300077;
        b.target.fail_code = -ENOSPC;
        b.target.fail_op = NTX_OP_WRITE;
        b.options.limits.connections = connections;
        struct ntx_extent all = {0, SIZE, 0};

        int rc = run(&b, &all, 1);

        CHECK(rc == -ENOSPC);
        CHECK(b.err.class == NTX_E_REPLY);
        CHECK(b.err.offset <= b.target.fail_at && b.err.offset + b.err.length > b.target.fail_at);
        CHECK_EQ_U64(b.progress.stored_to, 0);
        CHECK(!b.progress.flushed);
        teardown(&b);
    }
}

/* The manifest takes the digests of the first blocks, and of no others: the disk is full. */
static void setup_full(struct bench *b, uint64_t blocks)
{
    setup(b);
    close(b->manifest);
    b->manifest = memfd_create("full", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(ftruncate(b->manifest, (off_t)(blocks * NTX_DIGEST_SIZE)) == 0);
    CHECK(fcntl(b->manifest, F_ADD_SEALS, F_SEAL_GROW) == 0);
    b->options.digest_fd = b->manifest;
}

/* Stored, and its digest too: a block of zeros has that of a hole. */
static bool is_stored(const struct bench *b, uint64_t offset)
{
    uint64_t block = ntx_round_down(offset, NTX_BLOCK_SIZE), length = ntx_min64(NTX_BLOCK_SIZE, SIZE - block);
    off_t at = (off_t)(block / NTX_BLOCK_SIZE * NTX_DIGEST_SIZE);
    uint8_t digest[NTX_DIGEST_SIZE] = {0}, written[NTX_DIGEST_SIZE];

    if (!ntx_is_zero(b->source.bytes + block, length))
        ntx_digest(b->source.bytes + block, length, digest);
    return b->target.bytes[offset] == b->source.bytes[offset] &&
           pread(b->manifest, written, sizeof written, at) == sizeof written &&
           memcmp(written, digest, sizeof digest) == 0;
}

static void test_what_has_lost_its_digest_is_not_handed_back_as_stored(void)
{
    unsigned all = 0, some = 0;

    for (unsigned i = 0; i < 36; i++) {
        struct bench b;
        setup_full(&b, i % 2 == 0 ? rnd(BLOCKS) : 64 + rnd(BLOCKS - 64)); /* a work range has 64 at least */
        b.options.limits.connections = i % 4 < 2 ? 1 : 3;
        b.options.limits.in_flight = i % 3 == 0 ? 1 : 4;
        struct ntx_extent whole = {0, SIZE, 0};

        CHECK(run(&b, &whole, 1) == -EPERM);

        CHECK(b.err.class == NTX_E_SYSTEM);
        for (uint64_t at = 0; at < b.progress.stored_to; at += 512)
            CHECK(is_stored(&b, at));
        *(b.progress.stored_to == 0 ? &all : &some) += 1;
        teardown(&b);
    }
    CHECK(all > 0 && some > 0);
}

static void test_digests_that_wait_to_the_end_and_are_lost_are_missed(void)
{
    struct bench b;
    setup_full(&b, 0);
    memset(b.source.bytes, 1, SIZE);
    b.options.limits.connections = b.options.limits.in_flight = 1;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == -EPERM);

    CHECK(b.err.class == NTX_E_SYSTEM);
    CHECK_EQ_U64(b.progress.stored_to, 0);
    teardown(&b);
}

static void test_read_error_is_of_the_source_and_what_was_read_before_is_stored(void)
{
    for (unsigned connections = 1; connections <= 3; connections += 2) {
        struct bench b;
        setup(&b);
        memset(b.source.bytes, 1, SIZE);
        b.source.fail_at = SIZE - 1; /* behind the first work range of one connection */
        b.source.fail_code = -EIO;
        b.source.fail_op = NTX_OP_READ;
        b.options.limits.connections = connections;
        b.options.limits.in_flight = connections; /* one after the other: then digests wait for their neighbours */
        struct ntx_extent all = {0, SIZE, 0};

        CHECK(run(&b, &all, 1) == -EIO);

        CHECK(b.err.offset + b.err.length == SIZE);
        CHECK(connections > 1 || b.progress.stored_to > 0);
        CHECK(b.progress.stored_to < SIZE);
        for (uint64_t at = 0; at < b.progress.stored_to; at += 512)
            CHECK(b.target.bytes[at] == 1 && has_digest(&b, at));
        teardown(&b);
    }
}

static void test_map_error_only_costs_reads(void)
{
    struct bench b;
    setup(&b);
    b.source.fail_at = 0;
    b.source.fail_code = -EIO;
    b.source.fail_op = NTX_OP_MAP;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == 0);

    check_target(&b, &all, 1, 1);
    teardown(&b);
}

static void test_long_zeros_are_halved_until_the_target_takes_them(void)
{
    static const int codes[] = {-EOVERFLOW, -EINVAL, -ENOTSUP};
    for (int i = 0; i < 3; i++) {
        struct bench b;
        setup(&b);
        memset(b.source.bytes, 0, SIZE);
        b.target.max_zero = i == 2 ? 0 : 100000;
        b.target.zero_code = codes[i];
        struct ntx_extent all = {0, SIZE, 0};

        CHECK(run(&b, &all, 1) == 0);

        CHECK(ntx_is_zero(b.target.bytes, SIZE));
        CHECK_EQ_U64(b.progress.bytes_zeroed, SIZE);
        CHECK(i == 2 ? b.target.writes > 0 : b.target.writes == 0);
        CHECK(b.progress.retries > 0);
        teardown(&b);
    }
}

static void test_without_a_flush_nothing_is_acknowledged(void)
{
    struct bench b;
    setup(&b);
    b.target.flush_fails = true;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == -EIO);

    CHECK_EQ_U64(b.progress.stored_to, 0);
    CHECK(!b.progress.flushed);
    teardown(&b);
}

static void test_lost_connection_ends_the_job(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.target.loses_connection = true;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == -ECONNRESET);

    CHECK(b.err.class == NTX_E_TARGET);
    teardown(&b);
}

/* What was silent for the whole time limit is not given five seconds more, for the job to end. */
static void test_silent_target_is_a_timeout_and_the_job_has_soon_ended(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.target.stalls = true;
    b.options.limits.timeout_ms = 50;
    struct ntx_extent all = {0, SIZE, 0};
    uint64_t began_ns = ntx_now_ns();

    CHECK(run(&b, &all, 1) == -ETIMEDOUT);

    CHECK(ntx_now_ns() - began_ns < 5 * NTX_NS_PER_S);
    CHECK(b.err.class == NTX_E_TIMEOUT);
    CHECK_EQ_U64(b.progress.stored_to, 0);
    teardown(&b);
}

static void test_target_that_only_trickles_is_a_timeout(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.target.stalls = true;
    b.target.trickles = true;
    b.options.limits.timeout_ms = 50;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == -ETIMEDOUT);

    CHECK(b.err.class == NTX_E_TIMEOUT);
    teardown(&b);
}

/* Others are answered for five seconds. */
static void test_one_request_that_is_never_answered_is_a_timeout_while_others_are(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.target.forgets = true;
    b.options.limits.connections = 1;
    b.options.limits.request_size = NTX_BLOCK_SIZE;
    limit(&b, NTX_MIB);
    b.options.limits.timeout_ms = 100;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == -ETIMEDOUT);

    CHECK(b.err.class == NTX_E_TIMEOUT);
    CHECK_CONTAINS(b.err.text, "no answer to 1 requests within 0.1 s");
    CHECK(b.target.writes > 0 && b.progress.bytes_read < SIZE / 2);
    teardown(&b);
}

static void test_rate_limit_that_holds_longer_than_the_time_limit_is_no_timeout(void)
{
    struct bench b;
    setup(&b);
    limit(&b, 4 * NTX_MIB);
    b.options.limits.request_size = NTX_MIB;
    b.options.limits.connections = 1;
    b.options.limits.timeout_ms = 20;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK_EQ_INT(run(&b, &all, 1), 0);

    check_target(&b, &all, 1, 1);
    teardown(&b);
}

/* A hold of nanoseconds may be over when the wait for it begins. */
static void test_hold_that_is_over_before_the_wait_costs_nothing(void)
{
    struct ntx_error err;
    struct ntx_device *source, *target;
    struct ntx_job *job;
    struct ntx_extent all = {0, NTX_GIB, 0};
    struct ntx_limiter *limiter;
    CHECK(ntx_limiter_new(1000000000, &limiter, &err) == 0);
    CHECK(ntx_open_pattern(NTX_GIB, &source, &err) == 0);
    CHECK(ntx_open_null(NTX_GIB, &target, &err) == 0);
    struct ntx_job_options options = {
        .limits = {.connections = 1,
                   .in_flight = 1,
                   .request_size = NTX_BLOCK_SIZE,
                   .max_buffer_bytes = NTX_MIB,
                   .timeout_ms = 60000},
        .limiter = limiter,
        .digest_fd = -1,
        .reference_fd = -1,
    };

    CHECK(ntx_job_new(source, target, &options, &job, &err) == 0);
    CHECK(ntx_job_start(job, &err) == 0);
    feed_all(job, &all, 1, &err);
    wait_until_finished(job);

    CHECK_EQ_INT(ntx_job_join(job, &err), 0);
    ntx_job_free(job);
    ntx_limiter_free(limiter);
    ntx_close(source);
    ntx_close(target);
}

static void test_lost_device_is_refused_by_the_next_job(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.target.stalls = true;
    b.options.limits.timeout_ms = 50;
    struct ntx_extent all = {0, SIZE, 0};
    struct ntx_job *job;
    CHECK(run(&b, &all, 1) == -ETIMEDOUT);
    b.target.stalls = false; /* answers would come now, to buffers that are gone */

    CHECK_EQ_INT(ntx_job_new(b.from, b.to, &b.options, &job, &b.err), -ENOTCONN);

    CHECK(b.err.class == NTX_E_TARGET);
    CHECK_CONTAINS(b.err.text, "open it again");
    teardown(&b);
}

/* Both fail in one pass, the write first: the zero request is asked again, and its refusal is not the job's error. */
static void test_error_is_of_the_request_that_failed_and_not_of_one_asked_again(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 0, 2 * NTX_BLOCK_SIZE);
    memset(b.source.bytes + 2 * NTX_BLOCK_SIZE, 1, NTX_BLOCK_SIZE);
    b.options.limits.connections = 1;
    b.options.limits.request_size = 4 * NTX_BLOCK_SIZE;
    b.target.max_zero = NTX_BLOCK_SIZE;
    b.target.zero_code = -EOVERFLOW;
    b.target.fail_at = 2 * NTX_BLOCK_SIZE;
    b.target.fail_code = -ENOSPC;
    b.target.fail_op = NTX_OP_WRITE;
    struct ntx_extent extent = {0, 3 * NTX_BLOCK_SIZE, 0};

    CHECK_EQ_INT(run(&b, &extent, 1), -ENOSPC);

    CHECK(b.err.class == NTX_E_REPLY);
    CHECK_EQ_U64(b.err.offset, b.target.fail_at);
    CHECK_CONTAINS(b.err.text, "write failed");
    teardown(&b);
}

static void wait_for_submitted(const struct fake_disk *disk, unsigned count)
{
    while (disk->submitted < count)
        poll(NULL, 0, 1);
}

static void test_waiting_for_the_last_answers_costs_no_processor_time(void)
{
    struct bench b;
    struct ntx_job *job;
    size_t taken;
    struct ntx_extent first = {0, NTX_BLOCK_SIZE, 0}, second = {NTX_MIB, NTX_BLOCK_SIZE, 0};
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.options.limits.connections = 1;
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    b.target.stalls = true;
    CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
    CHECK(ntx_job_start(job, &b.err) == 0);
    CHECK(ntx_job_feed(job, &first, 1, &taken, &b.err) == 0);
    wait_for_submitted(&b.target, 1);
    b.source.stalls = true;
    CHECK(ntx_job_feed(job, &second, 1, &taken, &b.err) == 0);
    ntx_event_signal(b.to->fd);
    wait_for_submitted(&b.source, 2);

    ntx_job_cancel(job);
    ntx_event_signal(b.from->fd); /* the source has something to say while the target is waited for */
    poll(NULL, 0, 400);
    b.source.stalls = false;
    b.target.stalls = false;
    ntx_event_signal(b.to->fd);
    ntx_event_signal(b.from->fd);
    wait_until_finished(job);

    struct ntx_job_progress progress;
    ntx_job_progress(job, &progress);
    CHECK(progress.cpu_ns < 100 * 1000 * 1000);
    ntx_job_free(job);
    teardown(&b);
}

static void test_cancel_stops_and_hands_back(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    struct ntx_job *job;
    struct ntx_extent first = {0, NTX_MIB, 0};
    size_t taken;
    CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
    CHECK(ntx_job_start(job, &b.err) == 0);
    CHECK(ntx_job_feed(job, &first, 1, &taken, &b.err) == 0);

    ntx_job_cancel(job);
    wait_until_finished(job);

    CHECK(ntx_job_join(job, &b.err) == -ECANCELED);
    CHECK(b.err.class == NTX_E_CANCELLED);
    ntx_job_free(job);
    teardown(&b);
}

static void test_what_cannot_work_is_refused_before_the_first_byte(void)
{
    struct bench b;
    setup(&b);
    struct ntx_extent all = {0, SIZE, 0};
    b.target.min_block = 4096;
    CHECK(run(&b, &all, 1) == -ENOTSUP);
    CHECK(b.err.class == NTX_E_TARGET);
    teardown(&b);

    setup(&b);
    b.target.size = SIZE - 1;
    CHECK(run(&b, &all, 1) == -ENOSPC);
    teardown(&b);

    setup(&b);
    b.target.flags |= NTX_DEVICE_READ_ONLY;
    CHECK(run(&b, &all, 1) == -EROFS);
    teardown(&b);

    setup(&b);
    b.options.limits.request_size = 3000;
    CHECK(run(&b, &all, 1) == -EINVAL);
    CHECK(b.err.class == NTX_E_OPTIONS);
    teardown(&b);
}

static void test_job_freed_while_running_leaves_nothing_behind(void)
{
    struct bench b;
    setup(&b);
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    struct ntx_job *job;
    CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
    CHECK(ntx_job_start(job, &b.err) == 0);

    ntx_job_free(job);

    teardown(&b);
}

int main(void)
{
    RUN(test_write_error_names_its_place);
    RUN(test_what_has_lost_its_digest_is_not_handed_back_as_stored);
    RUN(test_digests_that_wait_to_the_end_and_are_lost_are_missed);
    RUN(test_read_error_is_of_the_source_and_what_was_read_before_is_stored);
    RUN(test_map_error_only_costs_reads);
    RUN(test_long_zeros_are_halved_until_the_target_takes_them);
    RUN(test_without_a_flush_nothing_is_acknowledged);
    RUN(test_lost_connection_ends_the_job);
    RUN(test_silent_target_is_a_timeout_and_the_job_has_soon_ended);
    RUN(test_target_that_only_trickles_is_a_timeout);
    RUN(test_one_request_that_is_never_answered_is_a_timeout_while_others_are);
    RUN(test_rate_limit_that_holds_longer_than_the_time_limit_is_no_timeout);
    RUN(test_hold_that_is_over_before_the_wait_costs_nothing);
    RUN(test_lost_device_is_refused_by_the_next_job);
    RUN(test_error_is_of_the_request_that_failed_and_not_of_one_asked_again);
    RUN(test_waiting_for_the_last_answers_costs_no_processor_time);
    RUN(test_cancel_stops_and_hands_back);
    RUN(test_what_cannot_work_is_refused_before_the_first_byte);
    RUN(test_job_freed_while_running_leaves_nothing_behind);
    return 0;
}
