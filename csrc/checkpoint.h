/*
 * checkpoint.h: up to where the target is known to hold all that was fed.
 *
 *   asked --> each worker that is at work emits what it holds and tells its lowest open byte --> flush --> made
 *
 * The first worker tells last, and flushes: its connection is the oldest.  While that one is good, all others are to
 * the same run of the server, and the flush covers what was answered on any.  A younger one may be to a server that was
 * started again and knows nothing of what is lost.
 *
 * Ranges are handed out in ascending order.  So whatever lies below the plan's head at the time of the asking was
 * handed out, and is either stored or open in a worker that is asked. No locks here: the job's lock is held by every
 * caller.
 */
#ifndef NTX_CHECKPOINT_H
#define NTX_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

struct ntx_checkpoint {
    unsigned asked, made; /* how many there were.  Different: one is under way, or was given up */
    unsigned missing;     /* workers that have not told yet */
    uint64_t low;         /* of the one under way: the lowest byte that may be open */
    uint64_t stored_to;   /* of the last one made */
};

/* Begin one, with that many workers, where low is the head of the plan.  false: there is nobody to ask, or one is
 * under way. */
bool ntx_checkpoint_ask(struct ntx_checkpoint *checkpoint, unsigned workers, uint64_t low);

/* A worker holds nothing below low.  true: it was the last one, and has to flush. */
bool ntx_checkpoint_tell(struct ntx_checkpoint *checkpoint, uint64_t low);

/* The target confirmed a flush that was sent after the last worker had told. */
void ntx_checkpoint_make(struct ntx_checkpoint *checkpoint);

#endif
