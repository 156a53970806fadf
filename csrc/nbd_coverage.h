/*
 * nbd_coverage.h: which parts of a read have been answered.
 *
 *   request   [....................]
 *   chunks        [###]  [#####]        in any order, never twice
 *   intervals     1      2              ascending, neighbours merged, at most NTX_NBD_MAX_INTERVALS
 */
#ifndef NTX_NBD_COVERAGE_H
#define NTX_NBD_COVERAGE_H

#include <stdbool.h>
#include <stdint.h>

/* Servers send the parts of a read in ascending order, which is one interval.  The bound keeps a connection at a
 * fixed size and a hostile server from making each insert expensive. */
#define NTX_NBD_MAX_INTERVALS 64u

struct ntx_nbd_interval {
    uint32_t start, end;
};

struct ntx_nbd_coverage {
    uint32_t count;
    struct ntx_nbd_interval items[NTX_NBD_MAX_INTERVALS];
};

/* Add [start, end), which is not empty.
 * Errors: 0, -EEXIST (part of it was there before), -ENOSPC (too fragmented); nothing is changed then. */
int ntx_nbd_coverage_add(struct ntx_nbd_coverage *coverage, uint32_t start, uint32_t end);

/* True when [0, length) is covered. */
bool ntx_nbd_coverage_is_whole(const struct ntx_nbd_coverage *coverage, uint32_t length);

#endif
