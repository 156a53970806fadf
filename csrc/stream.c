/* stream.c: see stream.h. */
#include "stream.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

int ntx_until_ready(const struct ntx_until *until, int fd, short events)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = until->stop_fd, .events = POLLIN}};

    for (;;) {
        int left_ms = ntx_left_ms(ntx_now_ns(), until->deadline_ns);
        int count = poll(fds, 2, left_ms);
        if (count < 0 && errno != EINTR)
            return -errno;
        if (count > 0 && fds[1].revents != 0)
            return -ECANCELED;
        if (left_ms == 0) /* also when fd is ready: a peer could trickle for ever */
            return -ETIMEDOUT;
        if (count > 0)
            return 0;
    }
}

int ntx_stream_send_all(struct ntx_stream *stream, const void *data, size_t length, const struct ntx_until *until)
{
    const char *at = data;

    while (length > 0) {
        struct iovec vector = {.iov_base = (void *)at, .iov_len = length};
        ssize_t sent = stream->ops->sendv(stream, &vector, 1, false);
        int result = sent == -EAGAIN ? ntx_until_ready(until, stream->fd, stream->ops->wants(stream, POLLOUT)) : 0;

        if (sent == -EPIPE)
            return -ECONNRESET;
        if (sent < 0 && sent != -EAGAIN)
            return (int)sent;
        if (result != 0)
            return result;
        at += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

int ntx_stream_recv_all(struct ntx_stream *stream, void *data, size_t length, const struct ntx_until *until,
                        size_t *received)
{
    size_t count = 0;
    int result = 0;

    while (count < length && result == 0) {
        struct iovec vector = {.iov_base = (char *)data + count, .iov_len = length - count};
        ssize_t got = stream->ops->recvv(stream, &vector, 1);

        if (got > 0)
            count += (size_t)got;
        else if (got == -EAGAIN)
            result = ntx_until_ready(until, stream->fd, stream->ops->wants(stream, POLLIN));
        else
            result = got == 0 ? -ECONNRESET : (int)got;
    }
    if (received != NULL)
        *received = count;
    return result;
}

void ntx_stream_send_hint(struct ntx_stream *stream, const void *data, size_t length)
{
    struct iovec vector = {.iov_base = (void *)data, .iov_len = length};

    (void)stream->ops->sendv(stream, &vector, 1, false);
}

struct ntx_stream_why ntx_stream_why(const struct ntx_stream *stream)
{
    struct ntx_stream_why why = {""};
    const char *reason = stream->ops->reason(stream);

    if (reason[0] != '\0')
        snprintf(why.text, sizeof why.text, ": %s", reason);
    return why;
}

void ntx_stream_close(struct ntx_stream *stream)
{
    if (stream != NULL)
        stream->ops->close(stream);
}
