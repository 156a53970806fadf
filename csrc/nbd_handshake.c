/* nbd_handshake.c: see nbd_handshake.h. */
#include "nbd_handshake.h"

#include "bytes.h"
#include "error.h"
#include "nbd_haggle.h"
#include "nbd_proto.h"
#include "nbd_request.h"
#include "stream_tls.h"

#include <errno.h>

/* -------------------------------------------------------------------------------------------------- TLS */

static int no_tls(struct ntx_nbd_haggle *h, const char *why)
{
    return ntx_error_set(h->err, NTX_E_NEGOTIATION, -ENOTSUP, "%s: TLS is required, and cannot be had: %s%s", h->name,
                         why, h->reason);
}

/* What came behind the acknowledgement came before the handshake: from anybody. */
static int check_nothing_came(struct ntx_nbd_haggle *h)
{
    uint8_t byte;
    struct iovec vector = {.iov_base = &byte, .iov_len = sizeof byte};
    ssize_t got = h->stream->ops->recvv(h->stream, &vector, 1);

    if (got == -EAGAIN)
        return 0;
    if (got > 0)
        return no_tls(h, "more came behind the acknowledgement, in the clear: somebody may have put it there");
    return ntx_nbd_haggle_io_failed(h, got == 0 ? -ECONNRESET : (int)got, "starting", "TLS");
}

/* proto.md "NBD_OPT_STARTTLS": any answer but an acknowledgement ends it. */
static int ask_tls(struct ntx_nbd_haggle *h)
{
    struct ntx_nbd_option_reply reply;
    int result = ntx_nbd_haggle_ask(h, NBD_OPT_STARTTLS, NULL, 0, "the TLS option");

    if (result == 0)
        result = ntx_nbd_haggle_hear(h, NBD_OPT_STARTTLS, &reply);
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
static int start_tls(struct ntx_nbd_haggle *h, uint16_t flags)
{
    if ((flags & NBD_FLAG_FIXED_NEWSTYLE) == 0)
        return no_tls(h, "the server, or somebody on the way, says that it takes no options (fixed newstyle)");
    h->stage = NTX_NBD_HAGGLING;
    int result = ask_tls(h);
    if (result != 0 && h->err->class == NTX_E_PROTOCOL)
        h->err->class = NTX_E_NEGOTIATION; /* whoever breaks the protocol here does not want TLS */
    if (result != 0)
        return result;
    h->stage = NTX_NBD_GREETING; /* nothing can be said until the handshake is done */
    result = ntx_stream_tls_start(&h->stream, h->tls, h->name, h->until, h->err);
    if (result == 0)
        h->stage = NTX_NBD_HAGGLING;
    return result;
}

/* ---------------------------------------------------------------------------------------------- options */

static int ask_structured_replies(struct ntx_nbd_haggle *h)
{
    struct ntx_nbd_option_reply reply;
    int result = ntx_nbd_haggle_ask(h, NBD_OPT_STRUCTURED_REPLY, NULL, 0, "the structured reply option");

    if (result == 0)
        result = ntx_nbd_haggle_hear(h, NBD_OPT_STRUCTURED_REPLY, &reply);
    if (result != 0)
        return result;
    if (reply.type == NBD_REP_ERR_SHUTDOWN)
        return ntx_nbd_haggle_refused(h, reply.type);
    if (reply.type != NBD_REP_ACK && (reply.type & NBD_REP_ERROR) == 0)
        return ntx_nbd_haggle_broken(h, "an unexpected reply to the structured reply option");
    h->export->is_structured = reply.type == NBD_REP_ACK; /* whatever error: go on without */
    return 0;
}

static int receive_context(struct ntx_nbd_haggle *h, uint32_t length)
{
    const uint32_t name_length = sizeof NBD_ALLOCATION_CONTEXT - 1;
    uint8_t data[4 + sizeof NBD_ALLOCATION_CONTEXT - 1];

    if (length != 4 + name_length || h->export->has_allocation)
        return ntx_nbd_haggle_broken(h, "a metadata context that was not asked for");
    int result = ntx_nbd_haggle_receive(h, data, sizeof data, "a metadata context");
    if (result != 0)
        return result;
    if (memcmp(data + 4, NBD_ALLOCATION_CONTEXT, name_length) != 0)
        return ntx_nbd_haggle_broken(h, "a metadata context that was not asked for");
    h->export->allocation_id = ntx_get32(data);
    h->export->has_allocation = true;
    return 0;
}

static int ask_allocation_context(struct ntx_nbd_haggle *h)
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

    int result =
        ntx_nbd_haggle_ask(h, NBD_OPT_SET_META_CONTEXT, data, (size_t)(at - data), "the metadata context option");
    if (result != 0)
        return result;
    for (unsigned i = 0; i < NBD_MAX_OPTION_REPLIES; i++) {
        struct ntx_nbd_option_reply reply;
        result = ntx_nbd_haggle_hear(h, NBD_OPT_SET_META_CONTEXT, &reply);
        if (result != 0 || reply.type == NBD_REP_ACK)
            return result;
        if (reply.type == NBD_REP_ERR_SHUTDOWN)
            return ntx_nbd_haggle_refused(h, reply.type);
        if ((reply.type & NBD_REP_ERROR) != 0) {
            h->export->has_allocation = false; /* contexts named before an error do not count */
            return 0;
        }
        if (reply.type != NBD_REP_META_CONTEXT)
            return ntx_nbd_haggle_broken(h, "an unexpected reply to the metadata context option");
        result = receive_context(h, reply.length);
        if (result != 0)
            return result;
    }
    return ntx_nbd_haggle_broken(h, "too many replies to the metadata context option");
}

static int receive_info(struct ntx_nbd_haggle *h, uint32_t length)
{
    struct ntx_nbd_export *export = h->export;
    uint8_t data[NBD_INFO_BLOCK_SIZE_SIZE];
    uint32_t kept = (uint32_t)ntx_min64(length, sizeof data);

    if (length < 2)
        return ntx_nbd_haggle_broken(h, "an information reply without a type");
    int result = ntx_nbd_haggle_receive(h, data, kept, "export information");
    if (result == 0)
        result = ntx_nbd_haggle_skip(h, length - kept, "export information");
    if (result != 0)
        return result;
    switch (ntx_get16(data)) {
    case NBD_INFO_EXPORT:
        if (length != NBD_INFO_EXPORT_SIZE)
            return ntx_nbd_haggle_broken(h, "export information of the wrong length");
        export->size = ntx_get64(data + 2);
        export->flags = ntx_get16(data + 10);
        h->has_export = true;
        return 0;
    case NBD_INFO_BLOCK_SIZE:
        if (length != NBD_INFO_BLOCK_SIZE_SIZE)
            return ntx_nbd_haggle_broken(h, "block size information of the wrong length");
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
static int go(struct ntx_nbd_haggle *h, bool *is_unsupported)
{
    uint8_t data[4 + NBD_MAX_STRING + 4];

    *is_unsupported = false;
    ntx_put32(data, (uint32_t)h->export_length);
    memcpy(data + 4, h->export_name, h->export_length);
    ntx_put16(data + 4 + h->export_length, 1);
    ntx_put16(data + 6 + h->export_length, NBD_INFO_BLOCK_SIZE);

    int result = ntx_nbd_haggle_ask(h, NBD_OPT_GO, data, 8 + h->export_length, "the export option");
    if (result != 0)
        return result;
    for (unsigned i = 0; i < NBD_MAX_OPTION_REPLIES; i++) {
        struct ntx_nbd_option_reply reply;
        result = ntx_nbd_haggle_hear(h, NBD_OPT_GO, &reply);
        if (result != 0)
            return result;
        if (reply.type == NBD_REP_ERR_UNSUP) {
            *is_unsupported = true;
            return 0;
        }
        if ((reply.type & NBD_REP_ERROR) != 0)
            return ntx_nbd_haggle_refused(h, reply.type);
        if (reply.type == NBD_REP_ACK) {
            h->stage = NTX_NBD_TRANSMISSION;
            return h->has_export ? 0 : ntx_nbd_haggle_broken(h, "the export was accepted without its size");
        }
        if (reply.type != NBD_REP_INFO)
            return ntx_nbd_haggle_broken(h, "an unexpected reply to the export option");
        result = receive_info(h, reply.length);
        if (result != 0)
            return result;
    }
    return ntx_nbd_haggle_broken(h, "too many replies to the export option");
}

static int use_export_name(struct ntx_nbd_haggle *h, bool has_zeroes)
{
    uint8_t data[NBD_EXPORT_NAME_REPLY_SIZE];
    size_t received;
    int result = ntx_nbd_haggle_ask(h, NBD_OPT_EXPORT_NAME, h->export_name, h->export_length, "the export name");

    if (result != 0)
        return result;
    result = ntx_stream_recv_all(h->stream, data, sizeof data, h->until, &received);
    if (result == -ECONNRESET && received == 0) /* the only way this option has to say no */
        return ntx_error_set(h->err, NTX_E_NEGOTIATION, -ENOENT,
                             "%s: opening the export failed: the server closed the connection, so it has no such "
                             "export or does not permit it",
                             h->name);
    if (result != 0)
        return ntx_nbd_haggle_io_failed(h, result, "receiving", "the export's size");
    h->stage = NTX_NBD_TRANSMISSION;
    h->export->size = ntx_get64(data);
    h->export->flags = ntx_get16(data + 8);
    h->has_block_sizes = false; /* limits named before GO was refused do not count */
    return has_zeroes ? ntx_nbd_haggle_skip(h, NBD_EXPORT_NAME_ZEROES, "the export's size") : 0;
}

/* -------------------------------------------------------------------------------------------- the course */

static int greet(struct ntx_nbd_haggle *h, uint16_t *flags)
{
    uint8_t greeting[16], data[4];
    int result = ntx_nbd_haggle_receive(h, greeting, sizeof greeting, "the greeting");

    if (result != 0)
        return result;
    if (ntx_get64(greeting) != NBD_INIT_MAGIC)
        return ntx_nbd_haggle_broken(h, "this is not an NBD server");
    if (ntx_get64(greeting + 8) == NBD_OLDSTYLE_MAGIC)
        return ntx_error_set(h->err, NTX_E_NEGOTIATION, -ENOTSUP,
                             "%s: handshake failed: the server speaks only the oldstyle protocol; a newstyle server "
                             "is needed",
                             h->name);
    if (ntx_get64(greeting + 8) != NBD_OPTION_MAGIC)
        return ntx_nbd_haggle_broken(h, "wrong magic in the greeting");
    result = ntx_nbd_haggle_receive(h, data, 2, "the handshake flags");
    if (result != 0)
        return result;
    *flags = ntx_get16(data) & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES); /* ours have the same bits */
    ntx_put32(data, *flags);
    result = ntx_stream_send_all(h->stream, data, sizeof data, h->until);
    return result == 0 ? 0 : ntx_nbd_haggle_io_failed(h, result, "sending", "the client flags");
}

static int negotiate(struct ntx_nbd_haggle *h)
{
    uint16_t flags = 0;
    bool is_go_unsupported = true;
    int result = greet(h, &flags);

    if (result == 0 && h->tls != NULL)
        result = start_tls(h, flags);
    if (result == 0 && (flags & NBD_FLAG_FIXED_NEWSTYLE) != 0) {
        h->stage = NTX_NBD_HAGGLING;
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
static void say_goodbye(const struct ntx_nbd_haggle *h)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE];

    if (h->stage == NTX_NBD_TRANSMISSION)
        ntx_nbd_send_disconnect(h->stream);
    if (h->stage != NTX_NBD_HAGGLING)
        return;
    ntx_put64(header, NBD_OPTION_MAGIC);
    ntx_put32(header + 8, NBD_OPT_ABORT);
    ntx_put32(header + 12, 0);
    ntx_stream_send_hint(h->stream, header, sizeof header);
}

int ntx_nbd_handshake(struct ntx_stream **stream, struct ntx_tls *tls, const char *name, const char *export_name,
                      const struct ntx_until *until, struct ntx_nbd_export *export, struct ntx_error *err)
{
    struct ntx_nbd_haggle h = {
        .stream = *stream,
        .tls = tls,
        .until = until,
        .name = name,
        .export_name = export_name,
        .export_length = strlen(export_name),
        .export = export,
        .err = err,
        .stage = NTX_NBD_GREETING,
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
