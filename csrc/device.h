/*
 * device.h: what the worker knows of an end.  A file, an NBD connection and the rest hide behind one table.
 *
 *   worker --submit(io)--> device --(now or later)--> completed list --ntx_device_reap()--> worker
 *
 * A device that works at once (file, null, pattern) completes an io inside submit() and has fd -1.  One that
 * waits (NBD) has a non-blocking fd: the worker polls it for .events and calls advance() when it is ready.
 * A device belongs to one thread at a time and takes no locks.
 */
#ifndef NTX_DEVICE_H
#define NTX_DEVICE_H

#include "extent.h"
#include "ntx.h"
#include "stop.h"

enum ntx_op { NTX_OP_READ, NTX_OP_WRITE, NTX_OP_ZERO, NTX_OP_FLUSH, NTX_OP_MAP };

/* One request.  Owned by the submitter, who keeps it and its data alive and untouched until it is reaped, and
 * the data of a WRITE then as long as it is the device's .unread. */
struct ntx_io {
    enum ntx_op op;
    uint64_t offset;         /* multiple of min_block */
    uint64_t length;         /* ends where ntx_device_may_end_at(); READ and WRITE at most max_payload.  READ, after
                              * reaping: what there was, when the device has_ended within it or before */
    uint64_t stored;         /* WRITE, after reaping: bytes kept for it.  length, unless the device set less */
    uint64_t packing_ns;     /* WRITE, after reaping: what of the time was for making it smaller */
    void *data;              /* READ: filled.  WRITE: sent, not changed */
    struct ntx_extents *map; /* MAP: filled from offset on; may cover less than length, never nothing */
    int result;              /* after reaping: 0 or negative errno.  The device's .error says more */
    void *owner;             /* the submitter's */
    struct ntx_io *next;     /* the device's, until reaped */
    /* FLUSH: given up, as -ECANCELED, once this is set; NULL: never.  Other requests are too short for that. */
    const struct ntx_stop *stop;
    uint64_t number; /* the device's: of its requests, in the order of submitting; of a FLUSH none: it is never old */
};

struct ntx_device_ops {
    /* Start one request; never blocks on a peer.  A request that fails by itself completes with .result; the
     * return value is for a device that can no longer be used (then err is filled).  The caller keeps
     * in_flight <= NTX_MAX_IN_FLIGHT. */
    int (*submit)(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err);

    /* Send and receive what the socket allows now.  NULL for devices that work at once.
     * Errors: the connection is lost or the peer broke the protocol; requests in flight will never complete. */
    int (*advance)(struct ntx_device *device, struct ntx_error *err);

    /* Open another connection to the same bytes, with the same mode.  Several threads may do that at once, and others
     * may use the device meanwhile.  May block up to the open's time limit, but not once stop_fd (-1: none) is
     * readable.
     * Errors: of the open; class CANCELLED: stopped. */
    int (*clone)(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err);

    /* Write what was answered and is held back for its neighbours, so that a flush on any connection covers it.  May
     * block.  NULL: nothing is.  Errors: something that was answered is lost. */
    int (*settle)(struct ntx_device *device, struct ntx_error *err);

    /* Write what can only be written at the end, such as the metadata of an image, and make it safe: see ntx_finish().
     * Nothing is in flight.  NULL: there is no such thing. */
    int (*finish)(struct ntx_device *device, struct ntx_error *err);

    /* Release everything, the struct itself too.  Polite where that needs no waiting (NBD sends DISC). */
    void (*close)(struct ntx_device *device);
};

/* First member of every device. */
struct ntx_device {
    const struct ntx_device_ops *ops;
    struct ntx_device_info info;
    int fd;             /* to poll, or -1 */
    short events;       /* POLLIN | POLLOUT wanted now */
    bool is_ready;      /* advance() has something to do, though fd may never say so: do not wait for it */
    unsigned in_flight; /* submitted and not reaped */
    uint64_t submitted; /* number of the last request, but for flushes */
    uint64_t old_up_to; /* requests up to this one are old: whoever waits for them says from when on, ... */
    unsigned old;       /* ... and so many of them are in flight */
    bool is_patient;    /* its peer may take as long as it wants, and requests in flight may be given up at any time */
    bool has_ended;     /* only now is known where it ends: info.size says, and what was read behind it is shorter */
    bool lost;          /* the connection is of no use any more: submit() refuses */
    const void *unread; /* data of a WRITE that was answered, perhaps before the peer had read it: still not to be
                         * changed. Never more than one: whoever answers a later request has read what came before it */
    struct ntx_io *done_first, *done_last;
    struct ntx_error error; /* of the last io that completed with a result other than 0 */
};

/* For submitters. */

/* A request to the device may end there: at a multiple of min_block, or, with NTX_DEVICE_SHORT_TAIL, at its size. */
bool ntx_device_may_end_at(const struct ntx_device_info *info, uint64_t offset);

int ntx_device_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err);

/* Take a completed request; NULL: there is none.  In here because a worker asks twice for every block. */
static inline struct ntx_io *ntx_device_reap(struct ntx_device *device)
{
    struct ntx_io *io = device->done_first;

    if (io == NULL)
        return NULL;
    device->done_first = io->next;
    if (device->done_first == NULL)
        device->done_last = NULL;
    io->next = NULL;
    device->in_flight--;
    device->old -= io->number <= device->old_up_to;
    return io;
}

/* Say in err why io, just reaped, failed; returns io->result.  Others may have failed since it completed: then
 * device->error is about the last of them. */
int ntx_device_error_of(const struct ntx_device *device, const struct ntx_io *io, struct ntx_error *err);

/* Submit one io and wait for it, up to timeout_ms, or until its .stop.  Nothing else may be in flight.
 * Errors: of the device or of the io, or -ETIMEDOUT, -ECANCELED. */
int ntx_device_do(struct ntx_device *device, struct ntx_io *io, unsigned timeout_ms, struct ntx_error *err);

/* For devices: put a finished io on the completed list. */
void ntx_device_complete(struct ntx_device *device, struct ntx_io *io, int result);

/* For devices: complete it with a failure, and keep in device->error "<action> <name> offset N length N: <cause>". */
void ntx_device_complete_failed(struct ntx_device *device, struct ntx_io *io, enum ntx_error_class class, int code,
                                const char *cause);

#endif
