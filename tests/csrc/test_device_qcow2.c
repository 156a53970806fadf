/* device_qcow2.c, and the files of qcow2_*.c: what is in the image, and when it is one.  That qemu reads it as the disk
 * that was written is for tests/images. */
#include "check.h"
#include "check_device.h"

#include "bytes.h"
#include "qcow2_format.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK NTX_BLOCK_SIZE
#define SIZE (20ull * BLOCK)
#define L1_OFFSET 40
#define L1_ENTRIES 36
#define COUNTS_OFFSET 48

static struct ntx_qcow2_options options_of(uint64_t size)
{
    return (struct ntx_qcow2_options){.path = "image", .map_path = "map", .size = size};
}

static struct ntx_device *make(const struct ntx_qcow2_options *options)
{
    struct ntx_device *device;
    struct ntx_error err;

    unlink("image");
    unlink("map");
    close(open("image", O_CREAT | O_WRONLY | O_EXCL, 0600));
    CHECK_OK(ntx_open_qcow2(options, &device, &err), err);
    return device;
}

static struct ntx_device *open_again(const struct ntx_qcow2_options *first, uint64_t stored_to)
{
    struct ntx_qcow2_options options = *first;
    struct ntx_device *device;
    struct ntx_error err;

    options.is_opened_again = true;
    options.stored_to = stored_to;
    CHECK_OK(ntx_open_qcow2(&options, &device, &err), err);
    return device;
}

static int refusal_of(const struct ntx_qcow2_options *options, struct ntx_error *err)
{
    struct ntx_device *device;
    int code = ntx_open_qcow2(options, &device, err);

    CHECK(device == NULL);
    return code;
}

static uint8_t *block_of(uint8_t value)
{
    static _Alignas(4096) uint8_t block[4 * BLOCK];

    memset(block, value, sizeof block);
    return block;
}

static void write_block(struct ntx_device *device, uint64_t block, uint8_t value)
{
    struct ntx_error err;

    CHECK_OK(do_io(device, NTX_OP_WRITE, block * BLOCK, BLOCK, block_of(value), &err), err);
}

static void flush(struct ntx_device *device)
{
    struct ntx_error err;

    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
}

static void finish(struct ntx_device *device)
{
    struct ntx_error err;

    CHECK_OK(ntx_finish(device, &err), err);
}

static uint64_t image_size(void)
{
    struct stat status;

    CHECK(stat("image", &status) == 0);
    return (uint64_t)status.st_size;
}

static void read_image(uint64_t offset, void *data, size_t length)
{
    int fd = open("image", O_RDONLY);

    CHECK_EQ_INT(pread(fd, data, length, (off_t)offset), length);
    close(fd);
}

static uint64_t number_at(uint64_t offset)
{
    uint8_t number[8];

    read_image(offset, number, sizeof number);
    return ntx_get64(number);
}

static bool is_image(void)
{
    uint8_t first[4];

    if (image_size() < sizeof first)
        return false;
    read_image(0, first, sizeof first);
    return ntx_qcow2_has_magic(first);
}

/* The L2 entry of a block of a whole image. */
static uint64_t entry_of(uint64_t block)
{
    uint64_t l2 = number_at(number_at(L1_OFFSET) + 8 * (block / NTX_QCOW2_ENTRIES)) & NTX_QCOW2_OFFSET;

    return l2 == 0 ? 0 : number_at(l2 + 8 * (block % NTX_QCOW2_ENTRIES));
}

static uint16_t count_of(uint64_t cluster)
{
    uint64_t counts = number_at(number_at(COUNTS_OFFSET));
    uint8_t count[2];

    read_image(counts + 2 * cluster, count, sizeof count);
    return ntx_get16(count);
}

static void check_block(uint64_t block, uint8_t value)
{
    uint8_t data[BLOCK];

    read_image(entry_of(block) & NTX_QCOW2_OFFSET, data, sizeof data);
    CHECK_EQ_MEM(data, block_of(value), BLOCK);
}

/* -------------------------------------------------------------------------------------------------- writing */

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

/* -------------------------------------------------------------------------------------------- opened again */

static void test_what_was_flushed_is_there_again(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    write_block(device, 2, 2);
    flush(device);
    ntx_close(device);
    device = open_again(&options, 3 * BLOCK);
    write_block(device, 4, 4);
    finish(device);
    ntx_close(device);

    check_block(1, 1);
    check_block(2, 2);
    check_block(4, 4);
}

static void test_what_lies_above_is_dropped(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    write_block(device, 2, 2);
    flush(device);
    ntx_close(device);
    device = open_again(&options, 2 * BLOCK);
    CHECK_EQ_U64(image_size(), 2 * BLOCK);
    finish(device);
    ntx_close(device);

    check_block(1, 1);
    CHECK_EQ_U64(entry_of(2), 0);
}

static void test_an_image_that_is_whole_is_none_while_it_is_gone_on_with(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);

    write_block(device, 1, 1);
    finish(device);
    ntx_close(device);
    device = open_again(&options, SIZE);
    CHECK(!is_image());
    write_block(device, 2, 2);
    finish(device);
    ntx_close(device);

    CHECK(is_image());
    check_block(1, 1);
    check_block(2, 2);
}

static void test_an_image_without_its_map_is_whole_or_nothing(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    write_block(device, 1, 1);
    finish(device);
    ntx_close(device);
    unlink("map");
    device = open_again(&options, SIZE);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, BLOCK, block_of(1), &err), -EROFS);
    finish(device);
    ntx_close(device);
    CHECK(is_image());

    close(open("image", O_WRONLY | O_TRUNC));
    options.is_opened_again = true;
    CHECK_EQ_INT(refusal_of(&options, &err), -ENOENT);
}

static void test_the_map_of_another_image_is_refused(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_error err;

    ntx_close(make(&options));
    options.is_opened_again = true;
    options.size = SIZE + BLOCK;
    CHECK_EQ_INT(refusal_of(&options, &err), -ESTALE);
    options.size = SIZE;
    options.backing_name = "another";
    CHECK_EQ_INT(refusal_of(&options, &err), -ESTALE);
    CHECK_CONTAINS(err.text, "map: is not the map of image image");
}

static void test_a_damaged_map_is_refused(void)
{
    static const uint64_t BAD[] = {
        NTX_QCOW2_COPIED,                                      /* the header */
        100 * BLOCK | NTX_QCOW2_COPIED,                        /* behind the end */
        (BLOCK + 512) | NTX_QCOW2_COPIED,                      /* between two clusters */
        BLOCK,                                                 /* not counted */
        2,                                                     /* nothing that we write */
        BLOCK | NTX_QCOW2_COPIED | NTX_QCOW2_ZERO,             /* likewise */
        NTX_QCOW2_COMPRESSED | 100 * BLOCK,                    /* behind the end */
        NTX_QCOW2_COMPRESSED | 1ull << 54 | (2 * BLOCK - 512), /* in two clusters */
        UINT64_MAX,
    };
    struct ntx_qcow2_options options = options_of(SIZE);

    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct ntx_device *device = make(&options);
        struct ntx_error err;
        uint8_t entry[8];
        write_block(device, 0, 1);
        write_block(device, 1, 1);
        ntx_close(device);
        int fd = open("map", O_WRONLY);
        ntx_put64(entry, BAD[i]);
        CHECK_EQ_INT(pwrite(fd, entry, 8, BLOCK + 8), 8);
        close(fd);

        options.is_opened_again = true;
        options.stored_to = SIZE;
        CHECK_EQ_INT(refusal_of(&options, &err), -EBADMSG);
        CHECK_CONTAINS(err.text, "the map of this image is damaged: cluster 1 is");
        options.is_opened_again = false;
    }
}

static void test_two_blocks_in_one_cluster_are_found_at_the_end(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;
    uint8_t entry[8];

    write_block(device, 0, 1);
    write_block(device, 1, 1);
    int fd = open("map", O_WRONLY);
    ntx_put64(entry, BLOCK | NTX_QCOW2_COPIED);
    CHECK_EQ_INT(pwrite(fd, entry, 8, BLOCK + 8), 8);
    close(fd);

    CHECK_EQ_INT(ntx_finish(device, &err), -EBADMSG);
    CHECK(!is_image());
    ntx_close(device);
}

static void test_only_one_process_writes_to_it(void)
{
    struct ntx_qcow2_options options = options_of(SIZE);
    struct ntx_device *device = make(&options);
    struct ntx_error err;

    options.is_opened_again = true;
    CHECK_EQ_INT(refusal_of(&options, &err), -EBUSY);
    CHECK_CONTAINS(err.text, "another process writes to this image");
    ntx_close(device);
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
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 0, BLOCK, block_of(1), &err), -ENOTSUP);
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
    RUN(test_data_at_any_address_is_written);
    RUN(test_the_tables_of_a_huge_disk_are_only_those_that_are_needed);
    RUN(test_a_disk_of_no_bytes_has_an_image);
    RUN(test_what_was_flushed_is_there_again);
    RUN(test_what_lies_above_is_dropped);
    RUN(test_an_image_that_is_whole_is_none_while_it_is_gone_on_with);
    RUN(test_an_image_without_its_map_is_whole_or_nothing);
    RUN(test_the_map_of_another_image_is_refused);
    RUN(test_a_damaged_map_is_refused);
    RUN(test_two_blocks_in_one_cluster_are_found_at_the_end);
    RUN(test_only_one_process_writes_to_it);
    RUN(test_what_it_cannot_make_is_refused);
    RUN(test_requests_are_whole_blocks);
    return 0;
}
