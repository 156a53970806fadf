/*
 * job_check.c: the limits of the options, and whether both ends can hold the disk.
 */
#include "job_check.h"
#include "error.h"

#include <errno.h>

static int check_range(const char *what, uint64_t value, uint64_t low, uint64_t high, struct ntx_error *err)
{
    if (value >= low && value <= high)
        return 0;
    return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s %llu is out of bounds: %llu to %llu", what,
                         (unsigned long long)value, (unsigned long long)low, (unsigned long long)high);
}

static int check_options(const struct ntx_job_options *options, struct ntx_error *err)
{
    int rc = check_range("connections", options->limits.connections, 1, NTX_MAX_CONNECTIONS, err);
    if (rc == 0)
        rc = check_range("requests in flight", options->limits.in_flight, 1, NTX_MAX_IN_FLIGHT, err);
    if (rc == 0)
        rc = check_range("request size", options->limits.request_size, NTX_BLOCK_SIZE, NTX_MAX_REQUEST_SIZE, err);
    if (rc == 0)
        rc = check_range("time limit in ms", options->limits.timeout_ms, 1, INT32_MAX, err);
    if (rc == 0)
        rc = check_range("time limit of the flush in ms", options->limits.flush_timeout_ms, 0, INT32_MAX, err);
    if (rc == 0 && options->limits.request_size % NTX_BLOCK_SIZE != 0)
        rc = ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "request size %u is not a multiple of %u",
                           options->limits.request_size, NTX_BLOCK_SIZE);
    return rc;
}

static int check_ends(const struct ntx_device *source, const struct ntx_device *target, uint64_t size,
                      struct ntx_error *err)
{
    const struct ntx_device_info *from = &source->info, *to = &target->info;
    if (to->flags & NTX_DEVICE_READ_ONLY)
        return ntx_error_set(err, NTX_E_TARGET, -EROFS, "%s: the target is read-only", to->name);
    if (from->size < size)
        return ntx_error_set(err, NTX_E_SOURCE, -EINVAL, "%s: the source has %llu bytes, the disk %llu: was it cut?",
                             from->name, (unsigned long long)from->size, (unsigned long long)size);
    if (to->size < size)
        return ntx_error_set(err, NTX_E_TARGET, -ENOSPC, "%s: the target has %llu bytes, the source %llu: too small",
                             to->name, (unsigned long long)to->size, (unsigned long long)size);
    /* What was in flight then is still the device's, though the memory for it is gone. */
    if (source->lost || target->lost)
        return ntx_error_set(err, source->lost ? NTX_E_SOURCE : NTX_E_TARGET, -ENOTCONN,
                             "%s: the connection was lost before: open it again", source->lost ? from->name : to->name);
    const struct ntx_device_info *ends[] = {from, to};
    for (int i = 0; i < 2; i++) {
        if (!ntx_device_may_end_at(ends[i], size))
            return ntx_error_set(
                err, i == 0 ? NTX_E_SOURCE : NTX_E_TARGET, -ENOTSUP,
                "%s: takes only whole blocks of %u bytes, and the source's %llu bytes do not end on one", ends[i]->name,
                ends[i]->min_block, (unsigned long long)size);
    }
    if (from->max_payload < NTX_BLOCK_SIZE)
        return ntx_error_set(err, NTX_E_SOURCE, -ENOTSUP, "%s: gives at most %u bytes at once, %u are needed",
                             from->name, from->max_payload, NTX_BLOCK_SIZE);
    return 0;
}

int ntx_job_check(const struct ntx_device *source, const struct ntx_device *target,
                  const struct ntx_job_options *options, uint64_t size, struct ntx_error *err)
{
    int rc = check_options(options, err);
    return rc < 0 ? rc : check_ends(source, target, size, err);
}
