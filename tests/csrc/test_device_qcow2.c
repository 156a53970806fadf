/* device_qcow2.c, and the files of qcow2_*.c: what is in the image, and when it is one.  That qemu reads it as the disk
 * that was written is for tests/images. */
#define _GNU_SOURCE
#include "check_qcow2.h"

#include <sys/syscall.h>

static bool makes_no_room;
static unsigned rooms; /* how many times room was asked for: never where there is no ring */

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    rooms++;
    errno = makes_no_room ? EOPNOTSUPP : 0;
    return makes_no_room ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static void test_clusters_lie_in_the_order_of_their_arrival(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 7, 1);
    write_block(device, 2, 2);
    write_block(device, 19, 3);
    finish(device);
    ntx_close(device);

    CHECK_EQ_U64(entry_of(7), 1 * BLOCK | NTX_QCOW2_COPIED);
    CHECK_EQ_U64(entry_of(2), 2 * BLOCK | NTX_QCOW2_COPIED);
    CHECK_EQ_U64(entry_of(19), 3 * BLOCK | NTX_QCOW2_COPIED);
    CHECK_EQ_U64(entry_of(3), 0);
    check_block(7, 1);
    check_block(2, 2);
    check_block(19, 3);
}

static void test_it_is_no_image_before_it_is_finished(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 0, 0x51); /* 'Q' */
    flush(device);
    CHECK(!is_image());
    CHECK_EQ_U64(number_at(0), 0);
    finish(device);

    CHECK(is_image());
    ntx_close(device);
}

static void test_a_block_that_is_written_twice_gets_another_cluster(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 5, 1);
    write_block(device, 5, 2);
    finish(device);
    ntx_close(device);

    CHECK_EQ_U64(entry_of(5), 2 * BLOCK | NTX_QCOW2_COPIED);
    CHECK_EQ_INT(count_of(1), 0);
    CHECK_EQ_INT(count_of(2), 1);
    check_block(5, 2);
}

static void test_every_cluster_of_the_file_but_gaps_is_counted_once(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 5, 1);
    finish(device);
    ntx_close(device);

    uint64_t clusters = image_size() / BLOCK;
    CHECK_EQ_U64(clusters, 6); /* header, data, L2, L1, table of counts, counts */
    for (uint64_t i = 0; i < clusters; i++)
        CHECK_EQ_INT(count_of(i), 1);
    CHECK_EQ_INT(count_of(clusters), 0);
}

static void test_zeros_hide_what_is_below_and_nothing_hides_nothing(void)
{
    for (int is_overlay = 0; is_overlay < 2; is_overlay++) {
        struct ntx_qcow2_options options = options_of(SIZE);
        struct ntx_device *device;
        struct ntx_error err;
        options.backing_name = is_overlay ? "below" : NULL;
        device = make(&options);

        write_block(device, 3, 1);
        CHECK_OK(do_io(device, NTX_OP_ZERO, 2 * BLOCK, 2 * BLOCK, NULL, &err), err);
        write_block(device, 9, 1);
        finish(device);
        ntx_close(device);

        CHECK_EQ_U64(entry_of(2), is_overlay);
        CHECK_EQ_U64(entry_of(3), is_overlay);
        CHECK_EQ_U64(entry_of(4), 0);
        CHECK_EQ_INT(count_of(1), 0);
    }
}

static void test_a_block_that_the_disk_does_not_fill_ends_in_zeros(void)
{
    struct ntx_qcow2_options options = options_of(3 * BLOCK + 1000);
    struct ntx_device *device = make(&options);
    struct ntx_error err;
    uint8_t expected[BLOCK] = {0}, found[BLOCK];

    CHECK_OK(do_io(device, NTX_OP_WRITE, 2 * BLOCK, BLOCK + 1000, block_of(7), &err), err);
    finish(device);
    ntx_close(device);

    CHECK_EQ_U64(number_at(24), 3 * BLOCK + 1024); /* whole sectors */
    memset(expected, 7, 1000);
    read_image(entry_of(3) & NTX_QCOW2_OFFSET, found, BLOCK);
    CHECK_EQ_MEM(found, expected, BLOCK);
    check_block(2, 7);
}

static void test_several_devices_write_one_image(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options), *other;
    struct ntx_error err;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    write_block(device, 1, 1);
    write_block(other, 2, 2);
    write_block(device, 3, 3);
    ntx_close(other);
    finish(device);
    ntx_close(device);

    for (uint8_t i = 1; i <= 3; i++)
        check_block(i, i);
}

static void test_what_was_written_can_be_read_before_and_after_the_image_is_whole(void)
{
    struct ntx_qcow2_options options = options_of(SIZE - 1000);
    struct ntx_device *device = make(&options);
    struct ntx_error err;
    uint8_t *expected = calloc(1, SIZE), *found = calloc(1, SIZE);

    write_block(device, 4, 4);
    write_block(device, 5, 5);
    write_block(device, 3, 3);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 19 * BLOCK, BLOCK - 1000, block_of(6), &err), err);
    for (unsigned i = 3; i <= 5; i++)
        memset(expected + i * BLOCK, (int)i, BLOCK);
    memset(expected + 19 * BLOCK, 6, BLOCK - 1000);
    check_device_holds(device, 0, expected, SIZE - 1000);
    check_device_holds(device, 3 * BLOCK, expected + 3 * BLOCK, 2 * BLOCK);
    finish(device);
    check_device_holds(device, 0, expected, SIZE - 1000);
    ntx_close(device);
    options.backing_name = "below";
    device = make(&options);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, BLOCK, found, &err), -ENOTSUP);
    ntx_close(device);
    free(found);
    free(expected);
}

static void test_data_at_any_address_is_written(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;
    uint8_t *data = malloc(2 * BLOCK + 1);

    memset(data, 9, 2 * BLOCK + 1);
    CHECK_OK(do_io(device, NTX_OP_WRITE, BLOCK, 2 * BLOCK, data + 1, &err), err);
    finish(device);
    ntx_close(device);
    free(data);

    check_block(1, 9);
    check_block(2, 9);
}

static void test_room_that_was_made_ahead_is_cut_off(void)
{
    struct ntx_qcow2_options options = options_of(NTX_GIB);
    struct ntx_device *device = make(&options);

    rooms = 0;
    write_block(device, 0, 1);
    write_block(device, 1, 2);
    CHECK(rooms == 0 || image_size() > 3 * NTX_MIB);
    CHECK(rooms <= 1);
    finish(device);
    ntx_close(device);

    CHECK_EQ_U64(image_size(), 7 * BLOCK); /* the header, two clusters, and four of tables */
    check_block(0, 1);
    check_block(1, 2);
}

static void test_room_is_made_for_no_more_than_the_disk(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 0, 1);

    CHECK(image_size() <= SIZE + BLOCK);
    finish(device);
    ntx_close(device);
}

static void test_where_no_room_can_be_made_it_is_asked_for_once(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    makes_no_room = true;
    rooms = 0;
    for (unsigned i = 0; i < 3; i++)
        write_block(device, i, (uint8_t)(i + 1));
    makes_no_room = false;
    finish(device);
    ntx_close(device);

    CHECK(rooms <= 1);
    for (unsigned i = 0; i < 3; i++)
        check_block(i, (uint8_t)(i + 1));
}

static void test_the_tables_of_a_huge_disk_are_only_those_that_are_needed(void)
{
    struct ntx_qcow2_options options = options_of(63 * 1024ull * NTX_GIB);
    struct ntx_device *device = make(&options);
    uint64_t last = options.size / BLOCK - 1;
    struct stat status;

    write_block(device, last, 1);
    write_block(device, 0, 2);
    finish(device);
    ntx_close(device);

    check_block(last, 1);
    check_block(0, 2);
    CHECK(image_size() < 4 * NTX_MIB);
    CHECK(stat("map", &status) == 0 && (uint64_t)status.st_blocks * 512 < NTX_MIB);
}

static void test_a_disk_of_no_bytes_has_an_image(void)
{
    struct ntx_qcow2_options options = options_of(0);
    struct ntx_device *device = make(&options);

    finish(device);
    ntx_close(device);

    CHECK(is_image());
    CHECK_EQ_INT(count_of(0), 1);
}

/* --------------------------------------------------------------------------------------------------- refusals */

static void test_what_it_cannot_make_is_refused(void)
{
    struct ntx_qcow2_options options = options_of(UINT64_MAX);
    struct ntx_error err;
    char name[1100];

    CHECK_EQ_INT(refusal_of(&options, &err), -EINVAL);
    options.size = SIZE;
    options.stored_to = 5;
    CHECK_EQ_INT(refusal_of(&options, &err), -EINVAL);
    options.stored_to = 0;
    unlink("image");
    CHECK_EQ_INT(refusal_of(&options, &err), -ENOENT);
    CHECK_EQ_INT(mkfifo("image", 0600), 0);
    CHECK_EQ_INT(refusal_of(&options, &err), -EINVAL);
    unlink("image");
    CHECK_EQ_INT(symlink("elsewhere", "image"), 0);
    CHECK_EQ_INT(refusal_of(&options, &err), -ELOOP);
    unlink("image");
    int fd = open("image", O_CREAT | O_WRONLY, 0600);
    unlink("map");
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    options.backing_name = name;
    CHECK_EQ_INT(refusal_of(&options, &err), -ENAMETOOLONG);
    options.backing_name = NULL;
    CHECK_EQ_INT(write(fd, "x", 1), 1);
    close(fd);
    CHECK_EQ_INT(refusal_of(&options, &err), -EEXIST);
}

static void test_requests_are_whole_blocks(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 512, BLOCK, block_of(1), &err), -EINVAL);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, 512, block_of(1), &err), -EINVAL);
    ntx_close(device);
}

int main(void)
{
    RUN(test_clusters_lie_in_the_order_of_their_arrival);
    RUN(test_it_is_no_image_before_it_is_finished);
    RUN(test_a_block_that_is_written_twice_gets_another_cluster);
    RUN(test_every_cluster_of_the_file_but_gaps_is_counted_once);
    RUN(test_zeros_hide_what_is_below_and_nothing_hides_nothing);
    RUN(test_a_block_that_the_disk_does_not_fill_ends_in_zeros);
    RUN(test_several_devices_write_one_image);
    RUN(test_what_was_written_can_be_read_before_and_after_the_image_is_whole);
    RUN(test_data_at_any_address_is_written);
    RUN(test_room_that_was_made_ahead_is_cut_off);
    RUN(test_room_is_made_for_no_more_than_the_disk);
    RUN(test_where_no_room_can_be_made_it_is_asked_for_once);
    RUN(test_the_tables_of_a_huge_disk_are_only_those_that_are_needed);
    RUN(test_a_disk_of_no_bytes_has_an_image);
    RUN(test_what_it_cannot_make_is_refused);
    RUN(test_requests_are_whole_blocks);
    return 0;
}
