/*
 * test_device_file_faults.c: what a kernel may answer and rarely does.  The system calls below take the place of
 * libc's in this program and do what the plan says, else the real thing.
 */
#define _GNU_SOURCE
#include "check_device.h"
#include "device_file.h"

#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <sys/syscall.h>

#define PATH "disk"
#define SIZE 300001u

static struct {
    size_t longest;           /* bytes that one pread or pwrite moves; 0: all */
    unsigned interrupt_every; /* this many calls one ends with EINTR; 0: none */
    bool writes_nothing;      /* pwrite gives 0 */
    bool direct_io_fails;     /* pread and pwrite give EINVAL on an O_DIRECT descriptor */
    bool direct_open_fails;
    bool no_proc;
    int punch_error, zero_range_error;
    int failing_seek; /* SEEK_DATA or SEEK_HOLE: ends with seek_error */
    int read_error, seek_error, sync_error;
    unsigned calls, synced;
} plan;

/* Without a ring all goes through the calls below. */
int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    (void)entries;
    (void)ring;
    (void)flags;
    return -EPERM;
}

static bool is_interrupted(void)
{
    plan.calls++;
    if (plan.interrupt_every == 0 || plan.calls % plan.interrupt_every != 0)
        return false;
    errno = EINTR;
    return true;
}

static bool is_refused(int fd)
{
    if (!plan.direct_io_fails || (fcntl(fd, F_GETFL) & O_DIRECT) == 0)
        return false;
    errno = EINVAL;
    return true;
}

static size_t shorten(size_t length)
{
    return plan.longest != 0 && length > plan.longest ? plan.longest : length;
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
    if (is_interrupted() || is_refused(fd))
        return -1;
    if (plan.read_error != 0) {
        errno = plan.read_error;
        return -1;
    }
    return syscall(SYS_pread64, fd, data, shorten(length), offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    if (is_interrupted() || is_refused(fd))
        return -1;
    return plan.writes_nothing ? 0 : syscall(SYS_pwrite64, fd, data, shorten(length), offset);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (is_interrupted())
        return -1;
    CHECK((mode & FALLOC_FL_KEEP_SIZE) != 0);
    errno = (mode & FALLOC_FL_PUNCH_HOLE) != 0 ? plan.punch_error : plan.zero_range_error;
    if (errno != 0)
        return -1;
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

int fdatasync(int fd)
{
    if (is_interrupted())
        return -1;
    plan.synced++;
    errno = plan.sync_error;
    return plan.sync_error != 0 ? -1 : (int)syscall(SYS_fdatasync, fd);
}

off_t lseek(int fd, off_t offset, int whence)
{
    if (plan.seek_error != 0 && whence == plan.failing_seek) {
        errno = plan.seek_error;
        return -1;
    }
    return syscall(SYS_lseek, fd, offset, whence);
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);

    if (plan.direct_open_fails && (flags & O_DIRECT) != 0) {
        errno = EINVAL;
        return -1;
    }
    if (plan.no_proc && strncmp(path, "/proc/", 6) == 0) {
        errno = ENOENT;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static uint8_t *sample;

static struct ntx_device *open_sample(bool direct)
{
    memset(&plan, 0, sizeof plan);
    put_file(PATH, sample, SIZE);
    return open_file(PATH, NTX_OPEN_WRITE, direct);
}

static void test_short_and_interrupted_reads_go_on(void)
{
    struct ntx_device *device = open_sample(false);
    plan.longest = 1000;
    plan.interrupt_every = 3;

    check_device_holds(device, 0, sample, SIZE);

    CHECK(plan.calls > SIZE / 1000);
    ntx_close(device);
}

static void test_short_and_interrupted_writes_go_on(void)
{
    struct ntx_device *device = open_sample(false);
    uint8_t *other = malloc(SIZE);
    struct ntx_error err;
    memset(other, 0x77, SIZE);
    plan.longest = 4097;
    plan.interrupt_every = 2;

    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, SIZE, other, &err), err);

    check_device_holds(device, 0, other, SIZE);
    ntx_close(device);
    free(other);
}

/* A part that leaves the rest unaligned must not stay with O_DIRECT. */
static void test_short_direct_reads_go_on_buffered(void)
{
    struct ntx_device *device = open_sample(true);
    uint8_t *buffer = aligned_alloc(4096, NTX_BLOCK_SIZE);
    struct ntx_error err;
    plan.longest = 1000;

    CHECK_OK(do_io(device, NTX_OP_READ, NTX_BLOCK_SIZE, NTX_BLOCK_SIZE, buffer, &err), err);

    CHECK_EQ_MEM(buffer, sample + NTX_BLOCK_SIZE, NTX_BLOCK_SIZE);
    ntx_close(device);
    free(buffer);
}

static void test_a_failed_read_names_its_place_and_cause(void)
{
    struct ntx_device *device = open_sample(true);
    struct ntx_error err;
    uint8_t data[512];
    plan.read_error = EIO;

    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 4096, sizeof data, data, &err), -EIO);
    CHECK_EQ_STR(err.text, "disk: read failed: offset 4096 length 512: Input/output error");
    CHECK_EQ_U64(err.offset, 4096);
    plan.read_error = 0;

    check_device_holds(device, 0, sample, SIZE);
    ntx_close(device);
}

static void test_a_write_of_nothing_ends_as_an_error(void)
{
    struct ntx_device *device = open_sample(false);
    struct ntx_error err;
    char data[10] = {0};
    plan.writes_nothing = true;

    CHECK_EQ_INT(do_io(device, NTX_OP_WRITE, 0, sizeof data, data, &err), -EIO);

    CHECK_EQ_STR(err.text, "disk: write failed: offset 0 length 10: Input/output error");
    ntx_close(device);
}

static void test_direct_io_that_is_refused_becomes_buffered(void)
{
    struct ntx_device *device = open_sample(true);
    uint8_t *buffer = aligned_alloc(4096, NTX_BLOCK_SIZE);
    struct ntx_error err;
    plan.direct_io_fails = true;

    CHECK_OK(do_io(device, NTX_OP_READ, 0, NTX_BLOCK_SIZE, buffer, &err), err);

    CHECK_EQ_MEM(buffer, sample, NTX_BLOCK_SIZE);
    CHECK((ntx_device_info(device)->flags & NTX_DEVICE_DIRECT) == 0);
    CHECK_OK(do_io(device, NTX_OP_WRITE, 0, NTX_BLOCK_SIZE, buffer, &err), err);
    ntx_close(device);
    free(buffer);
}

static void test_a_file_system_without_direct_io_is_opened_buffered(void)
{
    memset(&plan, 0, sizeof plan);
    put_file(PATH, sample, SIZE);
    plan.direct_open_fails = true;

    struct ntx_device *device = open_file(PATH, NTX_OPEN_READ, true);

    CHECK((ntx_device_info(device)->flags & NTX_DEVICE_DIRECT) == 0);
    check_device_holds(device, 0, sample, SIZE);
    ntx_close(device);
}

static void check_zeroes(struct ntx_device *device)
{
    static const uint8_t zeros[200000];
    struct ntx_error err;
    plan.interrupt_every = 3;

    CHECK_OK(do_io(device, NTX_OP_ZERO, 50001, sizeof zeros, NULL, &err), err);

    plan.interrupt_every = 0;
    check_device_holds(device, 0, sample, 50001);
    check_device_holds(device, 50001, zeros, sizeof zeros);
    check_device_holds(device, 50001 + sizeof zeros, sample + 50001 + sizeof zeros, SIZE - 50001 - sizeof zeros);
}

static void test_zero_range_is_used_where_holes_cannot_be_punched(void)
{
    struct ntx_device *device = open_sample(false);
    plan.punch_error = EOPNOTSUPP;

    check_zeroes(device);
    ntx_close(device);
}

static void test_zeros_are_written_where_nothing_zeroes_and_the_flag_goes(void)
{
    static const int codes[] = {EOPNOTSUPP, ENOSYS, EINVAL, ENODEV, EPERM, EACCES};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct ntx_device *device = open_sample(true);
        CHECK((ntx_device_info(device)->flags & NTX_DEVICE_CAN_ZERO) != 0);
        plan.punch_error = plan.zero_range_error = codes[i];

        check_zeroes(device);

        CHECK((ntx_device_info(device)->flags & NTX_DEVICE_CAN_ZERO) == 0);
        check_zeroes(device);
        ntx_close(device);
    }
}

static void test_a_failed_flush_is_an_error(void)
{
    struct ntx_device *device = open_sample(false);
    struct ntx_error err;
    plan.sync_error = EIO;

    CHECK_EQ_INT(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), -EIO);

    CHECK_EQ_STR(err.text, "disk: flush failed: Input/output error");
    CHECK_EQ_U64(err.length, 0);
    ntx_close(device);
}

static void test_an_interrupted_flush_is_repeated(void)
{
    struct ntx_device *device = open_sample(false);
    struct ntx_error err;
    plan.interrupt_every = 2;
    plan.calls = 1;

    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);

    CHECK_EQ_U64(plan.synced, 1);
    ntx_close(device);
}

static void test_where_holes_cannot_be_found_all_is_data(void)
{
    struct ntx_device *device = open_sample(false);
    struct ntx_extent extents[2];
    struct ntx_error err;
    size_t count;
    plan.failing_seek = SEEK_DATA;
    plan.seek_error = EINVAL;

    CHECK_OK(ntx_map(device, 10, SIZE - 10, 0, extents, 2, &count, &err), err);

    CHECK_EQ_U64(count, 1);
    CHECK_EQ_U64(extents[0].offset, 10);
    CHECK_EQ_U64(extents[0].length, SIZE - 10);
    CHECK_EQ_U64(extents[0].flags, 0);
    ntx_close(device);
}

static void test_a_failed_map_is_an_error_and_not_a_hole(void)
{
    static const int seeks[] = {SEEK_DATA, SEEK_HOLE};

    for (size_t i = 0; i < 2; i++) {
        struct ntx_device *device = open_sample(false);
        struct ntx_extent extents[2];
        struct ntx_error err;
        size_t count;
        plan.failing_seek = seeks[i];
        plan.seek_error = EIO;

        CHECK_EQ_INT(ntx_map(device, 0, SIZE, 0, extents, 2, &count, &err), -EIO);

        CHECK_EQ_STR(err.text, "disk: map failed: offset 0 length 300001: Input/output error");
        CHECK_EQ_U64(count, 0);
        ntx_close(device);
    }
}

static void test_without_proc_a_clone_opens_the_path_if_it_is_the_same_file(void)
{
    struct ntx_device *device = open_sample(false), *other;
    struct ntx_error err;
    plan.no_proc = true;

    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    check_device_holds(other, 0, sample, SIZE);
    ntx_close(other);
    CHECK(rename(PATH, "elsewhere") == 0);
    put_file(PATH, sample, SIZE);

    CHECK_EQ_INT(device->ops->clone(device, -1, &other, &err), -ESTALE);
    CHECK_CONTAINS(err.text, "disk: open once more failed: ");
    ntx_close(device);
}

int main(void)
{
    sample = new_sample(SIZE);
    RUN(test_short_and_interrupted_reads_go_on);
    RUN(test_short_and_interrupted_writes_go_on);
    RUN(test_short_direct_reads_go_on_buffered);
    RUN(test_a_failed_read_names_its_place_and_cause);
    RUN(test_a_write_of_nothing_ends_as_an_error);
    RUN(test_direct_io_that_is_refused_becomes_buffered);
    RUN(test_a_file_system_without_direct_io_is_opened_buffered);
    RUN(test_zero_range_is_used_where_holes_cannot_be_punched);
    RUN(test_zeros_are_written_where_nothing_zeroes_and_the_flag_goes);
    RUN(test_a_failed_flush_is_an_error);
    RUN(test_an_interrupted_flush_is_repeated);
    RUN(test_where_holes_cannot_be_found_all_is_data);
    RUN(test_a_failed_map_is_an_error_and_not_a_hole);
    RUN(test_without_proc_a_clone_opens_the_path_if_it_is_the_same_file);
    free(sample);
    return 0;
}
