/*
 * paths.c: what does each bare way to bring a file's bytes to an NBD server cost, without an engine around it?
 *
 *   send       pread into the request's buffer, zero test, digest, send
 *   mapsend    zero test and digest in a mapping of the file, send from the mapping
 *   scanfile   pread into one small buffer that stays in the cache, zero test, digest, sendfile of the same range
 *   mapfile    zero test and digest in a mapping, sendfile of the same range
 *   vmsplice   pread into the request's buffer, zero test, digest; its pages go to the socket through a pipe
 *   zerocopy   as send, with MSG_ZEROCOPY (TCP only)
 *   sendfile   the data is never looked at: the limit that the others are held against
 *
 *   paths WAY FILE unix:PATH|HOST:PORT [connections [request KiB [in flight [scan KiB [send buffer KiB]]]]]
 *   -> one line of JSON: seconds, CPU seconds of this program, bytes, sum of the digests (the same for all that digest)
 *
 * The default export is overwritten.  A thread per connection takes the next request from a common counter.  The first
 * error ends the program.  bench/README.md says how to build it; `ntx bench` does by itself.
 */
#define _GNU_SOURCE
#include "bytes.h"
#include "nbd_proto.h"
#include "ntx.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define KIB 1024u
#define MAX_CONNECTIONS 64
#define MAX_IN_FLIGHT 64
#define SIMPLE_REPLY_SIZE 16u
#define PIPE_SIZE (1024 * KIB) /* the most that an ordinary user may ask for (fs.pipe-max-size) */
#define HEADER_STRIDE 32u      /* a request header, rounded up: the headers in flight fit in one page */

enum way { SEND, MAPSEND, SCANFILE, MAPFILE, VMSPLICE, ZEROCOPY, SENDFILE, WAYS };
static const char *const NAMES[WAYS] = {"send", "mapsend", "scanfile", "mapfile", "vmsplice", "zerocopy", "sendfile"};

/* What is to be done: filled before the threads start; only the counters change after that. */
struct order {
    enum way way;
    const char *file_name, *place;
    unsigned connections, in_flight;
    size_t request_size, scan_size;
    int send_buffer; /* bytes; 0: as the system has it */
    uint64_t file_size;
    _Atomic uint64_t next_offset, digests;
};

/* One connection and its thread. */
struct sender {
    struct order *order;
    int file, socket, pipe[2];
    uint8_t *buffers, *headers, *map;
    unsigned next_slot;
};

static void die(const char *what)
{
    fprintf(stderr, "paths: %s: %s\n", what, errno ? strerror(errno) : "ended early");
    exit(1);
}

static void recv_all(int fd, void *data, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t n = recv(fd, (char *)data + got, length - got, 0);
        if (n <= 0)
            die("receive");
        got += (size_t)n;
    }
}

static void send_all(int fd, const void *data, size_t length, int flags)
{
    for (size_t put = 0; put < length;) {
        ssize_t n = send(fd, (const char *)data + put, length - put, flags | MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        put += (size_t)n;
    }
}

static void *pages(size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        die("memory");
    return memory;
}

/* ------------------------------------------------------------------------------------------------- connecting */

static int dial_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(path);
    return fd;
}

static int dial_tcp(const char *place)
{
    char host[256];
    struct addrinfo *info, hints = {.ai_socktype = SOCK_STREAM};
    int one = 1;

    snprintf(host, sizeof host, "%s", place);
    char *colon = strrchr(host, ':');
    if (colon == NULL) {
        errno = EINVAL;
        die(place);
    }
    *colon = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &info) != 0)
        die(place);
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, info->ai_addr, info->ai_addrlen) < 0)
        die(place);
    freeaddrinfo(info);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
    return fd;
}

/* Fixed newstyle, EXPORT_NAME of "": the least that a server takes. */
static int open_export(const struct order *order)
{
    uint8_t hello[18], option[4 + NBD_OPTION_HEADER_SIZE] = {0}, answer[NBD_EXPORT_NAME_REPLY_SIZE];
    bool is_unix = strncmp(order->place, "unix:", 5) == 0;
    int fd = is_unix ? dial_unix(order->place + 5) : dial_tcp(order->place);

    if (order->send_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &order->send_buffer, sizeof order->send_buffer);
    recv_all(fd, hello, sizeof hello);
    ntx_put32(option, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    ntx_put64(option + 4, NBD_OPTION_MAGIC);
    ntx_put32(option + 12, NBD_OPT_EXPORT_NAME);
    send_all(fd, option, sizeof option, 0);
    recv_all(fd, answer, sizeof answer);
    return fd;
}

/* ---------------------------------------------------------------------------------------------------- looking */

/* What an engine does with every block: test for zero, and digest what is not. */
static void look(struct order *order, const uint8_t *data, size_t length)
{
    uint8_t digest[NTX_DIGEST_SIZE];
    uint64_t sum = 0;

    for (size_t at = 0; at < length; at += NTX_BLOCK_SIZE) {
        size_t block = ntx_min64(length - at, NTX_BLOCK_SIZE);
        if (ntx_is_zero(data + at, block))
            continue;
        ntx_digest(data + at, block, digest);
        sum += ntx_get64(digest);
    }
    order->digests += sum;
}

/* Read in parts that stay in the cache until they have been looked at; one after the other, or all over the first. */
static void read_and_look(struct sender *s, uint8_t *buffer, uint64_t offset, size_t length, bool keep)
{
    size_t step = s->order->scan_size;

    for (size_t at = 0; at < length; at += step) {
        size_t part = ntx_min64(length - at, step);
        uint8_t *to = keep ? buffer + at : buffer;
        if (pread(s->file, to, part, (off_t)(offset + at)) != (ssize_t)part)
            die("read");
        look(s->order, to, part);
    }
}

/* ---------------------------------------------------------------------------------------------------- sending */

static void send_both(int fd, uint8_t *header, uint8_t *data, size_t length)
{
    struct iovec vectors[2] = {{header, NBD_REQUEST_SIZE}, {data, length}};
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = 2};
    ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);

    if (n < (ssize_t)NBD_REQUEST_SIZE)
        die("send");
    size_t put = (size_t)n - NBD_REQUEST_SIZE;
    send_all(fd, data + put, length - put, 0);
}

static void send_file(struct sender *s, uint64_t offset, size_t length)
{
    off_t at = (off_t)offset;

    while (length > 0) {
        ssize_t n = sendfile(s->socket, s->file, &at, length);
        if (n <= 0)
            die("sendfile");
        length -= (size_t)n;
    }
}

/* Header and payload in one vmsplice; what does not fit the pipe at once follows when that has gone out. */
static void send_pages(struct sender *s, uint8_t *header, uint8_t *data, size_t length)
{
    struct iovec vectors[2] = {{header, NBD_REQUEST_SIZE}, {data, length}};
    struct iovec *first = vectors;
    size_t left = NBD_REQUEST_SIZE + length;

    while (left > 0) {
        ssize_t n = vmsplice(s->pipe[1], first, (size_t)(vectors + 2 - first), 0);
        if (n <= 0)
            die("vmsplice");
        left -= (size_t)n;
        for (ssize_t out = n; out > 0;) {
            unsigned more = left > 0 ? SPLICE_F_MORE : 0;
            ssize_t put = splice(s->pipe[0], NULL, s->socket, NULL, (size_t)out, SPLICE_F_MOVE | more);
            if (put <= 0)
                die("splice");
            out -= put;
        }
        while (first < vectors + 2 && (size_t)n >= first->iov_len)
            n -= (ssize_t)first++->iov_len;
        if (n > 0) {
            first->iov_base = (uint8_t *)first->iov_base + n;
            first->iov_len -= (size_t)n;
        }
    }
}

static void reap_zerocopy(int fd)
{
    char control[128];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};

    while (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
        message.msg_controllen = sizeof control;
}

static void one_request(struct sender *s, uint64_t offset, size_t length)
{
    struct order *order = s->order;
    unsigned slot = s->next_slot++ % order->in_flight;
    uint8_t *header = s->headers + slot * HEADER_STRIDE;
    uint8_t *buffer = s->buffers + slot * order->request_size;

    memset(header, 0, NBD_REQUEST_SIZE);
    ntx_put32(header, NBD_REQUEST_MAGIC);
    ntx_put16(header + 6, NBD_CMD_WRITE);
    ntx_put64(header + 16, offset);
    ntx_put32(header + 24, (uint32_t)length);

    if (order->way == MAPFILE || order->way == MAPSEND)
        look(order, s->map + offset, length);
    else if (order->way != SENDFILE)
        read_and_look(s, buffer, offset, length, order->way != SCANFILE);

    if (order->way == SEND || order->way == MAPSEND) {
        send_both(s->socket, header, order->way == SEND ? buffer : s->map + offset, length);
    } else if (order->way == VMSPLICE) {
        send_pages(s, header, buffer, length);
    } else {
        send_all(s->socket, header, NBD_REQUEST_SIZE, MSG_MORE);
        if (order->way == ZEROCOPY) {
            send_all(s->socket, buffer, length, MSG_ZEROCOPY);
            reap_zerocopy(s->socket);
        } else {
            send_file(s, offset, length);
        }
    }
}

/* Wait for at least one answer and take all that are there.  Return how many. */
static unsigned take_replies(int fd, unsigned outstanding)
{
    uint8_t replies[SIMPLE_REPLY_SIZE * MAX_IN_FLIGHT];
    ssize_t n = recv(fd, replies, SIMPLE_REPLY_SIZE * outstanding, 0);

    if (n <= 0)
        die("receive");
    size_t got = (size_t)n, missing = (SIMPLE_REPLY_SIZE - got % SIMPLE_REPLY_SIZE) % SIMPLE_REPLY_SIZE;
    recv_all(fd, replies + got, missing);
    for (size_t at = 0; at < got + missing; at += SIMPLE_REPLY_SIZE) {
        errno = (int)ntx_get32(replies + at + 4);
        if (ntx_get32(replies + at) != NBD_SIMPLE_REPLY_MAGIC || errno != 0)
            die("the server refused");
    }
    return (unsigned)((got + missing) / SIMPLE_REPLY_SIZE);
}

/* -------------------------------------------------------------------------------------------------------- work */

static void prepare(struct sender *s)
{
    struct order *order = s->order;
    size_t memory = order->in_flight * order->request_size;

    s->socket = open_export(order);
    s->file = open(order->file_name, O_RDONLY | O_CLOEXEC);
    if (s->file < 0 || pipe2(s->pipe, O_CLOEXEC) < 0)
        die(order->file_name);
    fcntl(s->pipe[1], F_SETPIPE_SZ, PIPE_SIZE);
    s->headers = pages((size_t)MAX_IN_FLIGHT * HEADER_STRIDE);
    s->buffers = pages(memory);
    madvise(s->buffers, memory, MADV_HUGEPAGE);
    if (order->way == MAPFILE || order->way == MAPSEND) {
        s->map = mmap(NULL, order->file_size, PROT_READ, MAP_SHARED, s->file, 0);
        if (s->map == MAP_FAILED)
            die(order->file_name);
    }
}

static void *work(void *argument)
{
    struct sender *s = argument;
    struct order *order = s->order;
    unsigned outstanding = 0;
    uint64_t offset;

    prepare(s);
    while ((offset = atomic_fetch_add(&order->next_offset, order->request_size)) < order->file_size) {
        /* Slots are used in turn.  A server takes payloads off the socket in order: an answer to any request says
         * that the oldest one's memory has been read. */
        if (outstanding == order->in_flight)
            outstanding -= take_replies(s->socket, outstanding);
        one_request(s, offset, ntx_min64(order->file_size - offset, order->request_size));
        outstanding++;
    }
    while (outstanding > 0)
        outstanding -= take_replies(s->socket, outstanding);
    close(s->socket);
    return NULL;
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static unsigned number(int argc, char **argv, int at, unsigned otherwise, unsigned most)
{
    if (at >= argc)
        return otherwise;
    char *end;
    unsigned long value = strtoul(argv[at], &end, 10);
    if (*end != '\0' || value == 0 || value > most) {
        fprintf(stderr, "paths: %s: a number from 1 to %u is wanted\n", argv[at], most);
        exit(2);
    }
    return (unsigned)value;
}

static void run(struct order *order)
{
    pthread_t threads[MAX_CONNECTIONS];
    struct sender senders[MAX_CONNECTIONS] = {0};

    for (unsigned i = 0; i < order->connections; i++) {
        senders[i].order = order;
        errno = pthread_create(&threads[i], NULL, work, &senders[i]);
        if (errno != 0)
            die("thread");
    }
    for (unsigned i = 0; i < order->connections; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    struct order order = {.way = SEND};
    struct stat st;

    while (order.way < WAYS && argc > 1 && strcmp(argv[1], NAMES[order.way]) != 0)
        order.way++;
    if (argc < 4 || argc > 9 || order.way == WAYS) {
        fprintf(stderr, "usage: paths WAY FILE unix:PATH|HOST:PORT"
                        " [connections [request KiB [in flight [scan KiB [send buffer KiB]]]]]\n");
        return 2;
    }
    order.file_name = argv[2];
    order.place = argv[3];
    order.connections = number(argc, argv, 4, 2, MAX_CONNECTIONS);
    order.request_size = (size_t)number(argc, argv, 5, 256, 32 * KIB) * KIB;
    order.in_flight = number(argc, argv, 6, 8, MAX_IN_FLIGHT);
    order.scan_size = (size_t)number(argc, argv, 7, 64, 32 * KIB) * KIB;
    order.send_buffer = (int)(number(argc, argv, 8, 0, 32 * KIB) * KIB);
    if (stat(order.file_name, &st) < 0)
        die(order.file_name);
    order.file_size = (uint64_t)st.st_size;

    double cpu = cpu_s(), began = now_s();
    run(&order);
    printf("{\"way\": \"%s\", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"bytes\": %llu, \"digests\": \"%016llx\"}\n",
           NAMES[order.way], now_s() - began, cpu_s() - cpu, (unsigned long long)order.file_size,
           (unsigned long long)order.digests);
    return 0;
}
