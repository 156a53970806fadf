/*
 * worker_outbox.h: the stage that sends: from spans to requests to the target.
 *
 *   span      [ block ][ block ][ block ][ block ]
 *   extents      |-------------------|   |---|
 *   pieces       |data-||-zero--||-d-|   |-d-|      cut where a block changes kind, widened to the target's min_block
 *
 * A piece is a part of a span that lies in an extent and is handled alike: sent, zeroed, skipped.  Digests are of whole
 * blocks, pieces are not: a block that is only partly in an extent is read whole and sent in part.  Zero pieces that
 * touch are gathered and sent as one.
 */
#ifndef NTX_WORKER_OUTBOX_H
#define NTX_WORKER_OUTBOX_H

#include "worker_ranges.h"
#include "worker_slots.h"
#include "worker_zero_run.h"

/* One request to the target.  A ZERO may be longer than the target takes at once: it is sent piece by piece. */
struct ntx_request {
    struct ntx_io io;
    struct ntx_slot *slot; /* of a WRITE out of a slot, else NULL */
    struct ntx_work_range *range;
    uint64_t remaining; /* from io.offset on */
    uint64_t counts;    /* bytes of extents in it */
    bool is_zero;
    struct ntx_request *next;
};

struct ntx_outbox {
    struct ntx_device *target;
    bool target_is_zero; /* zeros need not be written */
    bool compares;       /* spans may have blocks that are the same as in the reference */
    bool in_order;       /* the target is written from its beginning on; the spans cover all of it */
    uint64_t sent_to;    /* then: where the next span begins */
    struct ntx_ranges *ranges;
    struct ntx_slots *slots;
    struct ntx_counters *counters;

    struct ntx_request *requests, *free_requests;
    struct ntx_span zero_span;                 /* to be sent; its range is NULL: none */
    struct ntx_slot *ready_first, *ready_last; /* read and digested, to be sent */
    struct ntx_zero_run zero_run;

    struct ntx_io flush;           /* of a checkpoint, while the others go on */
    uint64_t sent_before_flush;    /* number of the last request before it */
    bool is_flushing, has_flushed; /* has_flushed: it was confirmed; whoever sees it sets it to false */
    bool overtakes_flush;          /* the target has answered what was sent behind a flush before the flush */
    bool has_failed;               /* the target has failed something, for good */
};

/* ranges, slots and counters are the worker's.  target may be set later.
 * Errors: -ENOMEM.  Undone by ntx_outbox_destroy(), also after a failure. */
int ntx_outbox_init(struct ntx_outbox *outbox, unsigned request_count, const struct ntx_job_options *options,
                    struct ntx_ranges *ranges, struct ntx_slots *slots, struct ntx_counters *counters);
void ntx_outbox_destroy(struct ntx_outbox *outbox);

/* The same where they have to be sent in order, whichever was read first. */
void ntx_outbox_add_in_order(struct ntx_outbox *outbox, struct ntx_slot *slot);

/* Take over a slot that was read and digested; or set zero_span. */
static inline void ntx_outbox_add(struct ntx_outbox *outbox, struct ntx_slot *slot)
{
    if (outbox->in_order) {
        ntx_outbox_add_in_order(outbox, slot);
        return;
    }
    slot->next = NULL;
    if (outbox->ready_last != NULL)
        outbox->ready_last->next = slot;
    else
        outbox->ready_first = slot;
    outbox->ready_last = slot;
}

/* Nothing is to be sent.  Some may still be in flight. */
static inline bool ntx_outbox_is_empty(const struct ntx_outbox *outbox)
{
    return outbox->ready_first == NULL && outbox->zero_span.range == NULL && outbox->zero_run.range == NULL;
}

/* Submit pieces until the requests run out.  *moved: something was.  Errors: of submitting to the target. */
int ntx_outbox_send(struct ntx_outbox *outbox, bool *moved, struct ntx_error *err);

/* Send the zero run, whatever might still touch it.  Errors: of submitting to the target. */
int ntx_outbox_send_zero_run(struct ntx_outbox *outbox, struct ntx_error *err);

/* Ask the target to flush, unless stop is set meanwhile; one at a time.  Errors: of submitting to the target. */
int ntx_outbox_flush(struct ntx_outbox *outbox, const struct ntx_stop *stop, struct ntx_error *err);

/* Take the answers that are there: emptied slots are free again.  Errors: of the first request that failed. */
int ntx_outbox_reap(struct ntx_outbox *outbox, bool *moved, struct ntx_error *err);

/* The same for one answer after an error: nothing is asked again, and what failed stays unfinished. */
void ntx_outbox_drain(struct ntx_outbox *outbox, struct ntx_io *io);

#endif
