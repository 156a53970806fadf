/*
 * plan.h: the extents that were fed, cut into work ranges.
 *
 *   feed --> [ e e e e e e ............ ] --> take --> range  { about RANGE_EXTENTS extents, about range_bytes }
 *              ring of PLAN_EXTENTS
 *
 * Ranges end at block boundaries, and a block is handed out when all its extents have been fed: so it belongs to one
 * range, whose worker knows everything that is to become of the block.
 * No locks here: the job's lock is held by every caller.
 */
#ifndef NTX_PLAN_H
#define NTX_PLAN_H

#include "ntx.h"

/* 1.5 MiB; the feeder refills at half, some ten milliseconds of its time.  No block has more extents. */
#define NTX_PLAN_EXTENTS 65536u

#define NTX_RANGE_EXTENTS 256u /* with as many a range begins no other block; 6 KiB */
#define NTX_RANGE_ROOM (NTX_RANGE_EXTENTS + NTX_BLOCK_SIZE / 512) /* then its last one has 512-byte regions at most */

/* Extents that one worker holds until every byte of it is stored. */
struct ntx_work_range {
    struct ntx_extent *extents; /* own; on the heap when a block has more of them than there is room for */
    size_t count, capacity;
    uint64_t bytes;              /* sum of the extents */
    uint64_t counted;            /* of them, already in bytes_done */
    unsigned references;         /* slots, requests and cursors that still refer to it */
    struct ntx_work_range *next; /* free list of the worker */
    struct ntx_extent own[NTX_RANGE_ROOM];
};

/* How many bytes a range has, about.  Multiples of NTX_BLOCK_SIZE, least <= most. */
struct ntx_range_bytes {
    uint64_t most;
    uint64_t least;   /* towards the end, so that all workers come to it at the same time */
    unsigned workers; /* that may share the work; 0: ranges do not become smaller */
};

struct ntx_plan {
    struct ntx_extent *ring;
    size_t head, count;
    uint64_t size;    /* of the source */
    uint64_t bytes;   /* of what was fed and not taken */
    uint64_t fed_end; /* the next extent may not start before */
    struct ntx_range_bytes range_bytes;
    bool ended;
};

enum ntx_take { NTX_TAKE_RANGE, NTX_TAKE_WAIT, NTX_TAKE_END, NTX_TAKE_NO_MEMORY };

/* Errors: 0, -ENOMEM. */
int ntx_plan_init(struct ntx_plan *plan, uint64_t size, const struct ntx_range_bytes *range_bytes,
                  struct ntx_error *err);
void ntx_plan_destroy(struct ntx_plan *plan);

/* See ntx_job_feed(). */
int ntx_plan_feed(struct ntx_plan *plan, const struct ntx_extent *extents, size_t count, size_t *taken,
                  struct ntx_error *err);

/* The disk ends at end: what was fed and not taken lies behind it, and is forgotten; no more will come. */
void ntx_plan_cut(struct ntx_plan *plan, uint64_t end);

/* Less than half full, or with nothing that can be taken, and more may come. */
bool ntx_plan_wants_extents(const struct ntx_plan *plan);

/* All that was fed has been taken, and no more will come. */
bool ntx_plan_is_done(const struct ntx_plan *plan);

/* Fill range with the next extents.  NTX_TAKE_NO_MEMORY: not with all of it, so it can only be handed back. */
enum ntx_take ntx_plan_take(struct ntx_plan *plan, struct ntx_work_range *range);

/* Free what a taken range has of the heap.  A second time, and a range of zero bytes, are allowed. */
void ntx_work_range_destroy(struct ntx_work_range *range);

/* All that was fed below it, a multiple of NTX_BLOCK_SIZE or the size, has been taken. */
uint64_t ntx_plan_low(const struct ntx_plan *plan);

#endif
