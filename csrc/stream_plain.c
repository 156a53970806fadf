/* stream_plain.c: see stream_plain.h. */
#include "stream_plain.h"

#include "stream_pages.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is copied anyhow: a header is, and a page of its own in the socket would cost more. */
#define SMALL_SIZE 64u

#define PROBE_SIZE 4096 /* a page, or part of one */

struct plain {
    struct ntx_stream stream; /* first: the two are cast into each other */
    struct ntx_stream_pages pages;
    bool has_pages;     /* they were asked for: the first payload does, most connections that read have none */
    bool may_hold_more; /* the last receive took all that it had room for */
};

static bool has_payload(const struct iovec *vectors, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (vectors[i].iov_len > SMALL_SIZE)
            return true;
    return false;
}

static bool can_refer(struct plain *plain)
{
    if (!plain->has_pages)
        ntx_stream_pages_init(&plain->pages);
    plain->has_pages = true;
    return ntx_stream_pages_can_send(&plain->pages);
}

/* One call.  Payload goes by reference while that works; afterwards, and everywhere else, by copy. */
static ssize_t send_once(struct plain *plain, struct iovec *vectors, unsigned count, bool may_refer, bool *is_full)
{
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};

    if (may_refer && (plain->pages.held > 0 || has_payload(vectors, count)) && can_refer(plain)) {
        ssize_t sent = ntx_stream_pages_send(&plain->pages, plain->stream.fd, vectors, count);
        *is_full = plain->pages.held > 0; /* else the pipe was too small for all of it */
        if (sent != -EOPNOTSUPP)
            return sent;
    }
    ssize_t sent = sendmsg(plain->stream.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    *is_full = true; /* or all was sent */
    return sent < 0 ? -errno : sent;
}

/* Take sent bytes off the front. */
static void skip(struct iovec **vectors, unsigned *count, size_t sent)
{
    while (*count > 0 && sent >= (*vectors)->iov_len) {
        sent -= (*vectors)->iov_len;
        (*vectors)++;
        (*count)--;
    }
    if (*count > 0) {
        (*vectors)->iov_base = (char *)(*vectors)->iov_base + sent;
        (*vectors)->iov_len -= sent;
    }
}

static ssize_t plain_sendv(struct ntx_stream *stream, struct iovec *vectors, unsigned count, bool may_refer)
{
    struct plain *plain = (struct plain *)stream;
    ssize_t total = 0;
    bool is_full = false;

    while (count > 0 && !is_full) {
        ssize_t sent = send_once(plain, vectors, count, may_refer, &is_full);
        if (sent == -EINTR) {
            is_full = false;
            continue;
        }
        if (sent < 0)
            return total > 0 ? total : sent; /* the next call meets it again */
        total += sent;
        skip(&vectors, &count, (size_t)sent);
    }
    return total;
}

static ssize_t plain_recvv(struct ntx_stream *stream, struct iovec *vectors, unsigned count)
{
    struct plain *plain = (struct plain *)stream;
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
    size_t room = 0;
    ssize_t got;

    for (unsigned i = 0; i < count; i++)
        room += vectors[i].iov_len;
    do {
        got = recvmsg(stream->fd, &message, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    plain->may_hold_more = got > 0 && (size_t)got == room;
    return got < 0 ? -errno : got;
}

static bool plain_pending(const struct ntx_stream *stream)
{
    return ((const struct plain *)stream)->may_hold_more;
}

static short plain_wants(const struct ntx_stream *stream, short events)
{
    (void)stream;
    return events;
}

static const char *plain_reason(const struct ntx_stream *stream)
{
    (void)stream;
    return "";
}

static void plain_close(struct ntx_stream *stream)
{
    struct plain *plain = (struct plain *)stream;

    shutdown(stream->fd, SHUT_RDWR);
    close(stream->fd);
    ntx_stream_pages_close(&plain->pages);
    free(plain);
}

static const struct ntx_stream_ops PLAIN_OPS = {
    .sendv = plain_sendv,
    .recvv = plain_recvv,
    .pending = plain_pending,
    .wants = plain_wants,
    .reason = plain_reason,
    .close = plain_close,
};

struct ntx_stream *ntx_stream_plain_new(int fd)
{
    struct plain *plain = calloc(1, sizeof *plain);

    if (plain == NULL) {
        close(fd);
        return NULL;
    }
    plain->stream.ops = &PLAIN_OPS;
    plain->stream.fd = fd;
    ntx_stream_pages_none(&plain->pages);
    return &plain->stream;
}

/* ------------------------------------------------------------------------------------------------ trying */

/* Send a page to ourselves the way a connection sends its blocks. */
static bool try_reference(int from, int to)
{
    struct ntx_stream_pages pages;
    uint8_t received[PROBE_SIZE];
    void *page = mmap(NULL, PROBE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool works = false;

    if (page == MAP_FAILED)
        return false;
    memset(page, 1, PROBE_SIZE);
    ntx_stream_pages_init(&pages);
    if (ntx_stream_pages_can_send(&pages)) {
        struct iovec vector = {page, PROBE_SIZE};
        ssize_t sent = ntx_stream_pages_send(&pages, from, &vector, 1);
        works = sent > 0 && recv(to, received, sizeof received, MSG_DONTWAIT) == sent &&
                memcmp(received, page, (size_t)sent) == 0;
    }
    ntx_stream_pages_close(&pages);
    munmap(page, PROBE_SIZE);
    return works;
}

bool ntx_stream_plain_sends_by_reference(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return false;
    bool works = try_reference(ends[0], ends[1]);
    close(ends[0]);
    close(ends[1]);
    return works;
}
