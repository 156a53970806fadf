/*
 * nbd_request.h: sending.  Requests wait in a ring until the stream takes them; one call carries as many as
 * there are, header and payload of each, and may stop anywhere.
 *
 *   ring   [h0|payload][h1][h2|payload].....
 *              ^sent_bytes: how far the first one has got
 *
 * Headers lie in pages of their own and payload in the caller's, so that a stream may refer to both (stream.h).
 */
#ifndef NTX_NBD_REQUEST_H
#define NTX_NBD_REQUEST_H

#include "nbd_proto.h"
#include "nbd_slot.h"
#include "stream.h"

#define NTX_NBD_HEADER_STRIDE 32u /* a header stays within one page */
#define NTX_NBD_HEADERS_BYTES (NTX_MAX_IN_FLIGHT * NTX_NBD_HEADER_STRIDE)

struct ntx_nbd_message {
    uint8_t *header; /* NBD_REQUEST_SIZE bytes; not written again before the request has been answered */
    struct ntx_nbd_slot *slot;
    const void *payload; /* the io's buffer; borrowed until the request completes */
    size_t payload_length;
};

struct ntx_nbd_tx {
    struct ntx_nbd_message ring[NTX_MAX_IN_FLIGHT]; /* a slot is in it at most once, so it cannot overflow */
    unsigned first, count;
    size_t sent_bytes;
    void *headers; /* pages */
};

/* Errors: 0, -ENOMEM.  Undone by ntx_nbd_tx_destroy(), which may be called without init on a zeroed struct. */
int ntx_nbd_tx_init(struct ntx_nbd_tx *tx);
void ntx_nbd_tx_destroy(struct ntx_nbd_tx *tx);

/* Queue the request of slot, whose command, offset and length are set. */
void ntx_nbd_tx_push(struct ntx_nbd_tx *tx, uint64_t cookie, struct ntx_nbd_slot *slot);

/* Send what the stream takes now, and mark slots whose request is out.
 * Errors: 0, also when nothing could be sent; -errno when the stream is dead. */
int ntx_nbd_tx_send(struct ntx_nbd_tx *tx, struct ntx_stream *stream);

static inline bool ntx_nbd_tx_is_empty(const struct ntx_nbd_tx *tx)
{
    return tx->count == 0;
}

/* Say goodbye without waiting for anything.  Only when the ring is empty: what was offered comes first. */
void ntx_nbd_send_disconnect(struct ntx_stream *stream);

#endif
