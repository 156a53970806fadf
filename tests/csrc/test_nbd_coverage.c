/* test_nbd_coverage.c: the parts of a read are each answered once, in any order, and all of them. */
#include "check.h"
#include "nbd_coverage.h"

#include <errno.h>

static void test_parts_in_any_order_merge_into_one(void)
{
    static const uint32_t orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {3, 0, 2, 1}, {1, 3, 0, 2}};

    for (size_t order = 0; order < sizeof orders / sizeof orders[0]; order++) {
        struct ntx_nbd_coverage coverage = {0};

        for (unsigned i = 0; i < 4; i++) {
            CHECK(!ntx_nbd_coverage_is_whole(&coverage, 40));
            CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, orders[order][i] * 10, orders[order][i] * 10 + 10), 0);
        }

        CHECK_EQ_U64(coverage.count, 1);
        CHECK(ntx_nbd_coverage_is_whole(&coverage, 40));
        CHECK(!ntx_nbd_coverage_is_whole(&coverage, 41));
    }
}

static void test_overlap_at_any_edge_is_found_and_changes_nothing(void)
{
    static const struct ntx_nbd_interval overlaps[] = {{10, 20}, {9, 11}, {19, 21}, {12, 13}, {0, 100}, {10, 11}};
    struct ntx_nbd_coverage coverage = {0};

    CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, 10, 20), 0);
    CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, 30, 40), 0);

    for (size_t i = 0; i < sizeof overlaps / sizeof overlaps[0]; i++)
        CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, overlaps[i].start, overlaps[i].end), -EEXIST);
    CHECK_EQ_U64(coverage.count, 2);
    CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, 20, 30), 0);
    CHECK_EQ_U64(coverage.count, 1);
}

static void test_too_many_scattered_parts_are_refused(void)
{
    struct ntx_nbd_coverage coverage = {0};

    for (uint32_t i = 0; i < NTX_NBD_MAX_INTERVALS; i++)
        CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, i * 10, i * 10 + 1), 0);

    CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, 5, 6), -ENOSPC);
    CHECK_EQ_INT(ntx_nbd_coverage_add(&coverage, 1, 2), 0);
    CHECK_EQ_U64(coverage.count, NTX_NBD_MAX_INTERVALS);
}

int main(void)
{
    RUN(test_parts_in_any_order_merge_into_one);
    RUN(test_overlap_at_any_edge_is_found_and_changes_nothing);
    RUN(test_too_many_scattered_parts_are_refused);
    return 0;
}
