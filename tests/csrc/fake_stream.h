/*
 * fake_stream.h: a stream that is more than its socket, as one with encryption is.
 *
 *   connection <--> fake --records--> far end (two threads) --bytes--> server on a unix socket
 *
 * It takes all records off its socket at once and hands out a part of one at a time: it holds bytes when poll() has
 * nothing to say.  After every few records that it sends it has to ask the far end, and to read the answer, before it
 * can send more: it wants POLLIN in order to write.
 */
#ifndef FAKE_STREAM_H
#define FAKE_STREAM_H

#include "check.h"
#include "error.h"
#include "nbd_open.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FAKE_RECORD 16384u    /* bytes that go into one */
#define FAKE_PART 100u        /* bytes that come out at once: fewer than any caller has room for */
#define FAKE_SENDS 3u         /* records between two questions */
#define FAKE_HELD (64u << 20) /* bytes that may have come and not been taken */

enum { FAKE_DATA = 'D', FAKE_QUESTION = 'Q', FAKE_ANSWER = 'A' };

struct fake_stream {
    struct ntx_stream stream;
    int far, server; /* the far end's */
    pthread_t up, down;
    uint8_t *held;
    size_t held_start, held_end;
    unsigned sends_left;
    bool has_asked, has_ended;
};

/* What the tests look at. */
struct fake_seen {
    bool exaggerates; /* the test's: the stream always says that there may be more, as one with half a record must */
    unsigned questions, held_back, in_vain;
    _Atomic size_t brought; /* bytes that the far end has put into the socket */
};
static struct fake_seen fake_seen;

static void *fake_up(void *argument)
{
    struct fake_stream *fake = argument;
    uint8_t record[FAKE_RECORD + 1];
    ssize_t size;

    while ((size = recv(fake->far, record, sizeof record, 0)) > 0) {
        if (record[0] == FAKE_QUESTION)
            CHECK(send(fake->far, &(uint8_t){FAKE_ANSWER}, 1, MSG_NOSIGNAL) == 1 || errno == EPIPE);
        for (ssize_t at = 1; record[0] == FAKE_DATA && at < size;) {
            ssize_t sent = send(fake->server, record + at, (size_t)(size - at), MSG_NOSIGNAL);
            if (sent < 0)
                break;
            at += sent;
        }
    }
    shutdown(fake->server, SHUT_RDWR);
    return NULL;
}

static void *fake_down(void *argument)
{
    struct fake_stream *fake = argument;
    uint8_t record[FAKE_RECORD + 1] = {FAKE_DATA};
    ssize_t size;

    while ((size = recv(fake->server, record + 1, FAKE_RECORD, 0)) > 0) {
        if (send(fake->far, record, (size_t)size + 1, MSG_NOSIGNAL) < 0)
            break;
        fake_seen.brought += (size_t)size;
    }
    shutdown(fake->far, SHUT_RDWR);
    return NULL;
}

/* Take all that the socket has. */
static void fake_fill(struct fake_stream *fake)
{
    uint8_t record[FAKE_RECORD + 1];
    ssize_t size;

    while ((size = recv(fake->stream.fd, record, sizeof record, MSG_DONTWAIT)) > 0) {
        if (record[0] == FAKE_ANSWER) {
            fake->has_asked = false;
            fake->sends_left = FAKE_SENDS;
            continue;
        }
        CHECK(fake->held_end + (size_t)size < FAKE_HELD);
        memcpy(fake->held + fake->held_end, record + 1, (size_t)size - 1);
        fake->held_end += (size_t)size - 1;
    }
    fake->has_ended = fake->has_ended || size == 0;
}

static bool fake_may_send(struct fake_stream *fake)
{
    if (fake->sends_left == 0)
        fake_fill(fake);
    if (fake->sends_left == 0 && !fake->has_asked) {
        fake->has_asked = send(fake->stream.fd, &(uint8_t){FAKE_QUESTION}, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
        fake_seen.questions += fake->has_asked;
    }
    return fake->sends_left > 0;
}

static ssize_t fake_sendv(struct ntx_stream *stream, struct iovec *vectors, unsigned count, bool may_refer)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    ssize_t total = 0;

    (void)may_refer;
    while (count > 0) {
        uint8_t record[FAKE_RECORD + 1] = {FAKE_DATA};
        size_t size = vectors->iov_len < FAKE_RECORD ? vectors->iov_len : FAKE_RECORD;

        memcpy(record + 1, vectors->iov_base, size);
        if (!fake_may_send(fake) || send(stream->fd, record, size + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            return total > 0 ? total : -EAGAIN;
        fake->sends_left--;
        total += (ssize_t)size;
        vectors->iov_base = (uint8_t *)vectors->iov_base + size;
        vectors->iov_len -= size;
        if (vectors->iov_len == 0) {
            vectors++;
            count--;
        }
    }
    return total;
}

static ssize_t fake_recvv(struct ntx_stream *stream, struct iovec *vectors, unsigned count)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    size_t left = FAKE_PART, total = 0;

    if (fake->held_start == fake->held_end) {
        fake->held_start = fake->held_end = 0;
        fake_fill(fake);
    }
    for (unsigned i = 0; i < count && left > 0; i++) {
        size_t held = fake->held_end - fake->held_start, size = vectors[i].iov_len < left ? vectors[i].iov_len : left;
        size = size < held ? size : held;
        memcpy(vectors[i].iov_base, fake->held + fake->held_start, size);
        fake->held_start += size;
        left -= size;
        total += size;
    }
    fake_seen.held_back += fake->held_end > fake->held_start;
    fake_seen.in_vain += total == 0;
    return total == 0 && !fake->has_ended ? -EAGAIN : (ssize_t)total;
}

static bool fake_pending(const struct ntx_stream *stream)
{
    const struct fake_stream *fake = (const struct fake_stream *)stream;

    return fake_seen.exaggerates || fake->held_end > fake->held_start;
}

static short fake_wants(const struct ntx_stream *stream, short events)
{
    const struct fake_stream *fake = (const struct fake_stream *)stream;

    return (events & POLLOUT) != 0 && fake->has_asked ? POLLIN : events;
}

static const char *fake_reason(const struct ntx_stream *stream)
{
    (void)stream;
    return "";
}

static void fake_close_stream(struct ntx_stream *stream)
{
    struct fake_stream *fake = (struct fake_stream *)stream;

    shutdown(stream->fd, SHUT_WR);
    CHECK(pthread_join(fake->up, NULL) == 0);
    shutdown(fake->far, SHUT_RDWR);
    CHECK(pthread_join(fake->down, NULL) == 0);
    close(stream->fd);
    close(fake->far);
    close(fake->server);
    free(fake->held);
    free(fake);
}

static const struct ntx_stream_ops FAKE_STREAM_OPS = {
    .sendv = fake_sendv,
    .recvv = fake_recvv,
    .pending = fake_pending,
    .wants = fake_wants,
    .reason = fake_reason,
    .close = fake_close_stream,
};

static int fake_stream_open(const struct ntx_nbd_place *place, const char *name, const struct ntx_until *until,
                            struct ntx_stream **stream, struct ntx_error *err)
{
    struct fake_stream *fake = calloc(1, sizeof *fake);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ends[2];

    (void)until;
    strcpy(address.sun_path, place->path);
    fake->server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fake->server, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fake->server);
        free(fake);
        return ntx_error_errno(err, NTX_E_DEVICE, -errno, "%s: the far end does not answer", name);
    }
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    fake->stream = (struct ntx_stream){.ops = &FAKE_STREAM_OPS, .fd = ends[0]};
    fake->far = ends[1];
    fake->held = malloc(FAKE_HELD);
    fake->sends_left = FAKE_SENDS;
    CHECK(pthread_create(&fake->up, NULL, fake_up, fake) == 0);
    CHECK(pthread_create(&fake->down, NULL, fake_down, fake) == 0);
    *stream = &fake->stream;
    return 0;
}

#endif
