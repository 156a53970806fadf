/*
 * device_qcow2.c: an image in QCOW2 format, for writing: see qcow2_image.h for what of it is where and when.
 *
 *   WRITE   clusters are taken behind the last, written in one call, and entered into the map; or compressed, and
 *           written with others by the time that a flush is asked for
 *   ZERO    entered into the map; without an image below they are what never was written
 *   FLUSH   the image, then the map: what the map says after a power cut is there
 *   READ    what was written, for whoever wants to know whether it is
 *
 * What is copied from images of the same file system, and not compressed, is shared with them where it can be
 * (qcow2_share.h).
 *
 * LIMIT: a device is closed when its last write has ended, and a disk that hangs cannot be interrupted.
 *
 * All devices of one image share it; they take clusters without waiting for each other.  What is page-aligned goes past
 * the page cache, and through a ring where the system has one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_DIRECT */
#endif
#include "bytes.h"
#include "clock.h"
#include "device.h"
#include "device_ring.h"
#include "error.h"
#include "file_io.h"
#include "ntx_image.h"
#include "qcow2_pack.h"
#include "qcow2_share.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DIRECT_UNIT 4096u /* at most: an address and a length that O_DIRECT takes everywhere */

/* A WRITE in flight: of its whole clusters, which go to `host`. */
struct pending {
    struct ntx_io *io;
    uint64_t host;
    struct pending *next;
};

struct qcow2 {
    struct ntx_device device;
    struct ntx_qcow2_image *image;
    int direct_fd; /* or -1 */
    struct ntx_ring *ring;
    struct pending pending[NTX_MAX_IN_FLIGHT], *free;
    uint8_t *last;                   /* one cluster, for the last block of a disk that does not fill it */
    struct ntx_qcow2_pack *pack;     /* NULL: nothing is compressed */
    struct ntx_qcow2_sharer *sharer; /* NULL: nothing is shared, or was yet */
    struct ntx_device *whole;        /* the disk in an image that is whole, once somebody has read from it */
};

static void finish(struct qcow2 *q, struct ntx_io *io, int code)
{
    char cause[128];

    if (code == 0)
        ntx_device_complete(&q->device, io, 0);
    else if (code == -EILSEQ)
        ntx_device_complete_failed(&q->device, io, NTX_E_DEVICE, -EIO,
                                   "what was compressed is unpacked as something else: this machine cannot be trusted");
    else
        ntx_device_complete_failed(&q->device, io, NTX_E_DEVICE, code, ntx_errno_text(code, cause, sizeof cause));
}

/* ------------------------------------------------------------------------------------------------- writing */

/* All is written, or shared: let the map say so. */
static void enter(struct qcow2 *q, struct ntx_io *io, uint64_t host, uint64_t shared)
{
    uint64_t count = ntx_qcow2_clusters(io->length);

    io->stored = count * NTX_QCOW2_CLUSTER - shared;
    finish(q, io, ntx_qcow2_map_put_data(&q->image->map, io->offset / NTX_QCOW2_CLUSTER, count, host));
}

/* The last block of a disk, filled up with zeros. */
static int write_last(struct qcow2 *q, const struct ntx_io *io, uint64_t whole, uint64_t host)
{
    uint64_t rest = io->length - whole, at = host + whole;

    if (rest == 0)
        return 0;
    memcpy(q->last, (const uint8_t *)io->data + whole, rest);
    memset(q->last + rest, 0, NTX_QCOW2_CLUSTER - rest);
    return ntx_write_at(q->image->fd, q->last, NTX_QCOW2_CLUSTER, &at);
}

/* Past the page cache where that is possible: a file system may take O_DIRECT at open and refuse it now. */
static int write_clusters(struct qcow2 *q, const uint8_t *data, uint64_t length, uint64_t at)
{
    bool is_direct = q->direct_fd >= 0 && (((uintptr_t)data | at | length) & (DIRECT_UNIT - 1)) == 0;
    uint64_t end = at + length;
    int code = ntx_write_at(is_direct ? q->direct_fd : q->image->fd, data, length, &at);

    if (code == -EINVAL && is_direct)
        code = ntx_write_at(q->image->fd, data + (length - (end - at)), end - at, &at);
    return code;
}

/* Write what is left behind the first done bytes (none, or all that are whole clusters), with blocking calls. */
static void write_blocking(struct qcow2 *q, struct ntx_io *io, uint64_t host, uint64_t done)
{
    uint64_t whole = ntx_round_down(io->length, NTX_QCOW2_CLUSTER);
    int code = write_clusters(q, (const uint8_t *)io->data + done, whole - done, host + done);

    if (code == 0)
        code = write_last(q, io, whole, host);
    if (code == 0)
        enter(q, io, host, 0);
    else
        finish(q, io, code);
}

/* ------------------------------------------------------------------------------------------------- sharing */

static bool may_share(struct qcow2 *q)
{
    if (q->image->shared != NULL && q->sharer == NULL)
        q->sharer = ntx_qcow2_sharer_new(q->image->shared);
    return q->sharer != NULL && ntx_qcow2_can_share(q->sharer);
}

/* Share what can be shared of a request, and write the rest. */
static void write_sharing(struct qcow2 *q, struct ntx_io *io, uint64_t host)
{
    uint64_t whole = ntx_round_down(io->length, NTX_QCOW2_CLUSTER), length, shared = 0;
    int code = 0;

    for (uint64_t at = 0; code == 0 && at < whole; at += length) {
        length = whole - at;
        if (ntx_qcow2_share(q->sharer, q->image->fd, io->offset + at, host + at, &length))
            shared += length;
        else
            code = write_clusters(q, (const uint8_t *)io->data + at, length, host + at);
    }
    if (code == 0)
        code = write_last(q, io, whole, host);
    if (code == 0)
        enter(q, io, host, shared);
    else
        finish(q, io, code);
}

/* ---------------------------------------------------------------------------------------------- compressing */

static int fd_of(const struct qcow2 *q)
{
    return q->direct_fd >= 0 ? q->direct_fd : q->image->fd;
}

/* Clusters that do not become smaller are written as they are. */
static int write_plain(struct qcow2 *q, struct ntx_io *io, uint64_t from, uint64_t to)
{
    uint64_t length = to - from;

    if (length == 0)
        return 0;
    uint64_t host = ntx_qcow2_image_take(q->image, length);
    int code = write_clusters(q, (const uint8_t *)io->data + from, length, host);
    io->stored += length;
    return code != 0 ? code
                     : ntx_qcow2_map_put_data(&q->image->map, (io->offset + from) / NTX_QCOW2_CLUSTER,
                                              length / NTX_QCOW2_CLUSTER, host);
}

/* 1: it is in the pack, 0: it is not worth it; or a negative errno. */
static int pack_cluster(struct qcow2 *q, struct ntx_io *io, uint64_t at, const uint8_t *data)
{
    uint64_t began_ns = ntx_now_ns();
    int kept = ntx_qcow2_pack_take(q->pack, (io->offset + at) / NTX_QCOW2_CLUSTER, data, fd_of(q));

    io->packing_ns += ntx_now_ns() - began_ns;
    io->stored += kept > 0 ? (uint64_t)kept : 0;
    return kept > 0 ? 1 : kept;
}

/* The last block of a disk, which does not fill its cluster. */
static int pack_last(struct qcow2 *q, struct ntx_io *io, uint64_t whole)
{
    uint64_t rest = io->length - whole;
    int code;

    if (rest == 0)
        return 0;
    memcpy(q->last, (const uint8_t *)io->data + whole, rest);
    memset(q->last + rest, 0, NTX_QCOW2_CLUSTER - rest);
    code = pack_cluster(q, io, whole, q->last);
    if (code != 0)
        return code < 0 ? code : 0;
    struct ntx_io last = {.offset = io->offset + whole, .data = q->last};
    code = write_plain(q, &last, 0, NTX_QCOW2_CLUSTER);
    io->stored += last.stored;
    return code;
}

static int write_packed(struct qcow2 *q, struct ntx_io *io)
{
    uint64_t whole = ntx_round_down(io->length, NTX_QCOW2_CLUSTER), plain = 0;
    int code = 0;

    io->stored = 0;
    for (uint64_t at = 0; code >= 0 && at < whole; at += NTX_QCOW2_CLUSTER) {
        code = pack_cluster(q, io, at, (const uint8_t *)io->data + at);
        if (code != 1)
            continue;
        code = write_plain(q, io, plain, at);
        plain = at + NTX_QCOW2_CLUSTER;
    }
    if (code >= 0)
        code = write_plain(q, io, plain, whole);
    return code < 0 ? code : pack_last(q, io, whole);
}

static int settle(struct qcow2 *q)
{
    return q->pack != NULL ? ntx_qcow2_pack_settle(q->pack, fd_of(q)) : 0;
}

/* What is written twice, or zeroed, is not to be overtaken by what was there before. */
static int settle_before(struct qcow2 *q, const struct ntx_io *io)
{
    bool is_held =
        q->pack != NULL && ntx_qcow2_pack_has(q->pack, io->offset / NTX_QCOW2_CLUSTER, ntx_qcow2_clusters(io->length));
    return is_held ? settle(q) : 0;
}

static int settle_device(struct ntx_device *device, struct ntx_error *err)
{
    struct qcow2 *q = (struct qcow2 *)device;
    int code = settle(q);

    return code == 0
               ? 0
               : ntx_error_errno(err, NTX_E_DEVICE, code, "%s: write failed: compressed clusters", device->info.name);
}

/* ------------------------------------------------------------------------------------------------- requests */

static void do_write(struct qcow2 *q, struct ntx_io *io)
{
    if (q->pack != NULL) {
        finish(q, io, write_packed(q, io));
        return;
    }
    uint64_t whole = ntx_round_down(io->length, NTX_QCOW2_CLUSTER);
    uint64_t host = ntx_qcow2_image_take(q->image, ntx_round_up(io->length, NTX_QCOW2_CLUSTER));
    struct pending *pending = q->free;
    bool is_aligned = ((uintptr_t)io->data & (DIRECT_UNIT - 1)) == 0;

    if (may_share(q)) {
        write_sharing(q, io, host);
        return;
    }
    if (q->ring != NULL)
        ntx_qcow2_image_make_room(q->image, host, host + ntx_round_up(io->length, NTX_QCOW2_CLUSTER));
    if (q->ring == NULL || pending == NULL || whole == 0 || !is_aligned ||
        ntx_ring_write(q->ring, q->direct_fd, io->data, whole, host, pending) < 0) {
        write_blocking(q, io, host, 0);
        return;
    }
    q->free = pending->next;
    pending->io = io;
    pending->host = host;
}

/* What the ring did not do, or not whole, is done from its beginning with blocking calls: they know the errors, and are
 * seldom needed. */
static int advance(struct ntx_device *device, struct ntx_error *err)
{
    struct qcow2 *q = (struct qcow2 *)device;
    struct pending *pending;
    int64_t result;

    (void)err;
    while ((pending = ntx_ring_next(q->ring, &result)) != NULL) {
        struct ntx_io *io = pending->io;
        pending->next = q->free;
        q->free = pending;
        uint64_t whole = ntx_round_down(io->length, NTX_QCOW2_CLUSTER);
        write_blocking(q, io, pending->host, result == (int64_t)whole ? whole : 0);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- zeros, flushes */

static int zero(struct qcow2 *q, const struct ntx_io *io)
{
    uint64_t first = io->offset / NTX_QCOW2_CLUSTER, count = ntx_qcow2_clusters(io->length);
    bool is_overlay = q->image->backing_name[0] != '\0';

    return (is_overlay ? ntx_qcow2_map_put_zeros : ntx_qcow2_map_forget)(&q->image->map, first, count);
}

static int flush(struct qcow2 *q, const struct ntx_stop *stop)
{
    struct ntx_qcow2_image *image = q->image;
    int code = settle(q);

    if (code != 0 || image->is_whole)
        return code;
    code = ntx_sync_file(image->fd, atomic_load(&image->end), stop);
    return code == 0 ? ntx_qcow2_map_sync(&image->map, stop) : code;
}

/* An image that is whole has no map any more: it is read as anybody would. */
static void read_whole(struct qcow2 *q, struct ntx_io *io)
{
    struct ntx_io read = {.op = NTX_OP_READ, .offset = io->offset, .length = io->length, .data = io->data};
    const char *name = q->device.info.name;
    struct ntx_error err;
    int code = q->image->backing_name[0] != '\0' ? -ENOTSUP : 0;

    if (code == 0 && q->whole == NULL)
        code = ntx_open_qcow2_chain(name, &q->image->fd, 1, &q->whole, &err);
    finish(q, io, code != 0 ? code : ntx_device_do(q->whole, &read, UINT32_MAX, &err));
}

static int submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct qcow2 *q = (struct qcow2 *)device;
    int code = io->op == NTX_OP_FLUSH ? 0 : settle_before(q, io);

    (void)err; /* no failure of one request makes it unusable */
    if (code != 0)
        finish(q, io, code);
    else if (io->op == NTX_OP_FLUSH)
        finish(q, io, flush(q, io->stop));
    else if (io->op == NTX_OP_MAP) /* nobody asks for what was not promised */
        finish(q, io, -ENOTSUP);
    else if (io->op == NTX_OP_READ && q->image->is_whole)
        read_whole(q, io);
    else if (io->op == NTX_OP_READ)
        finish(q, io, ntx_qcow2_image_read(q->image, io->offset, io->length, io->data));
    else if (q->image->is_whole)
        ntx_device_complete_failed(device, io, NTX_E_DEVICE, -EROFS, "the image is whole already");
    else if (io->op == NTX_OP_ZERO)
        finish(q, io, zero(q, io));
    else
        do_write(q, io);
    return 0;
}

/* ------------------------------------------------------------------------------------- open, clone, close */

static int finish_image(struct ntx_device *device, struct ntx_error *err)
{
    int code = settle_device(device, err);

    return code == 0 ? ntx_qcow2_image_finish(((struct qcow2 *)device)->image, err) : code;
}

static void close_qcow2(struct ntx_device *device)
{
    struct qcow2 *q = (struct qcow2 *)device;

    /* A write that ends later must not meet what another device has put in its place by then. */
    if (q->ring != NULL)
        ntx_ring_drain(q->ring);
    ntx_ring_free(q->ring);
    ntx_close(q->whole);
    ntx_qcow2_sharer_free(q->sharer);
    if (q->direct_fd >= 0)
        close(q->direct_fd);
    ntx_qcow2_pack_free(q->pack);
    ntx_qcow2_image_release(q->image);
    free(q->last);
    free(q);
}

static int clone_qcow2(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err);

static const struct ntx_device_ops QCOW2_OPS = {.submit = submit,
                                                .advance = advance,
                                                .clone = clone_qcow2,
                                                .settle = settle_device,
                                                .finish = finish_image,
                                                .close = close_qcow2};

static void describe(struct qcow2 *q)
{
    struct ntx_device_info *info = &q->device.info;

    info->size = q->image->size;
    info->min_block = NTX_QCOW2_CLUSTER;
    info->preferred_block = q->pack != NULL ? NTX_QCOW2_CLUSTER : NTX_RING_WRITE;
    info->max_payload = NTX_MAX_REQUEST_SIZE;
    info->held_bytes = q->pack != NULL ? NTX_QCOW2_PACK_BYTES : 0;
    info->connection_bytes = sizeof *q + NTX_QCOW2_CLUSTER + NTX_RING_BYTES;
    if (q->pack != NULL)
        info->connection_bytes += ntx_qcow2_pack_bytes(q->image->zstd_level);
    info->finish_bytes = ntx_qcow2_image_finish_bytes(q->image->size);
    info->flags = NTX_DEVICE_CAN_ZERO | NTX_DEVICE_CAN_FLUSH | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_SHORT_TAIL;
    memcpy(info->kind, "qcow2", sizeof "qcow2");
    snprintf(info->name, sizeof info->name, "%s", q->image->path);
}

/* Past the page cache, where that is possible. */
static void open_direct(struct qcow2 *q)
{
    char link[32];

    snprintf(link, sizeof link, "/proc/self/fd/%d", q->image->fd);
    q->direct_fd = open(link, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (q->direct_fd < 0)
        return;
    q->device.info.flags |= NTX_DEVICE_DIRECT;
    if (q->pack == NULL) /* what compresses has no time to wait */
        q->ring = ntx_ring_new();
    if (q->ring == NULL)
        return;
    q->device.fd = ntx_ring_fd(q->ring);
    q->device.events = POLLIN;
}

/* Takes over a use of the image. */
static int new_device(struct ntx_qcow2_image *image, struct ntx_device **device, struct ntx_error *err)
{
    struct qcow2 *q = calloc(1, sizeof *q);

    *device = NULL;
    if (q == NULL) {
        ntx_qcow2_image_release(image);
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for an image");
    }
    q->device.ops = &QCOW2_OPS;
    q->device.fd = -1;
    q->direct_fd = -1;
    q->image = image;
    q->last = malloc(NTX_QCOW2_CLUSTER);
    q->pack = image->zstd_level > 0 ? ntx_qcow2_pack_new(image, image->zstd_level) : NULL;
    if (q->last == NULL || (image->zstd_level > 0 && q->pack == NULL)) {
        close_qcow2(&q->device);
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "no memory for an image");
    }
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
        q->pending[i].next = q->free;
        q->free = &q->pending[i];
    }
    describe(q);
    open_direct(q);
    *device = &q->device;
    return 0;
}

int ntx_open_qcow2(const struct ntx_qcow2_options *options, struct ntx_device **device, struct ntx_error *err)
{
    struct ntx_qcow2_image *image;
    int code = ntx_qcow2_image_open(options, &image, err);

    *device = NULL;
    if (code == 0)
        code = new_device(image, device, err);
    else
        return code;
    if (code != 0 && !options->is_opened_again)
        unlink(options->map_path);
    return code;
}

static int clone_qcow2(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    (void)stop_fd; /* files are not waited for */
    return new_device(ntx_qcow2_image_share(((struct qcow2 *)device)->image), other, err);
}

void ntx_share_clusters(struct ntx_device *image, struct ntx_device *chain)
{
    struct ntx_qcow2_chain *shared = ntx_qcow2_chain_of(chain);

    if (image->ops != &QCOW2_OPS || shared == NULL || ((struct qcow2 *)image)->image->shared != NULL)
        return;
    ntx_qcow2_chain_share(shared);
    ((struct qcow2 *)image)->image->shared = shared;
    image->info.connection_bytes += (uint32_t)ntx_qcow2_windows_bytes();
}
