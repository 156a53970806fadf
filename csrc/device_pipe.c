/*
 * device_pipe.c: the requests to a pipe, a socket or a file that is read or written from its beginning to its end.
 *
 * Bytes are moved as long as that needs no waiting; then the worker polls.  A pipe stalls for as long as whoever is at
 * its other end wants: that is no failure, so there is no time limit.
 *
 * LIMIT: of a pipe that others read or write too, a call may wait where it could not be opened anew.  So may one to a
 * character device.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "device_pipe.h"
#include "bytes.h"
#include "error.h"
#include "file_io.h"
#include "zero.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(struct ntx_pipe *pipe, struct ntx_io *io, int code, const char *cause)
{
    char text[128];

    pipe->broken = code;
    if (cause == NULL)
        cause = code == -EPIPE ? "its reader is gone" : ntx_errno_text(code, text, sizeof text);
    ntx_device_complete_failed(&pipe->device, io, NTX_E_DEVICE, code, cause);
}

/* ------------------------------------------------------------------------------------------ moving bytes */

static bool is_ready(const struct ntx_pipe *pipe)
{
    struct pollfd ready = {.fd = pipe->own_fd, .events = pipe->device.events};

    return pipe->way != NTX_PIPE_ASKS_FIRST || poll(&ready, 1, 0) > 0;
}

/* All below: the number of bytes, or a negative errno, of which -EAGAIN is "not now". */

static ssize_t read_some(struct ntx_pipe *pipe, void *data, size_t length)
{
    ssize_t got;

    if (!is_ready(pipe))
        return -EAGAIN;
    do {
        got = pipe->way == NTX_PIPE_SOCKET ? recv(pipe->own_fd, data, length, MSG_DONTWAIT)
                                           : read(pipe->own_fd, data, length);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t write_some(struct ntx_pipe *pipe, const void *data, size_t length)
{
    ssize_t put;

    if (!is_ready(pipe))
        return -EAGAIN;
    if (pipe->way == NTX_PIPE_ASKS_FIRST && pipe->is_fifo) /* for so many there is room when poll() says so */
        length = ntx_min64(length, PIPE_BUF);
    do {
        put = pipe->way == NTX_PIPE_SOCKET ? send(pipe->own_fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                                           : write(pipe->own_fd, data, length);
    } while (put < 0 && errno == EINTR);
    if (put == 0) /* no such answer is known; without this it would be asked for ever */
        return -EIO;
    return put < 0 ? -errno : put;
}

/* Leave a hole, where everything so far was written at the end of a file: all of length, or 0. */
static ssize_t skip_zeros(struct ntx_pipe *pipe, uint64_t length)
{
    struct stat status;
    off_t at = lseek(pipe->own_fd, 0, SEEK_CUR);

    if (at < 0 || fstat(pipe->own_fd, &status) < 0 || at != status.st_size)
        return 0;
    if (ftruncate(pipe->own_fd, at + (off_t)length) < 0)
        return errno == EFBIG || errno == ENOSPC || errno == EDQUOT ? -errno : 0;
    return lseek(pipe->own_fd, (off_t)length, SEEK_CUR) < 0 ? -errno : (ssize_t)length;
}

static ssize_t write_zeros(struct ntx_pipe *pipe, uint64_t length)
{
    ssize_t skipped = pipe->has_room ? skip_zeros(pipe, length) : 0;

    return skipped != 0 ? skipped : write_some(pipe, ntx_zeros, ntx_min64(length, sizeof ntx_zeros));
}

/* ------------------------------------------------------------------------------------------ the end of it */

/* More than was to come is an error as much as less: nobody may believe that a part is the whole. */
static ssize_t look_for_end(struct ntx_pipe *pipe, struct ntx_io *io)
{
    char more, cause[128];
    ssize_t got = read_some(pipe, &more, 1);

    if (got <= 0)
        return got;
    snprintf(cause, sizeof cause, "it goes on past %" PRIu64 " bytes, %s", pipe->device.info.size,
             pipe->may_end ? "and the target has room for no more" : "which are all that were to come");
    fail(pipe, io, -EFBIG, cause);
    return 1;
}

static void complete_short(struct ntx_pipe *pipe, struct ntx_io *io)
{
    io->length = pipe->position > io->offset ? pipe->position - io->offset : 0;
    ntx_device_complete(&pipe->device, io, 0);
}

static void reach_end(struct ntx_pipe *pipe, struct ntx_io *io)
{
    char cause[128];

    if (pipe->may_end && pipe->position > 0) {
        pipe->device.info.size = pipe->position;
        pipe->device.has_ended = true;
        complete_short(pipe, io);
        return;
    }
    if (pipe->may_end)
        snprintf(cause, sizeof cause, "it ended without a byte");
    else
        snprintf(cause, sizeof cause, "it ended at %" PRIu64 " bytes, and %" PRIu64 " were to come", pipe->position,
                 pipe->device.info.size);
    fail(pipe, io, -ENODATA, cause);
}

/* ----------------------------------------------------------------------------------------------- requests */

/* All: true when the first request is over, however it ended. */

static bool go_on_reading(struct ntx_pipe *pipe, struct ntx_io *io)
{
    uint64_t end = io->offset + io->length;
    ssize_t got = 1;

    while (pipe->position < end && got > 0) {
        got = read_some(pipe, (char *)io->data + (pipe->position - io->offset), (size_t)(end - pipe->position));
        pipe->position += got > 0 ? (uint64_t)got : 0;
    }
    if (got > 0 && end == pipe->device.info.size) {
        got = look_for_end(pipe, io);
        if (got > 0)
            return true;
        got = got == 0 ? 1 : got;
    }
    if (got == -EAGAIN)
        return false;
    if (got < 0)
        fail(pipe, io, (int)got, NULL);
    else if (got == 0)
        reach_end(pipe, io);
    else
        ntx_device_complete(&pipe->device, io, 0);
    return true;
}

static bool go_on_writing(struct ntx_pipe *pipe, struct ntx_io *io)
{
    uint64_t end = io->offset + io->length;

    while (pipe->position < end) {
        uint64_t left = end - pipe->position;
        ssize_t put = io->op == NTX_OP_ZERO
                          ? write_zeros(pipe, left)
                          : write_some(pipe, (const char *)io->data + (pipe->position - io->offset), (size_t)left);
        if (put == -EAGAIN)
            return false;
        if (put < 0) {
            fail(pipe, io, (int)put, NULL);
            return true;
        }
        pipe->position += (uint64_t)put;
    }
    ntx_device_complete(&pipe->device, io, 0);
    return true;
}

static bool go_on(struct ntx_pipe *pipe, struct ntx_io *io)
{
    if (pipe->broken != 0) {
        ntx_device_complete(&pipe->device, io, pipe->broken); /* the error that is kept is that of the first */
        return true;
    }
    if (pipe->device.has_ended) {
        complete_short(pipe, io);
        return true;
    }
    return pipe->is_written ? go_on_writing(pipe, io) : go_on_reading(pipe, io);
}

int ntx_pipe_advance(struct ntx_device *device, struct ntx_error *err)
{
    struct ntx_pipe *pipe = (struct ntx_pipe *)device;
    struct ntx_io *io;

    (void)err; /* what failed is a request */
    while ((io = pipe->first) != NULL) {
        struct ntx_io *next = io->next; /* completing it puts it on another list */
        if (!go_on(pipe, io))
            break;
        pipe->first = next;
        if (next == NULL)
            pipe->last = NULL;
    }
    return 0;
}

static void flush(struct ntx_pipe *pipe, struct ntx_io *io)
{
    int code = 0;

    if (pipe->is_written && pipe->way == NTX_PIPE_AT_ONCE) {
        off_t end = lseek(pipe->own_fd, 0, SEEK_CUR);
        code = ntx_sync_file(pipe->own_fd, end > 0 ? (uint64_t)end : 0, io->stop);
    }
    if (code != 0)
        fail(pipe, io, code, NULL);
    else
        ntx_device_complete(&pipe->device, io, 0);
}

int ntx_pipe_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct ntx_pipe *pipe = (struct ntx_pipe *)device;

    if (io->op == NTX_OP_FLUSH) {
        flush(pipe, io);
        return 0;
    }
    if (io->op == NTX_OP_MAP) {
        ntx_extents_append(io->map, io->length, 0);
        ntx_device_complete(device, io, 0);
        return 0;
    }
    if (pipe->is_written != (io->op != NTX_OP_READ) || io->offset != pipe->queued_to) {
        ntx_device_complete_failed(device, io, NTX_E_OPTIONS, -ESPIPE, "it has only one direction, and one order");
        return 0;
    }
    pipe->queued_to += io->length;
    if (pipe->last != NULL)
        pipe->last->next = io;
    else
        pipe->first = io;
    pipe->last = io;
    return pipe->first == io ? ntx_pipe_advance(device, err) : 0;
}
