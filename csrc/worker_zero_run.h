/*
 * worker_zero_run.h: zero pieces that touch, gathered to be sent as one request, and how the target is asked for it.
 *
 * TRIM is never used: it promises nothing about reads.
 */
#ifndef NTX_WORKER_ZERO_RUN_H
#define NTX_WORKER_ZERO_RUN_H

#include "device.h"
#include "worker_span.h"

struct ntx_zero_run {
    struct ntx_work_range *range; /* with a reference; NULL: the run is empty */
    uint64_t start, end;
    uint64_t counts; /* bytes of extents in it */

    uint64_t max_length; /* longest ZERO that the target has not refused */
    bool writes_zeros;   /* the target cannot zero: send them */
    void *zeros;         /* size zero bytes, one shared page */
    uint32_t size;
};

/* Errors: -ENOMEM.  Undone by ntx_zero_run_destroy(), also after a failure. */
int ntx_zero_run_init(struct ntx_zero_run *run, uint32_t size);
void ntx_zero_run_destroy(struct ntx_zero_run *run);

/* Add a piece that begins where the run ends, in the same range; false: it does not, and the run is as before. */
bool ntx_zero_run_extend(struct ntx_zero_run *run, const struct ntx_work_range *range, uint64_t start, uint64_t end,
                         uint64_t counts);

/* Begin an empty run with a piece, and a reference to range. */
void ntx_zero_run_begin(struct ntx_zero_run *run, struct ntx_work_range *range, uint64_t start, uint64_t end,
                        uint64_t counts);

/* Set op, data and length of io for the next request of remaining bytes of zeros: one ZERO, or one WRITE of zeros. */
void ntx_zero_run_fill(const struct ntx_zero_run *run, struct ntx_io *io, uint64_t remaining, uint32_t max_payload);

/* The target refused io.  true: it may be asked again in another way, which fill() will choose from now on.
 * One that is refused for its length is asked again with half of it, one that is not supported is written out. */
bool ntx_zero_run_adapt(struct ntx_zero_run *run, const struct ntx_io *io);

#endif
