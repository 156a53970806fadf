/* test_buffer.c: buffers are aligned, apart from each other, zeroed, and never more than there are. */
#include "buffer.h"
#include "check.h"
#include "zero.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#define COUNT 5u
#define SIZE 10000u /* not a multiple of a page */

static void test_buffers_are_page_aligned_zeroed_and_apart(void)
{
    struct ntx_buffers *pool = ntx_buffers_new(COUNT, SIZE);
    uint8_t *buffers[COUNT];

    for (unsigned i = 0; i < COUNT; i++) {
        buffers[i] = ntx_buffers_take(pool);
        CHECK(buffers[i] != NULL);
        CHECK_EQ_U64((uintptr_t)buffers[i] % 4096, 0);
        CHECK(ntx_is_zero_scalar(buffers[i], SIZE));
        memset(buffers[i], (int)i + 1, SIZE);
    }
    for (unsigned i = 0; i < COUNT; i++)
        for (size_t at = 0; at < SIZE; at++)
            CHECK_EQ_U64(buffers[i][at], i + 1);
    ntx_buffers_free(pool);
}

static void test_an_empty_pool_gives_nothing_until_one_comes_back(void)
{
    struct ntx_buffers *pool = ntx_buffers_new(2, SIZE);
    void *first = ntx_buffers_take(pool), *second = ntx_buffers_take(pool);

    CHECK(first != second);
    CHECK(ntx_buffers_take(pool) == NULL);
    ntx_buffers_give(pool, NULL);
    CHECK(ntx_buffers_take(pool) == NULL);
    ntx_buffers_give(pool, first);
    CHECK(ntx_buffers_take(pool) == first);
    ntx_buffers_free(pool);
}

static void test_the_last_one_given_is_taken_first(void)
{
    struct ntx_buffers *pool = ntx_buffers_new(3, SIZE);
    void *a = ntx_buffers_take(pool), *b = ntx_buffers_take(pool), *c = ntx_buffers_take(pool);

    ntx_buffers_give(pool, c);
    ntx_buffers_give(pool, a);
    ntx_buffers_give(pool, b);

    CHECK(ntx_buffers_take(pool) == b);
    CHECK(ntx_buffers_take(pool) == a);
    CHECK(ntx_buffers_take(pool) == c);
    ntx_buffers_free(pool);
}

static void test_sizes_that_no_memory_holds_are_refused(void)
{
    CHECK(ntx_buffers_new(0, SIZE) == NULL);
    CHECK(ntx_buffers_new(COUNT, 0) == NULL);
    CHECK(ntx_buffers_new(COUNT, SIZE_MAX) == NULL);
    CHECK(ntx_buffers_new(UINT32_MAX, SIZE_MAX / 4) == NULL);
    CHECK(ntx_buffers_new(1u << 16, (size_t)1 << 40) == NULL);
    ntx_buffers_free(NULL);
}

static void test_what_nobody_holds_is_poisoned(void)
{
#ifdef __SANITIZE_ADDRESS__
    struct ntx_buffers *pool = ntx_buffers_new(1, SIZE);
    uint8_t *buffer = ntx_buffers_take(pool);

    CHECK(__asan_region_is_poisoned(buffer, SIZE) == NULL);
    CHECK(__asan_address_is_poisoned(buffer + SIZE));
    ntx_buffers_give(pool, buffer);
    CHECK(__asan_address_is_poisoned(buffer));
    CHECK(__asan_address_is_poisoned(buffer + SIZE - 1));
    ntx_buffers_free(pool);
    CHECK(!__asan_address_is_poisoned(buffer));
#endif
}

static void test_so_many_bytes_are_taken_as_are_said(void)
{
    CHECK_EQ_U64(ntx_buffers_bytes(COUNT, SIZE), COUNT * 12288);
    /* From a huge page on, as many whole ones as it takes. */
    CHECK_EQ_U64(ntx_buffers_bytes(3, NTX_MIB), 4 * NTX_MIB);
    CHECK_EQ_U64(ntx_buffers_bytes(1, 0), 0);
    CHECK_EQ_U64(ntx_buffers_bytes(2, SIZE_MAX / 2), 0);
}

int main(void)
{
    RUN(test_buffers_are_page_aligned_zeroed_and_apart);
    RUN(test_an_empty_pool_gives_nothing_until_one_comes_back);
    RUN(test_the_last_one_given_is_taken_first);
    RUN(test_sizes_that_no_memory_holds_are_refused);
    RUN(test_so_many_bytes_are_taken_as_are_said);
    RUN(test_what_nobody_holds_is_poisoned);
    return 0;
}
