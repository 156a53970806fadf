/* job_choice.c: see job_choice.h. */
#include "job_choice.h"

#include "bytes.h"

/* Work ranges: enough of them for every thread to have several, none smaller than pays for its hand-out. */
#define RANGES_PER_WORKER 16u
#define MIN_RANGE (4u * NTX_MIB)
#define MAX_RANGE (128u * NTX_MIB)
#define MAX_CHECKPOINT_RANGE (16u * NTX_MIB) /* a range that is open holds the checkpoint back with all of it */

/* Work ranges at the end: a run that short is still worth asking for its holes (worker_cursor.c). */
#define LEAST_RANGE (1u * NTX_MIB)

/* Where the pace begins and how far it may go. */
static struct ntx_pace_limits choose_pace(const struct ntx_limits *limits, unsigned most, uint64_t buffers)
{
    unsigned first = limits->first_connections > 0 ? (unsigned)ntx_min64(limits->first_connections, most) : most;
    uint64_t most_requests = ntx_min64(buffers, (uint64_t)most * limits->in_flight);
    uint64_t first_requests = limits->first_requests > 0 ? ntx_max64(limits->first_requests, first) : most_requests;
    struct ntx_pace_limits pace = {
        .first_connections = first,
        .most_connections = most,
        .depth = (unsigned)ntx_min64(limits->in_flight, limits->depth > 0 ? limits->depth : limits->in_flight),
        .first_requests = (unsigned)ntx_min64(first_requests, most_requests),
        .most_requests = (unsigned)most_requests,
    };
    pace.most_in_flight = (unsigned)ntx_min64(ntx_pace_most_in_flight(&pace), limits->in_flight);
    return pace;
}

struct ntx_job_choice ntx_job_choose(const struct ntx_device_info *source, const struct ntx_device_info *target,
                                     const struct ntx_job_options *options, uint64_t size)
{
    struct ntx_job_choice choice;
    uint64_t most = ntx_round_down(source->max_payload, NTX_BLOCK_SIZE);
    choice.request_size = (uint32_t)ntx_min64(options->limits.request_size, most);

    uint64_t expected = options->bytes_expected > 0 ? options->bytes_expected : size;
    uint64_t count = options->limits.connections;
    if (!(source->flags & target->flags & NTX_DEVICE_CAN_MULTI_CONN))
        count = 1;
    count = ntx_min64(count, expected / MIN_RANGE + 1);
    uint64_t most_bytes = options->limits.max_buffer_bytes, held = target->held_bytes;
    count = ntx_max64(ntx_min64(count, most_bytes / (choice.request_size + held)), 1);
    uint64_t left = most_bytes > count * held ? most_bytes - count * held : 0;
    uint64_t buffers = ntx_max64(left / choice.request_size, 1);
    choice.threads = (unsigned)count;
    choice.pace = choose_pace(&options->limits, choice.threads, buffers);

    uint64_t part = ntx_round_up(expected / (choice.threads * RANGES_PER_WORKER), NTX_BLOCK_SIZE);
    struct ntx_range_bytes *range_bytes = &choice.range_bytes;
    range_bytes->most =
        ntx_min64(ntx_max64(part, MIN_RANGE), options->makes_checkpoints ? MAX_CHECKPOINT_RANGE : MAX_RANGE);
    range_bytes->least = ntx_min64(ntx_max64(choice.request_size, LEAST_RANGE), range_bytes->most);
    range_bytes->workers = choice.threads;
    return choice;
}
