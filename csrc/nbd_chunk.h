/*
 * nbd_chunk.h: what the payload of a reply means.  nbd_reply.c moves bytes and calls these with whole pieces.
 * All return 0 or, with err filled, the reason to drop the connection.
 */
#ifndef NTX_NBD_CHUNK_H
#define NTX_NBD_CHUNK_H

#include "nbd_rx.h"

/* A chunk of .chunk_type with .left bytes of payload begins: check that it may, and choose the state. */
int ntx_nbd_chunk_begin(struct ntx_nbd_rx *rx, struct ntx_error *err);

/* How many bytes of payload the state needs in one piece. */
size_t ntx_nbd_chunk_piece(const struct ntx_nbd_rx *rx);

/* That piece, of length bytes, is at bytes: act on it.  .left is already lowered. */
int ntx_nbd_chunk_take(struct ntx_nbd_rx *rx, const uint8_t *bytes, size_t length, struct ntx_error *err);

/* The last byte of the chunk, or of a simple reply, is there: complete the request if it is the last of the reply. */
int ntx_nbd_chunk_end(struct ntx_nbd_rx *rx, struct ntx_error *err);

#endif
