/* nbd_open.c: see nbd_open.h. */
#include "nbd_open.h"

#include "bytes.h"
#include "clock.h"
#include "error.h"
#include "nbd_conn.h"
#include "nbd_handshake.h"
#include "nbd_proto.h"
#include "nbd_text.h"
#include "stream_connect.h"
#include "stream_tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One more connection is only for speed.  A server that serves fewer than it permits (qemu-nbd --shared=2) leaves the
 * others waiting in the listener's queue, and whoever waits for them waits in vain. */
#define CLONE_TIMEOUT_MS 5000u

/* A connection, and how it gets its stream. */
struct opened {
    struct ntx_nbd_conn conn; /* first: the two are cast into each other */
    ntx_stream_opener *open_stream;
};

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

static void set_name(struct ntx_device_info *info, const struct ntx_nbd_place *place, const char *export_name)
{
    bool has_tls = place->tls != NULL;
    char port[8];

    snprintf(info->kind, sizeof info->kind, "nbd");
    snprintf(port, sizeof port, "%u", place->port);
    if (place->name != NULL)
        ntx_nbd_printable(info->name, sizeof info->name, place->name, strlen(place->name));
    else if (place->path != NULL)
        ntx_nbd_uri_unix(info->name, sizeof info->name, has_tls ? "nbds+unix" : "nbd+unix", place->path, export_name);
    else
        ntx_nbd_uri_tcp(info->name, sizeof info->name, has_tls ? "nbds" : "nbd",
                        place->host != NULL ? place->host : place->address, port, export_name);
}

static void publish(struct ntx_nbd_conn *conn, bool is_tcp, bool has_tls)
{
    struct ntx_device_info *info = &conn->device.info;

    info->size = conn->export.size;
    info->min_block = conn->export.min_block;
    info->preferred_block = conn->export.preferred_block;
    info->max_payload = conn->export.max_payload;
    info->flags = device_flags(&conn->export, conn->mode, is_tcp);
    info->connection_bytes = sizeof(struct opened) + NTX_NBD_HEADERS_BYTES + (has_tls ? NTX_TLS_STREAM_BYTES : 0);
}

/* Connect to place and negotiate, within one time limit. */
static int establish(struct opened *opened, const struct ntx_nbd_place *place, int stop_fd, struct ntx_error *err)
{
    struct ntx_nbd_conn *conn = &opened->conn;
    const char *subject = conn->device.info.name;
    struct ntx_until until = {ntx_deadline_ns(ntx_now_ns(), conn->timeout_ms), stop_fd};
    int result = opened->open_stream(place, subject, &until, &conn->stream, err);

    if (result != 0)
        return result;
    conn->device.fd = conn->stream->fd;
    result =
        ntx_nbd_handshake(&conn->stream, place->tls, subject, conn->places->export_name, &until, &conn->export, err);
    if (result == 0 && conn->mode == NTX_OPEN_WRITE && (conn->export.flags & NBD_FLAG_READ_ONLY) != 0) {
        ntx_nbd_send_disconnect(conn->stream);
        return ntx_error_set(err, NTX_E_NEGOTIATION, -EROFS, "%s: opening for writing failed: the export is read-only",
                             subject);
    }
    return result;
}

static const struct ntx_device_ops ops;

/* Ownership: places has one user more, the connection, whether it comes to be or not. */
static int open_next(ntx_stream_opener *open_stream, struct ntx_nbd_places *places, enum ntx_open_mode mode,
                     unsigned timeout_ms, int stop_fd, struct ntx_device **device, struct ntx_error *err)
{
    const struct ntx_nbd_place *place = ntx_nbd_places_next(places);
    struct opened *opened = calloc(1, sizeof *opened);

    *device = NULL;
    if (opened == NULL) {
        ntx_nbd_places_release(places);
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "NBD open failed: no memory for a connection");
    }
    struct ntx_nbd_conn *conn = &opened->conn;
    opened->open_stream = open_stream;
    conn->device.ops = &ops;
    conn->device.fd = -1;
    conn->places = places;
    conn->mode = mode;
    conn->timeout_ms = timeout_ms;
    set_name(&conn->device.info, place, places->export_name);
    int result = establish(opened, place, stop_fd, err);
    if (result == 0)
        result = ntx_nbd_conn_begin(conn, err);
    if (result != 0) {
        ntx_nbd_conn_free(conn);
        return result;
    }
    publish(conn, place->path == NULL, place->tls != NULL);
    *device = &conn->device;
    return 0;
}

static int check(const struct ntx_nbd_place *places, size_t count, const char *export_name, unsigned timeout_ms,
                 struct ntx_error *err)
{
    size_t length = strlen(export_name);

    if (count < 1 || count > NTX_MAX_CONNECTIONS)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "NBD open failed: %zu places are out of bounds: 1 to %u",
                             count, NTX_MAX_CONNECTIONS);
    for (size_t i = 0; i < count; i++)
        if (places[i].path == NULL && (places[i].address == NULL || places[i].address[0] == '\0'))
            return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "NBD open failed: place %zu has no address", i);
    if (length > NBD_MAX_STRING)
        return ntx_error_set(err, NTX_E_OPTIONS, -ENAMETOOLONG,
                             "NBD open failed: an export name has at most %u bytes, this one %zu", NBD_MAX_STRING,
                             length);
    if (timeout_ms == 0)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "NBD open failed: a time limit of 0 ms");
    return 0;
}

int ntx_nbd_open_through(ntx_stream_opener *open_stream, const struct ntx_nbd_place *places, size_t count,
                         const char *export_name, enum ntx_open_mode mode, unsigned timeout_ms, int stop_fd,
                         struct ntx_device **device, struct ntx_error *err)
{
    int result = check(places, count, export_name, timeout_ms, err);

    *device = NULL;
    if (result != 0)
        return result;
    struct ntx_nbd_places *copy = ntx_nbd_places_new(places, count, export_name);
    if (copy == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "NBD open failed: no memory for a connection");
    return open_next(open_stream, copy, mode, timeout_ms, stop_fd, device, err);
}

int ntx_open_nbd(const struct ntx_nbd_place *places, size_t count, const char *export_name, enum ntx_open_mode mode,
                 unsigned timeout_ms, int stop_fd, struct ntx_device **device, struct ntx_error *err)
{
    return ntx_nbd_open_through(ntx_stream_connect, places, count, export_name, mode, timeout_ms, stop_fd, device, err);
}

/* Requests of one job are spread over connections that must lead to one and the same thing. */
static bool is_same_export(const struct ntx_nbd_conn *a, const struct ntx_nbd_conn *b)
{
    const struct ntx_nbd_export *x = &a->export, *y = &b->export;

    return x->size == y->size && x->flags == y->flags && x->min_block == y->min_block &&
           x->preferred_block == y->preferred_block && x->max_payload == y->max_payload &&
           x->is_structured == y->is_structured && x->has_allocation == y->has_allocation;
}

static int clone(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    const struct opened *opened = (const struct opened *)device;
    const struct ntx_nbd_conn *conn = &opened->conn;
    unsigned timeout_ms = (unsigned)ntx_min64(conn->timeout_ms, CLONE_TIMEOUT_MS);
    int result =
        open_next(opened->open_stream, ntx_nbd_places_share(conn->places), conn->mode, timeout_ms, stop_fd, other, err);

    if (result != 0 || is_same_export(conn, (const struct ntx_nbd_conn *)*other))
        return result;
    ntx_close(*other);
    *other = NULL;
    return ntx_error_set(err, NTX_E_NEGOTIATION, -ESTALE,
                         "%s: another connection failed: the export has another size, flags or block sizes than before",
                         device->info.name);
}

static const struct ntx_device_ops ops = {
    .submit = ntx_nbd_conn_submit,
    .advance = ntx_nbd_conn_advance,
    .clone = clone,
    .close = ntx_nbd_conn_close,
};
