/*
 * kernels.c: runs one part of the core a given number of times, for something outside to count its instructions.
 *
 *   kernels zero COUNT      zero test of a block of zeros
 *   kernels digest COUNT    digest of a block
 *   kernels plan COUNT      COUNT extents fed to a plan and taken as work ranges
 *   kernels worker COUNT    COUNT blocks from a file to null, a request each, neither tested to their end nor digested
 *   kernels chosen          prints the kernels that run here
 *
 * Each does its work from end to end, so that the difference of two counts is the work alone: start-up cancels out.
 * Time moves by a microsecond at each look, so that the pace decides the same on any machine.
 */
#define _GNU_SOURCE
#include "../../csrc/clock.h"
#include "../../csrc/digest.h"
#include "../../csrc/plan.h"
#include "../../csrc/zero.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FEED 1024u /* extents at a time */

static void fail(const char *what)
{
    fprintf(stderr, "kernels: %s\n", what);
    exit(1);
}

/* In place of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static _Atomic uint64_t looks;
    uint64_t now_ns = NTX_NS_PER_S + 1000 * atomic_fetch_add(&looks, 1);

    (void)clock;
    *now = (struct timespec){.tv_sec = (time_t)(now_ns / NTX_NS_PER_S), .tv_nsec = (long)(now_ns % NTX_NS_PER_S)};
    return 0;
}

static void run_zero(size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!ntx_is_zero(ntx_zeros, NTX_BLOCK_SIZE))
            fail("zeros are not zero");
}

static void run_digest(size_t count)
{
    static uint8_t block[NTX_BLOCK_SIZE];
    uint8_t digest[NTX_DIGEST_SIZE], sum = 0;

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i % 251);
    for (size_t i = 0; i < count; i++) {
        ntx_digest(block, sizeof block, digest);
        sum |= digest[0];
    }
    if (count > 0 && sum == 0)
        fail("the digest is wrong");
}

static void take_all(struct ntx_plan *plan, struct ntx_work_range *range)
{
    while (ntx_plan_take(plan, range) == NTX_TAKE_RANGE)
        ;
}

static void run_plan(size_t count)
{
    static struct ntx_extent extents[FEED];
    static struct ntx_work_range range;
    struct ntx_plan plan;
    struct ntx_error err;
    size_t taken;

    if (ntx_plan_init(&plan, NTX_MAX_DEVICE_SIZE, &(struct ntx_range_bytes){.most = 16 * NTX_MIB}, &err) < 0)
        fail(err.text);
    for (size_t done = 0; done < count;) {
        size_t n = count - done < FEED ? count - done : FEED;
        for (size_t i = 0; i < n; i++)
            extents[i] = (struct ntx_extent){.offset = (done + i) * 3 * NTX_BLOCK_SIZE, .length = NTX_BLOCK_SIZE};
        if (ntx_plan_feed(&plan, extents, n, &taken, &err) < 0)
            fail(err.text);
        if (taken != n)
            fail("the plan is full");
        take_all(&plan, &range);
        done += n;
    }
    ntx_plan_destroy(&plan);
}

/* A file of blocks whose first byte is set: the zero test leaves them at once. */
static struct ntx_device *open_blocks(size_t count)
{
    static uint8_t block[NTX_BLOCK_SIZE] = {1};
    struct ntx_device *device;
    struct ntx_error err;
    char path[64];
    int fd = memfd_create("blocks", 0);

    if (fd < 0)
        fail("no memory file");
    for (size_t i = 0; i < count; i++)
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block)
            fail("cannot write the memory file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ntx_open_file(path, NTX_OPEN_READ, false, &device, &err) < 0)
        fail(err.text);
    close(fd);
    return device;
}

static void run_worker(size_t count)
{
    struct ntx_extent all = {.length = count * NTX_BLOCK_SIZE};
    struct ntx_job_options options = {
        .limits = {.connections = 1,
                   .in_flight = 8,
                   .request_size = NTX_BLOCK_SIZE,
                   .max_buffer_bytes = 8 * NTX_BLOCK_SIZE,
                   .timeout_ms = 60000},
        .bytes_expected = all.length,
        .digest_fd = -1,
        .reference_fd = -1,
    };
    struct ntx_device *source = open_blocks(count), *target;
    struct ntx_job_progress progress;
    struct ntx_job *job;
    struct ntx_error err;
    size_t taken;

    if (ntx_open_null(all.length, &target, &err) < 0 || ntx_job_new(source, target, &options, &job, &err) < 0 ||
        ntx_job_feed(job, &all, 1, &taken, &err) < 0)
        fail(err.text);
    ntx_job_feed_end(job);
    if (ntx_job_start(job, &err) < 0 || ntx_job_join(job, &err) < 0)
        fail(err.text);
    ntx_job_progress(job, &progress);
    if (progress.bytes_sent != all.length)
        fail("not everything was sent");
    ntx_job_free(job);
    ntx_close(target);
    ntx_close(source);
}

static void print_chosen(size_t count)
{
    (void)count;
    printf("zero=%s digest=%s xxhash=%u\n", ntx_zero_kernel()->name, ntx_digest_kernel(), ntx_digest_library_version());
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(size_t count);
    } parts[] = {{"zero", run_zero},
                 {"digest", run_digest},
                 {"plan", run_plan},
                 {"worker", run_worker},
                 {"chosen", print_chosen}};

    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) == 0) {
            parts[i].run(argc > 2 ? strtoul(argv[2], NULL, 10) : 0);
            return 0;
        }
    }
    fputs("usage: kernels zero|digest|plan|worker|chosen [COUNT]\n", stderr);
    return 2;
}
