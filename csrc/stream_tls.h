/*
 * stream_tls.h: a stream that is encrypted, on top of another one.
 *
 *   sendv --16 KiB at a time--> SSL --records--> out --one call--> under         under: the stream that was there
 *   recvv <-------------------- SSL <--some records at once------- under
 *
 * Memory: one buffer each way, of some records.  Nothing is sent by reference: what is sent is not what the caller has.
 * Tickets, new keys and alerts, which the peer may send whenever it likes, are OpenSSL's while receiving; whatever has
 * to be answered waits in out, and wants() says so.
 */
#ifndef NTX_STREAM_TLS_H
#define NTX_STREAM_TLS_H

#include "stream.h"
#include "tls.h"
#include "tls_bio.h"

/* Memory that one takes: both buffers, and what OpenSSL keeps of a connection and of the certificates of its peer. */
#define NTX_TLS_STREAM_BYTES (NTX_TLS_READ_BUFFER + NTX_TLS_OUT_SIZE + 128u * NTX_KIB)

/*
 * Shake hands on *stream, as the client, and put in its place the stream that is encrypted.
 * Ownership: the new stream owns the old one, and is a user of tls; after a failure *stream is as before, but dead.
 *            name is the subject of messages.
 * Units:     -
 * Threads:   blocks until the end of until.
 * Errors:    0, or -EKEYREJECTED (NEGOTIATION: one end does not trust the other, or no TLS in common), -ECONNRESET
 *            (DEVICE), -ETIMEDOUT (TIMEOUT), -ECANCELED (CANCELLED), -ENOMEM (SYSTEM).
 */
int ntx_stream_tls_start(struct ntx_stream **stream, struct ntx_tls *tls, const char *name,
                         const struct ntx_until *until, struct ntx_error *err);

#endif
