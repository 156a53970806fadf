/*
 * test_nbd_request.c: requests on the wire, whole at any split, in few system calls, and never waiting for a server
 * that itself waits.  sendmsg(), splice() and recvmsg() are replaced: they count calls, and sending can be cut short.
 * pipe2() is replaced too: without it, requests are sent by copy.
 */
#define _GNU_SOURCE
#include "nbd_peer.h"

#include <fcntl.h>
#include <sys/syscall.h>

#define BLOCK 4096u

static size_t send_limit = SIZE_MAX; /* bytes per call; 0: the socket is full */
static unsigned sends, splices, receives;
static bool has_pipes;
static int splice_error; /* 0: it works */

int pipe2(int ends[2], int flags)
{
    if (has_pipes)
        return (int)syscall(SYS_pipe2, ends, flags);
    errno = EMFILE;
    return -1;
}

ssize_t splice(int from, off_t *from_offset, int to, off_t *to_offset, size_t length, unsigned flags)
{
    splices++;
    if (splice_error != 0 || send_limit == 0) {
        errno = splice_error != 0 ? splice_error : EAGAIN;
        return -1;
    }
    return syscall(SYS_splice, from, from_offset, to, to_offset, ntx_min64(length, send_limit), flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    size_t left = send_limit, total = 0;

    sends++;
    if (left == 0) {
        errno = EAGAIN;
        return -1;
    }
    for (size_t i = 0; i < message->msg_iovlen && left > 0; i++) {
        size_t wanted = ntx_min64(message->msg_iov[i].iov_len, left);
        ssize_t sent = send(fd, message->msg_iov[i].iov_base, wanted, flags);
        if (sent < 0)
            return total > 0 ? (ssize_t)total : -1;
        total += (size_t)sent;
        left -= (size_t)sent;
        if ((size_t)sent < wanted)
            break;
    }
    return (ssize_t)total;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t total = 0;

    (void)flags;
    receives++;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        ssize_t got = recv(fd, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len, MSG_DONTWAIT);
        if (got < 0)
            return total > 0 ? total : -1;
        total += got;
        if ((size_t)got < message->msg_iov[i].iov_len)
            break;
    }
    return total;
}

static void check_request(const struct request *request, uint16_t command, uint64_t offset, uint32_t length)
{
    CHECK_EQ_U64(request->command, command);
    CHECK_EQ_U64(request->flags, 0);
    CHECK_EQ_U64(request->offset, offset);
    CHECK_EQ_U64(request->length, length);
}

/* -------------------------------------------------------------------------------------------------- wire */

/* A write between two others, sent with limit bytes per call. */
static void check_split(struct ntx_device *device, struct peer *peer, uint8_t *data, uint32_t length, size_t limit)
{
    struct ntx_io ios[3] = {{.op = NTX_OP_READ, .offset = BLOCK, .length = BLOCK, .data = data},
                            {.op = NTX_OP_WRITE, .offset = 7 * BLOCK, .length = length, .data = data},
                            {.op = NTX_OP_FLUSH}};
    struct request requests[3];
    uint8_t got[256];
    struct script s = {0};
    struct ntx_error err;
    for (unsigned i = 0; i < 3; i++)
        submit_io(device, &ios[i]);

    send_limit = limit;
    while ((device->events & POLLOUT) != 0)
        push_requests(device);
    send_limit = SIZE_MAX;

    requests[0] = peer_read_request(peer->fd);
    requests[1] = peer_read_request(peer->fd);
    CHECK(peer_receive(peer->fd, got, length));
    requests[2] = peer_read_request(peer->fd);
    check_request(&requests[0], NBD_CMD_READ, BLOCK, BLOCK);
    check_request(&requests[1], NBD_CMD_WRITE, 7 * BLOCK, length);
    check_request(&requests[2], NBD_CMD_FLUSH, 0, 0);
    CHECK_EQ_MEM(got, data, length);
    put_hole(&s, NBD_REPLY_FLAG_DONE, requests[0].cookie, BLOCK, BLOCK);
    put_simple(&s, 0, requests[1].cookie);
    put_simple(&s, 0, requests[2].cookie);
    peer_send(peer->fd, s.data, s.length);
    CHECK_OK(device->ops->advance(device, &err), err);
    for (unsigned i = 0; i < 3; i++)
        CHECK(ntx_device_reap(device) == &ios[i]);
    free_script(&s);
}

static void test_requests_cut_at_any_byte_arrive_whole(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(BLOCK);

    for (size_t limit = 1; limit <= 3 * NBD_REQUEST_SIZE + 100 + 1; limit++) {
        memcpy(data, "not zero: a hole that is read back clears it", 44);
        check_split(device, &peer, data, 100, limit);
    }

    ntx_close(device);
    peer_stop(&peer);
    free(data);
}

static void test_cookies_differ_between_requests_and_their_successors(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io io = {.op = NTX_OP_FLUSH};
    uint64_t previous = 0;

    for (unsigned i = 0; i < 100; i++) {
        struct script s = {0};
        submit_io(device, &io);
        push_requests(device);
        struct request request = peer_read_request(peer.fd);
        CHECK(request.cookie != previous);
        CHECK(request.cookie != 0);
        previous = request.cookie;
        put_simple(&s, 0, request.cookie);
        peer_send(peer.fd, s.data, s.length);
        push_requests(device);
        CHECK(ntx_device_reap(device) == &io);
        free_script(&s);
    }
    ntx_close(device);
    peer_stop(&peer);
}

static void test_goodbye_is_not_said_in_the_middle_of_a_request(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(BLOCK), got[NBD_REQUEST_SIZE + 10 + 1];
    struct ntx_io write = {.op = NTX_OP_WRITE, .length = BLOCK, .data = data};
    submit_io(device, &write);
    send_limit = NBD_REQUEST_SIZE + 10;
    push_requests(device);
    send_limit = SIZE_MAX;

    ntx_close(device);

    CHECK(peer_receive(peer.fd, got, sizeof got - 1));
    CHECK_EQ_INT(recv(peer.fd, got, sizeof got, 0), 0);
    peer_stop(&peer);
    free(data);
}

/* A system that does not send by reference: a sandbox, or memory that is short. */
static void check_fall_back(int error)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(BLOCK), got[BLOCK];
    struct ntx_io ios[2] = {{.op = NTX_OP_WRITE, .offset = BLOCK, .length = BLOCK, .data = data},
                            {.op = NTX_OP_WRITE, .offset = 0, .length = BLOCK, .data = data}};
    submit_io(device, &ios[0]);
    submit_io(device, &ios[1]);
    splice_error = error;
    push_requests(device);
    splice_error = 0;
    splices = 0;
    push_requests(device);

    CHECK_EQ_U64(splices, 0);
    for (unsigned i = 0; i < 2; i++) {
        struct request request = peer_read_request(peer.fd);
        check_request(&request, NBD_CMD_WRITE, ios[i].offset, BLOCK);
        CHECK(peer_receive(peer.fd, got, BLOCK));
        CHECK_EQ_MEM(got, data, BLOCK);
    }
    ntx_close(device);
    peer_stop(&peer);
    free(data);
}

static void test_where_sending_by_reference_is_refused_the_rest_is_copied(void)
{
    check_fall_back(EINVAL);
    check_fall_back(ENOSYS);
    check_fall_back(EPERM);
}

static void test_memory_is_not_copied_where_a_reference_will_do(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(BLOCK), got[BLOCK];
    struct ntx_io write = {.op = NTX_OP_WRITE, .length = BLOCK, .data = data};
    submit_io(device, &write);

    sends = splices = 0;
    push_requests(device);

    CHECK_EQ_U64(sends, 0);
    CHECK_EQ_U64(splices, 1);
    peer_read_request(peer.fd);
    CHECK(peer_receive(peer.fd, got, BLOCK));
    CHECK_EQ_MEM(got, data, BLOCK);
    ntx_close(device);
    peer_stop(&peer);
    free(data);
}

static void test_what_the_socket_holds_outlives_the_connection(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(BLOCK), got[BLOCK];
    struct ntx_io write = {.op = NTX_OP_WRITE, .offset = 3 * BLOCK, .length = BLOCK, .data = data};
    struct ntx_io flush = {.op = NTX_OP_FLUSH};
    submit_io(device, &write);
    submit_io(device, &flush);
    push_requests(device);

    ntx_close(device);
    for (unsigned i = 0; i < 64; i++) { /* whatever takes the memory of the connection */
        void *other = malloc(8192 << (i % 4));
        memset(other, 0xAA, 8192 << (i % 4));
        free(other);
    }

    struct request request = peer_read_request(peer.fd);
    check_request(&request, NBD_CMD_WRITE, 3 * BLOCK, BLOCK);
    CHECK(peer_receive(peer.fd, got, BLOCK));
    CHECK_EQ_MEM(got, data, BLOCK);
    request = peer_read_request(peer.fd);
    check_request(&request, NBD_CMD_FLUSH, 0, 0);
    peer_stop(&peer);
    free(data);
}

/* ------------------------------------------------------------------------------------------ system calls */

static void test_a_full_queue_leaves_in_one_call_and_its_replies_come_in_one(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io ios[NTX_MAX_IN_FLIGHT];
    uint8_t *data = new_sample(512), got[512];
    struct script s = {0};
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
        ios[i] = (struct ntx_io){.op = NTX_OP_WRITE, .offset = i * 512, .length = 512, .data = data};
        submit_io(device, &ios[i]);
    }

    sends = 0;
    push_requests(device);
    CHECK_EQ_U64(sends, 1);
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
        put_simple(&s, 0, peer_read_request(peer.fd).cookie);
        CHECK(peer_receive(peer.fd, got, sizeof got));
    }
    peer_send(peer.fd, s.data, s.length);
    receives = 0;
    push_requests(device);
    CHECK_EQ_U64(receives, 1);

    CHECK_EQ_U64(device->in_flight, NTX_MAX_IN_FLIGHT);
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++)
        CHECK(ntx_device_reap(device) == &ios[i]);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
    free(data);
}

static void test_payloads_of_reads_cost_one_call_each(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io ios[8];
    uint8_t *sample = new_sample(BLOCK), got[8][BLOCK];
    struct script s = {0};
    for (unsigned i = 0; i < 8; i++) {
        ios[i] = (struct ntx_io){.op = NTX_OP_READ, .offset = i * BLOCK, .length = BLOCK, .data = got[i]};
        submit_io(device, &ios[i]);
    }
    push_requests(device);
    for (unsigned i = 0; i < 8; i++) {
        struct request request = peer_read_request(peer.fd);
        put_data(&s, NBD_REPLY_FLAG_DONE, request.cookie, request.offset, sample, BLOCK);
    }
    peer_send(peer.fd, s.data, s.length);

    receives = 0;
    push_requests(device);

    CHECK_EQ_U64(receives, 1 + 8); /* the first header; then each payload with the next header */
    for (unsigned i = 0; i < 8; i++) {
        CHECK(ntx_device_reap(device) == &ios[i]);
        CHECK_EQ_MEM(got[i], sample, BLOCK);
    }
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
    free(sample);
}

/* ---------------------------------------------------------------------------------------------- waiting */

static void test_a_server_that_answers_before_it_reads_on_is_no_deadlock(void)
{
    enum { LENGTH = 8 * NTX_MIB };
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *sample = new_sample(LENGTH), *got = malloc(LENGTH);
    struct ntx_io read = {.op = NTX_OP_READ, .length = LENGTH, .data = got};
    struct ntx_io write = {.op = NTX_OP_WRITE, .length = LENGTH, .data = sample};
    struct ntx_error err;
    struct script s = {0};
    submit_io(device, &read);
    submit_io(device, &write);
    push_requests(device);
    struct request request = peer_read_request(peer.fd);
    put_data(&s, NBD_REPLY_FLAG_DONE, request.cookie, 0, sample, LENGTH);

    /* The server reads nothing more until all of its reply is out. */
    for (size_t at = 0; at < s.length;) {
        ssize_t sent = send(peer.fd, s.data + at, s.length - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        CHECK(sent > 0 || errno == EAGAIN);
        at += sent > 0 ? (size_t)sent : 0;
        CHECK_EQ_INT(device->events, POLLIN | POLLOUT);
        CHECK_OK(device->ops->advance(device, &err), err);
    }

    CHECK(ntx_device_reap(device) == &read);
    CHECK_EQ_MEM(got, sample, LENGTH);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
    free(sample);
    free(got);
}

static void test_what_the_server_cannot_do_is_not_asked(void)
{
    struct script s = {0};
    struct peer peer;
    struct ntx_io flush = {.op = NTX_OP_FLUSH}, zero = {.op = NTX_OP_ZERO, .length = BLOCK};
    put_haggling(&s, true, true);
    put_export_info(&s, 1ull << 40, 1);
    put_go_ack(&s);
    struct ntx_device *device = open_script(&peer, &s);

    submit_io(device, &flush);
    submit_io(device, &zero);

    CHECK(ntx_device_reap(device) == &flush);
    CHECK_EQ_INT(flush.result, -ENOTSUP);
    CHECK(ntx_device_reap(device) == &zero);
    CHECK_EQ_INT(zero.result, -ENOTSUP);
    CHECK_EQ_INT(device->events, 0);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
}

static void test_zeroing_more_than_32_bits_is_an_overflow_to_be_split(void)
{
    struct script s = {0};
    struct peer peer;
    struct ntx_io zero = {.op = NTX_OP_ZERO, .length = 1ull << 32};
    put_haggling(&s, true, true);
    put_export_info(&s, 1ull << 40, PEER_FLAGS);
    put_go_ack(&s);
    struct ntx_device *device = open_script(&peer, &s);

    submit_io(device, &zero);
    CHECK(ntx_device_reap(device) == &zero);
    CHECK_EQ_INT(zero.result, -EOVERFLOW);
    CHECK_EQ_INT(device->error.class, NTX_E_REPLY);

    zero.length /= 2;
    submit_io(device, &zero);
    push_requests(device);
    CHECK_EQ_U64(peer_read_request(peer.fd).length, 1u << 31);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
}

static void run_all_that_send(void)
{
    RUN(test_requests_cut_at_any_byte_arrive_whole);
    RUN(test_cookies_differ_between_requests_and_their_successors);
    RUN(test_goodbye_is_not_said_in_the_middle_of_a_request);
    RUN(test_a_server_that_answers_before_it_reads_on_is_no_deadlock);
}

int main(void)
{
    has_pipes = true;
    run_all_that_send();
    RUN(test_memory_is_not_copied_where_a_reference_will_do);
    RUN(test_what_the_socket_holds_outlives_the_connection);
    RUN(test_where_sending_by_reference_is_refused_the_rest_is_copied);
    has_pipes = false;
    run_all_that_send();
    RUN(test_a_full_queue_leaves_in_one_call_and_its_replies_come_in_one);
    RUN(test_payloads_of_reads_cost_one_call_each);
    RUN(test_what_the_server_cannot_do_is_not_asked);
    RUN(test_zeroing_more_than_32_bits_is_an_overflow_to_be_split);
    return 0;
}
