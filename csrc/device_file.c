/*
 * device_file.c: a regular file or a block device, read and written with blocking calls, or through a ring.
 *
 *   request --- page-aligned, and O_DIRECT was asked for ---> direct_fd   past the page cache, by the ring
 *          `--- otherwise ----------------------------------> fd          any offset, length and address
 *
 * Having both makes min_block 1 for callers.  The two never touch the same page with different parts of it, unless
 * requests overlap: what the kernel does with a page that is dirty in the cache and written directly is not defined.
 *
 * LIMIT: a blocking call into a device that hangs (dead NFS server, failing disk) cannot be interrupted or timed out.
 * A flush of much that is dirty is many short calls instead of a long one: between them it can be given up.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate(), SEEK_DATA */
#endif
#include "device_file.h"
#include "bytes.h"
#include "device.h"
#include "error.h"
#include "file_io.h"
#include "zero.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void fail(struct ntx_file *file, struct ntx_io *io, int code)
{
    char cause[128];

    ntx_device_complete_failed(&file->device, io, NTX_E_DEVICE, code, ntx_errno_text(code, cause, sizeof cause));
}

/* The file gave nothing at position, which was inside it when it was opened. */
static void fail_ended(struct ntx_file *file, struct ntx_io *io, uint64_t position)
{
    char cause[128];
    struct stat now;

    if (!file->is_block && fstat(file->fd, &now) == 0)
        position = ntx_min64(position, (uint64_t)now.st_size);
    snprintf(cause, sizeof cause, "the %s ended at %" PRIu64 ": it was truncated while being read",
             file->is_block ? "device" : "file", position);
    ntx_device_complete_failed(&file->device, io, NTX_E_DEVICE, -EIO, cause);
}

static void finish(struct ntx_file *file, struct ntx_io *io, int code)
{
    if (code != 0)
        fail(file, io, code);
    else
        ntx_device_complete(&file->device, io, 0);
}

/* ------------------------------------------------------------------------------------- reading, writing */

static bool is_direct(const struct ntx_file *file, const void *data, uint64_t offset, uint64_t length)
{
    return file->direct_fd >= 0 && (((uintptr_t)data | offset | length) & (file->direct_unit - 1)) == 0;
}

/* What to do after a call that failed: 0 to call again, or the negative errno.  A file system may accept O_DIRECT
 * at open and refuse it, or want more alignment than it said, at the first request: go on without. */
static int after_failure(struct ntx_file *file, bool direct, int code)
{
    if (code == -EINTR)
        return 0;
    if (code != -EINVAL || !direct)
        return code;
    close(file->direct_fd); /* what is still in flight in the ring holds the file */
    file->direct_fd = -1;
    file->device.info.flags &= ~NTX_DEVICE_DIRECT;
    return 0;
}

static void do_read(struct ntx_file *file, struct ntx_io *io)
{
    uint8_t *data = io->data;
    uint64_t offset = io->offset, length = io->length;

    while (length > 0) {
        bool direct = is_direct(file, data, offset, length);
        ssize_t got = pread(direct ? file->direct_fd : file->fd, data, length, (off_t)offset);

        if (got < 0) {
            int code = after_failure(file, direct, -errno);
            if (code != 0) {
                fail(file, io, code);
                return;
            }
            continue;
        }
        if (got == 0) {
            fail_ended(file, io, offset);
            return;
        }
        data += got;
        offset += (uint64_t)got;
        length -= (uint64_t)got;
    }
    ntx_device_complete(&file->device, io, 0);
}

static void begin_read(struct ntx_file *file, struct ntx_io *io)
{
    if (file->ring == NULL || !is_direct(file, io->data, io->offset, io->length) ||
        ntx_ring_read(file->ring, file->direct_fd, io->data, io->length, io->offset, io) < 0)
        do_read(file, io);
}

static int write_all(struct ntx_file *file, const uint8_t *data, uint64_t offset, uint64_t length)
{
    while (length > 0) {
        bool direct = is_direct(file, data, offset, length);
        ssize_t put = pwrite(direct ? file->direct_fd : file->fd, data, length, (off_t)offset);

        if (put < 0) {
            int code = after_failure(file, direct, -errno);
            if (code != 0)
                return code;
            continue;
        }
        if (put == 0) /* no such answer is known; without this it would be asked for ever */
            return -EIO;
        data += put;
        offset += (uint64_t)put;
        length -= (uint64_t)put;
    }
    return 0;
}

static void do_write(struct ntx_file *file, struct ntx_io *io)
{
    finish(file, io, write_all(file, io->data, io->offset, io->length));
}

static void begin_write(struct ntx_file *file, struct ntx_io *io)
{
    if (file->ring == NULL || !is_direct(file, io->data, io->offset, io->length) ||
        ntx_ring_write(file->ring, file->direct_fd, io->data, io->length, io->offset, io) < 0)
        do_write(file, io);
}

/* What the ring did not do, or not whole, is done from its beginning with blocking calls: they know the errors, and are
 * seldom needed. */
int ntx_file_advance(struct ntx_device *device, struct ntx_error *err)
{
    struct ntx_file *file = (struct ntx_file *)device;
    struct ntx_io *io;
    int64_t result;

    (void)err;
    while (file->ring != NULL && (io = ntx_ring_next(file->ring, &result)) != NULL) {
        if (result == (int64_t)io->length)
            ntx_device_complete(device, io, 0);
        else if (io->op == NTX_OP_READ)
            do_read(file, io);
        else
            do_write(file, io);
    }
    return 0;
}

/* --------------------------------------------------------------------------------------------- zeroing */

static int write_zeros(struct ntx_file *file, uint64_t offset, uint64_t length)
{
    while (length > 0) {
        uint64_t part = ntx_min64(length, sizeof ntx_zeros);
        int code = write_all(file, ntx_zeros, offset, part);

        if (code != 0)
            return code;
        offset += part;
        length -= part;
    }
    return 0;
}

static int allocate(int fd, int mode, uint64_t offset, uint64_t length)
{
    int result;

    do {
        result = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
    } while (result < 0 && errno == EINTR);
    return result == 0 ? 0 : -errno;
}

/* A hole reads as zero, keeps the target sparse, and more file systems can make one than zero a range. */
static int zero_in_file(struct ntx_file *file, uint64_t offset, uint64_t length)
{
    int code = allocate(file->fd, FALLOC_FL_PUNCH_HOLE, offset, length);

    return ntx_is_unsupported(code) ? allocate(file->fd, FALLOC_FL_ZERO_RANGE, offset, length) : code;
}

/* Whole pages by the device, so that no page is dirty in the cache meanwhile; the ends, if any, are written. */
static int zero_on_block_device(struct ntx_file *file, uint64_t offset, uint64_t length)
{
    uint64_t start = ntx_round_up(offset, file->direct_unit), end = ntx_round_down(offset + length, file->direct_unit);
    uint64_t range[2] = {start, end - start};
    int code = 0;

    if (start >= end)
        return write_zeros(file, offset, length);
    if (ioctl(file->fd, BLKZEROOUT, range) < 0)
        code = -errno;
    if (code == -EBUSY || code == -EINTR) /* pages of the range are in use elsewhere: only this request is written */
        code = write_zeros(file, start, end - start);
    if (code == 0)
        code = write_zeros(file, offset, start - offset);
    return code != 0 ? code : write_zeros(file, end, offset + length - end);
}

static int zero_range(struct ntx_file *file, uint64_t offset, uint64_t length)
{
    if ((file->device.info.flags & NTX_DEVICE_CAN_ZERO) != 0) {
        int code = file->is_block ? zero_on_block_device(file, offset, length) : zero_in_file(file, offset, length);

        if (!ntx_is_unsupported(code))
            return code;
        file->device.info.flags &= ~NTX_DEVICE_CAN_ZERO;
    }
    return write_zeros(file, offset, length);
}

/* ------------------------------------------------------------------------------------- mapping, flushing */

/* Where data, or the next hole, begins at or after offset: *found is the end of the file when there is none. */
static int seek(struct ntx_file *file, uint64_t offset, int what, uint64_t *found)
{
    off_t at = lseek(file->fd, (off_t)offset, what);

    if (at < 0 && errno != ENXIO)
        return -errno;
    if (at < 0)
        at = lseek(file->fd, 0, SEEK_END);
    *found = (uint64_t)at;
    return at >= 0 ? 0 : -errno;
}

/* The run that begins at offset: its kind, and where it ends.  SEEK_HOLE looks as far as the data goes, on tmpfs page
 * by page, however little of it was asked for: a run is looked up once. */
static int find_run(struct ntx_file *file, uint64_t offset, bool *is_data, uint64_t *end)
{
    uint64_t data = 0, hole = 0;

    *is_data = true;
    *end = file->data_end;
    if (offset >= file->data_start && offset < file->data_end)
        return 0;
    int code = seek(file, offset, SEEK_DATA, &data);
    if (code != 0)
        return code;
    *is_data = data == offset;
    *end = data;
    if (!*is_data)
        return 0;
    code = seek(file, offset, SEEK_HOLE, &hole);
    if (code != 0)
        return code;
    file->data_start = offset;
    file->data_end = *end = hole;
    return 0;
}

/* A list that is full ends the map early; the caller asks again from there. */
static void do_map(struct ntx_file *file, struct ntx_io *io)
{
    struct ntx_extents *map = io->map;
    uint64_t end = 0;
    bool is_data;
    int code = 0;

    while (code == 0 && !ntx_extents_is_complete(map)) {
        code = find_run(file, map->end, &is_data, &end);
        if (code == -EINVAL || code == -EOPNOTSUPP) { /* cannot tell holes on this file system */
            ntx_extents_append(map, map->limit - map->end, 0);
            break;
        }
        if (code != 0) {
            fail(file, io, code);
            return;
        }
        if (end <= map->end) { /* the end of the file lies before what was asked for */
            fail_ended(file, io, end);
            return;
        }
        code = ntx_extents_append(map, end - map->end, is_data ? 0 : NTX_EXTENT_ZERO);
    }
    ntx_device_complete(&file->device, io, 0);
}

static int flush(struct ntx_file *file, const struct ntx_stop *stop)
{
    if ((file->device.info.flags & NTX_DEVICE_READ_ONLY) != 0)
        return 0;
    return ntx_sync_file(file->fd, file->device.info.size, stop);
}

int ntx_file_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct ntx_file *file = (struct ntx_file *)device;

    (void)err; /* no failure of one request makes a file unusable */
    switch (io->op) {
    case NTX_OP_READ:
        begin_read(file, io);
        break;
    case NTX_OP_WRITE:
        begin_write(file, io);
        break;
    case NTX_OP_ZERO:
        finish(file, io, zero_range(file, io->offset, io->length));
        break;
    case NTX_OP_FLUSH:
        finish(file, io, flush(file, io->stop));
        break;
    case NTX_OP_MAP:
        do_map(file, io);
        break;
    }
    return 0;
}
