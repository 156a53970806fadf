/* test_limiter.c: the rate holds, over all threads and jobs, and each job gets its part.  The clock is a number. */
#include "bytes.h"
#include "check.h"
#include "limiter.h"

#include <pthread.h>

#define MS 1000000ull
#define S (1000 * MS)
#define START (1000 * S)
#define MAX_THREADS 64u

/* One thread of a job: it reads, is busy for a while, and asks for the next. */
struct reader {
    struct ntx_share *share;
    struct ntx_claim claim;
    uint64_t length;
    uint64_t busy_ns; /* with what it has read */
    uint64_t late_ns; /* how much later than told it asks again */
    uint64_t due_ns, moved;
};

static struct reader *next_of(struct reader *readers, unsigned count)
{
    struct reader *next = &readers[0];
    for (unsigned i = 1; i < count; i++)
        if (readers[i].due_ns < next->due_ns)
            next = &readers[i];
    return next;
}

/* Let the readers go on until a moment, and return what they have read since it began. */
static uint64_t run(struct reader *readers, unsigned count, uint64_t until_ns)
{
    uint64_t moved = 0;
    for (;;) {
        struct reader *reader = next_of(readers, count);
        uint64_t now_ns = reader->due_ns;
        if (now_ns >= until_ns)
            return moved;
        uint64_t wait_ns = ntx_share_take(reader->share, &reader->claim, reader->length, now_ns);
        if (wait_ns > 0) {
            CHECK(wait_ns <= NTX_LIMITER_MAX_WAIT_NS);
            reader->due_ns = now_ns + wait_ns + reader->late_ns;
            continue;
        }
        reader->moved += reader->length;
        moved += reader->length;
        reader->due_ns = now_ns + reader->busy_ns + 1;
    }
}

static uint64_t moved_by(const struct reader *readers, unsigned count, const struct ntx_share *share)
{
    uint64_t moved = 0;
    for (unsigned i = 0; i < count; i++)
        moved += readers[i].share == share ? readers[i].moved : 0;
    return moved;
}

static void check_near(const char *what, uint64_t found, double expected, double tolerance)
{
    double off = (double)found / expected - 1;
    if (off > tolerance || off < -tolerance)
        CHECK_FAIL("%s: %" PRIu64 " instead of %.0f: off by %.2f %%", what, found, expected, 100 * off);
}

static void test_without_a_limiter_or_a_rate_nothing_is_limited(void)
{
    struct ntx_limiter limiter;
    struct ntx_share share, none;
    struct ntx_claim claim = {0};
    ntx_limiter_init(&limiter, 0, START);
    ntx_share_join(&none, NULL);
    ntx_share_join(&share, &limiter);

    CHECK(ntx_share_is_unlimited(&none) && ntx_share_is_unlimited(&share));
    for (int i = 0; i < 10; i++)
        CHECK_EQ_U64(ntx_share_take(&share, &claim, UINT32_MAX, START), 0);

    ntx_share_withdraw(&none, &claim);
    ntx_share_leave(&none);
    ntx_share_leave(&share);
    ntx_limiter_destroy(&limiter);
}

/* 1 B/s to 1 TiB/s, which counts as the highest: never more than the rate, and not less but for the last request. */
static void test_any_rate_is_exact(void)
{
    static const uint64_t rates[] = {1,           1000,         999983,        NTX_MIB,       50 * NTX_MIB,
                                     NTX_GIB + 7, 10 * NTX_GIB, 100 * NTX_GIB, 1024 * NTX_GIB};
    static const uint64_t lengths[] = {1, NTX_BLOCK_SIZE, 12345677, NTX_MAX_REQUEST_SIZE};
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0] * 4; i++) {
        uint64_t rate = ntx_min64(rates[i / 4], NTX_LIMITER_MAX_RATE), length = lengths[i % 4];
        uint64_t seconds = 10 + 4 * length / rate;
        if (rate * seconds / length > 1000000 || seconds > 200000) /* of steps, of waits */
            continue;
        struct ntx_limiter limiter;
        struct ntx_share share;
        ntx_limiter_init(&limiter, rates[i / 4], START);
        ntx_share_join(&share, &limiter);
        struct reader reader = {.share = &share, .length = length, .due_ns = START};

        uint64_t moved = run(&reader, 1, START + seconds * S);

        if (moved > rate * seconds || moved + length + rate / 1000 < rate * seconds)
            CHECK_FAIL("rate %" PRIu64 ", length %" PRIu64 ": %" PRIu64 " bytes in %" PRIu64 " s", rate, length, moved,
                       seconds);
        ntx_share_leave(&share);
        ntx_limiter_destroy(&limiter);
    }
}

/* Disks with other numbers of threads and sizes of requests, and threads that are late: the sum is exact within 2 %
 * over ten seconds, and so is the part of each. */
static void test_disks_get_equal_parts_of_an_exact_rate(void)
{
    static const uint64_t rates[] = {20 * NTX_MIB, 500 * NTX_MIB};
    static const unsigned threads[] = {1, 8, 2, 4};
    static const uint64_t lengths[] = {256 * 1024, NTX_MIB, 4 * NTX_MIB, NTX_BLOCK_SIZE};
    for (unsigned r = 0; r < 2; r++) {
        struct ntx_limiter limiter;
        struct ntx_share shares[4];
        struct reader readers[MAX_THREADS];
        unsigned count = 0;
        ntx_limiter_init(&limiter, rates[r], START);
        for (unsigned s = 0; s < 4; s++) {
            ntx_share_join(&shares[s], &limiter);
            for (unsigned t = 0; t < threads[s]; t++)
                readers[count++] = (struct reader){
                    .share = &shares[s], .length = lengths[s], .late_ns = 100000 + 7919 * t, .due_ns = START + t};
        }

        uint64_t moved = run(readers, count, START + 10 * S);

        check_near("all", moved, (double)rates[r] * 10, 0.02);
        CHECK(moved <= rates[r] * 10);
        for (unsigned s = 0; s < 4; s++)
            check_near("a disk", moved_by(readers, count, &shares[s]), (double)rates[r] * 10 / 4,
                       r == 0 ? 0.10 : 0.05); /* of requests of 4 MiB there are only 12 in 50 MiB */
        for (unsigned s = 0; s < 4; s++)
            ntx_share_leave(&shares[s]);
        ntx_limiter_destroy(&limiter);
    }
}

static void test_what_a_slow_disk_cannot_use_the_others_get(void)
{
    struct ntx_limiter limiter;
    struct ntx_share slow, fast;
    ntx_limiter_init(&limiter, 100 * NTX_MIB, START);
    ntx_share_join(&slow, &limiter);
    ntx_share_join(&fast, &limiter);
    struct reader readers[] = {
        {.share = &slow, .length = NTX_MIB, .busy_ns = 90 * MS, .due_ns = START}, /* 10 MiB/s at most */
        {.share = &fast, .length = NTX_MIB, .due_ns = START},
    };

    uint64_t moved = run(readers, 2, START + 10 * S);

    check_near("all", moved, 1000.0 * NTX_MIB, 0.02);
    CHECK(readers[0].moved >= 80 * NTX_MIB);
    CHECK(readers[1].moved >= 880 * NTX_MIB);
    ntx_share_leave(&slow);
    ntx_share_leave(&fast);
    ntx_limiter_destroy(&limiter);
}

/* A request of 32 MiB beside a thousand small ones: it is not overtaken for ever, in its own job either. */
static void test_a_large_request_is_not_starved(void)
{
    struct ntx_limiter limiter;
    struct ntx_share share;
    struct reader readers[9];
    ntx_limiter_init(&limiter, 64 * NTX_MIB, START);
    ntx_share_join(&share, &limiter);
    for (unsigned i = 0; i < 9; i++)
        readers[i] = (struct reader){
            .share = &share, .length = i == 8 ? NTX_MAX_REQUEST_SIZE : NTX_BLOCK_SIZE, .due_ns = START + i};

    run(readers, 9, START + 2 * S);

    CHECK(readers[8].moved >= 2 * NTX_MAX_REQUEST_SIZE);
    CHECK(readers[0].moved > 0);
    ntx_share_leave(&share);
    ntx_limiter_destroy(&limiter);
}

static void test_a_long_pause_saves_up_no_more_than_the_burst(void)
{
    struct ntx_limiter limiter;
    struct ntx_share share;
    struct ntx_claim claim = {0};
    ntx_limiter_init(&limiter, 1000, START);
    ntx_share_join(&share, &limiter);

    CHECK_EQ_U64(ntx_share_take(&share, &claim, 100, START + 3600 * S), 0);
    CHECK(ntx_share_take(&share, &claim, 1, START + 3600 * S) >= MS);

    ntx_share_withdraw(&share, &claim);
    ntx_share_leave(&share);
    ntx_limiter_destroy(&limiter);
}

static void test_time_counts_once_whatever_the_clock_does(void)
{
    struct ntx_limiter limiter;
    struct ntx_share share;
    struct ntx_claim claim = {0};
    ntx_limiter_init(&limiter, 1000, START);
    ntx_share_join(&share, &limiter);

    for (int i = 0; i < 50; i++) {
        CHECK(ntx_share_take(&share, &claim, 50, START + 20 * MS) > 0);
        CHECK(ntx_share_take(&share, &claim, 50, START) > 0); /* another thread read the clock before */
    }
    CHECK_EQ_U64(ntx_share_take(&share, &claim, 50, START + 50 * MS), 0);

    ntx_share_leave(&share);
    ntx_limiter_destroy(&limiter);
}

static void test_a_new_rate_holds_for_who_waits_already(void)
{
    struct ntx_limiter limiter;
    struct ntx_share share;
    struct ntx_claim claim = {0};
    ntx_limiter_init(&limiter, 1000, START);
    ntx_share_join(&share, &limiter);
    CHECK_EQ_U64(ntx_share_take(&share, &claim, 1000000, START), NTX_LIMITER_MAX_WAIT_NS);

    ntx_limiter_change(&limiter, 100000000, START + 50 * MS); /* 50 bytes so far */
    CHECK_EQ_U64(ntx_share_take(&share, &claim, 1000000, START + 50 * MS), 9999501);
    CHECK_EQ_U64(ntx_share_take(&share, &claim, 1000000, START + 60 * MS), 0);
    CHECK(ntx_share_take(&share, &claim, 1000000, START + 60 * MS) > 0);
    ntx_limiter_change(&limiter, 0, START + 60 * MS);
    CHECK_EQ_U64(ntx_share_take(&share, &claim, 1000000, START + 60 * MS), 0);
    CHECK(!claim.is_waiting);

    ntx_limiter_change(&limiter, 1000, START + 70 * MS);
    CHECK(ntx_share_take(&share, &claim, 10, START + 70 * MS) > 0); /* nothing was saved meanwhile */
    ntx_share_withdraw(&share, &claim);
    ntx_share_leave(&share);
    ntx_limiter_destroy(&limiter);
}

static void test_who_gives_up_leaves_it_to_the_others(void)
{
    struct ntx_limiter limiter;
    struct ntx_share one, other;
    struct ntx_claim ours = {0}, theirs = {0};
    ntx_limiter_init(&limiter, 1000000, START);
    ntx_share_join(&one, &limiter);
    ntx_share_join(&other, &limiter);
    ntx_share_take(&one, &ours, 100000, START);
    ntx_share_take(&other, &theirs, 50000, START);
    CHECK(ntx_share_take(&other, &theirs, 50000, START + 50 * MS) > 0);

    ntx_share_withdraw(&one, &ours);
    ntx_share_withdraw(&one, &ours); /* nothing, when it waits for nothing */
    ntx_share_leave(&one);

    CHECK_EQ_U64(ntx_share_take(&other, &theirs, 50000, START + 50 * MS), 0);
    ntx_share_leave(&other);
    ntx_limiter_destroy(&limiter);
}

static void test_extremes_do_not_overflow(void)
{
    struct ntx_limiter fast, slow;
    struct ntx_share quick, lame;
    struct ntx_claim claims[2] = {{0}};
    ntx_limiter_init(&fast, UINT64_MAX, 0);
    ntx_limiter_init(&slow, 1, 0);
    ntx_share_join(&quick, &fast);
    ntx_share_join(&lame, &slow);

    CHECK_EQ_U64(fast.rate_bytes_per_s, NTX_LIMITER_MAX_RATE);
    CHECK(ntx_share_take(&quick, &claims[0], NTX_LIMITER_MAX_RATE, UINT64_MAX - S) > 0);
    CHECK_EQ_U64(claims[0].filled, NTX_LIMITER_MAX_RATE / 10);
    CHECK_EQ_U64(ntx_share_take(&lame, &claims[1], 1ull << 40, UINT64_MAX), NTX_LIMITER_MAX_WAIT_NS);

    ntx_share_withdraw(&quick, &claims[0]);
    ntx_share_withdraw(&lame, &claims[1]);
    ntx_share_leave(&quick);
    ntx_share_leave(&lame);
    ntx_limiter_destroy(&fast);
    ntx_limiter_destroy(&slow);
}

struct asking {
    struct ntx_limiter *limiter;
    uint64_t now_ns;
};

static void *ask_often(void *argument)
{
    struct asking *asking = argument;
    struct ntx_share share;
    struct ntx_claim claim = {0};
    ntx_share_join(&share, asking->limiter);
    for (unsigned i = 0; i < 2000; i++)
        if (!ntx_share_is_unlimited(&share) || claim.is_waiting)
            ntx_share_take(&share, &claim, 1000, asking->now_ns += 1000);
    ntx_share_withdraw(&share, &claim);
    ntx_share_leave(&share);
    return NULL;
}

/* For the thread sanitizer. */
static void test_threads_ask_while_the_rate_changes(void)
{
    struct ntx_limiter limiter;
    struct asking asking[4];
    pthread_t ids[4];
    ntx_limiter_init(&limiter, NTX_GIB, START);

    for (unsigned i = 0; i < 4; i++) {
        asking[i] = (struct asking){&limiter, START};
        CHECK(pthread_create(&ids[i], NULL, ask_often, &asking[i]) == 0);
    }
    for (unsigned i = 0; i < 200; i++)
        ntx_limiter_change(&limiter, i % 3 * NTX_MIB, START + i * 1000);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);

    CHECK(limiter.shares == NULL);
    ntx_limiter_destroy(&limiter);
}

int main(void)
{
    RUN(test_without_a_limiter_or_a_rate_nothing_is_limited);
    RUN(test_any_rate_is_exact);
    RUN(test_disks_get_equal_parts_of_an_exact_rate);
    RUN(test_what_a_slow_disk_cannot_use_the_others_get);
    RUN(test_a_large_request_is_not_starved);
    RUN(test_a_long_pause_saves_up_no_more_than_the_burst);
    RUN(test_time_counts_once_whatever_the_clock_does);
    RUN(test_a_new_rate_holds_for_who_waits_already);
    RUN(test_who_gives_up_leaves_it_to_the_others);
    RUN(test_extremes_do_not_overflow);
    RUN(test_threads_ask_while_the_rate_changes);
    return 0;
}
