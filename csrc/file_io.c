/* file_io.c: see file_io.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sync_file_range() */
#endif
#include "file_io.h"

#include "bytes.h"
#include "ntx.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* What is written back by one call: a slow disk does it in a fraction of a second.  Of a huge file it is more, so that
 * the calls stay few: most of it is clean. */
#define SYNC_STEP (32u * NTX_MIB)
#define MAX_SYNC_STEPS 65536u

int ntx_read_at(int fd, void *data, uint64_t length, uint64_t *offset)
{
    uint8_t *to = data;

    while (length > 0) {
        ssize_t got = pread(fd, to, length, (off_t)*offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        to += got;
        *offset += (uint64_t)got;
        length -= (uint64_t)got;
    }
    return 0;
}

int ntx_write_at(int fd, const void *data, uint64_t length, uint64_t *offset)
{
    const uint8_t *from = data;

    while (length > 0) {
        ssize_t put = pwrite(fd, from, length, (off_t)*offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) /* 0: no such answer is known; without this it would be asked for ever */
            return put < 0 ? -errno : -EIO;
        from += put;
        *offset += (uint64_t)put;
        length -= (uint64_t)put;
    }
    return 0;
}

bool ntx_is_unsupported(int code)
{
    return code == -EOPNOTSUPP || code == -ENOSYS || code == -ENOTTY || code == -EINVAL || code == -ENODEV ||
           code == -EPERM || code == -EACCES;
}

static int sync_range(int fd, uint64_t offset, uint64_t length, unsigned what)
{
    int result;

    do {
        result = sync_file_range(fd, (off_t)offset, (off_t)length, what);
    } while (result < 0 && errno == EINTR);
    return result == 0 ? 0 : -errno;
}

/* Write back what is dirty in the page cache, so that little is left to fdatasync().  Each step is begun before the one
 * ahead of it is waited for: the disk is never idle.  A failure that is told here is not told again by fdatasync(), and
 * may be any: a server of files refuses with the same errors as a system without the call.  So that is asked first, of
 * nothing. */
static int write_back(int fd, uint64_t size, const struct ntx_stop *stop)
{
    uint64_t step = ntx_max64(SYNC_STEP, size / MAX_SYNC_STEPS);
    int code = sync_range(fd, 0, 0, 0);

    if (ntx_is_unsupported(code))
        return 0;
    for (uint64_t at = 0; code == 0 && at < size; at += step) {
        if (ntx_stop_is_set(stop))
            return -ECANCELED;
        code = sync_range(fd, at, ntx_min64(2 * step, size - at), SYNC_FILE_RANGE_WRITE);
        if (code == 0)
            code = sync_range(fd, at, ntx_min64(step, size - at), SYNC_FILE_RANGE_WAIT_BEFORE);
    }
    return code;
}

int ntx_sync_file(int fd, uint64_t size, const struct ntx_stop *stop)
{
    int result;

    if (stop != NULL && (result = write_back(fd, size, stop)) != 0)
        return result;
    do {
        result = fdatasync(fd); /* of the inode: also of what went through other descriptors */
    } while (result < 0 && errno == EINTR);
    return result == 0 ? 0 : -errno;
}
