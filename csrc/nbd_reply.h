/*
 * nbd_reply.h: receiving.  One state machine for simple and structured replies, split anywhere.
 *
 *                    +--> OFFSET --> DATA (straight into the io's buffer)
 *   HEADER --chunk---+--> HOLE                                              --> HEADER
 *     |              +--> CONTEXT --> DESCRIPTORS
 *     |              +--> ERROR
 *     +-----simple reply to READ --> DATA
 *
 * Everything but DATA passes through a small buffer, which one recv() fills with as many replies as there are.
 * While a READ is in flight no more is taken than the next header, so that payload is not copied twice.
 */
#ifndef NTX_NBD_REPLY_H
#define NTX_NBD_REPLY_H

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
    uint32_t left;     /* bytes of this chunk's payload not yet taken from the buffer or the socket */
    uint8_t *data;     /* DATA: where the next byte goes */
    uint64_t position; /* DESCRIPTORS: where the next one begins, on the device */

    size_t start, end; /* of what is in the buffer */
    uint8_t buffer[NTX_NBD_RX_BUFFER];
};

/* Ownership: everything is borrowed for the life of rx. */
void ntx_nbd_rx_init(struct ntx_nbd_rx *rx, struct ntx_device *device, struct ntx_nbd_slots *slots,
                     const struct ntx_nbd_export *export);

/* Receive what is there, and complete the requests that it answers.  Never waits.
 * Errors: 0, or what ends the connection: PROTOCOL, DEVICE (-ECONNRESET, -ESHUTDOWN...). */
int ntx_nbd_rx_receive(struct ntx_nbd_rx *rx, int fd, struct ntx_error *err);

#endif
