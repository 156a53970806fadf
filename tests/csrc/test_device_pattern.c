/* test_device_pattern.c: every 8 bytes hold their own offset, however they are cut. */
#include "check_device.h"

#include <errno.h>

static struct ntx_device *open_pattern(uint64_t size)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_OK(ntx_open_pattern(size, &device, &err), err);
    return device;
}

static uint8_t pattern_byte(uint64_t offset)
{
    uint64_t word = offset & ~7ull;

    return (uint8_t)(word >> (8 * (7 - offset % 8)));
}

static void test_words_hold_their_offset_big_endian(void)
{
    static const uint8_t expected[] = {0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x10, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x18};
    struct ntx_device *device = open_pattern(1ull << 40);

    check_device_holds(device, 0x1234567810, expected, sizeof expected);
    ntx_close(device);
}

static void test_any_offset_length_and_address_gives_the_same_bytes(void)
{
    enum { LENGTH = 40, BASE = 65530 };
    struct ntx_device *device = open_pattern(BASE + 2 * LENGTH);
    uint8_t got[LENGTH + 16];
    struct ntx_error err;

    for (uint64_t start = 0; start < 17; start++) {
        for (uint64_t length = 1; length <= LENGTH; length++) {
            size_t shift = (start + length) % 8;
            memset(got, 0xee, sizeof got);
            CHECK_OK(do_io(device, NTX_OP_READ, BASE + start, length, got + shift, &err), err);
            for (uint64_t i = 0; i < length; i++)
                CHECK_EQ_U64(got[shift + i], pattern_byte(BASE + start + i));
            CHECK_EQ_U64(got[shift + length], 0xee);
        }
    }
    ntx_close(device);
}

static void test_size_need_not_be_a_multiple_of_8(void)
{
    struct ntx_device *device = open_pattern(13);
    static const uint8_t expected[13] = {0};
    struct ntx_error err;
    uint8_t more[14];

    check_device_holds(device, 0, expected, 13);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, 14, more, &err), -EINVAL);
    ntx_close(device);
}

static void test_it_cannot_be_written(void)
{
    struct ntx_device *device = open_pattern(100);
    struct ntx_error err;
    char data[10] = {0};

    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 10, data, &err), -EROFS);
    CHECK_EQ_INT(do_io(device, NTX_OP_ZERO, 0, 10, NULL, &err), -EROFS);
    CHECK_EQ_STR(err.text, "pattern:100: zero failed: offset 0 length 10: it was opened for reading only");
    ntx_close(device);
}

static void test_it_maps_as_one_data_extent(void)
{
    struct ntx_device *device = open_pattern(100);
    struct ntx_extent extents[1];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, 10, 80, 0, extents, 1, &count, &err), err);

    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].offset, 10);
    CHECK_EQ_U64(extents[0].length, 80);
    CHECK_EQ_U64(extents[0].flags, 0);
    ntx_close(device);
}

static void test_a_clone_reads_the_same(void)
{
    struct ntx_device *device = open_pattern(100), *other;
    static const uint8_t expected[] = {0, 0, 0, 0, 0, 0, 0, 8};
    struct ntx_error err;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    ntx_close(device);

    CHECK_EQ_U64(ntx_device_info(other)->size, 100);
    check_device_holds(other, 8, expected, 8);
    ntx_close(other);
}

static void test_too_large_a_size_is_refused(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_pattern(UINT64_MAX, &device, &err), -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK(device == NULL);
}

int main(void)
{
    RUN(test_words_hold_their_offset_big_endian);
    RUN(test_any_offset_length_and_address_gives_the_same_bytes);
    RUN(test_size_need_not_be_a_multiple_of_8);
    RUN(test_it_cannot_be_written);
    RUN(test_it_maps_as_one_data_extent);
    RUN(test_a_clone_reads_the_same);
    RUN(test_too_large_a_size_is_refused);
    return 0;
}
