/* test_job_pipe.c: a job whose source or target is a pipe: in order, with an end that nobody knew, without a limit. */
#include "job_bench.h"

#include <signal.h>

#define SOON_NS (20 * NTX_NS_PER_S) /* a moment, on a machine that does much else; else for ever */

struct far_end {
    int fd;
    uint8_t *bytes;
    size_t size, most; /* most: to read */
    pthread_t thread;
};

static void *write_all(void *argument)
{
    struct far_end *far = argument;
    for (size_t at = 0; at < far->size;) {
        ssize_t put = write(far->fd, far->bytes + at, ntx_min64(far->size - at, 50001));
        if (put < 0)
            break;
        at += (size_t)put;
    }
    close(far->fd);
    return NULL;
}

static void *read_all(void *argument)
{
    struct far_end *far = argument;
    ssize_t got;
    while (far->size < far->most && (got = read(far->fd, far->bytes + far->size, far->most - far->size)) > 0)
        far->size += (size_t)got;
    close(far->fd);
    return NULL;
}

static struct ntx_device *open_pipe(int fd, enum ntx_open_mode mode, uint64_t size, bool may_end)
{
    struct ntx_device *device;
    struct ntx_error err;
    CHECK_OK(ntx_open_pipe(fd, mode, "pipe", size, may_end, &device, &err), err);
    close(fd);
    return device;
}

static int run_between(struct bench *b, struct ntx_device *from, struct ntx_device *to, uint64_t size)
{
    struct ntx_job *job;
    struct ntx_extent all = {0, size, 0};
    b->options.disk_size = size;
    CHECK_OK(ntx_job_new(from, to, &b->options, &job, &b->err), b->err);
    CHECK_OK(ntx_job_start(job, &b->err), b->err);
    feed_all(job, &all, 1, &b->err);
    wait_until_finished(job);
    int rc = ntx_job_join(job, &b->err);
    ntx_job_progress(job, &b->progress);
    ntx_job_free(job);
    return rc;
}

/* Answers come in any order, one at a time; many requests are in flight; zeros come of a map and of what was read. */
static void test_a_pipe_gets_the_bytes_in_order_whatever_the_order_of_the_answers(void)
{
    for (int round = 0; round < 6; round++) {
        struct bench b;
        int ends[2];
        setup(&b);
        CHECK(pipe(ends) == 0);
        b.source.flags = (round & 1) ? ALL_FLAGS : ALL_FLAGS & ~NTX_DEVICE_CAN_MAP;
        b.source.answers_at_once = round % 3;
        b.options.limits.in_flight = 1u << (round % 5);
        if (round & 2)
            memset(b.source.bytes + NTX_MIB, 0, 3 * NTX_MIB);
        struct far_end reader = {.fd = ends[0], .bytes = calloc(1, SIZE + 1), .most = SIZE + 1};
        struct ntx_device *from = fake_open(&b.source), *to = open_pipe(ends[1], NTX_OPEN_WRITE, SIZE, false);
        pthread_create(&reader.thread, NULL, read_all, &reader);

        CHECK_EQ_INT(run_between(&b, from, to, SIZE), 0);

        ntx_close(to);
        pthread_join(reader.thread, NULL);
        CHECK_EQ_U64(reader.size, SIZE);
        CHECK_EQ_MEM(reader.bytes, b.source.bytes, SIZE);
        CHECK_EQ_U64(b.progress.bytes_done, SIZE);
        CHECK_EQ_U64(b.progress.connections, 1);
        CHECK(!b.progress.flushed);
        ntx_close(from);
        free(reader.bytes);
        teardown(&b);
    }
}

/* The same digests as of the same bytes from a disk. */
static void check_digests(struct bench *b, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += NTX_BLOCK_SIZE) {
        size_t length = ntx_min64(NTX_BLOCK_SIZE, size - at);
        uint8_t expected[NTX_DIGEST_SIZE] = {0}, found[NTX_DIGEST_SIZE];
        if (!ntx_is_zero(bytes + at, length))
            ntx_digest(bytes + at, length, expected);
        off_t place = (off_t)(at / NTX_BLOCK_SIZE * NTX_DIGEST_SIZE);
        CHECK(pread(b->manifest, found, sizeof found, place) == sizeof found);
        CHECK_EQ_MEM(found, expected, sizeof found);
    }
}

static void test_a_stream_ends_where_it_ends(void)
{
    static const uint64_t sizes[] = {
        1, 511, NTX_BLOCK_SIZE, 2 * NTX_BLOCK_SIZE, 2 * NTX_BLOCK_SIZE + 1, NTX_MIB - 1, 4 * NTX_MIB, SIZE - 1, SIZE};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t size = sizes[i], bound = i & 1 ? SIZE : (uint64_t)NTX_MAX_DEVICE_SIZE;
        struct bench b;
        int ends[2];
        setup(&b);
        CHECK(pipe(ends) == 0);
        b.options.limits.in_flight = 1 + i % 4;
        struct far_end writer = {.fd = ends[1], .bytes = b.source.bytes, .size = size};
        struct ntx_device *from = open_pipe(ends[0], NTX_OPEN_READ, bound, true), *to = fake_open(&b.target);
        to->info.size = bound; /* of the fake: nothing is written behind what came */
        pthread_create(&writer.thread, NULL, write_all, &writer);

        CHECK_EQ_INT(run_between(&b, from, to, bound), 0);

        pthread_join(writer.thread, NULL);
        CHECK_EQ_U64(ntx_device_info(from)->size, size);
        CHECK_EQ_MEM(b.target.bytes, b.source.bytes, size);
        CHECK_EQ_MEM(b.target.bytes + size, b.before + size, SIZE - size);
        CHECK_EQ_U64(b.progress.bytes_done, size);
        CHECK_EQ_U64(b.progress.bytes_read, size);
        CHECK_EQ_U64(b.progress.stored_to, size);
        check_digests(&b, b.source.bytes, size);
        ntx_close(from);
        ntx_close(to);
        teardown(&b);
    }
}

static void test_a_stream_that_ends_early_fails_as_the_source(void)
{
    struct bench b;
    int ends[2];
    setup(&b);
    CHECK(pipe(ends) == 0);
    struct far_end writer = {.fd = ends[1], .bytes = b.source.bytes, .size = 100000};
    struct ntx_device *from = open_pipe(ends[0], NTX_OPEN_READ, SIZE, false), *to = fake_open(&b.target);
    pthread_create(&writer.thread, NULL, write_all, &writer);

    CHECK_EQ_INT(run_between(&b, from, to, SIZE), -ENODATA);

    pthread_join(writer.thread, NULL);
    CHECK(b.err.class == NTX_E_SOURCE);
    CHECK_CONTAINS(b.err.text, "it ended at 100000 bytes, and 5243392 were to come");
    ntx_close(from);
    ntx_close(to);
    teardown(&b);
}

/* Either end stalls for much longer than an answer may take. */
static void test_a_pipe_that_stalls_has_no_limit_and_a_cancel_does_not_wait_for_it(void)
{
    for (int is_source = 0; is_source < 2; is_source++) {
        struct bench b;
        struct ntx_job *job;
        int ends[2];
        setup(&b);
        memset(b.source.bytes, 1, SIZE);
        CHECK(pipe(ends) == 0);
        b.options.limits.timeout_ms = 20;
        struct ntx_device *from = is_source ? open_pipe(ends[0], NTX_OPEN_READ, SIZE, false) : fake_open(&b.source);
        struct ntx_device *to = is_source ? fake_open(&b.target) : open_pipe(ends[1], NTX_OPEN_WRITE, SIZE, false);
        struct ntx_extent all = {0, SIZE, 0};
        CHECK_OK(ntx_job_new(from, to, &b.options, &job, &b.err), b.err);
        CHECK_OK(ntx_job_start(job, &b.err), b.err);
        feed_all(job, &all, 1, &b.err);
        poll(NULL, 0, 200);
        ntx_job_progress(job, &b.progress);
        CHECK(!b.progress.finished);
        uint64_t began_ns = ntx_now_ns();

        ntx_job_cancel(job);
        wait_until_finished(job);

        CHECK_EQ_INT(ntx_job_join(job, &b.err), -ECANCELED);
        CHECK(ntx_now_ns() - began_ns < SOON_NS);
        ntx_job_progress(job, &b.progress);
        CHECK(b.progress.cpu_ns < 100 * NTX_NS_PER_MS); /* it waited, and did not ask again and again */
        ntx_job_free(job);
        ntx_close(from);
        ntx_close(to);
        close(ends[is_source ? 1 : 0]);
        teardown(&b);
    }
}

static void test_a_reader_that_goes_away_fails_as_the_target(void)
{
    struct bench b;
    int ends[2];
    setup(&b);
    memset(b.source.bytes, 1, SIZE);
    CHECK(pipe(ends) == 0);
    struct far_end reader = {.fd = ends[0], .bytes = calloc(1, 1000), .most = 1000};
    struct ntx_device *from = fake_open(&b.source), *to = open_pipe(ends[1], NTX_OPEN_WRITE, SIZE, false);
    pthread_create(&reader.thread, NULL, read_all, &reader);

    CHECK_EQ_INT(run_between(&b, from, to, SIZE), -EPIPE);

    pthread_join(reader.thread, NULL);
    CHECK(b.err.class == NTX_E_TARGET);
    CHECK_CONTAINS(b.err.text, "its reader is gone");
    ntx_close(from);
    ntx_close(to);
    free(reader.bytes);
    teardown(&b);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    RUN(test_a_pipe_gets_the_bytes_in_order_whatever_the_order_of_the_answers);
    RUN(test_a_stream_ends_where_it_ends);
    RUN(test_a_stream_that_ends_early_fails_as_the_source);
    RUN(test_a_pipe_that_stalls_has_no_limit_and_a_cancel_does_not_wait_for_it);
    RUN(test_a_reader_that_goes_away_fails_as_the_target);
    return 0;
}
