/*
 * job_bench.h: a source and a target in memory, a job between them, and what came of it.
 */
#ifndef JOB_BENCH_H
#define JOB_BENCH_H

#define _GNU_SOURCE /* memfd_create */
#include "bytes.h"
#include "fake_device.h"

#include <sys/mman.h>
#include <unistd.h>

#define SIZE (5 * NTX_MIB + 512)
#define BLOCKS ((SIZE + NTX_BLOCK_SIZE - 1) / NTX_BLOCK_SIZE)
#define ALL_FLAGS (NTX_DEVICE_CAN_ZERO | NTX_DEVICE_CAN_FLUSH | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_CAN_MAP)

static uint64_t seed = 42;

CHECK_UNWATCHED static inline uint64_t rnd(uint64_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

struct bench {
    struct fake_disk source, target;
    uint8_t *before; /* the target at the start */
    struct ntx_device *from, *to;
    struct ntx_job_options options;
    struct ntx_job_progress progress;
    struct ntx_error err;
    int manifest;
};

/* No zero among them. */
CHECK_UNWATCHED static inline void fill_with_data(uint8_t *bytes, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(1 + rnd(255));
}

/* Runs of random bytes, and of zeros, some shorter than a block. */
static inline void fill(uint8_t *bytes, uint64_t size)
{
    for (uint64_t at = 0; at < size;) {
        uint64_t run = ntx_min64(1 + rnd(5 * NTX_BLOCK_SIZE), size - at);
        bool zero = rnd(2) == 0;
        if (zero)
            memset(bytes + at, 0, run);
        else
            fill_with_data(bytes + at, run);
        at += run;
    }
}

static inline void setup(struct bench *b)
{
    memset(b, 0, sizeof *b);
    fake_init(&b->source, SIZE, ALL_FLAGS);
    fake_init(&b->target, SIZE, ALL_FLAGS);
    fill(b->source.bytes, SIZE);
    memset(b->target.bytes, 0xee, SIZE);
    b->before = malloc(SIZE);
    memcpy(b->before, b->target.bytes, SIZE);
    b->manifest = memfd_create("manifest", MFD_CLOEXEC);
    CHECK(ftruncate(b->manifest, BLOCKS * NTX_DIGEST_SIZE) == 0);
    b->options = (struct ntx_job_options){
        .limits =
            {
                .connections = 3,
                .in_flight = 4,
                .request_size = 2 * NTX_BLOCK_SIZE,
                .max_buffer_bytes = 8 * NTX_MIB,
                .timeout_ms = 10000,
                .flush_timeout_ms = 10000,
            },
        .digest_fd = b->manifest,
        .reference_fd = -1,
    };
}

static inline void limit(struct bench *b, uint64_t rate_bytes_per_s)
{
    CHECK_OK(ntx_limiter_new(rate_bytes_per_s, &b->options.limiter, &b->err), b->err);
}

static inline void teardown(struct bench *b)
{
    ntx_limiter_free(b->options.limiter);
    ntx_close(b->from);
    ntx_close(b->to);
    fake_destroy(&b->source);
    fake_destroy(&b->target);
    free(b->before);
    close(b->manifest);
}

static inline void wait_until_finished(struct ntx_job *job)
{
    struct ntx_job_progress progress;
    for (ntx_job_progress(job, &progress); !progress.finished; ntx_job_progress(job, &progress)) {
        struct pollfd fd = {.fd = ntx_job_fd(job), .events = POLLIN};
        CHECK(poll(&fd, 1, 30000) >= 0);
        ntx_event_drain(fd.fd);
    }
}

static inline void feed_all(struct ntx_job *job, const struct ntx_extent *extents, size_t count, struct ntx_error *err)
{
    struct ntx_job_progress progress = {0};
    while (count > 0 && !progress.finished) {
        size_t taken;
        CHECK(ntx_job_feed(job, extents, count, &taken, err) == 0);
        extents += taken;
        count -= taken;
        struct pollfd fd = {.fd = ntx_job_fd(job), .events = POLLIN};
        if (count > 0 && poll(&fd, 1, 1000) > 0)
            ntx_event_drain(fd.fd);
        ntx_job_progress(job, &progress);
    }
    ntx_job_feed_end(job);
}

/* Run the extents through a job; returns what join returned. */
static inline int run(struct bench *b, const struct ntx_extent *extents, size_t count)
{
    struct ntx_job *job;
    b->from = fake_open(&b->source);
    b->to = fake_open(&b->target);
    int rc = ntx_job_new(b->from, b->to, &b->options, &job, &b->err);
    if (rc < 0)
        return rc;
    CHECK(ntx_job_start(job, &b->err) == 0);
    feed_all(job, extents, count, &b->err);
    wait_until_finished(job);
    rc = ntx_job_join(job, &b->err);
    ntx_job_progress(job, &b->progress);
    ntx_job_free(job);
    return rc;
}

/* The target holds the source inside the extents, widened to unit, and what it held before elsewhere. */
static inline void check_target(const struct bench *b, const struct ntx_extent *extents, size_t count, uint64_t unit)
{
    uint8_t *expected = malloc(SIZE);
    memcpy(expected, b->before, SIZE);
    for (size_t i = 0; i < count; i++) {
        uint64_t start = ntx_round_down(extents[i].offset, unit);
        uint64_t end = ntx_min64(ntx_round_up(extents[i].offset + extents[i].length, unit), SIZE);
        memcpy(expected + start, b->source.bytes + start, end - start);
    }
    CHECK(memcmp(expected, b->target.bytes, SIZE) == 0);
    free(expected);
}

#endif
