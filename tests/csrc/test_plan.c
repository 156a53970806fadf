/* Extents in, work ranges out: nothing lost, nothing twice, cut at blocks. */
#include "bytes.h"
#include "check.h"
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE (64ull * NTX_MIB + 100)

static struct ntx_plan plan;
static struct ntx_error err;

static void feed(const struct ntx_extent *extents, size_t count)
{
    size_t taken;
    CHECK_EQ_INT(ntx_plan_feed(&plan, extents, count, &taken, &err), 0);
    CHECK_EQ_U64(taken, count);
}

static void test_large_extent_is_cut_at_block_boundaries(void)
{
    struct ntx_work_range range;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = 4 * NTX_MIB}, &err), 0);
    feed(&(struct ntx_extent){5, SIZE - 5, 0}, 1);
    plan.ended = true;

    uint64_t end = 5;
    while (ntx_plan_take(&plan, &range) == NTX_TAKE_RANGE) {
        CHECK_EQ_U64(range.count, 1);
        CHECK_EQ_U64(range.extents[0].offset, end);
        CHECK(end == 5 || end % NTX_BLOCK_SIZE == 0);
        CHECK(range.bytes <= 4 * NTX_MIB);
        end += range.extents[0].length;
    }

    CHECK_EQ_U64(end, SIZE);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_END);
    ntx_plan_destroy(&plan);
}

static void test_ranges_become_smaller_when_little_is_left_for_all_workers(void)
{
    const struct ntx_range_bytes bytes = {.most = 8 * NTX_MIB, .least = NTX_MIB, .workers = 4};
    struct ntx_work_range range;
    uint64_t left = SIZE;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &bytes, &err), 0);
    feed(&(struct ntx_extent){0, left, 0}, 1);

    /* While more may be fed, nobody knows what is left. */
    for (int i = 0; i < 6; i++, left -= range.bytes) {
        CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
        CHECK_EQ_U64(range.bytes, 8 * NTX_MIB);
    }
    plan.ended = true;
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.bytes, 2 * NTX_MIB); /* of 16 for 4 workers */
    left -= range.bytes;
    for (; ntx_plan_take(&plan, &range) == NTX_TAKE_RANGE; left -= range.bytes)
        CHECK_EQ_U64(range.bytes, left < 2 * NTX_MIB ? left : NTX_MIB);

    CHECK_EQ_U64(left, 0);
    ntx_plan_destroy(&plan);
}

static void test_the_last_ranges_of_sparse_extents_have_many_blocks(void)
{
    const struct ntx_range_bytes bytes = {.most = 8 * NTX_MIB, .least = NTX_MIB, .workers = 4};
    struct ntx_work_range range;
    size_t ranges = 0;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &bytes, &err), 0);
    for (uint64_t i = 0; i < 512; i++)
        feed(&(struct ntx_extent){i * NTX_BLOCK_SIZE, 512, 0}, 1);
    plan.ended = true;

    for (; ntx_plan_take(&plan, &range) == NTX_TAKE_RANGE; ranges++)
        ;

    CHECK_EQ_U64(ranges, 16); /* 32 MiB of blocks, two at once: what is left is less than two */
    ntx_plan_destroy(&plan);
}

static void test_extents_of_one_block_stay_together(void)
{
    struct ntx_work_range range;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_BLOCK_SIZE}, &err), 0);
    feed((struct ntx_extent[]){{0, 512, 0}, {1024, 512, 0}, {65000, 1000, 0}, {70000, 512, 0}, {140000, 1, 0}}, 5);

    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);

    /* The third extent reaches into the second block: only what lies in the first belongs to this range. */
    CHECK_EQ_U64(range.count, 3);
    CHECK_EQ_U64(range.extents[2].length, NTX_BLOCK_SIZE - 65000);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.count, 2);
    CHECK_EQ_U64(range.extents[0].offset, NTX_BLOCK_SIZE);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_WAIT);
    ntx_plan_destroy(&plan);
}

static void test_a_block_waits_for_its_last_extent(void)
{
    struct ntx_work_range range;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_MIB}, &err), 0);
    feed((struct ntx_extent[]){{0, NTX_BLOCK_SIZE + 10, 0}}, 1);

    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.bytes, NTX_BLOCK_SIZE);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_WAIT);

    feed((struct ntx_extent[]){{NTX_BLOCK_SIZE + 20, 10, 0}, {SIZE - 5, 1, 0}}, 2);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.count, 2);
    CHECK_EQ_U64(range.bytes, 20);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_WAIT);
    feed((struct ntx_extent[]){{SIZE - 1, 1, 0}}, 1); /* nothing can come behind the end */
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.count, 2);
    ntx_plan_destroy(&plan);
}

static void test_a_block_of_single_bytes_is_one_range(void)
{
    struct ntx_work_range range;
    struct ntx_extent *bytes = calloc(NTX_PLAN_EXTENTS, sizeof *bytes);
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_MIB}, &err), 0);
    for (uint64_t i = 0; i < NTX_PLAN_EXTENTS; i++)
        bytes[i] = (struct ntx_extent){i, 1, i % 2 == 0 ? NTX_EXTENT_ZERO : 0};
    feed(bytes, NTX_PLAN_EXTENTS);

    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);

    CHECK_EQ_U64(range.count, NTX_BLOCK_SIZE);
    CHECK(memcmp(range.extents, bytes, NTX_BLOCK_SIZE * sizeof *bytes) == 0);
    ntx_work_range_destroy(&range);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_WAIT);
    free(bytes);
    ntx_plan_destroy(&plan);
}

static void test_a_block_that_is_not_whole_wants_its_rest_however_much_of_it_there_is(void)
{
    struct ntx_work_range range;
    struct ntx_extent *bytes = calloc(NTX_PLAN_EXTENTS, sizeof *bytes);
    for (size_t i = 1; bytes != NULL && i < NTX_PLAN_EXTENTS; i++)
        bytes[i] = (struct ntx_extent){NTX_BLOCK_SIZE + i - 1, 1, i % 2};
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_MIB}, &err), 0);
    bytes[0] = (struct ntx_extent){0, 1, 0};
    feed(bytes, NTX_PLAN_EXTENTS);
    CHECK(!ntx_plan_wants_extents(&plan)); /* full, and there is a whole block to take */

    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.count, 1);
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_WAIT);
    CHECK(ntx_plan_wants_extents(&plan));

    feed(&(struct ntx_extent){2 * NTX_BLOCK_SIZE - 1, 1, 0}, 1);
    CHECK(!ntx_plan_wants_extents(&plan));
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_U64(range.count, NTX_BLOCK_SIZE);
    ntx_work_range_destroy(&range);
    free(bytes);
    ntx_plan_destroy(&plan);
}

static void test_extents_that_share_blocks_do_not_make_a_range_endless(void)
{
    struct ntx_work_range range;
    uint64_t at = 100;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = 128 * NTX_MIB}, &err), 0);
    for (; at + NTX_BLOCK_SIZE < SIZE; at += NTX_BLOCK_SIZE)
        feed(&(struct ntx_extent){at, NTX_BLOCK_SIZE - 1, 0}, 1);
    plan.ended = true;

    while (ntx_plan_take(&plan, &range) == NTX_TAKE_RANGE) {
        CHECK(range.count <= NTX_RANGE_EXTENTS + 1);
        const struct ntx_extent *last = &range.extents[range.count - 1];
        CHECK((last->offset + last->length) % NTX_BLOCK_SIZE == 0 || plan.count == 0);
    }

    ntx_plan_destroy(&plan);
}

static void test_many_small_extents_fill_ranges_by_number(void)
{
    struct ntx_work_range range;
    size_t total = 0;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = 128 * NTX_MIB}, &err), 0);
    for (uint64_t i = 0; i < 1000; i++)
        feed(&(struct ntx_extent){i * 10000, 1, 0}, 1);
    plan.ended = true;

    while (ntx_plan_take(&plan, &range) == NTX_TAKE_RANGE) {
        CHECK(range.count < NTX_RANGE_EXTENTS + 7); /* the last block is whole */
        total += range.count;
    }

    CHECK_EQ_U64(total, 1000);
    ntx_plan_destroy(&plan);
}

static void test_full_plan_takes_what_it_has_room_for(void)
{
    size_t taken;
    struct ntx_work_range range;
    struct ntx_extent *many = calloc(NTX_PLAN_EXTENTS + 10, sizeof *many);
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_MIB}, &err), 0);
    for (uint64_t i = 0; i < NTX_PLAN_EXTENTS + 10; i++)
        many[i] = (struct ntx_extent){i * 100, 50, 0};
    CHECK(ntx_plan_wants_extents(&plan));

    CHECK_EQ_INT(ntx_plan_feed(&plan, many, NTX_PLAN_EXTENTS + 10, &taken, &err), 0);

    CHECK_EQ_U64(taken, NTX_PLAN_EXTENTS);
    CHECK(!ntx_plan_wants_extents(&plan));
    CHECK_EQ_INT(ntx_plan_take(&plan, &range), NTX_TAKE_RANGE);
    CHECK_EQ_INT(ntx_plan_feed(&plan, many + taken, 10, &taken, &err), 0);
    CHECK_EQ_U64(taken, 10);
    ntx_work_range_destroy(&range);
    free(many);
    ntx_plan_destroy(&plan);
}

static void test_wrong_extents_are_refused_with_their_place(void)
{
    static const struct ntx_extent wrong[] = {
        {50, 10, 0}, {SIZE, 1, 0}, {200, 0, 0}, {200, UINT64_MAX, 0}, {200, 1, 8}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        size_t taken;
        CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_MIB}, &err), 0);
        feed(&(struct ntx_extent){0, 100, 0}, 1);

        CHECK_EQ_INT(ntx_plan_feed(&plan, &wrong[i], 1, &taken, &err), -EINVAL);

        CHECK_EQ_U64(err.offset, wrong[i].offset);
        CHECK_EQ_U64(plan.count, 1);
        ntx_plan_destroy(&plan);
    }
}

static void test_nothing_is_fed_after_the_end(void)
{
    size_t taken;
    CHECK_EQ_INT(ntx_plan_init(&plan, SIZE, &(struct ntx_range_bytes){.most = NTX_MIB}, &err), 0);
    plan.ended = true;

    CHECK_EQ_INT(ntx_plan_feed(&plan, &(struct ntx_extent){0, 1, 0}, 1, &taken, &err), -EPIPE);

    ntx_plan_destroy(&plan);
}

int main(void)
{
    RUN(test_large_extent_is_cut_at_block_boundaries);
    RUN(test_ranges_become_smaller_when_little_is_left_for_all_workers);
    RUN(test_the_last_ranges_of_sparse_extents_have_many_blocks);
    RUN(test_extents_of_one_block_stay_together);
    RUN(test_a_block_waits_for_its_last_extent);
    RUN(test_a_block_of_single_bytes_is_one_range);
    RUN(test_a_block_that_is_not_whole_wants_its_rest_however_much_of_it_there_is);
    RUN(test_extents_that_share_blocks_do_not_make_a_range_endless);
    RUN(test_many_small_extents_fill_ranges_by_number);
    RUN(test_full_plan_takes_what_it_has_room_for);
    RUN(test_wrong_extents_are_refused_with_their_place);
    RUN(test_nothing_is_fed_after_the_end);
    return 0;
}
