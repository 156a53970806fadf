/*
 * extent.h: a list of extents that is contiguous and ascending by construction.
 *
 *   start            end            limit
 *     |--data--|-zero-|               .
 *
 * append() continues at end, merges equal neighbours and clips at limit, so nobody behind it checks again.
 * The storage is the caller's and fixed: a full list refuses, and then covers less than was asked.
 */
#ifndef NTX_EXTENT_H
#define NTX_EXTENT_H

#include "ntx.h"

struct ntx_extents {
    struct ntx_extent *items;
    size_t count, capacity;
    uint64_t end;   /* where the next append() continues */
    uint64_t limit; /* nothing is stored past it */
};

/* Begin an empty list for [offset, offset + length). */
void ntx_extents_init(struct ntx_extents *list, struct ntx_extent *items, size_t capacity, uint64_t offset,
                      uint64_t length);

/* Continue the list by length bytes with these flags.
 * Errors: 0, also when clipped or length is 0; -ENOSPC (full, nothing stored; end is where it stopped). */
int ntx_extents_append(struct ntx_extents *list, uint64_t length, uint64_t flags);

/* True when end has reached limit. */
bool ntx_extents_is_complete(const struct ntx_extents *list);

/* Check a list that came from outside: ascending, not overlapping, no empty extent, known flags, all within size;
 * previous_end is where the last list ended (0 at first).
 * Errors: 0, or -EINVAL with err->offset and .length of the extent. */
int ntx_extents_check(const struct ntx_extent *extents, size_t count, uint64_t previous_end, uint64_t size,
                      struct ntx_error *err);

#endif
