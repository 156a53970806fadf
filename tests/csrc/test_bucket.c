/* test_bucket.c: the rate holds exactly, at any rate, over any time.  The clock is a number. */
#include "bucket.h"
#include "check.h"

#define S 1000000000ull
#define START (1000 * S)

static void test_rate_0_never_waits(void)
{
    struct ntx_bucket bucket;
    ntx_bucket_init(&bucket, 0, START);

    for (int i = 0; i < 10; i++)
        CHECK_EQ_U64(ntx_bucket_take(&bucket, UINT64_MAX, START), 0);
}

static void test_burst_goes_out_at_once_and_no_more(void)
{
    struct ntx_bucket bucket;
    ntx_bucket_init(&bucket, 1000, START);

    CHECK_EQ_U64(ntx_bucket_take(&bucket, 100, START), 0);
    CHECK_EQ_U64(ntx_bucket_take(&bucket, 1, START), S / 1000);
}

static void test_debts_queue_in_order(void)
{
    struct ntx_bucket bucket;
    ntx_bucket_init(&bucket, 1000, START);
    ntx_bucket_take(&bucket, 100, START);

    CHECK_EQ_U64(ntx_bucket_take(&bucket, 500, START), S / 2);
    CHECK_EQ_U64(ntx_bucket_take(&bucket, 500, START), S);
    CHECK_EQ_U64(ntx_bucket_take(&bucket, 500, START + S), S / 2);
}

static void test_a_long_pause_saves_up_no_more_than_the_burst(void)
{
    struct ntx_bucket bucket;
    ntx_bucket_init(&bucket, 1000, START);
    ntx_bucket_take(&bucket, 5000, START);

    uint64_t later_ns = START + 3600 * S;

    CHECK_EQ_U64(ntx_bucket_take(&bucket, 100, later_ns), 0);
    CHECK_EQ_U64(ntx_bucket_take(&bucket, 1000, later_ns), S);
}

/* Take and wait as told, many times: what went out must be what the rate permits, to the nanosecond. */
static void check_exact(uint64_t rate, uint64_t length, unsigned times)
{
    struct ntx_bucket bucket;
    uint64_t now_ns = START, total = 0;
    ntx_bucket_init(&bucket, rate, now_ns);

    for (unsigned i = 0; i < times; i++) {
        now_ns += ntx_bucket_take(&bucket, length, now_ns);
        total += length;
    }

    /* Long double has 64 bits here: enough to compare, and another arithmetic than the one under test. */
    long double expected_s = (long double)total / (long double)rate - (long double)NTX_BUCKET_BURST_NS / S;
    long double difference_ns = (long double)(now_ns - START) - (expected_s > 0 ? expected_s : 0) * S;
    if (difference_ns < -2 || difference_ns > 2)
        CHECK_FAIL("rate %" PRIu64 " length %" PRIu64 ": off by %.1Lf ns", rate, length, difference_ns);
}

static void test_rates_from_1_byte_to_100_gib_per_second_are_exact(void)
{
    static const uint64_t rates[] = {1,           3,          1000,         999983,        NTX_MIB,
                                     NTX_GIB + 7, 3000000001, 10 * NTX_GIB, 100 * NTX_GIB, 100 * NTX_GIB - 1};

    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        check_exact(rates[i], NTX_BLOCK_SIZE, 2000);
        check_exact(rates[i], NTX_MAX_REQUEST_SIZE, 200);
        check_exact(rates[i], 1, 2000);
        check_exact(rates[i], 12345677, 500);
    }
}

static void test_extremes_do_not_overflow(void)
{
    struct ntx_bucket slow, fast, late;
    ntx_bucket_init(&slow, 1, 0);
    ntx_bucket_init(&fast, UINT64_MAX, 0);
    ntx_bucket_init(&late, 1, UINT64_MAX);

    CHECK_EQ_U64(ntx_bucket_take(&slow, UINT64_MAX, 0), NTX_BUCKET_MAX_TAKE * S);
    CHECK_EQ_U64(ntx_bucket_take(&slow, UINT64_MAX, 0), UINT64_MAX);
    CHECK_EQ_U64(fast.rate_bytes_per_s, NTX_BUCKET_MAX_RATE);
    CHECK_EQ_U64(ntx_bucket_take(&fast, 1024 * NTX_GIB, 0), S / 64);
    CHECK_EQ_U64(ntx_bucket_take(&late, 10, UINT64_MAX), 0);
}

static void test_a_clock_that_stands_still_is_no_gift(void)
{
    struct ntx_bucket bucket;
    ntx_bucket_init(&bucket, 1000, START);
    uint64_t last_ns = 0;

    for (int i = 0; i < 50; i++) {
        uint64_t wait_ns = ntx_bucket_take(&bucket, 1000, START);
        CHECK(wait_ns > last_ns);
        last_ns = wait_ns;
    }
}

int main(void)
{
    RUN(test_rate_0_never_waits);
    RUN(test_burst_goes_out_at_once_and_no_more);
    RUN(test_debts_queue_in_order);
    RUN(test_a_long_pause_saves_up_no_more_than_the_burst);
    RUN(test_rates_from_1_byte_to_100_gib_per_second_are_exact);
    RUN(test_extremes_do_not_overflow);
    RUN(test_a_clock_that_stands_still_is_no_gift);
    return 0;
}
