/* test_nbd_open.c: no lie, silence or departure in a handshake costs more than a clean error; clones must match. */
#include "nbd_peer.h"

#include <time.h>

/* ------------------------------------------------------------------------------------------------- lies */

static void test_lies_in_option_replies_end_the_connection(void)
{
    struct script s = {0};
    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_u64(&s, 0x1111111111111111);
    put_fill(&s, 0, 12);
    check_protocol(&s, "wrong magic in an option reply");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    check_protocol(&s, "not sent");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_option_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, "x", 1);
    check_protocol(&s, "acknowledgement with data");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_option_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_INFO, NULL, 0);
    check_protocol(&s, "unexpected reply to the structured reply option");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_u64(&s, NBD_OPTION_REPLY_MAGIC);
    put_u32(&s, NBD_OPT_STRUCTURED_REPLY);
    put_u32(&s, NBD_REP_ERR_UNSUP);
    put_u32(&s, 0xffffffff);
    check_protocol(&s, "more than 64 KiB");
}

static void test_lies_about_contexts_end_the_connection(void)
{
    struct script s = {0};
    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_structured_ack(&s);
    put_context(&s, 1, "base:allocatiom");
    check_protocol(&s, "metadata context that was not asked for");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_structured_ack(&s);
    put_context(&s, 1, "x");
    check_protocol(&s, "metadata context that was not asked for");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_structured_ack(&s);
    put_context(&s, 1, "base:allocation");
    put_context(&s, 2, "base:allocation");
    check_protocol(&s, "metadata context that was not asked for");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_structured_ack(&s);
    put_option_reply(&s, NBD_OPT_SET_META_CONTEXT, NBD_REP_INFO, NULL, 0);
    check_protocol(&s, "unexpected reply to the metadata context option");
}

static void test_lies_about_the_export_end_the_connection(void)
{
    struct script s = {0};
    put_haggling(&s, true, true);
    put_go_ack(&s);
    check_protocol(&s, "without its size");

    put_haggling(&s, true, true);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_INFO, "\0\0shorter", 9);
    check_protocol(&s, "export information of the wrong length");

    put_haggling(&s, true, true);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_INFO, "\0\3and so much longer", 20);
    check_protocol(&s, "block size information of the wrong length");

    put_haggling(&s, true, true);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_INFO, "\0", 1);
    check_protocol(&s, "without a type");

    put_haggling(&s, true, true);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_META_CONTEXT, NULL, 0);
    check_protocol(&s, "unexpected reply to the export option");

    put_haggling(&s, true, true);
    for (unsigned i = 0; i < NBD_MAX_OPTION_REPLIES; i++)
        put_export_info(&s, 1 << 20, PEER_FLAGS);
    check_protocol(&s, "too many replies to the export option");
}

static void check_truncated(const struct script *s, size_t length)
{
    struct ntx_device *device;
    struct ntx_error err;
    struct peer peer;

    peer_listen(&peer, s);
    peer.send_length = length;
    peer.refuses_go = true;
    CHECK_EQ_INT(peer_open(&peer, NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, &device, &err), -ECONNRESET);
    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_CONTAINS(err.text, "handshake failed");
    CHECK(device == NULL);
    peer_stop(&peer);
}

static void test_a_server_that_leaves_at_any_byte_is_a_clean_error(void)
{
    struct script s = {0};
    put_handshake(&s, true, true, 1);

    for (size_t length = 0; length < s.length; length++)
        check_truncated(&s, length);
    free_script(&s);

    put_greeting(&s, 0);
    size_t refusal = s.length; /* nothing after the greeting means no: another test */
    put_export_name_reply(&s, 1 << 20, PEER_FLAGS, true);
    for (size_t length = 0; length < s.length; length++)
        if (length != refusal)
            check_truncated(&s, length);
    free_script(&s);
}

/* ----------------------------------------------------------------------------------------------- limits */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void test_a_silent_server_costs_the_time_limit_and_no_more(void)
{
    static const size_t lengths[] = {0, 10, 18, 60};
    struct script s = {0};
    put_handshake(&s, true, true, 1);

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct script part = {.data = s.data, .length = lengths[i]};
        struct ntx_device *device;
        struct ntx_error err;
        struct peer peer;
        peer_listen(&peer, &part);
        peer.refuses_go = true;
        int64_t start = now_ms();

        CHECK_EQ_INT(peer_open(&peer, NTX_OPEN_WRITE, 60, &device, &err), -ETIMEDOUT);

        CHECK_EQ_INT(err.class, NTX_E_TIMEOUT);
        CHECK(now_ms() - start >= 55 && now_ms() - start < 5000);
        peer_stop(&peer);
    }
    free_script(&s);
}

static void test_a_listener_that_accepts_nobody_is_a_time_out(void)
{
    struct script s = {0};
    struct ntx_device *device;
    struct ntx_error err;
    struct peer peer;
    peer_listen(&peer, &s);

    /* The kernel takes backlog + 1 connections and then answers EAGAIN; those before it wait for a greeting. */
    for (int i = 0; i < 8; i++) {
        CHECK_EQ_INT(open_unix(peer.path, "", NTX_OPEN_READ, 20, &device, &err), -ETIMEDOUT);
        CHECK_EQ_INT(err.class, NTX_E_TIMEOUT);
    }
    peer_stop(&peer);
}

static void test_arguments_out_of_bounds_are_refused_before_connecting(void)
{
    struct ntx_device *device;
    struct ntx_error err;
    char *name = calloc(1, NBD_MAX_STRING + 2), path[200] = {0};
    memset(name, 'n', NBD_MAX_STRING + 1);
    memset(path, 'p', sizeof path - 1);

    CHECK_EQ_INT(open_unix("s", name, NTX_OPEN_READ, 1000, &device, &err), -ENAMETOOLONG);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_EQ_INT(open_unix(path, "", NTX_OPEN_READ, 1000, &device, &err), -ENAMETOOLONG);
    CHECK_EQ_INT(err.class, NTX_E_OPTIONS);
    CHECK_EQ_INT(open_unix("", "", NTX_OPEN_READ, 1000, &device, &err), -EINVAL);
    CHECK_EQ_INT(open_tcp("", 1, "", NTX_OPEN_READ, 1000, &device, &err), -EINVAL);
    CHECK_EQ_INT(open_unix("s", "", NTX_OPEN_READ, 0, &device, &err), -EINVAL);
    free(name);
}

static void test_the_longest_export_name_is_sent_whole(void)
{
    struct script s = {0};
    struct ntx_device *device;
    struct ntx_error err;
    struct peer peer;
    char name[NBD_MAX_STRING + 1];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    put_handshake(&s, true, true, 1);
    peer_listen(&peer, &s);
    peer_start(&peer);

    CHECK_OK(open_unix(peer.path, name, NTX_OPEN_READ, CHECK_TIMEOUT_MS, &device, &err), err);

    CHECK(pthread_join(peer.thread, NULL) == 0);
    const uint8_t *go = peer.received.data + peer.received.length - (4 + NBD_MAX_STRING + 4);
    CHECK_EQ_U64(ntx_get32(go), NBD_MAX_STRING);
    CHECK_EQ_MEM(go + 4, name, NBD_MAX_STRING);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
}

static void test_a_socket_that_is_not_there_is_a_device_error(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_EQ_INT(open_unix("absent.sock", "", NTX_OPEN_READ, 1000, &device, &err), -ENOENT);

    CHECK_EQ_INT(err.class, NTX_E_DEVICE);
    CHECK_CONTAINS(err.text, "socket=absent.sock: connect failed: No such file");
    CHECK(device == NULL);
}

/* ----------------------------------------------------------------------------------------------- clones */

static void check_clone(uint64_t size, uint16_t flags, uint32_t preferred, int expected)
{
    struct script first = {0}, second = {0};
    struct ntx_device *other;
    struct ntx_error err;
    struct peer peer;
    put_handshake(&first, true, true, 1);
    put_haggling(&second, true, true);
    put_export_info(&second, size, flags);
    put_block_sizes(&second, 1, preferred, 32 * NTX_MIB);
    put_go_ack(&second);
    struct ntx_device *device = open_script(&peer, &first);
    int fd = peer.fd;

    peer.script = &second;
    peer.send_length = second.length;
    peer_start(&peer);
    CHECK_EQ_INT(device->ops->clone(device, -1, &other, &err), expected);
    CHECK(pthread_join(peer.thread, NULL) == 0);

    CHECK((other != NULL) == (expected == 0));
    if (expected != 0)
        CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    else
        CHECK_EQ_U64(other->info.flags, device->info.flags);
    ntx_close(other);
    ntx_close(device);
    close(fd);
    peer_stop(&peer);
    free_script(&first);
    free_script(&second);
}

static void test_a_clone_must_be_the_same_export(void)
{
    check_clone(PEER_SIZE, PEER_FLAGS, 4096, 0);
    check_clone(PEER_SIZE - 512, PEER_FLAGS, 4096, -ESTALE);
    check_clone(PEER_SIZE, PEER_FLAGS & ~NBD_FLAG_SEND_FLUSH, 4096, -ESTALE);
    check_clone(PEER_SIZE, PEER_FLAGS, 8192, -ESTALE);
    check_clone(PEER_SIZE, PEER_FLAGS | NBD_FLAG_READ_ONLY, 4096, -EROFS);
}

/* The first connection may be told to wait long; others are only for speed. */
static void test_a_clone_that_is_kept_waiting_is_given_up_soon(void)
{
    struct script s = {0};
    struct ntx_device *device, *other;
    struct ntx_error err;
    struct peer peer;
    put_handshake(&s, true, true, 1);
    peer_listen(&peer, &s);
    CHECK_OK(peer_open(&peer, NTX_OPEN_WRITE, 60000, &device, &err), err);
    int64_t start = now_ms();

    CHECK_EQ_INT(device->ops->clone(device, -1, &other, &err), -ETIMEDOUT);

    CHECK(now_ms() - start < 10000);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
}

int main(void)
{
    unsigned before = open_descriptors();

    RUN(test_lies_in_option_replies_end_the_connection);
    RUN(test_lies_about_contexts_end_the_connection);
    RUN(test_lies_about_the_export_end_the_connection);
    RUN(test_a_server_that_leaves_at_any_byte_is_a_clean_error);
    RUN(test_a_silent_server_costs_the_time_limit_and_no_more);
    RUN(test_a_listener_that_accepts_nobody_is_a_time_out);
    RUN(test_arguments_out_of_bounds_are_refused_before_connecting);
    RUN(test_the_longest_export_name_is_sent_whole);
    RUN(test_a_socket_that_is_not_there_is_a_device_error);
    RUN(test_a_clone_must_be_the_same_export);
    RUN(test_a_clone_that_is_kept_waiting_is_given_up_soon);
    CHECK_EQ_U64(open_descriptors(), before); /* however an open ended, nothing is left behind */
    return 0;
}
