/*
 * fake_device.h: a device in memory that does one wrong thing, for tests of the job.
 *
 * Requests wait in a list and are answered by advance(), newest first, so that answers come out of order.
 */
#ifndef FAKE_DEVICE_H
#define FAKE_DEVICE_H

#include "check.h"
#include "clock.h"
#include "device.h"
#include "error.h"
#include "event.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Shared by all connections to it. */
struct fake_disk {
    pthread_mutex_t lock;
    uint8_t *bytes;
    uint8_t *flushed;       /* lock: what bytes were when a flush was last answered; NULL: not kept */
    uint64_t failing_flush; /* the number of the one that fails: what was not flushed is lost, and nothing is said of it
                             * again; 0: none */
    uint64_t restarts_at; /* the number of the request instead of which the server starts again: what was not flushed is
                           * lost, and so are the connections there are; 0: never */
    uint64_t answered;    /* lock: requests */
    unsigned answers_at_once; /* by one advance(); 0: all */
    unsigned restarts;        /* lock */
    uint64_t size;
    uint32_t min_block, max_payload, flags;
    uint64_t fail_at; /* the request that holds this offset fails with fail_code; UINT64_MAX: none */
    int fail_code;
    enum ntx_op fail_op;
    bool fails_late;   /* what fails so is what was not flushed: it is lost */
    uint64_t max_zero; /* longer ZEROs are refused with zero_code; 0: all are */
    int zero_code;
    _Atomic bool stalls;      /* never answers, ... */
    bool trickles;            /* ... though there is always something to receive */
    struct ntx_io *forgotten; /* the first WRITE, which is never answered; others are */
    bool forgets;
    bool keeps_order; /* answers in the order of the requests: who comes behind a flush waits for it */
    _Atomic unsigned flushes_begun;
    _Atomic unsigned submitted;
    bool flush_fails;
    _Atomic uint64_t flush_ends_ns; /* not answered before, on the clock; UINT64_MAX: never */
    bool loses_connection;          /* after the first write */
    bool stores_half;               /* of what it is sent */
    bool has_settle;
    uint32_t held_bytes;
    int settle_code;                    /* what settle() returns */
    struct ntx_job *cancelled_by_flush; /* when a flush is answered */
    unsigned refuse_clones;
    _Atomic bool delays_clones; /* until it is taken back */
    _Atomic unsigned clones_begun;
    uint64_t writes, zeros, written_bytes, flushes, clones; /* lock */
    uint64_t writes_flushed;                                /* lock: by the last flush */
    uint64_t writes_settled;                                /* lock: on one connection; with several it says nothing */
};

struct fake_device {
    struct ntx_device base;
    struct fake_disk *disk;
    unsigned restarts; /* of the disk's server, before it was opened */
    struct ntx_io *pending;
};

static const struct ntx_device_ops fake_ops, fake_ops_with_settle;

static struct ntx_device *fake_open(struct fake_disk *disk)
{
    struct fake_device *device = calloc(1, sizeof *device);
    CHECK(device != NULL);
    device->base.ops = disk->has_settle ? &fake_ops_with_settle : &fake_ops;
    device->base.info = (struct ntx_device_info){
        .size = disk->size,
        .min_block = disk->min_block ? disk->min_block : 1,
        .held_bytes = disk->held_bytes,
        .preferred_block = 4096,
        .max_payload = disk->max_payload ? disk->max_payload : NTX_MAX_REQUEST_SIZE,
        .flags = disk->flags,
        .kind = "fake",
        .name = "fake",
    };
    device->base.fd = ntx_event_open();
    device->base.events = POLLIN;
    device->disk = disk;
    pthread_mutex_lock(&disk->lock);
    device->restarts = disk->restarts;
    pthread_mutex_unlock(&disk->lock);
    return &device->base;
}

static void fake_init(struct fake_disk *disk, uint64_t size, uint32_t flags)
{
    *disk = (struct fake_disk){.size = size, .flags = flags, .fail_at = UINT64_MAX, .max_zero = UINT64_MAX};
    pthread_mutex_init(&disk->lock, NULL);
    disk->bytes = calloc(1, size + 1);
    CHECK(disk->bytes != NULL);
}

static void fake_destroy(struct fake_disk *disk)
{
    free(disk->bytes);
    free(disk->flushed);
    pthread_mutex_destroy(&disk->lock);
}

static int fake_submit(struct ntx_device *base, struct ntx_io *io, struct ntx_error *err)
{
    struct fake_device *device = (struct fake_device *)base;
    (void)err;
    CHECK(base->in_flight <= NTX_MAX_IN_FLIGHT);
    CHECK(io->op != NTX_OP_FLUSH || io->stop != NULL); /* it may take long: a cancel does not wait for it */
    struct ntx_io **at = &device->pending;
    while (device->disk->keeps_order && *at != NULL)
        at = &(*at)->next;
    io->next = *at;
    *at = io;
    device->disk->flushes_begun += io->op == NTX_OP_FLUSH;
    device->disk->submitted++;
    if (!device->disk->stalls || device->disk->trickles)
        ntx_event_signal(base->fd);
    return 0;
}

static void fake_map(struct fake_disk *disk, struct ntx_io *io)
{
    for (uint64_t at = io->offset; at < io->offset + io->length; at += 4096) {
        uint64_t length = disk->size - at < 4096 ? disk->size - at : 4096;
        if (ntx_extents_append(io->map, length, ntx_is_zero(disk->bytes + at, length) ? NTX_EXTENT_ZERO : 0) < 0)
            break;
    }
}

CHECK_UNWATCHED static inline void copy_disk(uint8_t *to, const uint8_t *from, uint64_t size)
{
    uint64_t at = 0;
    for (; at + sizeof at <= size; at += sizeof at)
        memcpy(to + at, from + at, sizeof at); /* of a constant size: an instruction, not a call */
    memcpy(to + at, from + at, size - at);
}

/* The power of what holds the disk was cut, or it could not write back. */
static void fake_lose_unflushed(struct fake_disk *disk)
{
    copy_disk(disk->bytes, disk->flushed, disk->size);
}

static int fake_flush(struct fake_disk *disk)
{
    disk->flushes++;
    disk->writes_flushed = disk->has_settle ? disk->writes_settled : disk->writes;
    if (disk->flushes == disk->failing_flush) {
        fake_lose_unflushed(disk);
        return -EIO;
    }
    if (disk->flushed != NULL)
        copy_disk(disk->flushed, disk->bytes, disk->size);
    if (disk->cancelled_by_flush != NULL)
        ntx_job_cancel(disk->cancelled_by_flush);
    return disk->flush_fails ? -EIO : 0;
}

static int fake_fail(struct fake_disk *disk)
{
    if (disk->fails_late)
        fake_lose_unflushed(disk);
    return disk->fail_code;
}

static int fake_do(struct fake_disk *disk, struct ntx_io *io)
{
    if (io->op == disk->fail_op && disk->fail_at >= io->offset && disk->fail_at < io->offset + io->length)
        return fake_fail(disk);
    switch (io->op) {
    case NTX_OP_READ:
        memcpy(io->data, disk->bytes + io->offset, io->length);
        return 0;
    case NTX_OP_WRITE:
        memcpy(disk->bytes + io->offset, io->data, io->length);
        disk->writes++;
        disk->written_bytes += io->length;
        if (disk->stores_half)
            io->stored = io->length / 2;
        return 0;
    case NTX_OP_ZERO:
        if (io->length > disk->max_zero)
            return disk->zero_code;
        memset(disk->bytes + io->offset, 0, io->length);
        disk->zeros++;
        return 0;
    case NTX_OP_FLUSH:
        return fake_flush(disk);
    case NTX_OP_MAP:
        fake_map(disk, io);
        return 0;
    }
    return -EINVAL;
}

/* The request is the one that is not answered, or one to a server that is gone. */
static bool fake_is_lost(struct fake_device *device)
{
    struct fake_disk *disk = device->disk;
    if (++disk->answered == disk->restarts_at) {
        disk->restarts++;
        fake_lose_unflushed(disk);
    }
    return device->restarts != disk->restarts;
}

static int fake_advance(struct ntx_device *base, struct ntx_error *err)
{
    struct fake_device *device = (struct fake_device *)base;
    ntx_event_drain(base->fd);
    if (device->disk->trickles)
        ntx_event_signal(base->fd);
    unsigned left = device->disk->answers_at_once > 0 ? device->disk->answers_at_once : UINT_MAX;
    struct ntx_io **at = &device->pending;
    while (*at != NULL && !device->disk->stalls) {
        struct ntx_io *io = *at;
        if (io->op == NTX_OP_FLUSH && ntx_now_ns() < device->disk->flush_ends_ns) {
            if (device->disk->flush_ends_ns != UINT64_MAX)
                ntx_event_signal(base->fd); /* ask again */
            if (device->disk->keeps_order)
                break;
            at = &io->next;
            continue;
        }
        if (left-- == 0) {
            ntx_event_signal(base->fd);
            break;
        }
        *at = io->next;
        if (device->disk->forgets && io->op == NTX_OP_WRITE && device->disk->forgotten == NULL) {
            device->disk->forgotten = io;
            continue;
        }
        pthread_mutex_lock(&device->disk->lock);
        bool lost = fake_is_lost(device);
        int result = lost ? 0 : fake_do(device->disk, io);
        lost = lost || (device->disk->loses_connection && device->disk->writes > 0);
        pthread_mutex_unlock(&device->disk->lock);
        if (lost)
            return ntx_error_set(err, NTX_E_DEVICE, -ECONNRESET, "fake: the connection was lost");
        if (result < 0)
            ntx_device_complete_failed(base, io, NTX_E_REPLY, result, "as the test wants");
        else
            ntx_device_complete(base, io, 0);
    }
    return 0;
}

static int fake_clone(struct ntx_device *base, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    struct fake_disk *disk = ((struct fake_device *)base)->disk;
    disk->clones_begun++;
    while (disk->delays_clones) {
        struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
        if (poll(&stop, 1, 1) > 0)
            return ntx_error_set(err, NTX_E_CANCELLED, -ECANCELED, "fake: stopped");
    }
    pthread_mutex_lock(&disk->lock);
    bool refuse = disk->refuse_clones > 0;
    disk->refuse_clones -= refuse;
    disk->clones += !refuse;
    pthread_mutex_unlock(&disk->lock);
    if (refuse)
        return ntx_error_set(err, NTX_E_NEGOTIATION, -ECONNREFUSED, "fake: no more connections");
    *other = fake_open(disk);
    return 0;
}

static int fake_settle(struct ntx_device *base, struct ntx_error *err)
{
    struct fake_disk *disk = ((struct fake_device *)base)->disk;
    pthread_mutex_lock(&disk->lock);
    disk->writes_settled = disk->writes;
    pthread_mutex_unlock(&disk->lock);
    return disk->settle_code == 0 ? 0 : ntx_error_set(err, NTX_E_DEVICE, disk->settle_code, "fake: settle failed");
}

static void fake_close(struct ntx_device *base)
{
    ntx_event_close(base->fd);
    free(base);
}

static const struct ntx_device_ops fake_ops = {
    .submit = fake_submit, .advance = fake_advance, .clone = fake_clone, .close = fake_close};

static const struct ntx_device_ops fake_ops_with_settle = {
    .submit = fake_submit, .advance = fake_advance, .clone = fake_clone, .settle = fake_settle, .close = fake_close};

#endif
