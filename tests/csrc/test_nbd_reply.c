/* test_nbd_reply.c: replies of both kinds, in any order and split anywhere, reach the requests that they answer. */
#include "nbd_peer.h"

#define BLOCK 4096u

/* Let the device work until count requests are reaped, in order of completion. */
static void reap(struct ntx_device *device, struct ntx_io **done, size_t count)
{
    struct ntx_error err;

    for (size_t i = 0; i < count;) {
        struct pollfd ready = {.fd = device->fd, .events = device->events};
        if ((done[i] = ntx_device_reap(device)) != NULL) {
            i++;
            continue;
        }
        CHECK(poll(&ready, 1, (int)CHECK_TIMEOUT_MS) == 1);
        CHECK_OK(device->ops->advance(device, &err), err);
    }
    CHECK(ntx_device_reap(device) == NULL);
}

static void send_script(struct peer *peer, struct script *script)
{
    peer_send(peer->fd, script->data, script->length);
    free_script(script);
}

/* Submit one request and give the server's view of it. */
static struct request begin(struct ntx_device *device, struct peer *peer, struct ntx_io *io)
{
    submit_io(device, io);
    push_requests(device);
    return peer_read_request(peer->fd);
}

static void end(struct ntx_device *device, struct peer *peer)
{
    CHECK_EQ_U64(device->in_flight, 0);
    CHECK_EQ_INT(device->events, 0);
    ntx_close(device);
    CHECK_EQ_U64(peer_read_request(peer->fd).command, NBD_CMD_DISC);
    peer_stop(peer);
}

/* ------------------------------------------------------------------------------------------------ orders */

static void test_simple_replies_in_any_order_complete_their_requests(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, false, false, 1);
    uint8_t *data = new_sample(3 * BLOCK);
    struct ntx_io ios[3], *done[3];
    struct request requests[3];
    for (unsigned i = 0; i < 3; i++) {
        ios[i] = (struct ntx_io){.op = NTX_OP_ZERO, .offset = i * BLOCK, .length = BLOCK};
        submit_io(device, &ios[i]);
    }
    push_requests(device);
    for (unsigned i = 0; i < 3; i++)
        requests[i] = peer_read_request(peer.fd);

    struct script s = {0};
    for (unsigned i = 3; i-- > 0;)
        put_simple(&s, 0, requests[i].cookie);
    send_script(&peer, &s);
    reap(device, done, 3);

    for (unsigned i = 0; i < 3; i++) {
        CHECK(done[i] == &ios[2 - i]);
        CHECK_EQ_INT(done[i]->result, 0);
    }
    free(data);
    end(device, &peer);
}

static void test_simple_read_replies_carry_their_payload(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, false, false, 1);
    uint8_t *data = new_sample(2 * BLOCK), got[2][BLOCK];
    struct ntx_io ios[3] = {{.op = NTX_OP_READ, .offset = 0, .length = BLOCK, .data = got[0]},
                            {.op = NTX_OP_READ, .offset = BLOCK, .length = BLOCK, .data = got[1]},
                            {.op = NTX_OP_FLUSH}};
    struct ntx_io *done[3];
    struct request requests[3];
    struct script s = {0};
    for (unsigned i = 0; i < 3; i++)
        submit_io(device, &ios[i]);
    push_requests(device);
    for (unsigned i = 0; i < 3; i++)
        requests[i] = peer_read_request(peer.fd);

    put_simple(&s, 0, requests[1].cookie);
    put_bytes(&s, data + BLOCK, BLOCK);
    put_simple(&s, 0, requests[2].cookie);
    put_simple(&s, 0, requests[0].cookie);
    put_bytes(&s, data, BLOCK);
    send_script(&peer, &s);
    reap(device, done, 3);

    CHECK(done[0] == &ios[1] && done[1] == &ios[2] && done[2] == &ios[0]);
    CHECK_EQ_MEM(got[0], data, BLOCK);
    CHECK_EQ_MEM(got[1], data + BLOCK, BLOCK);
    free(data);
    end(device, &peer);
}

/* A reply to a read of 8 blocks from 1000 * BLOCK on: chunks out of order, holes, and replies between them. */
static void put_mixed_reply(struct script *s, uint64_t cookie, uint64_t other, const uint8_t *data)
{
    uint64_t base = 1000 * BLOCK;

    put_data(s, 0, cookie, base + 6 * BLOCK, data + 6 * BLOCK, BLOCK);
    put_data(s, 0, cookie, base, data, BLOCK);
    put_simple(s, 0, other);
    put_hole(s, 0, cookie, base + BLOCK, 2 * BLOCK);
    put_data(s, 0x8000, cookie, base + 4 * BLOCK, data + 4 * BLOCK, 2 * BLOCK); /* an unknown flag is ignored */
    put_hole(s, 0, cookie, base + 7 * BLOCK, BLOCK);
    put_data(s, NBD_REPLY_FLAG_DONE, cookie, base + 3 * BLOCK, data + 3 * BLOCK, BLOCK);
}

static void check_mixed_reply(struct ntx_device *device, struct peer *peer, size_t piece)
{
    uint8_t *expected = new_sample(8 * BLOCK), *got = malloc(8 * BLOCK);
    struct ntx_io read = {.op = NTX_OP_READ, .offset = 1000 * BLOCK, .length = 8 * BLOCK, .data = got};
    struct ntx_io flush = {.op = NTX_OP_FLUSH};
    struct ntx_error err;
    struct script s = {0};
    memset(got, 0xee, 8 * BLOCK);
    struct request request = begin(device, peer, &read), other = begin(device, peer, &flush);
    put_mixed_reply(&s, request.cookie, other.cookie, expected);
    memset(expected + BLOCK, 0, 2 * BLOCK);
    memset(expected + 7 * BLOCK, 0, BLOCK);

    for (size_t at = 0; at < s.length; at += piece) {
        CHECK(device->done_last != &read);
        CHECK_EQ_INT(device->events, POLLIN);
        peer_send(peer->fd, s.data + at, at + piece < s.length ? piece : s.length - at);
        CHECK_OK(device->ops->advance(device, &err), err);
    }

    CHECK(ntx_device_reap(device) == &flush);
    CHECK(ntx_device_reap(device) == &read);
    CHECK_EQ_INT(read.result, 0);
    CHECK_EQ_MEM(got, expected, 8 * BLOCK);
    free(expected);
    free(got);
    free_script(&s);
}

static void test_chunks_in_any_order_split_anywhere_fill_the_buffer(void)
{
    static const size_t pieces[] = {1, 2, 3, 7, 19, 27, 28, 29, 33, 1000, 4095, 4097, 1 << 20};
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        check_mixed_reply(device, &peer, pieces[i]);

    end(device, &peer);
}

static void test_an_empty_chunk_ends_a_reply(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(BLOCK), got[BLOCK];
    struct ntx_io read = {.op = NTX_OP_READ, .length = BLOCK, .data = got}, flush = {.op = NTX_OP_FLUSH}, *done[2];
    struct script s = {0};
    struct request request = begin(device, &peer, &read), other = begin(device, &peer, &flush);

    put_data(&s, 0, request.cookie, 0, data, BLOCK);
    put_none(&s, other.cookie);
    put_none(&s, request.cookie);
    send_script(&peer, &s);
    reap(device, done, 2);

    CHECK(done[0] == &flush && done[1] == &read);
    CHECK_EQ_INT(done[0]->result, 0);
    CHECK_EQ_MEM(got, data, BLOCK);
    free(data);
    end(device, &peer);
}

static void test_replies_to_many_writes_are_taken_in_one_turn(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io ios[NTX_MAX_IN_FLIGHT];
    struct ntx_error err;
    struct script s = {0};
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
        ios[i] = (struct ntx_io){.op = NTX_OP_ZERO, .offset = i * BLOCK, .length = BLOCK};
        submit_io(device, &ios[i]);
    }
    push_requests(device);
    CHECK_EQ_INT(device->events, POLLIN);
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++)
        put_simple(&s, 0, peer_read_request(peer.fd).cookie);
    send_script(&peer, &s);

    CHECK_OK(device->ops->advance(device, &err), err);

    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++)
        CHECK(ntx_device_reap(device) == &ios[i]);
    end(device, &peer);
}

static void test_a_buffer_full_of_replies_and_half_of_one_more_goes_on(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    char text[4001];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';

    /* 40 error chunks of 4 KiB are more than the buffer holds, in pieces that fit neither. */
    struct ntx_io flush = {.op = NTX_OP_FLUSH};
    struct request request = begin(device, &peer, &flush);
    struct ntx_error err;
    struct script s = {0};
    for (unsigned i = 0; i < 40; i++)
        put_error(&s, i == 39 ? NBD_REPLY_FLAG_DONE : 0, request.cookie, NBD_EIO, text);
    for (size_t at = 0; at < s.length; at += 65537) {
        peer_send(peer.fd, s.data + at, ntx_min64(65537, s.length - at));
        CHECK_OK(device->ops->advance(device, &err), err);
    }

    CHECK(ntx_device_reap(device) == &flush);
    CHECK_EQ_INT(flush.result, -EIO);
    free_script(&s);
    end(device, &peer);
}

/* ------------------------------------------------------------------------------------------------ errors */

static void check_failure(struct ntx_device *device, struct ntx_io *io, int code, const char *part)
{
    struct ntx_io *done;

    reap(device, &done, 1);
    CHECK(done == io);
    CHECK_EQ_INT(io->result, code);
    CHECK_EQ_INT(device->error.class, NTX_E_REPLY);
    CHECK_EQ_INT(device->error.code, code);
    CHECK_EQ_U64(device->error.offset, io->offset);
    CHECK_EQ_U64(device->error.length, io->length);
    CHECK_CONTAINS(device->error.text, part);
    for (const char *at = device->error.text; *at != '\0'; at++)
        CHECK(*at >= 0x20 && *at < 0x7f);
}

static void check_that_an_error_keeps_the_connection(uint32_t error, int code, const char *text)
{
    for (int is_structured = 0; is_structured < 2; is_structured++) {
        struct peer peer;
        struct ntx_device *device = open_peer(&peer, is_structured, false, 1);
        uint8_t data[BLOCK] = {0};
        struct ntx_io write = {.op = NTX_OP_WRITE, .offset = BLOCK, .length = BLOCK, .data = data};
        struct script s = {0};
        struct request request = begin(device, &peer, &write);
        CHECK(peer_receive(peer.fd, data, BLOCK));

        put_simple(&s, error, request.cookie);
        send_script(&peer, &s);

        check_failure(device, &write, code, text);
        request = begin(device, &peer, &write);
        CHECK(peer_receive(peer.fd, data, BLOCK));
        put_simple(&s, 0, request.cookie);
        send_script(&peer, &s);
        struct ntx_io *done;
        reap(device, &done, 1);
        CHECK_EQ_INT(done->result, 0);
        end(device, &peer);
    }
}

static void test_an_error_fails_its_request_and_not_the_connection(void)
{
    check_that_an_error_keeps_the_connection(NBD_ENOSPC, -ENOSPC,
                                             "write failed: offset 4096 length 4096: No space left on device");
    check_that_an_error_keeps_the_connection(NBD_EPERM, -EPERM, "Operation not permitted");
    check_that_an_error_keeps_the_connection(NBD_EOVERFLOW, -EOVERFLOW, "Value too large");
    check_that_an_error_keeps_the_connection(9999, -EINVAL, "Invalid argument");
}

static void test_a_simple_read_error_has_no_payload(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, false, false, 1);
    uint8_t data[BLOCK];
    struct ntx_io read = {.op = NTX_OP_READ, .length = BLOCK, .data = data}, flush = {.op = NTX_OP_FLUSH}, *done;
    struct script s = {0};
    struct request request = begin(device, &peer, &read), other = begin(device, &peer, &flush);

    put_simple(&s, NBD_EIO, request.cookie);
    send_script(&peer, &s);
    check_failure(device, &read, -EIO, "Input/output error");
    put_simple(&s, 0, other.cookie);
    send_script(&peer, &s);
    reap(device, &done, 1);

    CHECK(done == &flush && done->result == 0);
    end(device, &peer);
}

static void test_the_first_of_several_error_chunks_counts_once_the_reply_ends(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t data[2 * BLOCK] = {0};
    struct ntx_io read = {.op = NTX_OP_READ, .offset = BLOCK, .length = 2 * BLOCK, .data = data};
    struct ntx_error err;
    struct script s = {0};
    struct request request = begin(device, &peer, &read);
    put_data(&s, 0, request.cookie, BLOCK, data, BLOCK);
    put_error_offset(&s, 0, request.cookie, NBD_EIO, BLOCK + 512);
    put_error(&s, 0, request.cookie, NBD_ENOMEM, "second");
    put_data(&s, 0, request.cookie, 2 * BLOCK, data, 1024); /* content may follow, and need not be all */
    send_script(&peer, &s);
    CHECK_OK(device->ops->advance(device, &err), err);
    CHECK(ntx_device_reap(device) == NULL);

    put_none(&s, request.cookie);
    send_script(&peer, &s);

    check_failure(device, &read, -EIO, "read failed: offset 4096 length 8192: Input/output error");
    end(device, &peer);
}

static void test_texts_and_unknown_kinds_of_errors_are_understood_as_far_as_possible(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io zero = {.op = NTX_OP_ZERO, .offset = BLOCK, .length = BLOCK};
    struct script s = {0};

    struct request request = begin(device, &peer, &zero);
    put_error(&s, NBD_REPLY_FLAG_DONE, request.cookie, NBD_EPERM, "quota\nof \x1b[31m vm");
    send_script(&peer, &s);
    check_failure(device, &zero, -EPERM, "not permitted (the server says: quota?of ?[31m vm)");

    request = begin(device, &peer, &zero);
    put_chunk(&s, NBD_REPLY_FLAG_DONE, 0x8777, request.cookie, 6 + 2 + 100);
    put_u32(&s, NBD_EOVERFLOW);
    put_u16(&s, 2);
    put_bytes(&s, "hm", 2);
    put_fill(&s, 0xff, 100);
    send_script(&peer, &s);
    check_failure(device, &zero, -EOVERFLOW, "(the server says: hm)");

    request = begin(device, &peer, &zero);
    put_simple(&s, 0xdead, request.cookie);
    send_script(&peer, &s);
    check_failure(device, &zero, -EINVAL, "Invalid argument");
    end(device, &peer);
}

static void test_the_longest_error_text_is_cut(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io zero = {.op = NTX_OP_ZERO, .offset = BLOCK, .length = BLOCK};
    struct script s = {0};
    struct request request = begin(device, &peer, &zero);

    put_chunk(&s, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR_BIT + 1, request.cookie, NBD_MAX_ERROR_CHUNK);
    put_u32(&s, NBD_EIO);
    put_u16(&s, NBD_MAX_ERROR_CHUNK - 6);
    put_fill(&s, 1, NBD_MAX_ERROR_CHUNK - 6);
    send_script(&peer, &s);

    check_failure(device, &zero, -EIO, "(the server says: ????????");
    end(device, &peer);
}

/* 64 bits where others have 32: this client does not ask for them. */
static void test_an_extended_reply_ends_the_connection(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io zero = {.op = NTX_OP_ZERO, .offset = BLOCK, .length = BLOCK};
    struct ntx_error err;
    struct script s = {0};
    struct request request = begin(device, &peer, &zero);

    put_u32(&s, 0x6e8a278c);
    put_u16(&s, NBD_REPLY_FLAG_DONE);
    put_u16(&s, NBD_REPLY_TYPE_NONE);
    put_u64(&s, request.cookie);
    put_u64(&s, request.offset);
    put_u64(&s, 0);
    send_script(&peer, &s);

    CHECK_EQ_INT(device->ops->advance(device, &err), -EPROTO);
    CHECK_CONTAINS(err.text, "wrong magic in a reply");
    ntx_close(device);
    peer_stop(&peer);
}

static void test_a_server_that_shuts_down_ends_the_connection_and_is_told_goodbye(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    struct ntx_io zero = {.op = NTX_OP_ZERO, .offset = BLOCK, .length = BLOCK}, flush = {.op = NTX_OP_FLUSH};
    struct ntx_error err, again;
    struct script s = {0};
    struct request request = begin(device, &peer, &zero);
    begin(device, &peer, &flush);
    put_simple(&s, NBD_ESHUTDOWN, request.cookie);
    send_script(&peer, &s);

    CHECK_EQ_INT(device->ops->advance(device, &err), -ESHUTDOWN);

    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_CONTAINS(err.text, "shutting down with 2 requests in flight");
    CHECK_EQ_INT(device->ops->advance(device, &again), -ESHUTDOWN);
    CHECK_EQ_INT(ntx_device_submit(device, &(struct ntx_io){.op = NTX_OP_FLUSH}, &again), -ESHUTDOWN);
    CHECK_EQ_STR(again.text, err.text);
    ntx_close(device);
    CHECK_EQ_U64(peer_read_request(peer.fd).command, NBD_CMD_DISC);
    peer_stop(&peer);
}

int main(void)
{
    RUN(test_simple_replies_in_any_order_complete_their_requests);
    RUN(test_simple_read_replies_carry_their_payload);
    RUN(test_chunks_in_any_order_split_anywhere_fill_the_buffer);
    RUN(test_an_empty_chunk_ends_a_reply);
    RUN(test_replies_to_many_writes_are_taken_in_one_turn);
    RUN(test_a_buffer_full_of_replies_and_half_of_one_more_goes_on);
    RUN(test_an_error_fails_its_request_and_not_the_connection);
    RUN(test_a_simple_read_error_has_no_payload);
    RUN(test_the_first_of_several_error_chunks_counts_once_the_reply_ends);
    RUN(test_texts_and_unknown_kinds_of_errors_are_understood_as_far_as_possible);
    RUN(test_the_longest_error_text_is_cut);
    RUN(test_an_extended_reply_ends_the_connection);
    RUN(test_a_server_that_shuts_down_ends_the_connection_and_is_told_goodbye);
    return 0;
}
