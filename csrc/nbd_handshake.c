/* nbd_handshake.c: see nbd_handshake.h.  Every length from the server is checked before a byte of it is read. */
#include "nbd_handshake.h"

#include "bytes.h"
#include "error.h"
#include "nbd_proto.h"
#include "nbd_request.h"
#include "nbd_text.h"
#include "stream_tls.h"

#include <errno.h>
#include <inttypes.h>

#define REASON_SIZE 256u

enum stage { GREETING, HAGGLING, TRANSMISSION };

struct haggle {
    struct ntx_stream *stream;
    struct ntx_tls *tls; /* NULL: none is wanted */
    const struct ntx_until *until;
    const char *name, *export_name;
    size_t export_length;
    struct ntx_nbd_export *export;
    struct ntx_error *err;
    enum stage stage;
    bool has_export, has_block_sizes;
    char reason[REASON_SIZE]; /* ": <what the server said>", or empty; of the last error reply */
};

struct reply {
    uint32_t type, length; /* length: of the data still to be read; 0 for errors, whose text is in .reason */
};

/* ------------------------------------------------------------------------------------------------ bytes */

/* A send met a peer that has gone: what it said before is the better explanation. */
static int last_words(struct haggle *h)
{
    char byte;
    ssize_t got = h->stream->ops->recvv(h->stream, &(struct iovec){&byte, 1}, 1);

    return got < 0 && got != -EAGAIN ? (int)got : -ECONNRESET;
}

static int io_failed(struct haggle *h, int code, const char *action, const char *what)
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

static int receive(struct haggle *h, void *data, size_t length, const char *what)
{
    int result = ntx_stream_recv_all(h->stream, data, length, h->until, NULL);

    return result == 0 ? 0 : io_failed(h, result, "receiving", what);
}

static int skip(struct haggle *h, size_t length, const char *what)
{
    char unused[512];

    while (length > 0) {
        size_t count = ntx_min64(length, sizeof unused);
        int result = receive(h, unused, count, what);
        if (result != 0)
            return result;
        length -= count;
    }
    return 0;
}

static int send_option(struct haggle *h, uint32_t option, const void *data, size_t length, const char *what)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE];
    int result;

    ntx_put64(header, NBD_OPTION_MAGIC);
    ntx_put32(header + 8, option);
    ntx_put32(header + 12, (uint32_t)length);
    result = ntx_stream_send_all(h->stream, header, sizeof header, h->until);
    if (result == 0 && length > 0)
        result = ntx_stream_send_all(h->stream, data, length, h->until);
    return result == 0 ? 0 : io_failed(h, result, "sending", what);
}

static int broken(struct haggle *h, const char *what)
{
    return ntx_error_set(h->err, NTX_E_PROTOCOL, -EPROTO, "%s: handshake failed: the server broke the protocol: %s",
                         h->name, what);
}

/* ---------------------------------------------------------------------------------------------- replies */

static int receive_reason(struct haggle *h, uint32_t length)
{
    char text[REASON_SIZE];
    uint32_t kept = (uint32_t)ntx_min64(length, sizeof text - 3);
    int result = receive(h, text, kept, "an error reply");

    if (result == 0)
        result = skip(h, length - kept, "an error reply");
    h->reason[0] = '\0';
    if (result == 0 && kept > 0) {
        memcpy(h->reason, ": ", 2);
        ntx_nbd_printable(h->reason + 2, sizeof h->reason - 2, text, kept);
    }
    return result;
}

static int receive_reply(struct haggle *h, uint32_t option, struct reply *reply)
{
    uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];
    int result = receive(h, header, sizeof header, "an option reply");

    if (result != 0)
        return result;
    if (ntx_get64(header) != NBD_OPTION_REPLY_MAGIC)
        return broken(h, "wrong magic in an option reply");
    if (ntx_get32(header + 8) != option)
        return broken(h, "a reply to an option that was not sent");
    reply->type = ntx_get32(header + 12);
    reply->length = ntx_get32(header + 16);
    if (reply->length > NBD_MAX_OPTION_REPLY)
        return broken(h, "an option reply of more than 64 KiB");
    if (reply->type == NBD_REP_ACK && reply->length != 0)
        return broken(h, "an acknowledgement with data");
    if ((reply->type & NBD_REP_ERROR) != 0) {
        result = receive_reason(h, reply->length);
        reply->length = 0;
    }
    return result;
}

static int refused(struct haggle *h, uint32_t type)
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

/* -------------------------------------------------------------------------------------------------- TLS */

static int no_tls(struct haggle *h, const char *why)
{
    return ntx_error_set(h->err, NTX_E_NEGOTIATION, -ENOTSUP, "%s: TLS is required, and cannot be had: %s%s", h->name,
                         why, h->reason);
}

/* What came behind the acknowledgement came before the handshake: from anybody. */
static int check_nothing_came(struct haggle *h)
{
    uint8_t byte;
    struct iovec vector = {.iov_base = &byte, .iov_len = sizeof byte};
    ssize_t got = h->stream->ops->recvv(h->stream, &vector, 1);

    if (got == -EAGAIN)
        return 0;
    if (got > 0)
        return no_tls(h, "more came behind the acknowledgement, in the clear: somebody may have put it there");
    return io_failed(h, got == 0 ? -ECONNRESET : (int)got, "starting", "TLS");
}

/* proto.md "NBD_OPT_STARTTLS": any answer but an acknowledgement ends it. */
static int ask_tls(struct haggle *h)
{
    struct reply reply;
    int result = send_option(h, NBD_OPT_STARTTLS, NULL, 0, "the TLS option");

    if (result == 0)
        result = receive_reply(h, NBD_OPT_STARTTLS, &reply);
    if (result != 0)
        return result;
    switch (reply.type) {
    case NBD_REP_ACK:
        return check_nothing_came(h);
    case NBD_REP_ERR_UNSUP:
        return no_tls(h, "the server does not offer it");
    case NBD_REP_ERR_POLICY:
        return no_tls(h, "the server's policy forbids it");
    default:
        return no_tls(h, "the server, or somebody on the way, refuses it");
    }
}

/* Nothing is asked before, and nothing of what was said before counts. */
static int start_tls(struct haggle *h, uint16_t flags)
{
    if ((flags & NBD_FLAG_FIXED_NEWSTYLE) == 0)
        return no_tls(h, "the server, or somebody on the way, says that it takes no options (fixed newstyle)");
    h->stage = HAGGLING;
    int result = ask_tls(h);
    if (result != 0 && h->err->class == NTX_E_PROTOCOL)
        h->err->class = NTX_E_NEGOTIATION; /* whoever breaks the protocol here does not want TLS */
    if (result != 0)
        return result;
    h->stage = GREETING; /* nothing can be said until the handshake is done */
    result = ntx_stream_tls_start(&h->stream, h->tls, h->name, h->until, h->err);
    if (result == 0)
        h->stage = HAGGLING;
    return result;
}

/* ---------------------------------------------------------------------------------------------- options */

static int ask_structured_replies(struct haggle *h)
{
    struct reply reply;
    int result = send_option(h, NBD_OPT_STRUCTURED_REPLY, NULL, 0, "the structured reply option");

    if (result == 0)
        result = receive_reply(h, NBD_OPT_STRUCTURED_REPLY, &reply);
    if (result != 0)
        return result;
    if (reply.type == NBD_REP_ERR_SHUTDOWN)
        return refused(h, reply.type);
    if (reply.type != NBD_REP_ACK && (reply.type & NBD_REP_ERROR) == 0)
        return broken(h, "an unexpected reply to the structured reply option");
    h->export->is_structured = reply.type == NBD_REP_ACK; /* whatever error: go on without */
    return 0;
}

static int receive_context(struct haggle *h, uint32_t length)
{
    const uint32_t name_length = sizeof NBD_ALLOCATION_CONTEXT - 1;
    uint8_t data[4 + sizeof NBD_ALLOCATION_CONTEXT - 1];

    if (length != 4 + name_length || h->export->has_allocation)
        return broken(h, "a metadata context that was not asked for");
    int result = receive(h, data, sizeof data, "a metadata context");
    if (result != 0)
        return result;
    if (memcmp(data + 4, NBD_ALLOCATION_CONTEXT, name_length) != 0)
        return broken(h, "a metadata context that was not asked for");
    h->export->allocation_id = ntx_get32(data);
    h->export->has_allocation = true;
    return 0;
}

static int ask_allocation_context(struct haggle *h)
{
    const uint32_t query_length = sizeof NBD_ALLOCATION_CONTEXT - 1;
    uint8_t data[4 + NBD_MAX_STRING + 4 + 4 + sizeof NBD_ALLOCATION_CONTEXT];
    uint8_t *at = data;

    ntx_put32(at, (uint32_t)h->export_length);
    memcpy(at + 4, h->export_name, h->export_length);
    at += 4 + h->export_length;
    ntx_put32(at, 1);
    ntx_put32(at + 4, query_length);
    memcpy(at + 8, NBD_ALLOCATION_CONTEXT, query_length);
    at += 8 + query_length;

    int result = send_option(h, NBD_OPT_SET_META_CONTEXT, data, (size_t)(at - data), "the metadata context option");
    if (result != 0)
        return result;
    for (unsigned i = 0; i < NBD_MAX_OPTION_REPLIES; i++) {
        struct reply reply;
        result = receive_reply(h, NBD_OPT_SET_META_CONTEXT, &reply);
        if (result != 0 || reply.type == NBD_REP_ACK)
            return result;
        if (reply.type == NBD_REP_ERR_SHUTDOWN)
            return refused(h, reply.type);
        if ((reply.type & NBD_REP_ERROR) != 0) {
            h->export->has_allocation = false; /* contexts named before an error do not count */
            return 0;
        }
        if (reply.type != NBD_REP_META_CONTEXT)
            return broken(h, "an unexpected reply to the metadata context option");
        result = receive_context(h, reply.length);
        if (result != 0)
            return result;
    }
    return broken(h, "too many replies to the metadata context option");
}

static int receive_info(struct haggle *h, uint32_t length)
{
    struct ntx_nbd_export *export = h->export;
    uint8_t data[NBD_INFO_BLOCK_SIZE_SIZE];
    uint32_t kept = (uint32_t)ntx_min64(length, sizeof data);

    if (length < 2)
        return broken(h, "an information reply without a type");
    int result = receive(h, data, kept, "export information");
    if (result == 0)
        result = skip(h, length - kept, "export information");
    if (result != 0)
        return result;
    switch (ntx_get16(data)) {
    case NBD_INFO_EXPORT:
        if (length != NBD_INFO_EXPORT_SIZE)
            return broken(h, "export information of the wrong length");
        export->size = ntx_get64(data + 2);
        export->flags = ntx_get16(data + 10);
        h->has_export = true;
        return 0;
    case NBD_INFO_BLOCK_SIZE:
        if (length != NBD_INFO_BLOCK_SIZE_SIZE)
            return broken(h, "block size information of the wrong length");
        export->min_block = ntx_get32(data + 2);
        export->preferred_block = ntx_get32(data + 6);
        export->max_payload = ntx_get32(data + 10);
        h->has_block_sizes = true;
        return 0;
    default:
        return 0; /* names, descriptions and what may come: not needed */
    }
}

/* GO.  *is_unsupported: the server does not know it, and EXPORT_NAME is left. */
static int go(struct haggle *h, bool *is_unsupported)
{
    uint8_t data[4 + NBD_MAX_STRING + 4];

    *is_unsupported = false;
    ntx_put32(data, (uint32_t)h->export_length);
    memcpy(data + 4, h->export_name, h->export_length);
    ntx_put16(data + 4 + h->export_length, 1);
    ntx_put16(data + 6 + h->export_length, NBD_INFO_BLOCK_SIZE);

    int result = send_option(h, NBD_OPT_GO, data, 8 + h->export_length, "the export option");
    if (result != 0)
        return result;
    for (unsigned i = 0; i < NBD_MAX_OPTION_REPLIES; i++) {
        struct reply reply;
        result = receive_reply(h, NBD_OPT_GO, &reply);
        if (result != 0)
            return result;
        if (reply.type == NBD_REP_ERR_UNSUP) {
            *is_unsupported = true;
            return 0;
        }
        if ((reply.type & NBD_REP_ERROR) != 0)
            return refused(h, reply.type);
        if (reply.type == NBD_REP_ACK) {
            h->stage = TRANSMISSION;
            return h->has_export ? 0 : broken(h, "the export was accepted without its size");
        }
        if (reply.type != NBD_REP_INFO)
            return broken(h, "an unexpected reply to the export option");
        result = receive_info(h, reply.length);
        if (result != 0)
            return result;
    }
    return broken(h, "too many replies to the export option");
}

static int use_export_name(struct haggle *h, bool has_zeroes)
{
    uint8_t data[NBD_EXPORT_NAME_REPLY_SIZE];
    size_t received;
    int result = send_option(h, NBD_OPT_EXPORT_NAME, h->export_name, h->export_length, "the export name");

    if (result != 0)
        return result;
    result = ntx_stream_recv_all(h->stream, data, sizeof data, h->until, &received);
    if (result == -ECONNRESET && received == 0) /* the only way this option has to say no */
        return ntx_error_set(h->err, NTX_E_NEGOTIATION, -ENOENT,
                             "%s: opening the export failed: the server closed the connection, so it has no such "
                             "export or does not permit it",
                             h->name);
    if (result != 0)
        return io_failed(h, result, "receiving", "the export's size");
    h->stage = TRANSMISSION;
    h->export->size = ntx_get64(data);
    h->export->flags = ntx_get16(data + 8);
    h->has_block_sizes = false; /* limits named before GO was refused do not count */
    return has_zeroes ? skip(h, NBD_EXPORT_NAME_ZEROES, "the export's size") : 0;
}

/* -------------------------------------------------------------------------------------------- the course */

static int greet(struct haggle *h, uint16_t *flags)
{
    uint8_t greeting[16], data[4];
    int result = receive(h, greeting, sizeof greeting, "the greeting");

    if (result != 0)
        return result;
    if (ntx_get64(greeting) != NBD_INIT_MAGIC)
        return broken(h, "this is not an NBD server");
    if (ntx_get64(greeting + 8) == NBD_OLDSTYLE_MAGIC)
        return ntx_error_set(h->err, NTX_E_NEGOTIATION, -ENOTSUP,
                             "%s: handshake failed: the server speaks only the oldstyle protocol; a newstyle server "
                             "is needed",
                             h->name);
    if (ntx_get64(greeting + 8) != NBD_OPTION_MAGIC)
        return broken(h, "wrong magic in the greeting");
    result = receive(h, data, 2, "the handshake flags");
    if (result != 0)
        return result;
    *flags = ntx_get16(data) & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES); /* ours have the same bits */
    ntx_put32(data, *flags);
    result = ntx_stream_send_all(h->stream, data, sizeof data, h->until);
    return result == 0 ? 0 : io_failed(h, result, "sending", "the client flags");
}

static int negotiate(struct haggle *h)
{
    uint16_t flags = 0;
    bool is_go_unsupported = true;
    int result = greet(h, &flags);

    if (result == 0 && h->tls != NULL)
        result = start_tls(h, flags);
    if (result == 0 && (flags & NBD_FLAG_FIXED_NEWSTYLE) != 0) {
        h->stage = HAGGLING;
        result = ask_structured_replies(h);
        if (result == 0 && h->export->is_structured)
            result = ask_allocation_context(h);
        if (result == 0)
            result = go(h, &is_go_unsupported);
    }
    /* Whether zeroes follow the size was said before TLS. */
    if (result == 0 && is_go_unsupported && h->tls != NULL)
        return no_tls(h, "the server does not know the export option (GO), which is needed with it");
    if (result == 0 && is_go_unsupported)
        result = use_export_name(h, (flags & NBD_FLAG_NO_ZEROES) == 0);
    return result == 0 ? ntx_nbd_export_settle(h->export, h->has_block_sizes, h->name, h->err) : result;
}

/* proto.md "Termination of the session during option haggling": who merely does not want to go on, says so. */
static void say_goodbye(const struct haggle *h)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE];

    if (h->stage == TRANSMISSION)
        ntx_nbd_send_disconnect(h->stream);
    if (h->stage != HAGGLING)
        return;
    ntx_put64(header, NBD_OPTION_MAGIC);
    ntx_put32(header + 8, NBD_OPT_ABORT);
    ntx_put32(header + 12, 0);
    ntx_stream_send_hint(h->stream, header, sizeof header);
}

int ntx_nbd_handshake(struct ntx_stream **stream, struct ntx_tls *tls, const char *name, const char *export_name,
                      const struct ntx_until *until, struct ntx_nbd_export *export, struct ntx_error *err)
{
    struct haggle h = {
        .stream = *stream,
        .tls = tls,
        .until = until,
        .name = name,
        .export_name = export_name,
        .export_length = strlen(export_name),
        .export = export,
        .err = err,
        .stage = GREETING,
    };

    memset(export, 0, sizeof *export);
    if (h.export_length > NBD_MAX_STRING)
        return ntx_error_set(err, NTX_E_OPTIONS, -ENAMETOOLONG,
                             "%s: opening the export failed: an export name has at most %u bytes, this one %zu", name,
                             NBD_MAX_STRING, h.export_length);
    int result = negotiate(&h);
    *stream = h.stream;
    if (result != 0 && (err->class == NTX_E_NEGOTIATION || err->code == -ESHUTDOWN))
        say_goodbye(&h);
    return result;
}
