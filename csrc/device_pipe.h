/*
 * device_pipe.h: a pipe, a socket, or whatever else has no places, only what comes next.  Read or written, in order.
 *
 *   requests   [ first ......... ][ second ][ third ]      each begins where the one before it ends
 *                        ^ position of the stream
 */
#ifndef NTX_DEVICE_PIPE_H
#define NTX_DEVICE_PIPE_H

#include "device.h"

enum ntx_pipe_way {
    NTX_PIPE_NON_BLOCKING, /* a pipe: opened anew, so that those who share it with us see no other flags */
    NTX_PIPE_SOCKET,       /* asked not to wait, call by call */
    NTX_PIPE_ASKS_FIRST,   /* a pipe that could not be opened anew, a character device: only after poll() */
    NTX_PIPE_AT_ONCE,      /* a file, a block device: never waits for anybody */
};

struct ntx_pipe {
    struct ntx_device device;
    int own_fd;
    enum ntx_pipe_way way;
    bool is_written, is_fifo;
    bool may_end;  /* read: where it ends is its size, and info.size only a bound until then */
    bool has_room; /* written: a file, in which zeros behind its end need not be written */
    int broken;    /* negative errno of what failed: nothing behind it can be right */
    uint64_t position;
    uint64_t queued_to; /* the next request has to begin there */
    struct ntx_io *first, *last;
};

int ntx_pipe_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err);
int ntx_pipe_advance(struct ntx_device *device, struct ntx_error *err);

#endif
