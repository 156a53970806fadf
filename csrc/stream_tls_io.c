/* stream_tls_io.c: see stream_tls_io.h, and stream.h for what each operation promises. */
#include "stream_tls_io.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static struct ntx_tls_stream *tls_of(struct ntx_stream *stream)
{
    return (struct ntx_tls_stream *)stream;
}

/* ------------------------------------------------------------------------------------------------ failing */

int ntx_tls_stream_fail(struct ntx_tls_stream *tls, int code)
{
    if (tls->bio.failure == 0)
        tls->bio.failure = code;
    return tls->bio.failure;
}

int ntx_tls_stream_failed(struct ntx_tls_stream *tls)
{
    if (tls->bio.has_ended || tls->bio.failure != 0) {
        ERR_clear_error();
        return tls->bio.failure;
    }
    if (tls->reason[0] == '\0') /* else the certificate was looked at, and says more */
        return ntx_tls_stream_fail(tls, ntx_tls_reason_of_failure(tls->shared, tls->is_handshake, tls->reason));
    ERR_clear_error();
    return ntx_tls_stream_fail(tls, -EKEYREJECTED);
}

static const char *tls_reason(const struct ntx_stream *stream)
{
    const struct ntx_tls_stream *tls = (const struct ntx_tls_stream *)stream;
    bool has_gone = tls->bio.has_ended || tls->bio.failure == -ECONNRESET;

    if (tls->reason[0] != '\0' || !has_gone || tls->has_received)
        return tls->reason;
    /* Many servers go without saying why. */
    if (tls->shared->has_psk)
        return "perhaps it does not accept the pre-shared key of this user";
    return tls->was_asked_for_certificate ? "perhaps it does not accept our certificate" : "";
}

/* The peer has ended, or was cut off.  One that goes when it should look at our certificate wanted one. */
static void end(struct ntx_tls_stream *tls)
{
    if (tls->has_received || !tls->was_asked_for_certificate || tls->shared->has_certificate)
        return;
    strcpy(tls->reason, "the server wants a client certificate, and none was given");
    tls->bio.failure = -EKEYREJECTED;
}

/* ------------------------------------------------------------------------------------------------ sending */

/* RFC 8446 section 5.5: a key serves for so many records, and OpenSSL does not count them.  A new one of ours is
 * announced with what is sent next.  That of the server is its own affair: one that has a thread for each direction
 * (nbdkit with GnuTLS 3.7) loses the connection when it is asked. LIMIT: TLS 1.2 would need another handshake, which
 * neither end does: its keys last as long as the connection. */
static void count_sent_record(struct ntx_tls_stream *tls)
{
    if (++tls->records < tls->shared->records_per_key || SSL_version(tls->ssl) < TLS1_3_VERSION)
        return;
    if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1) /* else one is under way: soon again */
        tls->records = 0;
    ERR_clear_error();
}

/* Encrypt one record of vectors behind what is ahead.  False: there is nothing left, or no room. */
static bool seal_record(struct ntx_tls_stream *tls, const struct iovec *vectors, unsigned count)
{
    size_t skipped = tls->ahead, written = 0;

    if (!ntx_tls_bio_has_room(&tls->bio))
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
                            left < NTX_TLS_RECORD_SIZE ? left : NTX_TLS_RECORD_SIZE, &written);
    if (done != 1 && SSL_get_error(tls->ssl, done) != SSL_ERROR_WANT_WRITE && ntx_tls_stream_failed(tls) == 0)
        (void)ntx_tls_stream_fail(tls, -EPIPE);
    tls->ahead += written;
    if (done == 1)
        count_sent_record(tls);
    return done == 1;
}

static ssize_t tls_sendv(struct ntx_stream *stream, struct iovec *vectors, unsigned count, bool may_refer)
{
    struct ntx_tls_stream *tls = tls_of(stream);
    size_t taken = 0;
    int result;

    (void)may_refer;
    if (tls->bio.failure != 0)
        return tls->bio.failure;
    do {
        while (seal_record(tls, vectors, count))
            continue;
        if (tls->bio.failure != 0)
            return tls->bio.failure;
        result = ntx_tls_bio_flush(&tls->bio);
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
    struct ntx_tls_stream *tls = tls_of(stream);
    size_t total = 0, got;
    int done = 1;

    tls->may_hold_more = false;
    if (tls->bio.failure != 0)
        return tls->bio.failure;
    if (tls->bio.out_end > 0)
        (void)ntx_tls_bio_flush(&tls->bio); /* if it fails, so will receiving, and say why */
    for (unsigned i = 0; i < count; i++) {
        while (vectors[i].iov_len > 0 && done == 1) {
            ERR_clear_error();
            tls->bio.reads = NTX_TLS_MAX_READS;
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
        tls->bio.has_ended = true;
        break;
    default:
        (void)ntx_tls_stream_failed(tls);
        (void)ntx_tls_bio_flush(&tls->bio); /* the alert that says why, if it can go at once */
        break;
    }
    if (tls->bio.has_ended || tls->bio.failure == -ECONNRESET)
        end(tls);
    /* What came before is the caller's first; the next call meets the end again. */
    tls->may_hold_more = total > 0;
    return total > 0 ? (ssize_t)total : tls->bio.failure;
}

static bool tls_pending(const struct ntx_stream *stream)
{
    return ((const struct ntx_tls_stream *)stream)->may_hold_more;
}

static short tls_wants(const struct ntx_stream *stream, short events)
{
    const struct ntx_tls_stream *tls = (const struct ntx_tls_stream *)stream;
    short wanted = events & POLLOUT;

    if ((events & POLLIN) != 0)
        wanted |= tls->reads_after;
    if (events != 0 && tls->bio.out_end > 0)
        wanted |= POLLOUT;
    return tls->bio.under->ops->wants(tls->bio.under, wanted);
}

/* ------------------------------------------------------------------------------------------------ closing */

void ntx_tls_stream_release(struct ntx_tls_stream *tls)
{
    SSL_free(tls->ssl);
    ntx_tls_bio_destroy(&tls->bio);
    ntx_tls_free(tls->shared);
    free(tls);
}

static void tls_close(struct ntx_stream *stream)
{
    struct ntx_tls_stream *tls = tls_of(stream);
    struct ntx_stream *under = tls->bio.under;

    if (tls->bio.failure == 0) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
        ERR_clear_error();
        (void)ntx_tls_bio_flush(&tls->bio);
    }
    ntx_tls_stream_release(tls);
    ntx_stream_close(under);
}

const struct ntx_stream_ops ntx_tls_stream_ops = {
    .sendv = tls_sendv,
    .recvv = tls_recvv,
    .pending = tls_pending,
    .wants = tls_wants,
    .reason = tls_reason,
    .close = tls_close,
};
