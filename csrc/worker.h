/*
 * worker.h: one thread of a job, and its stages.
 *
 *   scheduler --work range--> cursor --span--> data: slot --read--> digester --> outbox --WRITE, ZERO--> target
 *                                  `---------> zero: ------------> digester --> outbox --ZERO---------> target
 *
 * Each stage is a struct with its own header and knows none of the others; another stage, such as a compressor, goes
 * between the digester and the outbox.
 */
#ifndef NTX_WORKER_H
#define NTX_WORKER_H

#include "limiter.h"
#include "scheduler.h"
#include "worker_cursor.h"
#include "worker_digester.h"
#include "worker_outbox.h"
#include "worker_wait.h"

/* Every slot and every request may refer to another range, and the cursor, the zero span and the zero run too. */
#define NTX_WORKER_RANGES(depth) (2u * (depth) + 4)

struct ntx_worker {
    struct ntx_scheduler *scheduler;
    unsigned rank; /* among those that are connected: the pace uses the first ones */
    struct ntx_device *source, *target;
    bool owns_devices;

    struct ntx_counters counters;
    struct ntx_ranges ranges;
    struct ntx_slots slots;
    struct ntx_cursor cursor;
    struct ntx_digester digester;
    struct ntx_outbox outbox;
    struct ntx_wait wait;

    struct ntx_span held;   /* data that the rate limit does not let pass yet; range NULL: none */
    struct ntx_claim claim; /* for it */

    unsigned reading;        /* slots whose read is in flight */
    unsigned checkpoint;     /* the last one that it has told of */
    uint64_t flush_began_ns; /* of the one that it has to make */
    uint64_t now_ns;         /* at the end of the last pass */
    bool ended;              /* the plan has no more */
    bool waits_for_extents;  /* the plan had none when we asked */
};

/* Allocate what the thread needs; source and target are set later.
 * Errors: -ENOMEM.  Undone by ntx_worker_destroy(), also after a failure, and of a worker that is all zero. */
int ntx_worker_init(struct ntx_worker *worker, struct ntx_scheduler *scheduler, struct ntx_error *err);
void ntx_worker_destroy(struct ntx_worker *worker);

/* Work until the plan has ended or the job stops; then every request has been answered, or its connection is lost.
 * Errors: the first of this worker, already with its side (source or target). */
int ntx_worker_run(struct ntx_worker *worker, struct ntx_error *err);

/* Confirm what was written.  Only when nothing is in flight.  Errors: also -ECANCELED, when the job is cancelled. */
int ntx_worker_flush(struct ntx_worker *worker, unsigned timeout_ms, struct ntx_error *err);

#endif
