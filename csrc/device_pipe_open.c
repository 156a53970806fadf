/* device_pipe_open.c: finding out how a descriptor can be used without ever waiting in a call, and closing it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_SETPIPE_SZ */
#endif
#include "device_pipe.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a pipe that gives or takes it: 64 KiB are the default, and an unprivileged user may have this much. */
#define PIPE_BYTES (1024 * 1024)

static int clone(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    (void)stop_fd;
    *other = NULL;
    return ntx_error_set(err, NTX_E_OPTIONS, -ENOTSUP, "%s: there is only one of it", device->info.name);
}

static void close_pipe(struct ntx_device *device)
{
    struct ntx_pipe *pipe = (struct ntx_pipe *)device;

    close(pipe->own_fd);
    free(pipe);
}

static const struct ntx_device_ops PIPE_OPS = {
    .submit = ntx_pipe_submit, .advance = ntx_pipe_advance, .clone = clone, .close = close_pipe};

/* A description of our own: O_NONBLOCK belongs to it, and must not be set for all who were given the same pipe. */
static int open_anew(int fd, bool is_written)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (is_written ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
}

static int take(struct ntx_pipe *pipe, int fd, mode_t mode)
{
    pipe->is_fifo = S_ISFIFO(mode);
    pipe->has_room = pipe->is_written && S_ISREG(mode);
    pipe->way = S_ISREG(mode) || S_ISBLK(mode) ? NTX_PIPE_AT_ONCE
                : S_ISSOCK(mode)               ? NTX_PIPE_SOCKET
                                               : NTX_PIPE_ASKS_FIRST;
    if (pipe->is_fifo) {
        (void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES); /* quicker, and no loss where it is refused */
        pipe->own_fd = open_anew(fd, pipe->is_written);
        if (pipe->own_fd >= 0) {
            pipe->way = NTX_PIPE_NON_BLOCKING;
            return 0;
        }
    }
    pipe->own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return pipe->own_fd < 0 ? -errno : 0;
}

static uint32_t flags_of(const struct ntx_pipe *pipe)
{
    if (!pipe->is_written)
        return NTX_DEVICE_READ_ONLY;
    return NTX_DEVICE_IN_ORDER | NTX_DEVICE_CAN_ZERO | (pipe->way == NTX_PIPE_AT_ONCE ? NTX_DEVICE_CAN_FLUSH : 0);
}

int ntx_open_pipe(int fd, enum ntx_open_mode mode, const char *name, uint64_t size, bool may_end,
                  struct ntx_device **device, struct ntx_error *err)
{
    struct stat status;

    *device = NULL;
    if (size > NTX_MAX_DEVICE_SIZE)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: open failed: a size of %" PRIu64 " is too large", name,
                             size);
    struct ntx_pipe *pipe = calloc(1, sizeof *pipe);
    if (pipe == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", name);
    pipe->is_written = mode == NTX_OPEN_WRITE;
    pipe->may_end = may_end && !pipe->is_written;
    int rc = fstat(fd, &status) < 0 ? -errno : take(pipe, fd, status.st_mode);
    if (rc < 0) {
        free(pipe);
        return ntx_error_errno(err, NTX_E_DEVICE, rc, "%s: open failed", name);
    }
    pipe->device.ops = &PIPE_OPS;
    pipe->device.fd = pipe->way == NTX_PIPE_AT_ONCE ? -1 : pipe->own_fd;
    pipe->device.events = pipe->is_written ? POLLOUT : POLLIN;
    pipe->device.is_patient = true;
    pipe->device.info = (struct ntx_device_info){
        .size = size,
        .min_block = 1,
        .preferred_block = NTX_BLOCK_SIZE,
        .max_payload = NTX_MAX_REQUEST_SIZE,
        .connection_bytes = sizeof(struct ntx_pipe),
        .flags = flags_of(pipe),
        .kind = "pipe",
    };
    snprintf(pipe->device.info.name, sizeof pipe->device.info.name, "%s", name);
    *device = &pipe->device;
    return 0;
}
