/* test_device_chain.c: a chain of images reads as the format says, alone and by several threads. */
#include "qcow2_sample.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#define READERS 4
#define ROUNDS 100u

/*   disk      0   1   2   3   4   5   6   7   8         (the last is cut in the middle)
 *   top       a   .   z   p   p   .   .   .   .
 *   middle    x   b   x   .   .   .   q                 ends here, within q
 *   base      .   .   .   .   .   c   x   x   x
 * with p and q compressed. */
#define SIZE (8 * CLUSTER + 1536)
#define MIDDLE_SIZE (6 * CLUSTER + 512)

static uint8_t *new_disk(void)
{
    uint8_t *disk = calloc(1, SIZE + CLUSTER), cluster[NTX_QCOW2_CLUSTER];

    memset(disk, 'a', CLUSTER);
    memset(disk + CLUSTER, 'b', CLUSTER);
    fill_packed(disk + 3 * CLUSTER, 'p');
    fill_packed(disk + 4 * CLUSTER, 'P');
    memset(disk + 5 * CLUSTER, 'c', CLUSTER);
    fill_packed(cluster, 'q');
    memcpy(disk + 6 * CLUSTER, cluster, 512);
    return disk;
}

static struct ntx_device *open_disk(void)
{
    struct sample *images[] = {new_image(SIZE, true), new_image(MIDDLE_SIZE, true), new_image(SIZE, false)};

    put_data(images[0], 0, 'a');
    put_entry(images[0], 2, NTX_QCOW2_ZERO);
    put_packed(images[0], 3, 'p', CLUSTER);
    put_packed(images[0], 4, 'P', CLUSTER);
    for (unsigned i = 0; i < 3; i++)
        put_data(images[1], i, i == 1 ? 'b' : 'x');
    put_packed(images[1], 6, 'q', CLUSTER);
    for (unsigned i = 5; i < 9; i++)
        put_data(images[2], i, i == 5 ? 'c' : 'x');
    struct ntx_device *device = open_images(images, 3);
    for (unsigned i = 0; i < 3; i++)
        free(images[i]);
    return device;
}

static void test_it_reads_what_the_images_say_at_every_border(void)
{
    static const int around[] = {-2, -1, 0, 1, 2};
    struct ntx_device *device = open_disk();
    uint8_t *expected = new_disk();

    check_device_holds(device, 0, expected, SIZE);
    for (uint64_t border = 0; border <= SIZE; border += CLUSTER / 2) {
        for (unsigned i = 0; i < 5; i++) {
            for (uint64_t length = 1; length <= 2 * CLUSTER + 1; length += CLUSTER) {
                int64_t offset = (int64_t)border + around[i];
                if (offset >= 0 && (uint64_t)offset + length <= SIZE)
                    check_device_holds(device, (uint64_t)offset, expected + offset, length);
            }
        }
    }
    free(expected);
    ntx_close(device);
}

static void test_it_says_what_it_is_and_refuses_writes(void)
{
    struct ntx_device *device = open_disk();
    const struct ntx_device_info *info = ntx_device_info(device);
    struct ntx_error err;
    char data[1] = "";

    CHECK_EQ_U64(info->size, SIZE);
    CHECK_EQ_STR(info->kind, "chain");
    CHECK_EQ_STR(info->name, "disk");
    CHECK_EQ_U64(info->flags, NTX_DEVICE_READ_ONLY | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_CAN_MAP);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 1, data, &err), -EROFS);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, SIZE, 1, data, &err), -EINVAL);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    ntx_close(device);
}

static void check_extent(const struct ntx_extent *extent, uint64_t offset, uint64_t length, uint64_t flags)
{
    CHECK_EQ_U64(extent->offset, offset);
    CHECK_EQ_U64(extent->length, length);
    CHECK_EQ_U64(extent->flags, flags);
}

static void test_it_maps_with_neighbours_of_one_kind_joined(void)
{
    struct ntx_device *device = open_disk();
    struct ntx_extent extents[8];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, 1, SIZE - 1, 0, extents, 8, &count, &err), err);

    CHECK_EQ_U64(count, 4);
    check_extent(&extents[0], 1, 2 * CLUSTER - 1, 0);
    check_extent(&extents[1], 2 * CLUSTER, CLUSTER, NTX_EXTENT_ZERO);
    check_extent(&extents[2], 3 * CLUSTER, 3 * CLUSTER + 512, 0);
    check_extent(&extents[3], MIDDLE_SIZE, SIZE - MIDDLE_SIZE, NTX_EXTENT_ZERO);
    CHECK_OK(ntx_map(device, 0, SIZE, 0, extents, 2, &count, &err), err);
    CHECK_EQ_U64(count, 2);
    ntx_close(device);
}

static void test_it_tells_the_image_of_each_extent(void)
{
    static const struct {
        uint64_t offset, length;
        uint32_t file, flags;
    } expected[] = {{0, CLUSTER, 0, 0},
                    {CLUSTER, CLUSTER, 1, 0},
                    {2 * CLUSTER, CLUSTER, 0, NTX_EXTENT_ZERO},
                    {3 * CLUSTER, 2 * CLUSTER, 0, 0},
                    {5 * CLUSTER, CLUSTER, 2, 0},
                    {6 * CLUSTER, 512, 1, 0},
                    {MIDDLE_SIZE, CLUSTER - 512, 0, NTX_EXTENT_ZERO},
                    {7 * CLUSTER, SIZE - 7 * CLUSTER, 0, NTX_EXTENT_ZERO | NTX_EXTENT_ABSENT}};
    struct ntx_device *device = open_disk(), *other;
    struct ntx_mapped_extent extents[8];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map_images(device, 0, SIZE, extents, 8, &count, &err), err);

    CHECK_EQ_U64(count, 8);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ_U64(extents[i].offset, expected[i].offset);
        CHECK_EQ_U64(extents[i].length, expected[i].length);
        CHECK_EQ_U64(extents[i].file, expected[i].file);
        CHECK_EQ_U64(extents[i].flags, expected[i].flags);
    }
    CHECK_EQ_U64(extents[0].place, SAMPLE_FIRST * CLUSTER);
    CHECK_OK(ntx_map_images(device, CLUSTER + 5, CLUSTER, extents, 1, &count, &err), err);
    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].offset, CLUSTER + 5);
    CHECK_EQ_U64(extents[0].length, CLUSTER - 5);
    CHECK_EQ_INT(ntx_map_images(device, SIZE, 1, extents, 8, &count, &err), -EINVAL);
    ntx_close(device);
    CHECK_OK(ntx_open_null(SIZE, &other, &err), err);
    CHECK_EQ_INT(ntx_map_images(other, 0, SIZE, extents, 8, &count, &err), -ENOTSUP);
    ntx_close(other);
}

/* 4 TiB, with an L2 table for 512 MiB in the middle. */
static void test_where_no_image_has_a_table_nothing_is_read(void)
{
    const uint64_t size = 4096 * NTX_GIB, middle = 4096 * NTX_QCOW2_L2_BYTES;
    struct sample *images[] = {new_image(size, true), new_image(size / 2, true)};
    struct ntx_extent extents[4];
    struct ntx_error err;
    uint8_t data[2 * NTX_KIB], zeros[2 * NTX_KIB] = {0};
    size_t count;

    for (unsigned i = 0; i < 2; i++)
        ntx_put64(images[i]->bytes + SAMPLE_L1, 0);
    ntx_put64(images[0]->bytes + SAMPLE_L1 + 4096 * 8, SAMPLE_L2 | NTX_QCOW2_COPIED);
    put_data(images[0], 1, 'm');
    struct ntx_device *device = open_images(images, 2);

    CHECK_OK(ntx_map(device, 0, size, 0, extents, 4, &count, &err), err);

    CHECK_EQ_U64(count, 3);
    check_extent(&extents[0], 0, middle + CLUSTER, NTX_EXTENT_ZERO);
    check_extent(&extents[1], middle + CLUSTER, CLUSTER, 0);
    check_extent(&extents[2], middle + 2 * CLUSTER, size - middle - 2 * CLUSTER, NTX_EXTENT_ZERO);
    CHECK_OK(do_io(device, NTX_OP_READ, middle + CLUSTER - NTX_KIB, sizeof data, data, &err), err);
    CHECK_EQ_MEM(data, zeros, NTX_KIB);
    CHECK_EQ_INT(data[NTX_KIB], 'm');
    check_device_holds(device, size - sizeof zeros, zeros, sizeof zeros);
    ntx_close(device);
    for (unsigned i = 0; i < 2; i++)
        free(images[i]);
}

/* More windows than are kept, one after another and again. */
static void test_windows_that_are_not_kept_any_more_are_made_again(void)
{
    const unsigned windows = 12;
    struct sample *image = new_image(windows * NTX_QCOW2_L2_BYTES, true);
    uint8_t expected[512];

    for (unsigned i = 0; i < windows; i++)
        ntx_put64(image->bytes + SAMPLE_L1 + i * 8, SAMPLE_L2);
    put_data(image, 7, 'w');
    struct ntx_device *device = open_images(&image, 1);

    memset(expected, 'w', sizeof expected);
    for (unsigned i = 0; i < 3 * windows; i++)
        check_device_holds(device, i * 5 % windows * NTX_QCOW2_L2_BYTES + 7 * CLUSTER, expected, sizeof expected);
    ntx_close(device);
    free(image);
}

static void test_the_last_cluster_may_be_cut_as_qemu_leaves_it(void)
{
    struct sample *image = new_image(4 * CLUSTER, false);
    uint8_t *expected = calloc(4, CLUSTER);
    struct ntx_extent extents[4];
    struct ntx_error err;
    size_t count;

    put_data(image, 1, 'd');
    image->length -= CLUSTER - 700;
    memset(expected + CLUSTER, 'd', 700);
    struct ntx_device *device = open_images(&image, 1);

    check_device_holds(device, 0, expected, 4 * CLUSTER);
    check_device_holds(device, CLUSTER + 650, expected + CLUSTER + 650, 100);
    CHECK_OK(ntx_map(device, 0, 4 * CLUSTER, 0, extents, 4, &count, &err), err);
    CHECK_EQ_U64(count, 3);
    check_extent(&extents[1], CLUSTER, 700, 0);
    ntx_close(device);
    free(expected);
    free(image);
}

static void test_a_file_that_is_cut_off_is_an_error_with_both_places(void)
{
    struct ntx_device *device = open_disk();
    struct ntx_error err;
    uint8_t *data = malloc(SIZE);

    CHECK_OK(do_io(device, NTX_OP_READ, 0, 1, data, &err), err);
    CHECK(truncate("image-1", 4 * CLUSTER + 10) == 0);

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, CLUSTER, CLUSTER, data, &err), -EIO);
    CHECK_CONTAINS(err.text, "disk: read failed: offset 65536 length 65536: the file /");
    CHECK_CONTAINS(err.text, "/image-1 ended at 262154: it was truncated while being read");
    CHECK_EQ_U64(err.offset, CLUSTER);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 6 * CLUSTER, 512, data, &err), -EIO);
    CHECK_CONTAINS(err.text, "ended at 262154");
    CHECK_OK(do_io(device, NTX_OP_READ, 0, CLUSTER, data, &err), err);
    ntx_close(device);
    free(data);
}

/* ---------------------------------------------------------------------------------------------- threads */

struct reader {
    struct ntx_device *device;
    const uint8_t *expected;
};

static void *read_and_clone(void *argument)
{
    struct reader *reader = argument;
    struct ntx_device *device = reader->device, *other;
    struct ntx_error err;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t offset = (i * 97777ull) % (SIZE - CLUSTER);
        check_device_holds(device, offset, reader->expected + offset, CLUSTER);
        if (i % 10 == 0) {
            CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
            ntx_close(device);
            device = other;
        }
    }
    ntx_close(device);
    return NULL;
}

static void test_clones_share_the_tables_between_threads(void)
{
    struct ntx_device *device = open_disk();
    uint8_t *expected = new_disk();
    struct reader readers[READERS];
    pthread_t threads[READERS];
    struct ntx_error err;

    for (int i = 0; i < READERS; i++) {
        readers[i].expected = expected;
        CHECK_OK(device->ops->clone(device, -1, &readers[i].device, &err), err);
        CHECK(pthread_create(&threads[i], NULL, read_and_clone, &readers[i]) == 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        char path[32];
        snprintf(path, sizeof path, "image-%u", i);
        CHECK(unlink(path) == 0);
    }
    ntx_close(device);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    free(expected);
}

int main(void)
{
    RUN(test_it_reads_what_the_images_say_at_every_border);
    RUN(test_it_says_what_it_is_and_refuses_writes);
    RUN(test_it_maps_with_neighbours_of_one_kind_joined);
    RUN(test_it_tells_the_image_of_each_extent);
    RUN(test_where_no_image_has_a_table_nothing_is_read);
    RUN(test_windows_that_are_not_kept_any_more_are_made_again);
    RUN(test_the_last_cluster_may_be_cut_as_qemu_leaves_it);
    RUN(test_a_file_that_is_cut_off_is_an_error_with_both_places);
    RUN(test_clones_share_the_tables_between_threads);
    return 0;
}
