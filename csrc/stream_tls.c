/* stream_tls.c: see stream_tls.h. */
#include "stream_tls.h"

#include "error.h"
#include "tls_reason.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE ((size_t)SSL3_RT_MAX_PLAIN_LENGTH)

/* Of one record, encrypted; and room for what OpenSSL may want to say in between. */
#define SEALED_SIZE (RECORD_SIZE + SSL3_RT_MAX_ENCRYPTED_OVERHEAD + SSL3_RT_HEADER_LENGTH)

/* Receives for one record.  A peer that sends without an end what holds nothing (tickets) is left in between. */
#define MAX_READS 4u

/* Sent at once: enough to share a system call, and still in the cache when the kernel copies it. */
#define OUT_RECORDS 8u
#define OUT_SIZE ((OUT_RECORDS + 1) * SEALED_SIZE)

struct tls {
    struct ntx_stream stream; /* first: the two are cast into each other */
    struct ntx_stream *under;
    struct ntx_tls *shared;
    SSL *ssl;
    BIO_METHOD *method;
    uint8_t *out;
    size_t out_start, out_end;
    unsigned reads;    /* that one call of OpenSSL may still make */
    unsigned records;  /* sent since our key was made */
    size_t ahead;      /* bytes of the caller's that are in out, of which it has not been told */
    short reads_after; /* what to poll for before receiving again */
    bool may_hold_more, has_ended, was_asked_for_certificate, is_handshake, has_received;
    int failure; /* negative errno; the stream is dead */
    char reason[NTX_TLS_REASON_SIZE];
};

static struct tls *tls_of(struct ntx_stream *stream)
{
    return (struct tls *)stream;
}

/* -------------------------------------------------------------------------------- below OpenSSL: the BIO */

static int bio_write(BIO *bio, const char *data, size_t length, size_t *written)
{
    struct tls *tls = BIO_get_data(bio);
    size_t room = OUT_SIZE - tls->out_end;

    BIO_clear_retry_flags(bio);
    *written = length < room ? length : room;
    memcpy(tls->out + tls->out_end, data, *written);
    tls->out_end += *written;
    if (*written == 0)
        BIO_set_retry_write(bio);
    return *written > 0;
}

static int bio_read(BIO *bio, char *data, size_t length, size_t *received)
{
    struct tls *tls = BIO_get_data(bio);
    struct iovec vector = {.iov_base = data, .iov_len = length};
    ssize_t got = tls->reads == 0 ? -EAGAIN : tls->under->ops->recvv(tls->under, &vector, 1);

    tls->reads -= tls->reads > 0;
    BIO_clear_retry_flags(bio);
    *received = got > 0 ? (size_t)got : 0;
    if (got == -EAGAIN)
        BIO_set_retry_read(bio);
    else if (got == 0)
        tls->has_ended = true;
    else if (got < 0)
        tls->failure = (int)got;
    return got > 0;
}

static long bio_control(BIO *bio, int command, long number, void *data)
{
    const struct tls *tls = BIO_get_data(bio);

    (void)number, (void)data;
    if (command == BIO_CTRL_EOF)
        return tls->has_ended;
    return command == BIO_CTRL_FLUSH; /* there is nothing to do; all else is not known */
}

/* Send what is in out.  0: all of it has gone. */
static int flush(struct tls *tls)
{
    while (tls->out_start < tls->out_end) {
        struct iovec vector = {.iov_base = tls->out + tls->out_start, .iov_len = tls->out_end - tls->out_start};
        ssize_t sent = tls->under->ops->sendv(tls->under, &vector, 1, false);
        if (sent < 0)
            return (int)sent;
        tls->out_start += (size_t)sent;
    }
    tls->out_start = tls->out_end = 0;
    return 0;
}

/* ------------------------------------------------------------------------------------------------ failing */

static int fail(struct tls *tls, int code)
{
    if (tls->failure == 0)
        tls->failure = code;
    return tls->failure;
}

/* OpenSSL gave up: why, as -errno.  0: the peer has ended. */
static int failed(struct tls *tls)
{
    if (tls->has_ended || tls->failure != 0) {
        ERR_clear_error();
        return tls->failure;
    }
    if (tls->reason[0] == '\0') /* else the certificate was looked at, and says more */
        return fail(tls, ntx_tls_reason_of_failure(tls->shared, tls->is_handshake, tls->reason));
    ERR_clear_error();
    return fail(tls, -EKEYREJECTED);
}

/* Never changes the verdict. */
static int look_at_certificate(int is_good, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *tls = SSL_get_app_data(ssl);

    if (!is_good && tls->reason[0] == '\0')
        ntx_tls_reason_of_certificate(tls->shared, store, tls->reason);
    return is_good;
}

/* The server asks for a certificate: note it, and go on with the one that we have, or without. */
static int note_question(SSL *ssl, void *argument)
{
    struct tls *tls = argument;

    (void)ssl;
    tls->was_asked_for_certificate = true;
    return 1;
}

static const char *tls_reason(const struct ntx_stream *stream)
{
    const struct tls *tls = (const struct tls *)stream;

    bool has_gone = tls->has_ended || tls->failure == -ECONNRESET;

    if (tls->reason[0] != '\0' || !has_gone || tls->has_received)
        return tls->reason;
    /* Many servers go without saying why. */
    if (tls->shared->has_psk)
        return "perhaps it does not accept the pre-shared key of this user";
    return tls->was_asked_for_certificate ? "perhaps it does not accept our certificate" : "";
}

/* The peer has ended, or was cut off.  One that goes when it should look at our certificate wanted one. */
static void end(struct tls *tls)
{
    if (tls->has_received || !tls->was_asked_for_certificate || tls->shared->has_certificate)
        return;
    strcpy(tls->reason, "the server wants a client certificate, and none was given");
    tls->failure = -EKEYREJECTED;
}

/* RFC 8446 section 5.5: a key serves for so many records, and OpenSSL does not count them.  A new one of ours is
 * announced with what is sent next.  That of the server is its own affair: one that has a thread for each direction
 * (nbdkit with GnuTLS 3.7) loses the connection when it is asked. LIMIT: TLS 1.2 would need another handshake, which
 * neither end does: its keys last as long as the connection. */
static void count_sent_record(struct tls *tls)
{
    if (++tls->records < tls->shared->records_per_key || SSL_version(tls->ssl) < TLS1_3_VERSION)
        return;
    if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1) /* else one is under way: soon again */
        tls->records = 0;
    ERR_clear_error();
}

/* ------------------------------------------------------------------------------------------------ sending */

/* Encrypt one record of vectors behind what is ahead.  False: there is nothing left, or no room. */
static bool seal_record(struct tls *tls, const struct iovec *vectors, unsigned count)
{
    size_t skipped = tls->ahead, written = 0;

    if (OUT_SIZE - tls->out_end < 2 * SEALED_SIZE)
        return false;
    while (count > 0 && skipped >= vectors->iov_len) {
        skipped -= vectors->iov_len;
        vectors++;
        count--;
    }
    if (count == 0)
        return false;
    size_t left = vectors->iov_len - skipped;
    ERR_clear_error();
    int done = SSL_write_ex(tls->ssl, (const char *)vectors->iov_base + skipped,
                            left < RECORD_SIZE ? left : RECORD_SIZE, &written);
    if (done != 1 && SSL_get_error(tls->ssl, done) != SSL_ERROR_WANT_WRITE && failed(tls) == 0)
        (void)fail(tls, -EPIPE);
    tls->ahead += written;
    if (done == 1)
        count_sent_record(tls);
    return done == 1;
}

static ssize_t tls_sendv(struct ntx_stream *stream, struct iovec *vectors, unsigned count, bool may_refer)
{
    struct tls *tls = tls_of(stream);
    size_t taken = 0;
    int result;

    (void)may_refer;
    if (tls->failure != 0)
        return tls->failure;
    do {
        while (seal_record(tls, vectors, count))
            continue;
        if (tls->failure != 0)
            return tls->failure;
        result = flush(tls);
        if (result != 0 || tls->ahead == 0)
            break;
        /* What went is done with; the rest begins behind it. */
        for (size_t left = tls->ahead; left > 0;) {
            size_t part = left < vectors->iov_len ? left : vectors->iov_len;
            vectors->iov_base = (char *)vectors->iov_base + part;
            vectors->iov_len -= part;
            left -= part;
            if (vectors->iov_len == 0) {
                vectors++;
                count--;
            }
        }
        taken += tls->ahead;
        tls->ahead = 0;
    } while (count > 0);
    /* A failure is met again by the next call.  The stream is not dead: what the peer said before it went can be read.
     */
    if (taken > 0)
        return (ssize_t)taken;
    return result != 0 ? result : -EAGAIN;
}

/* ---------------------------------------------------------------------------------------------- receiving */

static ssize_t tls_recvv(struct ntx_stream *stream, struct iovec *vectors, unsigned count)
{
    struct tls *tls = tls_of(stream);
    size_t total = 0, got;
    int done = 1;

    tls->may_hold_more = false;
    if (tls->failure != 0)
        return tls->failure;
    if (tls->out_end > 0)
        (void)flush(tls); /* if it fails, so will receiving, and say why */
    for (unsigned i = 0; i < count; i++) {
        while (vectors[i].iov_len > 0 && done == 1) {
            ERR_clear_error();
            tls->reads = MAX_READS;
            done = SSL_read_ex(tls->ssl, vectors[i].iov_base, vectors[i].iov_len, &got);
            if (done != 1)
                break;
            vectors[i].iov_base = (char *)vectors[i].iov_base + got;
            vectors[i].iov_len -= got;
            total += got;
        }
    }
    tls->has_received = tls->has_received || total > 0;
    tls->reads_after = POLLIN;
    tls->may_hold_more = done == 1;
    if (done == 1)
        return (ssize_t)total;
    switch (SSL_get_error(tls->ssl, done)) {
    case SSL_ERROR_WANT_READ:
        return total > 0 ? (ssize_t)total : -EAGAIN;
    case SSL_ERROR_WANT_WRITE: /* an answer to what the peer asked has no room yet */
        tls->reads_after = POLLOUT;
        return total > 0 ? (ssize_t)total : -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        tls->has_ended = true;
        break;
    default:
        (void)failed(tls);
        (void)flush(tls); /* the alert that says why, if it can go at once */
        break;
    }
    if (tls->has_ended || tls->failure == -ECONNRESET)
        end(tls);
    /* What came before is the caller's first; the next call meets the end again. */
    tls->may_hold_more = total > 0;
    return total > 0 ? (ssize_t)total : tls->failure;
}

static bool tls_pending(const struct ntx_stream *stream)
{
    return ((const struct tls *)stream)->may_hold_more;
}

static short tls_wants(const struct ntx_stream *stream, short events)
{
    const struct tls *tls = (const struct tls *)stream;
    short wanted = events & POLLOUT;

    if ((events & POLLIN) != 0)
        wanted |= tls->reads_after;
    if (events != 0 && tls->out_end > 0)
        wanted |= POLLOUT;
    return tls->under->ops->wants(tls->under, wanted);
}

/* ------------------------------------------------------------------------------------- opening and closing */

/* Free all but the stream below. */
static void release(struct tls *tls)
{
    SSL_free(tls->ssl);
    BIO_meth_free(tls->method);
    ntx_tls_free(tls->shared);
    free(tls->out);
    free(tls);
}

static void tls_close(struct ntx_stream *stream)
{
    struct tls *tls = tls_of(stream);
    struct ntx_stream *under = tls->under;

    if (tls->failure == 0) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
        ERR_clear_error();
        (void)flush(tls);
    }
    release(tls);
    ntx_stream_close(under);
}

static const struct ntx_stream_ops TLS_OPS = {
    .sendv = tls_sendv,
    .recvv = tls_recvv,
    .pending = tls_pending,
    .wants = tls_wants,
    .reason = tls_reason,
    .close = tls_close,
};

static BIO_METHOD *new_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");

    if (method != NULL) {
        BIO_meth_set_write_ex(method, bio_write);
        BIO_meth_set_read_ex(method, bio_read);
        BIO_meth_set_ctrl(method, bio_control);
    }
    return method;
}

/* NULL: no memory. */
static struct tls *new_tls(struct ntx_stream *under, struct ntx_tls *shared)
{
    struct tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL)
        return NULL;
    tls->stream = (struct ntx_stream){.ops = &TLS_OPS, .fd = under->fd};
    tls->under = under;
    tls->shared = ntx_tls_share(shared);
    tls->reads_after = POLLIN;
    tls->is_handshake = true;
    tls->out = malloc(OUT_SIZE);
    tls->method = new_method();
    tls->ssl = SSL_new(shared->context);
    BIO *bio = tls->method == NULL ? NULL : BIO_new(tls->method);
    if (tls->out == NULL || tls->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        release(tls);
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* both are one: SSL_free() frees it */
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_verify(tls->ssl, SSL_VERIFY_PEER, look_at_certificate);
    SSL_set_cert_cb(tls->ssl, note_question, tls);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

/* One step.  0: done; -EAGAIN: wait for *events. */
static int step(struct tls *tls, short *events)
{
    ERR_clear_error();
    tls->reads = MAX_READS;
    int done = SSL_do_handshake(tls->ssl);
    int why = SSL_get_error(tls->ssl, done);

    *events = POLLIN;
    if (done != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        int result = failed(tls);
        (void)flush(tls); /* the alert that says why, if it can go at once */
        return result == 0 ? fail(tls, -ECONNRESET) : result;
    }
    int result = flush(tls);
    if (result != 0) { /* also at the end: what is last has to go */
        *events = POLLOUT;
        return result;
    }
    return done == 1 ? 0 : -EAGAIN;
}

/* After the handshake, whatever led here: what was agreed upon is what we want. */
static bool is_trusted(const struct tls *tls)
{
    bool has_certificate = SSL_get0_peer_certificate(tls->ssl) != NULL;

    if (SSL_version(tls->ssl) < TLS1_2_VERSION)
        return false;
    if (tls->shared->has_psk)
        return !has_certificate;
    return has_certificate && SSL_get_verify_result(tls->ssl) == X509_V_OK;
}

static int handshake(struct tls *tls, const struct ntx_until *until)
{
    short events;
    int result;

    if (!tls->shared->has_psk && !tls->shared->is_address && SSL_set_tlsext_host_name(tls->ssl, tls->shared->host) != 1)
        return -ENOMEM;
    while ((result = step(tls, &events)) == -EAGAIN) {
        result = ntx_until_ready(until, tls->stream.fd, tls->under->ops->wants(tls->under, events));
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

static int refused(struct tls *tls, int code, const char *name, struct ntx_error *err)
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
    struct tls *tls = new_tls(*stream, shared);

    if (tls == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory for TLS", name);
    int result = handshake(tls, until);
    if (result != 0) {
        result = refused(tls, result, name, err);
        release(tls);
        return result;
    }
    *stream = &tls->stream;
    return 0;
}
