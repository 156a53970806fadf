/*
 * direct.c: the bare ways to read a block device past the page cache and digest what was read.
 *
 *   pread    threads, each with one blocking read of O_DIRECT at a time
 *   uring    one thread, an io_uring with registered buffers and a registered file, reads in flight while it digests
 *
 * For bench/notes: whether a ring is worth a second reader in the engine.  Needs liburing.
 *
 *   direct WAY DEVICE [threads, or reads in flight [request KiB]]
 *   -> one line of JSON: seconds, CPU seconds, bytes, sum of the digests
 */
#define _GNU_SOURCE
#include "bytes.h"
#include "digest.h"
#include "zero.h"

#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_COUNT 64

static int fd;
static unsigned count = 4;
static size_t request_size = 1 << 20;
static uint64_t size;
static _Atomic uint64_t next_offset, digests;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void look(const uint8_t *data, size_t length)
{
    uint8_t digest[16];
    uint64_t sum = 0;

    for (size_t at = 0; at < length; at += 65536) {
        size_t block = length - at < 65536 ? length - at : 65536;
        if (ntx_is_zero(data + at, block))
            continue;
        ntx_digest(data + at, block, digest);
        sum += ntx_get64(digest);
    }
    digests += sum;
}

static uint8_t *new_buffers(size_t bytes)
{
    void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        die("mmap");
    madvise(region, bytes, MADV_HUGEPAGE);
    return region;
}

static size_t length_at(uint64_t offset)
{
    return size - offset < request_size ? (size_t)(size - offset) : request_size;
}

static void *pread_all(void *unused)
{
    uint8_t *buffer = new_buffers(request_size);
    uint64_t offset;

    (void)unused;
    while ((offset = atomic_fetch_add(&next_offset, request_size)) < size) {
        if (pread(fd, buffer, length_at(offset), (off_t)offset) != (ssize_t)length_at(offset))
            die("pread");
        look(buffer, length_at(offset));
    }
    return NULL;
}

static void submit(struct io_uring *ring, uint8_t *buffers, uint64_t number)
{
    uint64_t offset = atomic_fetch_add(&next_offset, request_size);
    if (offset >= size)
        return;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_read_fixed(sqe, 0, buffers + number * request_size, (unsigned)length_at(offset), offset, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = number;
    if (io_uring_submit(ring) < 0)
        die("io_uring_submit");
}

static void uring_all(void)
{
    struct io_uring ring;
    uint8_t *buffers = new_buffers(count * request_size);
    struct iovec region = {buffers, count * request_size};
    uint64_t done = 0;

    if (io_uring_queue_init(MAX_COUNT, &ring, 0) < 0 || io_uring_register_buffers(&ring, &region, 1) < 0 ||
        io_uring_register_files(&ring, &fd, 1) < 0)
        die("io_uring");
    for (unsigned i = 0; i < count; i++)
        submit(&ring, buffers, i);
    while (done < size) {
        struct io_uring_cqe *cqe;
        if (io_uring_wait_cqe(&ring, &cqe) < 0 || cqe->res <= 0)
            die("io_uring_wait_cqe");
        uint64_t number = cqe->user_data;
        size_t length = (size_t)cqe->res;
        io_uring_cqe_seen(&ring, cqe);
        look(buffers + number * request_size, length);
        done += length;
        submit(&ring, buffers, number);
    }
    io_uring_queue_exit(&ring);
}

int main(int argc, char **argv)
{
    struct timespec began, ended;
    struct rusage used;
    pthread_t threads[MAX_COUNT];

    if (argc < 3 || (strcmp(argv[1], "pread") != 0 && strcmp(argv[1], "uring") != 0)) {
        fprintf(stderr, "usage: direct pread|uring DEVICE [threads, or reads in flight [request KiB]]\n");
        return 2;
    }
    if (argc > 3)
        count = (unsigned)atoi(argv[3]);
    if (argc > 4)
        request_size = (size_t)atoi(argv[4]) << 10;
    if (count < 1 || count > MAX_COUNT || (fd = open(argv[2], O_RDONLY | O_DIRECT)) < 0)
        die(argv[2]);
    size = (uint64_t)lseek(fd, 0, SEEK_END);
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (strcmp(argv[1], "uring") == 0) {
        uring_all();
    } else {
        for (unsigned i = 0; i < count; i++)
            pthread_create(&threads[i], NULL, pread_all, NULL);
        for (unsigned i = 0; i < count; i++)
            pthread_join(threads[i], NULL);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    getrusage(RUSAGE_SELF, &used);
    printf("{\"way\": \"%s\", \"seconds\": %.4f, \"cpu_seconds\": %.4f, \"bytes\": %llu, \"digests\": \"%016llx\"}\n",
           argv[1], (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
           (unsigned long long)size, (unsigned long long)digests);
    return 0;
}
