/*
 * fuzz_qcow2.c: what an image may hold that is read by its own tables, alone or on top of another.
 *
 *   input   | how | piece 0 | piece 1 | piece 2 | ...          pieces of 256 bytes
 *   file    | piece 0, zeros... | piece 1, zeros... | ...      each at the beginning of a cluster: header, tables, data
 *
 * Bit 0 of how: the file ends with the last piece, and not with its cluster.  Bit 1: the second half of the pieces is
 * an image below.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create() */
#endif
#include "device.h"
#include "fuzz_stream.h"
#include "ntx_image.h"
#include "qcow2_format.h"

#include <sys/mman.h>
#include <unistd.h>

#define PIECE 256u
#define CLUSTER ((uint64_t)NTX_QCOW2_CLUSTER)
#define SIDE_BY_SIDE 4u /* clusters that are read at once */
#define ROWS 64u
#define ANSWERS 4u /* of a map: its size is the fuzzer's to choose */

static int new_file(const uint8_t *data, size_t size, bool is_cut)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    size_t pieces = (size + PIECE - 1) / PIECE;

    MUST(fd >= 0);
    for (size_t i = 0; i < pieces; i++) {
        size_t length = ntx_min64(PIECE, size - i * PIECE);
        MUST(pwrite(fd, data + i * PIECE, length, (off_t)(i * CLUSTER)) == (ssize_t)length);
    }
    MUST(is_cut || ftruncate(fd, (off_t)(pieces * CLUSTER)) == 0);
    return fd;
}

static int read_at(struct ntx_device *device, uint64_t offset, uint64_t length, uint8_t *data)
{
    struct ntx_io io = {.op = NTX_OP_READ, .offset = offset, .length = length, .data = data};
    struct ntx_error err;

    int code = ntx_device_do(device, &io, 0, &err);
    MUST(code == 0 || (code < 0 && err.class == NTX_E_DEVICE && err.offset == offset && err.text[0] != '\0'));
    return code;
}

/* What is read at once is what is read in pieces across the borders. */
static void check_read(struct ntx_device *device, uint64_t offset, uint64_t size)
{
    static uint8_t whole[SIDE_BY_SIDE * NTX_QCOW2_CLUSTER], part[NTX_QCOW2_CLUSTER];
    uint64_t length = ntx_min64(sizeof whole, size - offset);

    if (read_at(device, offset, length, whole) != 0)
        return;
    for (uint64_t at = 0; at < length; at += CLUSTER / 2 + 512) {
        uint64_t some = ntx_min64(CLUSTER / 2 + 512, length - at);
        MUST(read_at(device, offset + at, some, part) == 0);
        MUST(memcmp(part, whole + at, some) == 0);
    }
}

static void check_map(struct ntx_device *device, uint64_t size)
{
    struct ntx_mapped_extent rows[ROWS];
    struct ntx_extent extents[ROWS];
    struct ntx_error err;
    uint64_t at = 0;
    size_t count;

    for (unsigned i = 0; i < ANSWERS && at < size; i++) {
        if (ntx_map_images(device, at, size - at, rows, ROWS, &count, &err) != 0)
            return;
        MUST(count > 0 && count <= ROWS);
        for (size_t row = 0; row < count; row++) {
            MUST(rows[row].offset == at && rows[row].length > 0 && rows[row].length <= size - at);
            uint32_t flags = rows[row].flags;
            MUST(flags == 0 || flags == NTX_EXTENT_ZERO || flags == (NTX_EXTENT_ZERO | NTX_EXTENT_ABSENT));
            MUST(rows[row].file < 2);
            at += rows[row].length;
        }
        if (ntx_map(device, rows[0].offset, rows[0].length, 0, extents, ROWS, &count, &err) == 0)
            MUST(count == 1 && extents[0].flags == (rows[0].flags & NTX_EXTENT_ZERO));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ntx_device *device;
    struct ntx_error err;
    int fds[2] = {-1, -1};

    if (size == 0)
        return 0;
    bool is_cut = (data[0] & 1) != 0, has_below = (data[0] & 2) != 0;
    size_t first = has_below ? ntx_round_up((size - 1) / 2, PIECE) : size - 1;
    first = ntx_min64(first, size - 1);
    fds[0] = new_file(data + 1, first, is_cut);
    if (has_below)
        fds[1] = new_file(data + 1 + first, size - 1 - first, is_cut);
    int code = ntx_open_qcow2_chain("disk", fds, has_below ? 2 : 1, &device, &err);
    MUST((code == 0) == (device != NULL));
    if (code == 0) {
        uint64_t disk = ntx_device_info(device)->size;

        for (uint64_t window = 0; window < 2; window++) {
            uint64_t begin = window * NTX_QCOW2_L2_BYTES;
            for (unsigned i = 0; i < PIECE / 8 && begin + i * CLUSTER < disk; i += SIDE_BY_SIDE)
                check_read(device, begin + i * CLUSTER, disk);
        }
        check_map(device, disk);
    }
    ntx_close(device);
    close(fds[0]);
    if (has_below)
        close(fds[1]);
    return 0;
}
