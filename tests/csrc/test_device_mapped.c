/* test_device_mapped.c: a disk made of pieces of files reads as its table says, and refuses tables that cannot be. */
#include "check_device.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#define UNIT 5000u
#define READERS 4
#define ROUNDS 200u

/*   disk   0: a[2]   1: zero   2: b[0]   3: b[1]   4: a[0] (half of it)
 * Units and places, so that neighbours lie apart, backwards, and in two files. */
#define SIZE (4 * UNIT + UNIT / 2)
static const struct ntx_mapped_extent TABLE[] = {
    {.offset = 0, .length = UNIT, .place = 2 * UNIT, .file = 0},
    {.offset = UNIT, .length = UNIT, .place = UINT64_MAX, .file = 77, .flags = NTX_EXTENT_ZERO},
    {.offset = 2 * UNIT, .length = UNIT, .place = 0, .file = 1},
    {.offset = 3 * UNIT, .length = UNIT, .place = UNIT, .file = 1},
    {.offset = 4 * UNIT, .length = UNIT / 2, .place = 0, .file = 0},
};
#define COUNT (sizeof TABLE / sizeof TABLE[0])

static const char *const NAMES[2] = {"a.img", "b.img"};
static int fds[2] = {-1, -1};

static void make_files(void)
{
    uint8_t *sample = new_sample(6 * UNIT);

    put_file("a.img", sample, 3 * UNIT);
    put_file("b.img", sample + 3 * UNIT, 2 * UNIT);
    free(sample);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = open(NAMES[i], O_RDONLY | O_CLOEXEC);
        CHECK(fds[i] >= 0);
    }
}

static uint8_t *new_expected(void)
{
    uint8_t *sample = new_sample(6 * UNIT), *disk = calloc(1, SIZE);

    memcpy(disk, sample + 2 * UNIT, UNIT);
    memcpy(disk + 2 * UNIT, sample + 3 * UNIT, 2 * UNIT);
    memcpy(disk + 4 * UNIT, sample, UNIT / 2);
    free(sample);
    return disk;
}

static struct ntx_device *open_mapped(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    make_files();
    CHECK_OK(ntx_open_mapped("disk.qcow2", SIZE, fds, 2, TABLE, COUNT, &device, &err), err);
    return device;
}

static void test_it_reads_what_the_table_says_at_every_border(void)
{
    static const int around[] = {-2, -1, 0, 1, 2};
    struct ntx_device *device = open_mapped();
    uint8_t *expected = new_expected();

    check_device_holds(device, 0, expected, SIZE);
    for (unsigned border = 0; border <= SIZE; border += UNIT / 2) {
        for (unsigned i = 0; i < 5; i++) {
            for (unsigned length = 1; length <= 2 * UNIT + 1; length += UNIT) {
                int64_t offset = (int64_t)border + around[i];
                if (offset >= 0 && offset + length <= SIZE)
                    check_device_holds(device, (uint64_t)offset, expected + offset, length);
            }
        }
    }
    free(expected);
    ntx_close(device);
}

static void test_it_maps_with_neighbours_of_one_kind_joined(void)
{
    struct ntx_device *device = open_mapped();
    struct ntx_extent extents[8];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, 1, SIZE - 1, 0, extents, 8, &count, &err), err);

    CHECK_EQ_U64(count, 3);
    CHECK_EQ_U64(extents[0].offset, 1);
    CHECK_EQ_U64(extents[0].length, UNIT - 1);
    CHECK_EQ_U64(extents[0].flags, 0);
    CHECK_EQ_U64(extents[1].length, UNIT);
    CHECK_EQ_U64(extents[1].flags, NTX_EXTENT_ZERO);
    CHECK_EQ_U64(extents[2].offset, 2 * UNIT);
    CHECK_EQ_U64(extents[2].length, SIZE - 2 * UNIT);
    CHECK_EQ_U64(extents[2].flags, 0);
    ntx_close(device);
}

static void test_a_map_that_is_full_ends_early(void)
{
    struct ntx_device *device = open_mapped();
    struct ntx_extent extents[2];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, 0, SIZE, 0, extents, 1, &count, &err), err);

    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].length, UNIT);
    CHECK_OK(ntx_map(device, UNIT + 1, UNIT, 0, extents, 2, &count, &err), err);
    CHECK_EQ_U64(count, 2);
    CHECK_EQ_U64(extents[0].length, UNIT - 1);
    CHECK_EQ_U64(extents[1].length, 1);
    ntx_close(device);
}

static void test_it_says_what_it_is_and_refuses_writes(void)
{
    struct ntx_device *device = open_mapped();
    const struct ntx_device_info *info = ntx_device_info(device);
    struct ntx_error err;
    char data[1] = "";

    CHECK_EQ_U64(info->size, SIZE);
    CHECK_EQ_STR(info->kind, "mapped");
    CHECK_EQ_STR(info->name, "disk.qcow2");
    CHECK_EQ_U64(info->flags, NTX_DEVICE_READ_ONLY | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_CAN_MAP);
    CHECK_EQ_INT(device->fd, -1);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 1, data, &err), -EROFS);
    CHECK_EQ_INT(do_io(device, NTX_OP_ZERO, 0, 1, NULL, &err), -EROFS);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, SIZE, 1, data, &err), -EINVAL);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    ntx_close(device);
}

static void test_it_needs_neither_the_callers_table_nor_descriptors_nor_names_of_files(void)
{
    struct ntx_mapped_extent *extents = malloc(sizeof TABLE);
    struct ntx_device *device;
    struct ntx_error err;
    uint8_t *expected = new_expected();

    make_files();
    memcpy(extents, TABLE, sizeof TABLE);
    CHECK_OK(ntx_open_mapped("disk.qcow2", SIZE, fds, 2, extents, COUNT, &device, &err), err);
    free(extents);
    for (int i = 0; i < 2; i++) {
        CHECK(close(fds[i]) == 0 && unlink(NAMES[i]) == 0);
        fds[i] = -1;
    }

    check_device_holds(device, 0, expected, SIZE);
    struct ntx_device *other;
    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    ntx_close(device);
    check_device_holds(other, 0, expected, SIZE);
    ntx_close(other);
    free(expected);
}

static void test_a_file_that_is_cut_off_is_an_error_with_both_places(void)
{
    struct ntx_device *device = open_mapped();
    struct ntx_error err;
    uint8_t data[2 * UNIT];

    CHECK(truncate("b.img", UNIT + 10) == 0);

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 2 * UNIT + 5, 2 * UNIT - 5, data, &err), -EIO);
    CHECK_CONTAINS(err.text, "disk.qcow2: read failed: offset 10005 length 9995: the file /");
    CHECK_CONTAINS(err.text, "/b.img ended at 5010: it was truncated while being read");
    CHECK_EQ_U64(err.offset, 2 * UNIT + 5);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_OK(do_io(device, NTX_OP_READ, 0, UNIT, data, &err), err);
    ntx_close(device);
}

static void test_a_failing_read_names_the_file(void)
{
    struct ntx_mapped_extent extent = {.length = 10};
    struct ntx_device *device;
    struct ntx_error err;
    uint8_t data[10];

    put_file("write-only", "0123456789", 10);
    int fd = open("write-only", O_WRONLY);
    CHECK_OK(ntx_open_mapped("disk", 10, &fd, 1, &extent, 1, &device, &err), err);
    close(fd);

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, 10, data, &err), -EBADF);
    CHECK_CONTAINS(err.text, "disk: read failed: offset 0 length 10: the file /");
    CHECK_CONTAINS(err.text, "/write-only at 0: Bad file descriptor");
    ntx_close(device);
}

/* TABLE with one extent changed is refused with these words. */
static void check_refused(size_t which, struct ntx_mapped_extent changed, const char *words)
{
    struct ntx_mapped_extent extents[COUNT];
    struct ntx_device *device;
    struct ntx_error err;

    memcpy(extents, TABLE, sizeof TABLE);
    extents[which] = changed;
    CHECK_EQ_INT(ntx_open_mapped("disk", SIZE, fds, 2, extents, COUNT, &device, &err), -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_CONTAINS(err.text, words);
    CHECK(device == NULL);
}

static void test_tables_that_cannot_be_are_refused(void)
{
    struct ntx_mapped_extent last = TABLE[COUNT - 1], first = TABLE[0], e;

    make_files();
    e = first, e.offset = 1;
    check_refused(0, e, "does not begin where");
    e = first, e.length--;
    check_refused(0, e, "does not begin where");
    e = TABLE[2], e.length++;
    check_refused(2, e, "does not begin where");
    e = first, e.length = 0;
    check_refused(0, e, "is empty");
    e = last, e.length++;
    check_refused(COUNT - 1, e, "goes past the end");
    e = last, e.length = UINT64_MAX;
    check_refused(COUNT - 1, e, "goes past the end");
    e = last, e.length--;
    check_refused(COUNT - 1, e, "end at 22499, not at 22500");
    e = first, e.file = 2;
    check_refused(0, e, "in a file that was not given");
    e = first, e.place++;
    check_refused(0, e, "past the end of its file");
    e = first, e.place = UINT64_MAX;
    check_refused(0, e, "past the end of its file");
    e = first, e.flags = 2;
    check_refused(0, e, "unknown flags");
}

static void test_sizes_and_files_that_cannot_be_are_refused(void)
{
    int folder = open(".", O_RDONLY), closed = -1;
    struct ntx_mapped_extent zero = {.length = 1, .flags = NTX_EXTENT_ZERO};
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_mapped("x", UINT64_MAX, NULL, 0, &zero, 1, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_mapped("x", 1, NULL, 0, &zero, NTX_MAX_MAPPED_EXTENTS + 1ull, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_mapped("x", 1, NULL, 0, NULL, 0, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_mapped("x", 1, &folder, 1, &zero, 1, &device, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "is not a regular one");
    CHECK_EQ_INT(ntx_open_mapped("x", 1, &closed, 1, &zero, 1, &device, &err), -EBADF);
    CHECK(device == NULL);
    close(folder);
    CHECK_OK(ntx_open_mapped("x", 1, NULL, 0, &zero, 1, &device, &err), err);
    ntx_close(device);
    CHECK_OK(ntx_open_mapped("empty", 0, NULL, 0, NULL, 0, &device, &err), err);
    ntx_close(device);
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
        uint64_t offset = (i * 977ull) % (SIZE - UNIT);
        check_device_holds(device, offset, reader->expected + offset, UNIT);
        if (i % 10 == 0) {
            CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
            ntx_close(device);
            device = other;
        }
    }
    ntx_close(device);
    return NULL;
}

static void test_clones_share_the_table_between_threads(void)
{
    struct ntx_device *device = open_mapped();
    uint8_t *expected = new_expected();
    struct reader readers[READERS];
    pthread_t threads[READERS];
    struct ntx_error err;

    for (int i = 0; i < READERS; i++) {
        readers[i].expected = expected;
        CHECK_OK(device->ops->clone(device, -1, &readers[i].device, &err), err);
        CHECK(pthread_create(&threads[i], NULL, read_and_clone, &readers[i]) == 0);
    }
    ntx_close(device);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    free(expected);
}

static void test_clones_of_many_files_share_their_descriptors(void)
{
    enum { MANY = 20 };
    int many[MANY];
    struct ntx_mapped_extent extents[MANY];
    struct ntx_device *device, *other;
    struct ntx_error err;
    uint8_t *sample = new_sample(3 * UNIT);

    make_files();
    for (uint32_t i = 0; i < MANY; i++) {
        many[i] = fds[0];
        extents[i] = (struct ntx_mapped_extent){.offset = i * 10, .length = 10, .place = i * 10, .file = i};
    }
    CHECK_OK(ntx_open_mapped("disk", 10 * MANY, many, MANY, extents, MANY, &device, &err), err);
    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);

    check_device_holds(other, 0, sample, 10 * MANY);
    free(sample);
    ntx_close(device);
    ntx_close(other);
}

int main(void)
{
    RUN(test_it_reads_what_the_table_says_at_every_border);
    RUN(test_it_maps_with_neighbours_of_one_kind_joined);
    RUN(test_a_map_that_is_full_ends_early);
    RUN(test_it_says_what_it_is_and_refuses_writes);
    RUN(test_it_needs_neither_the_callers_table_nor_descriptors_nor_names_of_files);
    RUN(test_a_file_that_is_cut_off_is_an_error_with_both_places);
    RUN(test_a_failing_read_names_the_file);
    RUN(test_tables_that_cannot_be_are_refused);
    RUN(test_sizes_and_files_that_cannot_be_are_refused);
    RUN(test_clones_share_the_table_between_threads);
    RUN(test_clones_of_many_files_share_their_descriptors);
    return 0;
}
