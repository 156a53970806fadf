/* buffer.c: see buffer.h. */
#include "buffer.h"

#include "bytes.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(at, size) __asan_poison_memory_region(at, size)
#define UNPOISON(at, size) __asan_unpoison_memory_region(at, size)
#else
#define POISON(at, size) ((void)(at), (void)(size))
#define UNPOISON(at, size) ((void)(at), (void)(size))
#endif

#define HUGE_PAGE_SIZE ((size_t)2 * NTX_MIB) /* of amd64 and, with pages of 4 KiB, arm64; elsewhere only a size */

struct ntx_buffers {
    uint8_t *region;
    size_t buffer_size; /* bytes, as asked for */
    size_t stride;      /* bytes from one buffer to the next: buffer_size up to whole pages */
    size_t region_size;
    unsigned count;
    unsigned free_count;
    unsigned free_numbers[];
};

static size_t stride_of(size_t buffer_size)
{
    return ntx_round_up(buffer_size, (size_t)sysconf(_SC_PAGESIZE));
}

size_t ntx_buffers_bytes(unsigned count, size_t buffer_size)
{
    size_t region_size;

    if (buffer_size == 0 || buffer_size > SIZE_MAX - HUGE_PAGE_SIZE ||
        __builtin_mul_overflow(stride_of(buffer_size), count, &region_size) || region_size > SIZE_MAX - HUGE_PAGE_SIZE)
        return 0;
    /* Linux puts a mapping where huge pages fit only if it consists of whole ones.  What is behind is touched only as a
     * part of the last one. */
    return region_size >= HUGE_PAGE_SIZE ? ntx_round_up(region_size, HUGE_PAGE_SIZE) : region_size;
}

struct ntx_buffers *ntx_buffers_new(unsigned count, size_t buffer_size)
{
    size_t region_size = ntx_buffers_bytes(count, buffer_size);

    if (region_size == 0)
        return NULL;
    struct ntx_buffers *pool = malloc(sizeof *pool + count * sizeof pool->free_numbers[0]);
    if (pool == NULL)
        return NULL;
    void *region = mmap(NULL, region_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) {
        free(pool);
        return NULL;
    }
    /* Fewer faults, and pages that lie together are sent by reference together.  Only a wish. */
    (void)madvise(region, region_size, MADV_HUGEPAGE);
    *pool = (struct ntx_buffers){
        .region = region,
        .buffer_size = buffer_size,
        .stride = stride_of(buffer_size),
        .region_size = region_size,
        .count = count,
        .free_count = count,
    };
    for (unsigned i = 0; i < count; i++)
        pool->free_numbers[i] = count - 1 - i;
    POISON(region, region_size);
    return pool;
}

void *ntx_buffers_take(struct ntx_buffers *pool)
{
    if (pool->free_count == 0)
        return NULL;
    uint8_t *buffer = pool->region + pool->free_numbers[--pool->free_count] * pool->stride;
    UNPOISON(buffer, pool->buffer_size);
    return buffer;
}

void ntx_buffers_give(struct ntx_buffers *pool, void *buffer)
{
    if (buffer == NULL)
        return;
    POISON(buffer, pool->stride);
    pool->free_numbers[pool->free_count++] = (unsigned)((size_t)((uint8_t *)buffer - pool->region) / pool->stride);
}

void ntx_buffers_free(struct ntx_buffers *pool)
{
    if (pool == NULL)
        return;
    UNPOISON(pool->region, pool->region_size); /* the addresses may be mapped again by anybody */
    munmap(pool->region, pool->region_size);
    free(pool);
}
