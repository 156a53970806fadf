/* pace.c: see pace.h. */
#include "pace.h"

#include "bytes.h"
#include "clock.h"

/* How long one number of requests is measured.  A round is as many answers as there are requests in flight, so that
 * latency has the time to show.  Answers come in bursts, and what is given up at the start is not tried again for long:
 * a raise is measured twice as long. */
#define START_EPOCH_NS (10 * NTX_NS_PER_MS)
#define RAISED_ROUNDS 2u
#define EPOCH_NS (200 * NTX_NS_PER_MS)
#define EPOCH_ROUNDS 4u

/* Looks at the counters, each a millisecond or more after the one before: a machine that was not running for a while
 * has not been looked at either.  Most servers have answered the first request long before; where a slow link is what
 * makes the first answer late, more in flight only takes memory, until half of it is tried. */
#define SILENT_LOOKS 6u

/* In epochs: a second at first, half a minute where nothing helps. */
#define FIRST_REST 5u
#define LONGEST_REST 160u

/* Per mille.  Twice the requests double the rate where latency is the limit, so a fifth is a clear answer in the
 * short epochs of the start.  Later epochs are longer and steadier.  Threads that do next to nothing have time for many
 * more: each round at the start takes as long as the server does. */
#define IS_WAITING 500u
#define IS_IDLE 900u
#define START_GAIN 1200u
#define GAIN 1100u
#define NO_LOSS 970u

void ntx_pace_init(struct ntx_pace *pace, const struct ntx_pace_limits *limits)
{
    *pace = (struct ntx_pace){
        .limits = *limits,
        .requests = limits->first_requests,
        .why = limits->first_requests == limits->most_requests ? NTX_PACE_PINNED : NTX_PACE_BEGAN,
        .state = limits->first_requests == limits->most_requests ? NTX_PACE_STEADY : NTX_PACE_STARTING,
        .good_requests = limits->first_requests,
        .rest = FIRST_REST,
        .longer_rest = FIRST_REST,
    };
}

static unsigned connections_for(const struct ntx_pace_limits *limits, unsigned requests)
{
    uint64_t count = ((uint64_t)requests + limits->depth - 1) / limits->depth;

    count = ntx_max64(count, limits->first_connections);
    return (unsigned)ntx_min64(count, limits->most_connections);
}

unsigned ntx_pace_connections(const struct ntx_pace *pace)
{
    return connections_for(&pace->limits, pace->requests);
}

unsigned ntx_pace_in_flight(const struct ntx_pace *pace)
{
    uint64_t each = pace->requests / ntx_pace_connections(pace);

    return (unsigned)ntx_min64(ntx_max64(each, 1), pace->limits.most_in_flight);
}

enum ntx_pace_why ntx_pace_why(const struct ntx_pace *pace)
{
    return pace->requests == pace->good_requests ? pace->why : NTX_PACE_TRIED;
}

bool ntx_pace_is_starting(const struct ntx_pace *pace)
{
    return pace->state == NTX_PACE_STARTING && pace->requests < pace->limits.most_requests;
}

unsigned ntx_pace_most_in_flight(const struct ntx_pace_limits *limits)
{
    uint64_t first = ntx_min64(limits->depth, limits->most_requests / limits->first_connections);
    uint64_t begin = limits->first_requests / limits->first_connections;
    uint64_t last = limits->most_requests / limits->most_connections;

    return (unsigned)ntx_max64(ntx_max64(first, begin), ntx_max64(last, 1));
}

unsigned ntx_pace_most_connections(const struct ntx_pace_limits *limits)
{
    return connections_for(limits, limits->most_requests);
}

void ntx_pace_limit_connections(struct ntx_pace *pace, unsigned count)
{
    struct ntx_pace_limits *limits = &pace->limits;

    limits->most_connections = (unsigned)ntx_max64(ntx_min64(limits->most_connections, count), 1);
    limits->first_connections = (unsigned)ntx_min64(limits->first_connections, limits->most_connections);
    /* What a connection has buffers for is settled: fewer of them have fewer in all. */
    limits->most_requests =
        (unsigned)ntx_min64(limits->most_requests, (uint64_t)limits->most_connections * limits->most_in_flight);
    limits->first_requests = (unsigned)ntx_min64(limits->first_requests, limits->most_requests);
    pace->requests = (unsigned)ntx_min64(pace->requests, limits->most_requests);
    pace->good_requests = (unsigned)ntx_min64(pace->good_requests, limits->most_requests);
}

static bool is_gain(uint64_t rate, uint64_t before, unsigned per_mille)
{
    return rate >= before / 1000 * per_mille + before % 1000 * per_mille / 1000;
}

static unsigned times(const struct ntx_pace *pace, unsigned factor)
{
    return (unsigned)ntx_min64((uint64_t)factor * pace->requests, pace->limits.most_requests);
}

/* What is in flight was asked for with the number before. */
static void change_requests(struct ntx_pace *pace, unsigned requests)
{
    pace->draining = pace->requests;
    pace->requests = requests;
}

static void go_back(struct ntx_pace *pace)
{
    if (pace->why == NTX_PACE_BEGAN)
        pace->why = NTX_PACE_NO_GAIN;
    change_requests(pace, pace->good_requests);
    pace->state = NTX_PACE_STEADY;
    pace->rest = pace->longer_rest;
    pace->longer_rest = (unsigned)ntx_min64(2ull * pace->longer_rest, LONGEST_REST);
}

static void start_on(struct ntx_pace *pace, uint64_t rate, unsigned waiting)
{
    if (pace->good_rate > 0 && !is_gain(rate, pace->good_rate, START_GAIN)) {
        go_back(pace);
        return;
    }
    if (pace->good_rate > 0)
        pace->why = NTX_PACE_RAISED;
    pace->good_rate = rate;
    pace->good_requests = pace->requests;
    unsigned more = times(pace, waiting >= IS_IDLE ? 4 : 2);
    if (waiting >= IS_WAITING && more > pace->requests)
        change_requests(pace, more);
    else
        pace->state = NTX_PACE_STEADY;
}

static void try_another(struct ntx_pace *pace, uint64_t rate, unsigned waiting)
{
    unsigned half = (unsigned)ntx_max64(pace->requests / 2, pace->limits.first_requests);
    bool may_raise = waiting >= IS_WAITING && times(pace, 2) > pace->requests, may_lower = half < pace->requests;

    pace->good_rate = rate;
    if (pace->rest > 0) {
        pace->rest--;
        return;
    }
    if (!may_raise && !may_lower)
        return;
    bool lower = may_lower && (pace->lower_next || !may_raise);
    pace->lower_next = !lower;
    change_requests(pace, lower ? half : times(pace, 2));
    pace->state = NTX_PACE_TRYING;
}

static void judge(struct ntx_pace *pace, uint64_t rate)
{
    bool raised = pace->requests > pace->good_requests;

    if (!is_gain(rate, pace->good_rate, raised ? GAIN : NO_LOSS)) {
        go_back(pace);
        return;
    }
    pace->why = raised ? NTX_PACE_RAISED : NTX_PACE_LOWERED;
    pace->good_requests = pace->requests;
    pace->state = NTX_PACE_STEADY;
    pace->rest = FIRST_REST;
}

static void begin_epoch(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen)
{
    pace->epoch_ns = now_ns;
    pace->epoch_completions = seen->completions;
    pace->epoch_waiting_ns = seen->waiting_ns;
}

/* Nothing at all was answered so far, and threads wait for it: more in flight, before the first answer says how late
 * the server is.  If that was too much, half is tried later. */
static bool grow_in_silence(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen)
{
    if (seen->completions > 0 || pace->requests == pace->limits.most_requests)
        return false;
    if (pace->silent_ns == 0)
        pace->silent_ns = now_ns;
    if (++pace->silent_looks < SILENT_LOOKS || seen->waiting_ns < (now_ns - pace->silent_ns) / 2)
        return false;
    pace->silent_looks = 0;
    change_requests(pace, times(pace, 4));
    pace->good_requests = pace->requests;
    pace->why = NTX_PACE_LATE;
    return true;
}

static bool has_seen_enough(const struct ntx_pace *pace, uint64_t elapsed_ns, uint64_t completed)
{
    if (pace->state != NTX_PACE_STARTING)
        return elapsed_ns >= EPOCH_NS && completed >= (uint64_t)EPOCH_ROUNDS * pace->requests;
    uint64_t rounds = pace->good_rate > 0 ? RAISED_ROUNDS : 1;
    return elapsed_ns >= rounds * START_EPOCH_NS && completed >= rounds * pace->requests;
}

bool ntx_pace_tick(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen)
{
    uint64_t elapsed_ns = now_ns - pace->epoch_ns, completed = seen->completions - pace->epoch_completions;
    unsigned before = pace->requests;

    if (pace->limits.first_requests == pace->limits.most_requests)
        return false;
    if (grow_in_silence(pace, now_ns, seen))
        return true;
    if (pace->epoch_ns == 0 || !seen->is_settled) {
        pace->draining = seen->is_settled ? 1 : pace->requests; /* the first answer ends the empty time before it */
        begin_epoch(pace, now_ns, seen);
        return false;
    }
    if (pace->draining > 0) {
        if (completed >= pace->draining) {
            pace->draining = 0;
            begin_epoch(pace, now_ns, seen);
        }
        return false;
    }
    if (now_ns <= pace->epoch_ns || !has_seen_enough(pace, elapsed_ns, completed))
        return false;
    uint64_t rate = completed * NTX_NS_PER_S / elapsed_ns;
    uint64_t waitable_ns = elapsed_ns * seen->connections;
    unsigned waiting = (unsigned)((seen->waiting_ns - pace->epoch_waiting_ns) * 1000 / ntx_max64(waitable_ns, 1));

    begin_epoch(pace, now_ns, seen);
    switch (pace->state) {
    case NTX_PACE_STARTING:
        start_on(pace, rate, waiting);
        break;
    case NTX_PACE_STEADY:
        try_another(pace, rate, waiting);
        break;
    case NTX_PACE_TRYING:
        judge(pace, rate);
        break;
    }
    return pace->requests != before;
}
