/*
 * worker_wait.h: how long a worker with nothing to do waits, and for what.  Keeps when each end must have answered.
 *
 *   in flight   o o o|  o o        old: up to the line.  All are answered: the line is drawn again, behind what is in
 *                    |             flight then
 *
 * So a request that is never answered is overdue between once and twice the time limit after it was sent, however many
 * others are answered meanwhile, and none of them costs a look at the clock.
 *
 *   a flush in flight   o o o  F  o o    before F: as ever.  Behind it: they may have to wait for it, and have its
 * limit; but as ever once the target has answered one before its flush
 */
#ifndef NTX_WORKER_WAIT_H
#define NTX_WORKER_WAIT_H

#include "device.h"

struct ntx_wait {
    int stop_fd; /* readable once the job must stop */
    unsigned timeout_ms, flush_timeout_ms;
    uint64_t source_due_ns, target_due_ns; /* when all that are old must be answered */
    uint64_t flush_due_ns;                 /* of a flush in flight; 0: there is none */
    uint64_t held_up_from; /* requests to the target from this number on may have to wait for it; UINT64_MAX: none */
    uint64_t due_ns;       /* the first of all these, when last looked at */
    uint64_t limited_until_ns; /* the rate limit permits no read before; 0: no limit */
};

/* Look whether an answer is overdue, without waiting; for a thread that always has something to do.  heard_ns: before
 * the ends were last asked for what had come.  What came while the thread stood still is not overdue.
 * Errors: as ntx_wait(). */
int ntx_wait_check(struct ntx_wait *wait, struct ntx_device *source, struct ntx_device *target, uint64_t heard_ns,
                   uint64_t now_ns, struct ntx_error *err);

/* Wait for either end that has something in flight, for the stop signal, or for the end of the rate limit's time; at
 * most for interval_ns, where that is not UINT64_MAX.
 * Errors: -ETIMEDOUT when an answer is overdue; the device is lost. */
int ntx_wait(struct ntx_wait *wait, struct ntx_device *source, struct ntx_device *target, uint64_t now_ns,
             uint64_t interval_ns, struct ntx_error *err);

/* Wait for this end alone, and for stop if it is not set.  until_ns is not before now_ns. */
void ntx_wait_for_device(const struct ntx_device *device, const struct ntx_stop *stop, uint64_t now_ns,
                         uint64_t until_ns);

#endif
