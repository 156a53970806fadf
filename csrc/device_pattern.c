/*
 * device_pattern.c: a source whose every 8 bytes, from offset 0 on, hold their own offset (big-endian).  Costs
 * almost nothing to read, is never zero past the first 8 bytes, and shows where a misplaced block came from.
 */
#include "bytes.h"
#include "device.h"
#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WORD 8u

/* Bytes [from, from + length) of the word at offset. */
static void put_part(uint8_t *at, uint64_t offset, size_t from, size_t length)
{
    uint8_t word[WORD];

    ntx_put64(word, offset);
    memcpy(at, word + from, length);
}

static void fill(uint8_t *at, uint64_t offset, uint64_t length)
{
    size_t from = offset % WORD;

    if (from != 0) {
        size_t part = ntx_min64(WORD - from, length);
        put_part(at, offset - from, from, part);
        at += part;
        offset += part;
        length -= part;
    }
    for (; length >= WORD; at += WORD, offset += WORD, length -= WORD)
        ntx_put64(at, offset);
    put_part(at, offset, 0, length);
}

static int submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    (void)err;
    if (io->op == NTX_OP_READ)
        fill(io->data, io->offset, io->length);
    else if (io->op == NTX_OP_MAP)
        ntx_extents_append(io->map, io->length, 0);
    ntx_device_complete(device, io, 0);
    return 0;
}

static int clone(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    (void)stop_fd; /* nobody is waited for */
    return ntx_open_pattern(device->info.size, other, err);
}

static void close_pattern(struct ntx_device *device)
{
    free(device);
}

static const struct ntx_device_ops PATTERN_OPS = {.submit = submit, .clone = clone, .close = close_pattern};

int ntx_open_pattern(uint64_t size, struct ntx_device **device, struct ntx_error *err)
{
    *device = NULL;
    if (size > NTX_MAX_DEVICE_SIZE)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "pattern: open failed: a size of %" PRIu64 " is too large",
                             size);
    struct ntx_device *pattern = calloc(1, sizeof *pattern);
    if (pattern == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "pattern: open failed: no memory");
    pattern->ops = &PATTERN_OPS;
    pattern->fd = -1;
    pattern->info = (struct ntx_device_info){
        .size = size,
        .min_block = 1,
        .preferred_block = NTX_BLOCK_SIZE,
        .max_payload = NTX_MAX_REQUEST_SIZE,
        .connection_bytes = sizeof(struct ntx_device),
        .flags = NTX_DEVICE_READ_ONLY | NTX_DEVICE_CAN_MULTI_CONN,
        .kind = "pattern",
    };
    snprintf(pattern->info.name, sizeof pattern->info.name, "pattern:%" PRIu64, size);
    *device = pattern;
    return 0;
}
