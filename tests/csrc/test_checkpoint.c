/* test_checkpoint.c: what a job says is stored was flushed, and has its digest; also while it goes on. */
#include "job_bench.h"

#define TRIES 5000 /* milliseconds, about */

static void setup_flushed(struct bench *b)
{
    setup(b);
    b->options.makes_checkpoints = true;
    b->target.flushed = malloc(SIZE);
    memcpy(b->target.flushed, b->target.bytes, SIZE);
}

static struct ntx_job *start(struct bench *b)
{
    struct ntx_job *job;
    b->from = fake_open(&b->source);
    b->to = fake_open(&b->target);
    CHECK_OK(ntx_job_new(b->from, b->to, &b->options, &job, &b->err), b->err);
    CHECK_OK(ntx_job_start(job, &b->err), b->err);
    return job;
}

static void check_digest(const struct bench *b, uint64_t block)
{
    uint64_t at = block * NTX_BLOCK_SIZE, length = ntx_min64(NTX_BLOCK_SIZE, SIZE - at);
    uint8_t digest[NTX_DIGEST_SIZE] = {0}, written[NTX_DIGEST_SIZE];

    if (!ntx_is_zero(b->source.bytes + at, length))
        ntx_digest(b->source.bytes + at, length, digest);
    CHECK(pread(b->manifest, written, sizeof written, (off_t)(block * NTX_DIGEST_SIZE)) == sizeof written);
    CHECK(memcmp(written, digest, sizeof digest) == 0);
}

/* Of what was fed, which is all of the disk from its beginning. */
static void check_stored(struct bench *b, const struct ntx_job_progress *progress)
{
    pthread_mutex_lock(&b->target.lock);
    CHECK(memcmp(b->target.flushed, b->source.bytes, progress->stored_to) == 0);
    pthread_mutex_unlock(&b->target.lock);
    CHECK(progress->stored_to % NTX_BLOCK_SIZE == 0 || progress->stored_to == SIZE);
    for (uint64_t block = 0; block * NTX_BLOCK_SIZE < progress->stored_to; block++)
        check_digest(b, block);
}

/* While the job may still flush. */
static uint64_t flushes_of(struct fake_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    uint64_t flushes = disk->flushes;
    pthread_mutex_unlock(&disk->lock);
    return flushes;
}

static void feed(struct ntx_job *job, struct bench *b, uint64_t start, uint64_t end)
{
    struct ntx_extent extent = {start, end - start, 0};
    size_t taken;
    CHECK_OK(ntx_job_feed(job, &extent, 1, &taken, &b->err), b->err);
    CHECK_EQ_U64(taken, 1);
}

/* Ask again and again; false: it never came so far. */
static bool comes_to(struct ntx_job *job, struct bench *b, uint64_t wanted)
{
    for (unsigned i = 0; i < TRIES; i++) {
        ntx_job_checkpoint(job);
        poll(NULL, 0, 1);
        uint64_t before = b->progress.stored_to;
        ntx_job_progress(job, &b->progress);
        CHECK(b->progress.stored_to >= before);
        CHECK(b->progress.stored_to <= wanted);
        if (b->progress.stored_to > before)
            check_stored(b, &b->progress);
        if (b->progress.stored_to == wanted)
            return true;
    }
    return false;
}

static void end(struct ntx_job *job, struct bench *b, int expected)
{
    ntx_job_feed_end(job);
    wait_until_finished(job);
    CHECK_EQ_INT(ntx_job_join(job, &b->err), expected);
    ntx_job_progress(job, &b->progress);
    ntx_job_free(job);
}

static void test_it_comes_to_all_that_was_fed(void)
{
    for (unsigned round = 0; round < 8; round++) {
        struct bench b;
        setup_flushed(&b);
        b.options.limits.connections = 1 + round % 3;
        b.options.limits.first_connections = round % 2; /* the others are asked too, once they are connected */
        b.target.flags = round % 4 == 3 ? ALL_FLAGS & ~NTX_DEVICE_CAN_ZERO : ALL_FLAGS;
        struct ntx_job *job = start(&b);

        for (uint64_t at = 0; at < SIZE;) {
            uint64_t to = ntx_min64(at + 512 * (1 + rnd(3000)), SIZE);
            feed(job, &b, at, to);
            at = to;
            /* A block that was fed in part waits for the rest of it. */
            CHECK(comes_to(job, &b, at == SIZE ? SIZE : ntx_round_down(at, NTX_BLOCK_SIZE)));
        }

        CHECK(b.progress.checkpoints > 0);
        CHECK(flushes_of(&b.target) >= b.progress.checkpoints);
        end(job, &b, 0);
        CHECK_EQ_U64(b.progress.stored_to, SIZE);
        check_stored(&b, &b.progress);
        teardown(&b);
    }
}

static void test_it_holds_while_the_job_is_at_work(void)
{
    for (unsigned round = 0; round < 20; round++) {
        struct bench b;
        setup_flushed(&b);
        b.options.limits.connections = 1 + round % 4;
        limit(&b, round % 2 ? 100 * NTX_MIB : 0);
        struct ntx_job *job = start(&b);
        feed(job, &b, 0, SIZE);
        ntx_job_feed_end(job);

        while (!b.progress.finished) {
            uint64_t before = b.progress.stored_to;
            ntx_job_checkpoint(job);
            ntx_job_progress(job, &b.progress);
            if (b.progress.stored_to > before)
                check_stored(&b, &b.progress);
            poll(NULL, 0, 1);
        }

        CHECK_OK(ntx_job_join(job, &b.err), b.err);
        ntx_job_free(job);
        CHECK_EQ_U64(b.progress.stored_to, SIZE);
        teardown(&b);
    }
}

static void test_a_flush_that_fails_ends_the_job(void)
{
    struct bench b;
    setup_flushed(&b);
    b.target.flush_fails = true;
    struct ntx_job *job = start(&b);
    feed(job, &b, 0, NTX_MIB);
    for (unsigned i = 0; i < TRIES && !b.progress.finished; i++) {
        ntx_job_checkpoint(job);
        poll(NULL, 0, 1);
        ntx_job_progress(job, &b.progress);
    }

    CHECK(b.progress.finished);
    end(job, &b, -EIO);
    CHECK_EQ_STR(b.err.text, "fake: flush failed: as the test wants");
    CHECK_EQ_U64(b.progress.stored_to, 0);
    teardown(&b);
}

static void wait_until_done(struct ntx_job *job, struct bench *b, uint64_t bytes)
{
    for (unsigned i = 0; i < TRIES && b->progress.bytes_done < bytes; i++) {
        poll(NULL, 0, 1);
        ntx_job_progress(job, &b->progress);
    }
    CHECK_EQ_U64(b->progress.bytes_done, bytes);
}

/* Whoever wrote back and could not says so once, as fsync() does: a later flush confirms nothing of what was lost. */
static void test_a_flush_that_failed_is_not_made_good_by_the_next(void)
{
    for (unsigned round = 0; round < 2; round++) {
        struct bench b;
        setup_flushed(&b);
        b.target.failing_flush = 1;
        b.options.limits.connections = 1 + round;
        struct ntx_job *job = start(&b);
        feed(job, &b, 0, NTX_MIB);
        wait_until_done(job, &b, NTX_MIB);

        CHECK(ntx_job_checkpoint(job));

        wait_until_finished(job);
        end(job, &b, -EIO);
        CHECK_EQ_U64(b.progress.stored_to, 0);
        CHECK(!b.progress.flushed);
        teardown(&b);
    }
}

static void restart_server(struct fake_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->restarts++;
    fake_lose_unflushed(disk);
    pthread_mutex_unlock(&disk->lock);
}

/* The older connections are idle and notice nothing; a younger one is to the server that was started again. */
static void test_a_flush_goes_to_the_server_that_was_written_to(void)
{
    for (unsigned round = 0; round < 8; round++) {
        struct bench b;
        setup_flushed(&b);
        b.options.limits.connections = 2;
        b.options.bytes_expected = NTX_GIB;
        b.target.delays_clones = true;
        struct ntx_job *job = start(&b);
        feed(job, &b, 0, NTX_MIB);
        wait_until_done(job, &b, NTX_MIB);

        restart_server(&b.target);
        b.target.delays_clones = false;
        for (unsigned i = 0; i < TRIES && b.progress.connections < 2; i++) {
            poll(NULL, 0, 1);
            ntx_job_progress(job, &b.progress);
        }
        CHECK(ntx_job_checkpoint(job));

        wait_until_finished(job);
        end(job, &b, -ECONNRESET);
        CHECK_EQ_U64(b.progress.stored_to, 0);
        teardown(&b);
    }
}

static void wait_for_requests(const struct bench *b, unsigned count)
{
    for (unsigned i = 0; i < TRIES && b->target.submitted < count; i++)
        poll(NULL, 0, 1);
    CHECK(b->target.submitted >= count);
}

/* The flush is one of the 64 requests that a connection may have in flight: what is sent after it waits for it. */
static void test_a_flush_is_one_of_the_requests_in_flight(void)
{
    struct bench b;
    setup_flushed(&b);
    memset(b.source.bytes, 1, SIZE);
    b.options.limits.connections = 1;
    b.options.limits.in_flight = NTX_MAX_IN_FLIGHT;
    b.options.limits.request_size = NTX_BLOCK_SIZE;
    b.target.stalls = true;
    struct ntx_job *job = start(&b);
    uint64_t all_but_one = (NTX_MAX_IN_FLIGHT - 1) * NTX_BLOCK_SIZE;
    feed(job, &b, 0, all_but_one);
    wait_for_requests(&b, NTX_MAX_IN_FLIGHT - 1);
    CHECK(ntx_job_checkpoint(job));
    wait_for_requests(&b, NTX_MAX_IN_FLIGHT);

    feed(job, &b, all_but_one, SIZE);
    poll(NULL, 0, 50); /* long enough for it to be sent, were it so: fake_submit() would see it */
    b.target.stalls = false;
    ntx_event_signal(b.to->fd);

    end(job, &b, 0);
    CHECK_EQ_U64(b.progress.checkpoints, 1);
    CHECK_EQ_U64(b.progress.stored_to, SIZE);
    teardown(&b);
}

/* Whatever is answered is followed by the next write at once, for the source is fast: there is room for the flush. */
static void test_a_flush_does_not_wait_for_the_writes(void)
{
    struct bench b;
    setup_flushed(&b);
    b.options.limits.connections = 1;
    b.options.limits.in_flight = NTX_MAX_IN_FLIGHT;
    b.options.limits.request_size = NTX_BLOCK_SIZE;
    b.target.stalls = true;
    b.target.answers_at_once = 1;
    struct ntx_job *job;
    CHECK_OK(ntx_open_pattern(SIZE, &b.from, &b.err), b.err);
    b.to = fake_open(&b.target);
    CHECK_OK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err), b.err);
    CHECK_OK(ntx_job_start(job, &b.err), b.err);
    b.target.cancelled_by_flush = job;
    feed(job, &b, 0, SIZE);
    wait_for_requests(&b, NTX_MAX_IN_FLIGHT - 1);
    CHECK(ntx_job_checkpoint(job));
    b.target.stalls = false;
    ntx_event_signal(b.to->fd);

    end(job, &b, -ECANCELED);
    CHECK(b.target.writes_flushed < 10); /* of the 18 for which there was no room at first */
    teardown(&b);
}

static void test_a_flush_may_take_longer_than_an_answer(void)
{
    struct bench b;
    setup_flushed(&b);
    b.options.limits.timeout_ms = 100;
    b.target.flush_ends_ns = ntx_now_ns() + 500 * NTX_NS_PER_MS;
    struct ntx_job *job = start(&b);
    feed(job, &b, 0, NTX_MIB);

    CHECK(comes_to(job, &b, NTX_MIB));

    CHECK(ntx_now_ns() >= b.target.flush_ends_ns);
    CHECK(b.progress.flush_ns > 0);
    feed(job, &b, NTX_MIB, SIZE);
    end(job, &b, 0);
    teardown(&b);
}

/* One connection, whose flush ends after a while; all that was fed so far is written, or in flight. */
static struct ntx_job *start_with_flush_in_flight(struct bench *b, uint64_t flush_ends_ns)
{
    b->options.limits.connections = 1;
    b->options.limits.timeout_ms = 100;
    b->options.limits.flush_timeout_ms = 60000;
    b->target.flush_ends_ns = flush_ends_ns;
    struct ntx_job *job = start(b);
    feed(job, b, 0, NTX_MIB);
    for (unsigned i = 0; i < TRIES && b->target.flushes_begun == 0; i++) {
        ntx_job_checkpoint(job);
        poll(NULL, 0, 1);
    }
    CHECK(b->target.flushes_begun == 1);
    return job;
}

static void test_what_comes_behind_a_flush_may_wait_for_it(void)
{
    struct bench b;
    setup_flushed(&b);
    b.target.keeps_order = true;
    struct ntx_job *job = start_with_flush_in_flight(&b, ntx_now_ns() + 500 * NTX_NS_PER_MS);

    feed(job, &b, NTX_MIB, SIZE);

    end(job, &b, 0);
    CHECK(ntx_now_ns() >= b.target.flush_ends_ns);
    check_stored(&b, &b.progress);
    teardown(&b);
}

static void check_noticed_soon(struct ntx_job *job, struct bench *b, uint64_t since_ns)
{
    end(job, b, -ETIMEDOUT);
    CHECK(ntx_now_ns() - since_ns < 20 * NTX_NS_PER_S);
    CHECK_CONTAINS(b->err.text, "no answer to ");
    CHECK_CONTAINS(b->err.text, " requests within 0.1 s");
    teardown(b);
}

static void test_a_request_before_a_flush_does_not_wait_for_it(void)
{
    struct bench b;
    setup_flushed(&b);
    b.target.forgets = true;
    uint64_t began_ns = ntx_now_ns();
    struct ntx_job *job = start_with_flush_in_flight(&b, UINT64_MAX);

    check_noticed_soon(job, &b, began_ns);
}

/* It answers while it flushes, and then no more. */
static void test_a_stall_is_noticed_while_a_flush_is_in_flight(void)
{
    struct bench b;
    setup_flushed(&b);
    struct ntx_job *job = start_with_flush_in_flight(&b, UINT64_MAX);
    feed(job, &b, NTX_MIB, 3 * NTX_MIB);
    for (unsigned i = 0; i < TRIES && b.progress.bytes_sent + b.progress.bytes_zeroed < 3 * NTX_MIB; i++) {
        poll(NULL, 0, 1);
        ntx_job_progress(job, &b.progress);
    }
    CHECK_EQ_U64(b.progress.bytes_sent + b.progress.bytes_zeroed, 3 * NTX_MIB);

    b.target.stalls = true;
    uint64_t began_ns = ntx_now_ns();
    feed(job, &b, 3 * NTX_MIB, SIZE);

    check_noticed_soon(job, &b, began_ns);
}

static void test_none_is_made_where_the_target_could_not_keep_it(void)
{
    struct bench b;
    setup_flushed(&b);
    b.target.flags = ALL_FLAGS & ~NTX_DEVICE_CAN_FLUSH;
    struct ntx_job *job = start(&b);
    feed(job, &b, 0, SIZE);
    for (unsigned i = 0; i < 50; i++) {
        ntx_job_checkpoint(job);
        poll(NULL, 0, 1);
    }

    ntx_job_progress(job, &b.progress);
    CHECK_EQ_U64(b.progress.checkpoints, 0);
    CHECK_EQ_U64(flushes_of(&b.target), 0);
    end(job, &b, 0);
    teardown(&b);
}

static void test_asking_is_harmless_at_any_time(void)
{
    struct bench b;
    struct ntx_job *job;
    setup_flushed(&b);
    b.from = fake_open(&b.source);
    b.to = fake_open(&b.target);
    CHECK_OK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err), b.err);
    ntx_job_checkpoint(job); /* no thread yet */
    CHECK_OK(ntx_job_start(job, &b.err), b.err);
    ntx_job_feed_end(job);
    wait_until_finished(job);
    ntx_job_checkpoint(job); /* no thread any more */
    CHECK_OK(ntx_job_join(job, &b.err), b.err);
    ntx_job_checkpoint(job);
    ntx_job_progress(job, &b.progress);
    CHECK_EQ_U64(b.progress.stored_to, SIZE);
    ntx_job_free(job);
    teardown(&b);
}

int main(void)
{
    RUN(test_it_comes_to_all_that_was_fed);
    RUN(test_it_holds_while_the_job_is_at_work);
    RUN(test_a_flush_that_fails_ends_the_job);
    RUN(test_a_flush_is_one_of_the_requests_in_flight);
    RUN(test_a_flush_that_failed_is_not_made_good_by_the_next);
    RUN(test_a_flush_does_not_wait_for_the_writes);
    RUN(test_a_flush_goes_to_the_server_that_was_written_to);
    RUN(test_a_flush_may_take_longer_than_an_answer);
    RUN(test_what_comes_behind_a_flush_may_wait_for_it);
    RUN(test_a_request_before_a_flush_does_not_wait_for_it);
    RUN(test_a_stall_is_noticed_while_a_flush_is_in_flight);
    RUN(test_none_is_made_where_the_target_could_not_keep_it);
    RUN(test_asking_is_harmless_at_any_time);
    return 0;
}
