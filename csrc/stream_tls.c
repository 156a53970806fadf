/* stream_tls.c: the handshake: see stream_tls.h.  What comes after it is in stream_tls_io.c. */
#include "stream_tls.h"

#include "error.h"
#include "stream_tls_io.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Never changes the verdict. */
static int look_at_certificate(int is_good, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct ntx_tls_stream *tls = SSL_get_app_data(ssl);

    if (!is_good && tls->reason[0] == '\0')
        ntx_tls_reason_of_certificate(tls->shared, store, tls->reason);
    return is_good;
}

/* The server asks for a certificate: note it, and go on with the one that we have, or without. */
static int note_question(SSL *ssl, void *argument)
{
    struct ntx_tls_stream *tls = argument;

    (void)ssl;
    tls->was_asked_for_certificate = true;
    return 1;
}

/* NULL: no memory. */
static struct ntx_tls_stream *new_tls(struct ntx_stream *under, struct ntx_tls *shared)
{
    struct ntx_tls_stream *tls = calloc(1, sizeof *tls);

    if (tls == NULL)
        return NULL;
    tls->stream = (struct ntx_stream){.ops = &ntx_tls_stream_ops, .fd = under->fd};
    tls->shared = ntx_tls_share(shared);
    tls->reads_after = POLLIN;
    tls->is_handshake = true;
    tls->ssl = SSL_new(shared->context);
    if (tls->ssl == NULL || ntx_tls_bio_init(&tls->bio, under, tls->ssl) < 0) {
        ntx_tls_stream_release(tls);
        return NULL;
    }
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_verify(tls->ssl, SSL_VERIFY_PEER, look_at_certificate);
    SSL_set_cert_cb(tls->ssl, note_question, tls);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

/* One step.  0: done; -EAGAIN: wait for *events. */
static int step(struct ntx_tls_stream *tls, short *events)
{
    ERR_clear_error();
    tls->bio.reads = NTX_TLS_MAX_READS;
    int done = SSL_do_handshake(tls->ssl);
    int why = SSL_get_error(tls->ssl, done);

    *events = POLLIN;
    if (done != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        int result = ntx_tls_stream_failed(tls);
        (void)ntx_tls_bio_flush(&tls->bio); /* the alert that says why, if it can go at once */
        return result == 0 ? ntx_tls_stream_fail(tls, -ECONNRESET) : result;
    }
    int result = ntx_tls_bio_flush(&tls->bio);
    if (result != 0) { /* also at the end: what is last has to go */
        *events = POLLOUT;
        return result;
    }
    return done == 1 ? 0 : -EAGAIN;
}

/* After the handshake, whatever led here: what was agreed upon is what we want. */
static bool is_trusted(const struct ntx_tls_stream *tls)
{
    bool has_certificate = SSL_get0_peer_certificate(tls->ssl) != NULL;

    if (SSL_version(tls->ssl) < TLS1_2_VERSION)
        return false;
    if (tls->shared->has_psk)
        return !has_certificate;
    return has_certificate && SSL_get_verify_result(tls->ssl) == X509_V_OK;
}

static int handshake(struct ntx_tls_stream *tls, const struct ntx_until *until)
{
    short events;
    int result;

    if (!tls->shared->has_psk && !tls->shared->is_address && SSL_set_tlsext_host_name(tls->ssl, tls->shared->host) != 1)
        return -ENOMEM;
    while ((result = step(tls, &events)) == -EAGAIN) {
        result = ntx_until_ready(until, tls->stream.fd, tls->bio.under->ops->wants(tls->bio.under, events));
        if (result != 0)
            return result;
    }
    tls->is_handshake = false;
    if (result == 0 && !is_trusted(tls)) {
        strcpy(tls->reason, "the server could not be recognised");
        return -EKEYREJECTED;
    }
    return result == -EPIPE ? -ECONNRESET : result;
}

static int refused(struct ntx_tls_stream *tls, int code, const char *name, struct ntx_error *err)
{
    struct ntx_stream_why why = ntx_stream_why(&tls->stream);

    switch (code) {
    case -ETIMEDOUT:
        return ntx_error_set(err, NTX_E_TIMEOUT, code, "%s: TLS handshake failed: time limit reached", name);
    case -ECANCELED:
        return ntx_error_set(err, NTX_E_CANCELLED, code, "%s: TLS handshake stopped", name);
    case -EKEYREJECTED:
        return ntx_error_set(err, NTX_E_NEGOTIATION, code, "%s: TLS handshake failed%s", name, why.text);
    case -ENOMEM:
        return ntx_error_errno(err, NTX_E_SYSTEM, code, "%s: TLS handshake failed", name);
    case -ECONNRESET:
        return ntx_error_set(err, NTX_E_DEVICE, code, "%s: TLS handshake failed: the server closed the connection%s",
                             name, why.text);
    default:
        return ntx_error_errno(err, NTX_E_DEVICE, code, "%s: TLS handshake failed", name);
    }
}

int ntx_stream_tls_start(struct ntx_stream **stream, struct ntx_tls *shared, const char *name,
                         const struct ntx_until *until, struct ntx_error *err)
{
    struct ntx_tls_stream *tls = new_tls(*stream, shared);

    if (tls == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory for TLS", name);
    int result = handshake(tls, until);
    if (result != 0) {
        result = refused(tls, result, name, err);
        ntx_tls_stream_release(tls);
        return result;
    }
    *stream = &tls->stream;
    return 0;
}
