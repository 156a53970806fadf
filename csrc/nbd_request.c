/* nbd_request.c: see nbd_request.h. */
#include "nbd_request.h"

#include "bytes.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>

static void make_header(uint8_t header[NBD_REQUEST_SIZE], uint16_t command, uint64_t cookie, uint64_t offset,
                        uint32_t length)
{
    ntx_put32(header, NBD_REQUEST_MAGIC);
    ntx_put16(header + 4, 0); /* command flags: none.  WRITE_ZEROES may punch holes: it reads back as zero either way */
    ntx_put16(header + 6, command);
    ntx_put64(header + 8, cookie);
    ntx_put64(header + 16, offset);
    ntx_put32(header + 24, length);
}

/* Described in one call: more than a stream takes at once. */
#define MAX_SEND (4u << 20)

_Static_assert(NBD_REQUEST_SIZE <= NTX_NBD_HEADER_STRIDE, "headers do not overlap");

int ntx_nbd_tx_init(struct ntx_nbd_tx *tx)
{
    *tx = (struct ntx_nbd_tx){.first = 0};
    /* Not malloc(): a peer may read a header that was sent by reference after the connection has been closed. */
    void *headers = mmap(NULL, NTX_NBD_HEADERS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (headers == MAP_FAILED)
        return -ENOMEM;
    tx->headers = headers;
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++)
        tx->ring[i].header = (uint8_t *)headers + i * NTX_NBD_HEADER_STRIDE;
    return 0;
}

void ntx_nbd_tx_destroy(struct ntx_nbd_tx *tx)
{
    if (tx->headers == NULL)
        return;
    munmap(tx->headers, NTX_NBD_HEADERS_BYTES);
    tx->headers = NULL;
}

/* The ring has as many places as there may be requests in flight.  When a place is used again, its last request, or one
 * that was sent after it, has been answered: the peer has read the header that was here. */
void ntx_nbd_tx_push(struct ntx_nbd_tx *tx, uint64_t cookie, struct ntx_nbd_slot *slot)
{
    struct ntx_nbd_message *message = &tx->ring[(tx->first + tx->count) % NTX_MAX_IN_FLIGHT];
    bool is_write = slot->command == NBD_CMD_WRITE;

    make_header(message->header, slot->command, cookie, slot->offset, slot->length);
    message->slot = slot;
    message->payload = is_write ? slot->io->data : NULL;
    message->payload_length = is_write ? slot->length : 0;
    tx->count++;
}

static size_t message_size(const struct ntx_nbd_message *message)
{
    return NBD_REQUEST_SIZE + message->payload_length;
}

/* Describe what is left of message after its first sent bytes; returns the number of vectors used. */
static unsigned describe(const struct ntx_nbd_message *message, size_t sent, struct iovec *vectors, size_t *bytes)
{
    unsigned count = 0;

    if (sent < NBD_REQUEST_SIZE) {
        vectors[count].iov_base = (uint8_t *)message->header + sent;
        vectors[count].iov_len = NBD_REQUEST_SIZE - sent;
        *bytes += vectors[count++].iov_len;
        sent = 0;
    } else {
        sent -= NBD_REQUEST_SIZE;
    }
    if (message->payload_length > sent) {
        vectors[count].iov_base = (uint8_t *)message->payload + sent;
        vectors[count].iov_len = message->payload_length - sent;
        *bytes += vectors[count++].iov_len;
    }
    return count;
}

/* Take count bytes that the stream took off the ring. */
static void consume(struct ntx_nbd_tx *tx, size_t count)
{
    tx->sent_bytes += count;
    while (tx->count > 0 && tx->sent_bytes >= message_size(&tx->ring[tx->first])) {
        struct ntx_nbd_message *message = &tx->ring[tx->first];
        tx->sent_bytes -= message_size(message);
        message->slot->is_sent = true;
        tx->first = (tx->first + 1) % NTX_MAX_IN_FLIGHT;
        tx->count--;
    }
}

int ntx_nbd_tx_send(struct ntx_nbd_tx *tx, struct ntx_stream *stream)
{
    struct iovec vectors[2 * NTX_MAX_IN_FLIGHT];

    while (tx->count > 0) {
        unsigned count = 0;
        size_t bytes = 0;

        for (unsigned i = 0; i < tx->count && bytes < MAX_SEND; i++)
            count += describe(&tx->ring[(tx->first + i) % NTX_MAX_IN_FLIGHT], i == 0 ? tx->sent_bytes : 0,
                              vectors + count, &bytes);

        ssize_t sent = stream->ops->sendv(stream, vectors, count, true);
        if (sent < 0)
            return sent == -EAGAIN ? 0 : (int)sent;
        consume(tx, (size_t)sent);
        if ((size_t)sent < bytes)
            return 0;
    }
    return 0;
}

void ntx_nbd_send_disconnect(struct ntx_stream *stream)
{
    uint8_t header[NBD_REQUEST_SIZE];

    make_header(header, NBD_CMD_DISC, 0, 0, 0);
    ntx_stream_send_hint(stream, header, sizeof header);
}
