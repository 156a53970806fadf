/* test_cpu_bucket.c: the share holds over a minute, whoever takes the processor time.  The clocks are numbers. */
#include "check.h"
#include "cpu_bucket.h"

#define MS 1000000ull
#define S (1000 * MS)
#define START (1000 * S)
#define SHARE 100000u /* a tenth of a processor */

static struct ntx_cpu_bucket bucket;

static void begin(uint64_t share_ppm, uint64_t process_ns)
{
    ntx_cpu_bucket_init(&bucket);
    ntx_cpu_bucket_change(&bucket, share_ppm, START, process_ns);
}

/* Take cost_ns of the process and others_ns of others each time it may be; return what was taken in a minute. */
static uint64_t take_for_a_minute(uint64_t cost_ns, uint64_t others_ns)
{
    uint64_t now_ns = START, process_ns = 7 * S, others = 0;

    begin(SHARE, process_ns);
    while (now_ns < START + 60 * S) {
        uint64_t wait_ns = ntx_cpu_bucket_ask(&bucket, now_ns, process_ns);
        CHECK(wait_ns <= NTX_CPU_MAX_WAIT_NS);
        if (wait_ns == 0) {
            process_ns += cost_ns;
            others += others_ns;
            atomic_store(&bucket.others_ns, others);
            wait_ns = cost_ns / 2; /* two threads */
        }
        now_ns += wait_ns;
    }
    ntx_cpu_bucket_destroy(&bucket);
    return process_ns - 7 * S + others;
}

static void test_the_share_holds_over_a_minute(void)
{
    uint64_t costs[] = {100000, MS, 20 * MS, 300 * MS};

    for (unsigned i = 0; i < 4; i++) {
        uint64_t taken_ns = take_for_a_minute(costs[i], 0), of_both_ns = take_for_a_minute(costs[i], 3 * costs[i]);
        CHECK(taken_ns >= 5800 * MS && taken_ns <= 6400 * MS);
        CHECK(of_both_ns >= 5800 * MS && of_both_ns <= 7300 * MS);
    }
}

static void test_what_was_idle_saves_no_more_than_a_burst(void)
{
    begin(SHARE, 0);

    CHECK(ntx_cpu_bucket_ask(&bucket, START + 7200 * S, 0) == 0);
    CHECK(ntx_cpu_bucket_ask(&bucket, START + 7200 * S, 99 * MS) == 0);
    CHECK(ntx_cpu_bucket_ask(&bucket, START + 7200 * S, 101 * MS) == 10 * MS + 1);
    ntx_cpu_bucket_destroy(&bucket);
}

static void test_what_was_taken_before_a_change_does_not_count(void)
{
    begin(SHARE, 0);
    CHECK(ntx_cpu_bucket_ask(&bucket, START + S, 50 * S) == NTX_CPU_MAX_WAIT_NS);

    ntx_cpu_bucket_change(&bucket, 2 * SHARE, START + S, 51 * S);

    CHECK(ntx_cpu_bucket_ask(&bucket, START + S, 51 * S) == 0);
    CHECK(ntx_cpu_bucket_ask(&bucket, START + S, 51 * S + 2 * MS) == 10 * MS + 1);
    ntx_cpu_bucket_change(&bucket, 0, START + S, 51 * S);
    CHECK(ntx_cpu_bucket_is_unlimited(&bucket));
    CHECK(ntx_cpu_bucket_ask(&bucket, START + S, 99 * S) == 0);
    ntx_cpu_bucket_destroy(&bucket);
}

static void test_clocks_that_were_read_too_early_change_nothing(void)
{
    begin(SHARE, 10 * MS);
    CHECK(ntx_cpu_bucket_ask(&bucket, START + MS, 20 * MS) > 0);
    int64_t saved_ns = bucket.saved_ns;

    ntx_cpu_bucket_ask(&bucket, START, 15 * MS);

    CHECK(bucket.saved_ns == saved_ns);
    ntx_cpu_bucket_destroy(&bucket);
}

static void test_a_share_of_all_processors_there_are_does_not_overflow(void)
{
    begin(UINT64_MAX, 0);

    CHECK(ntx_cpu_bucket_ask(&bucket, UINT64_MAX / 2, 3600 * S) == 0);
    CHECK(bucket.saved_ns > 0);
    ntx_cpu_bucket_destroy(&bucket);
}

int main(void)
{
    test_the_share_holds_over_a_minute();
    test_what_was_idle_saves_no_more_than_a_burst();
    test_what_was_taken_before_a_change_does_not_count();
    test_clocks_that_were_read_too_early_change_nothing();
    test_a_share_of_all_processors_there_are_does_not_overflow();
    return 0;
}
