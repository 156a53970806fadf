/* extent.c: see extent.h. */
#include "extent.h"

#include "bytes.h"
#include "error.h"

#include <errno.h>
#include <inttypes.h>

void ntx_extents_init(struct ntx_extents *list, struct ntx_extent *items, size_t capacity, uint64_t offset,
                      uint64_t length)
{
    list->items = items;
    list->count = 0;
    list->capacity = capacity;
    list->end = offset;
    list->limit = offset + ntx_min64(length, UINT64_MAX - offset);
}

int ntx_extents_append(struct ntx_extents *list, uint64_t length, uint64_t flags)
{
    struct ntx_extent *last = list->count != 0 ? &list->items[list->count - 1] : NULL;

    length = ntx_min64(length, list->limit - list->end);
    if (length == 0)
        return 0;
    if (last != NULL && last->flags == flags) {
        last->length += length;
        list->end += length;
        return 0;
    }
    if (list->count == list->capacity)
        return -ENOSPC;
    list->items[list->count++] = (struct ntx_extent){.offset = list->end, .length = length, .flags = flags};
    list->end += length;
    return 0;
}

bool ntx_extents_is_complete(const struct ntx_extents *list)
{
    return list->end == list->limit;
}

static const char *wrong_with(const struct ntx_extent *extent, uint64_t previous_end, uint64_t size)
{
    if (extent->length == 0)
        return "it is empty";
    if ((extent->flags & ~NTX_EXTENT_ZERO) != 0)
        return "it has unknown flags";
    if (extent->offset < previous_end)
        return "it overlaps or comes before the one before it";
    if (extent->offset > size || extent->length > size - extent->offset)
        return "it goes past the end";
    return NULL;
}

int ntx_extents_check(const struct ntx_extent *extents, size_t count, uint64_t previous_end, uint64_t size,
                      struct ntx_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct ntx_extent *extent = &extents[i];
        const char *wrong = wrong_with(extent, previous_end, size);

        if (wrong != NULL) {
            ntx_error_set(err, NTX_E_OPTIONS, -EINVAL,
                          "extent %zu refused: offset %" PRIu64 " length %" PRIu64 " flags %" PRIu64 " after %" PRIu64
                          " on a device of %" PRIu64 " bytes: %s",
                          i, extent->offset, extent->length, extent->flags, previous_end, size, wrong);
            return ntx_error_at(err, extent->offset, extent->length);
        }
        previous_end = extent->offset + extent->length;
    }
    return 0;
}
