/*
 * test_nbd_stream.c: a connection relies on nothing but its stream.  Through one that holds bytes that the socket no
 * longer has, and that has to read in order to write, it copies the same bytes and does not hang.
 */
#include "nbd_peer.h"

#include "fake_device.h"
#include "fake_stream.h"

#define REQUEST (256u * NTX_KIB)

struct server {
    int fd;
    uint8_t *bytes;
    pthread_t thread;
};

static void *serve(void *argument)
{
    struct server *server = argument;

    for (;;) {
        struct script reply = {0};
        struct pollfd next = {.fd = server->fd, .events = POLLIN};
        char byte;
        CHECK(poll(&next, 1, -1) == 1);
        if (recv(server->fd, &byte, 1, MSG_PEEK) <= 0) /* a goodbye may not wait for the answer to a question */
            return NULL;
        struct request request = peer_read_request(server->fd);
        if (request.command == NBD_CMD_DISC)
            return NULL;
        if (request.command == NBD_CMD_WRITE)
            CHECK(peer_receive(server->fd, server->bytes + request.offset, request.length));
        if (request.command == NBD_CMD_WRITE_ZEROES)
            memset(server->bytes + request.offset, 0, request.length);
        if (request.command == NBD_CMD_READ)
            put_data(&reply, NBD_REPLY_FLAG_DONE, request.cookie, request.offset, server->bytes + request.offset,
                     request.length);
        else
            put_none(&reply, request.cookie);
        peer_send(server->fd, reply.data, reply.length);
        free_script(&reply);
    }
}

/* Open through the fake stream, and serve from then on. */
static struct ntx_device *open_through_fake(struct peer *peer, struct server *server)
{
    struct script script = {0};
    struct ntx_device *device;
    struct ntx_error err;

    put_handshake(&script, true, false, 1);
    peer_listen(peer, &script);
    peer_start(peer);
    struct ntx_nbd_place place = {.path = peer->path};
    int rc =
        ntx_nbd_open_through(fake_stream_open, &place, 1, "disk", NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, -1, &device, &err);
    CHECK_OK(rc, err);
    CHECK(pthread_join(peer->thread, NULL) == 0);
    free_script(&script);
    *server = (struct server){.fd = peer->fd, .bytes = calloc(1, PEER_SIZE)};
    CHECK(pthread_create(&server->thread, NULL, serve, server) == 0);
    fake_seen.questions = fake_seen.held_back = 0;
    return device;
}

static void close_all(struct peer *peer, struct server *server, struct ntx_device *device)
{
    ntx_close(device);
    CHECK(pthread_join(server->thread, NULL) == 0);
    free(server->bytes);
    peer_stop(peer);
}

static void check_job(struct ntx_device *from, struct ntx_device *to)
{
    struct ntx_error err;
    struct ntx_job *job;
    size_t taken;
    struct ntx_job_options options = {
        .limits = {.connections = 1,
                   .in_flight = 8,
                   .request_size = REQUEST,
                   .max_buffer_bytes = 8 * REQUEST,
                   .timeout_ms = CHECK_TIMEOUT_MS},
        .digest_fd = -1,
        .reference_fd = -1,
    };

    CHECK_OK(ntx_job_new(from, to, &options, &job, &err), err);
    CHECK_OK(ntx_job_start(job, &err), err);
    CHECK_OK(ntx_job_feed(job, &(struct ntx_extent){0, PEER_SIZE, 0}, 1, &taken, &err), err);
    ntx_job_feed_end(job);
    CHECK_OK(ntx_job_join(job, &err), err);
    ntx_job_free(job);
}

static void fill_sample(uint8_t *bytes)
{
    for (uint64_t i = 0; i < PEER_SIZE; i++)
        bytes[i] = (uint8_t)(1 + (i / REQUEST + i) % 251);
}

static void test_a_job_writes_through_a_stream_that_reads_in_order_to_write(void)
{
    struct fake_disk source;
    struct server server;
    struct peer peer;
    struct ntx_device *to = open_through_fake(&peer, &server);
    fake_init(&source, PEER_SIZE, 0);
    fill_sample(source.bytes);
    struct ntx_device *from = fake_open(&source);

    check_job(from, to);

    CHECK(memcmp(server.bytes, source.bytes, PEER_SIZE) == 0);
    CHECK(fake_seen.questions > 100);
    ntx_close(from);
    close_all(&peer, &server, to);
    fake_destroy(&source);
}

static void test_a_job_reads_through_a_stream_that_holds_bytes_back(void)
{
    struct fake_disk target;
    struct server server;
    struct peer peer;
    struct ntx_device *from = open_through_fake(&peer, &server);
    fake_init(&target, PEER_SIZE, 0);
    fill_sample(server.bytes);
    struct ntx_device *to = fake_open(&target);

    check_job(from, to);

    CHECK(memcmp(server.bytes, target.bytes, PEER_SIZE) == 0);
    CHECK(fake_seen.held_back > 1000);
    ntx_close(to);
    close_all(&peer, &server, from);
    fake_destroy(&target);
}

/* All of it is there, and more than is taken in one go: whoever waits must be told that poll() knows of no rest. */
static void test_the_rest_of_an_answer_is_not_waited_for(void)
{
    enum { LENGTH = 64 * NTX_KIB };
    struct server server;
    struct peer peer;
    struct ntx_error err;
    struct ntx_device *device = open_through_fake(&peer, &server);
    uint8_t *got = malloc(LENGTH);
    struct ntx_io io = {.op = NTX_OP_READ, .length = LENGTH, .data = got};
    fill_sample(server.bytes);
    size_t before = fake_seen.brought;
    submit_io(device, &io);
    while (fake_seen.brought == before) {
        push_requests(device);
        poll(NULL, 0, 1);
    }
    while (fake_seen.brought < before + LENGTH)
        poll(NULL, 0, 1);

    unsigned rests = 0;
    while (ntx_device_reap(device) == NULL) {
        struct pollfd ready = {.fd = device->fd, .events = device->events};
        rests += device->is_ready && poll(&ready, 1, 0) == 0;
        CHECK(device->is_ready || poll(&ready, 1, CHECK_TIMEOUT_MS) == 1);
        CHECK_OK(device->ops->advance(device, &err), err);
    }

    CHECK(memcmp(got, server.bytes, LENGTH) == 0);
    CHECK(rests > 0);
    free(got);
    close_all(&peer, &server, device);
}

static void test_what_to_poll_for_is_what_the_stream_says(void)
{
    struct server server;
    struct peer peer;
    struct ntx_error err;
    struct ntx_device *device = open_through_fake(&peer, &server);
    struct ntx_io io = {.op = NTX_OP_WRITE, .length = 8 * NTX_MIB, .data = server.bytes + 8 * NTX_MIB};
    submit_io(device, &io);
    CHECK_EQ_INT(device->events, POLLIN | POLLOUT);

    unsigned reads_first = 0;
    while (ntx_device_reap(device) == NULL) {
        struct pollfd ready = {.fd = device->fd, .events = device->events};
        reads_first += device->events == POLLIN && fake_seen.questions > 0;
        CHECK(device->is_ready || poll(&ready, 1, CHECK_TIMEOUT_MS) == 1);
        CHECK_OK(device->ops->advance(device, &err), err);
    }

    CHECK(reads_first > 0);
    close_all(&peer, &server, device);
}

/* A stream may say that there is more and be wrong: only asking it can tell, once. */
static void test_what_may_be_there_and_is_not_is_waited_for(void)
{
    struct server server;
    struct peer peer;
    struct ntx_error err;
    struct ntx_device *device = open_through_fake(&peer, &server);
    fake_seen.exaggerates = true;
    fake_seen.in_vain = 0;

    CHECK_OK(device->ops->advance(device, &err), err);

    CHECK(!device->is_ready);
    CHECK_EQ_U64(fake_seen.in_vain, 1);
    fake_seen.exaggerates = false;
    close_all(&peer, &server, device);
}

int main(void)
{
    unsigned before = open_descriptors();

    RUN(test_a_job_writes_through_a_stream_that_reads_in_order_to_write);
    RUN(test_a_job_reads_through_a_stream_that_holds_bytes_back);
    RUN(test_the_rest_of_an_answer_is_not_waited_for);
    RUN(test_what_may_be_there_and_is_not_is_waited_for);
    RUN(test_what_to_poll_for_is_what_the_stream_says);
    CHECK_EQ_U64(open_descriptors(), before);
    return 0;
}
