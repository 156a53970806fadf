/*
 * test_device_ring.c: files read and written past the page cache with several requests in flight.
 * io_uring_queue_init(), io_uring_submit() and io_uring_submit_and_wait() are replaced, to be a system that does not
 * permit it, or has no memory for it.
 */
#define _GNU_SOURCE
#include "check_device.h"
#include "device_file.h"

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PATH "disk"
#define PAGE 4096u
#define COUNT 16u
#define LENGTH (64u * 1024)

static bool is_refused, is_enter_refused, is_short_of_memory;
static unsigned calls_that_take_none; /* how many of the next ones leave everything in the queue */
static bool takes_one;                /* whoever submits more has to ask again */

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    int (*real)(unsigned, struct io_uring *, unsigned) =
        (int (*)(unsigned, struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_queue_init");

    return is_refused ? -EPERM : real(entries, ring, flags);
}

int io_uring_submit(struct io_uring *ring)
{
    int (*real)(struct io_uring *) = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");

    if (is_short_of_memory)
        return -EAGAIN;
    if (calls_that_take_none > 0) {
        calls_that_take_none--;
        return 0;
    }
    if (!takes_one || io_uring_sq_ready(ring) < 2)
        return real(ring);
    ring->sq.sqe_tail--;
    int taken = real(ring);
    ring->sq.sqe_tail++;
    return taken;
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    int (*real)(struct io_uring *, unsigned) =
        (int (*)(struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_submit_and_wait");

    return is_enter_refused ? -EPERM : real(ring, count);
}

/* Pages, and not from malloc(): a read that is given up may still write to them. */
static uint8_t *new_pages(size_t length)
{
    void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(pages != MAP_FAILED);
    return pages;
}

static struct ntx_device *open_in(enum ntx_open_mode mode)
{
    struct ntx_device *device = open_file(PATH, mode, true);

    CHECK((ntx_device_info(device)->flags & NTX_DEVICE_DIRECT) != 0);
    return device;
}

static struct ntx_device *open_direct(void)
{
    return open_in(NTX_OPEN_READ);
}

static void wait_for_all(struct ntx_device *device, unsigned count)
{
    struct ntx_error err;

    while (count > 0) {
        struct pollfd ready = {.fd = device->fd, .events = device->events};
        while (ntx_device_reap(device) != NULL)
            count--;
        if (count == 0)
            return;
        CHECK_EQ_INT(poll(&ready, 1, 10000), 1);
        CHECK_OK(device->ops->advance(device, &err), err);
    }
}

static void test_many_reads_are_in_flight_and_each_gets_its_own_bytes(void)
{
    uint8_t *sample = new_sample(COUNT * LENGTH), *got = new_pages(COUNT * LENGTH);
    put_file(PATH, sample, COUNT * LENGTH);
    struct ntx_device *device = open_direct();
    struct ntx_io ios[COUNT];
    struct ntx_error err;
    CHECK(device->fd >= 0);

    for (unsigned i = 0; i < COUNT; i++) {
        unsigned at = (i * 7) % COUNT * LENGTH;
        ios[i] = (struct ntx_io){.op = NTX_OP_READ, .offset = at, .length = LENGTH, .data = got + at};
        CHECK_OK(ntx_device_submit(device, &ios[i], &err), err);
    }
    CHECK_EQ_U64(device->in_flight, COUNT);
    wait_for_all(device, COUNT);

    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQ_INT(ios[i].result, 0);
    CHECK_EQ_MEM(got, sample, COUNT * LENGTH);
    CHECK_EQ_U64(device->in_flight, 0);
    ntx_close(device);
    munmap(got, COUNT * LENGTH);
    free(sample);
}

static void test_a_file_that_shrank_is_an_error_with_the_place(void)
{
    uint8_t *sample = new_sample(4 * LENGTH), *got = new_pages(LENGTH);
    put_file(PATH, sample, 4 * LENGTH);
    struct ntx_device *device = open_direct();
    struct ntx_error err;
    CHECK_EQ_INT(truncate(PATH, 2 * LENGTH + 2 * PAGE), 0);

    CHECK_OK(do_io(device, NTX_OP_READ, LENGTH, LENGTH, got, &err), err);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 2 * LENGTH, LENGTH, got, &err), -EIO);

    CHECK_EQ_U64(err.offset, 2 * LENGTH);
    CHECK(strstr(err.text, "ended at 139264") != NULL);
    CHECK_EQ_INT(do_io(device, NTX_OP_READ, 3 * LENGTH, LENGTH, got, &err), -EIO);
    ntx_close(device);
    munmap(got, LENGTH);
    free(sample);
}

static void test_reads_in_flight_may_be_left_behind(void)
{
    uint8_t *sample = new_sample(COUNT * LENGTH), *got = new_pages(COUNT * LENGTH);
    put_file(PATH, sample, COUNT * LENGTH);
    struct ntx_io ios[COUNT];
    struct ntx_error err;

    for (int round = 0; round < 20; round++) {
        struct ntx_device *device = open_direct();
        for (unsigned i = 0; i < COUNT; i++) {
            ios[i] =
                (struct ntx_io){.op = NTX_OP_READ, .offset = i * LENGTH, .length = LENGTH, .data = got + i * LENGTH};
            CHECK_OK(ntx_device_submit(device, &ios[i], &err), err);
        }
        ntx_close(device);
    }
    munmap(got, COUNT * LENGTH);
    free(sample);
}

static void test_what_is_not_aligned_is_read_all_the_same(void)
{
    uint8_t *sample = new_sample(LENGTH + 123);
    put_file(PATH, sample, LENGTH + 123);
    struct ntx_device *device = open_direct();

    check_device_holds(device, 5, sample + 5, 1000);
    check_device_holds(device, LENGTH, sample + LENGTH, 123);
    ntx_close(device);
    free(sample);
}

static void test_a_read_that_the_ring_refuses_is_done_once_and_otherwise(void)
{
    uint8_t *sample = new_sample(2 * LENGTH), *got = new_pages(2 * LENGTH);
    put_file(PATH, sample, 2 * LENGTH);
    struct ntx_device *device = open_direct();
    struct ntx_io ios[2] = {{.op = NTX_OP_READ, .offset = 0, .length = LENGTH, .data = got},
                            {.op = NTX_OP_READ, .offset = LENGTH, .length = LENGTH, .data = got + LENGTH}};
    struct ntx_error err;
    is_short_of_memory = true;
    CHECK_OK(ntx_device_submit(device, &ios[0], &err), err);
    is_short_of_memory = false;
    CHECK(ntx_device_reap(device) == &ios[0]);
    CHECK_EQ_MEM(got, sample, LENGTH);
    memset(got, 0, LENGTH);

    CHECK_OK(ntx_device_submit(device, &ios[1], &err), err);
    wait_for_all(device, 1);

    CHECK_EQ_U64(device->in_flight, 0);
    CHECK_EQ_U64(got[0], 0); /* the first is not read again */
    CHECK_EQ_MEM(got + LENGTH, sample + LENGTH, LENGTH);
    ntx_close(device);
    munmap(got, 2 * LENGTH);
    free(sample);
}

static void check_reads_when_few_are_taken(unsigned rounds)
{
    uint8_t *sample = new_sample(COUNT * LENGTH), *got = new_pages(COUNT * LENGTH);
    put_file(PATH, sample, COUNT * LENGTH);
    struct ntx_device *device = open_direct();
    struct ntx_io ios[COUNT];
    struct ntx_error err;

    for (unsigned i = 0; i < COUNT; i++) {
        ios[i] = (struct ntx_io){.op = NTX_OP_READ, .offset = i * LENGTH, .length = LENGTH, .data = got + i * LENGTH};
        calls_that_take_none = i % 2 == 0 ? rounds : 0;
        CHECK_OK(ntx_device_submit(device, &ios[i], &err), err);
        CHECK(i % 2 != 0 || calls_that_take_none < rounds);
        calls_that_take_none = 0;
    }
    wait_for_all(device, COUNT);

    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQ_INT(ios[i].result, 0);
    CHECK_EQ_MEM(got, sample, COUNT * LENGTH);
    ntx_close(device);
    munmap(got, COUNT * LENGTH);
    free(sample);
}

static void test_a_read_that_was_not_taken_is_done_otherwise(void)
{
    check_reads_when_few_are_taken(1);
    check_reads_when_few_are_taken(UINT32_MAX);
}

/* What was not taken before is in the queue in front of the read, and one call takes only that. */
static void test_what_one_call_leaves_the_next_takes(void)
{
    takes_one = true;
    check_reads_when_few_are_taken(1);
    takes_one = false;
}

static void check_reads_without_a_ring(bool *refused)
{
    uint8_t *sample = new_sample(LENGTH), *got = new_pages(LENGTH);
    put_file(PATH, sample, LENGTH);
    struct ntx_error err;
    *refused = true;
    struct ntx_device *device = open_direct();
    *refused = false;

    CHECK_EQ_INT(device->fd, -1);
    CHECK_OK(do_io(device, NTX_OP_READ, 0, LENGTH, got, &err), err);

    CHECK_EQ_MEM(got, sample, LENGTH);
    ntx_close(device);
    munmap(got, LENGTH);
    free(sample);
}

static void test_without_a_ring_reads_block(void)
{
    check_reads_without_a_ring(&is_refused);
}

static void test_a_ring_that_takes_no_requests_is_none(void)
{
    check_reads_without_a_ring(&is_enter_refused);
}

/* ------------------------------------------------------------------------------------------------- writing */

/* Begin to write a sample over a file of zeros, in pieces and out of order; returns the sample, in pages. */
static uint8_t *begin_writes(struct ntx_device **device, struct ntx_io ios[COUNT])
{
    uint8_t *zeros = calloc(COUNT, LENGTH), *sample = new_sample(COUNT * LENGTH), *pages = new_pages(COUNT * LENGTH);
    struct ntx_error err;

    put_file(PATH, zeros, COUNT * LENGTH);
    memcpy(pages, sample, COUNT * LENGTH);
    *device = open_in(NTX_OPEN_WRITE);
    CHECK((*device)->fd >= 0);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned at = (i * 7) % COUNT * LENGTH;
        ios[i] = (struct ntx_io){.op = NTX_OP_WRITE, .offset = at, .length = LENGTH, .data = pages + at};
        CHECK_OK(ntx_device_submit(*device, &ios[i], &err), err);
    }
    free(sample);
    free(zeros);
    return pages;
}

static void check_file_holds(const uint8_t *expected, size_t length)
{
    struct ntx_device *device = open_direct();

    check_device_holds(device, 0, expected, length);
    ntx_close(device);
}

static void test_many_writes_are_in_flight_and_each_goes_to_its_place(void)
{
    struct ntx_io ios[COUNT];
    struct ntx_device *device;
    uint8_t *pages = begin_writes(&device, ios);

    CHECK_EQ_U64(device->in_flight, COUNT);
    wait_for_all(device, COUNT);

    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQ_INT(ios[i].result, 0);
    check_file_holds(pages, COUNT * LENGTH);
    ntx_close(device);
    munmap(pages, COUNT * LENGTH);
}

static void test_a_device_is_closed_when_its_writes_have_ended(void)
{
    struct ntx_io ios[COUNT];

    for (int round = 0; round < 20; round++) {
        struct ntx_device *device;
        uint8_t *pages = begin_writes(&device, ios);

        ntx_close(device);

        check_file_holds(pages, COUNT * LENGTH);
        munmap(pages, COUNT * LENGTH);
    }
}

static void test_a_write_that_the_ring_refuses_is_done_otherwise(void)
{
    struct ntx_io ios[COUNT];
    struct ntx_device *device;
    is_short_of_memory = true;
    uint8_t *pages = begin_writes(&device, ios);
    is_short_of_memory = false;

    for (unsigned i = 0; i < COUNT; i++)
        CHECK(ntx_device_reap(device) == &ios[i]);
    check_file_holds(pages, COUNT * LENGTH);
    ntx_close(device);
    munmap(pages, COUNT * LENGTH);
}

static void test_a_write_that_ends_early_goes_on_to_its_error(void)
{
    uint8_t *sample = new_sample(2 * LENGTH), *pages = new_pages(LENGTH);
    put_file(PATH, sample, 2 * LENGTH);
    struct ntx_device *device = open_in(NTX_OPEN_WRITE);
    struct rlimit before, less;
    struct ntx_error err;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    less = (struct rlimit){.rlim_cur = LENGTH + 2 * PAGE, .rlim_max = before.rlim_max};
    CHECK_EQ_INT(setrlimit(RLIMIT_FSIZE, &less), 0);

    int code = do_io(device, NTX_OP_WRITE, LENGTH, LENGTH, pages, &err);

    CHECK_EQ_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK_EQ_INT(code, -EFBIG);
    CHECK_EQ_STR(err.text, "disk: write failed: offset 65536 length 65536: File too large");
    memset(sample + LENGTH, 0, 2 * PAGE);
    check_file_holds(sample, 2 * LENGTH);
    ntx_close(device);
    munmap(pages, LENGTH);
    free(sample);
}

static _Atomic bool has_read;

static void *read_later(void *argument)
{
    static uint8_t data[LENGTH];
    const int *fd = argument;

    poll(NULL, 0, 20); /* whoever would not wait has gone on by then */
    for (size_t left = 2 * LENGTH; left > 0;)
        left -= (size_t)read(*fd, data, left < LENGTH ? left : LENGTH);
    has_read = true;
    return NULL;
}

static void test_a_write_in_flight_is_waited_for(void)
{
    uint8_t *data = calloc(1, LENGTH);
    struct ntx_ring *ring = ntx_ring_new();
    pthread_t reader;
    int fds[2];

    CHECK(ring != NULL && pipe(fds) == 0);
    CHECK_EQ_INT(write(fds[1], data, LENGTH), LENGTH); /* as much as a pipe holds */
    CHECK_EQ_INT(ntx_ring_write(ring, fds[1], data, LENGTH, 0, data), 0);
    CHECK(pthread_create(&reader, NULL, read_later, &fds[0]) == 0);
    ntx_ring_drain(ring);
    ntx_ring_free(ring);
    free(data); /* nobody reads it any more */

    CHECK_EQ_INT(pthread_join(reader, NULL), 0);
    CHECK(has_read);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    RUN(test_many_reads_are_in_flight_and_each_gets_its_own_bytes);
    RUN(test_a_file_that_shrank_is_an_error_with_the_place);
    RUN(test_reads_in_flight_may_be_left_behind);
    RUN(test_what_is_not_aligned_is_read_all_the_same);
    RUN(test_a_read_that_the_ring_refuses_is_done_once_and_otherwise);
    RUN(test_a_read_that_was_not_taken_is_done_otherwise);
    RUN(test_what_one_call_leaves_the_next_takes);
    RUN(test_without_a_ring_reads_block);
    RUN(test_a_ring_that_takes_no_requests_is_none);
    RUN(test_many_writes_are_in_flight_and_each_goes_to_its_place);
    RUN(test_a_device_is_closed_when_its_writes_have_ended);
    RUN(test_a_write_that_the_ring_refuses_is_done_otherwise);
    RUN(test_a_write_that_ends_early_goes_on_to_its_error);
    RUN(test_a_write_in_flight_is_waited_for);
    return 0;
}
