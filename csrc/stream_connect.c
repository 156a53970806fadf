/* stream_connect.c: see stream_connect.h. */
#include "stream_connect.h"

#include "clock.h"
#include "error.h"
#include "stream_plain.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Unix sockets: room for some requests, so that neither end waits for the other at every one of them. */
#define UNIX_BUFFER_SIZE ((int)(2 * NTX_MIB))

/* How long to wait before asking again a unix listener whose queue is full; there is nothing to poll. */
#define FULL_QUEUE_WAIT_MS 5

/* Errors: SYSTEM; DEVICE (-EAFNOSUPPORT) where there is no such family, so that of a name's addresses another does. */
static int open_socket(int family, const char *name, int *fd, struct ntx_error *err)
{
    *fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return ntx_error_errno(err, errno == EAFNOSUPPORT ? NTX_E_DEVICE : NTX_E_SYSTEM, -errno, "%s: socket failed",
                               name);
    return 0;
}

/* 0 when it is time to ask again, or why not to. */
static int wait_for_queue(const struct ntx_until *until)
{
    uint64_t now_ns = ntx_now_ns(), again_ns = now_ns + FULL_QUEUE_WAIT_MS * NTX_NS_PER_MS;

    if (now_ns >= until->deadline_ns)
        return -ETIMEDOUT;
    int result = ntx_until_ready(&(struct ntx_until){again_ns, until->stop_fd}, -1, 0);
    return result == -ETIMEDOUT ? 0 : result;
}

/* Start to connect and wait for the outcome.  0, or -errno. */
static int connect_within(int fd, const struct sockaddr *address, socklen_t size, const struct ntx_until *until)
{
    while (connect(fd, address, size) != 0) {
        if (errno == EISCONN)
            return 0;
        if (errno == EAGAIN) { /* unix(7): the listener's queue is full */
            int result = wait_for_queue(until);
            if (result != 0)
                return result;
            continue;
        }
        if (errno != EINPROGRESS && errno != EINTR && errno != EALREADY)
            return -errno;

        int result = ntx_until_ready(until, fd, POLLOUT);
        int error = 0;
        socklen_t error_size = sizeof error;
        if (result != 0)
            return result;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0)
            return -errno;
        return -error;
    }
    return 0;
}

static int connect_failed(struct ntx_error *err, int code, const char *name)
{
    enum ntx_error_class class = code == -ETIMEDOUT ? NTX_E_TIMEOUT : NTX_E_DEVICE;

    if (code == -ECANCELED)
        return ntx_error_set(err, NTX_E_CANCELLED, code, "%s: connecting was stopped", name);
    return ntx_error_errno(err, class, code, "%s: connect failed", name);
}

/* Connect fd, which is closed after a failure, and make a stream of it. */
static int finish(int fd, const struct sockaddr *address, socklen_t size, const char *name,
                  const struct ntx_until *until, struct ntx_stream **stream, struct ntx_error *err)
{
    int result = connect_within(fd, address, size, until);

    if (result != 0) {
        close(fd);
        return connect_failed(err, result, name);
    }
    *stream = ntx_stream_plain_new(fd);
    if (*stream == NULL)
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory for a connection", name);
    return 0;
}

static int connect_unix(const char *path, const char *name, const struct ntx_until *until, struct ntx_stream **stream,
                        struct ntx_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int size = UNIX_BUFFER_SIZE, fd;

    if (length == 0 || length >= sizeof address.sun_path)
        return ntx_error_set(err, NTX_E_OPTIONS, length == 0 ? -EINVAL : -ENAMETOOLONG,
                             "%s: connect failed: a socket path has 1 to %zu bytes, this one %zu", name,
                             sizeof address.sun_path - 1, length);
    memcpy(address.sun_path, path, length + 1);

    int result = open_socket(AF_UNIX, name, &fd, err);
    if (result != 0)
        return result;
    /* The sender's buffer is the only one that counts on a unix socket.  Past the system's limit where we may, up to
     * it otherwise; less only costs speed, so the result does not matter. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return finish(fd, (const struct sockaddr *)&address, sizeof address, name, until, stream, err);
}

/* Numeric only, so that nothing is looked up and nothing waits. */
static int parse_address(const struct ntx_nbd_place *place, const char *name, struct addrinfo **list,
                         struct ntx_error *err)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    char port[8];

    snprintf(port, sizeof port, "%u", place->port);
    int failure = getaddrinfo(place->address, port, &hints, list);
    if (failure == EAI_MEMORY)
        return ntx_error_errno(err, NTX_E_SYSTEM, -ENOMEM, "%s: connect failed", name);
    if (failure != 0)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: connect failed: %s is no address", name, place->address);
    return 0;
}

static int connect_tcp(const struct ntx_nbd_place *place, const char *name, const struct ntx_until *until,
                       struct ntx_stream **stream, struct ntx_error *err)
{
    struct addrinfo *address;
    int on = 1, fd;
    int result = parse_address(place, name, &address, err);

    if (result != 0)
        return result;
    result = open_socket(address->ai_family, name, &fd, err);
    if (result == 0) {
        /* No SO_SNDBUF and SO_RCVBUF: setting them ends the kernel's own sizing, which goes far beyond the limit for
         * what a program may ask for (tcp_wmem against wmem_max), and that is the window on a link with latency. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        result = finish(fd, address->ai_addr, address->ai_addrlen, name, until, stream, err);
    }
    freeaddrinfo(address);
    return result;
}

int ntx_stream_connect(const struct ntx_nbd_place *place, const char *name, const struct ntx_until *until,
                       struct ntx_stream **stream, struct ntx_error *err)
{
    if (place->path != NULL)
        return connect_unix(place->path, name, until, stream, err);
    return connect_tcp(place, name, until, stream, err);
}
