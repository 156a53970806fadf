/*
 * device.c: what all devices share: the completed list, the checks before a request starts, waiting for one
 * request, and the public functions of ntx.h that are not about one kind of device.
 */
#include "device.h"

#include "bytes.h"
#include "clock.h"
#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>

/* What a peer is asked for at first, and at most, when it is asked where its data is: a server may allocate in
 * proportion to it (xapi blktap PR #368), and NBD's lengths have 32 bits. */
#define MAP_FIRST NTX_GIB
#define MAP_MOST (4 * NTX_GIB)

/* After this time the caller is given what is known, however much is missing. */
#define MAP_TIME_NS (100 * NTX_NS_PER_MS)

static const char *action_of(enum ntx_op op)
{
    switch (op) {
    case NTX_OP_READ:
        return "read";
    case NTX_OP_WRITE:
        return "write";
    case NTX_OP_ZERO:
        return "zero";
    case NTX_OP_FLUSH:
        return "flush";
    case NTX_OP_MAP:
        return "map";
    }
    return "request";
}

bool ntx_device_may_end_at(const struct ntx_device_info *info, uint64_t offset)
{
    bool is_tail = (info->flags & NTX_DEVICE_SHORT_TAIL) != 0 && offset == info->size;

    return is_tail || (offset & (info->min_block - 1)) == 0;
}

/* Why the request may not start, or NULL.  Every device relies on this: nothing behind it checks ranges again. */
static const char *refusal(const struct ntx_device_info *info, const struct ntx_io *io, int *code)
{
    *code = -EINVAL;
    if (io->op == NTX_OP_FLUSH)
        return NULL;
    if ((io->op == NTX_OP_WRITE || io->op == NTX_OP_ZERO) && (info->flags & NTX_DEVICE_READ_ONLY) != 0) {
        *code = -EROFS;
        return "it was opened for reading only";
    }
    if (io->length == 0)
        return "the request is empty";
    if (io->offset > info->size || io->length > info->size - io->offset)
        return "the request goes past the end";
    uint64_t mask = info->min_block - 1;
    if (((io->offset | io->length) & mask) != 0 &&
        ((io->offset & mask) != 0 || !ntx_device_may_end_at(info, io->offset + io->length)))
        return "the request is not a multiple of the device's minimum block";
    if ((io->op == NTX_OP_READ || io->op == NTX_OP_WRITE) && io->length > info->max_payload)
        return "the request is longer than the device's maximum payload";
    return NULL;
}

int ntx_device_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    int code;
    const char *why = refusal(&device->info, io, &code);

    if (device->lost)
        return ntx_error_set(err, NTX_E_DEVICE, -ENOTCONN, "%s: %s failed: the connection was lost before",
                             device->info.name, action_of(io->op));
    io->result = 0;
    io->stored = io->op == NTX_OP_WRITE ? io->length : 0;
    io->packing_ns = 0;
    io->next = NULL;
    io->number = io->op == NTX_OP_FLUSH ? UINT64_MAX : ++device->submitted; /* it has a limit of its own */
    device->in_flight++;
    if (why != NULL) {
        ntx_device_complete_failed(device, io, NTX_E_OPTIONS, code, why);
        return 0;
    }
    int result = device->ops->submit(device, io, err);
    if (result != 0)
        device->in_flight--;
    return result;
}

void ntx_device_complete(struct ntx_device *device, struct ntx_io *io, int result)
{
    io->result = result;
    io->next = NULL;
    if (device->done_last != NULL)
        device->done_last->next = io;
    else
        device->done_first = io;
    device->done_last = io;
}

void ntx_device_complete_failed(struct ntx_device *device, struct ntx_io *io, enum ntx_error_class class, int code,
                                const char *cause)
{
    const char *name = device->info.name, *action = action_of(io->op);

    if (io->op == NTX_OP_FLUSH) {
        ntx_error_set(&device->error, class, code, "%s: %s failed: %s", name, action, cause);
    } else {
        ntx_error_set(&device->error, class, code, "%s: %s failed: offset %" PRIu64 " length %" PRIu64 ": %s", name,
                      action, io->offset, io->length, cause);
        ntx_error_at(&device->error, io->offset, io->length);
    }
    ntx_device_complete(device, io, code);
}

int ntx_device_error_of(const struct ntx_device *device, const struct ntx_io *io, struct ntx_error *err)
{
    *err = device->error;
    if (io->op == NTX_OP_FLUSH || (err->code == io->result && err->offset == io->offset && err->length == io->length))
        return io->result;
    ntx_error_errno(err, device->error.class, io->result, "%s: %s failed: offset %" PRIu64 " length %" PRIu64,
                    device->info.name, action_of(io->op), io->offset, io->length);
    return ntx_error_at(err, io->offset, io->length);
}

/* ---------------------------------------------------------------------------------------------- waiting */

/* Wait until the socket is ready and let the device work on it. */
static int advance_once(struct ntx_device *device, const struct ntx_io *io, uint64_t deadline_ns, unsigned timeout_ms,
                        struct ntx_error *err)
{
    int left_ms = ntx_left_ms(ntx_now_ns(), deadline_ns);
    struct pollfd ready[] = {
        {.fd = device->fd, .events = device->events},
        {.fd = io->stop != NULL ? io->stop->fd : -1, .events = POLLIN},
    };
    int count = device->is_ready ? 1 : poll(ready, 2, left_ms);

    if (io->stop != NULL && ntx_stop_is_set(io->stop))
        return ntx_error_set(err, NTX_E_CANCELLED, -ECANCELED, "%s: %s was given up", device->info.name,
                             action_of(io->op));
    /* Bytes that never become an answer do not count: a server could trickle for ever. */
    if (count > 0 && left_ms != 0)
        return device->ops->advance(device, err);
    if (count < 0 && errno != EINTR)
        return ntx_error_errno(err, NTX_E_SYSTEM, -errno, "%s: waiting failed", device->info.name);
    if (count < 0 || left_ms != 0)
        return 0; /* interrupted, or woken a moment early: the next round sees what is left */
    if (io->op == NTX_OP_FLUSH)
        return ntx_error_set(err, NTX_E_TIMEOUT, -ETIMEDOUT, "%s: %s failed: no answer within %g s", device->info.name,
                             action_of(io->op), timeout_ms / 1000.0);
    ntx_error_set(err, NTX_E_TIMEOUT, -ETIMEDOUT,
                  "%s: %s failed: offset %" PRIu64 " length %" PRIu64 ": no answer within %u ms", device->info.name,
                  action_of(io->op), io->offset, io->length, timeout_ms);
    return ntx_error_at(err, io->offset, io->length);
}

/* After a time-out, or a stop, io is still the device's: the device must be closed before io goes. */
int ntx_device_do(struct ntx_device *device, struct ntx_io *io, unsigned timeout_ms, struct ntx_error *err)
{
    uint64_t deadline_ns = ntx_deadline_ns(ntx_now_ns(), timeout_ms);

    if (device->in_flight != 0)
        return ntx_error_set(err, NTX_E_OPTIONS, -EBUSY, "%s: %s failed: %u other requests are in flight",
                             device->info.name, action_of(io->op), device->in_flight);
    int result = ntx_device_submit(device, io, err);
    if (result != 0)
        return result;
    while (ntx_device_reap(device) == NULL) {
        if (device->fd < 0)
            return ntx_error_set(err, NTX_E_SYSTEM, -EIO, "%s: %s failed: the device has nothing to wait for",
                                 device->info.name, action_of(io->op));
        result = advance_once(device, io, deadline_ns, timeout_ms, err);
        if (result != 0) {
            /* io may still be answered after it is gone: nothing more may be received. */
            device->lost = true;
            return result;
        }
    }
    if (io->result != 0)
        *err = device->error;
    return io->result;
}

/* ----------------------------------------------------------------------------------------------- public */

const struct ntx_device_info *ntx_device_info(const struct ntx_device *device)
{
    return &device->info;
}

/* How much to ask for at once, which follows what the device takes. */
struct map_length {
    uint64_t now, most;
};

/* Continue list by one answer; without one, after a refusal for the length, only ask for less the next time. */
static int map_once(struct ntx_device *device, struct ntx_extents *list, struct map_length *ask, unsigned timeout_ms,
                    struct ntx_error *err)
{
    uint64_t at = list->end;
    struct ntx_io io = {.op = NTX_OP_MAP, .offset = at, .length = ntx_min64(ask->now, list->limit - at), .map = list};
    int result = ntx_device_do(device, &io, timeout_ms, err);

    if (result == 0 && list->end - at >= ask->now)
        ask->now = ntx_min64(2 * ask->now, ask->most);
    /* proto.md permits to refuse a length so. */
    if ((result == -EINVAL || result == -EOVERFLOW) && err->class == NTX_E_REPLY && io.length > NTX_BLOCK_SIZE) {
        ask->now = ask->most = ntx_round_up(io.length / 2, NTX_BLOCK_SIZE);
        return 0;
    }
    return result;
}

int ntx_map(struct ntx_device *device, uint64_t offset, uint64_t length, unsigned timeout_ms,
            struct ntx_extent *extents, size_t capacity, size_t *count, struct ntx_error *err)
{
    const struct ntx_device_info *info = &device->info;
    struct ntx_extents list;

    *count = 0;
    if (capacity == 0)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: map failed: no room for even one extent", info->name);
    if (length == 0 || offset > info->size || length > info->size - offset) {
        ntx_error_set(err, NTX_E_OPTIONS, -EINVAL,
                      "%s: map failed: offset %" PRIu64 " length %" PRIu64 ": empty, or past the end at %" PRIu64,
                      info->name, offset, length, info->size);
        return ntx_error_at(err, offset, length);
    }
    ntx_extents_init(&list, extents, capacity, offset, length);
    uint64_t until_ns = ntx_now_ns() + MAP_TIME_NS;
    struct map_length ask = {.now = MAP_FIRST, .most = MAP_MOST};
    if (device->fd < 0) /* nobody is asked */
        ask.now = ask.most = length;
    bool is_open = (info->flags & NTX_DEVICE_CAN_MAP) != 0;
    while (is_open) {
        uint64_t before = list.end, asked = ask.now;
        int result = map_once(device, &list, &ask, timeout_ms, err);

        if (result != 0)
            return result;
        bool has_moved = list.end > before || ask.now < asked;
        is_open = has_moved && !ntx_extents_is_complete(&list) && list.count < capacity;
        is_open = is_open && (list.count == 0 || ntx_now_ns() < until_ns);
    }
    if (list.count == 0) /* the device cannot tell, or did not */
        ntx_extents_append(&list, length, 0);
    *count = list.count;
    return 0;
}

void ntx_interrupt(struct ntx_device *device)
{
    if (device->fd >= 0)
        (void)shutdown(device->fd, SHUT_RDWR); /* ENOTSOCK: an io_uring, which nobody waits for in here */
}

void ntx_close(struct ntx_device *device)
{
    if (device != NULL)
        device->ops->close(device);
}

int ntx_finish(struct ntx_device *device, struct ntx_error *err)
{
    return device->ops->finish != NULL ? device->ops->finish(device, err) : 0;
}
