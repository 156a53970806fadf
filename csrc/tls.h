/*
 * tls.h: what a TLS connection is proved by, made once for all connections of a device.
 *
 *   X.509   the server's certificate is signed by a CA that the caller named and is for host_name; ours, if it asks
 *   PSK     both ends know the same key; a server with a certificate instead is refused
 *
 * TLS 1.2 at least, authenticated ciphers with forward secrecy only, no compression, no renegotiation, no resumption.
 * None of it changes once it is made, so that any thread may use it.
 */
#ifndef NTX_TLS_H
#define NTX_TLS_H

#include "ntx.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

#define NTX_TLS_MAX_USER 128u                /* bytes of a PSK identity: what every library takes */
#define NTX_TLS_MAX_PSK 64u                  /* bytes of a PSK: what GnuTLS takes */
#define NTX_TLS_RECORDS_PER_KEY (1u << 23)   /* sent: 128 GiB in full ones; one of AES-GCM is good for 2^24.5 */
#define NTX_TLS_READ_BUFFER (128u * NTX_KIB) /* received at once: some records, which share a system call */
#define NTX_TLS_MAX_HOST 255u                /* a DNS name has no more */

struct ntx_tls {
    SSL_CTX *context; /* its app data is this struct */
    _Atomic unsigned users;
    bool has_psk, has_certificate;
    bool is_address; /* host is */
    unsigned records_per_key;
    size_t psk_size;
    uint8_t psk[NTX_TLS_MAX_PSK];
    char user[NTX_TLS_MAX_USER + 1];
    char host[NTX_TLS_MAX_HOST + 1];
};

/* Become another user; any thread.  Undone by ntx_tls_free().  NULL is allowed. */
struct ntx_tls *ntx_tls_share(struct ntx_tls *tls);

#endif
