/*
 * nbd_handshake.h: from a connected socket to the transmission phase.
 *
 *   server: NBDMAGIC IHAVEOPT flags            client: flags
 *   STRUCTURED_REPLY  ->  SET_META_CONTEXT base:allocation  ->  GO (wants block sizes)
 *   a server that does not know GO, or no option at all:          EXPORT_NAME
 */
#ifndef NTX_NBD_HANDSHAKE_H
#define NTX_NBD_HANDSHAKE_H

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
 * Negotiate export_name on fd, which is not closed.  Blocks until deadline_ms at most.
 * Ownership: name is the subject of messages.
 * Errors:    0, or NEGOTIATION (the server refuses, or cannot do what is needed), PROTOCOL, TIMEOUT, or
 *            DEVICE (-ECONNRESET: it went away; -ESHUTDOWN).
 */
int ntx_nbd_handshake(int fd, const char *name, const char *export_name, int64_t deadline_ms,
                      struct ntx_nbd_export *export, struct ntx_error *err);

#endif
