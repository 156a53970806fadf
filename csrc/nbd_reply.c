/* nbd_reply.c: see nbd_reply.h. */
#include "nbd_reply.h"

#include "bytes.h"
#include "error.h"
#include "nbd_chunk.h"
#include "nbd_proto.h"
#include "nbd_text.h"

#include <errno.h>

/* Rounds in one call: a server that never stops sending must not keep the caller from its other end. */
#define MAX_ROUNDS 256

static size_t buffered(const struct ntx_nbd_rx *rx)
{
    return rx->end - rx->start;
}

/* Size of the piece that the state needs before anything can happen; not for DATA. */
static size_t needed(const struct ntx_nbd_rx *rx)
{
    if (rx->state != NTX_NBD_RX_HEADER)
        return ntx_nbd_chunk_piece(rx);
    if (buffered(rx) >= 4 && ntx_get32(rx->buffer + rx->start) == NBD_STRUCTURED_REPLY_MAGIC)
        return NBD_CHUNK_HEADER_SIZE;
    return NBD_SIMPLE_REPLY_SIZE;
}

/* ----------------------------------------------------------------------------------------------- headers */

static int find_slot(struct ntx_nbd_rx *rx, uint64_t cookie, struct ntx_error *err)
{
    rx->slot = ntx_nbd_slots_find(rx->slots, cookie);
    return rx->slot != NULL ? 0 : ntx_nbd_rx_broken(rx, err, "a reply to no request in flight");
}

static int take_simple_reply(struct ntx_nbd_rx *rx, const uint8_t *header, struct ntx_error *err)
{
    uint32_t error = ntx_get32(header + 4);
    int result = find_slot(rx, ntx_get64(header + 8), err);

    if (result != 0)
        return result;

    struct ntx_nbd_slot *slot = rx->slot;
    bool is_read = slot->command == NBD_CMD_READ;
    if (slot->chunks != 0)
        return ntx_nbd_rx_broken(rx, err, "a simple reply after chunks of the same reply");
    if (is_read && rx->export->is_structured)
        return ntx_nbd_rx_broken(rx, err, "a simple reply to a read, though replies are structured");
    rx->is_last = true;
    if (error != 0) {
        slot->error = ntx_nbd_errno(error);
        return ntx_nbd_rx_refuse(rx, err);
    }
    if (!is_read)
        return ntx_nbd_chunk_end(rx, err);
    ntx_nbd_coverage_add(&slot->coverage, 0, slot->length);
    rx->data = slot->io->data;
    rx->left = slot->length;
    rx->state = NTX_NBD_RX_DATA;
    return 0;
}

static int take_chunk_header(struct ntx_nbd_rx *rx, const uint8_t *header, struct ntx_error *err)
{
    int result = find_slot(rx, ntx_get64(header + 8), err);

    if (result != 0)
        return result;
    if (!rx->export->is_structured)
        return ntx_nbd_rx_broken(rx, err, "a structured reply, though replies are simple");
    rx->slot->chunks++;
    rx->is_last = (ntx_get16(header + 4) & NBD_REPLY_FLAG_DONE) != 0;
    rx->chunk_type = ntx_get16(header + 6);
    rx->left = ntx_get32(header + 16);
    return ntx_nbd_chunk_begin(rx, err);
}

static int take_header(struct ntx_nbd_rx *rx, const uint8_t *header, struct ntx_error *err)
{
    switch (ntx_get32(header)) {
    case NBD_SIMPLE_REPLY_MAGIC:
        return take_simple_reply(rx, header, err);
    case NBD_STRUCTURED_REPLY_MAGIC:
        return take_chunk_header(rx, header, err);
    default:
        return ntx_nbd_rx_broken(rx, err, "wrong magic in a reply");
    }
}

/* ----------------------------------------------------------------------------------------- the machinery */

static int take_piece(struct ntx_nbd_rx *rx, size_t length, struct ntx_error *err)
{
    const uint8_t *piece = rx->buffer + rx->start;

    rx->start += length;
    if (rx->state == NTX_NBD_RX_HEADER)
        return take_header(rx, piece, err);
    rx->left -= (uint32_t)length;
    return ntx_nbd_chunk_take(rx, piece, length, err);
}

/* Payload that came along with a header. */
static void take_buffered_data(struct ntx_nbd_rx *rx)
{
    size_t count = ntx_min64(buffered(rx), rx->left);

    memcpy(rx->data, rx->buffer + rx->start, count);
    rx->start += count;
    rx->data += count;
    rx->left -= (uint32_t)count;
}

/* Act on everything in the buffer that is complete. */
static int process(struct ntx_nbd_rx *rx, struct ntx_error *err)
{
    int result = 0;

    while (result == 0) {
        if (rx->state == NTX_NBD_RX_DATA) {
            take_buffered_data(rx);
            if (rx->left > 0)
                return 0;
            result = ntx_nbd_chunk_end(rx, err);
        } else {
            size_t length = needed(rx);
            if (buffered(rx) < length)
                return 0;
            result = take_piece(rx, length, err);
        }
    }
    return result;
}

/* Bring what is left to the front, so that a whole piece always has room.  It is less than a piece: little. */
static void compact(struct ntx_nbd_rx *rx)
{
    if (rx->start == 0)
        return;
    memmove(rx->buffer, rx->buffer + rx->start, buffered(rx));
    rx->end -= rx->start;
    rx->start = 0;
}

/* How much to take into the buffer.  Without a READ in flight nothing but short replies can come: all there is.
 * Otherwise up to where payload could begin, which is meant for another place. */
static size_t room(const struct ntx_nbd_rx *rx)
{
    size_t header = rx->export->is_structured ? NBD_CHUNK_HEADER_SIZE + NBD_CHUNK_OFFSET_SIZE : NBD_SIMPLE_REPLY_SIZE;

    if (rx->slots->reads == 0)
        return sizeof rx->buffer - rx->end;
    switch (rx->state) {
    case NTX_NBD_RX_DATA:
        return header;
    case NTX_NBD_RX_HEADER:
        return ntx_max64(header, needed(rx)) - buffered(rx);
    case NTX_NBD_RX_OFFSET:
        return needed(rx) - buffered(rx);
    default:
        return needed(rx) - buffered(rx) + header;
    }
}

static int lost(const struct ntx_nbd_rx *rx, const struct ntx_stream *stream, int code, struct ntx_error *err)
{
    const char *name = rx->device->info.name;
    struct ntx_stream_why why = ntx_stream_why(stream);

    if (code == -ECONNRESET)
        return ntx_error_set(err, NTX_E_DEVICE, code,
                             "%s: the server closed the connection with %u requests in flight%s", name, rx->slots->used,
                             why.text);
    return ntx_error_errno(err, NTX_E_DEVICE, code, "%s: receiving failed with %u requests in flight%s", name,
                           rx->slots->used, why.text);
}

/* One call of the stream.  It says that there may be more, until it is asked and has nothing. */
static int receive_once(struct ntx_nbd_rx *rx, struct ntx_stream *stream, struct ntx_error *err)
{
    struct iovec vectors[2];
    unsigned count = 0;
    size_t direct = rx->state == NTX_NBD_RX_DATA ? rx->left : 0;

    compact(rx);
    if (direct > 0)
        vectors[count++] = (struct iovec){.iov_base = rx->data, .iov_len = direct};
    vectors[count++] = (struct iovec){.iov_base = rx->buffer + rx->end, .iov_len = room(rx)};

    ssize_t received = stream->ops->recvv(stream, vectors, count);
    rx->device->is_ready = received > 0 && stream->ops->pending(stream);
    if (received == -EAGAIN)
        return 0;
    if (received <= 0)
        return lost(rx, stream, received == 0 ? -ECONNRESET : (int)received, err);

    size_t got = (size_t)received, taken = got < direct ? got : direct;
    rx->end += got - taken;
    if (direct > 0) {
        rx->data += taken;
        rx->left -= (uint32_t)taken;
    }
    return process(rx, err);
}

int ntx_nbd_reply_receive(struct ntx_nbd_rx *rx, struct ntx_stream *stream, struct ntx_error *err)
{
    unsigned rounds = 0;
    int result;

    do {
        result = receive_once(rx, stream, err);
    } while (result == 0 && rx->device->is_ready && ++rounds < MAX_ROUNDS);
    return result;
}
