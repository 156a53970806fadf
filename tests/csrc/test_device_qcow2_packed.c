/* device_qcow2.c and qcow2_pack.c: an image whose clusters are compressed. */
#include "check_qcow2.h"

#include "qcow2_image.h"
#include "qcow2_unpack.h"

static struct ntx_device *make_packed(struct ntx_qcow2_options *options, uint64_t size)
{
    *options = options_of(size);
    options->zstd_level = 1;
    return make(options);
}

/* Bytes that zstd cannot make smaller: the same for a seed. */
static const uint8_t *noise(uint32_t seed)
{
    static _Alignas(4096) uint8_t block[BLOCK];
    uint32_t state = seed * 2654435761u + 1;

    for (size_t i = 0; i < sizeof block; i++) {
        state = state * 1664525u + 1013904223u;
        block[i] = (uint8_t)(state >> 24);
    }
    return block;
}

/* Half noise, half not: a frame of about half a cluster. */
static uint8_t *half_noise(uint32_t seed)
{
    uint8_t *block = (uint8_t *)noise(seed);

    memset(block + BLOCK / 2, (int)(seed % 255), BLOCK / 2);
    return block;
}

static bool is_packed(uint64_t entry)
{
    return (entry & NTX_QCOW2_COMPRESSED) != 0;
}

static void check_packed(uint64_t block, const uint8_t *expected)
{
    struct ntx_qcow2_unpacker *unpacker = ntx_qcow2_unpacker_new();
    struct ntx_qcow2_packed packed = {.fd = open("image", O_RDONLY)};
    const char *what;
    uint8_t data[BLOCK];
    uint64_t at;

    CHECK(is_packed(entry_of(block)));
    packed.place = ntx_qcow2_compressed_place(entry_of(block), &packed.length);
    packed.end = packed.place + packed.length;
    CHECK_EQ_INT(ntx_qcow2_unpack(unpacker, &packed, 0, data, BLOCK, &at, &what), 0);
    CHECK_EQ_MEM(data, expected, BLOCK);
    close(packed.fd);
    ntx_qcow2_unpacker_free(unpacker);
}

static void write_data(struct ntx_device *device, uint64_t block, const uint8_t *data)
{
    struct ntx_error err;

    CHECK_OK(do_io(device, NTX_OP_WRITE, block * BLOCK, BLOCK, (void *)data, &err), err);
}

static void test_what_becomes_smaller_is_stored_so_and_nothing_else(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, SIZE);

    write_block(device, 1, 7);
    write_data(device, 2, noise(2));
    write_data(device, 3, half_noise(3));
    finish(device);
    ntx_close(device);

    check_packed(1, block_of(7));
    CHECK(!is_packed(entry_of(2)));
    check_packed(3, half_noise(3));
    uint8_t data[BLOCK];
    read_image(entry_of(2) & NTX_QCOW2_OFFSET, data, BLOCK);
    CHECK_EQ_MEM(data, noise(2), BLOCK);
}

static void test_the_header_says_that_frames_are_of_zstd_only_where_there_are_any(void)
{
    for (int is_smaller = 0; is_smaller < 2; is_smaller++) {
        struct ntx_qcow2_options options;
        struct ntx_device *device = make_packed(&options, SIZE);

        write_data(device, 1, is_smaller ? block_of(1) : noise(1));
        finish(device);
        ntx_close(device);

        CHECK_EQ_U64(number_at(72), is_smaller ? 1 << 3 : 0);
        CHECK_EQ_U64(number_at(104) >> 56, is_smaller);
    }
}

static void test_a_cluster_of_the_file_is_counted_once_for_each_frame_in_it(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, SIZE);
    uint32_t length;

    for (unsigned i = 0; i < 3; i++)
        write_data(device, i, half_noise(i + 1)); /* the second lies in two clusters */
    finish(device);
    ntx_close(device);

    CHECK_EQ_U64(ntx_qcow2_compressed_place(entry_of(0), &length), BLOCK);
    CHECK_EQ_INT(count_of(1), 2);
    CHECK_EQ_INT(count_of(2), 2);
    for (unsigned i = 0; i < 3; i++)
        check_packed(i, half_noise(i + 1));
}

static void test_a_block_that_is_written_twice_is_what_it_was_last(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, SIZE);
    struct ntx_error err;

    write_block(device, 1, 1);
    write_data(device, 1, noise(1)); /* overtakes the pack, were it let to */
    write_data(device, 2, noise(2));
    write_block(device, 2, 2);
    write_block(device, 3, 3);
    CHECK_OK(do_io(device, NTX_OP_ZERO, 3 * BLOCK, BLOCK, NULL, &err), err);
    finish(device);
    ntx_close(device);

    CHECK(!is_packed(entry_of(1)));
    check_packed(2, block_of(2));
    CHECK_EQ_U64(entry_of(3), 0);
}

static void test_more_than_a_pack_holds_is_written_in_several(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, 100 * BLOCK);

    for (unsigned i = 0; i < 100; i++)
        write_data(device, i, half_noise(i + 1));
    finish(device);
    ntx_close(device);

    for (unsigned i = 0; i < 100; i++)
        check_packed(i, half_noise(i + 1));
    CHECK(image_size() < 60 * BLOCK);
}

static void test_frames_follow_each_other_to_the_byte(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, SIZE);
    uint32_t length;

    for (unsigned i = 0; i < 3; i++)
        write_block(device, i, (int)i + 1);
    finish(device);
    ntx_close(device);

    uint64_t first = ntx_qcow2_compressed_place(entry_of(0), &length);
    uint64_t second = ntx_qcow2_compressed_place(entry_of(1), &length);
    CHECK(second > first && second - first < NTX_QCOW2_SECTOR);
    CHECK_EQ_U64(ntx_qcow2_compressed_place(entry_of(2), &length) - second, second - first);
    for (unsigned i = 0; i < 3; i++)
        check_packed(i, block_of((int)i + 1));
}

static void test_a_cluster_of_the_file_has_no_more_frames_than_it_may(void)
{
    static const unsigned BLOCKS = 2 * NTX_QCOW2_MAX_FRAMES + 1;
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, (uint64_t)BLOCKS * BLOCK);

    for (unsigned i = 0; i < BLOCKS; i++)
        write_block(device, i, (int)(i % 255) + 1);
    finish(device);
    ntx_close(device);

    for (unsigned i = 1; i <= 3; i++)
        CHECK_EQ_INT(count_of(i), i < 3 ? NTX_QCOW2_MAX_FRAMES : 1);
    check_packed(BLOCKS - 1, block_of((BLOCKS - 1) % 255 + 1));
}

static void test_a_flush_covers_what_is_settled_on_other_devices(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, SIZE), *other;
    struct ntx_error err;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    write_block(other, 1, 1);
    write_block(device, 2, 2);
    CHECK_OK(other->ops->settle(other, &err), err);
    flush(device);
    ntx_close(other);
    ntx_close(device);
    device = open_again(&options, SIZE);
    finish(device);
    ntx_close(device);

    check_packed(1, block_of(1));
    check_packed(2, block_of(2));
}

static void test_what_was_written_can_be_read_back(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, 4 * BLOCK - 512);
    struct ntx_error err;
    uint8_t *expected = calloc(4, BLOCK);

    memset(expected + BLOCK, 1, BLOCK);
    memcpy(expected + 2 * BLOCK, noise(2), BLOCK);
    memset(expected + 3 * BLOCK, 3, BLOCK - 512);
    write_block(device, 1, 1);
    write_data(device, 2, noise(2));
    CHECK_OK(do_io(device, NTX_OP_WRITE, 3 * BLOCK, BLOCK - 512, block_of(3), &err), err);

    check_device_holds(device, 0, expected, 4 * BLOCK - 512);
    check_device_holds(device, 3 * BLOCK, expected + 3 * BLOCK, BLOCK - 512);
    ntx_close(device);
    free(expected);
}

static void test_a_request_says_what_is_kept_of_it(void)
{
    struct ntx_qcow2_options options;
    struct ntx_device *device = make_packed(&options, SIZE);
    uint8_t *data = aligned_alloc(4096, 2 * BLOCK);
    struct ntx_error err;

    memset(data, 1, BLOCK);
    memcpy(data + BLOCK, noise(1), BLOCK);
    struct ntx_io io = {.op = NTX_OP_WRITE, .offset = 0, .length = 2 * BLOCK, .data = data};
    CHECK_OK(ntx_device_do(device, &io, CHECK_TIMEOUT_MS, &err), err);

    CHECK(io.stored > BLOCK && io.stored < BLOCK + 512);
    CHECK(io.packing_ns > 0);
    ntx_close(device);
    free(data);
}

static void test_a_level_that_zstd_does_not_have_is_refused(void)
{
    static const int LEVELS[] = {-1, NTX_MAX_ZSTD_LEVEL + 1};

    for (unsigned i = 0; i < 2; i++) {
        struct ntx_qcow2_options options = options_of(SIZE);
        struct ntx_error err;
        options.zstd_level = LEVELS[i];
        CHECK_EQ_INT(refusal_of(&options, &err), -EINVAL);
        CHECK_CONTAINS(err.text, "zstd level");
    }
}

int main(void)
{
    RUN(test_what_becomes_smaller_is_stored_so_and_nothing_else);
    RUN(test_the_header_says_that_frames_are_of_zstd_only_where_there_are_any);
    RUN(test_a_cluster_of_the_file_is_counted_once_for_each_frame_in_it);
    RUN(test_a_block_that_is_written_twice_is_what_it_was_last);
    RUN(test_more_than_a_pack_holds_is_written_in_several);
    RUN(test_frames_follow_each_other_to_the_byte);
    RUN(test_a_cluster_of_the_file_has_no_more_frames_than_it_may);
    RUN(test_a_flush_covers_what_is_settled_on_other_devices);
    RUN(test_what_was_written_can_be_read_back);
    RUN(test_a_request_says_what_is_kept_of_it);
    RUN(test_a_level_that_zstd_does_not_have_is_refused);
    return 0;
}
