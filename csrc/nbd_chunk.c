/* nbd_chunk.c: see nbd_chunk.h.  Section "Structured reply types" of proto.md, and distrust of all of it. */
#include "nbd_chunk.h"

#include "bytes.h"
#include "nbd_proto.h"
#include "nbd_text.h"

#include <errno.h>

/* -------------------------------------------------------------------------------------------- beginnings */

int ntx_nbd_chunk_begin(struct ntx_nbd_rx *rx, struct ntx_error *err)
{
    bool is_read = rx->slot->command == NBD_CMD_READ, is_status = rx->slot->command == NBD_CMD_BLOCK_STATUS;

    if ((rx->chunk_type & NBD_REPLY_TYPE_ERROR_BIT) != 0) {
        if (rx->left < NBD_ERROR_SIZE || rx->left > NBD_MAX_ERROR_CHUNK)
            return ntx_nbd_rx_broken(rx, err, "an error chunk of impossible length");
        if (rx->slot->error_chunks++ == NBD_MAX_ERROR_CHUNKS)
            return ntx_nbd_rx_broken(rx, err, "error chunks without end");
        rx->state = NTX_NBD_RX_ERROR;
        return 0;
    }
    if (rx->chunk_type == NBD_REPLY_TYPE_NONE) {
        if (rx->left != 0 || !rx->is_last)
            return ntx_nbd_rx_broken(rx, err, "an empty chunk that is not the last or not empty");
        return ntx_nbd_chunk_end(rx, err);
    }
    if (rx->chunk_type == NBD_REPLY_TYPE_OFFSET_DATA && is_read) {
        if (rx->left <= NBD_CHUNK_OFFSET_SIZE || rx->left - NBD_CHUNK_OFFSET_SIZE > rx->slot->length)
            return ntx_nbd_rx_broken(rx, err, "a data chunk that is empty or longer than the request");
        rx->state = NTX_NBD_RX_OFFSET;
        return 0;
    }
    if (rx->chunk_type == NBD_REPLY_TYPE_OFFSET_HOLE && is_read) {
        if (rx->left != NBD_HOLE_SIZE)
            return ntx_nbd_rx_broken(rx, err, "a hole chunk of the wrong length");
        rx->state = NTX_NBD_RX_HOLE;
        return 0;
    }
    if (rx->chunk_type == NBD_REPLY_TYPE_BLOCK_STATUS && is_status) {
        uint32_t descriptors = rx->left - NBD_STATUS_CONTEXT_SIZE;
        if (rx->left <= NBD_STATUS_CONTEXT_SIZE || descriptors % NBD_STATUS_DESCRIPTOR_SIZE != 0)
            return ntx_nbd_rx_broken(rx, err, "a block status chunk of impossible length");
        if (descriptors / NBD_STATUS_DESCRIPTOR_SIZE > NBD_MAX_STATUS_DESCRIPTORS)
            return ntx_nbd_rx_broken(rx, err, "a block status chunk of more than 1048576 extents");
        if (rx->slot->has_status)
            return ntx_nbd_rx_broken(rx, err, "a second block status chunk in one reply");
        rx->state = NTX_NBD_RX_CONTEXT;
        return 0;
    }
    return ntx_nbd_rx_broken(rx, err, "a chunk type that does not answer the request");
}

size_t ntx_nbd_chunk_piece(const struct ntx_nbd_rx *rx)
{
    switch (rx->state) {
    case NTX_NBD_RX_OFFSET:
        return NBD_CHUNK_OFFSET_SIZE;
    case NTX_NBD_RX_HOLE:
        return NBD_HOLE_SIZE;
    case NTX_NBD_RX_CONTEXT:
        return NBD_STATUS_CONTEXT_SIZE;
    case NTX_NBD_RX_DESCRIPTORS:
        return NBD_STATUS_DESCRIPTOR_SIZE;
    case NTX_NBD_RX_ERROR:
        return rx->left;
    case NTX_NBD_RX_HEADER:
    case NTX_NBD_RX_DATA:
        break;
    }
    return 0;
}

/* ----------------------------------------------------------------------------------------------- reading */

/* Record that [offset, offset + length) of the device is answered; *at becomes its place in the io's buffer. */
static int cover(struct ntx_nbd_rx *rx, uint64_t offset, uint32_t length, uint8_t **at, struct ntx_error *err)
{
    struct ntx_nbd_slot *slot = rx->slot;

    if (offset < slot->offset || offset - slot->offset > slot->length ||
        length > slot->length - (offset - slot->offset))
        return ntx_nbd_rx_broken(rx, err, "a chunk outside of the request");

    uint32_t start = (uint32_t)(offset - slot->offset);
    int result = ntx_nbd_coverage_add(&slot->coverage, start, start + length);
    if (result == -EEXIST)
        return ntx_nbd_rx_broken(rx, err, "a chunk that overlaps an earlier one");
    if (result != 0)
        return ntx_nbd_rx_broken(rx, err, "a reply in too many scattered chunks");
    *at = (uint8_t *)slot->io->data + start;
    return 0;
}

static int take_offset(struct ntx_nbd_rx *rx, const uint8_t *bytes, struct ntx_error *err)
{
    rx->state = NTX_NBD_RX_DATA;
    return cover(rx, ntx_get64(bytes), rx->left, &rx->data, err);
}

static int take_hole(struct ntx_nbd_rx *rx, const uint8_t *bytes, struct ntx_error *err)
{
    uint32_t length = ntx_get32(bytes + 8);
    uint8_t *at;

    if (length == 0)
        return ntx_nbd_rx_broken(rx, err, "a hole of no length");
    int result = cover(rx, ntx_get64(bytes), length, &at, err);
    if (result != 0)
        return result;
    memset(at, 0, length);
    return ntx_nbd_chunk_end(rx, err);
}

/* ------------------------------------------------------------------------------------------ block status */

static int take_context(struct ntx_nbd_rx *rx, const uint8_t *bytes, struct ntx_error *err)
{
    if (ntx_get32(bytes) != rx->export->allocation_id)
        return ntx_nbd_rx_broken(rx, err, "block status of a context that was not agreed upon");
    rx->slot->has_status = true;
    rx->position = rx->slot->offset;
    rx->state = NTX_NBD_RX_DESCRIPTORS;
    return 0;
}

/*
 * A server should, but need not, cut extents at its minimum block.  A block that is only partly zero is data:
 *
 *   server  |--zero--|data|--zero--|         blocks  |    |    |    |    |
 *   list    |-zero-|--data--|-zero-|
 *
 * The list ends at a block boundary at any time, and zeros short of a block wait for the next descriptor.
 */
static void add_extent(struct ntx_nbd_slot *slot, uint64_t end, bool is_zero, uint32_t min_block)
{
    struct ntx_extents *map = slot->io->map;

    /* The last extent may end past the request: proto.md "NBD_CMD_BLOCK_STATUS".  append() clips. */
    end = is_zero ? ntx_round_down(end, min_block) : ntx_round_up(end, min_block);
    if (slot->map_is_full || end <= map->end)
        return;
    /* A full list only covers less; the rest is asked again. */
    slot->map_is_full = ntx_extents_append(map, end - map->end, is_zero ? NTX_EXTENT_ZERO : 0) != 0;
}

static int take_descriptor(struct ntx_nbd_rx *rx, const uint8_t *bytes, struct ntx_error *err)
{
    uint32_t length = ntx_get32(bytes), flags = ntx_get32(bytes + 4);

    if (length == 0)
        return ntx_nbd_rx_broken(rx, err, "block status of no length");
    rx->position += length; /* cannot overflow: 2^20 times 2^32 past an offset below 2^63 */
    add_extent(rx->slot, rx->position, (flags & NBD_STATE_ZERO) != 0, rx->export->min_block);
    return rx->left == 0 ? ntx_nbd_chunk_end(rx, err) : 0;
}

/* Less than one block of zeros was told: take the block for data, so that who asks again makes progress. */
static void ensure_progress(const struct ntx_nbd_slot *slot, uint32_t min_block)
{
    if (slot->io->map->end == slot->map_end)
        ntx_extents_append(slot->io->map, min_block, 0);
}

/* ------------------------------------------------------------------------------------------------ errors */

/* The whole error chunk is at bytes.  Types that we do not know begin in the same way. */
static int take_error(struct ntx_nbd_rx *rx, const uint8_t *bytes, size_t length, struct ntx_error *err)
{
    struct ntx_nbd_slot *slot = rx->slot;
    uint32_t error = ntx_get32(bytes);
    size_t text_length = ntx_get16(bytes + 4);
    bool has_offset = rx->chunk_type == NBD_REPLY_TYPE_ERROR_OFFSET;
    size_t fixed = NBD_ERROR_SIZE + (has_offset ? NBD_CHUNK_OFFSET_SIZE : 0);

    if (error == 0)
        return ntx_nbd_rx_broken(rx, err, "an error chunk without an error");
    if (length < fixed || text_length > length - fixed)
        return ntx_nbd_rx_broken(rx, err, "an error chunk whose text does not fit in it");
    if (has_offset) {
        uint64_t offset = ntx_get64(bytes + NBD_ERROR_SIZE + text_length);
        if (offset < slot->offset || offset - slot->offset >= ntx_max64(slot->length, 1))
            return ntx_nbd_rx_broken(rx, err, "an error at an offset outside of the request");
    }
    if (slot->error == 0) { /* the first one wins */
        slot->error = ntx_nbd_errno(error);
        ntx_nbd_printable(slot->text, sizeof slot->text, bytes + NBD_ERROR_SIZE, text_length);
    }
    return ntx_nbd_chunk_end(rx, err);
}

int ntx_nbd_chunk_take(struct ntx_nbd_rx *rx, const uint8_t *bytes, size_t length, struct ntx_error *err)
{
    switch (rx->state) {
    case NTX_NBD_RX_OFFSET:
        return take_offset(rx, bytes, err);
    case NTX_NBD_RX_HOLE:
        return take_hole(rx, bytes, err);
    case NTX_NBD_RX_CONTEXT:
        return take_context(rx, bytes, err);
    case NTX_NBD_RX_DESCRIPTORS:
        return take_descriptor(rx, bytes, err);
    case NTX_NBD_RX_ERROR:
        return take_error(rx, bytes, length, err);
    case NTX_NBD_RX_HEADER:
    case NTX_NBD_RX_DATA:
        break;
    }
    return 0;
}

/* --------------------------------------------------------------------------------------------------- end */

int ntx_nbd_chunk_end(struct ntx_nbd_rx *rx, struct ntx_error *err)
{
    struct ntx_nbd_slot *slot = rx->slot;

    rx->state = NTX_NBD_RX_HEADER;
    if (!rx->is_last) {
        rx->slot = NULL;
        return 0;
    }
    if (slot->error != 0)
        return ntx_nbd_rx_refuse(rx, err);
    if (slot->command == NBD_CMD_READ && !ntx_nbd_coverage_is_whole(&slot->coverage, slot->length))
        return ntx_nbd_rx_broken(rx, err, "a read reply that does not cover the request");
    if (slot->command == NBD_CMD_BLOCK_STATUS) {
        if (!slot->has_status)
            return ntx_nbd_rx_broken(rx, err, "a block status reply without block status");
        ensure_progress(slot, rx->export->min_block);
    }

    ntx_nbd_rx_complete(rx);
    return 0;
}
