/* test_nbd_hostile.c: a server that lies about lengths, places or requests loses the connection, and nothing else. */
#include "nbd_coverage.h"
#include "nbd_peer.h"

#define BLOCK 4096u
#define START (100ull * BLOCK)
#define LENGTH (4u * BLOCK)

/* What a lie is told to: a read, a zero and a block status request are in flight. */
struct victim {
    struct peer peer;
    struct ntx_device *device;
    uint8_t *data; /* of the read; on the heap, so that a write past it is found */
    struct ntx_extent extents[4];
    struct ntx_extents map;
    struct ntx_io read, zero, status;
    uint64_t read_cookie, zero_cookie, status_cookie;
};

static void begin(struct victim *v, bool is_structured)
{
    *v = (struct victim){.data = malloc(LENGTH)};
    v->device = open_peer(&v->peer, is_structured, is_structured, 1);
    v->read = (struct ntx_io){.op = NTX_OP_READ, .offset = START, .length = LENGTH, .data = v->data};
    v->zero = (struct ntx_io){.op = NTX_OP_ZERO, .offset = START, .length = LENGTH};
    v->status = (struct ntx_io){.op = NTX_OP_MAP, .offset = START, .length = LENGTH, .map = &v->map};
    ntx_extents_init(&v->map, v->extents, 4, START, LENGTH);
    submit_io(v->device, &v->read);
    submit_io(v->device, &v->zero);
    if (is_structured)
        submit_io(v->device, &v->status);
    push_requests(v->device);
    v->read_cookie = peer_read_request(v->peer.fd).cookie;
    v->zero_cookie = peer_read_request(v->peer.fd).cookie;
    if (is_structured)
        v->status_cookie = peer_read_request(v->peer.fd).cookie;
}

static void end(struct victim *v)
{
    ntx_close(v->device);
    peer_stop(&v->peer);
    free(v->data);
}

/* Say the script and expect the connection to end for this reason.  More bytes than the lie must not matter. */
static void check_lie(struct victim *v, struct script *s, const char *part)
{
    struct ntx_error err = {0}, again = {0};

    peer_send(v->peer.fd, s->data, s->length);
    CHECK_EQ_INT(v->device->ops->advance(v->device, &err), -EPROTO);
    CHECK_EQ_INT(err.class, NTX_E_PROTOCOL);
    CHECK_CONTAINS(err.text, "nbd+unix:///disk?socket=peer.sock: the server broke the protocol: ");
    CHECK_CONTAINS(err.text, part);
    CHECK(ntx_device_reap(v->device) == NULL);
    CHECK_EQ_INT(v->device->ops->advance(v->device, &again), -EPROTO);
    CHECK_EQ_STR(again.text, err.text);
    free_script(s);
    end(v);
}

static void put_payload(struct script *s, uint64_t offset, size_t length)
{
    put_u64(s, offset);
    put_fill(s, 0xaa, length);
}

/* ---------------------------------------------------------------------------------------------- headers */

static void test_a_wrong_magic_ends_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, true);

    put_fill(&s, 0x67, 16);

    check_lie(&v, &s, "wrong magic");
}

static void test_a_structured_reply_that_was_not_agreed_upon_ends_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, false);

    put_none(&s, v.zero_cookie);

    check_lie(&v, &s, "structured reply, though");
}

static void test_a_simple_reply_to_a_read_ends_a_structured_connection(void)
{
    for (uint32_t error = 0; error <= NBD_EIO; error += NBD_EIO) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_simple(&s, error, v.read_cookie);

        check_lie(&v, &s, "simple reply to a read");
    }
}

static void test_a_simple_reply_after_chunks_ends_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, true);

    put_error(&s, 0, v.zero_cookie, NBD_EIO, "");
    put_simple(&s, 0, v.zero_cookie);

    check_lie(&v, &s, "after chunks");
}

static void test_unknown_cookies_end_the_connection(void)
{
    static const uint64_t changes[] = {1, 63, 64, 0xffffffff, 1ull << 32, 1ull << 63, UINT64_MAX};

    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        for (int is_structured = 0; is_structured < 2; is_structured++) {
            struct victim v;
            struct script s = {0};
            begin(&v, is_structured);
            uint64_t cookie = v.read_cookie ^ changes[i];
            if (cookie == v.zero_cookie)
                cookie ^= 4;

            if (is_structured)
                put_data(&s, 0, cookie, START, v.data, BLOCK);
            else
                put_simple(&s, 0, cookie);

            check_lie(&v, &s, "no request in flight");
        }
}

static void test_an_answer_given_twice_ends_the_connection(void)
{
    struct victim v;
    struct ntx_error err;
    struct script s = {0};
    begin(&v, true);
    put_simple(&s, 0, v.zero_cookie);
    peer_send(v.peer.fd, s.data, s.length);
    CHECK_OK(v.device->ops->advance(v.device, &err), err);
    CHECK(ntx_device_reap(v.device) == &v.zero);

    /* The slot is in use again: its cookie is another one. */
    submit_io(v.device, &v.zero);
    push_requests(v.device);
    CHECK(peer_read_request(v.peer.fd).cookie != v.zero_cookie);

    check_lie(&v, &s, "no request in flight");
}

static void test_an_answer_to_a_request_that_is_not_out_yet_ends_the_connection(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(8 * NTX_MIB);
    struct ntx_io write = {.op = NTX_OP_WRITE, .length = 8 * NTX_MIB, .data = data};
    struct ntx_error err;
    struct script s = {0};
    submit_io(device, &write);
    push_requests(device);
    CHECK_EQ_INT(device->events, POLLIN | POLLOUT);

    put_simple(&s, 0, peer_read_request(peer.fd).cookie);
    peer_send(peer.fd, s.data, s.length);

    CHECK_EQ_INT(device->ops->advance(device, &err), -EPROTO);
    CHECK_CONTAINS(err.text, "no request in flight");
    ntx_close(device);
    peer_stop(&peer);
    free_script(&s);
    free(data);
}

/* ----------------------------------------------------------------------------------------------- chunks */

static void test_unknown_chunks_end_the_connection(void)
{
    static const uint16_t types[] = {3, 4, 6, 0x7fff, NBD_REPLY_TYPE_BLOCK_STATUS};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_chunk(&s, NBD_REPLY_FLAG_DONE, types[i], v.read_cookie, 12);
        put_fill(&s, 0, 12);

        check_lie(&v, &s, "does not answer the request");
    }
}

static void test_content_in_a_reply_to_a_write_ends_the_connection(void)
{
    for (uint16_t type = NBD_REPLY_TYPE_OFFSET_DATA; type <= NBD_REPLY_TYPE_OFFSET_HOLE; type++) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_chunk(&s, 0, type, v.zero_cookie, 12);
        put_payload(&s, START, 4);

        check_lie(&v, &s, "does not answer the request");
    }
}

static void test_impossible_chunk_lengths_end_the_connection(void)
{
    static const struct {
        uint16_t type;
        uint32_t length;
        const char *part;
    } table[] = {
        {NBD_REPLY_TYPE_NONE, 1, "empty chunk"},
        {NBD_REPLY_TYPE_NONE, 0, "empty chunk"}, /* without DONE */
        {NBD_REPLY_TYPE_OFFSET_DATA, 0, "data chunk"},
        {NBD_REPLY_TYPE_OFFSET_DATA, 8, "data chunk"},
        {NBD_REPLY_TYPE_OFFSET_DATA, LENGTH + 9, "data chunk"},
        {NBD_REPLY_TYPE_OFFSET_DATA, 0xffffffff, "data chunk"},
        {NBD_REPLY_TYPE_OFFSET_HOLE, 11, "hole chunk"},
        {NBD_REPLY_TYPE_OFFSET_HOLE, 13, "hole chunk"},
        {NBD_REPLY_TYPE_OFFSET_HOLE, 0, "hole chunk"},
        {NBD_REPLY_TYPE_ERROR_BIT + 1, 5, "impossible length"},
        {NBD_REPLY_TYPE_ERROR_BIT + 1, NBD_MAX_ERROR_CHUNK + 1, "impossible length"},
        {NBD_REPLY_TYPE_ERROR_BIT + 1, 0xffffffff, "impossible length"},
        {NBD_REPLY_TYPE_ERROR_BIT + 99, 0, "impossible length"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_chunk(&s, 0, table[i].type, v.read_cookie, table[i].length);

        check_lie(&v, &s, table[i].part);
    }
}

static void test_content_outside_of_the_request_ends_the_connection(void)
{
    static const struct {
        uint64_t offset;
        uint32_t length;
    } table[] = {{START - 1, BLOCK},
                 {0, 1},
                 {START + LENGTH, 1},
                 {START + LENGTH - 1, 2},
                 {START + 1, LENGTH},
                 {UINT64_MAX, 1},
                 {UINT64_MAX - BLOCK + 2, BLOCK},
                 {START + (1ull << 32), 1},
                 {START - (1ull << 32), 1}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);
        put_chunk(&s, 0, NBD_REPLY_TYPE_OFFSET_DATA, v.read_cookie, 8 + table[i].length);
        put_payload(&s, table[i].offset, table[i].length);
        check_lie(&v, &s, "outside of the request");

        begin(&v, true);
        put_hole(&s, 0, v.read_cookie, table[i].offset, table[i].length);
        check_lie(&v, &s, "outside of the request");
    }
}

static void test_holes_of_no_or_enormous_length_end_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, true);
    put_hole(&s, 0, v.read_cookie, START, 0);
    check_lie(&v, &s, "hole of no length");

    begin(&v, true);
    put_hole(&s, 0, v.read_cookie, START, 0xffffffff);
    check_lie(&v, &s, "outside of the request");
}

static void test_overlapping_content_ends_the_connection(void)
{
    for (uint64_t offset = START; offset < START + 2 * BLOCK; offset += BLOCK - 1) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_chunk(&s, 0, NBD_REPLY_TYPE_OFFSET_DATA, v.read_cookie, 8 + 2 * BLOCK);
        put_payload(&s, START, 2 * BLOCK);
        put_hole(&s, NBD_REPLY_FLAG_DONE, v.read_cookie, offset, BLOCK);

        check_lie(&v, &s, "overlaps");
    }
}

static void test_scattered_content_ends_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, true);

    for (uint32_t i = 0; i <= NTX_NBD_MAX_INTERVALS; i++)
        put_hole(&s, 0, v.read_cookie, START + 2 * i, 1);

    check_lie(&v, &s, "scattered");
}

static void test_a_read_that_is_not_covered_ends_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, true);
    put_none(&s, v.read_cookie);
    check_lie(&v, &s, "does not cover");

    begin(&v, true);
    put_hole(&s, NBD_REPLY_FLAG_DONE, v.read_cookie, START, LENGTH - 1);
    check_lie(&v, &s, "does not cover");

    begin(&v, true);
    put_hole(&s, 0, v.read_cookie, START, BLOCK);
    put_hole(&s, 0, v.read_cookie, START + 2 * BLOCK, 2 * BLOCK);
    put_none(&s, v.read_cookie);
    check_lie(&v, &s, "does not cover");
}

/* ----------------------------------------------------------------------------------------------- errors */

static void test_error_texts_longer_than_their_chunk_end_the_connection(void)
{
    static const struct {
        uint16_t type, text_length;
        uint32_t length;
    } table[] = {{NBD_REPLY_TYPE_ERROR_BIT + 1, 1, 6},
                 {NBD_REPLY_TYPE_ERROR_BIT + 1, 0xffff, 100},
                 {NBD_REPLY_TYPE_ERROR_OFFSET, 0, 13},
                 {NBD_REPLY_TYPE_ERROR_OFFSET, 1, 14},
                 {NBD_REPLY_TYPE_ERROR_BIT + 77, 5, 10}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_chunk(&s, NBD_REPLY_FLAG_DONE, table[i].type, v.zero_cookie, table[i].length);
        put_u32(&s, NBD_EIO);
        put_u16(&s, table[i].text_length);
        put_fill(&s, 'x', table[i].length - 6);

        check_lie(&v, &s, "text does not fit");
    }
}

static void test_errors_of_nothing_or_elsewhere_end_the_connection(void)
{
    static const uint64_t offsets[] = {START - 1, START + LENGTH, 0, UINT64_MAX};

    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        struct victim v;
        struct script s = {0};
        begin(&v, true);

        put_error_offset(&s, NBD_REPLY_FLAG_DONE, v.read_cookie, NBD_EIO, offsets[i]);

        check_lie(&v, &s, "outside of the request");
    }

    struct victim v;
    struct script s = {0};
    begin(&v, true);
    put_error(&s, NBD_REPLY_FLAG_DONE, v.zero_cookie, 0, "");
    check_lie(&v, &s, "without an error");
}

static void test_errors_without_end_end_the_connection(void)
{
    struct victim v;
    struct script s = {0};
    begin(&v, true);

    for (unsigned i = 0; i <= NBD_MAX_ERROR_CHUNKS; i++)
        put_error(&s, 0, v.zero_cookie, NBD_EIO, "");

    /* One turn of the device takes a bounded number of bytes while a read is in flight: give it several. */
    struct ntx_error err = {0};
    peer_send(v.peer.fd, s.data, s.length);
    for (unsigned turn = 0; turn < 100 && v.device->ops->advance(v.device, &err) == 0; turn++)
        continue;
    CHECK_EQ_INT(err.class, NTX_E_PROTOCOL);
    CHECK_CONTAINS(err.text, "without end");
    free_script(&s);
    end(&v);
}

/* ----------------------------------------------------------------------------------------- disconnection */

static void test_a_server_that_leaves_at_any_byte_of_a_reply_is_a_clean_error(void)
{
    struct script s = {0};
    size_t length = 1;

    for (size_t cut = 0; cut<length; cut += cut> 300 ? 997 : 1) {
        struct victim v;
        struct ntx_error err = {0};
        begin(&v, true);
        free_script(&s);
        put_error_offset(&s, 0, v.zero_cookie, NBD_EIO, START);
        put_data(&s, 0, v.read_cookie, START + BLOCK, v.data, 64);
        put_hole(&s, 0, v.read_cookie, START, BLOCK);
        put_chunk(&s, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, v.read_cookie, 8 + LENGTH - BLOCK - 64);
        put_payload(&s, START + BLOCK + 64, LENGTH - BLOCK - 64);
        length = s.length;

        peer_send(v.peer.fd, s.data, cut);
        shutdown(v.peer.fd, SHUT_WR);
        while (v.device->ops->advance(v.device, &err) == 0)
            CHECK(ntx_device_reap(v.device) == NULL);

        CHECK_EQ_INT(err.code, -ECONNRESET);
        CHECK_EQ_INT(err.class, NTX_E_DEVICE);
        CHECK_CONTAINS(err.text, "closed the connection with 3 requests in flight");
        end(&v);
    }
    free_script(&s);
}

static void test_a_server_that_leaves_while_we_send_is_a_clean_error(void)
{
    struct peer peer;
    struct ntx_device *device = open_peer(&peer, true, true, 1);
    uint8_t *data = new_sample(8 * NTX_MIB);
    struct ntx_io write = {.op = NTX_OP_WRITE, .length = 8 * NTX_MIB, .data = data};
    struct ntx_error err;
    submit_io(device, &write);
    push_requests(device);

    close(peer.fd);
    peer.fd = -1;

    CHECK_EQ_INT(device->ops->advance(device, &err), -ECONNRESET);
    CHECK_CONTAINS(err.text, "closed the connection with 1 requests in flight");
    ntx_close(device);
    peer_stop(&peer);
    free(data);
}

static void test_answers_that_came_before_the_server_left_are_kept(void)
{
    struct victim v;
    struct ntx_error err;
    struct script s = {0};
    begin(&v, true);
    put_simple(&s, 0, v.zero_cookie);
    peer_send(v.peer.fd, s.data, s.length);
    close(v.peer.fd);
    v.peer.fd = -1;

    int result = v.device->ops->advance(v.device, &err);
    if (result == 0)
        result = v.device->ops->advance(v.device, &err);

    CHECK_EQ_INT(result, -ECONNRESET);
    CHECK(ntx_device_reap(v.device) == &v.zero);
    free_script(&s);
    end(&v);
}

int main(void)
{
    RUN(test_a_wrong_magic_ends_the_connection);
    RUN(test_a_structured_reply_that_was_not_agreed_upon_ends_the_connection);
    RUN(test_a_simple_reply_to_a_read_ends_a_structured_connection);
    RUN(test_a_simple_reply_after_chunks_ends_the_connection);
    RUN(test_unknown_cookies_end_the_connection);
    RUN(test_an_answer_given_twice_ends_the_connection);
    RUN(test_an_answer_to_a_request_that_is_not_out_yet_ends_the_connection);
    RUN(test_unknown_chunks_end_the_connection);
    RUN(test_content_in_a_reply_to_a_write_ends_the_connection);
    RUN(test_impossible_chunk_lengths_end_the_connection);
    RUN(test_content_outside_of_the_request_ends_the_connection);
    RUN(test_holes_of_no_or_enormous_length_end_the_connection);
    RUN(test_overlapping_content_ends_the_connection);
    RUN(test_scattered_content_ends_the_connection);
    RUN(test_a_read_that_is_not_covered_ends_the_connection);
    RUN(test_error_texts_longer_than_their_chunk_end_the_connection);
    RUN(test_errors_of_nothing_or_elsewhere_end_the_connection);
    RUN(test_errors_without_end_end_the_connection);
    RUN(test_a_server_that_leaves_at_any_byte_of_a_reply_is_a_clean_error);
    RUN(test_a_server_that_leaves_while_we_send_is_a_clean_error);
    RUN(test_answers_that_came_before_the_server_left_are_kept);
    return 0;
}
