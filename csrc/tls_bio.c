/* tls_bio.c: see tls_bio.h. */
#include "tls_bio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int bio_write(BIO *bio, const char *data, size_t length, size_t *written)
{
    struct ntx_tls_bio *b = BIO_get_data(bio);
    size_t room = NTX_TLS_OUT_SIZE - b->out_end;

    BIO_clear_retry_flags(bio);
    *written = length < room ? length : room;
    memcpy(b->out + b->out_end, data, *written);
    b->out_end += *written;
    if (*written == 0)
        BIO_set_retry_write(bio);
    return *written > 0;
}

static int bio_read(BIO *bio, char *data, size_t length, size_t *received)
{
    struct ntx_tls_bio *b = BIO_get_data(bio);
    struct iovec vector = {.iov_base = data, .iov_len = length};
    ssize_t got = b->reads == 0 ? -EAGAIN : b->under->ops->recvv(b->under, &vector, 1);

    b->reads -= b->reads > 0;
    BIO_clear_retry_flags(bio);
    *received = got > 0 ? (size_t)got : 0;
    if (got == -EAGAIN)
        BIO_set_retry_read(bio);
    else if (got == 0)
        b->has_ended = true;
    else if (got < 0)
        b->failure = (int)got;
    return got > 0;
}

static long bio_control(BIO *bio, int command, long number, void *data)
{
    const struct ntx_tls_bio *b = BIO_get_data(bio);

    (void)number, (void)data;
    if (command == BIO_CTRL_EOF)
        return b->has_ended;
    return command == BIO_CTRL_FLUSH; /* there is nothing to do; all else is not known */
}

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

int ntx_tls_bio_init(struct ntx_tls_bio *b, struct ntx_stream *under, SSL *ssl)
{
    *b = (struct ntx_tls_bio){.under = under, .method = new_method(), .out = malloc(NTX_TLS_OUT_SIZE)};
    BIO *bio = b->method == NULL ? NULL : BIO_new(b->method);

    if (b->out == NULL || bio == NULL) {
        BIO_free(bio);
        return -ENOMEM;
    }
    BIO_set_data(bio, b);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio); /* both are one: SSL_free() frees it */
    return 0;
}

void ntx_tls_bio_destroy(struct ntx_tls_bio *b)
{
    BIO_meth_free(b->method);
    free(b->out);
}

bool ntx_tls_bio_has_room(const struct ntx_tls_bio *b)
{
    return NTX_TLS_OUT_SIZE - b->out_end >= 2 * NTX_TLS_SEALED_SIZE;
}

int ntx_tls_bio_flush(struct ntx_tls_bio *b)
{
    while (b->out_start < b->out_end) {
        struct iovec vector = {.iov_base = b->out + b->out_start, .iov_len = b->out_end - b->out_start};
        ssize_t sent = b->under->ops->sendv(b->under, &vector, 1, false);
        if (sent < 0)
            return (int)sent;
        b->out_start += (size_t)sent;
    }
    b->out_start = b->out_end = 0;
    return 0;
}
