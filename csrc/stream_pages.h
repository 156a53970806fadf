/*
 * stream_pages.h: sending memory by reference: its pages pass through a pipe into the socket, and nothing is copied on
 * this side (bench/notes/paths.md).
 *
 *   memory --vmsplice--> pipe --splice--> socket --> the peer copies from our pages
 *
 * What is sent so must not change before the peer has read it.  That it has answered is not enough, a server may answer
 * early; nor is it that the socket is empty, which for a peer on this machine only means that the pages are in its own
 * queue.  A stream has an order: who answers a later request has read what came before it (device.h, .unread).  Pages
 * that are unmapped stay with the socket as they were, memory given back to malloc() does not.
 *
 * A dead socket raises SIGPIPE, which no flag of splice() prevents: the caller's thread must have it blocked or
 * ignored.
 */
#ifndef NTX_STREAM_PAGES_H
#define NTX_STREAM_PAGES_H

#include "ntx.h"

#include <sys/types.h>
#include <sys/uio.h>

struct ntx_stream_pages {
    int pipe_in, pipe_out; /* -1: the system does not permit it, or no longer */
    size_t held;           /* bytes in the pipe that the socket has not taken */
};

/* Never fails: without a pipe, ntx_stream_pages_can_send() is false. */
void ntx_stream_pages_init(struct ntx_stream_pages *pages);
void ntx_stream_pages_none(struct ntx_stream_pages *pages);
void ntx_stream_pages_close(struct ntx_stream_pages *pages);

static inline bool ntx_stream_pages_can_send(const struct ntx_stream_pages *pages)
{
    return pages->pipe_in >= 0;
}

/*
 * Send what the socket takes now.  vectors begin with the first byte that the socket has not taken; they are looked
 * at only when nothing is held, so what is held must still be described by them.
 * Errors: bytes sent; -EAGAIN: the socket is full; -EOPNOTSUPP: it cannot be done so, nothing of what was held has
 * been sent and ntx_stream_pages_can_send() is false from now on; else -errno, the socket is dead.
 */
ssize_t ntx_stream_pages_send(struct ntx_stream_pages *pages, int fd, const struct iovec *vectors, unsigned count);

#endif
