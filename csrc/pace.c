/* pace.c: see pace.h. */
#include "pace.h"

#include "bytes.h"

#define NS_PER_MS 1000000ull
#define NS_PER_S (1000 * NS_PER_MS)

/* How long a window is looked at: answers are counted in windows, so that one with latency has the time to show.  They
 * come in bursts, and what is given up at the start is not tried again for long: a raise is looked at twice as long. */
#define START_EPOCH_NS (10 * NS_PER_MS)
#define RAISED_WINDOWS 2u
#define EPOCH_NS (200 * NS_PER_MS)
#define EPOCH_WINDOWS 4u

/* Looks at the counters, each a millisecond or more after the one before: a machine that was not running for a while
 * has not been looked at either.  Most servers have answered the first request long before; where a slow link is what
 * makes the first answer late, more in flight only takes memory, until half of it is tried. */
#define SILENT_LOOKS 6u

/* In epochs: a second at first, half a minute where nothing helps. */
#define FIRST_REST 5u
#define LONGEST_REST 160u

/* Per mille.  Twice the window doubles the rate where latency is the limit, so a fifth is a clear answer in the
 * short epochs of the start.  Later epochs are longer and steadier.  Threads that do next to nothing have time for many
 * more: each round at the start takes as long as the server does. */
#define IS_STARVED 500u
#define IS_IDLE 900u
#define START_GAIN 1200u
#define GAIN 1100u
#define NO_LOSS 970u

void ntx_pace_init(struct ntx_pace *pace, const struct ntx_pace_limits *limits)
{
    *pace = (struct ntx_pace){
        .limits = *limits,
        .window = limits->first_window,
        .why = limits->first_window == limits->most_window ? NTX_PACE_PINNED : NTX_PACE_BEGAN,
        .state = limits->first_window == limits->most_window ? NTX_PACE_STEADY : NTX_PACE_STARTING,
        .good_window = limits->first_window,
        .rest = FIRST_REST,
        .longer_rest = FIRST_REST,
    };
}

unsigned ntx_pace_connections(const struct ntx_pace *pace)
{
    const struct ntx_pace_limits *limits = &pace->limits;
    uint64_t count = (pace->window + limits->depth - 1) / limits->depth;

    count = ntx_max64(count, limits->first_connections);
    return (unsigned)ntx_min64(count, limits->most_connections);
}

unsigned ntx_pace_in_flight(const struct ntx_pace *pace)
{
    uint64_t each = pace->window / ntx_pace_connections(pace);

    return (unsigned)ntx_min64(ntx_max64(each, 1), pace->limits.most_in_flight);
}

enum ntx_pace_why ntx_pace_why(const struct ntx_pace *pace)
{
    return pace->window == pace->good_window ? pace->why : NTX_PACE_TRIED;
}

bool ntx_pace_is_starting(const struct ntx_pace *pace)
{
    return pace->state == NTX_PACE_STARTING && pace->window < pace->limits.most_window;
}

unsigned ntx_pace_most_in_flight(const struct ntx_pace_limits *limits)
{
    uint64_t first = ntx_min64(limits->depth, limits->most_window / limits->first_connections);
    uint64_t begin = limits->first_window / limits->first_connections;
    uint64_t last = limits->most_window / limits->most_connections;

    return (unsigned)ntx_max64(ntx_max64(first, begin), ntx_max64(last, 1));
}

void ntx_pace_limit_connections(struct ntx_pace *pace, unsigned count)
{
    struct ntx_pace_limits *limits = &pace->limits;

    limits->most_connections = (unsigned)ntx_max64(ntx_min64(limits->most_connections, count), 1);
    limits->first_connections = (unsigned)ntx_min64(limits->first_connections, limits->most_connections);
    /* What a connection has buffers for is settled: fewer of them have fewer in all. */
    limits->most_window =
        (unsigned)ntx_min64(limits->most_window, (uint64_t)limits->most_connections * limits->most_in_flight);
    limits->first_window = (unsigned)ntx_min64(limits->first_window, limits->most_window);
    pace->window = (unsigned)ntx_min64(pace->window, limits->most_window);
    pace->good_window = (unsigned)ntx_min64(pace->good_window, limits->most_window);
}

static bool is_gain(uint64_t rate, uint64_t before, unsigned per_mille)
{
    return rate >= before / 1000 * per_mille + before % 1000 * per_mille / 1000;
}

static unsigned times(const struct ntx_pace *pace, unsigned factor)
{
    return (unsigned)ntx_min64((uint64_t)factor * pace->window, pace->limits.most_window);
}

/* What is in flight was asked for with the window before. */
static void change_window(struct ntx_pace *pace, unsigned window)
{
    pace->draining = pace->window;
    pace->window = window;
}

static void go_back(struct ntx_pace *pace)
{
    if (pace->why == NTX_PACE_BEGAN)
        pace->why = NTX_PACE_NO_GAIN;
    change_window(pace, pace->good_window);
    pace->state = NTX_PACE_STEADY;
    pace->rest = pace->longer_rest;
    pace->longer_rest = (unsigned)ntx_min64(2ull * pace->longer_rest, LONGEST_REST);
}

static void start_on(struct ntx_pace *pace, uint64_t rate, unsigned starved)
{
    if (pace->good_rate > 0 && !is_gain(rate, pace->good_rate, START_GAIN)) {
        go_back(pace);
        return;
    }
    if (pace->good_rate > 0)
        pace->why = NTX_PACE_RAISED;
    pace->good_rate = rate;
    pace->good_window = pace->window;
    unsigned more = times(pace, starved >= IS_IDLE ? 4 : 2);
    if (starved >= IS_STARVED && more > pace->window)
        change_window(pace, more);
    else
        pace->state = NTX_PACE_STEADY;
}

static void try_another(struct ntx_pace *pace, uint64_t rate, unsigned starved)
{
    unsigned half = (unsigned)ntx_max64(pace->window / 2, pace->limits.first_window);
    bool may_raise = starved >= IS_STARVED && times(pace, 2) > pace->window, may_lower = half < pace->window;

    pace->good_rate = rate;
    if (pace->rest > 0) {
        pace->rest--;
        return;
    }
    if (!may_raise && !may_lower)
        return;
    bool lower = may_lower && (pace->lower_next || !may_raise);
    pace->lower_next = !lower;
    change_window(pace, lower ? half : times(pace, 2));
    pace->state = NTX_PACE_TRYING;
}

static void judge(struct ntx_pace *pace, uint64_t rate)
{
    bool raised = pace->window > pace->good_window;

    if (!is_gain(rate, pace->good_rate, raised ? GAIN : NO_LOSS)) {
        go_back(pace);
        return;
    }
    pace->why = raised ? NTX_PACE_RAISED : NTX_PACE_LOWERED;
    pace->good_window = pace->window;
    pace->state = NTX_PACE_STEADY;
    pace->rest = FIRST_REST;
}

static void begin_epoch(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen)
{
    pace->epoch_ns = now_ns;
    pace->epoch_turns = seen->turns;
    pace->epoch_starved_ns = seen->starved_ns;
}

/* Nothing at all was answered so far, and threads wait for it: more in flight, before the first answer says how late
 * the server is.  If that was too much, half is tried later. */
static bool grow_in_silence(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen)
{
    if (seen->turns > 0 || pace->window == pace->limits.most_window)
        return false;
    if (pace->silent_ns == 0)
        pace->silent_ns = now_ns;
    if (++pace->silent_looks < SILENT_LOOKS || seen->starved_ns < (now_ns - pace->silent_ns) / 2)
        return false;
    pace->silent_looks = 0;
    change_window(pace, times(pace, 4));
    pace->good_window = pace->window;
    pace->why = NTX_PACE_LATE;
    return true;
}

static bool has_seen_enough(const struct ntx_pace *pace, uint64_t elapsed_ns, uint64_t turned)
{
    if (pace->state != NTX_PACE_STARTING)
        return elapsed_ns >= EPOCH_NS && turned >= (uint64_t)EPOCH_WINDOWS * pace->window;
    uint64_t windows = pace->good_rate > 0 ? RAISED_WINDOWS : 1;
    return elapsed_ns >= windows * START_EPOCH_NS && turned >= windows * pace->window;
}

bool ntx_pace_tick(struct ntx_pace *pace, uint64_t now_ns, const struct ntx_pace_seen *seen)
{
    uint64_t elapsed_ns = now_ns - pace->epoch_ns, turned = seen->turns - pace->epoch_turns;
    unsigned before = pace->window;

    if (pace->limits.first_window == pace->limits.most_window)
        return false;
    if (grow_in_silence(pace, now_ns, seen))
        return true;
    if (pace->epoch_ns == 0 || !seen->is_settled) {
        pace->draining = seen->is_settled ? 1 : pace->window; /* the first answer ends the empty time before it */
        begin_epoch(pace, now_ns, seen);
        return false;
    }
    if (pace->draining > 0) {
        if (turned >= pace->draining) {
            pace->draining = 0;
            begin_epoch(pace, now_ns, seen);
        }
        return false;
    }
    if (now_ns <= pace->epoch_ns || !has_seen_enough(pace, elapsed_ns, turned))
        return false;
    uint64_t rate = turned * NS_PER_S / elapsed_ns;
    uint64_t waitable_ns = elapsed_ns * seen->connections;
    unsigned starved = (unsigned)((seen->starved_ns - pace->epoch_starved_ns) * 1000 / ntx_max64(waitable_ns, 1));

    begin_epoch(pace, now_ns, seen);
    switch (pace->state) {
    case NTX_PACE_STARTING:
        start_on(pace, rate, starved);
        break;
    case NTX_PACE_STEADY:
        try_another(pace, rate, starved);
        break;
    case NTX_PACE_TRYING:
        judge(pace, rate);
        break;
    }
    return pace->window != before;
}
