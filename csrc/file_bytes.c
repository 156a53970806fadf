/* file_bytes.c: see file_bytes.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_CLOEXEC, preadv2() */
#endif
#include "file_bytes.h"
#include "bytes.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NAME_SHOWN 240 /* bytes of a file's name in a message: the last ones */

int64_t ntx_file_read_cached(int fd, void *data, uint64_t length, uint64_t at)
{
    struct iovec vector = {.iov_base = data, .iov_len = length};
    ssize_t got = preadv2(fd, &vector, 1, (off_t)at, RWF_NOWAIT);

    return got < 0 ? -errno : got;
}

void ntx_file_read_ahead(int fd, uint64_t at, uint64_t length)
{
    (void)posix_fadvise(fd, (off_t)at, (off_t)length, POSIX_FADV_WILLNEED); /* if not, it is read when it is needed */
}

static void link_of(int fd, char link[32])
{
    snprintf(link, 32, "/proc/self/fd/%d", fd);
}

/* The path of an open file, as it is called now; only its end if it is long. */
static void path_of(int fd, char path[NAME_SHOWN + 1])
{
    char link[32], target[4096];

    link_of(fd, link);
    ssize_t length = readlink(link, target, sizeof target - 1);
    target[length > 0 ? length : 0] = '\0';
    snprintf(path, NAME_SHOWN + 1, "%.*s", NAME_SHOWN, length > NAME_SHOWN ? target + length - NAME_SHOWN : target);
}

int ntx_file_cause(int fd, uint64_t place, int code, const char *what, char cause[NTX_FILE_CAUSE])
{
    char path[NAME_SHOWN + 1], words[128];
    struct stat now;

    path_of(fd, path);
    if (what == NULL && code == -ENODATA) {
        if (fstat(fd, &now) == 0)
            place = ntx_min64(place, (uint64_t)now.st_size);
        snprintf(cause, NTX_FILE_CAUSE, "the file %s ended at %" PRIu64 ": it was truncated while being read", path,
                 place);
        return -EIO;
    }
    snprintf(cause, NTX_FILE_CAUSE, "the file %s at %" PRIu64 ": %s", path, place,
             what != NULL ? what : ntx_errno_text(code, words, sizeof words));
    return code;
}

static int open_again(int fd, int flags)
{
    char link[32];

    link_of(fd, link);
    return open(link, O_RDONLY | O_CLOEXEC | flags);
}

int ntx_file_again(int fd)
{
    return open_again(fd, 0);
}

int ntx_file_again_direct(int fd)
{
    return open_again(fd, O_DIRECT);
}
