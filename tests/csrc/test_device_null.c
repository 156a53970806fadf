/* test_device_null.c: takes everything, reads as zero. */
#include "check_device.h"

#include <errno.h>

#define SIZE 1000001u

static struct ntx_device *open_null(uint64_t size)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_OK(ntx_open_null(size, &device, &err), err);
    return device;
}

static void test_it_takes_writes_zeroes_and_flushes(void)
{
    struct ntx_device *device = open_null(SIZE);
    struct ntx_error err;
    char data[100] = "something";

    CHECK_OK(do_io(device, NTX_OP_WRITE, SIZE - sizeof data, sizeof data, data, &err), err);
    CHECK_OK(do_io(device, NTX_OP_ZERO, 0, SIZE, NULL, &err), err);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    CHECK_EQ_U64(device->in_flight, 0);
    ntx_close(device);
}

static void test_it_reads_as_zero_even_after_a_write(void)
{
    struct ntx_device *device = open_null(SIZE);
    struct ntx_error err;
    char data[100] = "something", zeros[100] = {0};

    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, sizeof data, data, &err), err);

    check_device_holds(device, 0, zeros, sizeof zeros);
    ntx_close(device);
}

static void test_it_maps_as_one_zero_extent(void)
{
    struct ntx_device *device = open_null(SIZE);
    struct ntx_extent extents[2];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, 5, SIZE - 5, 0, extents, 2, &count, &err), err);

    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].offset, 5);
    CHECK_EQ_U64(extents[0].length, SIZE - 5);
    CHECK_EQ_U64(extents[0].flags, NTX_EXTENT_ZERO);
    ntx_close(device);
}

static void test_it_says_what_it_is(void)
{
    struct ntx_device *device = open_null(SIZE);
    const struct ntx_device_info *info = ntx_device_info(device);

    CHECK_EQ_U64(info->size, SIZE);
    CHECK_EQ_U64(info->min_block, 1);
    CHECK_EQ_STR(info->kind, "null");
    CHECK_EQ_STR(info->name, "null:1000001");
    CHECK((info->flags & NTX_DEVICE_DISCARDS) != 0);
    CHECK((info->flags & NTX_DEVICE_READ_ONLY) == 0);
    ntx_close(device);
}

static void test_a_clone_is_alike_and_independent(void)
{
    struct ntx_device *device = open_null(SIZE), *other;
    struct ntx_error err;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    ntx_close(device);

    CHECK_EQ_U64(ntx_device_info(other)->size, SIZE);
    ntx_close(other);
}

static void test_requests_outside_are_refused_with_their_place(void)
{
    struct ntx_device *device = open_null(SIZE);
    struct ntx_error err;
    char data[2];

    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, SIZE - 1, 2, data, &err), -EINVAL);
    CHECK_EQ_STR(err.text, "null:1000001: write failed: offset 1000000 length 2: the request goes past the end");
    CHECK_EQ_U64(err.offset, SIZE - 1);
    CHECK_EQ_U64(err.length, 2);
    CHECK_EQ_INT(do_io(device, NTX_OP_ZERO, UINT64_MAX, 2, NULL, &err), -EINVAL);
    CHECK_EQ_INT(do_io(device, NTX_OP_ZERO, 1, UINT64_MAX, NULL, &err), -EINVAL);
    CHECK_EQ_INT(do_io(device, NTX_OP_ZERO, 0, 0, NULL, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "empty");
    ntx_close(device);
}

static void test_too_long_a_payload_is_refused(void)
{
    struct ntx_device *device = open_null(2 * NTX_GIB);
    struct ntx_error err;

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, NTX_MAX_REQUEST_SIZE + 1, NULL, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "maximum payload");
    CHECK_OK(do_io(device, NTX_OP_ZERO, 0, 2 * NTX_GIB, NULL, &err), err);
    ntx_close(device);
}

static void test_completions_are_reaped_in_order_and_counted(void)
{
    struct ntx_device *device = open_null(SIZE);
    struct ntx_io io[3] = {
        {.op = NTX_OP_FLUSH}, {.op = NTX_OP_ZERO, .offset = SIZE, .length = 1}, {.op = NTX_OP_FLUSH}};
    struct ntx_error err;

    for (int i = 0; i < 3; i++)
        CHECK_OK(ntx_device_submit(device, &io[i], &err), err);
    CHECK_EQ_U64(device->in_flight, 3);
    CHECK_EQ_INT(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), -EBUSY);

    CHECK(ntx_device_reap(device) == &io[0]);
    CHECK(ntx_device_reap(device) == &io[1]);
    CHECK(ntx_device_reap(device) == &io[2]);
    CHECK(ntx_device_reap(device) == NULL);
    CHECK_EQ_INT(io[0].result, 0);
    CHECK_EQ_INT(io[1].result, -EINVAL);
    CHECK_EQ_U64(device->in_flight, 0);
    ntx_close(device);
}

static void test_map_refuses_what_it_cannot_answer(void)
{
    struct ntx_device *device = open_null(SIZE);
    struct ntx_extent extents[1];
    struct ntx_error err;
    size_t count;

    CHECK_EQ_INT(ntx_map(device, 0, 0, 0, extents, 1, &count, &err), -EINVAL);
    CHECK_EQ_INT(ntx_map(device, SIZE, 1, 0, extents, 1, &count, &err), -EINVAL);
    CHECK_EQ_INT(ntx_map(device, 1, SIZE, 0, extents, 1, &count, &err), -EINVAL);
    CHECK_EQ_U64(err.offset, 1);
    CHECK_EQ_INT(ntx_map(device, 0, SIZE, 0, extents, 0, &count, &err), -EINVAL);
    ntx_close(device);
}

static void test_too_large_a_size_is_refused(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_null((uint64_t)NTX_MAX_DEVICE_SIZE + 1, &device, &err), -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK(device == NULL);
    ntx_close(device);
}

int main(void)
{
    RUN(test_it_takes_writes_zeroes_and_flushes);
    RUN(test_it_reads_as_zero_even_after_a_write);
    RUN(test_it_maps_as_one_zero_extent);
    RUN(test_it_says_what_it_is);
    RUN(test_a_clone_is_alike_and_independent);
    RUN(test_requests_outside_are_refused_with_their_place);
    RUN(test_too_long_a_payload_is_refused);
    RUN(test_completions_are_reaped_in_order_and_counted);
    RUN(test_map_refuses_what_it_cannot_answer);
    RUN(test_too_large_a_size_is_refused);
    return 0;
}
