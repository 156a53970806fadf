/* The whole pipeline between two devices: bytes, zeros, digests. */
#include "job_bench.h"

#include "check_device.h"

#include <fcntl.h>

static void block_digest(const uint8_t *bytes, uint64_t block, uint8_t digest[NTX_DIGEST_SIZE])
{
    uint64_t start = block * NTX_BLOCK_SIZE;
    uint64_t length = ntx_min64(NTX_BLOCK_SIZE, SIZE - start);
    memset(digest, 0, NTX_DIGEST_SIZE);
    if (!ntx_is_zero(bytes + start, length))
        ntx_digest(bytes + start, length, digest);
}

/* Every block that an extent touches has its digest, the others none. */
static void check_digests(const struct bench *b, const struct ntx_extent *extents, size_t count)
{
    static const uint8_t none[NTX_DIGEST_SIZE];
    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint64_t start = block * NTX_BLOCK_SIZE, end = start + NTX_BLOCK_SIZE;
        bool touched = false;
        for (size_t i = 0; i < count; i++)
            touched = touched || (extents[i].offset < end && extents[i].offset + extents[i].length > start);
        uint8_t expected[NTX_DIGEST_SIZE], found[NTX_DIGEST_SIZE];
        block_digest(b->source.bytes, block, expected);
        CHECK(pread(b->manifest, found, sizeof found, (off_t)(block * NTX_DIGEST_SIZE)) == sizeof found);
        CHECK(memcmp(found, touched ? expected : none, sizeof found) == 0);
    }
}

static size_t random_extents(const struct bench *b, struct ntx_extent *extents, size_t capacity, uint64_t gap)
{
    size_t count = 0;
    for (uint64_t at = rnd(gap); at < SIZE && count < capacity;) {
        uint64_t length = ntx_min64(1 + rnd(rnd(8) == 0 ? SIZE / 4 : 3000), SIZE - at);
        bool zero = ntx_is_zero(b->source.bytes + at, length) && rnd(2) == 0;
        extents[count++] = (struct ntx_extent){at, length, zero ? NTX_EXTENT_ZERO : 0};
        at += length + rnd(gap);
    }
    return count;
}

static void test_any_extents_arrive_byte_for_byte(void)
{
    static const uint32_t units[] = {1, 512, 4096, 65536};
    for (int round = 0; round < 24; round++) {
        struct bench b;
        struct ntx_extent extents[4096];
        setup(&b);
        /* The disk ends on a multiple of 512 only: larger units need a size that fits, tested elsewhere. */
        uint32_t unit = units[round % 2];
        b.target.min_block = unit;
        b.target.max_payload = round % 3 == 0 ? 4096 : 0;
        b.source.flags = round % 4 == 0 ? ALL_FLAGS & ~NTX_DEVICE_CAN_MAP : ALL_FLAGS;
        b.target.flags = round % 5 == 0 ? ALL_FLAGS & ~NTX_DEVICE_CAN_ZERO : ALL_FLAGS;
        b.options.limits.connections = 1 + round % 4;
        b.options.limits.in_flight = 1 + round % 5;
        b.options.limits.request_size = NTX_BLOCK_SIZE << (round % 3);
        size_t count = random_extents(&b, extents, 4096, round % 2 ? 3000 : 200000);

        int rc = run(&b, extents, count);

        CHECK(rc == 0);
        CHECK(b.progress.flushed);
        check_target(&b, extents, count, unit);
        check_digests(&b, extents, count);
        uint64_t total = 0;
        for (size_t i = 0; i < count; i++)
            total += extents[i].length;
        CHECK_EQ_U64(b.progress.bytes_done, total);
        teardown(&b);
    }
}

static void test_zeros_mask_what_the_target_held(void)
{
    struct bench b;
    setup(&b);
    memset(b.source.bytes, 0, SIZE);
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == 0);

    CHECK(ntx_is_zero(b.target.bytes, SIZE));
    CHECK_EQ_U64(b.target.writes, 0);
    CHECK_EQ_U64(b.progress.bytes_zeroed, SIZE);
    CHECK_EQ_U64(b.progress.bytes_read, 0);
    teardown(&b);
}

static void test_zeros_are_skipped_when_the_target_is_zero(void)
{
    struct bench b;
    setup(&b);
    memset(b.target.bytes, 0, SIZE);
    b.options.target_is_zero = true;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == 0);

    CHECK(memcmp(b.source.bytes, b.target.bytes, SIZE) == 0);
    CHECK_EQ_U64(b.target.zeros, 0);
    CHECK_EQ_U64(b.progress.bytes_sent + b.progress.bytes_skipped, SIZE);
    teardown(&b);
}

static void test_blocks_equal_to_the_reference_are_not_sent(void)
{
    struct bench b;
    setup(&b);
    int reference = memfd_create("reference", MFD_CLOEXEC);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint8_t digest[NTX_DIGEST_SIZE];
        block_digest(b.source.bytes, block, digest);
        CHECK(write(reference, digest, sizeof digest) == sizeof digest);
    }
    memcpy(b.target.bytes, b.source.bytes, SIZE);
    b.source.bytes[7 * NTX_BLOCK_SIZE + 5] ^= 1;
    memset(b.source.bytes + 20 * NTX_BLOCK_SIZE, 0, NTX_BLOCK_SIZE);
    memset(b.source.bytes + 21 * NTX_BLOCK_SIZE, 3, NTX_BLOCK_SIZE);
    b.options.reference_fd = reference;
    b.options.reference_blocks = BLOCKS;
    struct ntx_extent all = {0, SIZE, 0};

    CHECK(run(&b, &all, 1) == 0);

    CHECK(memcmp(b.source.bytes, b.target.bytes, SIZE) == 0);
    CHECK(b.progress.bytes_sent + b.progress.bytes_zeroed <= 3 * NTX_BLOCK_SIZE);
    CHECK_EQ_U64(b.progress.bytes_unchanged + b.progress.bytes_sent + b.progress.bytes_zeroed, SIZE);
    check_digests(&b, &all, 1);
    close(reference);
    teardown(&b);
}

static void test_more_extents_than_the_plan_holds(void)
{
    struct bench b;
    setup(&b);
    size_t count = 100000;
    struct ntx_extent *extents = malloc(count * sizeof *extents);
    for (size_t i = 0; i < count; i++)
        extents[i] = (struct ntx_extent){i * 50, 20, 0};

    CHECK(run(&b, extents, count) == 0);

    check_target(&b, extents, count, 1);
    CHECK_EQ_U64(b.progress.bytes_done, count * 20);
    free(extents);
    teardown(&b);
}

/* Real files in several threads: connections are made again while others already work. */
static void test_files_are_copied_by_several_threads(void)
{
    struct bench b;
    struct ntx_job *job;
    uint8_t *found = malloc(SIZE);
    setup(&b);
    put_file("source", b.source.bytes, SIZE);
    put_file("target", b.target.bytes, SIZE);
    CHECK_EQ_INT(ntx_open_file("source", NTX_OPEN_READ, true, &b.from, &b.err), 0);
    CHECK_EQ_INT(ntx_open_file("target", NTX_OPEN_WRITE, true, &b.to, &b.err), 0);
    struct ntx_extent all = {0, SIZE, 0};

    CHECK_EQ_INT(ntx_job_new(b.from, b.to, &b.options, &job, &b.err), 0);
    CHECK_EQ_INT(ntx_job_start(job, &b.err), 0);
    feed_all(job, &all, 1, &b.err);
    wait_until_finished(job);
    CHECK_EQ_INT(ntx_job_join(job, &b.err), 0);
    ntx_job_free(job);

    int fd = open("target", O_RDONLY | O_CLOEXEC);
    CHECK(read(fd, found, SIZE) == (ssize_t)SIZE);
    CHECK(memcmp(found, b.source.bytes, SIZE) == 0);
    close(fd);
    free(found);
    teardown(&b);
}

static void feed(struct ntx_job *job, uint64_t offset, uint64_t length, struct ntx_error *err)
{
    struct ntx_extent extent = {offset, length, 0};
    size_t taken;
    CHECK(ntx_job_feed(job, &extent, 1, &taken, err) == 0 && taken == 1);
}

static void wait_for(struct ntx_job *job, uint64_t bytes, unsigned connections)
{
    struct ntx_job_progress progress = {0};
    for (unsigned ms = 0; progress.bytes_done < bytes || progress.connections < connections; ms++) {
        CHECK(ms < 30000);
        poll(NULL, 0, 1);
        ntx_job_progress(job, &progress);
    }
}

static void test_connections_that_come_late_are_not_waited_for(void)
{
    for (unsigned come_in_time = 0; come_in_time < 2; come_in_time++) {
        struct bench b;
        setup(&b);
        b.from = fake_open(&b.source);
        b.to = fake_open(&b.target);
        b.options.bytes_expected = 3 * SIZE; /* enough for three connections */
        b.target.delays_clones = true;
        struct ntx_job *job;
        CHECK(ntx_job_new(b.from, b.to, &b.options, &job, &b.err) == 0);
        CHECK(ntx_job_start(job, &b.err) == 0);
        feed(job, 0, NTX_MIB, &b.err);
        wait_for(job, NTX_MIB, 1);
        while (b.target.clones_begun < 2)
            poll(NULL, 0, 1);
        CHECK_EQ_U64(b.target.clones, 0);

        if (come_in_time) {
            b.target.delays_clones = false;
            wait_for(job, NTX_MIB, 3);
        }
        feed(job, NTX_MIB, SIZE - NTX_MIB, &b.err);
        wait_for(job, SIZE, 1);
        ntx_job_feed_end(job);
        wait_until_finished(job); /* also of those that never come */

        CHECK(ntx_job_join(job, &b.err) == 0);
        CHECK_EQ_U64(b.target.clones, come_in_time ? 2 : 0);
        CHECK_EQ_U64(ntx_job_refused(job, &b.err), 0);
        CHECK_EQ_U64(b.target.flushes, 1);
        check_target(&b, &(struct ntx_extent){0, SIZE, 0}, 1, 1);
        ntx_job_free(job);
        teardown(&b);
    }
}

int main(void)
{
    RUN(test_any_extents_arrive_byte_for_byte);
    RUN(test_zeros_mask_what_the_target_held);
    RUN(test_zeros_are_skipped_when_the_target_is_zero);
    RUN(test_blocks_equal_to_the_reference_are_not_sent);
    RUN(test_more_extents_than_the_plan_holds);
    RUN(test_files_are_copied_by_several_threads);
    RUN(test_connections_that_come_late_are_not_waited_for);
    return 0;
}
