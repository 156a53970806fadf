/*
 * test_nbd_copy.c: a disk from a file to a real server and back, by several threads with a connection each, with
 * digests and checkpoints: all of the core at once, where the sanitizers see it.
 */
#define _GNU_SOURCE /* memfd_create */
#include "nbd_real.h"

#include <sys/mman.h>

#define SIZE (32 * NTX_MIB + 512)
#define BLOCKS ((SIZE + NTX_BLOCK_SIZE - 1) / NTX_BLOCK_SIZE)
#define CONNECTIONS 4u

/* Data with zeros between it, some shorter than a block. */
static void make_disk(const char *path)
{
    uint8_t *bytes = new_sample(SIZE);

    for (uint64_t at = 0; at < SIZE; at += 5 * NTX_MIB)
        memset(bytes + at, 0, ntx_min64(NTX_MIB + 4096, SIZE - at));
    put_file(path, bytes, SIZE);
    free(bytes);
}

static int new_digests(void)
{
    int fd = memfd_create("digests", MFD_CLOEXEC);

    CHECK(fd >= 0 && ftruncate(fd, BLOCKS * NTX_DIGEST_SIZE) == 0);
    return fd;
}

static void copy(struct ntx_device *from, struct ntx_device *to, int digests)
{
    struct ntx_error err;
    struct ntx_job *job;
    struct ntx_job_progress progress = {0};
    size_t taken;
    struct ntx_job_options options = {
        .limits = {.connections = CONNECTIONS,
                   .in_flight = 8,
                   .request_size = 256 * NTX_KIB,
                   .max_buffer_bytes = 16 * NTX_MIB,
                   .timeout_ms = CHECK_TIMEOUT_MS},
        .disk_size = SIZE,
        .makes_checkpoints = true,
        .digest_fd = digests,
        .reference_fd = -1,
    };

    CHECK_OK(ntx_job_new(from, to, &options, &job, &err), err);
    CHECK_OK(ntx_job_start(job, &err), err);
    CHECK_OK(ntx_job_feed(job, &(struct ntx_extent){0, SIZE, 0}, 1, &taken, &err), err);
    ntx_job_feed_end(job);
    while (!progress.finished) {
        ntx_job_checkpoint(job);
        poll(NULL, 0, 1);
        ntx_job_progress(job, &progress);
    }
    CHECK_OK(ntx_job_join(job, &err), err);
    ntx_job_progress(job, &progress);
    CHECK_EQ_U64(progress.stored_to, SIZE);
    ntx_job_free(job);
}

static void check_same(int one, int other)
{
    uint8_t *expected = malloc(SIZE), *got = malloc(SIZE);
    ssize_t size = pread(one, expected, SIZE, 0);

    CHECK(size > 0 && pread(other, got, SIZE, 0) == size);
    CHECK(memcmp(expected, got, (size_t)size) == 0);
    free(expected);
    free(got);
}

static void test_a_disk_goes_to_a_server_and_back(void)
{
    pid_t pid = NBDKIT("memory", "33554944");
    struct ntx_device *server = open_server(pid, NTX_OPEN_WRITE);
    int there = new_digests(), back = new_digests(), copied;
    make_disk(file_path);

    struct ntx_device *disk = open_file(file_path, NTX_OPEN_READ, false);
    copy(disk, server, there);
    ntx_close(disk);
    int original = open(file_path, O_RDONLY);
    unlink(file_path);
    put_file(file_path, "", 0);
    CHECK(truncate(file_path, SIZE) == 0);
    disk = open_file(file_path, NTX_OPEN_WRITE, false);
    copy(server, disk, back);

    copied = open(file_path, O_RDONLY);
    check_same(original, copied);
    check_same(there, back);
    close(original);
    close(copied);
    close(there);
    close(back);
    ntx_close(disk);
    ntx_close(server);
    stop(pid);
}

int main(void)
{
    if (!is_installed("nbdkit"))
        SKIP("nbdkit is not installed");
    make_folder();
    RUN(test_a_disk_goes_to_a_server_and_back);
    return 0;
}
