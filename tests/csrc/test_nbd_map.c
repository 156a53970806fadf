/* test_nbd_map.c: block status becomes extents that are whole blocks, in range, and zero only where ZERO was said. */
#include "nbd_peer.h"

#define BLOCK 4096u
#define CAPACITY 4u

struct mapping {
    struct peer peer;
    struct ntx_device *device;
    struct ntx_extent items[CAPACITY];
    struct ntx_extents list;
    struct ntx_io io;
    struct request request;
};

static void begin(struct mapping *m, uint32_t min_block, uint64_t offset, uint64_t length, size_t capacity)
{
    *m = (struct mapping){0};
    m->device = open_peer(&m->peer, true, true, min_block);
    ntx_extents_init(&m->list, m->items, capacity, offset, length);
    m->io = (struct ntx_io){.op = NTX_OP_MAP, .offset = offset, .length = length, .map = &m->list};
    submit_io(m->device, &m->io);
    push_requests(m->device);
    m->request = peer_read_request(m->peer.fd);
    CHECK_EQ_U64(m->request.command, NBD_CMD_BLOCK_STATUS);
    CHECK_EQ_U64(m->request.flags, 0);
    CHECK_EQ_U64(m->request.offset, offset);
}

/* Say the script in pieces of this size. */
static void say(struct mapping *m, struct script *s, size_t piece)
{
    struct ntx_error err;

    for (size_t at = 0; at < s->length; at += piece) {
        CHECK(ntx_device_reap(m->device) == NULL);
        peer_send(m->peer.fd, s->data + at, ntx_min64(piece, s->length - at));
        CHECK_OK(m->device->ops->advance(m->device, &err), err);
    }
    CHECK(ntx_device_reap(m->device) == &m->io);
    free_script(s);
}

static void end(struct mapping *m)
{
    ntx_close(m->device);
    peer_stop(&m->peer);
}

static void put_status(struct script *s, uint64_t cookie, uint32_t context, const uint32_t (*extents)[2], size_t count)
{
    put_chunk(s, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_BLOCK_STATUS, cookie, (uint32_t)(4 + 8 * count));
    put_u32(s, context);
    for (size_t i = 0; i < count; i++) {
        put_u32(s, extents[i][0]);
        put_u32(s, extents[i][1]);
    }
}

static void check_item(const struct mapping *m, size_t i, uint64_t offset, uint64_t length, uint64_t flags)
{
    CHECK(i < m->list.count);
    CHECK_EQ_U64(m->list.items[i].offset, offset);
    CHECK_EQ_U64(m->list.items[i].length, length);
    CHECK_EQ_U64(m->list.items[i].flags, flags);
}

static void test_zero_counts_and_hole_does_not_and_the_end_is_clipped(void)
{
    static const uint32_t extents[][2] = {{BLOCK, 0}, {BLOCK, 1}, {BLOCK, 2}, {BLOCK, 3}, {BLOCK, 4}, {99 * BLOCK, 2}};
    static const size_t pieces[] = {1, 5, 8, 1000};

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct mapping m;
        struct script s = {0};
        begin(&m, 1, BLOCK, 8 * BLOCK, CAPACITY);
        put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 6);

        say(&m, &s, pieces[i]);

        CHECK_EQ_INT(m.io.result, 0);
        CHECK_EQ_U64(m.list.count, 4);
        check_item(&m, 0, BLOCK, 2 * BLOCK, 0);
        check_item(&m, 1, 3 * BLOCK, 2 * BLOCK, NTX_EXTENT_ZERO);
        check_item(&m, 2, 5 * BLOCK, BLOCK, 0);
        check_item(&m, 3, 6 * BLOCK, 3 * BLOCK, NTX_EXTENT_ZERO);
        CHECK(ntx_extents_is_complete(&m.list));
        end(&m);
    }
}

static void test_a_short_answer_covers_less(void)
{
    static const uint32_t extents[][2] = {{BLOCK, 2}};
    struct mapping m;
    struct script s = {0};
    begin(&m, 1, 0, 8 * BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 1);

    say(&m, &s, 1000);

    CHECK_EQ_INT(m.io.result, 0);
    CHECK_EQ_U64(m.list.count, 1);
    check_item(&m, 0, 0, BLOCK, NTX_EXTENT_ZERO);
    end(&m);
}

static void test_a_full_list_covers_less_and_the_rest_is_skipped(void)
{
    static const uint32_t extents[][2] = {{BLOCK, 0}, {BLOCK, 2}, {BLOCK, 0}, {BLOCK, 0}, {BLOCK, 2}};
    struct mapping m;
    struct script s = {0};
    begin(&m, 1, 0, 8 * BLOCK, 2);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 5);

    say(&m, &s, 7);

    CHECK_EQ_INT(m.io.result, 0);
    CHECK_EQ_U64(m.list.count, 2);
    CHECK_EQ_U64(m.list.end, 2 * BLOCK);
    end(&m);
}

static void test_blocks_that_are_only_partly_zero_are_data(void)
{
    static const uint32_t extents[][2] = {{BLOCK + 100, 2}, {200, 0}, {2 * BLOCK - 300, 2}, {100, 2},
                                          {BLOCK - 1, 2},   {2, 0},   {9 * BLOCK, 2}};
    struct mapping m;
    struct script s = {0};
    begin(&m, BLOCK, 0, 8 * BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 7);

    say(&m, &s, 1000);

    CHECK_EQ_U64(m.list.count, 4);
    check_item(&m, 0, 0, BLOCK, NTX_EXTENT_ZERO);
    check_item(&m, 1, BLOCK, BLOCK, 0);
    check_item(&m, 2, 2 * BLOCK, 2 * BLOCK, NTX_EXTENT_ZERO);
    check_item(&m, 3, 4 * BLOCK, BLOCK, 0);
    CHECK_EQ_U64(m.list.end, 5 * BLOCK); /* full; the zeros after it are asked again */
    end(&m);
}

static void test_zeros_short_of_a_block_are_one_block_of_data(void)
{
    static const uint32_t extents[][2] = {{100, 2}};
    struct mapping m;
    struct script s = {0};
    begin(&m, BLOCK, 0, 8 * BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 1);

    say(&m, &s, 1000);

    CHECK_EQ_U64(m.list.count, 1);
    check_item(&m, 0, 0, BLOCK, 0);
    end(&m);
}

static void test_extents_of_4_gib_do_not_overflow(void)
{
    static const uint32_t extents[][2] = {{0xffffffff, 0}, {0xffffffff, 2}, {0xffffffff, 0}};
    struct mapping m;
    struct script s = {0};
    begin(&m, BLOCK, PEER_SIZE - BLOCK, BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 3);

    say(&m, &s, 1000);

    CHECK_EQ_U64(m.list.count, 1);
    check_item(&m, 0, PEER_SIZE - BLOCK, BLOCK, 0);
    end(&m);
}

static void test_what_32_bits_hold_is_asked_at_once(void)
{
    struct script handshake = {0};
    struct peer peer;
    struct ntx_extent items[1];
    struct ntx_extents list;
    struct ntx_io io = {.op = NTX_OP_MAP, .length = 1ull << 40, .map = &list};
    put_haggling(&handshake, true, true);
    put_export_info(&handshake, 1ull << 40, PEER_FLAGS);
    put_go_ack(&handshake);
    struct ntx_device *device = open_script(&peer, &handshake);

    ntx_extents_init(&list, items, 1, 0, 1ull << 40);
    submit_io(device, &io);
    push_requests(device);

    CHECK_EQ_U64(peer_read_request(peer.fd).length, 4 * NTX_GIB - NTX_BLOCK_SIZE);
    ntx_close(device);
    peer_stop(&peer);
    free_script(&handshake);
}

static void test_a_failed_request_leaves_the_list_as_it_was(void)
{
    static const uint32_t extents[][2] = {{BLOCK, 0}, {BLOCK, 2}};
    struct mapping m;
    struct script s = {0};
    struct ntx_error err;
    begin(&m, 1, 0, 8 * BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 1);
    say(&m, &s, 1000);
    CHECK_EQ_U64(m.list.count, 1);

    /* Ask for the rest: the answer would merge with what is there, and then fails. */
    m.io.offset = BLOCK;
    m.io.length = 7 * BLOCK;
    submit_io(m.device, &m.io);
    push_requests(m.device);
    m.request = peer_read_request(m.peer.fd);
    put_chunk(&s, 0, NBD_REPLY_TYPE_BLOCK_STATUS, m.request.cookie, 4 + 16);
    put_u32(&s, PEER_CONTEXT);
    for (unsigned i = 0; i < 2; i++) {
        put_u32(&s, extents[i][0]);
        put_u32(&s, extents[i][1]);
    }
    peer_send(m.peer.fd, s.data, s.length);
    CHECK_OK(m.device->ops->advance(m.device, &err), err);
    CHECK_EQ_U64(m.list.end, 3 * BLOCK);
    free_script(&s);
    put_error(&s, NBD_REPLY_FLAG_DONE, m.request.cookie, NBD_EIO, "");
    say(&m, &s, 1000);

    CHECK_EQ_INT(m.io.result, -EIO);
    CHECK_EQ_INT(m.device->error.class, NTX_E_REPLY);
    CHECK_EQ_U64(m.list.count, 1);
    CHECK_EQ_U64(m.list.end, BLOCK);
    check_item(&m, 0, 0, BLOCK, 0);
    end(&m);
}

static void test_a_server_without_the_context_gives_one_data_extent_at_once(void)
{
    for (int is_structured = 0; is_structured < 2; is_structured++) {
        struct peer peer;
        struct ntx_device *device = open_peer(&peer, is_structured, false, 1);
        struct ntx_extent items[1];
        struct ntx_extents list;
        struct ntx_io io = {.op = NTX_OP_MAP, .offset = BLOCK, .length = BLOCK, .map = &list};

        ntx_extents_init(&list, items, 1, BLOCK, BLOCK);
        submit_io(device, &io);

        CHECK(ntx_device_reap(device) == &io);
        CHECK_EQ_INT(io.result, 0);
        CHECK_EQ_U64(list.count, 1);
        CHECK_EQ_U64(items[0].flags, 0);
        CHECK_EQ_U64(items[0].offset, BLOCK);
        CHECK(ntx_extents_is_complete(&list));
        CHECK_EQ_INT(device->events, 0);
        ntx_close(device);
        peer_stop(&peer);
    }
}

/* ------------------------------------------------------------------------------------------------- lies */

static void check_lie(struct mapping *m, struct script *s, const char *part)
{
    struct ntx_error err = {0};

    peer_send(m->peer.fd, s->data, s->length);
    while (m->device->ops->advance(m->device, &err) == 0)
        CHECK(ntx_device_reap(m->device) == NULL);
    CHECK_EQ_INT(err.class, NTX_E_PROTOCOL);
    CHECK_CONTAINS(err.text, part);
    free_script(s);
    end(m);
}

static void test_impossible_lengths_end_the_connection(void)
{
    static const uint32_t lengths[] = {0, 3, 4, 5, 11, 13, 0xffffffff, 4 + 8 * (NBD_MAX_STATUS_DESCRIPTORS + 1)};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct mapping m;
        struct script s = {0};
        begin(&m, 1, 0, BLOCK, CAPACITY);

        put_chunk(&s, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_BLOCK_STATUS, m.request.cookie, lengths[i]);

        check_lie(&m, &s, "block status chunk of");
    }
}

static void test_other_contexts_and_empty_extents_end_the_connection(void)
{
    static const uint32_t extents[][2] = {{BLOCK, 0}, {0, 2}};
    struct mapping m;
    struct script s = {0};
    begin(&m, 1, 0, 2 * BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT + 1, extents, 1);
    check_lie(&m, &s, "not agreed upon");

    begin(&m, 1, 0, 2 * BLOCK, CAPACITY);
    put_status(&s, m.request.cookie, PEER_CONTEXT, extents, 2);
    check_lie(&m, &s, "no length");
}

static void test_two_or_no_status_chunks_end_the_connection(void)
{
    struct mapping m;
    struct script s = {0};
    begin(&m, 1, 0, 2 * BLOCK, CAPACITY);
    for (unsigned i = 0; i < 2; i++) {
        put_chunk(&s, 0, NBD_REPLY_TYPE_BLOCK_STATUS, m.request.cookie, 12);
        put_u32(&s, PEER_CONTEXT);
        put_u64(&s, 0x0000100000000000);
    }
    check_lie(&m, &s, "second block status");

    begin(&m, 1, 0, 2 * BLOCK, CAPACITY);
    put_none(&s, m.request.cookie);
    check_lie(&m, &s, "without block status");

    begin(&m, 1, 0, 2 * BLOCK, CAPACITY);
    put_simple(&s, 0, m.request.cookie);
    check_lie(&m, &s, "without block status");
}

int main(void)
{
    RUN(test_zero_counts_and_hole_does_not_and_the_end_is_clipped);
    RUN(test_a_short_answer_covers_less);
    RUN(test_a_full_list_covers_less_and_the_rest_is_skipped);
    RUN(test_blocks_that_are_only_partly_zero_are_data);
    RUN(test_zeros_short_of_a_block_are_one_block_of_data);
    RUN(test_extents_of_4_gib_do_not_overflow);
    RUN(test_what_32_bits_hold_is_asked_at_once);
    RUN(test_a_failed_request_leaves_the_list_as_it_was);
    RUN(test_a_server_without_the_context_gives_one_data_extent_at_once);
    RUN(test_impossible_lengths_end_the_connection);
    RUN(test_other_contexts_and_empty_extents_end_the_connection);
    RUN(test_two_or_no_status_chunks_end_the_connection);
    return 0;
}
