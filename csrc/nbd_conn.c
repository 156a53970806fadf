/* nbd_conn.c: see nbd_conn.h. */
#include "nbd_conn.h"

#include "bytes.h"
#include "error.h"
#include "nbd_proto.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

static struct ntx_nbd_conn *conn_of(struct ntx_device *device)
{
    return (struct ntx_nbd_conn *)device;
}

static void update_events(struct ntx_nbd_conn *conn)
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
static const char *refusal(const struct ntx_nbd_conn *conn, const struct ntx_io *io, int *code)
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

int ntx_nbd_conn_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct ntx_nbd_conn *conn = conn_of(device);
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

int ntx_nbd_conn_advance(struct ntx_device *device, struct ntx_error *err)
{
    struct ntx_nbd_conn *conn = conn_of(device);

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

int ntx_nbd_conn_begin(struct ntx_nbd_conn *conn, struct ntx_error *err)
{
    ntx_nbd_slots_init(&conn->slots);
    ntx_nbd_rx_init(&conn->rx, &conn->device, &conn->slots, &conn->export);
    if (ntx_nbd_tx_init(&conn->tx) != 0)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory for a connection", conn->device.info.name);
    return 0;
}

void ntx_nbd_conn_close(struct ntx_device *device)
{
    struct ntx_nbd_conn *conn = conn_of(device);
    bool may_speak = conn->failure.class == NTX_E_NONE || conn->failure.code == -ESHUTDOWN;

    if (may_speak && ntx_nbd_tx_is_empty(&conn->tx))
        ntx_nbd_send_disconnect(conn->stream);
    ntx_nbd_conn_free(conn);
}

void ntx_nbd_conn_free(struct ntx_nbd_conn *conn)
{
    ntx_stream_close(conn->stream);
    ntx_nbd_tx_destroy(&conn->tx);
    ntx_nbd_places_release(conn->places);
    free(conn);
}
