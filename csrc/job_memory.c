/*
 * job_memory.c: how much memory a job takes, from the sizes of what its threads allocate (worker.c) and of what its
 * devices say that they take.
 */
#include "job_check.h"
#include "job_choice.h"
#include "worker.h"

/* Of a thread: the part of its stack that is used, and what the heap that it has for itself keeps. */
#define THREAD_BYTES (256u * NTX_KIB)
#define IDLE_THREAD_BYTES (32u * NTX_KIB) /* one whose connection is never wanted */

/* What ntx_worker_init() allocates, for one thread. */
static uint64_t of_worker(unsigned depth, uint32_t request_size)
{
    return ntx_buffers_bytes(depth + 1, request_size) + (uint64_t)depth * sizeof(struct ntx_slot) +
           (uint64_t)depth * sizeof(struct ntx_request) +
           (uint64_t)NTX_WORKER_RANGES(depth) * sizeof(struct ntx_work_range) +
           (uint64_t)2 * NTX_SPAN_BLOCKS * NTX_DIGEST_SIZE + sizeof(struct ntx_worker);
}

int ntx_job_memory(const struct ntx_device *source, const struct ntx_device *target,
                   const struct ntx_job_options *options, uint64_t *bytes, struct ntx_error *err)
{
    uint64_t size = options->disk_size > 0 ? options->disk_size : source->info.size;
    int rc = ntx_job_check(source, target, options, size, err);
    if (rc < 0)
        return rc;
    struct ntx_job_choice choice = ntx_job_choose(&source->info, &target->info, options, size);
    uint64_t each = of_worker(choice.pace.most_in_flight, choice.request_size) + THREAD_BYTES +
                    source->info.connection_bytes + target->info.connection_bytes;
    unsigned connections = ntx_pace_most_connections(&choice.pace);
    *bytes = connections * each + (choice.threads - connections) * (uint64_t)IDLE_THREAD_BYTES +
             NTX_PLAN_EXTENTS * sizeof(struct ntx_extent) + source->info.shared_bytes + target->info.shared_bytes;
    return 0;
}
