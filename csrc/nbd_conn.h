/*
 * nbd_conn.h: one NBD connection in its transmission phase, as a device (device.h).
 *
 *   submit    slot, tx ring           nothing is sent yet: the requests of one pass leave in one call of the stream
 *   advance   tx: send, rx: receive   always both, so that two full sockets never wait for each other
 *
 * The first failure of the connection is kept, and every later call returns it.
 */
#ifndef NTX_NBD_CONN_H
#define NTX_NBD_CONN_H

#include "nbd_export.h"
#include "nbd_places.h"
#include "nbd_reply.h"
#include "nbd_request.h"
#include "stream.h"

struct ntx_nbd_conn {
    struct ntx_device device; /* first: the two are cast into each other */
    struct ntx_stream *stream;
    struct ntx_nbd_places *places; /* a user of them */
    enum ntx_open_mode mode;
    unsigned timeout_ms; /* of opening */
    struct ntx_nbd_export export;
    struct ntx_error failure; /* class NTX_E_NONE while the connection is good */
    struct ntx_nbd_slots slots;
    struct ntx_nbd_tx tx;
    struct ntx_nbd_rx rx;
};

/* The export is agreed upon: make ready for requests.  Errors: -ENOMEM.  Undone by ntx_nbd_conn_free(). */
int ntx_nbd_conn_begin(struct ntx_nbd_conn *conn, struct ntx_error *err);

/* Slots of struct ntx_device_ops. */
int ntx_nbd_conn_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err);
int ntx_nbd_conn_advance(struct ntx_device *device, struct ntx_error *err);
void ntx_nbd_conn_close(struct ntx_device *device);

/* Close without a goodbye.  Also of a connection that has no stream yet, or was not begun. */
void ntx_nbd_conn_free(struct ntx_nbd_conn *conn);

#endif
