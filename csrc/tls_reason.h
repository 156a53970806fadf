/* tls_reason.h: why a TLS connection came to nothing, in words for a person. */
#ifndef NTX_TLS_REASON_H
#define NTX_TLS_REASON_H

#include "tls.h"

#define NTX_TLS_REASON_SIZE 224u

/* The certificate that store looks at is refused.  What a certificate says is made printable. */
void ntx_tls_reason_of_certificate(const struct ntx_tls *tls, X509_STORE_CTX *store, char reason[NTX_TLS_REASON_SIZE]);

/* The last error of OpenSSL in this thread, which is taken out of its queue: an alert of the peer, or our refusal.
 * is_handshake: nothing has been agreed upon yet.
 * Returns -EKEYREJECTED, or -EBADMSG: after the handshake something was changed on the way. */
int ntx_tls_reason_of_failure(const struct ntx_tls *tls, bool is_handshake, char reason[NTX_TLS_REASON_SIZE]);

#endif
