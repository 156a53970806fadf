/* stream_pages.c: see stream_pages.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pipe2(), vmsplice(), splice() */
#endif
#include "stream_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A whole request at once: over TCP it halves the time.  A user has 64 MiB of pipes (fs.pipe-user-pages-soft) for all
 * programs, and no pipe is larger than this by default (fs.pipe-max-size). */
#define PIPE_SIZE (1 << 20)

/* What is left to a user who has more.  With less, copying is faster. */
#define MIN_PIPE_SIZE (64 << 10)

void ntx_stream_pages_none(struct ntx_stream_pages *pages)
{
    *pages = (struct ntx_stream_pages){.pipe_in = -1, .pipe_out = -1};
}

void ntx_stream_pages_close(struct ntx_stream_pages *pages)
{
    if (pages->pipe_in >= 0) {
        close(pages->pipe_in);
        close(pages->pipe_out);
    }
    ntx_stream_pages_none(pages);
}

void ntx_stream_pages_init(struct ntx_stream_pages *pages)
{
    int ends[2];

    ntx_stream_pages_none(pages);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return;
    (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE);
    pages->pipe_out = ends[0];
    pages->pipe_in = ends[1];
    if (fcntl(ends[1], F_GETPIPE_SZ) < MIN_PIPE_SIZE)
        ntx_stream_pages_close(pages);
}

static ssize_t fill(struct ntx_stream_pages *pages, const struct iovec *vectors, unsigned count)
{
    ssize_t put;

    do {
        put = vmsplice(pages->pipe_in, vectors, count, SPLICE_F_NONBLOCK);
    } while (put < 0 && errno == EINTR);
    if (put > 0)
        pages->held = (size_t)put;
    return put;
}

/* Calls that a system refuses, whatever the socket: a sandbox, or a kernel without them. */
static bool is_refused(int code)
{
    return code == EINVAL || code == ENOSYS || code == EPERM || code == EACCES || code == EOPNOTSUPP || code == ENOMEM;
}

ssize_t ntx_stream_pages_send(struct ntx_stream_pages *pages, int fd, const struct iovec *vectors, unsigned count)
{
    ssize_t sent = -1;

    if (pages->held > 0 || fill(pages, vectors, count) > 0) {
        do {
            sent = splice(pages->pipe_out, NULL, fd, NULL, pages->held, SPLICE_F_NONBLOCK);
        } while (sent < 0 && errno == EINTR);
    }
    if (sent > 0) {
        pages->held -= (size_t)sent;
        return sent;
    }
    if (sent == 0 || is_refused(errno)) {
        ntx_stream_pages_close(pages);
        return -EOPNOTSUPP;
    }
    return -errno;
}
