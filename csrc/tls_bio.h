/*
 * tls_bio.h: what is below OpenSSL: a stream, and a buffer of some records on the way out.
 *
 *   SSL --write--> out --ntx_tls_bio_flush()--> under
 *   SSL <--read, a few times a call------------ under
 */
#ifndef NTX_TLS_BIO_H
#define NTX_TLS_BIO_H

#include "stream.h"

#include <openssl/ssl.h>

#define NTX_TLS_RECORD_SIZE ((size_t)SSL3_RT_MAX_PLAIN_LENGTH)

/* Of one record, encrypted; and room for what OpenSSL may want to say in between. */
#define NTX_TLS_SEALED_SIZE (NTX_TLS_RECORD_SIZE + SSL3_RT_MAX_ENCRYPTED_OVERHEAD + SSL3_RT_HEADER_LENGTH)

/* Sent at once: enough to share a system call, and still in the cache when the kernel copies it. */
#define NTX_TLS_OUT_RECORDS 8u
#define NTX_TLS_OUT_SIZE ((NTX_TLS_OUT_RECORDS + 1) * NTX_TLS_SEALED_SIZE)

/* Receives for one record.  A peer that sends without an end what holds nothing (tickets) is left in between. */
#define NTX_TLS_MAX_READS 4u

struct ntx_tls_bio {
    struct ntx_stream *under; /* borrowed */
    BIO_METHOD *method;
    uint8_t *out;
    size_t out_start, out_end;
    unsigned reads; /* that one call of OpenSSL may still make: set before each */
    bool has_ended; /* the peer has */
    int failure;    /* negative errno, of receiving or whatever else has ended the stream */
};

/* Put it below ssl.  Errors: -ENOMEM.  Undone by ntx_tls_bio_destroy(), also after a failure, when ssl is freed. */
int ntx_tls_bio_init(struct ntx_tls_bio *bio, struct ntx_stream *under, SSL *ssl);
void ntx_tls_bio_destroy(struct ntx_tls_bio *bio);

/* There is room in out for one record more, whatever OpenSSL says before it. */
bool ntx_tls_bio_has_room(const struct ntx_tls_bio *bio);

/* Send what is in out.  0: all of it has gone; else as sendv(). */
int ntx_tls_bio_flush(struct ntx_tls_bio *bio);

#endif
