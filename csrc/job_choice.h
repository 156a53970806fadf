/*
 * job_choice.h: threads, requests in flight and work ranges of a job, from what was asked, what the ends permit and
 * what there is to do.
 */
#ifndef NTX_JOB_CHOICE_H
#define NTX_JOB_CHOICE_H

#include "pace.h"
#include "plan.h"

struct ntx_job_choice {
    unsigned threads;
    uint32_t request_size;
    struct ntx_pace_limits pace;
    struct ntx_range_bytes range_bytes;
};

/* options were checked (job_check.h); size is the disk's. */
struct ntx_job_choice ntx_job_choose(const struct ntx_device_info *source, const struct ntx_device_info *target,
                                     const struct ntx_job_options *options, uint64_t size);

#endif
