/*
 * worker_cursor.h: walks a work range and says what comes next: a span to be read, or one that is zero.
 *
 *   extents    |--data--|        |------zero------|  |d|d|
 *   blocks   [    ][    ][    ][    ][    ][    ][    ][    ]
 *   spans    '---data---'      '-d--''--zero---''---data----'
 *
 * A block is zero without being read only when an extent, or the source's map, says so of the whole of it.  Where an
 * extent says so of a part, the block is read, and that part is zero all the same (worker_digester.c).
 */
#ifndef NTX_WORKER_CURSOR_H
#define NTX_WORKER_CURSOR_H

#include "device.h"
#include "worker_span.h"

#define NTX_MAP_EXTENTS 512u

struct ntx_cursor {
    struct ntx_device *source;
    uint64_t size; /* of the disk */
    uint32_t request_size;
    bool compares; /* every block, also a zero one */
    bool can_map;

    struct ntx_work_range *range; /* NULL: there is none */
    size_t extent;                /* of the range, */
    uint64_t at;                  /* where the next span begins */

    /* What the source said of the neighbourhood. */
    bool is_mapping; /* it was asked and has not answered */
    struct ntx_io map_io;
    struct ntx_extents map;
    struct ntx_extent map_items[NTX_MAP_EXTENTS];
    uint64_t map_start;
};

enum ntx_next { NTX_NEXT_DATA, NTX_NEXT_ZERO, NTX_NEXT_MAPPING, NTX_NEXT_END };

/* options are not kept.  source may be set later. */
void ntx_cursor_init(struct ntx_cursor *cursor, const struct ntx_job_options *options, uint64_t size);

/* Begin a range, with the caller's reference to it, which the caller takes back at NTX_NEXT_END. */
void ntx_cursor_begin(struct ntx_cursor *cursor, struct ntx_work_range *range);

/*
 * Find the next span of the range; it has a reference to the range.  Data: at most request_size.
 * NTX_NEXT_MAPPING: the source was asked for its map: ask again when the answer to map_io is there.
 * NTX_NEXT_END: the range is exhausted; the cursor has none any more.
 * Errors: of submitting to the source.
 */
int ntx_cursor_next(struct ntx_cursor *cursor, struct ntx_span *span, struct ntx_error *err);

/* The disk ends there, before where it was thought to end. */
static inline void ntx_cursor_cut(struct ntx_cursor *cursor, uint64_t size)
{
    cursor->size = size;
}

/* map_io was answered. */
void ntx_cursor_mapped(struct ntx_cursor *cursor);

#endif
