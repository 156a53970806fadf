/*
 * nbd_reply.h: receiving.  One state machine for simple and structured replies, split anywhere.
 *
 *                    +--> OFFSET --> DATA (straight into the io's buffer)
 *   HEADER --chunk---+--> HOLE                                              --> HEADER
 *     |              +--> CONTEXT --> DESCRIPTORS
 *     |              +--> ERROR
 *     +-----simple reply to READ --> DATA
 *
 * Everything but DATA passes through a small buffer, which one call of the stream fills with as many replies as there
 * are.  While a READ is in flight no more is taken than the next header, so that payload is not copied twice.
 */
#ifndef NTX_NBD_REPLY_H
#define NTX_NBD_REPLY_H

#include "nbd_rx.h"
#include "stream.h"

/* Receive what is there, and complete the requests that it answers.  Never waits.  The device is .is_ready if there may
 * be more.
 * Errors: 0, or what ends the connection: PROTOCOL, DEVICE (-ECONNRESET, -ESHUTDOWN...). */
int ntx_nbd_reply_receive(struct ntx_nbd_rx *rx, struct ntx_stream *stream, struct ntx_error *err);

#endif
