/* test_nbd_handshake.c: what is agreed upon with each kind of server, and what is refused. */
#include "nbd_peer.h"

/* Open, give the info, close. */
static struct ntx_device_info info_of(struct script *script)
{
    struct peer peer;
    struct ntx_device *device = open_script(&peer, script);
    struct ntx_device_info info = *ntx_device_info(device);

    ntx_close(device);
    peer_stop(&peer);
    free_script(script);
    return info;
}

/* ------------------------------------------------------------------------------------------- agreements */

static void test_everything_offered_is_used(void)
{
    struct script s = {0};
    put_haggling(&s, true, true);
    put_export_info(&s, 1 << 20, PEER_FLAGS | NBD_FLAG_ROTATIONAL);
    put_block_sizes(&s, 4096, 65536, 1 << 20);
    put_go_ack(&s);

    struct ntx_device_info info = info_of(&s);

    CHECK_EQ_U64(info.size, 1 << 20);
    CHECK_EQ_U64(info.min_block, 4096);
    CHECK_EQ_U64(info.preferred_block, 65536);
    CHECK_EQ_U64(info.max_payload, 1 << 20);
    CHECK_EQ_U64(info.flags, NTX_DEVICE_CAN_ZERO | NTX_DEVICE_CAN_FLUSH | NTX_DEVICE_CAN_MULTI_CONN |
                                 NTX_DEVICE_CAN_MAP | NTX_DEVICE_ROTATIONAL | NTX_DEVICE_STRUCTURED);
    CHECK_EQ_STR(info.kind, "nbd");
    CHECK_EQ_STR(info.name, "nbd+unix:///disk?socket=peer.sock");
}

static void test_the_client_says_what_the_protocol_wants(void)
{
    static const uint8_t expected[] = "\0\0\0\3"
                                      "IHAVEOPT\0\0\0\x8\0\0\0\0"
                                      "IHAVEOPT\0\0\0\xa\0\0\0\x1f"
                                      "\0\0\0\4disk\0\0\0\1\0\0\0\xf"
                                      "base:allocation"
                                      "IHAVEOPT\0\0\0\x7\0\0\0\xc"
                                      "\0\0\0\4disk\0\1\0\3";
    struct script s = {0};
    struct peer peer;
    put_handshake(&s, true, true, 1);

    struct ntx_device *device = open_script(&peer, &s);
    ntx_close(device);

    CHECK_EQ_U64(peer.received.length, sizeof expected - 1);
    CHECK_EQ_MEM(peer.received.data, expected, sizeof expected - 1);
    struct request goodbye = peer_read_request(peer.fd);
    CHECK_EQ_U64(goodbye.command, NBD_CMD_DISC);
    peer_stop(&peer);
    free_script(&s);
}

static void test_a_server_that_offers_nothing_is_used_as_it_is(void)
{
    struct script s = {0};
    put_haggling(&s, false, false);
    put_export_info(&s, 4096, 1);
    put_go_ack(&s);

    struct ntx_device_info info = info_of(&s);

    CHECK_EQ_U64(info.flags, 0);
    CHECK_EQ_U64(info.size, 4096);
}

static void test_unstated_block_sizes_are_512_unless_the_size_needs_less(void)
{
    static const struct {
        uint64_t size;
        uint32_t min_block;
    } table[] = {{1 << 20, 512}, {511, 1}, {512, 512}, {514, 2}, {4096 + 256, 256}, {0, 512}, {INT64_MAX, 1}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct script s = {0};
        put_haggling(&s, true, false);
        put_export_info(&s, table[i].size, PEER_FLAGS);
        put_go_ack(&s);

        struct ntx_device_info info = info_of(&s);

        CHECK_EQ_U64(info.size, table[i].size);
        CHECK_EQ_U64(info.min_block, table[i].min_block);
        CHECK_EQ_U64(info.preferred_block, 4096);
        CHECK_EQ_U64(info.max_payload, 32 * NTX_MIB);
        CHECK((info.flags & NTX_DEVICE_CAN_MAP) == 0);
    }
}

static void test_maximum_payload_is_bounded_and_a_multiple_of_the_minimum(void)
{
    static const struct {
        uint32_t min, preferred, max, expected_max, expected_preferred;
    } table[] = {
        {1, 4096, 0xffffffff, 32 * NTX_MIB, 4096},
        {4096, 4096, 1000000, 999424, 4096},
        {65536, 65536, 65537, 65536, 65536},
        {512, 1 << 20, 65536, 65536, 65536},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct script s = {0};
        put_haggling(&s, true, true);
        put_block_sizes(&s, table[i].min, table[i].preferred, table[i].max);
        put_export_info(&s, 1 << 20, PEER_FLAGS);
        put_go_ack(&s);

        struct ntx_device_info info = info_of(&s);

        CHECK_EQ_U64(info.max_payload, table[i].expected_max);
        CHECK_EQ_U64(info.preferred_block, table[i].expected_preferred);
    }
}

static void test_information_that_is_not_understood_is_skipped(void)
{
    struct script s = {0};
    char long_description[4098] = {0, 2};
    put_haggling(&s, true, true);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_INFO, long_description, sizeof long_description);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_INFO, "\0\1disk", 6);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_INFO, "\x77\x77", 2);
    put_export_info(&s, 1 << 20, PEER_FLAGS);
    put_go_ack(&s);

    CHECK_EQ_U64(info_of(&s).size, 1 << 20);
}

static void test_contexts_named_before_an_error_do_not_count(void)
{
    struct script s = {0};
    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_structured_ack(&s);
    put_context(&s, PEER_CONTEXT, "base:allocation");
    put_option_reply(&s, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_POLICY, "no", 2);
    put_export_info(&s, 1 << 20, PEER_FLAGS);
    put_go_ack(&s);

    struct ntx_device_info info = info_of(&s);

    CHECK((info.flags & NTX_DEVICE_CAN_MAP) == 0);
    CHECK((info.flags & NTX_DEVICE_STRUCTURED) != 0);
}

/* Open with a script that refuses GO, or has no options at all; a request must work afterwards. */
static void check_old_server(struct script *s, uint64_t size)
{
    struct peer peer;
    struct ntx_device *device;
    struct ntx_error err;
    struct ntx_io flush = {.op = NTX_OP_FLUSH};

    peer_listen(&peer, s);
    peer.refuses_go = true;
    CHECK_OK(peer_open(&peer, NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, &device, &err), err);
    CHECK_EQ_U64(ntx_device_info(device)->size, size);
    CHECK_EQ_U64(ntx_device_info(device)->min_block, 512);
    submit_io(device, &flush);
    push_requests(device);
    CHECK_EQ_U64(peer_read_request(peer.fd).command, NBD_CMD_FLUSH);
    ntx_close(device);
    peer_stop(&peer);
    free_script(s);
}

static void test_export_name_is_used_only_when_go_is_unsupported(void)
{
    for (int has_zeroes = 0; has_zeroes < 2; has_zeroes++) {
        struct script s = {0};
        put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE | (has_zeroes ? 0 : NBD_FLAG_NO_ZEROES));
        put_option_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, NULL, 0);
        put_block_sizes(&s, 1, 4096, 65536);
        put_option_reply(&s, NBD_OPT_GO, NBD_REP_ERR_UNSUP, NULL, 0);
        put_export_name_reply(&s, 8192, PEER_FLAGS, has_zeroes);

        check_old_server(&s, 8192);
    }
}

static void test_a_server_without_options_is_asked_by_export_name_at_once(void)
{
    struct script s = {0};
    put_greeting(&s, 0);
    put_export_name_reply(&s, 8192, PEER_FLAGS, true);

    check_old_server(&s, 8192);
}

static void test_any_split_of_the_handshake_is_understood(void)
{
    struct script s = {0};
    struct peer peer;
    struct ntx_device *device;
    struct ntx_error err;
    put_handshake(&s, true, true, 1);
    peer_listen(&peer, &s);
    peer.is_slow = true;

    CHECK_OK(peer_open(&peer, NTX_OPEN_READ, CHECK_TIMEOUT_MS, &device, &err), err);

    CHECK_EQ_U64(ntx_device_info(device)->size, PEER_SIZE);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
}

/* --------------------------------------------------------------------------------------------- refusals */

static void test_each_refusal_has_its_code_and_the_servers_words(void)
{
    static const struct {
        uint32_t type;
        enum ntx_error_class class;
        int code;
        const char *part;
    } table[] = {
        {NBD_REP_ERR_POLICY, NTX_E_NEGOTIATION, -EPERM, "policy forbids it: not for you"},
        {NBD_REP_ERR_INVALID, NTX_E_NEGOTIATION, -EINVAL, "invalid: not for you"},
        {NBD_REP_ERR_PLATFORM, NTX_E_NEGOTIATION, -ENOTSUP, "platform"},
        {NBD_REP_ERR_TLS_REQD, NTX_E_NEGOTIATION, -ENOTSUP, "requires TLS"},
        {NBD_REP_ERR_UNKNOWN, NTX_E_NEGOTIATION, -ENOENT, "no such export: not for you"},
        {NBD_REP_ERR_SHUTDOWN, NTX_E_DEVICE, -ESHUTDOWN, "shutting down"},
        {NBD_REP_ERR_BLOCK_SIZE_REQD, NTX_E_NEGOTIATION, -ENOTSUP, "block sizes"},
        {NBD_REP_ERR_TOO_BIG, NTX_E_NEGOTIATION, -E2BIG, "too large"},
        {NBD_REP_ERROR + 0x777, NTX_E_NEGOTIATION, -EINVAL, "error 0x80000777: not for you"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct script s = {0};
        put_haggling(&s, true, true);
        put_option_reply(&s, NBD_OPT_GO, table[i].type, "not for you", 11);

        check_refused(&s, table[i].class, table[i].code, table[i].part);
    }
}

static void test_a_server_may_begin_to_shut_down_at_any_option(void)
{
    struct script s = {0};
    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_option_reply(&s, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_SHUTDOWN, "bye", 3);
    check_refused(&s, NTX_E_DEVICE, -ESHUTDOWN, "shutting down: bye");

    put_greeting(&s, NBD_FLAG_FIXED_NEWSTYLE);
    put_structured_ack(&s);
    put_option_reply(&s, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_SHUTDOWN, NULL, 0);
    check_refused(&s, NTX_E_DEVICE, -ESHUTDOWN, "shutting down");
}

static void test_who_is_refused_says_goodbye(void)
{
    struct script s = {0};
    struct ntx_device *device;
    struct ntx_error err;
    struct peer peer;
    put_haggling(&s, false, false);
    put_option_reply(&s, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, NULL, 0);
    peer_listen(&peer, &s);
    peer.refuses_go = true;

    CHECK_EQ_INT(peer_open(&peer, NTX_OPEN_READ, CHECK_TIMEOUT_MS, &device, &err), -ENOENT);

    const uint8_t *last = peer.received.data + peer.received.length - NBD_OPTION_HEADER_SIZE;
    CHECK_EQ_U64(ntx_get64(last), NBD_OPTION_MAGIC);
    CHECK_EQ_U64(ntx_get32(last + 8), NBD_OPT_ABORT);
    peer_stop(&peer);
    free_script(&s);
}

static void test_error_texts_of_any_length_and_content_are_bounded_and_printable(void)
{
    static const size_t lengths[] = {1, 255, 256, 4096, 65536};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct script s = {0};
        char *text = malloc(lengths[i]);
        for (size_t at = 0; at < lengths[i]; at++)
            text[at] = (char)at;
        put_haggling(&s, true, true);
        put_option_reply(&s, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, text, lengths[i]);
        free(text);

        check_refused(&s, NTX_E_NEGOTIATION, -ENOENT, "no such export: ?");
    }
}

static void test_writing_to_a_read_only_export_is_refused_and_reading_is_not(void)
{
    struct script s = {0};
    struct ntx_error err;
    put_haggling(&s, true, true);
    put_export_info(&s, 1 << 20, PEER_FLAGS | NBD_FLAG_READ_ONLY);
    put_go_ack(&s);

    CHECK_EQ_INT(open_refused(&s, NTX_OPEN_WRITE, &err), -EROFS);
    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);

    struct peer peer;
    struct ntx_device *device;
    peer_listen(&peer, &s);
    CHECK_OK(peer_open(&peer, NTX_OPEN_READ, CHECK_TIMEOUT_MS, &device, &err), err);
    CHECK((ntx_device_info(device)->flags & NTX_DEVICE_READ_ONLY) != 0);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
}

static void test_oldstyle_and_foreign_servers_are_told_apart(void)
{
    struct script oldstyle = {0}, foreign = {0}, half = {0};
    put_u64(&oldstyle, NBD_INIT_MAGIC);
    put_u64(&oldstyle, NBD_OLDSTYLE_MAGIC);
    put_u64(&oldstyle, 1 << 20);
    put_fill(&oldstyle, 0, 128);
    put_bytes(&foreign, "SSH-2.0-OpenSSH_9.2p1\r\n", 23);
    put_u64(&half, NBD_INIT_MAGIC);
    put_u64(&half, 0x1122334455667788);

    check_refused(&oldstyle, NTX_E_NEGOTIATION, -ENOTSUP, "oldstyle");
    check_protocol(&foreign, "not an NBD server");
    check_protocol(&half, "wrong magic");
}

static void test_an_export_name_refused_by_hanging_up_is_a_refusal(void)
{
    struct script s = {0};
    put_greeting(&s, 0);
    size_t length = s.length;
    put_u64(&s, 0); /* never sent */
    struct ntx_device *device;
    struct ntx_error err;
    struct peer peer;
    peer_listen(&peer, &s);
    peer.send_length = length;

    CHECK_EQ_INT(peer_open(&peer, NTX_OPEN_READ, CHECK_TIMEOUT_MS, &device, &err), -ENOENT);

    CHECK_EQ_INT(err.class, NTX_E_NEGOTIATION);
    peer_stop(&peer);
    free_script(&s);
}

static void check_export(uint64_t size, uint32_t min, uint32_t preferred, uint32_t max, enum ntx_error_class class,
                         int code, const char *part)
{
    struct script s = {0};

    put_haggling(&s, true, true);
    put_export_info(&s, size, PEER_FLAGS);
    put_block_sizes(&s, min, preferred, max);
    put_go_ack(&s);
    check_refused(&s, class, code, part);
}

static void test_sizes_that_cannot_be_are_refused(void)
{
    check_export(1ull << 63, 1, 4096, 1 << 25, NTX_E_NEGOTIATION, -EOVERFLOW, "9223372036854775808");
    check_export(UINT64_MAX, 1, 4096, 1 << 25, NTX_E_NEGOTIATION, -EOVERFLOW, "18446744073709551615");
    check_export(4097, 4096, 4096, 1 << 25, NTX_E_NEGOTIATION, -ENOTSUP, "4097");
    check_export(0, 0, 4096, 1 << 25, NTX_E_PROTOCOL, -EPROTO, "minimum 0");
    check_export(0, 3, 4096, 1 << 25, NTX_E_PROTOCOL, -EPROTO, "minimum 3");
    check_export(0, 1 << 17, 1 << 17, 1 << 25, NTX_E_PROTOCOL, -EPROTO, "minimum 131072");
    check_export(0, 4096, 512, 1 << 25, NTX_E_PROTOCOL, -EPROTO, "preferred 512");
    check_export(0, 512, 5000, 1 << 25, NTX_E_PROTOCOL, -EPROTO, "preferred 5000");
    check_export(0, 4096, 4096, 4095, NTX_E_PROTOCOL, -EPROTO, "maximum 4095");
    check_export(0, 1, 0, 1 << 25, NTX_E_PROTOCOL, -EPROTO, "preferred 0");
}

int main(void)
{
    unsigned before = open_descriptors();

    RUN(test_everything_offered_is_used);
    RUN(test_the_client_says_what_the_protocol_wants);
    RUN(test_a_server_that_offers_nothing_is_used_as_it_is);
    RUN(test_unstated_block_sizes_are_512_unless_the_size_needs_less);
    RUN(test_maximum_payload_is_bounded_and_a_multiple_of_the_minimum);
    RUN(test_information_that_is_not_understood_is_skipped);
    RUN(test_contexts_named_before_an_error_do_not_count);
    RUN(test_export_name_is_used_only_when_go_is_unsupported);
    RUN(test_a_server_without_options_is_asked_by_export_name_at_once);
    RUN(test_any_split_of_the_handshake_is_understood);
    RUN(test_each_refusal_has_its_code_and_the_servers_words);
    RUN(test_a_server_may_begin_to_shut_down_at_any_option);
    RUN(test_who_is_refused_says_goodbye);
    RUN(test_error_texts_of_any_length_and_content_are_bounded_and_printable);
    RUN(test_writing_to_a_read_only_export_is_refused_and_reading_is_not);
    RUN(test_oldstyle_and_foreign_servers_are_told_apart);
    RUN(test_an_export_name_refused_by_hanging_up_is_a_refusal);
    RUN(test_sizes_that_cannot_be_are_refused);
    CHECK_EQ_U64(open_descriptors(), before); /* however an open ended, nothing is left behind */
    return 0;
}
