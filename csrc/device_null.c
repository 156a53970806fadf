/* device_null.c: takes everything and keeps nothing; reads as zeros.  For measuring what comes before the target. */
#include "bytes.h"
#include "device.h"
#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    (void)err;
    io->stored = 0;
    if (io->op == NTX_OP_READ)
        memset(io->data, 0, io->length);
    else if (io->op == NTX_OP_MAP)
        ntx_extents_append(io->map, io->length, NTX_EXTENT_ZERO);
    ntx_device_complete(device, io, 0);
    return 0;
}

static int clone(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    (void)stop_fd; /* nobody is waited for */
    return ntx_open_null(device->info.size, other, err);
}

static void close_null(struct ntx_device *device)
{
    free(device);
}

static const struct ntx_device_ops NULL_OPS = {.submit = submit, .clone = clone, .close = close_null};

int ntx_open_null(uint64_t size, struct ntx_device **device, struct ntx_error *err)
{
    *device = NULL;
    if (size > NTX_MAX_DEVICE_SIZE)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "null: open failed: a size of %" PRIu64 " is too large",
                             size);
    struct ntx_device *null = calloc(1, sizeof *null);
    if (null == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "null: open failed: no memory");
    null->ops = &NULL_OPS;
    null->fd = -1;
    null->info = (struct ntx_device_info){
        .size = size,
        .min_block = 1,
        .preferred_block = NTX_BLOCK_SIZE,
        .max_payload = NTX_MAX_REQUEST_SIZE,
        .connection_bytes = sizeof(struct ntx_device),
        .flags = NTX_DEVICE_CAN_ZERO | NTX_DEVICE_CAN_FLUSH | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_CAN_MAP |
                 NTX_DEVICE_DISCARDS,
        .kind = "null",
    };
    snprintf(null->info.name, sizeof null->info.name, "null:%" PRIu64, size);
    *device = null;
    return 0;
}
