/*
 * stream.h: what a connection speaks through: bytes in order, both ways, and never a wait but where one is asked for.
 *
 *   nbd_request --sendv--> +--------+
 *   nbd_reply  <--recvv--- | stream | <--> fd          plain (stream_plain.h): the bytes are those of the socket
 *   poll      <---wants--- +--------+
 *
 * A stream may be more than its socket.  It may hold bytes that came and that nobody has taken yet, when poll() has
 * nothing more to say of the fd: ask pending().  It may have to read before it can send, or to send before it can read:
 * ask wants().  A stream belongs to one thread at a time.
 */
#ifndef NTX_STREAM_H
#define NTX_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct ntx_stream;

struct ntx_stream_ops {
    /*
     * Send as much of vectors as can be sent now.  What was not taken must be offered again first, as it is.
     * Ownership: the array is the stream's to change.  may_refer: the stream may refer to the memory instead of
     *            copying it; then nobody may change it before the peer has read it (device.h, .unread).
     * Units:     bytes taken, at least 1; less than all only when wants() must be waited for.  A byte counts as taken
     *            when nothing more has to be done to send it.
     * Threads:   never blocks.
     * Errors:    -EAGAIN: nothing now; else -errno, and the stream is dead.
     */
    ssize_t (*sendv)(struct ntx_stream *stream, struct iovec *vectors, unsigned count, bool may_refer);

    /*
     * Receive into vectors what is there.
     * Ownership: the array is the stream's to change.
     * Units:     bytes received, which may be less than there is: ask pending(); 0: the peer has ended.
     * Threads:   never blocks.
     * Errors:    -EAGAIN: nothing is there; else -errno, and the stream is dead.
     */
    ssize_t (*recvv)(struct ntx_stream *stream, struct iovec *vectors, unsigned count);

    /*
     * Tell whether recvv() may have more at once, whatever poll() says of the fd.
     * Ownership: -
     * Units:     true may be wrong, false may not: after false, and after -EAGAIN of recvv(), the fd polls for whatever
     *            wants() says.
     * Threads:   never blocks.
     * Errors:    none.
     */
    bool (*pending)(const struct ntx_stream *stream);

    /*
     * What to poll the fd for, in order to do what events says: POLLIN to receive, POLLOUT to send, both, or 0.
     * Ownership: -
     * Units:     POLLIN | POLLOUT, as the last sendv() and recvv() left them; for 0 it is 0.
     * Threads:   never blocks.
     * Errors:    none.
     */
    short (*wants)(const struct ntx_stream *stream, short events);

    /*
     * Why the stream is dead, or the peer has ended, if more is known than the errno says.
     * Ownership: the text is the stream's.
     * Units:     ASCII, printable, one line; "" when nothing is known.
     * Threads:   never blocks.
     * Errors:    none.
     */
    const char *(*reason)(const struct ntx_stream *stream);

    /*
     * Say goodbye where the kind of stream has one and that needs no waiting; close the fd and free the stream.
     * Ownership: the stream is gone.  What was sent by reference stays with the socket.
     * Units:     -
     * Threads:   never blocks.
     * Errors:    none.
     */
    void (*close)(struct ntx_stream *stream);
};

/* First member of every stream. */
struct ntx_stream {
    const struct ntx_stream_ops *ops;
    int fd; /* non-blocking, close-on-exec */
};

/* Until when to wait: a moment of the monotonic clock (clock.h), or until somebody says stop. */
struct ntx_until {
    uint64_t deadline_ns;
    int stop_fd; /* gives up once it is readable; -1: nobody can */
};

/*
 * Wait until fd is ready for events; fd -1 for the time alone.
 * Ownership: until is borrowed.
 * Units:     events as for poll().
 * Threads:   blocks.
 * Errors:    0, or -ETIMEDOUT, -ECANCELED (stop), -errno of poll().
 */
int ntx_until_ready(const struct ntx_until *until, int fd, short events);

/*
 * Send, or receive, exactly length bytes.
 * Ownership: data is copied.
 * Units:     *received tells how many bytes came, also after a failure; it may be NULL.
 * Threads:   blocks until the end of until.
 * Errors:    0, or -errno, -ETIMEDOUT, -ECANCELED, -ECONNRESET (the peer has ended).
 */
int ntx_stream_send_all(struct ntx_stream *stream, const void *data, size_t length, const struct ntx_until *until);
int ntx_stream_recv_all(struct ntx_stream *stream, void *data, size_t length, const struct ntx_until *until,
                        size_t *received);

/*
 * Send what can be sent now; whether it arrives does not matter.  For saying goodbye.
 * Ownership: data is copied.
 * Units:     bytes.
 * Threads:   never blocks.
 * Errors:    none.
 */
void ntx_stream_send_hint(struct ntx_stream *stream, const void *data, size_t length);

/* ": <why>", or "", to stand behind what the errno says. */
struct ntx_stream_why {
    char text[256];
};
struct ntx_stream_why ntx_stream_why(const struct ntx_stream *stream);

/* Close; NULL is allowed. */
void ntx_stream_close(struct ntx_stream *stream);

#endif
