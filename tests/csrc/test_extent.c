/* test_extent.c: a list is contiguous, merged and clipped by construction; lists from outside are checked. */
#include "check.h"
#include "extent.h"

#include <errno.h>

static void check_item(const struct ntx_extents *list, size_t i, uint64_t offset, uint64_t length, uint64_t flags)
{
    CHECK(i < list->count);
    CHECK_EQ_U64(list->items[i].offset, offset);
    CHECK_EQ_U64(list->items[i].length, length);
    CHECK_EQ_U64(list->items[i].flags, flags);
}

static void test_append_continues_and_merges_equal_neighbours(void)
{
    struct ntx_extent items[4];
    struct ntx_extents list;
    ntx_extents_init(&list, items, 4, 1000, 100);

    CHECK_EQ_INT(ntx_extents_append(&list, 10, 0), 0);
    CHECK_EQ_INT(ntx_extents_append(&list, 20, 0), 0);
    CHECK_EQ_INT(ntx_extents_append(&list, 30, NTX_EXTENT_ZERO), 0);
    CHECK_EQ_INT(ntx_extents_append(&list, 40, 0), 0);

    CHECK_EQ_U64(list.count, 3);
    check_item(&list, 0, 1000, 30, 0);
    check_item(&list, 1, 1030, 30, NTX_EXTENT_ZERO);
    check_item(&list, 2, 1060, 40, 0);
    CHECK(ntx_extents_is_complete(&list));
}

static void test_append_clips_at_the_limit(void)
{
    struct ntx_extent items[2];
    struct ntx_extents list;
    ntx_extents_init(&list, items, 2, 0, 100);

    CHECK_EQ_INT(ntx_extents_append(&list, UINT64_MAX, 0), 0);
    CHECK_EQ_INT(ntx_extents_append(&list, 5, NTX_EXTENT_ZERO), 0);

    CHECK_EQ_U64(list.count, 1);
    check_item(&list, 0, 0, 100, 0);
    CHECK_EQ_U64(list.end, 100);
}

static void test_append_of_nothing_stores_nothing(void)
{
    struct ntx_extent items[1];
    struct ntx_extents list;
    ntx_extents_init(&list, items, 1, 0, 100);

    CHECK_EQ_INT(ntx_extents_append(&list, 0, 0), 0);

    CHECK_EQ_U64(list.count, 0);
    CHECK(!ntx_extents_is_complete(&list));
}

static void test_full_list_refuses_but_still_merges(void)
{
    struct ntx_extent items[1];
    struct ntx_extents list;
    ntx_extents_init(&list, items, 1, 0, 100);
    ntx_extents_append(&list, 10, 0);

    CHECK_EQ_INT(ntx_extents_append(&list, 10, NTX_EXTENT_ZERO), -ENOSPC);
    CHECK_EQ_U64(list.end, 10);
    CHECK_EQ_INT(ntx_extents_append(&list, 5, 0), 0);

    CHECK_EQ_U64(list.end, 15);
    check_item(&list, 0, 0, 15, 0);
}

static void test_limit_does_not_wrap_around(void)
{
    struct ntx_extent items[1];
    struct ntx_extents list;

    ntx_extents_init(&list, items, 1, UINT64_MAX - 10, 100);
    ntx_extents_append(&list, 100, 0);

    CHECK_EQ_U64(list.end, UINT64_MAX);
    check_item(&list, 0, UINT64_MAX - 10, 10, 0);
}

static void test_check_takes_good_lists_across_calls(void)
{
    struct ntx_extent first[] = {{0, 10, 0}, {10, 5, NTX_EXTENT_ZERO}}, second[] = {{15, 1, 0}, {90, 10, 0}};
    struct ntx_error err;

    CHECK_OK(ntx_extents_check(first, 2, 0, 100, &err), err);
    CHECK_OK(ntx_extents_check(second, 2, 15, 100, &err), err);
    CHECK_OK(ntx_extents_check(NULL, 0, 100, 100, &err), err);
}

static void check_refused(struct ntx_extent extent, uint64_t previous_end, uint64_t size, const char *why)
{
    struct ntx_error err;

    CHECK_EQ_INT(ntx_extents_check(&extent, 1, previous_end, size, &err), -EINVAL);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_EQ_U64(err.offset, extent.offset);
    CHECK_EQ_U64(err.length, extent.length);
    CHECK_CONTAINS(err.text, why);
}

static void test_check_names_what_is_wrong(void)
{
    check_refused((struct ntx_extent){0, 0, 0}, 0, 100, "it is empty");
    check_refused((struct ntx_extent){0, 10, 2}, 0, 100, "unknown flags");
    check_refused((struct ntx_extent){9, 10, 0}, 10, 100, "overlaps");
    check_refused((struct ntx_extent){91, 10, 0}, 0, 100, "past the end");
    check_refused((struct ntx_extent){101, 1, 0}, 0, 100, "past the end");
    check_refused((struct ntx_extent){UINT64_MAX, 2, 0}, 0, UINT64_MAX, "past the end");
    check_refused((struct ntx_extent){1, UINT64_MAX, 0}, 0, UINT64_MAX, "past the end");
}

static void test_check_says_which_extent(void)
{
    struct ntx_extent extents[] = {{0, 10, 0}, {20, 10, 0}, {29, 10, 0}};
    struct ntx_error err;

    CHECK_EQ_INT(ntx_extents_check(extents, 3, 0, 100, &err), -EINVAL);

    CHECK_EQ_U64(err.offset, 29);
    CHECK_CONTAINS(err.text, "extent 2 refused: offset 29 length 10");
}

int main(void)
{
    RUN(test_append_continues_and_merges_equal_neighbours);
    RUN(test_append_clips_at_the_limit);
    RUN(test_append_of_nothing_stores_nothing);
    RUN(test_full_list_refuses_but_still_merges);
    RUN(test_limit_does_not_wrap_around);
    RUN(test_check_takes_good_lists_across_calls);
    RUN(test_check_names_what_is_wrong);
    RUN(test_check_says_which_extent);
    return 0;
}
