/*
 * test_nbd_early.c: a server that answers a WRITE before it has read the payload.  What it reads afterwards is what was
 * written all the same, though the job goes on meanwhile: the payload was sent by reference.
 *
 *   job     source in memory --> slot --> socket           one connection
 *   server  header, answer at once, wait until the job has sent the next requests, only then the payload
 */
#include "nbd_peer.h"

#include "fake_device.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#define REQUEST NTX_BLOCK_SIZE
#define REQUESTS 24u
#define DISK (REQUESTS * REQUEST)

/* A listener on a free port of this machine instead of the unix socket. */
static int listen_tcp(struct peer *peer, const struct script *script)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int room = 4 * NTX_MIB;

    *peer = (struct peer){.fd = -1, .script = script, .send_length = script->length};
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(peer->listener >= 0);
    (void)setsockopt(peer->listener, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    CHECK(bind(peer->listener, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(peer->listener, 4) == 0);
    CHECK(getsockname(peer->listener, (struct sockaddr *)&address, &size) == 0);
    return ntohs(address.sin_port);
}

static struct ntx_device *open_early(struct peer *peer, bool is_tcp)
{
    struct script script = {0};
    struct ntx_device *device;
    struct ntx_error err;
    int port = 0;

    put_haggling(&script, true, false);
    put_export_info(&script, DISK, PEER_FLAGS);
    put_go_ack(&script);
    if (is_tcp)
        port = listen_tcp(peer, &script);
    else
        peer_listen(peer, &script);
    peer_start(peer);
    int rc = is_tcp ? open_tcp("127.0.0.1", port, "disk", NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, &device, &err)
                    : open_unix(peer->path, "disk", NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, &device, &err);
    CHECK_OK(rc, err);
    CHECK(pthread_join(peer->thread, NULL) == 0);
    free_script(&script);
    return device;
}

/* Wait until that much has come and not been read. */
static void await_bytes(int fd, size_t bytes)
{
    for (unsigned ms = 0;; ms++) {
        int count = 0;
        CHECK(ioctl(fd, FIONREAD, &count) == 0);
        if ((size_t)count >= bytes)
            return;
        CHECK(ms < 30000);
        poll(NULL, 0, 1);
    }
}

static void answer(int fd, uint64_t cookie)
{
    struct script reply = {0};

    put_none(&reply, cookie);
    peer_send(fd, reply.data, reply.length);
    free_script(&reply);
}

/* Store everything that is written, late.  in_flight: as many requests as the job sends without an answer. */
static void serve(int fd, uint8_t *stored, unsigned in_flight)
{
    for (unsigned written = 0; written < REQUESTS; written++) {
        struct request request = peer_read_request(fd);
        CHECK_EQ_INT(request.command, NBD_CMD_WRITE);
        CHECK_EQ_U64(request.length, REQUEST);
        await_bytes(fd, REQUEST); /* before that no answer is allowed: it would be to what was not sent */
        answer(fd, request.cookie);

        /* The payload, and all that the job may send after the answer: it has used every slot again. */
        unsigned behind = written + in_flight < REQUESTS ? in_flight : REQUESTS - 1 - written;
        await_bytes(fd, REQUEST + behind * (NBD_REQUEST_SIZE + REQUEST));
        CHECK(peer_receive(fd, stored + request.offset, REQUEST));
    }
    struct request flush = peer_read_request(fd);
    CHECK_EQ_INT(flush.command, NBD_CMD_FLUSH);
    answer(fd, flush.cookie);
}

static void check_early(bool is_tcp, unsigned in_flight)
{
    struct fake_disk source;
    struct ntx_error err;
    struct ntx_job *job;
    struct peer peer;
    size_t taken;
    uint8_t *stored = calloc(1, DISK);
    struct ntx_job_options options = {
        .limits = {.connections = 1,
                   .in_flight = in_flight,
                   .request_size = REQUEST,
                   .max_buffer_bytes = in_flight * REQUEST,
                   .timeout_ms = CHECK_TIMEOUT_MS},
        .digest_fd = -1,
        .reference_fd = -1,
    };
    fake_init(&source, DISK, 0);
    for (uint64_t i = 0; i < DISK; i++)
        source.bytes[i] = (uint8_t)(1 + (i / REQUEST + i) % 251);
    struct ntx_device *from = fake_open(&source), *to = open_early(&peer, is_tcp);

    CHECK_OK(ntx_job_new(from, to, &options, &job, &err), err);
    CHECK_OK(ntx_job_start(job, &err), err);
    CHECK_OK(ntx_job_feed(job, &(struct ntx_extent){0, DISK, 0}, 1, &taken, &err), err);
    ntx_job_feed_end(job);
    serve(peer.fd, stored, in_flight);

    CHECK_OK(ntx_job_join(job, &err), err);
    for (unsigned i = 0; i < REQUESTS; i++)
        CHECK(memcmp(stored + i * REQUEST, source.bytes + i * REQUEST, REQUEST) == 0);
    ntx_job_free(job);
    ntx_close(from);
    ntx_close(to);
    peer_stop(&peer);
    fake_destroy(&source);
    free(stored);
}

static void test_early_answers_over_a_unix_socket_change_no_payload(void)
{
    check_early(false, 1);
    check_early(false, 2);
    check_early(false, 8);
}

static void test_early_answers_over_tcp_change_no_payload(void)
{
    check_early(true, 1);
    check_early(true, 2);
    check_early(true, 8);
}

/* What may be unread is the payload answered last of those sent, until a later request has been answered. */
static void test_the_answer_to_a_later_request_shows_what_was_read(void)
{
    static uint8_t data[3][512];
    struct ntx_io io[4];
    struct request requests[4];
    struct ntx_error err;
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, false, 512);
    for (unsigned i = 0; i < 3; i++)
        io[i] = (struct ntx_io){.op = NTX_OP_WRITE, .offset = i * 512, .length = 512, .data = data[i]};
    io[3] = (struct ntx_io){.op = NTX_OP_ZERO, .offset = 4096, .length = 512};
    for (unsigned i = 0; i < 4; i++)
        submit_io(device, &io[i]);
    push_requests(device);
    for (unsigned i = 0; i < 4; i++) {
        requests[i] = peer_read_request(peer.fd);
        if (requests[i].command == NBD_CMD_WRITE)
            CHECK(peer_receive(peer.fd, data[i], 512));
    }

    static const unsigned order[] = {1, 0, 2, 3};
    const void *unread[] = {data[1], data[1], data[2], NULL};
    CHECK(device->unread == NULL);
    for (unsigned i = 0; i < 4; i++) {
        answer(peer.fd, requests[order[i]].cookie);
        while (device->done_first == NULL)
            CHECK_OK(device->ops->advance(device, &err), err);
        CHECK(ntx_device_reap(device) == &io[order[i]]);
        CHECK(device->unread == unread[i]);
    }
    ntx_close(device);
    peer_stop(&peer);
}

int main(void)
{
    RUN(test_early_answers_over_a_unix_socket_change_no_payload);
    RUN(test_early_answers_over_tcp_change_no_payload);
    RUN(test_the_answer_to_a_later_request_shows_what_was_read);
    return 0;
}
