/*
 * fuzz_block_status.c: any extents in a well-formed block status reply, against a list of bytes that are zero.
 *
 *   byte 0    the minimum block, as a power of two
 *   byte 1    how many extents there is room for
 *   then      4 bytes an extent: length (16 bits), its power of two, flags
 */
#include "error.h"
#include "fuzz_stream.h"
#include "nbd_proto.h"
#include "nbd_reply.h"

#include <errno.h>

#define LENGTH 16384u
#define START (3ull << 40)
#define CONTEXT 7u
#define MOST_EXTENTS 8u
#define MOST_DESCRIPTORS 256u
#define EXTENT_SIZE 4u
#define REPLY_SIZE (NBD_CHUNK_HEADER_SIZE + NBD_STATUS_CONTEXT_SIZE + MOST_DESCRIPTORS * NBD_STATUS_DESCRIPTOR_SIZE)

static void put_header(uint8_t *to, uint32_t payload)
{
    ntx_put32(to, NBD_STRUCTURED_REPLY_MAGIC);
    ntx_put16(to + 4, NBD_REPLY_FLAG_DONE);
    ntx_put16(to + 6, NBD_REPLY_TYPE_BLOCK_STATUS);
    ntx_put64(to + 8, 1ull << 32); /* the first request in the first slot */
    ntx_put32(to + 16, payload);
    ntx_put32(to + 20, CONTEXT);
}

/* Write the reply, and mark in zeros what it says is zero; returns its length. */
static size_t make_reply(const uint8_t *data, size_t count, uint8_t *reply, uint8_t zeros[LENGTH])
{
    uint8_t *at = reply + NBD_CHUNK_HEADER_SIZE + NBD_STATUS_CONTEXT_SIZE;
    uint64_t position = 0;

    put_header(reply, (uint32_t)(NBD_STATUS_CONTEXT_SIZE + count * NBD_STATUS_DESCRIPTOR_SIZE));
    for (; count > 0; count--, data += EXTENT_SIZE, at += NBD_STATUS_DESCRIPTOR_SIZE) {
        uint32_t length = (1u + ntx_get16(data)) << (data[2] % 16);
        ntx_put32(at, length);
        ntx_put32(at + 4, data[3]);
        for (uint64_t i = position; i < ntx_min64(position + length, LENGTH); i++)
            zeros[i] = (data[3] & NBD_STATE_ZERO) != 0;
        position += length;
    }
    return (size_t)(at - reply);
}

static void check_map(const struct ntx_extents *map, const uint8_t zeros[LENGTH], uint32_t min_block)
{
    uint64_t at = START;

    MUST(map->count > 0 && map->count <= map->capacity && map->end <= START + LENGTH);
    for (size_t i = 0; i < map->count; i++) {
        const struct ntx_extent *extent = &map->items[i];
        MUST(extent->offset == at && extent->length > 0);
        at += extent->length;
        MUST(at % min_block == 0);
        for (uint64_t byte = extent->offset; byte < at && extent->flags == NTX_EXTENT_ZERO; byte++)
            MUST(zeros[byte - START] != 0);
    }
    MUST(at == map->end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ntx_nbd_slots slots;
    static struct ntx_nbd_rx rx;
    uint8_t reply[REPLY_SIZE], zeros[LENGTH] = {0};
    struct ntx_extent extents[MOST_EXTENTS];
    struct ntx_extents map;
    struct ntx_device device = {.info = {.name = "nbd://fuzz"}, .in_flight = 1};
    struct ntx_error err = {0};
    struct fuzz_stream fuzz;

    if (size < 2 + EXTENT_SIZE)
        return 0;
    struct ntx_nbd_export export = {
        .min_block = 1u << data[0] % 13, .is_structured = true, .has_allocation = true, .allocation_id = CONTEXT};
    struct ntx_io io = {.op = NTX_OP_MAP, .offset = START, .length = LENGTH, .map = &map};
    ntx_extents_init(&map, extents, 1 + data[1] % MOST_EXTENTS, START, LENGTH);
    ntx_nbd_slots_init(&slots);
    ntx_nbd_rx_init(&rx, &device, &slots, &export);
    struct ntx_nbd_slot *slot = ntx_nbd_slots_acquire(&slots, &io, NBD_CMD_BLOCK_STATUS);
    slot->is_sent = true;
    slot->offset = slot->map_end = START;
    slot->length = LENGTH;

    size_t count = ntx_min64((size - 2) / EXTENT_SIZE, MOST_DESCRIPTORS);
    size_t length = make_reply(data + 2, count, reply, zeros);
    fuzz_stream_init(&fuzz, reply, length, 1u + data[0] / 13);
    int result;
    do
        result = ntx_nbd_reply_receive(&rx, &fuzz.stream, &err);
    while (result == 0);
    MUST(result == -ECONNRESET); /* which is after the reply */
    MUST(ntx_device_reap(&device) == &io && io.result == 0);
    check_map(&map, zeros, export.min_block);
    return 0;
}
