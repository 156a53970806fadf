/*
 * nbd_rx.h: the reply that is being received: how far it has got, and the three ways in which it ends.
 *
 *   whole    the request completes
 *   refused  the request completes with the server's error
 *   broken   the server broke the protocol: the connection ends
 */
#ifndef NTX_NBD_RX_H
#define NTX_NBD_RX_H

#include "nbd_export.h"
#include "nbd_slot.h"

#define NTX_NBD_RX_BUFFER (64u * NTX_KIB)

enum ntx_nbd_rx_state {
    NTX_NBD_RX_HEADER,
    NTX_NBD_RX_OFFSET,
    NTX_NBD_RX_DATA,
    NTX_NBD_RX_HOLE,
    NTX_NBD_RX_CONTEXT,
    NTX_NBD_RX_DESCRIPTORS,
    NTX_NBD_RX_ERROR,
};

struct ntx_nbd_rx {
    struct ntx_device *device; /* completes the requests; its info.name is the subject of messages */
    struct ntx_nbd_slots *slots;
    const struct ntx_nbd_export *export;

    enum ntx_nbd_rx_state state;
    struct ntx_nbd_slot *slot; /* whose reply is being received; NULL in HEADER */
    uint16_t chunk_type;
    bool is_last;      /* the reply ends with this chunk */
    uint32_t left;     /* bytes of this chunk's payload not yet taken from the buffer or the stream */
    uint8_t *data;     /* DATA: where the next byte goes */
    uint64_t position; /* DESCRIPTORS: where the next one begins, on the device */

    size_t start, end; /* of what is in the buffer */
    uint8_t buffer[NTX_NBD_RX_BUFFER];
};

/* Nothing received yet.  Ownership: everything is borrowed for the life of rx. */
void ntx_nbd_rx_init(struct ntx_nbd_rx *rx, struct ntx_device *device, struct ntx_nbd_slots *slots,
                     const struct ntx_nbd_export *export);

/* Complete the request whose reply is being received. */
void ntx_nbd_rx_complete(struct ntx_nbd_rx *rx);

/* Complete it with the error in its slot.  Errors: 0, or -ESHUTDOWN with err filled: the connection ends. */
int ntx_nbd_rx_refuse(struct ntx_nbd_rx *rx, struct ntx_error *err);

/* "<name>: the server broke the protocol: <what>", at the place of the request if one is being answered. */
int ntx_nbd_rx_broken(struct ntx_nbd_rx *rx, struct ntx_error *err, const char *what);

#endif
