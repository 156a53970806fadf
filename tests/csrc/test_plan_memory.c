/* test_plan_memory.c: no memory for a block of very many extents.  The plan is compiled in here, with its allocator. */
#define _GNU_SOURCE /* memfd_create */
#include <stdlib.h>

static void *no_memory(void *old, size_t size)
{
    (void)old;
    (void)size;
    return NULL;
}

#define realloc no_memory
#include "../../csrc/plan.c"
#undef realloc

#include "job_bench.h"

static void test_extents_that_found_no_memory_are_not_stored(void)
{
    struct bench b;
    struct ntx_extent extents[NTX_RANGE_ROOM + 100];
    size_t count = sizeof extents / sizeof *extents;
    setup(&b);
    b.options.limits.connections = 1;
    for (size_t i = 0; i < count; i++)
        extents[i] = (struct ntx_extent){NTX_BLOCK_SIZE + 2 * i, 1, 0};

    CHECK_EQ_INT(run(&b, extents, count), -ENOMEM);

    CHECK_EQ_INT(b.err.class, NTX_E_SYSTEM);
    CHECK_CONTAINS(b.err.text, "no memory for the extents of a block: more than 384");
    CHECK_EQ_U64(b.progress.stored_to, NTX_BLOCK_SIZE); /* nothing was fed below it */
    CHECK(memcmp(b.before, b.target.bytes, SIZE) == 0);
    teardown(&b);
}

int main(void)
{
    RUN(test_extents_that_found_no_memory_are_not_stored);
    return 0;
}
