/* sock.c: see sock.h. */
#include "sock.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Unix sockets: room for some requests, so that neither end waits for the other at every one of them. */
#define UNIX_BUFFER_SIZE ((int)(2 * NTX_MIB))

/* How long to wait before asking again a unix listener whose queue is full; there is nothing to poll. */
#define FULL_QUEUE_WAIT_MS 5

static int64_t now_ms(void)
{
    return (int64_t)(ntx_now_ns() / NTX_NS_PER_MS);
}

int64_t ntx_sock_deadline_ms(unsigned timeout_ms)
{
    return now_ms() + timeout_ms;
}

/* 0 when ready, or -ETIMEDOUT, -errno. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
    struct pollfd ready = {.fd = fd, .events = events};

    for (;;) {
        int64_t left_ms = deadline_ms - now_ms();
        if (left_ms <= 0)
            return -ETIMEDOUT;
        int count = poll(&ready, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
        if (count > 0)
            return 0;
        if (count < 0 && errno != EINTR)
            return -errno;
    }
}

static int open_socket(int family, const char *name, int *fd, struct ntx_error *err)
{
    *fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return ntx_error_errno(err, NTX_E_SYSTEM, -errno, "%s: socket failed", name);
    return 0;
}

/* Start to connect and wait for the outcome.  0, or -errno. */
static int connect_within(int fd, const struct sockaddr *address, socklen_t size, int64_t deadline_ms)
{
    while (connect(fd, address, size) != 0) {
        if (errno == EISCONN)
            return 0;
        if (errno == EAGAIN) { /* unix(7): the listener's queue is full */
            if (now_ms() >= deadline_ms)
                return -ETIMEDOUT;
            poll(NULL, 0, FULL_QUEUE_WAIT_MS);
            continue;
        }
        if (errno != EINPROGRESS && errno != EINTR && errno != EALREADY)
            return -errno;

        int result = wait_for(fd, POLLOUT, deadline_ms);
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

    return ntx_error_errno(err, class, code, "%s: connect failed", name);
}

int ntx_sock_connect_unix(const char *path, const char *name, int64_t deadline_ms, int *fd, struct ntx_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int size = UNIX_BUFFER_SIZE;

    if (length == 0 || length >= sizeof address.sun_path)
        return ntx_error_set(err, NTX_E_OPTIONS, length == 0 ? -EINVAL : -ENAMETOOLONG,
                             "%s: connect failed: a socket path has 1 to %zu bytes, this one %zu", name,
                             sizeof address.sun_path - 1, length);
    memcpy(address.sun_path, path, length + 1);

    int result = open_socket(AF_UNIX, name, fd, err);
    if (result != 0)
        return result;
    /* The sender's buffer is the only one that counts on a unix socket.  Past the system's limit where we may, up to
     * it otherwise; less only costs speed, so the result does not matter. */
    if (setsockopt(*fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(*fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    result = connect_within(*fd, (const struct sockaddr *)&address, sizeof address, deadline_ms);
    if (result != 0) {
        ntx_sock_close(*fd);
        *fd = -1;
        return connect_failed(err, result, name);
    }
    return 0;
}

static int connect_address(const struct addrinfo *address, const char *name, int64_t deadline_ms, int *fd,
                           struct ntx_error *err)
{
    int on = 1;
    int result = open_socket(address->ai_family, name, fd, err);

    if (result != 0)
        return result;
    /* No SO_SNDBUF and SO_RCVBUF: setting them ends the kernel's own sizing, which goes far beyond the limit for
     * what a program may ask for (tcp_wmem against wmem_max), and that is the window on a link with latency. */
    (void)setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    result = connect_within(*fd, address->ai_addr, address->ai_addrlen, deadline_ms);
    if (result != 0) {
        ntx_sock_close(*fd);
        *fd = -1;
        return connect_failed(err, result, name);
    }
    return 0;
}

/* LIMIT: looking up a host name has the system resolver's time limit, not ours; numeric addresses need none. */
static int resolve(const char *host, const char *port, const char *name, struct addrinfo **list, struct ntx_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int failure = getaddrinfo(host, port, &hints, list);

    if (failure == EAI_SYSTEM)
        return ntx_error_errno(err, NTX_E_DEVICE, -errno, "%s: looking up the host failed", name);
    if (failure == EAI_MEMORY)
        return ntx_error_errno(err, NTX_E_SYSTEM, -ENOMEM, "%s: looking up the host failed", name);
    if (failure != 0)
        return ntx_error_set(err, NTX_E_DEVICE, -EHOSTUNREACH, "%s: looking up the host failed: %s", name,
                             gai_strerror(failure));
    return 0;
}

int ntx_sock_connect_tcp(const char *host, const char *port, const char *name, int64_t deadline_ms, int *fd,
                         struct ntx_error *err)
{
    struct addrinfo *list;
    int left = 0;
    int result = resolve(host, port, name, &list, err);

    if (result != 0)
        return result;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        /* An equal share of the time left, so that one address that swallows packets does not use up all of it. */
        int64_t now = now_ms();
        result = connect_address(a, name, now + (deadline_ms - now) / left--, fd, err);
        if (result == 0)
            break;
    }
    freeaddrinfo(list);
    return result;
}

int ntx_sock_send_all(int fd, const void *data, size_t length, int64_t deadline_ms)
{
    const char *at = data;

    while (length > 0) {
        ssize_t sent = send(fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            at += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN) {
            int result = wait_for(fd, POLLOUT, deadline_ms);
            if (result != 0)
                return result;
        } else if (errno != EINTR) {
            return errno == EPIPE ? -ECONNRESET : -errno;
        }
    }
    return 0;
}

int ntx_sock_recv_all(int fd, void *data, size_t length, int64_t deadline_ms, size_t *received)
{
    size_t count = 0, unused;

    if (received == NULL)
        received = &unused;
    *received = 0;
    while (count < length) {
        ssize_t got = recv(fd, (char *)data + count, length - count, MSG_DONTWAIT);
        if (got == 0)
            return -ECONNRESET;
        if (got > 0) {
            count += (size_t)got;
            *received = count;
        } else if (errno == EAGAIN) {
            int result = wait_for(fd, POLLIN, deadline_ms);
            if (result != 0)
                return result;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

void ntx_sock_send_hint(int fd, const void *data, size_t length)
{
    ssize_t ignored = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

    (void)ignored;
}

void ntx_sock_close(int fd)
{
    if (fd < 0)
        return;
    shutdown(fd, SHUT_RDWR);
    close(fd);
}
