/* stream_tls_io.h: what stream_tls.c (the handshake) and stream_tls_io.c (bytes, and the end) share. */
#ifndef NTX_STREAM_TLS_IO_H
#define NTX_STREAM_TLS_IO_H

#include "tls_bio.h"
#include "tls_reason.h"

struct ntx_tls_stream {
    struct ntx_stream stream; /* first: the two are cast into each other */
    struct ntx_tls_bio bio;   /* its .failure: the stream is dead */
    struct ntx_tls *shared;
    SSL *ssl;
    unsigned records;  /* sent since our key was made */
    size_t ahead;      /* bytes of the caller's that are in bio.out, of which it has not been told */
    short reads_after; /* what to poll for before receiving again */
    bool may_hold_more, was_asked_for_certificate, is_handshake, has_received;
    char reason[NTX_TLS_REASON_SIZE];
};

extern const struct ntx_stream_ops ntx_tls_stream_ops;

/* OpenSSL gave up: why, as -errno.  0: the peer has ended. */
int ntx_tls_stream_failed(struct ntx_tls_stream *tls);

/* The stream is dead, for this reason unless there was one before; returns the first. */
int ntx_tls_stream_fail(struct ntx_tls_stream *tls, int code);

/* Free all but the stream below. */
void ntx_tls_stream_release(struct ntx_tls_stream *tls);

#endif
