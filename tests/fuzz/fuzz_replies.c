/*
 * fuzz_replies.c: whatever a server answers to one request of each kind.
 *
 *   byte 0    bit 0: replies are structured; bit 1: with the allocation context; the rest: length of the parts
 *   byte 1    which requests are in flight
 *   then      what comes; the cookies are those of slots 0 to 3
 */
#include "error.h"
#include "fuzz_stream.h"
#include "nbd_proto.h"
#include "nbd_reply.h"

#include <errno.h>

#define LENGTH 8192u
#define START (1ull << 32)
#define UNTOUCHED 0x5a
#define CONTEXT 1u

enum { READ, WRITE, MAP, FLUSH, REQUESTS };

struct client {
    struct ntx_device device;
    struct ntx_nbd_export export;
    struct ntx_nbd_slots slots;
    struct ntx_nbd_rx rx;
    struct ntx_io ios[REQUESTS];
    struct ntx_extent extents[4];
    struct ntx_extents map;
    uint8_t *data;
};

static void submit(struct client *client, unsigned kind)
{
    static const struct {
        enum ntx_op op;
        uint16_t command;
    } requests[] = {{NTX_OP_READ, NBD_CMD_READ},
                    {NTX_OP_WRITE, NBD_CMD_WRITE},
                    {NTX_OP_MAP, NBD_CMD_BLOCK_STATUS},
                    {NTX_OP_FLUSH, NBD_CMD_FLUSH}};
    struct ntx_io *io = &client->ios[kind];

    *io = (struct ntx_io){.op = requests[kind].op, .offset = START, .length = LENGTH, .data = client->data};
    struct ntx_nbd_slot *slot = ntx_nbd_slots_acquire(&client->slots, io, requests[kind].command);
    slot->is_sent = true;
    client->device.in_flight++;
    if (kind == FLUSH)
        return;
    slot->offset = START;
    slot->length = LENGTH;
    if (kind == MAP) {
        io->map = &client->map;
        slot->map_count = 0;
        slot->map_end = START;
    }
}

static void check_map(const struct client *client, const struct ntx_io *io)
{
    uint64_t at = START;

    MUST(client->map.count <= 4);
    for (size_t i = 0; i < client->map.count; i++) {
        MUST(client->extents[i].offset == at && client->extents[i].length > 0);
        at += client->extents[i].length;
    }
    MUST(at == client->map.end && at <= START + LENGTH);
    MUST(io->result == 0 ? at > START : at == START);
}

static void check_completed(struct client *client)
{
    struct ntx_io *io;

    while ((io = ntx_device_reap(&client->device)) != NULL) {
        MUST(io >= client->ios && io < client->ios + REQUESTS && io->owner == NULL);
        io->owner = client; /* only once */
        MUST(io->result <= 0);
        if (io->op == NTX_OP_MAP)
            check_map(client, io);
        /* The last byte of what was read came from the server, for it never says this one (below). */
        if (io->op == NTX_OP_READ && io->result == 0)
            for (unsigned i = 0; i < LENGTH; i++)
                MUST(client->data[i] != UNTOUCHED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct client client;
    struct fuzz_stream fuzz;
    struct ntx_error err = {0};

    if (size < 2)
        return 0;
    client = (struct client){.device = {.info = {.name = "nbd://fuzz"}}};
    client.export = (struct ntx_nbd_export){.min_block = 512, .is_structured = data[0] & 1, .allocation_id = CONTEXT};
    client.data = malloc(LENGTH);
    memset(client.data, UNTOUCHED, LENGTH);
    ntx_extents_init(&client.map, client.extents, 4, START, LENGTH);
    ntx_nbd_slots_init(&client.slots);
    ntx_nbd_rx_init(&client.rx, &client.device, &client.slots, &client.export);
    for (unsigned kind = 0; kind < REQUESTS; kind++)
        if ((data[1] >> kind & 1) != 0)
            submit(&client, kind);

    /* What was read is told from what was not: the server never says UNTOUCHED. */
    uint8_t *said = malloc(size);
    for (size_t i = 2; i < size; i++)
        said[i - 2] = data[i] == UNTOUCHED ? UNTOUCHED + 1 : data[i];
    fuzz_stream_init(&fuzz, said, size - 2, 1u + data[0] / 2);
    int result;
    do {
        result = ntx_nbd_reply_receive(&client.rx, &fuzz.stream, &err);
        check_completed(&client);
        MUST(client.slots.used == client.device.in_flight);
    } while (result == 0);
    MUST(result == -EPROTO || result == -ECONNRESET || result == -ESHUTDOWN);
    MUST(result == err.code && err.text[0] != '\0');
    free(said);
    free(client.data);
    return 0;
}
