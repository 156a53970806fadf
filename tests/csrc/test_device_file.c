/* test_device_file.c: regular files: any size, any alignment, sparse, shrinking, replaced, unlinked. */
#define _GNU_SOURCE
#include "check_device.h"
#include "device_file.h"
#include "zero.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define PATH "disk"
#define PAGE 4096u

/* ---------------------------------------------------------------------------------- reading, writing */

static void test_odd_sizes_are_read_to_the_last_byte(void)
{
    static const size_t sizes[] = {1, 511, 513, 4095, 4097, 70001};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *sample = new_sample(sizes[i]);
        put_file(PATH, sample, sizes[i]);
        for (int direct = 0; direct < 2; direct++) {
            struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, direct);
            CHECK_EQ_U64(ntx_device_info(device)->size, sizes[i]);
            CHECK_EQ_U64(ntx_device_info(device)->min_block, 1);
            check_device_holds(device, 0, sample, sizes[i]);
            check_device_holds(device, sizes[i] - 1, sample + sizes[i] - 1, 1);
            ntx_close(device);
        }
        free(sample);
    }
}

static void test_an_empty_file_is_a_device_of_size_0(void)
{
    put_file(PATH, "", 0);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, true);
    struct ntx_error err;
    char byte;

    CHECK_EQ_U64(ntx_device_info(device)->size, 0);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, 1, &byte, &err), -EINVAL);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    ntx_close(device);
}

/* The same requests on a direct device and in memory, with every mix of alignments, leave the same bytes. */
static void test_any_mix_of_alignments_reads_and_writes_right(void)
{
    enum { SIZE = 40 * 4096 + 123 };
    uint8_t *expected = new_sample(SIZE), *buffer = aligned_alloc(PAGE, 8 * PAGE);
    put_file(PATH, expected, SIZE);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, true);
    uint32_t flags = ntx_device_info(device)->flags;
    struct ntx_error err;
    unsigned seed = 1;

    for (int i = 0; i < 400; i++) {
        seed = seed * 1103515245 + 12345;
        uint64_t offset = (seed >> 8) % (SIZE - 5 * PAGE), length = 1 + (seed >> 4) % (4 * PAGE);
        size_t shift = i % 3 == 0 ? 0 : (seed >> 3) % 513;
        if (i % 2 == 0)
            offset -= offset % PAGE;
        if (i % 5 < 3)
            length = PAGE * (1 + length / PAGE);
        memset(buffer + shift, i, length);
        memset(expected + offset, i, length);
        CHECK_OK(do_io(device, NTX_OP_WRITE, offset, length, buffer + shift, &err), err);
        memset(buffer + shift, ~i, length);
        CHECK_OK(do_io(device, NTX_OP_READ, offset, length, buffer + shift, &err), err);
        CHECK_EQ_MEM(buffer + shift, expected + offset, length);
    }

    check_device_holds(device, 0, expected, SIZE);
    CHECK_EQ_U64(ntx_device_info(device)->flags, flags); /* nothing was sent to O_DIRECT that it refused */
    ntx_close(device);
    device = open_file(PATH, NTX_OPEN_READ, false);
    check_device_holds(device, 0, expected, SIZE);
    ntx_close(device);
    free(buffer);
    free(expected);
}

static void test_direct_is_used_or_honestly_not(void)
{
    put_file(PATH, "x", 1);
    int probe = open(PATH, O_RDONLY | O_DIRECT);

    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, true);

    CHECK_EQ_INT((ntx_device_info(device)->flags & NTX_DEVICE_DIRECT) != 0, probe >= 0);
    ntx_close(device);
    device = open_file(PATH, NTX_OPEN_READ, false);
    CHECK((ntx_device_info(device)->flags & NTX_DEVICE_DIRECT) == 0);
    ntx_close(device);
    close(probe);
}

static void test_a_device_opened_for_reading_is_not_written(void)
{
    put_file(PATH, "hello", 5);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, false);
    struct ntx_error err;
    char data[] = "HELLO";

    CHECK((ntx_device_info(device)->flags & NTX_DEVICE_READ_ONLY) != 0);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 5, data, &err), -EROFS);
    CHECK_EQ_INT(do_io(device, NTX_OP_ZERO, 0, 5, NULL, &err), -EROFS);

    check_device_holds(device, 0, "hello", 5);
    ntx_close(device);
}

static void test_opening_for_writing_neither_creates_nor_truncates(void)
{
    struct ntx_device *device;
    struct ntx_error err;
    put_file(PATH, "hello", 5);

    CHECK_EQ_INT(ntx_open_file("missing", NTX_OPEN_WRITE, false, &device, &err), -ENOENT);
    CHECK(access("missing", F_OK) != 0);
    device = open_file(PATH, NTX_OPEN_WRITE, false);

    check_device_holds(device, 0, "hello", 5);
    ntx_close(device);
}

static void test_a_failed_write_names_device_place_and_cause(void)
{
    struct rlimit limit, small = {.rlim_cur = 1024, .rlim_max = RLIM_INFINITY};
    struct ntx_error err;
    char data[512] = {1};
    put_file(PATH, "", 0);
    CHECK(truncate(PATH, 4096) == 0);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, false);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small.rlim_max = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);

    int code = do_io(device, NTX_OP_WRITE, 2048, sizeof data, data, &err);

    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ_INT(code, -EFBIG);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_EQ_STR(err.text, "disk: write failed: offset 2048 length 512: File too large");
    CHECK_EQ_U64(err.offset, 2048);
    CHECK_EQ_U64(err.length, 512);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 2048, sizeof data, data, &err), err);
    ntx_close(device);
}

/* ------------------------------------------------------------------------------------------ shrinking */

static void test_a_file_that_shrank_is_an_error_with_its_place(void)
{
    uint8_t *sample = new_sample(NTX_MIB), *buffer = malloc(NTX_MIB);
    struct ntx_error err;

    for (int direct = 0; direct < 2; direct++) {
        put_file(PATH, sample, NTX_MIB);
        struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, direct);
        CHECK(truncate(PATH, 100001) == 0);

        CHECK_EQ_INT(do_io(device, NTX_OP_READ, 65536, 65536, buffer, &err), -EIO);
        CHECK_EQ_INT(err.class, NTX_E_DEVICE);
        CHECK_EQ_U64(err.offset, 65536);
        CHECK_EQ_U64(err.length, 65536);
        CHECK_EQ_STR(err.text, "disk: read failed: offset 65536 length 65536: "
                               "the file ended at 100001: it was truncated while being read");
        CHECK_EQ_INT(do_io(device, NTX_OP_READ, 500000, 1, buffer, &err), -EIO);
        CHECK_CONTAINS(err.text, "the file ended at 100001");
        check_device_holds(device, 0, sample, 100001);
        ntx_close(device);
    }
    free(buffer);
    free(sample);
}

static void test_a_file_that_shrank_is_not_mapped_as_zero(void)
{
    struct ntx_extent extents[4];
    struct ntx_error err;
    size_t count;
    put_file(PATH, "data", 4);
    CHECK(truncate(PATH, NTX_MIB) == 0);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, false);
    CHECK(truncate(PATH, 200000) == 0);

    CHECK_EQ_INT(ntx_map(device, 0, NTX_MIB, 0, extents, 4, &count, &err), -EIO);
    CHECK_CONTAINS(err.text, "disk: map failed: offset 0 length 1048576: the file ended at 200000");
    CHECK_EQ_INT(ntx_map(device, 500000, 1000, 0, extents, 4, &count, &err), -EIO);
    CHECK_CONTAINS(err.text, "the file ended at 200000");
    CHECK_OK(ntx_map(device, 0, 200000, 0, extents, 4, &count, &err), err);
    ntx_close(device);
}

/* -------------------------------------------------------------------------------------------- mapping */

/* 5 GiB with data at 0 and at 4.5 GiB. */
static struct ntx_device *open_sparse(void)
{
    uint8_t *sample = new_sample(NTX_BLOCK_SIZE);
    put_file(PATH, sample, NTX_BLOCK_SIZE);
    int fd = open(PATH, O_WRONLY);

    CHECK(pwrite(fd, sample, NTX_BLOCK_SIZE, 9 * (off_t)NTX_GIB / 2) == NTX_BLOCK_SIZE);
    CHECK(ftruncate(fd, 5 * (off_t)NTX_GIB) == 0);
    close(fd);
    free(sample);
    return open_file(PATH, NTX_OPEN_WRITE, false);
}

static void check_extent(const struct ntx_extent *extent, uint64_t offset, uint64_t end, uint64_t flags)
{
    CHECK_EQ_U64(extent->offset, offset);
    CHECK_EQ_U64(extent->offset + extent->length, end);
    CHECK_EQ_U64(extent->flags, flags);
}

static void test_holes_are_mapped_as_zero(void)
{
    struct ntx_device *device = open_sparse();
    uint64_t island = 9 * NTX_GIB / 2, size = 5 * NTX_GIB;
    struct ntx_extent extents[8];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, 0, size, 0, extents, 8, &count, &err), err);

    CHECK_EQ_U64(count, 4);
    check_extent(&extents[0], 0, NTX_BLOCK_SIZE, 0);
    check_extent(&extents[1], NTX_BLOCK_SIZE, island, NTX_EXTENT_ZERO);
    check_extent(&extents[2], island, island + NTX_BLOCK_SIZE, 0);
    check_extent(&extents[3], island + NTX_BLOCK_SIZE, size, NTX_EXTENT_ZERO);
    ntx_close(device);
}

static void test_a_map_with_little_room_goes_on_where_it_stopped(void)
{
    struct ntx_device *device = open_sparse();
    uint64_t size = 5 * NTX_GIB, at = 1000, seen = 0;
    struct ntx_extent extent;
    struct ntx_error err;
    size_t count;

    while (at < size - 1000) {
        CHECK_OK(ntx_map(device, at, size - 1000 - at, 0, &extent, 1, &count, &err), err);
        CHECK_EQ_U64(count, 1);
        CHECK_EQ_U64(extent.offset, at);
        CHECK_EQ_U64(extent.flags, seen % 2 == 0 ? 0 : NTX_EXTENT_ZERO);
        at += extent.length;
        seen++;
    }

    CHECK_EQ_U64(at, size - 1000);
    CHECK_EQ_U64(seen, 4);
    ntx_close(device);
}

static void test_a_map_is_clipped_to_what_was_asked(void)
{
    struct ntx_device *device = open_sparse();
    struct ntx_extent extents[8];
    struct ntx_error err;
    size_t count;

    CHECK_OK(ntx_map(device, NTX_BLOCK_SIZE - 10, 20, 0, extents, 8, &count, &err), err);

    CHECK_EQ_U64(count, 2);
    check_extent(&extents[0], NTX_BLOCK_SIZE - 10, NTX_BLOCK_SIZE, 0);
    check_extent(&extents[1], NTX_BLOCK_SIZE, NTX_BLOCK_SIZE + 10, NTX_EXTENT_ZERO);
    ntx_close(device);
}

/* -------------------------------------------------------------------------------------------- zeroing */

static void check_zeroed(uint64_t size, uint64_t offset, uint64_t length)
{
    uint8_t *sample = new_sample(size);
    struct ntx_error err;
    put_file(PATH, sample, size);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, true);

    CHECK_OK(do_io(device, NTX_OP_ZERO, offset, length, NULL, &err), err);

    memset(sample + offset, 0, length);
    check_device_holds(device, 0, sample, size);
    ntx_close(device);
    free(sample);
}

static void test_zeroing_touches_its_range_and_nothing_else(void)
{
    check_zeroed(NTX_MIB, 0, NTX_MIB);
    check_zeroed(NTX_MIB, 65536, 65536);
    check_zeroed(NTX_MIB, 4095, 2);
    check_zeroed(NTX_MIB, 1, NTX_MIB - 2);
    check_zeroed(NTX_MIB + 1, NTX_MIB, 1);
    check_zeroed(513, 1, 511);
}

static void test_zeroing_gives_the_space_back_and_keeps_the_size(void)
{
    uint8_t *sample = new_sample(NTX_MIB);
    struct stat before, after;
    struct ntx_error err;
    put_file(PATH, sample, NTX_MIB);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, false);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
    CHECK(stat(PATH, &before) == 0);

    CHECK_OK(do_io(device, NTX_OP_ZERO, 0, NTX_MIB, NULL, &err), err);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);

    CHECK(stat(PATH, &after) == 0);
    CHECK_EQ_INT(after.st_size, NTX_MIB);
    if ((ntx_device_info(device)->flags & NTX_DEVICE_CAN_ZERO) != 0)
        CHECK(after.st_blocks < before.st_blocks);
    ntx_close(device);
    free(sample);
}

/* ---------------------------------------------------------------------------------------------- clones */

static struct ntx_device *clone_of(struct ntx_device *device)
{
    struct ntx_device *other;
    struct ntx_error err;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    return other;
}

static void test_a_clone_sees_what_the_other_wrote(void)
{
    uint8_t *sample = new_sample(NTX_BLOCK_SIZE), *page = aligned_alloc(PAGE, PAGE);
    struct ntx_error err;
    put_file(PATH, sample, NTX_BLOCK_SIZE);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, true), *other = clone_of(device);
    memset(page, 0x55, PAGE);

    CHECK_OK(do_io(device, NTX_OP_WRITE, PAGE, PAGE, page, &err), err);
    CHECK_OK(do_io(other, NTX_OP_WRITE, 2 * PAGE + 1, 10, page, &err), err);

    memset(sample + PAGE, 0x55, PAGE);
    memset(sample + 2 * PAGE + 1, 0x55, 10);
    check_device_holds(other, 0, sample, NTX_BLOCK_SIZE);
    check_device_holds(device, 0, sample, NTX_BLOCK_SIZE);
    CHECK_EQ_U64(ntx_device_info(other)->flags, ntx_device_info(device)->flags);
    ntx_close(device);
    check_device_holds(other, 0, sample, NTX_BLOCK_SIZE);
    ntx_close(other);
    free(page);
    free(sample);
}

static void test_a_clone_of_a_replaced_or_unlinked_file_is_the_same_file(void)
{
    put_file(PATH, "first", 5);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, false);
    CHECK(unlink(PATH) == 0);

    struct ntx_device *other = clone_of(device);
    put_file(PATH, "other", 5);
    struct ntx_device *third = clone_of(device);

    check_device_holds(other, 0, "first", 5);
    check_device_holds(third, 0, "first", 5);
    ntx_close(third);
    ntx_close(other);
    ntx_close(device);
}

static void test_a_clone_of_a_file_that_changed_size_is_refused(void)
{
    put_file(PATH, "hello", 5);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, false), *other;
    struct ntx_error err;
    CHECK(truncate(PATH, 3) == 0);

    CHECK_EQ_INT(device->ops->clone(device, -1, &other, &err), -ESTALE);

    CHECK_EQ_STR(err.text, "disk: open once more failed: its size changed from 5 to 3 bytes");
    CHECK(other == NULL);
    ntx_close(device);
}

static void test_a_clone_of_a_reader_is_a_reader(void)
{
    put_file(PATH, "hello", 5);
    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, false), *other = clone_of(device);

    CHECK((ntx_device_info(other)->flags & NTX_DEVICE_READ_ONLY) != 0);
    CHECK_EQ_INT(fcntl(((struct ntx_file *)other)->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    ntx_close(other);
    ntx_close(device);
}

/* --------------------------------------------------------------------------------------------- opening */

static void test_what_is_neither_file_nor_block_device_is_refused(void)
{
    struct ntx_device *device;
    struct ntx_error err;
    CHECK(mkdir("folder", 0700) == 0);
    CHECK(mkfifo("fifo", 0600) == 0);

    CHECK_EQ_INT(ntx_open_file("folder", NTX_OPEN_READ, false, &device, &err), -EINVAL);
    CHECK_CONTAINS(err.text, "neither a regular file nor a block device");
    CHECK_EQ_INT(ntx_open_file("folder", NTX_OPEN_WRITE, false, &device, &err), -EISDIR);
    CHECK_EQ_INT(ntx_open_file("fifo", NTX_OPEN_READ, false, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_file("fifo", NTX_OPEN_WRITE, false, &device, &err), -EINVAL);
    CHECK_EQ_INT(ntx_open_file("/dev/null", NTX_OPEN_WRITE, false, &device, &err), -EINVAL);
    CHECK(device == NULL);
}

static void test_a_missing_file_is_named_with_its_cause(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_file("missing", NTX_OPEN_READ, false, &device, &err), -ENOENT);

    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_EQ_STR(err.text, "missing: open failed: No such file or directory");
    CHECK(device == NULL);
}

static void test_descriptors_close_on_exec_block_and_do_not_leak(void)
{
    put_file(PATH, "hello", 5);
    int before = dup(0);
    close(before);

    struct ntx_device *device = open_file(PATH, NTX_OPEN_WRITE, true), *other = clone_of(device);
    const struct ntx_file *files[] = {(struct ntx_file *)device, (struct ntx_file *)other};
    for (int i = 0; i < 2; i++) {
        CHECK((fcntl(files[i]->fd, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK((fcntl(files[i]->fd, F_GETFL) & O_NONBLOCK) == 0);
        CHECK(files[i]->direct_fd < 0 || (fcntl(files[i]->direct_fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
    ntx_close(device);
    ntx_close(other);

    int after = dup(0);
    close(after);
    CHECK_EQ_INT(after, before);
}

static void test_a_long_path_works_and_is_cut_only_in_messages(void)
{
    char path[400];
    memset(path, 'd', sizeof path);
    for (size_t i = 0; i < sizeof path; i += 100)
        path[i] = i == 0 ? 'd' : '/';
    path[sizeof path - 1] = '\0';
    for (size_t i = 100; i < sizeof path; i += 100) {
        path[i] = '\0';
        CHECK(mkdir(path, 0700) == 0);
        path[i] = '/';
    }
    put_file(path, "hello", 5);
    struct ntx_device *device = open_file(path, NTX_OPEN_READ, false), *other = clone_of(device);

    CHECK_EQ_U64(strlen(ntx_device_info(device)->name), sizeof ntx_device_info(device)->name - 1);
    check_device_holds(other, 0, "hello", 5);
    ntx_close(other);
    ntx_close(device);
}

int main(void)
{
    RUN(test_odd_sizes_are_read_to_the_last_byte);
    RUN(test_an_empty_file_is_a_device_of_size_0);
    RUN(test_any_mix_of_alignments_reads_and_writes_right);
    RUN(test_direct_is_used_or_honestly_not);
    RUN(test_a_device_opened_for_reading_is_not_written);
    RUN(test_opening_for_writing_neither_creates_nor_truncates);
    RUN(test_a_failed_write_names_device_place_and_cause);
    RUN(test_a_file_that_shrank_is_an_error_with_its_place);
    RUN(test_a_file_that_shrank_is_not_mapped_as_zero);
    RUN(test_holes_are_mapped_as_zero);
    RUN(test_a_map_with_little_room_goes_on_where_it_stopped);
    RUN(test_a_map_is_clipped_to_what_was_asked);
    RUN(test_zeroing_touches_its_range_and_nothing_else);
    RUN(test_zeroing_gives_the_space_back_and_keeps_the_size);
    RUN(test_a_clone_sees_what_the_other_wrote);
    RUN(test_a_clone_of_a_replaced_or_unlinked_file_is_the_same_file);
    RUN(test_a_clone_of_a_file_that_changed_size_is_refused);
    RUN(test_a_clone_of_a_reader_is_a_reader);
    RUN(test_what_is_neither_file_nor_block_device_is_refused);
    RUN(test_a_missing_file_is_named_with_its_cause);
    RUN(test_descriptors_close_on_exec_block_and_do_not_leak);
    RUN(test_a_long_path_works_and_is_cut_only_in_messages);
    return 0;
}
