/*
 * nbd_request.h: sending.  Requests wait in a ring until the socket takes them; one sendmsg() carries as many as
 * there are, header and payload of each, and may stop anywhere.
 *
 *   ring   [h0|payload][h1][h2|payload].....
 *              ^sent_bytes: how far the first one has got
 *
 * Headers lie in pages of their own and payload in the caller's, so that both may be sent by reference (sock_pages.h).
 */
#ifndef NTX_NBD_REQUEST_H
#define NTX_NBD_REQUEST_H

#include "nbd_proto.h"
#include "nbd_slot.h"
#include "sock_pages.h"

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
    struct ntx_sock_pages pages;
};

/* by_reference: memory is sent as sock_pages.h says, where the system permits it.
 * Errors: 0, -ENOMEM.  Undone by ntx_nbd_tx_destroy(), which may be called without init on a zeroed struct. */
int ntx_nbd_tx_init(struct ntx_nbd_tx *tx, bool by_reference);
void ntx_nbd_tx_destroy(struct ntx_nbd_tx *tx);

/* Queue the request of slot, whose command, offset and length are set. */
void ntx_nbd_tx_push(struct ntx_nbd_tx *tx, uint64_t cookie, struct ntx_nbd_slot *slot);

/* Send what the socket takes now, and mark slots whose request is out.
 * Errors: 0, also when nothing could be sent; -errno when the socket is dead. */
int ntx_nbd_tx_send(struct ntx_nbd_tx *tx, int fd);

static inline bool ntx_nbd_tx_is_empty(const struct ntx_nbd_tx *tx)
{
    return tx->count == 0;
}

/* True when the next byte on the wire would begin a request. */
static inline bool ntx_nbd_tx_is_between_requests(const struct ntx_nbd_tx *tx)
{
    return tx->sent_bytes == 0;
}

/* Say goodbye without waiting for anything.  Only between requests. */
void ntx_nbd_send_disconnect(int fd);

#endif
