/* test_clock.c: deadlines become times to wait. */
#include "clock.h"

#include "check.h"

#include <limits.h>

static void test_the_monotonic_clock_does_not_go_back(void)
{
    uint64_t before = ntx_now_ns();

    for (int i = 0; i < 1000; i++) {
        uint64_t now = ntx_now_ns();
        CHECK(now >= before);
        before = now;
    }
}

static void test_processor_time_grows_with_work(void)
{
    uint64_t before = ntx_thread_cpu_ns();

    while (ntx_thread_cpu_ns() == before)
        ;

    CHECK(ntx_thread_cpu_ns() > before);
}

static void test_a_deadline_lies_its_time_limit_ahead(void)
{
    CHECK_EQ_U64(ntx_deadline_ns(7, 1500), 7 + 1500 * NTX_NS_PER_MS);
    CHECK_EQ_U64(ntx_deadline_ns(7, UINT_MAX), 7 + UINT_MAX * NTX_NS_PER_MS);
}

static void test_what_is_left_is_rounded_up_and_never_negative(void)
{
    CHECK_EQ_INT(ntx_left_ms(5, 5), 0);
    CHECK_EQ_INT(ntx_left_ms(6, 5), 0);
    CHECK_EQ_INT(ntx_left_ms(5, 6), 1);
    CHECK_EQ_INT(ntx_left_ms(0, NTX_NS_PER_MS), 1);
    CHECK_EQ_INT(ntx_left_ms(0, NTX_NS_PER_MS + 1), 2);
}

static void test_never_is_as_long_as_poll_can_wait(void)
{
    CHECK_EQ_INT(ntx_left_ms(0, UINT64_MAX), INT_MAX);
    CHECK_EQ_INT(ntx_left_ms(5, UINT64_MAX), INT_MAX);
}

int main(void)
{
    RUN(test_the_monotonic_clock_does_not_go_back);
    RUN(test_processor_time_grows_with_work);
    RUN(test_a_deadline_lies_its_time_limit_ahead);
    RUN(test_what_is_left_is_rounded_up_and_never_negative);
    RUN(test_never_is_as_long_as_poll_can_wait);
    return 0;
}
