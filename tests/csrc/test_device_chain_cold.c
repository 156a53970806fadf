/*
 * test_device_chain_cold.c: a chain of images of which the page cache has nothing.  preadv2() below takes the place of
 * libc's in this program and finds nothing there; open() and io_uring_queue_init() may refuse what goes past the cache.
 */
#define _GNU_SOURCE
#include "qcow2_sample.h"

#include "device.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/*   disk      0   1   2   3   4   5   6   7
 *   top       a   b   .   z   p   .   .   .
 *   base      x   x   c   x   x   d   .   e
 * with p compressed. */
#define BLOCKS 8u
#define SIZE (BLOCKS * CLUSTER)

static struct {
    bool has_no_ring, has_no_direct;
    unsigned asked; /* the page cache */
} plan;

ssize_t preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    (void)fd;
    (void)vector;
    (void)count;
    (void)offset;
    (void)flags;
    plan.asked++;
    errno = EAGAIN;
    return -1;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);

    if (plan.has_no_direct && (flags & O_DIRECT) != 0) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    struct io_uring_params params = {.flags = flags};

    return plan.has_no_ring ? -EPERM : io_uring_queue_init_params(entries, ring, &params);
}

static uint8_t *new_disk(void)
{
    static const char VALUES[BLOCKS] = {'a', 'b', 'c', 0, 0, 'd', 0, 'e'};
    uint8_t *disk = aligned_alloc(4096, SIZE);

    for (unsigned i = 0; i < BLOCKS; i++)
        memset(disk + i * CLUSTER, VALUES[i], CLUSTER);
    fill_packed(disk + 4 * CLUSTER, 'p');
    return disk;
}

static struct ntx_device *open_disk(void)
{
    struct sample *images[] = {new_image(SIZE, true), new_image(SIZE, false)};

    put_data(images[0], 0, 'a');
    put_data(images[0], 1, 'b');
    put_entry(images[0], 3, NTX_QCOW2_ZERO);
    put_packed(images[0], 4, 'p', CLUSTER);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (i != 6)
            put_data(images[1], i, i == 2 ? 'c' : i == 5 ? 'd' : i == 7 ? 'e' : 'x');
    struct ntx_device *device = open_images(images, 2);
    free(images[0]);
    free(images[1]);
    plan.asked = 0;
    return device;
}

static void wait_for_all(struct ntx_device *device, unsigned count)
{
    struct ntx_error err;

    while (count > 0) {
        while (ntx_device_reap(device) != NULL)
            count--;
        struct pollfd ready = {.fd = device->fd, .events = device->events};
        CHECK(count == 0 || poll(&ready, 1, CHECK_TIMEOUT_MS) == 1);
        CHECK_OK(device->ops->advance(device, &err), err);
    }
}

static void check_whole(struct ntx_device *device)
{
    uint8_t *expected = new_disk(), *got = aligned_alloc(4096, SIZE);
    struct ntx_error err;

    memset(got, 0x55, SIZE);
    CHECK_OK(do_io(device, NTX_OP_READ, 0, SIZE, got, &err), err);
    CHECK_EQ_MEM(got, expected, SIZE);
    check_device_holds(device, 3, expected + 3, SIZE - 5); /* not as O_DIRECT wants it */
    free(got);
    free(expected);
}

static void test_what_is_not_cached_is_read_past_the_cache(void)
{
    struct ntx_device *device = open_disk();
    CHECK_EQ_INT(device->fd, -1);

    check_whole(device);

    CHECK(device->fd >= 0);
    ntx_close(device);
}

static void test_requests_are_in_flight_together(void)
{
    struct ntx_device *device = open_disk();
    uint8_t *expected = new_disk(), *got = aligned_alloc(4096, SIZE);
    struct ntx_io ios[BLOCKS];
    struct ntx_error err;

    for (unsigned i = 0; i < BLOCKS; i++) {
        unsigned at = i * 3 % BLOCKS * CLUSTER;
        ios[i] = (struct ntx_io){.op = NTX_OP_READ, .offset = at, .length = CLUSTER, .data = got + at};
        CHECK_OK(ntx_device_submit(device, &ios[i], &err), err);
    }
    CHECK_EQ_U64(device->in_flight, BLOCKS);
    wait_for_all(device, BLOCKS);

    for (unsigned i = 0; i < BLOCKS; i++)
        CHECK_EQ_INT(ios[i].result, 0);
    CHECK_EQ_MEM(got, expected, SIZE);
    ntx_close(device);
    free(got);
    free(expected);
}

static void test_the_cache_is_not_asked_again_at_once(void)
{
    struct ntx_device *device = open_disk();
    uint8_t *got = aligned_alloc(4096, CLUSTER);
    struct ntx_error err;

    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(do_io(device, NTX_OP_READ, i * CLUSTER, CLUSTER, got, &err), err);
    CHECK_EQ_INT(plan.asked, 1);
    ntx_close(device);
    free(got);
}

static void test_reads_in_flight_may_be_left_behind(void)
{
    static _Alignas(4096) uint8_t got[SIZE]; /* is written to until they end */

    for (unsigned round = 0; round < 20; round++) {
        struct ntx_device *device = open_disk();
        struct ntx_io io = {.op = NTX_OP_READ, .length = SIZE, .data = got};
        struct ntx_error err;
        CHECK_OK(ntx_device_submit(device, &io, &err), err);
        ntx_close(device);
    }
}

static void test_a_file_that_is_cut_off_is_an_error_of_what_lies_there(void)
{
    struct ntx_device *device = open_disk();
    uint8_t *expected = new_disk(), *got = aligned_alloc(4096, SIZE);
    struct ntx_io whole = {.op = NTX_OP_READ, .length = SIZE, .data = got};
    struct ntx_error err;
    CHECK(truncate("image-1", 7 * CLUSTER + 4096) == 0); /* before d */

    CHECK_OK(ntx_device_submit(device, &whole, &err), err);
    wait_for_all(device, 1);

    CHECK_EQ_INT(whole.result, -EIO);
    CHECK_EQ_INT(ntx_device_error_of(device, &whole, &err), -EIO);
    CHECK_CONTAINS(err.text, "disk: read failed: offset 0 length 524288: the file /");
    CHECK_CONTAINS(err.text, "/image-1 ended at 462848: it was truncated while being read");
    CHECK_OK(do_io(device, NTX_OP_READ, 0, 2 * CLUSTER, got, &err), err);
    CHECK_EQ_MEM(got, expected, 2 * CLUSTER);
    ntx_close(device);
    free(got);
    free(expected);
}

static void test_where_the_cache_cannot_be_passed_it_is_read_through_it(void)
{
    bool *refusals[] = {&plan.has_no_ring, &plan.has_no_direct};

    for (unsigned i = 0; i < 2; i++) {
        struct ntx_device *device = open_disk();
        *refusals[i] = true;

        check_whole(device);

        CHECK_EQ_INT(device->fd, -1);
        *refusals[i] = false;
        ntx_close(device);
    }
}

static void test_a_clone_reads_for_itself(void)
{
    struct ntx_device *device = open_disk(), *other;
    struct ntx_error err;

    check_whole(device);
    CHECK_OK(device->ops->clone(device, -1, &other, &err), err);
    check_whole(other);
    ntx_close(device);
    check_whole(other);
    ntx_close(other);
}

int main(void)
{
    RUN(test_what_is_not_cached_is_read_past_the_cache);
    RUN(test_requests_are_in_flight_together);
    RUN(test_the_cache_is_not_asked_again_at_once);
    RUN(test_reads_in_flight_may_be_left_behind);
    RUN(test_a_file_that_is_cut_off_is_an_error_of_what_lies_there);
    RUN(test_where_the_cache_cannot_be_passed_it_is_read_through_it);
    RUN(test_a_clone_reads_for_itself);
    return 0;
}
