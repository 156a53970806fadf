/*
 * worker_digester.h: the stage that says what every block of a span is: zero, unchanged, or data, and makes its digest.
 */
#ifndef NTX_WORKER_DIGESTER_H
#define NTX_WORKER_DIGESTER_H

#include "worker_span.h"

struct ntx_digester {
    const struct ntx_job_options *options;
    uint8_t *digests, *reference; /* NTX_SPAN_BLOCKS of them */
    uint64_t block;               /* of the first of the digests that are not written yet, */
    size_t count;                 /* and how many there are */
    bool has_lost;                /* some could not be written, of blocks that are stored perhaps */
};

/* options are borrowed.  Errors: -ENOMEM.  Undone by ntx_digester_destroy(), also after a failure. */
int ntx_digester_init(struct ntx_digester *digester, const struct ntx_job_options *options);
void ntx_digester_destroy(struct ntx_digester *digester);

/* Zero test, digests and comparison with the reference, for all blocks of a span: one that was read into data, and one
 * that is known to be zero.  Errors: of pread() and pwrite(). */
int ntx_digester_take_data(struct ntx_digester *digester, struct ntx_span *span, void *data, struct ntx_error *err);
int ntx_digester_take_zeros(struct ntx_digester *digester, struct ntx_span *span, struct ntx_error *err);

/* Write the digests that wait for their neighbours.  Errors: of pwrite(). */
int ntx_digester_flush(struct ntx_digester *digester, struct ntx_error *err);

#endif
