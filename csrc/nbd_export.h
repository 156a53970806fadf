/* nbd_export.h: what is known of an export, and what of it can be worked with. */
#ifndef NTX_NBD_EXPORT_H
#define NTX_NBD_EXPORT_H

#include "ntx.h"

/* What was agreed upon. */
struct ntx_nbd_export {
    uint64_t size;            /* at most NTX_MAX_DEVICE_SIZE, a multiple of min_block */
    uint16_t flags;           /* NBD_FLAG_*, transmission flags */
    uint32_t min_block;       /* power of two, at most 64 KiB */
    uint32_t preferred_block; /* power of two, at least min_block */
    uint32_t max_payload;     /* a multiple of min_block, at most NTX_MAX_REQUEST_SIZE */
    bool is_structured;
    bool has_allocation;
    uint32_t allocation_id; /* of the metadata context, on this connection */
};

/*
 * Make what a server said what the struct promises: limits that it did not name are assumed, others checked and lowered
 * to ours.
 * Ownership: name is the subject of messages.
 * Errors:    0, or NEGOTIATION (the size cannot be handled), PROTOCOL (block sizes that cannot be).
 */
int ntx_nbd_export_settle(struct ntx_nbd_export *export, bool has_block_sizes, const char *name, struct ntx_error *err);

#endif
