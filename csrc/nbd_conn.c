/*
 * nbd_conn.c: one NBD connection as a device (device.h).
 *
 *   submit -> slot + tx ring          nothing is sent yet: requests of one pass leave in one sendmsg()
 *   advance -> rx: send, then receive always both, so that two full sockets never wait for each other
 *
 * The first failure of the connection is kept, and every later call returns it.
 */
#include "bytes.h"
#include "clock.h"
#include "error.h"
#include "nbd_handshake.h"
#include "nbd_reply.h"
#include "nbd_request.h"
#include "nbd_text.h"
#include "stream_connect.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_PORT "10809" /* proto.md "Newstyle negotiation" */

/* One more connection is only for speed.  A server that serves fewer than it permits (qemu-nbd --shared=2) leaves the
 * others waiting in the listener's queue, and whoever waits for them waits in vain. */
#define CLONE_TIMEOUT_MS 5000u

/* Where to connect, so that it can be done again.  The strings follow the struct in one allocation. */
struct place {
    const char *path; /* unix socket, or NULL */
    const char *host, *port;
    const char *export_name;
    enum ntx_open_mode mode;
    unsigned timeout_ms;
};

struct nbd_conn {
    struct ntx_device device; /* first: the two are cast into each other */
    struct ntx_stream *stream;
    struct place place;
    struct ntx_nbd_export export;
    struct ntx_error failure; /* class NTX_E_NONE while the connection is good */
    struct ntx_nbd_slots slots;
    struct ntx_nbd_tx tx;
    struct ntx_nbd_rx rx;
    char strings[];
};

static struct nbd_conn *conn_of(struct ntx_device *device)
{
    return (struct nbd_conn *)device;
}

static void update_events(struct nbd_conn *conn)
{
    short events = conn->slots.used > 0 ? POLLIN : 0;

    if (!ntx_nbd_tx_is_empty(&conn->tx))
        events |= POLLOUT;
    conn->device.events = conn->stream->ops->wants(conn->stream, events);
}

/* ---------------------------------------------------------------------------------------------- requests */

static uint16_t command_of(enum ntx_op op)
{
    switch (op) {
    case NTX_OP_READ:
        return NBD_CMD_READ;
    case NTX_OP_WRITE:
        return NBD_CMD_WRITE;
    case NTX_OP_ZERO:
        return NBD_CMD_WRITE_ZEROES;
    case NTX_OP_FLUSH:
        return NBD_CMD_FLUSH;
    case NTX_OP_MAP:
        return NBD_CMD_BLOCK_STATUS;
    }
    return NBD_CMD_DISC;
}

/* Why this server cannot be asked, or NULL.  Ranges and alignment are checked in device.c. */
static const char *refusal(const struct nbd_conn *conn, const struct ntx_io *io, int *code)
{
    *code = -ENOTSUP;
    switch (io->op) {
    case NTX_OP_ZERO:
        if ((conn->export.flags & NBD_FLAG_SEND_WRITE_ZEROES) == 0)
            return "the server has no command for it";
        *code = -EOVERFLOW; /* as a server would say: the caller asks for less */
        return io->length > UINT32_MAX ? "the length does not fit in a request" : NULL;
    case NTX_OP_FLUSH:
        return (conn->export.flags & NBD_FLAG_SEND_FLUSH) == 0 ? "the server has no command for it" : NULL;
    case NTX_OP_MAP:
        *code = -EINVAL;
        return io->map->end != io->offset ? "the list of extents does not end where the request begins" : NULL;
    case NTX_OP_READ:
    case NTX_OP_WRITE:
        break;
    }
    return NULL;
}

static void describe(struct ntx_nbd_slot *slot, const struct ntx_io *io)
{
    if (io->op == NTX_OP_FLUSH)
        return; /* offset and length must be 0: proto.md "NBD_CMD_FLUSH" */
    slot->offset = io->offset;
    slot->length = (uint32_t)io->length;
    if (io->op == NTX_OP_MAP) {
        slot->length = (uint32_t)ntx_min64(io->length, NBD_MAX_STATUS_LENGTH);
        slot->map_count = io->map->count;
        slot->map_end = io->map->end;
    }
}

static int submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct nbd_conn *conn = conn_of(device);
    int code;
    const char *why = refusal(conn, io, &code);

    if (conn->failure.class != NTX_E_NONE) {
        *err = conn->failure;
        return err->code;
    }
    if (why != NULL) {
        ntx_device_complete_failed(device, io, code == -EOVERFLOW ? NTX_E_REPLY : NTX_E_OPTIONS, code, why);
        return 0;
    }
    if (io->op == NTX_OP_MAP && !conn->export.has_allocation) {
        /* Nobody knows: all of it is data.  A list without room for that was full before. */
        if (ntx_extents_append(io->map, io->length, 0) == 0)
            ntx_device_complete(device, io, 0);
        else
            ntx_device_complete_failed(device, io, NTX_E_OPTIONS, -ENOSPC, "the list of extents is full");
        return 0;
    }

    struct ntx_nbd_slot *slot = ntx_nbd_slots_acquire(&conn->slots, io, command_of(io->op));
    if (slot == NULL) {
        ntx_device_complete_failed(device, io, NTX_E_OPTIONS, -EBUSY, "too many requests are in flight");
        return 0;
    }
    describe(slot, io);
    ntx_nbd_tx_push(&conn->tx, ntx_nbd_slots_cookie(&conn->slots, slot), slot);
    update_events(conn);
    return 0;
}

static int advance(struct ntx_device *device, struct ntx_error *err)
{
    struct nbd_conn *conn = conn_of(device);

    if (conn->failure.class != NTX_E_NONE) {
        *err = conn->failure;
        return err->code;
    }
    int unsent = ntx_nbd_tx_send(&conn->tx, conn->stream);
    /* Also when sending failed: what the server said before it went away is the better explanation. */
    int result = ntx_nbd_reply_receive(&conn->rx, conn->stream, &conn->failure);
    if (result == 0 && unsent != 0)
        result = ntx_error_errno(&conn->failure, NTX_E_DEVICE, unsent, "%s: sending failed with %u requests in flight",
                                 device->info.name, conn->slots.used);
    update_events(conn);
    if (result != 0)
        *err = conn->failure;
    return result;
}

static void close_conn(struct ntx_device *device)
{
    struct nbd_conn *conn = conn_of(device);
    bool may_speak = conn->failure.class == NTX_E_NONE || conn->failure.code == -ESHUTDOWN;

    if (may_speak && ntx_nbd_tx_is_empty(&conn->tx))
        ntx_nbd_send_disconnect(conn->stream);
    ntx_stream_close(conn->stream);
    ntx_nbd_tx_destroy(&conn->tx);
    free(conn);
}

/* ----------------------------------------------------------------------------------------------- opening */

static uint32_t device_flags(const struct ntx_nbd_export *export, enum ntx_open_mode mode, bool is_tcp)
{
    uint32_t flags = 0;

    if (mode == NTX_OPEN_READ || (export->flags & NBD_FLAG_READ_ONLY) != 0)
        flags |= NTX_DEVICE_READ_ONLY;
    if ((export->flags & NBD_FLAG_SEND_WRITE_ZEROES) != 0)
        flags |= NTX_DEVICE_CAN_ZERO;
    if ((export->flags & NBD_FLAG_SEND_FLUSH) != 0)
        flags |= NTX_DEVICE_CAN_FLUSH;
    if ((export->flags & NBD_FLAG_CAN_MULTI_CONN) != 0)
        flags |= NTX_DEVICE_CAN_MULTI_CONN;
    if ((export->flags & NBD_FLAG_ROTATIONAL) != 0)
        flags |= NTX_DEVICE_ROTATIONAL;
    if (export->has_allocation)
        flags |= NTX_DEVICE_CAN_MAP;
    if (export->is_structured)
        flags |= NTX_DEVICE_STRUCTURED;
    if (is_tcp)
        flags |= NTX_DEVICE_TCP;
    return flags;
}

static char *keep(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *kept = *at;

    memcpy(kept, text, size);
    *at += size;
    return kept;
}

static const struct ntx_device_ops ops;

/* A connection that is not connected yet, with copies of all strings.  NULL: no memory. */
static struct nbd_conn *new_conn(const struct place *place)
{
    const char *path_or_host = place->path != NULL ? place->path : place->host;
    const char *port = place->port != NULL ? place->port : "";
    size_t size = strlen(path_or_host) + strlen(port) + strlen(place->export_name) + 3;
    struct nbd_conn *conn = calloc(1, sizeof *conn + size);

    if (conn == NULL)
        return NULL;

    struct ntx_device_info *info = &conn->device.info;
    char *at = conn->strings;
    conn->device.ops = &ops;
    conn->device.fd = -1;
    conn->place = *place;
    if (place->path != NULL)
        conn->place.path = keep(&at, place->path);
    else
        conn->place.host = keep(&at, place->host);
    conn->place.port = keep(&at, port);
    conn->place.export_name = keep(&at, place->export_name);
    snprintf(info->kind, sizeof info->kind, "nbd");
    if (place->path != NULL)
        ntx_nbd_uri_unix(info->name, sizeof info->name, place->path, place->export_name);
    else
        ntx_nbd_uri_tcp(info->name, sizeof info->name, place->host, port, place->export_name);
    return conn;
}

static int publish(struct nbd_conn *conn, struct ntx_error *err)
{
    struct ntx_device_info *info = &conn->device.info;

    info->size = conn->export.size;
    info->min_block = conn->export.min_block;
    info->preferred_block = conn->export.preferred_block;
    info->max_payload = conn->export.max_payload;
    info->flags = device_flags(&conn->export, conn->place.mode, conn->place.path == NULL);
    ntx_nbd_slots_init(&conn->slots);
    ntx_nbd_rx_init(&conn->rx, &conn->device, &conn->slots, &conn->export);
    if (ntx_nbd_tx_init(&conn->tx) != 0)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory for a connection", info->name);
    return 0;
}

/* Connect and negotiate within one time limit. */
static int establish(struct nbd_conn *conn, int stop_fd, struct ntx_error *err)
{
    const struct place *place = &conn->place;
    const char *name = conn->device.info.name;
    struct ntx_until until = {ntx_deadline_ns(ntx_now_ns(), place->timeout_ms), stop_fd};
    struct ntx_stream **stream = &conn->stream;
    int result = place->path != NULL ? ntx_stream_connect_unix(place->path, name, &until, stream, err)
                                     : ntx_stream_connect_tcp(place->host, place->port, name, &until, stream, err);

    if (result == 0) {
        conn->device.fd = (*stream)->fd;
        result = ntx_nbd_handshake(*stream, name, place->export_name, &until, &conn->export, err);
    }
    if (result == 0 && place->mode == NTX_OPEN_WRITE && (conn->export.flags & NBD_FLAG_READ_ONLY) != 0) {
        ntx_nbd_send_disconnect(*stream);
        result = ntx_error_set(err, NTX_E_NEGOTIATION, -EROFS,
                               "%s: opening for writing failed: the export is "
                               "read-only",
                               name);
    }
    return result;
}

static int check_place(const struct place *place, struct ntx_error *err)
{
    size_t length = strlen(place->export_name);

    if (length > NBD_MAX_STRING)
        return ntx_error_set(err, NTX_E_OPTIONS, -ENAMETOOLONG,
                             "NBD open failed: an export name has at most %u bytes, this one %zu", NBD_MAX_STRING,
                             length);
    if (place->path == NULL && place->host[0] == '\0')
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "NBD open failed: the host name is empty");
    if (place->timeout_ms == 0)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "NBD open failed: a time limit of 0 ms");
    return 0;
}

static int open_place(const struct place *place, int stop_fd, struct ntx_device **device, struct ntx_error *err)
{
    int result = check_place(place, err);

    *device = NULL;
    if (result != 0)
        return result;

    struct nbd_conn *conn = new_conn(place);
    if (conn == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "NBD open failed: no memory for a connection");
    result = establish(conn, stop_fd, err);
    if (result == 0)
        result = publish(conn, err);
    if (result != 0) {
        ntx_stream_close(conn->stream);
        free(conn);
        return result;
    }
    *device = &conn->device;
    return 0;
}

int ntx_open_nbd_unix(const char *path, const char *export_name, enum ntx_open_mode mode, unsigned timeout_ms,
                      struct ntx_device **device, struct ntx_error *err)
{
    struct place place = {.path = path, .export_name = export_name, .mode = mode, .timeout_ms = timeout_ms};

    return open_place(&place, -1, device, err);
}

int ntx_open_nbd_tcp(const char *host, const char *port, const char *export_name, enum ntx_open_mode mode,
                     unsigned timeout_ms, struct ntx_device **device, struct ntx_error *err)
{
    bool has_port = port != NULL && port[0] != '\0';
    struct place place = {
        .host = host,
        .port = has_port ? port : DEFAULT_PORT,
        .export_name = export_name,
        .mode = mode,
        .timeout_ms = timeout_ms,
    };

    return open_place(&place, -1, device, err);
}

/* Requests of one job are spread over connections that must lead to one and the same thing. */
static bool is_same_export(const struct nbd_conn *a, const struct nbd_conn *b)
{
    const struct ntx_nbd_export *x = &a->export, *y = &b->export;

    return x->size == y->size && x->flags == y->flags && x->min_block == y->min_block &&
           x->preferred_block == y->preferred_block && x->max_payload == y->max_payload &&
           x->is_structured == y->is_structured && x->has_allocation == y->has_allocation;
}

static int clone(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    struct place place = conn_of(device)->place;
    place.timeout_ms = (unsigned)ntx_min64(place.timeout_ms, CLONE_TIMEOUT_MS);
    int result = open_place(&place, stop_fd, other, err);

    if (result != 0 || is_same_export(conn_of(device), conn_of(*other)))
        return result;
    close_conn(*other);
    *other = NULL;
    return ntx_error_set(err, NTX_E_NEGOTIATION, -ESTALE,
                         "%s: another connection failed: the export has another size, flags or block sizes than before",
                         device->info.name);
}

static const struct ntx_device_ops ops = {
    .submit = submit,
    .advance = advance,
    .clone = clone,
    .close = close_conn,
};
