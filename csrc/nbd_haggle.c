/* nbd_haggle.c: see nbd_haggle.h.  Every length from the server is checked before a byte of it is read. */
#include "nbd_haggle.h"

#include "bytes.h"
#include "error.h"
#include "nbd_proto.h"
#include "nbd_text.h"

#include <errno.h>
#include <inttypes.h>

/* ------------------------------------------------------------------------------------------------ bytes */

/* A send met a peer that has gone: what it said before is the better explanation. */
static int last_words(struct ntx_nbd_haggle *h)
{
    char byte;
    ssize_t got = h->stream->ops->recvv(h->stream, &(struct iovec){&byte, 1}, 1);

    return got < 0 && got != -EAGAIN ? (int)got : -ECONNRESET;
}

int ntx_nbd_haggle_io_failed(struct ntx_nbd_haggle *h, int code, const char *action, const char *what)
{
    if (code == -ECONNRESET)
        code = last_words(h);
    struct ntx_stream_why why = ntx_stream_why(h->stream);
    if (code == -ETIMEDOUT)
        return ntx_error_set(h->err, NTX_E_TIMEOUT, code, "%s: handshake failed: time limit reached while %s %s",
                             h->name, action, what);
    if (code == -ECANCELED)
        return ntx_error_set(h->err, NTX_E_CANCELLED, code, "%s: handshake stopped while %s %s", h->name, action, what);
    if (code == -EKEYREJECTED) /* one end does not trust the other: asking again would not help */
        return ntx_error_set(h->err, NTX_E_NEGOTIATION, code, "%s: handshake failed while %s %s%s", h->name, action,
                             what, why.text);
    if (code == -ECONNRESET)
        return ntx_error_set(h->err, NTX_E_DEVICE, code,
                             "%s: handshake failed: the server closed the connection while %s %s%s", h->name, action,
                             what, why.text);
    return ntx_error_errno(h->err, NTX_E_DEVICE, code, "%s: handshake failed while %s %s%s", h->name, action, what,
                           why.text);
}

int ntx_nbd_haggle_receive(struct ntx_nbd_haggle *h, void *data, size_t length, const char *what)
{
    int result = ntx_stream_recv_all(h->stream, data, length, h->until, NULL);

    return result == 0 ? 0 : ntx_nbd_haggle_io_failed(h, result, "receiving", what);
}

int ntx_nbd_haggle_skip(struct ntx_nbd_haggle *h, size_t length, const char *what)
{
    char unused[512];

    while (length > 0) {
        size_t count = ntx_min64(length, sizeof unused);
        int result = ntx_nbd_haggle_receive(h, unused, count, what);
        if (result != 0)
            return result;
        length -= count;
    }
    return 0;
}

int ntx_nbd_haggle_ask(struct ntx_nbd_haggle *h, uint32_t option, const void *data, size_t length, const char *what)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE];
    int result;

    ntx_put64(header, NBD_OPTION_MAGIC);
    ntx_put32(header + 8, option);
    ntx_put32(header + 12, (uint32_t)length);
    result = ntx_stream_send_all(h->stream, header, sizeof header, h->until);
    if (result == 0 && length > 0)
        result = ntx_stream_send_all(h->stream, data, length, h->until);
    return result == 0 ? 0 : ntx_nbd_haggle_io_failed(h, result, "sending", what);
}

int ntx_nbd_haggle_broken(struct ntx_nbd_haggle *h, const char *what)
{
    return ntx_error_set(h->err, NTX_E_PROTOCOL, -EPROTO, "%s: handshake failed: the server broke the protocol: %s",
                         h->name, what);
}

/* ---------------------------------------------------------------------------------------------- replies */

static int receive_reason(struct ntx_nbd_haggle *h, uint32_t length)
{
    char text[NTX_NBD_REASON_SIZE];
    uint32_t kept = (uint32_t)ntx_min64(length, sizeof text - 3);
    int result = ntx_nbd_haggle_receive(h, text, kept, "an error reply");

    if (result == 0)
        result = ntx_nbd_haggle_skip(h, length - kept, "an error reply");
    h->reason[0] = '\0';
    if (result == 0 && kept > 0) {
        memcpy(h->reason, ": ", 2);
        ntx_nbd_printable(h->reason + 2, sizeof h->reason - 2, text, kept);
    }
    return result;
}

int ntx_nbd_haggle_hear(struct ntx_nbd_haggle *h, uint32_t option, struct ntx_nbd_option_reply *reply)
{
    uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];
    int result = ntx_nbd_haggle_receive(h, header, sizeof header, "an option reply");

    if (result != 0)
        return result;
    if (ntx_get64(header) != NBD_OPTION_REPLY_MAGIC)
        return ntx_nbd_haggle_broken(h, "wrong magic in an option reply");
    if (ntx_get32(header + 8) != option)
        return ntx_nbd_haggle_broken(h, "a reply to an option that was not sent");
    reply->type = ntx_get32(header + 12);
    reply->length = ntx_get32(header + 16);
    if (reply->length > NBD_MAX_OPTION_REPLY)
        return ntx_nbd_haggle_broken(h, "an option reply of more than 64 KiB");
    if (reply->type == NBD_REP_ACK && reply->length != 0)
        return ntx_nbd_haggle_broken(h, "an acknowledgement with data");
    if ((reply->type & NBD_REP_ERROR) != 0) {
        result = receive_reason(h, reply->length);
        reply->length = 0;
    }
    return result;
}

int ntx_nbd_haggle_refused(struct ntx_nbd_haggle *h, uint32_t type)
{
    static const struct {
        uint32_t type;
        int code;
        const char *meaning;
    } known[] = {
        {NBD_REP_ERR_UNSUP, -ENOTSUP, "the server does not support it"},
        {NBD_REP_ERR_POLICY, -EPERM, "the server's policy forbids it"},
        {NBD_REP_ERR_INVALID, -EINVAL, "the server calls the request invalid"},
        {NBD_REP_ERR_PLATFORM, -ENOTSUP, "the server's platform does not support it"},
        {NBD_REP_ERR_TLS_REQD, -ENOTSUP, "the server requires TLS, and this connection has none (nbds:// has)"},
        {NBD_REP_ERR_UNKNOWN, -ENOENT, "the server has no such export"},
        {NBD_REP_ERR_BLOCK_SIZE_REQD, -ENOTSUP, "the server wants block sizes to be negotiated, though they were"},
        {NBD_REP_ERR_TOO_BIG, -E2BIG, "the request is too large for the server"},
    };

    if (type == NBD_REP_ERR_SHUTDOWN) /* not for ever: asking again later may help */
        return ntx_error_set(h->err, NTX_E_DEVICE, -ESHUTDOWN, "%s: handshake failed: the server is shutting down%s",
                             h->name, h->reason);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].type == type)
            return ntx_error_set(h->err, NTX_E_NEGOTIATION, known[i].code, "%s: opening the export failed: %s%s",
                                 h->name, known[i].meaning, h->reason);
    return ntx_error_set(h->err, NTX_E_NEGOTIATION, -EINVAL,
                         "%s: opening the export failed: the server answers with error 0x%08" PRIx32 "%s", h->name,
                         type, h->reason);
}
