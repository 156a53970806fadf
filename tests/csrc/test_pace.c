/*
 * test_pace.c: the number of requests in flight follows what a server does.  The server is a formula (so many
 * completions a second at most, so long for each), the clock a number: every run is the same.
 */
#include "check.h"
#include "pace.h"

#define MS 1000000ull
#define SECOND (1000 * MS)

struct world {
    struct ntx_pace pace;
    uint64_t now_ns, completions, waiting_ns;
    uint64_t first_ns;   /* when the first answer comes */
    uint64_t latency_ns; /* of one answer, however many there are */
    uint64_t capacity;   /* completions/s at most */
    uint64_t own_ns;     /* of an answer, the thread's own work: then it does not wait */
    double fraction;     /* of an answer */
    unsigned in_flight;  /* what the server has: a changed number reaches it with the answers to what it had */
    uint64_t reached_ns; /* when that is */
    bool is_bursty;      /* answers come together, once in each latency */
    bool is_unsettled;
    unsigned changes, highest;
};

static const struct ntx_pace_limits ADAPTING = {.first_connections = 2,
                                                .most_connections = 8,
                                                .depth = 8,
                                                .most_in_flight = 32,
                                                .first_requests = 8,
                                                .most_requests = 32};

static struct world begin(const struct ntx_pace_limits *limits, uint64_t latency_ns, uint64_t capacity, uint64_t own_ns)
{
    struct world w = {.now_ns = SECOND, .latency_ns = latency_ns, .capacity = capacity, .own_ns = own_ns};

    ntx_pace_init(&w.pace, limits);
    w.in_flight = w.pace.requests;
    w.first_ns = w.now_ns + latency_ns;
    return w;
}

static void check_bounds(const struct world *w)
{
    const struct ntx_pace_limits *limits = &w->pace.limits;
    unsigned connections = ntx_pace_connections(&w->pace), in_flight = ntx_pace_in_flight(&w->pace);

    CHECK(w->pace.requests >= limits->first_requests && w->pace.requests <= limits->most_requests);
    CHECK(connections >= limits->first_connections && connections <= limits->most_connections);
    CHECK(in_flight >= 1 && in_flight <= limits->most_in_flight);
    CHECK(connections * in_flight <= limits->most_requests);
}

/* Let time pass in steps of a millisecond. */
static void pass(struct world *w, uint64_t duration_ns)
{
    for (uint64_t end_ns = w->now_ns + duration_ns; w->now_ns < end_ns; w->now_ns += MS) {
        if (w->now_ns >= w->reached_ns)
            w->in_flight = w->pace.requests;
        double rate = (double)w->in_flight * SECOND / (double)w->latency_ns;
        if (rate > (double)w->capacity)
            rate = (double)w->capacity;
        w->fraction += w->now_ns < w->first_ns ? 0 : rate * MS / SECOND;
        bool is_between = w->is_bursty && (w->now_ns - w->first_ns) % w->latency_ns != 0;
        uint64_t whole = is_between ? 0 : (uint64_t)w->fraction;
        w->fraction -= (double)whole;
        w->completions += whole;
        uint64_t threads_ns = MS * ntx_pace_connections(&w->pace), work_ns = whole * w->own_ns;
        w->waiting_ns += work_ns < threads_ns ? threads_ns - work_ns : 0;
        struct ntx_pace_seen seen = {.completions = w->completions,
                                     .waiting_ns = w->waiting_ns,
                                     .connections = ntx_pace_connections(&w->pace),
                                     .is_settled = !w->is_unsettled};
        if (ntx_pace_tick(&w->pace, w->now_ns + MS, &seen)) {
            w->changes++;
            w->reached_ns = w->now_ns + MS + w->latency_ns;
        }
        w->highest = w->pace.requests > w->highest ? w->pace.requests : w->highest;
        check_bounds(w);
    }
}

static void test_latency_is_answered_with_more_in_flight_within_a_few_rounds(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 1000000, MS / 10);

    pass(&w, 70 * MS);

    CHECK_EQ_U64(w.pace.requests, 32);
    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 4);
    CHECK_EQ_U64(ntx_pace_in_flight(&w.pace), 8);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_LATE);
}

static void test_answers_to_what_was_asked_for_before_do_not_count_for_fewer(void)
{
    /* Half of 32 in flight gives 160 of 166 completions/s, which is too little; with the answers to the 32 it would not
     * be.
     */
    struct world w = begin(&ADAPTING, 100 * MS, 166, MS / 10);

    pass(&w, 60 * SECOND);

    CHECK(w.changes > 2);
    CHECK_EQ_U64(w.pace.good_requests, 32);
}

static void test_a_server_that_keeps_the_threads_busy_gets_no_more(void)
{
    struct world w = begin(&ADAPTING, MS, 6000, MS / 3);

    pass(&w, 60 * SECOND);

    CHECK_EQ_U64(w.pace.requests, 8);
    CHECK_EQ_U64(w.changes, 0);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_BEGAN);
}

static void test_a_slow_server_is_asked_ever_more_rarely_whether_more_would_help(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 100, MS / 10);
    pass(&w, 600 * SECOND);
    unsigned changes = w.changes;

    pass(&w, 600 * SECOND);

    CHECK_EQ_U64(w.highest, 32);
    CHECK(changes > 0 && changes <= 60);
    CHECK(w.changes - changes <= 40); /* there and back, every half minute */
    CHECK_EQ_U64(w.pace.good_requests, 8);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_LOWERED);
}

static void test_more_that_are_no_faster_are_given_up(void)
{
    struct world w = begin(&ADAPTING, 4 * MS, 1500, MS / 10);

    pass(&w, 60 * SECOND);

    CHECK(w.changes > 2);
    CHECK_EQ_U64(w.pace.good_requests, 8);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_NO_GAIN);
}

static void test_answers_that_come_in_bursts_are_not_taken_for_a_lower_rate(void)
{
    for (uint64_t latency_ms = 1; latency_ms <= 20; latency_ms++) {
        struct world w = begin(&ADAPTING, latency_ms * MS, 1000000, MS * latency_ms / 16);
        w.is_bursty = true;

        pass(&w, 20 * latency_ms * MS + 100 * MS);

        CHECK_EQ_U64(w.pace.requests, 32);
        CHECK_EQ_INT(ntx_pace_why(&w.pace), latency_ms <= 5 ? NTX_PACE_RAISED : NTX_PACE_LATE);
    }
}

static void test_a_pause_after_a_raise_is_not_taken_for_its_rate(void)
{
    struct world w = begin(&ADAPTING, 4 * MS, 1000000, MS / 10);
    while (w.pace.requests == 8 || w.pace.draining > 0)
        pass(&w, MS);

    w.capacity = 0; /* new buffers are fetched */
    pass(&w, 15 * MS);
    w.capacity = 1000000;
    pass(&w, 100 * MS);

    CHECK_EQ_U64(w.pace.requests, 32);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_RAISED);
}

static void test_a_fast_beginning_is_not_taken_for_the_rate(void)
{
    struct world w = begin(&ADAPTING, MS / 2, 16000, MS / 100);
    pass(&w, 6 * MS);

    w.latency_ns = MS; /* then 8 in flight are half of what it can do */
    pass(&w, 200 * MS);

    CHECK_EQ_U64(w.pace.requests, 32);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_RAISED);
}

static void test_while_nothing_is_answered_more_are_asked_for(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 1000000, MS / 10);

    pass(&w, 8 * MS);

    CHECK_EQ_U64(w.pace.requests, 32);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_LATE);
}

static void test_a_machine_that_stood_still_says_nothing_about_the_server(void)
{
    struct ntx_pace_seen seen = {.connections = 2, .is_settled = true};
    struct ntx_pace pace;
    ntx_pace_init(&pace, &ADAPTING);

    for (uint64_t now_ns = SECOND; now_ns < 2 * SECOND; now_ns += SECOND / 5) {
        CHECK(!ntx_pace_tick(&pace, now_ns, &seen));
        seen.waiting_ns += 2 * SECOND / 5;
    }

    CHECK_EQ_U64(pace.requests, 8);
}

static void test_latency_that_comes_later_is_answered_too(void)
{
    struct world w = begin(&ADAPTING, MS, 6000, MS / 3);
    pass(&w, 10 * SECOND);
    CHECK_EQ_U64(w.pace.requests, 8);

    w.latency_ns = 50 * MS;
    pass(&w, 15 * SECOND);

    CHECK_EQ_U64(w.pace.requests, 32);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_RAISED);
}

static void test_latency_that_goes_away_gives_the_memory_back(void)
{
    struct world w = begin(&ADAPTING, 50 * MS, 1000000, MS / 10);
    pass(&w, 2 * SECOND);
    CHECK_EQ_U64(w.pace.requests, 32);

    w.latency_ns = MS;
    w.capacity = 3000;
    w.own_ns = MS / 2;
    pass(&w, 30 * SECOND);

    CHECK_EQ_U64(w.pace.requests, 8);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_LOWERED);
}

static void test_a_server_in_between_is_held_where_it_is_fastest(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 800, MS / 10); /* 16 in flight are just enough */
    pass(&w, 60 * SECOND);
    unsigned changes = w.changes;

    CHECK_EQ_U64(w.pace.good_requests, 16);
    pass(&w, 600 * SECOND);
    CHECK(w.changes - changes <= 60);
}

static void test_a_server_that_stands_still_changes_nothing(void)
{
    struct world w = begin(&ADAPTING, MS, 6000, MS / 3);
    pass(&w, SECOND / 2);

    w.capacity = 0;
    pass(&w, 60 * SECOND);

    CHECK_EQ_U64(w.changes, 0);
    CHECK_EQ_U64(w.pace.requests, 8);
}

static void test_nothing_is_judged_while_connections_come_and_go(void)
{
    struct world w = begin(&ADAPTING, 4 * MS, 1000000, MS / 10);
    w.is_unsettled = true;
    pass(&w, 10 * SECOND);
    CHECK_EQ_U64(w.changes, 0);

    w.is_unsettled = false;
    pass(&w, 200 * MS);

    CHECK_EQ_U64(w.pace.requests, 32);
}

static void test_a_connection_has_its_part_of_the_window_and_no_more_than_it_has_buffers_for(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 1000000, MS / 10);

    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 2);
    CHECK_EQ_U64(ntx_pace_in_flight(&w.pace), 4);
    w.pace.limits.most_in_flight = 3; /* buffers that one connection has */
    CHECK_EQ_U64(ntx_pace_in_flight(&w.pace), 3);
}

static void test_what_is_pinned_stays(void)
{
    struct ntx_pace_limits limits = {.first_connections = 3,
                                     .most_connections = 3,
                                     .depth = 4,
                                     .most_in_flight = 4,
                                     .first_requests = 12,
                                     .most_requests = 12};
    struct world w = begin(&limits, 20 * MS, 1000000, MS / 10);

    pass(&w, 30 * SECOND);

    CHECK_EQ_U64(w.changes, 0);
    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 3);
    CHECK_EQ_U64(ntx_pace_in_flight(&w.pace), 4);
    CHECK_EQ_INT(ntx_pace_why(&w.pace), NTX_PACE_PINNED);
}

static void test_one_connection_takes_all_that_is_in_flight(void)
{
    struct ntx_pace_limits limits = {.first_connections = 1,
                                     .most_connections = 1,
                                     .depth = 8,
                                     .most_in_flight = 32,
                                     .first_requests = 8,
                                     .most_requests = 32};
    struct world w = begin(&limits, 20 * MS, 1000000, MS / 10);

    pass(&w, SECOND);

    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 1);
    CHECK_EQ_U64(ntx_pace_in_flight(&w.pace), 32);
}

static void test_threads_look_for_a_larger_window_only_while_there_may_be_one(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 0, MS / 10);
    CHECK(ntx_pace_is_starting(&w.pace));
    pass(&w, 50 * MS); /* never an answer */
    CHECK_EQ_U64(w.pace.requests, 32);
    CHECK(!ntx_pace_is_starting(&w.pace));

    w = begin(&ADAPTING, MS, 6000, MS / 3);
    pass(&w, SECOND);
    CHECK(!ntx_pace_is_starting(&w.pace));

    w = begin(&ADAPTING, 20 * MS, 1000000, MS / 10);
    w.pace.limits.most_in_flight = 8;
    ntx_pace_limit_connections(&w.pace, 1);
    CHECK(!ntx_pace_is_starting(&w.pace));
}

static void test_connections_that_cannot_be_had_are_done_without(void)
{
    struct world w = begin(&ADAPTING, 20 * MS, 1000000, MS / 10);
    pass(&w, SECOND);
    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 4);

    ntx_pace_limit_connections(&w.pace, 3);
    check_bounds(&w);
    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 3);
    pass(&w, 60 * SECOND);
    ntx_pace_limit_connections(&w.pace, 0);
    pass(&w, 60 * SECOND);

    CHECK_EQ_U64(ntx_pace_connections(&w.pace), 1);
    CHECK_EQ_U64(ntx_pace_in_flight(&w.pace), 32);
}

static void test_any_limits_are_kept(void)
{
    for (unsigned first = 1; first <= 4; first++)
        for (unsigned most = first; most <= 9; most += 2)
            for (unsigned depth = 1; depth <= 8; depth += 7)
                for (unsigned requests = first; requests <= 33; requests += 8) {
                    struct ntx_pace_limits limits = {.first_connections = first,
                                                     .most_connections = most,
                                                     .depth = depth,
                                                     .first_requests = requests,
                                                     .most_requests = requests + 31};
                    limits.most_in_flight = ntx_pace_most_in_flight(&limits);
                    struct world w = begin(&limits, 20 * MS, 3000, MS / 10);
                    pass(&w, SECOND);
                    CHECK(ntx_pace_connections(&w.pace) <= ntx_pace_most_connections(&limits));
                    w.capacity = 100;
                    pass(&w, SECOND);
                    CHECK(ntx_pace_connections(&w.pace) <= ntx_pace_most_connections(&limits));
                }
}

int main(void)
{
    RUN(test_latency_is_answered_with_more_in_flight_within_a_few_rounds);
    RUN(test_answers_to_what_was_asked_for_before_do_not_count_for_fewer);
    RUN(test_a_server_that_keeps_the_threads_busy_gets_no_more);
    RUN(test_a_slow_server_is_asked_ever_more_rarely_whether_more_would_help);
    RUN(test_more_that_are_no_faster_are_given_up);
    RUN(test_answers_that_come_in_bursts_are_not_taken_for_a_lower_rate);
    RUN(test_a_pause_after_a_raise_is_not_taken_for_its_rate);
    RUN(test_a_fast_beginning_is_not_taken_for_the_rate);
    RUN(test_while_nothing_is_answered_more_are_asked_for);
    RUN(test_a_machine_that_stood_still_says_nothing_about_the_server);
    RUN(test_latency_that_comes_later_is_answered_too);
    RUN(test_latency_that_goes_away_gives_the_memory_back);
    RUN(test_a_server_in_between_is_held_where_it_is_fastest);
    RUN(test_a_server_that_stands_still_changes_nothing);
    RUN(test_nothing_is_judged_while_connections_come_and_go);
    RUN(test_a_connection_has_its_part_of_the_window_and_no_more_than_it_has_buffers_for);
    RUN(test_what_is_pinned_stays);
    RUN(test_one_connection_takes_all_that_is_in_flight);
    RUN(test_threads_look_for_a_larger_window_only_while_there_may_be_one);
    RUN(test_connections_that_cannot_be_had_are_done_without);
    RUN(test_any_limits_are_kept);
    return 0;
}
