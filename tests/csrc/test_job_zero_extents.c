/* Extents that are zero whatever the source holds there: against a model of a few lines. */
#include "job_bench.h"

#define MANY 40000u

/* What the copy is of: the source, but zero in the zero extents. */
static uint8_t *wanted(const struct bench *b, const struct ntx_extent *extents, size_t count)
{
    uint8_t *bytes = malloc(SIZE);
    memcpy(bytes, b->source.bytes, SIZE);
    for (size_t i = 0; i < count; i++) {
        if (extents[i].flags & NTX_EXTENT_ZERO)
            memset(bytes + extents[i].offset, 0, extents[i].length);
    }
    return bytes;
}

static void check_copy(const struct bench *b, const struct ntx_extent *extents, size_t count, uint64_t unit,
                       uint64_t size)
{
    uint8_t *bytes = wanted(b, extents, count), *expected = malloc(SIZE);
    bool *touched = calloc(BLOCKS, sizeof *touched);
    memcpy(expected, b->before, SIZE);
    for (size_t i = 0; i < count; i++) {
        uint64_t start = ntx_round_down(extents[i].offset, unit);
        uint64_t end = ntx_min64(ntx_round_up(extents[i].offset + extents[i].length, unit), size);
        memcpy(expected + start, bytes + start, end - start);
        for (uint64_t at = ntx_round_down(extents[i].offset, NTX_BLOCK_SIZE);
             at < extents[i].offset + extents[i].length; at += NTX_BLOCK_SIZE)
            touched[at / NTX_BLOCK_SIZE] = true;
    }
    CHECK(memcmp(expected, b->target.bytes, SIZE) == 0);

    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint64_t start = block * NTX_BLOCK_SIZE;
        uint8_t digest[NTX_DIGEST_SIZE] = {0}, found[NTX_DIGEST_SIZE];
        uint64_t length = start < size ? ntx_min64(NTX_BLOCK_SIZE, size - start) : 0;
        if (touched[block] && !ntx_is_zero(bytes + start, length))
            ntx_digest(bytes + start, length, digest);
        CHECK(pread(b->manifest, found, sizeof found, (off_t)(block * NTX_DIGEST_SIZE)) == sizeof found);
        CHECK(memcmp(found, digest, sizeof found) == 0);
    }
    free(touched);
    free(expected);
    free(bytes);
}

static size_t any_extents(struct ntx_extent *extents, uint64_t size, uint64_t length, uint64_t gap)
{
    size_t count = 0;
    for (uint64_t at = rnd(gap); at < size && count < MANY; count++) {
        uint64_t most = rnd(16) == 0 ? 3 * NTX_BLOCK_SIZE : length;
        uint64_t end = ntx_min64(at + 1 + rnd(most), size);
        if (rnd(4) == 0)
            end = ntx_min64(ntx_round_up(end, rnd(2) ? 512 : NTX_BLOCK_SIZE), size);
        extents[count] = (struct ntx_extent){at, end - at, rnd(2) ? NTX_EXTENT_ZERO : 0};
        at = end + (rnd(2) ? rnd(gap) : 0);
    }
    return count;
}

static void test_zero_extents_are_zero_whatever_the_source_holds(void)
{
    static struct ntx_extent extents[MANY];
    for (int round = 0; round < 48; round++) {
        struct bench b;
        uint32_t unit = round % 2 ? 512 : 1;
        uint64_t size = unit == 1 ? SIZE - rnd(1000) : SIZE;
        setup(&b);
        if (round % 3 > 0) /* else zeros too, as the source's map says */
            fill_with_data(b.source.bytes, SIZE);
        b.target.min_block = unit;
        b.target.max_payload = round % 5 == 0 ? 4096 : 0;
        b.source.flags = round % 7 == 0 ? ALL_FLAGS & ~NTX_DEVICE_CAN_MAP : ALL_FLAGS;
        b.target.flags = round % 6 == 0 ? ALL_FLAGS & ~NTX_DEVICE_CAN_ZERO : ALL_FLAGS;
        b.options.disk_size = size;
        b.options.limits.connections = 1 + round % 4;
        b.options.limits.request_size = NTX_BLOCK_SIZE << (round % 3);
        b.options.target_is_zero = round % 4 == 0;
        if (b.options.target_is_zero) {
            memset(b.target.bytes, 0, SIZE);
            memset(b.before, 0, SIZE);
        }
        size_t count = any_extents(extents, size, round % 3 ? 3000 : 200, round % 2 ? 2000 : 100);

        CHECK(run(&b, extents, count) == 0);

        check_copy(&b, extents, count, unit, size);
        teardown(&b);
    }
}

/* More in a block than an item has room for, and more than the plan holds: a block is done at once all the same. */
static void test_a_block_of_more_extents_than_fit_is_digested_once_and_right(void)
{
    struct bench b;
    struct ntx_extent *extents = malloc(5 * NTX_BLOCK_SIZE * sizeof *extents);
    size_t count = 0;
    setup(&b);
    memset(b.source.bytes, 0x5a, SIZE);
    b.target.min_block = 512;
    for (uint64_t at = 0; at < 5 * NTX_BLOCK_SIZE; at++)
        extents[count++] = (struct ntx_extent){at, 1, at % 2 ? NTX_EXTENT_ZERO : 0};

    CHECK(run(&b, extents, count) == 0);

    check_copy(&b, extents, count, 512, SIZE);
    CHECK_EQ_U64(b.progress.bytes_done, 5 * NTX_BLOCK_SIZE);
    free(extents);
    teardown(&b);
}

/* The reference is of what the copy will be: blocks that are so already are left alone. */
static void test_an_edge_block_is_compared_as_it_will_be(void)
{
    struct bench b;
    uint8_t digest[NTX_DIGEST_SIZE];
    int reference = memfd_create("reference", MFD_CLOEXEC);
    struct ntx_extent zero = {1000, 130000, NTX_EXTENT_ZERO};
    setup(&b);
    memset(b.source.bytes, 0x77, SIZE);
    uint8_t *bytes = wanted(&b, &zero, 1);
    for (uint64_t block = 0; block < 2; block++) {
        memset(digest, 0, sizeof digest);
        ntx_digest(bytes + block * NTX_BLOCK_SIZE, NTX_BLOCK_SIZE, digest);
        CHECK(write(reference, digest, sizeof digest) == sizeof digest);
    }
    b.options.reference_fd = reference;
    b.options.reference_blocks = 2;

    CHECK(run(&b, &zero, 1) == 0);

    CHECK(memcmp(b.before, b.target.bytes, SIZE) == 0);
    CHECK_EQ_U64(b.progress.bytes_unchanged, 130000);
    free(bytes);
    close(reference);
    teardown(&b);
}

int main(void)
{
    RUN(test_zero_extents_are_zero_whatever_the_source_holds);
    RUN(test_a_block_of_more_extents_than_fit_is_digested_once_and_right);
    RUN(test_an_edge_block_is_compared_as_it_will_be);
    return 0;
}
