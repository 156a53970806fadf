/* device_file.h: what device_file.c (requests) and device_file_open.c (open, clone, close) share. */
#ifndef NTX_DEVICE_FILE_H
#define NTX_DEVICE_FILE_H

#include "device.h"
#include "device_ring.h"

#include <sys/stat.h>

struct ntx_file {
    struct ntx_device device;
    int fd;                /* buffered */
    int direct_fd;         /* the same file with O_DIRECT, or -1 */
    uint32_t direct_unit;  /* offset, length and address of direct requests: multiples of this, at least a page */
    struct ntx_ring *ring; /* for what goes through direct_fd, or NULL */
    bool is_block;
    enum ntx_open_mode mode; /* as asked for; info.flags and direct_fd may change while another thread clones */
    bool wants_direct;
    struct stat identity;          /* as it was when opened */
    uint64_t data_start, data_end; /* the last run of data that SEEK_HOLE found the end of */
    char *path;
};

/* The operations of a file. */
int ntx_file_submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err);
int ntx_file_advance(struct ntx_device *device, struct ntx_error *err);

#endif
