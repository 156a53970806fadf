/* device_qcow2.c and qcow2_share.c: what is shared with the images of a chain, and what is written.  That a file system
 * shares it is for tests/prune. */
#define _GNU_SOURCE
#include "qcow2_sample.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* The last block of the disk does not fill its cluster.
 *
 *   disk   0   1   2   3   4   5
 *   top    a   b   .   p   .   e         a and b lie side by side, p is compressed
 *   base   .   .   c   .   .   .
 */
#define DISK (5 * CLUSTER + 512)

static unsigned calls, succeed; /* how many times it was asked, and how many of them it works */
static int failure;             /* with which errno it fails from then on */
static struct file_clone_range asked[8];

/* A file system that shares, as far as who reads can tell. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    struct file_clone_range *range = va_arg(arguments, struct file_clone_range *);
    va_end(arguments);

    if (request != FICLONERANGE)
        return (int)syscall(SYS_ioctl, fd, request, range);
    CHECK(calls < 8);
    asked[calls] = *range;
    if (calls++ >= succeed) {
        errno = failure;
        return -1;
    }
    uint8_t *data = malloc(range->src_length);
    CHECK_EQ_U64((uint64_t)pread((int)range->src_fd, data, range->src_length, (off_t)range->src_offset),
                 range->src_length);
    CHECK_EQ_U64((uint64_t)pwrite(fd, data, range->src_length, (off_t)range->dest_offset), range->src_length);
    free(data);
    return 0;
}

static void begin(unsigned works, int code)
{
    calls = 0;
    succeed = works;
    failure = code;
}

static struct ntx_device *open_chain(void)
{
    struct sample *images[] = {new_image(DISK, true), new_image(DISK, false)};

    put_data(images[0], 0, 'a');
    put_data(images[0], 1, 'b');
    put_data(images[0], 5, 'e');
    put_packed(images[0], 3, 'p', CLUSTER);
    put_data(images[1], 2, 'c');
    struct ntx_device *chain = open_images(images, 2);
    free(images[0]);
    free(images[1]);
    return chain;
}

static struct ntx_device *make(const struct ntx_qcow2_options *options)
{
    struct ntx_device *device;
    struct ntx_error err;

    unlink("map");
    put_file("image", "", 0);
    CHECK_OK(ntx_open_qcow2(options, &device, &err), err);
    return device;
}

static void finish(struct ntx_device *device)
{
    struct ntx_error err;

    CHECK_OK(ntx_finish(device, &err), err);
}

/* The disk, without the zeros of block 4, which nobody writes. */
static uint8_t *disk_of(struct ntx_device *chain)
{
    uint8_t *disk = aligned_alloc(4096, 6 * CLUSTER);
    struct ntx_error err;

    CHECK_OK(do_io(chain, NTX_OP_READ, 0, DISK, disk, &err), err);
    return disk;
}

/* Write what the chain holds to an image that may share it; returns how many bytes were stored. */
static uint64_t copy_to(struct ntx_device *device, const uint8_t *disk)
{
    struct ntx_io first = {.op = NTX_OP_WRITE, .length = 4 * CLUSTER, .data = (void *)(uintptr_t)disk};
    struct ntx_io last = {
        .op = NTX_OP_WRITE, .offset = 5 * CLUSTER, .length = 512, .data = (void *)(uintptr_t)(disk + 5 * CLUSTER)};
    struct ntx_error err;

    CHECK_OK(ntx_device_do(device, &first, CHECK_TIMEOUT_MS, &err), err);
    CHECK_OK(ntx_device_do(device, &last, CHECK_TIMEOUT_MS, &err), err);
    return first.stored + last.stored;
}

static uint64_t check_copied(const struct ntx_qcow2_options *options)
{
    struct ntx_device *chain = open_chain(), *device = make(options);
    uint8_t *disk = disk_of(chain);

    ntx_share_clusters(device, chain);
    ntx_close(chain); /* its files stay open */
    uint64_t stored = copy_to(device, disk);
    finish(device);

    check_device_holds(device, 0, disk, DISK);
    ntx_close(device);
    free(disk);
    return stored;
}

static void test_whole_clusters_are_shared_and_the_rest_is_written(void)
{
    struct ntx_qcow2_options options = {.path = "image", .map_path = "map", .size = DISK};

    begin(8, 0);

    CHECK_EQ_U64(check_copied(&options), 2 * CLUSTER); /* p, and the last one */
    CHECK_EQ_U64(calls, 2);
    CHECK_EQ_U64(asked[0].src_offset, SAMPLE_FIRST * CLUSTER);
    CHECK_EQ_U64(asked[0].src_length, 2 * CLUSTER);
    CHECK_EQ_U64(asked[0].dest_offset, CLUSTER);
    CHECK_EQ_U64(asked[1].src_length, CLUSTER);
    CHECK_EQ_U64(asked[1].dest_offset, 3 * CLUSTER);
}

static void test_where_it_cannot_be_shared_it_is_written_and_not_asked_again(void)
{
    static const int codes[] = {EOPNOTSUPP, EXDEV, EINVAL, ENOSPC, EPERM};
    struct ntx_qcow2_options options = {.path = "image", .map_path = "map", .size = DISK};

    for (unsigned i = 0; i < 5; i++) {
        for (unsigned works = 0; works < 2; works++) {
            begin(works, codes[i]);

            CHECK_EQ_U64(check_copied(&options), (works == 0 ? 5 : 3) * CLUSTER);
            CHECK_EQ_U64(calls, works + 1);
        }
    }
}

static void test_an_image_that_is_compressed_shares_nothing(void)
{
    struct ntx_qcow2_options options = {.path = "image", .map_path = "map", .size = DISK};

    options.zstd_level = 1;
    begin(8, 0);

    check_copied(&options);

    CHECK_EQ_U64(calls, 0);
}

static void test_all_devices_of_an_image_share(void)
{
    struct ntx_qcow2_options options = {.path = "image", .map_path = "map", .size = DISK};
    struct ntx_device *chain = open_chain(), *device = make(&options), *other;
    uint8_t *disk = disk_of(chain);
    struct ntx_error err;

    begin(8, 0);
    ntx_share_clusters(device, chain);
    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    copy_to(other, disk);
    ntx_close(other);
    finish(device);

    CHECK_EQ_U64(calls, 2);
    check_device_holds(device, 0, disk, DISK);
    ntx_close(device);
    ntx_close(chain);
    free(disk);
}

static void test_with_other_devices_nothing_is_shared(void)
{
    struct ntx_qcow2_options options = {.path = "image", .map_path = "map", .size = DISK};
    struct ntx_device *chain = open_chain(), *device = make(&options), *null;
    uint8_t *disk = disk_of(chain);
    struct ntx_error err;

    begin(8, 0);
    CHECK_OK(ntx_open_null(DISK, &null, &err), err);
    ntx_share_clusters(null, chain);
    ntx_share_clusters(device, null);
    copy_to(device, disk);

    CHECK_EQ_U64(calls, 0);
    ntx_close(null);
    ntx_close(device);
    ntx_close(chain);
    free(disk);
}

int main(void)
{
    RUN(test_whole_clusters_are_shared_and_the_rest_is_written);
    RUN(test_where_it_cannot_be_shared_it_is_written_and_not_asked_again);
    RUN(test_an_image_that_is_compressed_shares_nothing);
    RUN(test_all_devices_of_an_image_share);
    RUN(test_with_other_devices_nothing_is_shared);
    return 0;
}
