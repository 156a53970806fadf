/* test_device_file_block.c: a real loop device, and a file system that is full.  Needs root. */
#define _GNU_SOURCE
#include "check_device.h"
#include "device_file.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define BACKING "backing"
#define SECTORS 2049u /* odd: the last page of the device is not whole */
#define SIZE (SECTORS * 512u)
#define PAGE 4096u

static unsigned zeroed, not_zeroed; /* calls of BLKZEROOUT */

/* In place of libc's: counts. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);

    long result = syscall(SYS_ioctl, fd, request, argument);
    if (request == BLKZEROOUT)
        *(result == 0 ? &zeroed : &not_zeroed) += 1;
    return (int)result;
}

struct loop {
    int fd; /* the kernel takes the loop device down when the last descriptor closes, also after a crash */
    char path[32];
};

/* Another program may take the free device first: ask again then. */
static void attach(struct loop *loop, uint32_t flags)
{
    struct loop_config config = {.info = {.lo_flags = LO_FLAGS_AUTOCLEAR | flags}};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        SKIP("no /dev/loop-control here: %s", strerror(errno));
    config.fd = (uint32_t)open(BACKING, O_RDWR | O_CLOEXEC);

    for (int attempt = 0; attempt < 20; attempt++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            SKIP("no free loop device here: %s", strerror(errno));
        snprintf(loop->path, sizeof loop->path, "/dev/loop%d", number);
        /* Where nothing like udev makes device nodes, it is ours to do. */
        if (access(loop->path, F_OK) != 0)
            (void)!mknod(loop->path, S_IFBLK | 0600, makedev(7, (unsigned)number));
        loop->fd = open(loop->path, O_RDWR | O_CLOEXEC);
        if (loop->fd >= 0 && ioctl(loop->fd, LOOP_CONFIGURE, &config) == 0) {
            close((int)config.fd);
            close(control);
            return;
        }
        if (loop->fd >= 0)
            close(loop->fd);
        if (errno != EBUSY && errno != ENXIO)
            SKIP("loop devices cannot be set up here: %s", strerror(errno));
    }
    SKIP("every free loop device was taken by somebody else");
}

static uint8_t *fresh_loop(struct loop *loop)
{
    uint8_t *sample = new_sample(SIZE);

    put_file(BACKING, sample, SIZE);
    attach(loop, 0);
    return sample;
}

static void test_a_block_device_says_what_it_is(void)
{
    struct loop loop;
    uint8_t *sample = fresh_loop(&loop);

    struct ntx_device *device = open_file(loop.path, NTX_OPEN_WRITE, true);
    const struct ntx_device_info *info = ntx_device_info(device);

    CHECK_EQ_U64(info->size, SIZE);
    CHECK_EQ_U64(info->min_block, 1);
    CHECK((info->flags & NTX_DEVICE_BLOCK) != 0);
    CHECK((info->flags & NTX_DEVICE_DIRECT) != 0);
    CHECK((info->flags & NTX_DEVICE_CAN_ZERO) != 0);
    CHECK((info->flags & NTX_DEVICE_CAN_MAP) == 0);
    CHECK_EQ_STR(info->name, loop.path);
    ntx_close(device);
    close(loop.fd);
    free(sample);
}

static void test_any_alignment_reads_and_writes_right(void)
{
    struct loop loop;
    uint8_t *sample = fresh_loop(&loop), *buffer = aligned_alloc(PAGE, 16 * PAGE);
    struct ntx_error err;

    for (int direct = 0; direct < 2; direct++) {
        struct ntx_device *device = open_file(loop.path, NTX_OPEN_WRITE, direct);
        for (unsigned i = 0; i < 60; i++) {
            uint64_t offset = i % 3 == 0 ? i * PAGE : i * PAGE + i * 37;
            uint64_t length = i % 4 == 0 ? 4 * PAGE : 3 * PAGE + i;
            memset(buffer, (int)(i + 100 * (unsigned)direct), length);
            memcpy(sample + offset, buffer, length);
            CHECK_OK(do_io(device, NTX_OP_WRITE, offset, length, buffer, &err), err);
        }
        CHECK_OK(do_io(device, NTX_OP_WRITE, SIZE - 1, 1, "z", &err), err);
        sample[SIZE - 1] = 'z';
        CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
        check_device_holds(device, 0, sample, SIZE);
        for (unsigned i = 0; i < 60; i++) {
            CHECK_OK(do_io(device, NTX_OP_READ, i * PAGE, 4 * PAGE, buffer, &err), err);
            CHECK_EQ_MEM(buffer, sample + i * PAGE, 4 * PAGE);
        }
        ntx_close(device);
    }
    close(loop.fd);
    free(buffer);
    free(sample);
}

static void test_zeroing_touches_its_range_and_nothing_else(void)
{
    static const struct {
        uint64_t offset, length;
    } ranges[] = {{0, SIZE},     {PAGE, 8 * PAGE}, {512, 512}, {1, 3},           {100, 5 * PAGE}, {SIZE - 600, 600},
                  {PAGE - 1, 2}, {65536, 524288},  {0, 1},     {3 * PAGE, PAGE}, {7, SIZE - 14},  {SIZE - 5000, 4999}};

    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        struct loop loop;
        uint8_t *sample = fresh_loop(&loop);
        struct ntx_error err;
        struct ntx_device *device = open_file(loop.path, NTX_OPEN_WRITE, i % 2 == 0);

        /* Dirty pages around and inside must not come back, nor be lost. */
        CHECK_OK(do_io(device, NTX_OP_WRITE, 3, 20000, sample + 3, &err), err);
        CHECK_OK(do_io(device, NTX_OP_ZERO, ranges[i].offset, ranges[i].length, NULL, &err), err);

        CHECK((ntx_device_info(device)->flags & NTX_DEVICE_CAN_ZERO) != 0);
        memset(sample + ranges[i].offset, 0, ranges[i].length);
        check_device_holds(device, 0, sample, SIZE);
        ntx_close(device);
        close(loop.fd);
        free(sample);
    }
}

static void test_clones_write_and_zero_beside_each_other(void)
{
    struct loop loop;
    uint8_t *sample = fresh_loop(&loop), *page = aligned_alloc(PAGE, PAGE);
    struct ntx_error err;
    struct ntx_device *device = open_file(loop.path, NTX_OPEN_WRITE, true), *other;
    memset(page, 0x42, PAGE);
    zeroed = not_zeroed = 0;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 10 * PAGE + 5, 100, page, &err), err);
    CHECK_OK(do_io(other, NTX_OP_WRITE, 20 * PAGE, PAGE, page, &err), err);
    CHECK_OK(do_io(other, NTX_OP_ZERO, 10 * PAGE, 5 * PAGE, NULL, &err), err);
    CHECK_OK(do_io(device, NTX_OP_ZERO, 30 * PAGE, PAGE, NULL, &err), err);

    CHECK_EQ_U64(zeroed, 2);
    CHECK_EQ_U64(not_zeroed, 0);
    memset(sample + 20 * PAGE, 0x42, PAGE);
    memset(sample + 10 * PAGE, 0, 5 * PAGE);
    memset(sample + 30 * PAGE, 0, PAGE);
    check_device_holds(device, 0, sample, SIZE);
    ntx_close(device);
    check_device_holds(other, 0, sample, SIZE);
    CHECK_EQ_INT(ntx_open_file(loop.path, NTX_OPEN_WRITE, false, &device, &err), -EBUSY);
    ntx_close(other);
    close(loop.fd);
    free(page);
    free(sample);
}

static void test_all_of_a_block_device_is_data(void)
{
    struct loop loop;
    uint8_t *sample = fresh_loop(&loop);
    struct ntx_extent extents[2];
    struct ntx_error err;
    size_t count;
    struct ntx_device *device = open_file(loop.path, NTX_OPEN_READ, false);

    CHECK_OK(ntx_map(device, 0, SIZE, 0, extents, 2, &count, &err), err);

    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].length, SIZE);
    CHECK_EQ_U64(extents[0].flags, 0);
    ntx_close(device);
    close(loop.fd);
    free(sample);
}

static void test_a_block_device_in_use_is_not_opened_for_writing(void)
{
    struct loop loop;
    uint8_t *sample = fresh_loop(&loop);
    struct ntx_device *device = open_file(loop.path, NTX_OPEN_WRITE, false), *other;
    struct ntx_error err;

    CHECK_EQ_INT(ntx_open_file(loop.path, NTX_OPEN_WRITE, false, &other, &err), -EBUSY);
    CHECK_CONTAINS(err.text, "open for writing failed: it is mounted or in use: Device or resource busy");
    CHECK_OK(ntx_open_file(loop.path, NTX_OPEN_READ, false, &other, &err), err);

    ntx_close(other);
    ntx_close(device);
    close(loop.fd);
    free(sample);
}

static void test_a_read_only_block_device_is_refused_for_writing(void)
{
    struct loop loop;
    struct ntx_device *device;
    struct ntx_error err;
    uint8_t *sample = new_sample(SIZE);
    put_file(BACKING, sample, SIZE);
    attach(&loop, LO_FLAGS_READ_ONLY);

    int code = ntx_open_file(loop.path, NTX_OPEN_WRITE, false, &device, &err);

    CHECK(code == -EACCES || code == -EROFS || code == -EPERM);
    CHECK_CONTAINS(err.text, "open for writing failed");
    device = open_file(loop.path, NTX_OPEN_READ, true);
    check_device_holds(device, 0, sample, SIZE);
    ntx_close(device);
    close(loop.fd);
    free(sample);
}

static void test_a_block_device_that_shrank_is_an_error(void)
{
    struct loop loop;
    uint8_t *sample = fresh_loop(&loop), *buffer = malloc(SIZE);
    struct ntx_error err;
    struct ntx_device *device = open_file(loop.path, NTX_OPEN_READ, false);
    CHECK(truncate(BACKING, 65536) == 0);
    CHECK(ioctl(loop.fd, LOOP_SET_CAPACITY) == 0);

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 65536, 4096, buffer, &err), -EIO);

    CHECK_EQ_U64(err.offset, 65536);
    CHECK_CONTAINS(err.text, "the device ended at 65536: it was truncated while being read");
    ntx_close(device);
    close(loop.fd);
    free(buffer);
    free(sample);
}

/* A file system of 1 MiB that only this process sees and that goes with it. */
static void mount_small(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        SKIP("no mount namespace of our own here: %s", strerror(errno));
    CHECK(mkdir("small", 0700) == 0);
    if (mount("none", "small", "tmpfs", 0, "size=1m") != 0)
        SKIP("no tmpfs can be mounted here: %s", strerror(errno));
}

static void test_a_full_target_is_named_with_its_place(void)
{
    uint8_t *sample = new_sample(2 * NTX_MIB);
    struct ntx_error err;
    put_file("small/disk", "", 0);
    CHECK(truncate("small/disk", 2 * NTX_MIB) == 0);
    struct ntx_device *device = open_file("small/disk", NTX_OPEN_WRITE, false);

    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, NTX_MIB / 2, sample, &err), err);
    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, NTX_MIB / 2, NTX_MIB, sample + NTX_MIB / 2, &err), -ENOSPC);

    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_EQ_STR(err.text, "small/disk: write failed: offset 524288 length 1048576: No space left on device");
    CHECK_EQ_U64(err.offset, NTX_MIB / 2);
    check_device_holds(device, 0, sample, NTX_MIB / 2);
    CHECK_OK(do_io(device, NTX_OP_ZERO, 0, 2 * NTX_MIB, NULL, &err), err);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, NTX_MIB / 2, sample, &err), err);
    ntx_close(device);
    free(sample);
}

int main(void)
{
    if (geteuid() != 0)
        SKIP("loop devices and mounts need root");
    RUN(test_a_block_device_says_what_it_is);
    RUN(test_any_alignment_reads_and_writes_right);
    RUN(test_zeroing_touches_its_range_and_nothing_else);
    RUN(test_clones_write_and_zero_beside_each_other);
    RUN(test_all_of_a_block_device_is_data);
    RUN(test_a_block_device_in_use_is_not_opened_for_writing);
    RUN(test_a_read_only_block_device_is_refused_for_writing);
    RUN(test_a_block_device_that_shrank_is_an_error);
    mount_small();
    RUN(test_a_full_target_is_named_with_its_place);
    return 0;
}
