/*
 * worker.h: one thread of a job: its connections, its buffers, its requests.
 *
 *   range --cursor--> span ----- data: slot --read--> zero test, digest --pieces--> WRITE / ZERO / nothing
 *                      `------- zero: -------------------------------- pieces--> ZERO / nothing
 *
 * A span is a run of whole blocks that is either read into a slot or known to be zero.  A piece is a part of a span
 * that lies in a changed extent and is handled alike: sent, zeroed, skipped.  Digests are of whole blocks, pieces
 * are not: a block that is only partly in an extent is read whole and sent in part.
 */
#ifndef NTX_WORKER_H
#define NTX_WORKER_H

#include "buffer.h"
#include "device.h"
#include "scheduler.h"

#define NTX_SPAN_BLOCKS (NTX_MAX_REQUEST_SIZE / NTX_BLOCK_SIZE)
#define NTX_MAP_EXTENTS 512u

struct ntx_span {
    struct ntx_work_range *range;
    size_t extent;       /* first extent of the range that ends behind at */
    uint64_t start, end; /* block boundaries (end may be the end of the disk) */
    uint64_t at;         /* pieces before it are done */
    uint64_t zero[NTX_SPAN_BLOCKS / 64], same[NTX_SPAN_BLOCKS / 64]; /* a bit per block */
};

struct ntx_slot {
    void *data; /* request_size bytes, page-aligned */
    struct ntx_io read;
    struct ntx_span span;
    unsigned writes; /* in flight out of data */
    bool emitted;    /* every piece was submitted */
    struct ntx_slot *next;
};

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

struct ntx_worker {
    struct ntx_scheduler *scheduler;
    unsigned rank; /* among those that are connected: the pace uses the first ones */
    struct ntx_device *source, *target;
    bool owns_devices;
    struct ntx_counters counters;

    struct ntx_buffers *buffers;
    void *spare; /* for a slot whose own memory the target may not have read; max_buffer_bytes does not count it */
    struct ntx_slot *slots, *free_slots;
    struct ntx_slot *ready_first, *ready_last; /* read and digested, pieces to be submitted */
    struct ntx_request *requests, *free_requests;
    struct ntx_work_range *ranges, *free_ranges;
    unsigned used;       /* slots that are not free */
    unsigned slot_limit; /* slots that may be used in this pass */
    unsigned reading;    /* slots whose read is in flight */

    /* The cursor: where the next span of the current range begins. */
    struct ntx_work_range *range;
    size_t extent;
    uint64_t at;
    bool ended;             /* the plan has no more */
    bool waits_for_extents; /* the plan had none when we asked */

    struct ntx_span zero_span; /* range NULL: none */

    /* Adjacent zero pieces, not yet sent. */
    struct ntx_work_range *zero_range;
    uint64_t zero_start, zero_end, zero_counts;
    uint64_t max_zero; /* longest ZERO that the target has not refused */
    bool write_zeros;  /* the target cannot zero: send them */
    void *zeros;       /* request_size zero bytes, one shared page */

    /* What the source said of the neighbourhood. */
    struct ntx_io map_io;
    struct ntx_extents map;
    struct ntx_extent map_items[NTX_MAP_EXTENTS];
    uint64_t map_start;
    bool mapping, can_map;

    uint64_t limited_until_ns; /* rate limit */

    /* When this end must have answered; 0: set at the next wait. */
    uint64_t source_answer_due_ns, target_answer_due_ns;

    uint8_t *digests, *reference; /* NTX_SPAN_BLOCKS of them */
    uint64_t digest_block;        /* of the first of the digests that are not written yet, */
    size_t digest_count;          /* and how many there are */
    bool lost_digests;            /* some could not be written, of blocks that are stored perhaps */
};

/* A worker that owns nothing yet. */
void ntx_worker_init(struct ntx_worker *worker, struct ntx_scheduler *scheduler);

/* Allocate what the thread needs.  Errors: -ENOMEM.  Undone by ntx_worker_destroy(), which may follow a failure. */
int ntx_worker_allocate(struct ntx_worker *worker, struct ntx_error *err);
void ntx_worker_destroy(struct ntx_worker *worker);

/* Work until the plan has ended or the job stops; then every request has been answered, or its connection is lost.
 * Errors: the first of this worker, already with its side (source or target). */
int ntx_worker_run(struct ntx_worker *worker, struct ntx_error *err);

/* Confirm what was written.  Only when nothing is in flight. */
int ntx_worker_flush(struct ntx_worker *worker, struct ntx_error *err);

/* Items that were begun and not finished: visited in no order. */
size_t ntx_worker_unfinished(const struct ntx_worker *worker, struct ntx_extent *extents, size_t capacity);

/* worker_span.c: what to read next. */

/* Find the next span of the worker's range.  *is_zero tells its kind; at most request_size for data.
 * false: the range is exhausted, or worker->mapping was begun (ask again when the answer is there). */
bool ntx_next_span(struct ntx_worker *worker, struct ntx_span *span, bool *is_zero, struct ntx_error *err, int *rc);

/* worker_digest.c: zero test, digests and comparison with the reference, for all blocks of a span. */
int ntx_digest_slot(struct ntx_worker *worker, struct ntx_slot *slot, struct ntx_error *err);
int ntx_digest_zero_span(struct ntx_worker *worker, struct ntx_span *span, struct ntx_error *err);

/* Write the digests that wait for their neighbours.  Errors: of pwrite(). */
int ntx_digest_flush(struct ntx_worker *worker, struct ntx_error *err);

/* worker_emit.c: submit the pieces of a span.  1: all; 0: no free request, go on later; negative: failed. */
int ntx_emit_span(struct ntx_worker *worker, struct ntx_span *span, struct ntx_slot *slot, struct ntx_error *err);
int ntx_emit_pending_zero(struct ntx_worker *worker, struct ntx_error *err);
int ntx_request_finish(struct ntx_worker *worker, struct ntx_request *request, struct ntx_error *err);

/* The work range loses one reference; with the last, its bytes are done. */
void ntx_work_range_unref(struct ntx_worker *worker, struct ntx_work_range *range);

/* worker_wait.c: wait for either end, the stop signal, or the end of the wait that the rate limit asks for; counts the
 * time. Errors: -ETIMEDOUT when an answer is overdue. */
int ntx_worker_wait(struct ntx_worker *worker, struct ntx_error *err);

/* Wait for this end alone.  until_ns is not before now_ns. */
void ntx_wait_for_device(const struct ntx_device *device, uint64_t now_ns, uint64_t until_ns);

/* The pace lets the worker use another slot. */
static inline bool ntx_may_use_slot(const struct ntx_worker *worker)
{
    return worker->free_slots != NULL && worker->used < worker->slot_limit;
}

static inline bool ntx_bit(const uint64_t *bits, size_t i)
{
    return (bits[i / 64] >> (i % 64)) & 1;
}

static inline void ntx_set_bit(uint64_t *bits, size_t i)
{
    bits[i / 64] |= 1ull << (i % 64);
}

#endif
