/*
 * job_check.h: whether a job can be done as it is asked for, found out before anything is made.
 */
#ifndef NTX_JOB_CHECK_H
#define NTX_JOB_CHECK_H

#include "device.h"

/* Return 0 if `size` bytes of the source can be copied to the target with these options; else what is wrong is in
 * `err`. */
int ntx_job_check(const struct ntx_device *source, const struct ntx_device *target,
                  const struct ntx_job_options *options, uint64_t size, struct ntx_error *err);

#endif
