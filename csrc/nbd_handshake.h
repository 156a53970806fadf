/*
 * nbd_handshake.h: from a new stream to the transmission phase.
 *
 *   server: NBDMAGIC IHAVEOPT flags            client: flags
 *   STARTTLS, if TLS is wanted, and then all of it inside
 *   STRUCTURED_REPLY  ->  SET_META_CONTEXT base:allocation  ->  GO (wants block sizes)
 *   a server that does not know GO, or no option at all:          EXPORT_NAME
 */
#ifndef NTX_NBD_HANDSHAKE_H
#define NTX_NBD_HANDSHAKE_H

#include "nbd_export.h"
#include "stream.h"

/*
 * Negotiate export_name on *stream, which is not closed.  Blocks until the end of until at most.
 * With tls the stream is encrypted before anything is asked, and *stream is the new one; nothing that was said before
 * counts, and a server that does not want to ends it.
 * Ownership: name is the subject of messages; tls NULL: plain.
 * Errors:    0, or NEGOTIATION (the server refuses, or cannot do what is needed), PROTOCOL, TIMEOUT, CANCELLED, or
 *            DEVICE (-ECONNRESET: it went away; -ESHUTDOWN).
 */
int ntx_nbd_handshake(struct ntx_stream **stream, struct ntx_tls *tls, const char *name, const char *export_name,
                      const struct ntx_until *until, struct ntx_nbd_export *export, struct ntx_error *err);

#endif
